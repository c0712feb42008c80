"""The curvature monitor in a plain loop: what it measures, when, what it leaves alone, and where its records go."""

from __future__ import annotations

import copy
import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thalweg.conformance.sharded import in_two_processes
from thalweg.curvature import CsvLog, CurvatureMonitor, CurvatureRecord, TensorBoardLog, hessian
from thalweg.curvature import monitor as module
from thalweg.curvature.cadence import Cadence

x = torch.randn(24, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
y = torch.randn(24, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def network(*extra: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), *extra, nn.Linear(6, 3)).float()


def loss_of(model: nn.Module, dtype: torch.dtype = torch.float32) -> Callable[[], Tensor]:
    return lambda: F.mse_loss(model(x.to(dtype)), y.to(dtype))


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, after: Callable[[], Any] = lambda: None
) -> list[float]:
    losses: list[float] = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of(model)()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        after()
    return losses


class Clock:
    """Advances when told, and with every look at the loss by a probe."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def dense(model: nn.Module, loss_fn: Callable[[], Tensor]) -> Tensor:
    H = hessian(loss_fn, model)
    return torch.stack([H.matvec(row) for row in torch.eye(H.shape[0], dtype=H.space.dtype)])


# What it measures.


def test_record_against_the_dense_matrix() -> None:
    model = network().double()
    loss_fn = loss_of(model, torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    record = CurvatureMonitor(model, optimizer, loss_fn, k=3, tol=1e-8).step()
    assert record is not None
    H = dense(model, loss_fn)
    exact = torch.linalg.eigvalsh(H).flip(0)[:3]
    g = torch.cat([g.flatten() for g in torch.autograd.grad(loss_fn(), list(model.parameters()))])
    torch.testing.assert_close(torch.tensor(record.eigenvalues, dtype=torch.float64), exact)
    assert record.thresholds == (pytest.approx(30.0),)  # (2 + 2 · .5) / .1
    assert record.ratio == pytest.approx(exact[0].item() / 30)
    assert record.batch_sharpness == pytest.approx((g @ H @ g / (g @ g)).item())
    assert record.gradient_norm == pytest.approx(g.norm().item())
    assert record.loss == pytest.approx(loss_fn().item())
    assert (record.step, record.lr, record.error) == (1, (0.1,), "")
    assert 1 + 2 * record.products <= record.gradient_equivalents < 2 + 2 * record.products


@pytest.mark.parametrize("raw", [False, True])
def test_adam_is_measured_in_its_own_metric(raw: bool) -> None:
    model = network().double()
    loss_fn = loss_of(model, torch.float64)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    monitor = CurvatureMonitor(model, optimizer, loss_fn, tol=1e-8, raw=raw)
    for _ in range(3):
        optimizer.zero_grad()
        loss_fn().backward()
        optimizer.step()
    record = monitor.step()
    assert record is not None
    states = [optimizer.state[p] for p in model.parameters()]
    P = torch.cat([((s["exp_avg_sq"] / (1 - 0.999**3)).sqrt() + 1e-8).flatten() for s in states])
    H = dense(model, loss_fn)
    own = torch.linalg.eigvals(H / P[:, None]).real.max().item()
    assert record.sharpness == pytest.approx(own)
    assert record.ratio == pytest.approx(own / 38e3)
    exact_raw = torch.linalg.eigvalsh(H)[-1].item()
    assert record.raw_sharpness == (pytest.approx(exact_raw) if raw else pytest.approx(math.nan, nan_ok=True))


def test_the_loss_of_a_step_takes_the_place_of_the_constructors() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = CurvatureMonitor(model, optimizer, loss_of(model), every=1)
    own = monitor.step()
    other = monitor.step(lambda: 3 * loss_of(model)())
    assert own is not None
    assert other is not None
    assert other.loss == pytest.approx(3 * own.loss)
    assert other.sharpness == pytest.approx(3 * own.sharpness, rel=0.05)


def test_later_probes_start_warm_and_every_fifth_cold(monkeypatch: pytest.MonkeyPatch) -> None:
    starts: list[bool] = []
    real = module.sharpness_ratio
    monkeypatch.setattr(
        module, "sharpness_ratio", lambda *a, **kw: starts.append(kw["start"] is None) or real(*a, **kw)
    )
    model = network()
    monitor = CurvatureMonitor(model, torch.optim.SGD(model.parameters(), lr=0.1), loss_of(model), every=1)
    for _ in range(7):
        monitor.step()
    assert starts == [True, False, False, False, False, True, False]
    model[0].bias.requires_grad_(False)  # another dimension: what was found is no start
    assert monitor.step().error == ""
    assert starts[-1]


def test_columns_for_pandas() -> None:
    model = network()
    groups = [{"params": model[0].parameters()}, {"params": model[2].parameters(), "lr": 0.2}]
    monitor = CurvatureMonitor(model, torch.optim.SGD(groups, lr=0.1), loss_of(model), every=1, k=2)
    monitor.step()
    monitor.step()
    columns = monitor.to_dict()
    assert columns["step"] == [1, 2]
    assert columns["eigenvalue_2"] == [r.eigenvalues[1] for r in monitor.history]
    assert columns["threshold_2"] == [pytest.approx(10.0)] * 2
    assert columns["lr_1"] == [0.1, 0.1]


def test_groups_of_different_learning_rates_are_weighed() -> None:
    model = network().double()
    loss_fn = loss_of(model, torch.float64)
    groups = [{"params": model[0].parameters(), "lr": 0.02}, {"params": model[2].parameters(), "lr": 0.2}]
    record = CurvatureMonitor(model, torch.optim.SGD(groups), loss_fn, k=2, tol=1e-8).step()
    lr = torch.tensor([0.02] * 30 + [0.2] * 21, dtype=torch.float64)
    ratios = torch.linalg.eigvals(lr[:, None] * dense(model, loss_fn) / 2).real.sort(descending=True).values
    assert record.ratio == pytest.approx(ratios[0].item())
    assert record.eigenvalues == pytest.approx([r.item() * 10 for r in ratios[:2]])  # in units of the smallest, 2/.2
    assert record.sharpness / record.threshold == pytest.approx(record.ratio)
    assert record.thresholds == pytest.approx((100.0, 10.0))


def test_an_optimizer_that_cannot_be_compared_still_has_the_raw_sharpness() -> None:
    class Own(torch.optim.SGD):
        """Whose rule nobody knows."""

    model = network().double()
    loss_fn = loss_of(model, torch.float64)
    optimizer = Own(model.parameters(), lr=0.1)
    monitor = CurvatureMonitor(model, optimizer, loss_fn, every=1, tol=1e-8)
    with pytest.warns(UserWarning, match="whose rule is not known") as caught:
        records = [monitor.step(), monitor.step()]
    assert len(caught) == 1
    exact = torch.linalg.eigvalsh(dense(model, loss_fn))[-1].item()
    for record in records:
        assert "whose rule is not known" in record.error
        assert record.raw_sharpness == pytest.approx(exact)
        assert math.isnan(record.ratio)
        assert record.loss == pytest.approx(loss_fn().item())
    with pytest.raises(ValueError, match="whose rule is not known"):
        CurvatureMonitor(model, optimizer, loss_fn, on_error="raise").step()


def test_a_learning_rate_of_zero() -> None:
    model = network()
    monitor = CurvatureMonitor(model, torch.optim.SGD(model.parameters(), lr=0.0), loss_of(model))
    record = monitor.step()
    assert (record.ratio, record.threshold, record.error) == (0.0, math.inf, "")


# When.


def test_every() -> None:
    model = network()
    monitor = CurvatureMonitor(model, torch.optim.SGD(model.parameters(), lr=0.1), loss_of(model), every=5)
    probed = [step for step in range(1, 14) if monitor.step()]
    assert probed == [1, 6, 11]
    assert [r.step for r in monitor.history] == probed


def paced(
    cadence: Cadence, clock: Clock, steps: int, step_time: Callable[[int], float], probe_time: float
) -> list[int]:
    """At which steps it probes, and that it is never above the budget when it begins to."""
    probed: list[int] = []
    for i in range(steps):
        clock.now += step_time(i)
        if cadence.due():
            with cadence.probe():
                clock.now += probe_time
            probed.append(cadence.steps)
            if cadence.budget and len(probed) > 1:
                assert cadence.probing <= cadence.budget * cadence.training + 1e-9
    return probed


@pytest.mark.parametrize("pace", ["even", "slowing", "hastening", "slow start"])
@pytest.mark.parametrize("begun", [0, 5000])
def test_a_budget_spaces_the_probes(pace: str, begun: int) -> None:
    times: dict[str, Callable[[int], float]] = {
        "even": lambda i: 1.0,
        "slowing": lambda i: 0.5 + i / 4000,
        "hastening": lambda i: 1.5 - i / 4000,
        "slow start": lambda i: 100.0 if i < 2 else 1.0,
    }
    clock = Clock()
    cadence = Cadence(1, 0.05, torch.device("cpu"), clock)
    cadence.begin(begun)
    probed = paced(cadence, clock, 4000, times[pace], probe_time=10.0)
    assert probed[0] == begun + 1
    spent = cadence.probing / (0.05 * cadence.training)
    assert 0.85 < spent <= 1.0  # the last probe may have been long ago
    if pace == "even":
        assert [step - begun for step in probed[1:4]] == [401, 601, 801]  # 10 s of 200 s, when the first is paid for


def test_a_budget_reads_the_clock_rarely() -> None:
    clock, reads = Clock(), 0

    def counting() -> float:
        nonlocal reads
        reads += 1
        return clock.now

    cadence = Cadence(1, 0.01, torch.device("cpu"), counting)
    probed = paced(cadence, clock, 10_000, lambda i: 1.0, probe_time=10.0)
    assert reads < 10 * len(probed) + 20


def test_every_is_the_least_spacing_of_a_budget() -> None:
    clock = Clock()
    cadence = Cadence(50, 0.5, torch.device("cpu"), clock)
    assert paced(cadence, clock, 200, lambda i: 1.0, probe_time=0.1) == [1, 51, 101, 151]


@pytest.mark.parametrize("budget", [None, 0.1])
def test_a_killed_run_goes_on_with_the_same_cadence(budget: float | None) -> None:
    def run(killed_after: int | None) -> list[int]:
        clock = Clock()
        cadence = Cadence(7, budget, torch.device("cpu"), clock)
        if killed_after is None:
            return paced(cadence, clock, 300, lambda i: 1.0, 5.0)
        before = paced(cadence, clock, killed_after, lambda i: 1.0, 5.0)
        state = cadence.state_dict()
        clock.now += 1e6  # the time between runs is not training
        cadence = Cadence(7, budget, torch.device("cpu"), clock)
        cadence.load_state_dict(state)
        return before + paced(cadence, clock, 300 - killed_after, lambda i: 1.0, 5.0)

    # The time of the first step after a start is not known to be training's.
    assert all(abs(a - b) <= 2 for a, b in zip(run(123), run(None), strict=True))


def test_monitor_state() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    first = CurvatureMonitor(model, optimizer, loss_of(model), every=4)
    assert [s for s in range(1, 7) if first.step()] == [1, 5]
    second = CurvatureMonitor(model, optimizer, loss_of(model), every=4)
    second.load_state_dict(first.state_dict())
    assert [s for s in range(7, 15) if second.step()] == [9, 13]


# What it leaves alone.


def snapshot(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[Tensor]:
    states = [v for s in optimizer.state.values() for v in s.values() if isinstance(v, Tensor)]
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return [*model.state_dict().values(), *states, *gradients, torch.get_rng_state()]


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.AdamW], ids=["SGD", "AdamW"])
@pytest.mark.parametrize("accumulate", [False, True])
def test_training_is_bit_identical_with_and_without(make: Any, accumulate: bool) -> None:
    def run(monitored: bool) -> tuple[list[float], list[Tensor]]:
        model = network(nn.BatchNorm1d(6), nn.Dropout(0.3))
        optimizer = make(model.parameters(), lr=0.01)
        monitor = CurvatureMonitor(model, optimizer, every=2, k=2, on_error="raise")
        step = (lambda: monitor.step(loss_of(model))) if monitored else (lambda: None)
        if accumulate:  # gradients of an earlier batch are in place while it probes
            optimizer.zero_grad = lambda set_to_none=True: None
        losses = train(model, optimizer, 8, step)
        assert len(monitor.history) == (4 if monitored else 0)
        return losses, snapshot(model, optimizer)

    losses, tensors = run(True)
    plain_losses, plain = run(False)
    assert losses == plain_losses
    assert len(tensors) == len(plain)
    assert all(torch.equal(a, b) for a, b in zip(tensors, plain, strict=True))


def test_autocast_and_loss_scaling() -> None:
    def run(monitored: bool) -> list[Tensor]:
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cpu")
        monitor = CurvatureMonitor(model, optimizer, every=2, on_error="raise")

        def loss_fn() -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return F.mse_loss(model(x.float()), y.float())

        for _ in range(4):
            optimizer.zero_grad()
            scaler.scale(loss_fn()).backward()
            scaler.step(optimizer)
            scaler.update()
            if monitored:
                monitor.step(loss_fn)
        if monitored:
            exact = torch.linalg.eigvalsh(dense(model, loss_of(model)))[-1].item()
            monitor.probe(loss_fn)
            assert monitor.history[-1].sharpness == pytest.approx(exact, rel=0.02)  # not that of bfloat16
        return snapshot(model, optimizer)

    assert all(torch.equal(a, b) for a, b in zip(run(True), run(False), strict=True))


@pytest.mark.filterwarnings("ignore:Using `torch.compile")
def test_a_compiled_model() -> None:
    model = network()
    compiled: Any = torch.compile(model, backend="aot_eager")
    optimizer = torch.optim.SGD(compiled.parameters(), lr=0.1)
    train(compiled, optimizer, 2)
    record = CurvatureMonitor(compiled, optimizer, loss_of(compiled), on_error="raise").step()
    plain = CurvatureMonitor(model, optimizer, loss_of(model), on_error="raise").step()
    assert record.sharpness == pytest.approx(plain.sharpness, rel=1e-5)


def figures(monitor: CurvatureMonitor) -> Tensor:
    return torch.tensor([(r.step, r.loss, r.sharpness, r.ratio) for r in monitor.history], dtype=torch.float64)


def distributed_runs(rank: int) -> list[Tensor]:
    from torch.distributed.fsdp import fully_shard
    from torch.nn.parallel import DistributedDataParallel

    models: list[Any] = [DistributedDataParallel(network().double()), fully_shard(network().double())]
    return [distributed_run(rank, model) for model in models]


def distributed_run(rank: int, model: nn.Module) -> Tensor:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    mine, theirs = x[rank::2], y[rank::2]
    # The clocks differ; the processes must probe together all the same.
    clock = Clock()
    monitor = CurvatureMonitor(model, optimizer, budget=0.5, tol=1e-6, on_error="raise", clock=clock)
    for _ in range(12):
        optimizer.zero_grad()
        F.mse_loss(model(mine), theirs).backward()
        optimizer.step()
        clock.now += 1.0 + rank

        def loss_fn() -> Tensor:
            clock.now += 0.4 - 0.2 * rank
            return F.mse_loss(model(mine), theirs)

        monitor.step(loss_fn)
    return figures(monitor)


def test_two_processes_probe_together_and_equal_one() -> None:
    first, second = in_two_processes(distributed_runs)
    model = network().double()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    monitor = CurvatureMonitor(model, optimizer, loss_of(model, torch.float64), every=1, tol=1e-6, on_error="raise")
    for _ in range(12):
        optimizer.zero_grad()
        loss_of(model, torch.float64)().backward()
        optimizer.step()
        monitor.step()
    alone = figures(monitor)
    for here, there in zip(first, second, strict=True):
        torch.testing.assert_close(here, there)
        assert 2 <= len(here) < 12
        torch.testing.assert_close(here, alone[here[:, 0].long() - 1], rtol=1e-5, atol=0)


# What goes wrong.


def without_second_derivative() -> Tensor:
    q = MODEL[2](MODEL[1](MODEL[0](x.float()))).reshape(1, 1, -1, 8)
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, q, q)[0].square().mean()


MODEL = network()
FAILURES: dict[str, Callable[[], Tensor]] = {
    "not finite": lambda: loss_of(MODEL)() * math.nan,
    "no scalar": lambda: MODEL(x.float()),
    "no second derivative": without_second_derivative,
    "an error of its own": lambda: {}["no such key"],
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_probe_that_fails_warns_once_and_training_goes_on(name: str, recwarn: pytest.WarningsRecorder) -> None:
    optimizer = torch.optim.SGD(MODEL.parameters(), lr=0.1)
    monitor = CurvatureMonitor(MODEL, optimizer, every=1, k=2)
    before = copy.deepcopy(snapshot(MODEL, optimizer))
    with pytest.warns(UserWarning, match="after step 1 failed, training goes on") as caught:
        first, second = monitor.step(FAILURES[name]), monitor.step(FAILURES[name])
    (ours,) = [w for w in caught if w.category is UserWarning]
    assert ours.filename == __file__
    assert first.error == second.error != ""
    assert all(math.isnan(v) for v in (*first.eigenvalues, first.ratio, first.threshold))
    assert all(torch.equal(a, b) for a, b in zip(snapshot(MODEL, optimizer), before, strict=True))
    recovered = monitor.step(loss_of(MODEL))
    assert recovered.error == ""
    assert recovered.row().keys() == first.row().keys()
    with pytest.raises((ValueError, TypeError, RuntimeError, FloatingPointError, KeyError)):
        CurvatureMonitor(MODEL, optimizer, FAILURES[name], on_error="raise").step()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "k of a model of 51 parameters=0"),
        ({"k": 52}, "allowed is 1 ≤ x ≤ 51"),
        ({"every": 0}, "every=0"),
        ({"budget": 0.0}, "budget=0.0"),
        ({"budget": 5}, "budget=5"),
        ({"tol": 1.0}, "tol=1.0"),
        ({"method": "forward"}, "choose one of 'auto'"),
        ({"on_error": "ignore"}, "choose one of 'warn', 'raise'"),
    ],
)
def test_arguments_that_are_not_allowed(arguments: dict[str, Any], message: str) -> None:
    model = network()
    with pytest.raises(ValueError, match=message):
        CurvatureMonitor(model, torch.optim.SGD(model.parameters(), lr=0.1), **arguments)


def test_missing_loss_and_frozen_model() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=r"no loss_fn; pass one here"):
        CurvatureMonitor(model, optimizer).step()
    with pytest.raises(ValueError, match="no parameter of model requires a gradient"):
        CurvatureMonitor(model.requires_grad_(False), optimizer)


# Where records go.


def a_record(step: int, **changes: Any) -> CurvatureRecord:
    values: dict[str, Any] = {
        "loss": 0.5, "gradient_norm": 1.0, "sharpness": 3.0, "threshold": 20.0,
        "eigenvalues": (3.0, 2.0), "residuals": (0.1, 0.2), "thresholds": (20.0,),
        "ratio": 0.15, "batch_sharpness": 1.5, "raw_sharpness": math.nan, "lr": (0.1,), "products": 6,
        "gradient_equivalents": 13.0, "seconds": 0.25, "method": "double backward",
    }  # fmt: skip
    return CurvatureRecord(step=step, **(values | changes))


def lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv_is_continued_and_a_cut_line_removed(tmp_path: Path) -> None:
    path = tmp_path / "curvature.csv"
    log = CsvLog(path)
    for step in (1, 2):
        log(a_record(step))
        assert [row["step"] for row in lines(path)] == [str(s) for s in range(1, step + 1)]  # at once
    path.write_bytes(path.read_bytes()[:-9])  # killed while it wrote
    CsvLog(path)(a_record(3, error='ValueError: "no", thanks'))
    rows = lines(path)
    assert [row["step"] for row in rows] == ["1", "3"]
    assert rows[1]["error"] == 'ValueError: "no", thanks'
    assert {k: float(rows[0][k]) for k in ("eigenvalue_2", "threshold_1", "ratio")} == {
        "eigenvalue_2": 2.0, "threshold_1": 20.0, "ratio": 0.15,
    }  # fmt: skip
    assert path.read_text().count("eigenvalue_1") == 1
    before = path.read_bytes()
    with pytest.raises(ValueError, match="Log to another file"):
        CsvLog(path)(a_record(4, eigenvalues=(3.0,)))
    assert path.read_bytes() == before


def test_csv_of_a_file_cut_in_its_first_line(tmp_path: Path) -> None:
    path = tmp_path / "curvature.csv"
    path.write_text("step,sharp")
    CsvLog(path)(a_record(1))
    assert [row["step"] for row in lines(path)] == ["1"]


def test_tensorboard_takes_the_numbers_that_were_found() -> None:
    written: dict[tuple[str, int], float] = {}

    class Writer:
        def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
            written[tag, global_step] = scalar_value

    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitor = CurvatureMonitor(model, optimizer, loss_of(model), every=2, logs=[TensorBoardLog(Writer())])
    for _ in range(3):
        monitor.step()
    for record in monitor.history:
        assert written["curvature/sharpness", record.step] == record.sharpness
        assert written["curvature/ratio", record.step] == record.ratio
    TensorBoardLog(Writer(), "probe")(a_record(9))
    assert ("probe/raw_sharpness", 9) not in written
    assert written["probe/eigenvalue_2", 9] == 2.0
