"""What the terminal shows: the contract before the runs, the verdict after them, a study's status."""

import math
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from thalweg.lab.analysis import Analysis, Cell
from thalweg.lab.contract import Contract, EntryTerms, Ruleset
from thalweg.lab.space import Entry, Range, tuned_names
from thalweg.lab.statistics.paired import Comparison, Interval, range_holds_median
from thalweg.lab.statistics.speedup import SpeedUp
from thalweg.lab.words import amount

SIGNS = {"better": "▲", "worse": "▼", "tie": "=", "not resolved": "?"}
COLOURS = {"better": "green", "worse": "red", "tie": "cyan", "not resolved": "yellow"}


def show_contract(console: Console, contract: Contract, seconds: float, jobs: int, folder: str) -> None:
    """Print what a study will do, before it does it."""
    console.print(Text(f"Contract {contract.hash}", style="bold"), Text(f"in {folder}", style="dim"))
    tasks = Table(
        "task",
        "what",
        "metric",
        "parameters",
        "batch",
        "gradients a run",
        "targets",
        "data",
        box=None,
        header_style="dim",
    )
    for task in contract.tasks:
        tasks.add_row(
            task.name,
            task.summary,
            f"{task.metric} ({task.unit}), {task.better}",
            f"{task.parameters:,}",
            str(task.batch_size),
            str(task.budget),
            " ".join(f"{level:.4g}" for level in task.targets) or "–",
            task.data_hash[:8],
        )
    console.print(tasks)
    spaces = Table("optimizer", SEARCHED[contract.ruleset], "fixed", "schedule", box=None, header_style="dim")
    for terms in contract.optimizers:
        spaces.add_row(terms.name, searched(contract, terms), fixed(terms.entry), schedule(terms.entry))
    console.print(spaces)
    console.print(plan(contract))
    console.print(f"{contract.runs} runs on {jobs} process{'es' * (jobs > 1)}: about {duration(seconds)}.")
    for warning in warnings(contract):
        console.print(f"warning: {warning}", style="yellow")


SEARCHED: dict[Ruleset, str] = {"tuned": "searched", "hands-off": "point", "robustness": "searched"}
"""What the points of a contract are."""


def plan(contract: Contract) -> str:
    """Say in a sentence what each optimizer does on each task."""
    seeds = amount(len(contract.final_seeds), "fresh seed")
    tuning = f"{amount(contract.trials, 'trial')} on seed {', '.join(map(str, contract.tuning_seeds))}"
    match contract.ruleset:
        case "tuned":
            return f"Each optimizer on each task: {tuning}, then the winner by validation again on {seeds}."
        case "hands-off":
            return f"Nothing is tuned: each optimizer runs at one point, the same on all tasks, on {seeds}."
        case "robustness":
            low, high, count = min(contract.multiples), max(contract.multiples), len(contract.multiples)
            return (
                f"Each plain optimizer on each task: {tuning}; then it and what steers it at {count} multiples of its best"
                f" learning rate, {low:g} to {high:g}, on {seeds}."
            )


def warnings(contract: Contract) -> list[str]:
    """Return what a contract already limits, whatever its runs will say."""
    found: list[str] = []
    if len(contract.final_seeds) < 10:
        found.append(
            f"{amount(len(contract.final_seeds), 'final seed')} can resolve large differences only; 10 or more are usual."
        )
    if 0 < contract.trials < 10:
        found.append(
            f"{amount(contract.trials, 'trial')} can tune the learning rate only; momentum and ε keep their defaults."
        )
    untimed = [task.name for task in contract.tasks if not task.targets and not contract.multiples]
    if untimed and contract.suite != "targets":
        found.append(
            f"no targets are frozen for {', '.join(untimed)}, so no time to target is shown (thalweg targets)."
        )
    names = [terms.name for terms in contract.optimizers]
    if "adamw" not in names and not contract.multiples:
        found.append("adamw does not take part, so nothing is compared with it.")
    return found


def searched(contract: Contract, terms: EntryTerms) -> str:
    """Say what is searched, where; or the point that is taken unsearched."""
    tuned = contract.tuned_as(terms)
    if tuned is not terms:
        return f"as {tuned.name}"
    if not contract.trials:
        return point(terms.points[0])
    space = terms.entry.space
    return ", ".join(f"{name} {interval(space[name])}" for name in tuned_names(terms.entry, contract.trials))


def point(found: Mapping[str, float] | None) -> str:
    """Say a point."""
    return "–" if found is None else ", ".join(f"{name} {value:.3g}" for name, value in found.items())


def interval(found: Range) -> str:
    """Say an interval."""
    return f"{found.low:.3g} … {found.high:.3g}"


def fixed(entry: Entry) -> str:
    """Say what is fixed, and what steers it."""
    said = [f"{name} {value}" for name, value in entry.fixed.items()]
    if entry.steering:
        said += [f"by {entry.steering.by}", *(f"{name} {value}" for name, value in entry.steering.options.items())]
    return ", ".join(said) or "–"


def schedule(entry: Entry) -> str:
    """Say the schedule."""
    warmup = f"{entry.schedule.warmup:.0%} warm-up, " if entry.schedule.warmup else ""
    return f"{warmup}{entry.schedule.shape}"


def duration(seconds: float) -> str:
    """Say a time span."""
    return (
        f"{seconds:.0f} s"
        if seconds < 100
        else f"{seconds / 60:.1f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
    )


def show_verdict(console: Console, analysis: Analysis) -> None:
    """Print the verdict: per task the median and the comparison with the first reference, then what stays open."""
    reference = analysis.references[0] if analysis.references else None
    tasks = analysis.store.contract.tasks
    table = Table(
        title="Verdict" if reference is None else f"Verdict ({against(analysis.store.contract, reference)})",
        title_justify="left",
    )
    table.add_column("optimizer")
    for task in tasks:
        table.add_column(f"{task.name}\n{task.metric}, {task.unit}", justify="right")
    if reference:
        table.add_column(f"P(better than\n{reference})", justify="right")
    for terms in analysis.store.contract.optimizers:
        row = [Text(terms.name, style="bold")]
        row += [_outcome(analysis, analysis.cell(task.name, terms.name), reference) for task in tasks]
        if reference:
            chance = analysis.improvement(terms.name, reference)
            row.append(Text(plain_interval(chance) if chance else "–"))
        table.add_row(*row)
    console.print(table)
    if reference:
        console.print(
            f"▲ better than {reference}, ▼ worse, = tie, ? not resolved. Medians of the final seeds; failures count."
        )
        _show_speed_ups(console, analysis, reference)
    for sentence in unresolved(analysis):
        console.print(sentence)


def _show_speed_ups(console: Console, analysis: Analysis, reference: str) -> None:
    """Print how many times faster everybody reaches the targets; nothing where no task has any."""
    tasks = [task for task in analysis.store.contract.tasks if task.targets]
    if not tasks:
        return
    table = Table(title=f"Times faster to the targets than {reference}", title_justify="left")
    for name in ("optimizer", *(task.name for task in tasks)):
        table.add_column(name, justify="left" if name == "optimizer" else "right")
    for terms in analysis.store.contract.optimizers:
        found = [analysis.speed_up(analysis.cell(task.name, terms.name), reference) for task in tasks]
        said = [Text("–") if each is None else _speed_up(each) for each in found]
        table.add_row(Text(terms.name, style="bold"), *said)
    console.print(table)
    console.print(f"0 ×: missed the hardest target on most seeds; ∞ ×: {reference} did.")


def _speed_up(found: SpeedUp) -> Text:
    return Text(sped_up(found)).append(f" {SIGNS[found.verdict]}", style=COLOURS[found.verdict])


def against(contract: Contract, reference: str) -> str:
    """Say what everybody is compared with."""
    return f"against {'tuned' if contract.trials else 'untuned'} {reference}"


def _outcome(analysis: Analysis, cell: Cell, reference: str | None) -> Text:
    if cell.median is None:
        return Text("–", style="dim")
    text = Text(median(cell))
    if cell.failures:
        text.append(f" ({cell.failures} failed)", style="red")
    comparison = analysis.comparison(cell, reference) if reference else None
    text.append(
        f" {SIGNS[comparison.verdict]}" if comparison else "  ", style=COLOURS[comparison.verdict] if comparison else ""
    )
    return text


def median(cell: Cell) -> str:
    """Say a cell's median; a dash when there is none, or when it is a failure."""
    return "–" if cell.median is None or math.isinf(cell.median.middle) else number(cell.median.middle)


def number(value: float) -> str:
    """Say a number with four digits."""
    return "failed" if math.isinf(value) else f"{value:.4g}"


def unresolved(analysis: Analysis) -> list[str]:
    """Say what so small a study cannot resolve."""
    seeds = len(analysis.store.contract.final_seeds)
    sizes = [
        f"{size:.{2 if size < 100 else 3}g} {task.unit} on {task.name}"
        for task in analysis.store.contract.tasks
        if (size := analysis.detectable(task.name)) is not None
    ]
    few, found = amount(seeds, "seed"), list[str]()
    if sizes:
        found.append(f"With {few}, differences below about {', '.join(sizes)} are not resolved (80 % power).")
    if (within := range_holds_median(seeds)) < 0.95:
        found.append(
            f"Bootstrap intervals of {few} are too narrow: not even the whole range of so many runs holds the median in 95 %"
            f" of cases, but in {100 * within:.0f} %."
        )
    return found


def signed(found: Interval) -> str:
    """Say a difference and its interval, with true minus signs."""
    return f"{found.middle:+.3g} [{found.low:+.3g}, {found.high:+.3g}]".replace("-", "−")


def plain_interval(found: Interval) -> str:
    """Say an estimate and its interval."""
    return f"{found.middle:.2f} [{found.low:.2f}, {found.high:.2f}]"


def sped_up(found: SpeedUp) -> str:
    """Say a speed-up and its interval."""
    low, high = ratio(found.ratio.low), ratio(found.ratio.high)
    return f"{ratio(found.ratio.middle)} ×" + (f" [{low}, {high}]" if low != high else "")


def ratio(value: float) -> str:
    """Say a ratio of times: 0 where the candidate never arrived, ∞ where the reference did not."""
    return "∞" if math.isinf(value) else "0" if value == 0 else f"{value:.2f}"


def describe(comparison: Comparison, unit: str) -> str:
    """Say a comparison: the verdict and the interval behind it."""
    if comparison.difference is None:
        return f"{comparison.verdict}, by ranks"
    return f"{comparison.verdict}: {signed(comparison.difference)} {unit}"


def show_status(console: Console, analysis: Analysis) -> None:
    """Print how far a study is."""
    contract = analysis.store.contract
    console.print(f"Study {contract.hash} ({contract.suite}): {len(analysis.runs)} of {contract.runs} runs done.")
    table = Table(
        "task", "optimizer", "tuning", "selected lr", contract.last_phase, "failed", box=None, header_style="dim"
    )
    for cell in analysis.cells:
        lr = "–" if cell.point is None else f"{cell.point['lr']:.3g}"
        failed = sum(not run.result.ok for run in cell.runs)
        tuning = f"{len(cell.tuning)}/{contract.trial_runs(cell.terms)}"
        final = f"{len(cell.finals)}/{contract.last_runs}"
        table.add_row(cell.task.name, cell.terms.name, tuning, lr, final, str(failed or "–"))
    console.print(table)
