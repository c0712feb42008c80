"""Conformance: every rule, as it is on this machine, against its oracle and against its own promises."""

from thalweg.conformance.spec import Spec
from thalweg.conformance.specs import SPECS

__all__ = ["SPECS", "Spec"]
