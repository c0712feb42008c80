"""How much curvature an optimizer bears: the largest eigenvalue at which it is stable on a quadratic."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor

from thalweg.core import carried
from thalweg.core.average import kind_of
from thalweg.core.buckets import Bucket, Plan
from thalweg.core.rule import Group, Rule
from thalweg.curvature.followed import Followed, followed, known

LATER = 10_000  # the step whose threshold a fresh optimizer is given: averages no longer remember their start
TINY = 2.0**-300  # the size of what is stepped: its square is nothing beside a second moment, and no bound is reached


def stability_threshold(optimizer: torch.optim.Optimizer) -> list[float]:
    """The largest λ at which each parameter group is stable, full batch: ``ρ(M(λ)) ≤ 1``, M the step as a linear map.

    λ is an eigenvalue of the Hessian H for rules that move along a filtered gradient (SGD, schedule-free SGD), and of P⁻¹H
    for those that divide by a P of their own, which counts as constant; see ``preconditioned``.  In units of 1/lr, which
    is part of it.  Along an eigenvector of a larger λ steps grow.

    Where a gradient that alternates in sign is what grows first, ``λ = 2/(η C(−1))``, C(−1) the rule's gain for it: gradient
    descent 2/η, Polyak (2+2β)/η, Nesterov (2+2β)/((1+2β)η), RMSprop, Adagrad and Adadelta 2/η, Adam (2+2β₁)/((1−β₁)η)
    (arXiv:2103.00065, 2207.14484, 2410.24206).  Muon's is that of its momentum's form, for P = (BBᵀ)^½ of the matrix B that
    it orthogonalizes; L-BFGS' and Newton's are 2/η, for their own matrix in P's place.

    NAdam's is (2+2β₁)/((1−β₁)(1+2β₁)η) once its momentum is warmed up, which a fresh optimizer is taken for.  Any other rule
    (SAVEUS, MARS, ExMachina, DOPE, schedule-free averaging, the option ``mars``, NAdam on its way) is stepped on a
    quadratic of one dimension, and the λ found where the spectral radius of its step passes 1.  Such rules may change with
    time, by warm-ups and amplified momenta: it is that of the next step, and for a fresh optimizer that of step 10,000.

    What is not linear in the gradient counts as off: cautious masks, clipping, normalization; so does weight decay, and
    ``maximize``.  A group of MARS, whose vectors follow another rule, has the smaller of both.

    Args:
        optimizer: thalweg's or torch's, also within Accelerate's or Lightning's wrapper.

    Returns:
        A number a group: inf where lr is 0, 0 for a rule that is never stable (a dampening above 1), NaN for one that has no
        such λ: MARS with ``variant="lion"``, whose step has the same length whatever the gradient's, and DOPE with
        ``variant="equations"``, of whose update only a part is divided by P; and a rule of one's own that does not declare
        its ``denominator``.

    Raises:
        ValueError: an optimizer whose rule is not known.
    """
    return [least(of_shapes(one)) for one in followed(optimizer)]


def least(thresholds: Mapping[bool, float]) -> float:
    """The smallest; of no parameters NaN."""
    return min(thresholds.values(), default=math.nan)


def of_shapes(one: Followed) -> dict[bool, float]:
    """A group's threshold for its vectors (False) and for its matrices (True), as far as it has them."""
    known = closed_form(one)
    shapes = {p.ndim > 1 for p in one.params}
    return {matrix: known if known is not None else numerically(one, matrix) for matrix in shapes}


# Closed forms: C(−1), the gain for a gradient that alternates in sign, or None where the rule is not that simple.


def heavy_ball(momentum: float, weight: float, nesterov: bool) -> float:
    """Of v ← μv + wg, u = v; with Nesterov's form u = wg + μv."""
    return weight * (1 + 2 * momentum) / (1 + momentum) if nesterov else weight / (1 + momentum)


def sgd(h: Group) -> float:
    """Dampening is at work only where there is momentum."""
    weight = 1 - (h["momentum"] if h["ema"] else h["dampening"] if h["momentum"] else 0)
    return heavy_ball(h["momentum"], weight, bool(h["nesterov"]))


GAINS: dict[str, Callable[[Group], float | None]] = {
    "thalweg.rules.sgd.sgd": sgd,
    "thalweg.rules.muon.muon": lambda h: heavy_ball(h["momentum"], 1 - h["momentum"] if h["ema"] else 1, h["nesterov"]),
    "thalweg.rules.rmsprop.rmsprop": lambda h: heavy_ball(h["momentum"], 1, False),
    "thalweg.rules.adam.adam": lambda h: (1 - h["betas"][0]) / (1 + h["betas"][0]),
    "thalweg.rules.nadam.nadam": lambda h: heavy_ball(h["betas"][0], 1 - h["betas"][0], True),
    "thalweg.rules.adagrad.adagrad": lambda h: None if h["lr_decay"] else 1.0,
    "thalweg.rules.adadelta.adadelta": lambda h: 1.0,
}
"""By the rule's function; NAdam's is that of its momentum when warmed up."""


def closed_form(one: Followed) -> float | None:
    """2/(η C(−1)), where the rule has a C(−1) and no option joins it."""
    h, rule = one.group, one.rule
    if rule is None:
        return crossing(h["lr"], 1.0)
    joined = h["mars"] or kind_of(h["average"]) == "schedule_free"
    warming = "momentum_decay" in h and any("step" in one.state.get(p, {}) for p in one.params)
    gain = None if joined or warming or name_of(rule) not in GAINS else GAINS[name_of(rule)](h)
    return None if gain is None else crossing(h["lr"], gain)


def name_of(rule: Rule) -> str:
    """Where the rule's function is defined: one of another module with a name from here is another rule."""
    return f"{rule.update.__module__}.{rule.update.__name__}"


def crossing(lr: float, gain: float) -> float:
    """2/(η C(−1)); 0 where the gradient is climbed."""
    if lr * gain == 0:
        return math.inf
    return max(2 / (lr * gain), 0.0)


# From the rule itself.

LINEAR: Group = dict(centralize=0.0, normalize=0.0, clip=None, cautious=False, weight_decay=0.0, maximize=False)
"""The options under which a step is linear in gradient and state, but for P."""


def linear(h: Group) -> Group:
    """A group's hyperparameters in the form in which its full-batch step is a linear map, and its P of the order of 1."""
    h = h | LINEAR | dict(nonfinite="propagate", run="each")
    if kind_of(h["average"]) == "ema":  # it watches
        h["average"] = None
    if h.get("nesterov") == "lookahead":  # the same iterates
        h["nesterov"] = True
    if h.get("exact"):  # with one batch the gradient at the last point is the last gradient
        h["exact"] = False
    return h | {n: v for n, v in dict(eps=1.0, eps2=1.0, eps_floor=None).items() if n in h}


def numerically(one: Followed, matrix: bool) -> float:
    """The λ at which the spectral radius of the step passes 1."""
    rule, h = filtering(one)
    if h["lr"] == 0:
        return math.inf
    if rule.denominator is None:
        return math.nan
    begun = [own for p in one.params if "step" in (own := one.state.get(p, {}))]
    resting, driven = step_as_map(rule, h, matrix, begun[0] if begun else {})
    return first_unstable(resting, driven) / h["lr"]


def filtering(one: Followed) -> tuple[Rule, Group]:
    """The rule in linear form; in the place of one that orthogonalizes, one with the same filter and another P."""
    assert one.cls is not None
    h = linear(one.group)
    if h.get("variant") == "shampoo":
        h["variant"] = "adamw"
    rule = one.cls.variant_of(h)
    if name_of(rule) == "thalweg.rules.muon.muon":
        return known()["SGD"].variant_of(h), h | {"dampening": 0.0}
    return rule, h


def step_as_map(rule: Rule, h: Group, matrix: bool, started: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """A and B of the step s ← (A + λη B)s, s the parameter and the states that are linear in it.  The gradient is λP times it.

    The parameter has two elements, x and −x, since some rules take means off; all there is stays of this form.
    """
    e = torch.tensor([1.0, -1.0], dtype=torch.float64, device="cpu") * TINY
    e = e.view(1, 2) if matrix else e
    bucket, numbers = prepared(rule, h, torch.zeros_like(e), started)
    t = numbers["step"]
    linear_states = [n for n in bucket.state if n not in rule.metric]

    def stepped(moment: float, unit: str, g: float) -> tuple[Tensor, float]:
        """What a step makes of one unit of the parameter, of a state, or of the gradient, and its P."""
        p = e * (unit == "p")
        state = {n: torch.full_like(e, moment) if n in rule.metric else e * (unit == n) for n in bucket.state}
        bucket.pipeline.step(p, e * g, state, t, numbers)
        after = torch.stack([p, *(state[n] for n in linear_states)])
        return after.flatten(1)[:, 0] / TINY, float(torch.as_tensor(rule.preconditioner(t, state, h)).flatten()[0])

    # Second moments of 0 stay as they are, and ε = 1 makes P of them; where the root of one is a factor of P, they are 1.
    with torch.no_grad():
        moment = 0.0 if stepped(0.0, "", 0.0)[1] > TINY else 1.0
        P = stepped(moment, "", 0.0)[1]
        resting = torch.stack([stepped(moment, unit, 0.0)[0] for unit in ("p", *linear_states)], 1)
        driven = torch.zeros_like(resting)
        driven[:, 0] = stepped(moment, "", P / h["lr"])[0]
    return resting, driven


def prepared(rule: Rule, h: Group, p: Tensor, started: dict[str, Any]) -> tuple[Bucket, dict[str, Any]]:
    """What the optimizer would step ``p`` with, and the numbers of its next step, or of step 10,000."""
    counters = carried.counters(rule, h)
    counts_only = len(counters) == 1
    before = started or ({"step": LATER - 1} if counts_only else {})
    p.grad = torch.zeros_like(p)
    state: dict[Tensor, dict[str, Any]] = defaultdict(dict)
    state[p] = {n: before[n] for n in counters if n in before}
    (bucket,) = Plan().refresh([h | {"params": [p]}], state, lambda _: rule)
    given, numbers = bucket.read_numbers({}), dict[str, Any]()
    for _ in range(1 if before else LATER):
        numbers = dict(given)
        bucket.advance(numbers)
    return bucket, numbers


def first_unstable(resting: Tensor, driven: Tensor) -> float:
    """The least μ in (0, 1e12] at which the spectral radius of A + μB passes 1, or ∞: by steps of 2 %, then bisected."""
    slack = 1e-10  # of a root on the unit circle, as eigenvalues are rounded

    def unstable(mu: Tensor) -> Tensor:
        eigenvalues = cast(Tensor, torch.linalg.eigvals(resting + mu[:, None, None] * driven))
        return eigenvalues.abs().amax(1) > 1 + slack

    grid = torch.logspace(-8, 12, 2327, dtype=torch.float64, device="cpu")
    found = unstable(grid).nonzero()
    if not len(found):
        return math.inf
    i = int(found[0])
    if i == 0:
        return 0.0
    low, high = grid[i - 1 : i], grid[i : i + 1]
    for _ in range(50):
        middle = (low * high).sqrt()
        low, high = (low, middle) if unstable(middle) else (middle, high)
    return low.item()
