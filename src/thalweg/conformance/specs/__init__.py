"""One file a rule family, found by being here: its specs, the plain form first."""

from __future__ import annotations

import importlib
import pkgutil

from thalweg.conformance.spec import Spec

SPECS: list[Spec] = [
    spec
    for module in pkgutil.iter_modules(__path__)
    for spec in importlib.import_module(f"{__name__}.{module.name}").SPECS
]
