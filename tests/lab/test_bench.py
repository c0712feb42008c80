"""The bench measures what it says: known sleeps, known allocations, known graphs."""

import json
import re
import time
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from thalweg.lab.bench import command, show
from thalweg.lab.bench.compiling import measure, recompiles
from thalweg.lab.bench.measure import Settings, measure_rule
from thalweg.lab.bench.memory import peak_temporaries
from thalweg.lab.bench.models import MODELS, elements, parameters, small, transformer
from thalweg.lab.bench.result import Result, conditions
from thalweg.lab.bench.subjects import RULES, Subject, twins
from thalweg.lab.bench.timing import Spread, interleave
from thalweg.lab.errors import UserError

SETTINGS = Settings(("adamw",), (), "small", 1, 3, "cpu", "float32", peers=False, compiling=False)
TINY: list[tuple[int, ...]] = [(8, 16), (16,)]

app = typer.Typer()
app.command()(command)


def bench(*arguments: str):
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


def test_reference_models_have_the_documented_size():
    assert len(transformer()) == 52
    assert elements(transformer()) == pytest.approx(16.8e6, rel=0.005)
    assert len(small()) == 300
    assert {torch.Size(shape).numel() for shape in small()} == {64 << i for i in range(7)}


def test_every_call_makes_new_tensors_with_equal_numbers():
    first, second = parameters(TINY), parameters(TINY)
    for p, q in zip(first, second, strict=True):
        assert p is not q
        assert p.grad is not q.grad
        torch.testing.assert_close(p, q)
        torch.testing.assert_close(p.grad, q.grad)


def test_a_ratio_is_the_ratio_of_the_times():
    samples = interleave({"short": lambda: time.sleep(0.004), "long": lambda: time.sleep(0.016)}, rounds=5)
    assert samples["long"].ratio(samples["short"]).median == pytest.approx(4, rel=0.3)
    assert len(samples["long"].wall) == 5


def test_spread_is_median_and_deciles():
    spread = Spread.of([float(i) for i in range(11)])
    assert (spread.low, spread.median, spread.high) == (1.0, 5.0, 9.0)
    assert Spread.of([2.0]) == Spread(2.0, 2.0, 2.0)


def test_memory_is_the_peak_and_not_the_sum():
    x = torch.zeros(1000)

    def step():
        a = x + 1
        b = a + 1
        del a
        return b + 1

    assert peak_temporaries(step) == pytest.approx(2 * x.nbytes, abs=64)  # and the scalars


def test_foreach_adamw_holds_one_parameter_size_of_temporaries():
    rows = measure_rule("adamw", twins(RULES["adamw"]), MODELS["small"](), SETTINGS, lambda _: None)
    fused, foreach = rows
    assert (fused.subject, foreach.subject) == ("torch fused", "torch foreach")
    assert fused.temporaries < 0.01
    assert 0.9 < foreach.temporaries < 1.1
    assert set(foreach.ratios) == {"torch fused"}


def test_a_subject_that_frees_its_gradients_is_refused():
    class Freeing(torch.optim.SGD):
        def step(self, closure: object = None):
            self.zero_grad(set_to_none=True)

    subject = Subject("other", "", Freeing)
    with pytest.raises(RuntimeError, match="other frees the gradients"):
        measure_rule("sgd", [subject], TINY, SETTINGS, lambda _: None)


def test_recompiles_are_counted():
    params = parameters(TINY)
    optimizer = torch.optim.SGD(params, lr=0.1)
    assert recompiles(optimizer) == 0

    @torch.compile(backend="eager", dynamic=False)
    def scale(p: torch.Tensor, lr: float) -> torch.Tensor:
        return p * lr

    class Recompiling(torch.optim.SGD):
        def step(self, closure: object = None):
            scale(params[0].detach(), self.param_groups[0]["lr"])

    assert recompiles(Recompiling(params, lr=0.1)) > 0


@pytest.mark.slow
def test_a_filled_cache_compiles_faster_and_nothing_recompiles():
    found = measure("adamw", "small", device="cpu", dtype="float32", threads=1)
    assert found.warm < found.cold
    assert found.importing < found.warm
    assert found.recompiles == 0


def test_markdown_and_json_say_the_conditions():
    rows = measure_rule("sgd", twins(RULES["sgd"]), TINY, SETTINGS, lambda _: None)
    said = conditions(model="tiny", tensors=2, elements=144, device="cpu", dtype="float32", threads=1, rounds=3, load=0)
    result = Result(said, rows, [])
    page = show.markdown(result)
    assert "tiny: 2 tensors" in page
    assert f"torch {torch.__version__.split('+')[0]}" in page
    assert page.count("\n| ") == 4  # heading, ruler, two subjects
    assert json.loads(json.dumps(result.as_json()))["rows"][0]["subject"] == "torch fused"


def test_command_writes_both_forms(tmp_path: Path):
    subjects = ["--rules", "sgd", "--strategies", "foreach", "--no-peers", "--no-compiling"]
    done = bench(*subjects, "--model", "small", "--rounds", "1", "-o", str(tmp_path / "results"))
    assert done.exit_code == 0, done.output
    assert sorted(path.suffix for path in (tmp_path / "results").iterdir()) == [".json", ".md"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rules", "adamww"], "--rules 'adamww' is unknown. Did you mean adamw"),
        (["--strategies", "fused"], "--strategies 'fused' is unknown"),
        (["--model", "resnet"], "--model 'resnet' is unknown"),
        (["--device", "tpu"], "--device 'tpu' is unknown"),
        (["--rounds", "0"], "--rounds is 0"),
        (["-o", f"{__file__}/results.md"], "cannot be written"),
        (["-o", "results.txt"], "must end in .md or .json"),
    ],
)
def test_bad_input_ends_with_one_message_before_measuring(arguments: list[str], message: str):
    with pytest.raises(UserError, match=re.escape(message)):
        bench(*arguments)
