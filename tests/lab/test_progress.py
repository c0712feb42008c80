"""Progress as a live table and as plain lines."""

import io

from rich.console import Console

from thalweg.lab.contract import draw_up
from thalweg.lab.progress import LiveTable, PlainLines, watch
from thalweg.lab.records import Result
from thalweg.lab.space import ENTRIES
from thalweg.lab.study import ready

CONTRACT = draw_up("tasks", ["digits-mlp"], [ENTRIES["adamw"], ENTRIES["sgd"]], trials=2, seeds=2)
RUNS = ready(CONTRACT, {})


def test_a_terminal_gets_a_table_that_moves() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    table = LiveTable(CONTRACT, {RUNS[0].path: Result(state="ok")})
    table.ended(RUNS[1], Result(state="diverged"))
    console.print(table)
    shown = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert "final 0/2" in shown
    assert "1✗" in shown
    assert "tune 0/2" in shown
    assert "2/8" in shown


def test_a_sweep_is_tuned_once_for_all_that_take_part() -> None:
    entries = [ENTRIES["adamw"], ENTRIES["dcao_adamw"]]
    contract = draw_up("tasks", ["digits-mlp"], entries, trials=2, seeds=2, ruleset="robustness")
    first, _ = ready(contract, {})
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    console.print(LiveTable(contract, {first.path: Result(state="ok")}))
    shown = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert "tune 1/2" in shown
    assert "sweep 0/18" in shown
    assert "1/38" in shown


def test_a_file_gets_plain_lines_and_every_broken_run() -> None:
    text = io.StringIO()
    with watch(Console(file=text, width=120), CONTRACT, {}, quiet=False) as observer:
        assert isinstance(observer, PlainLines)
        for run in RUNS * 2:
            observer.ended(run, Result(state="crashed" if run is RUNS[0] else "ok"))
    assert "8/8 runs" in text.getvalue()
    assert f"{RUNS[0].path}: crashed" in text.getvalue()
    assert "\x1b" not in text.getvalue()


def test_quiet_says_nothing() -> None:
    text = io.StringIO()
    with watch(Console(file=text), CONTRACT, {}, quiet=True) as observer:
        observer.ended(RUNS[0], Result(state="crashed"))
    assert text.getvalue() == ""
