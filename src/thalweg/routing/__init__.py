"""Which parameter gets which rule, and why."""

from __future__ import annotations

from thalweg.routing.groups import Routes, route
from thalweg.routing.roles import NO_DECAY, Role
from thalweg.routing.table import Row

__all__ = ["NO_DECAY", "Role", "Routes", "Row", "route"]
