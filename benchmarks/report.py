"""How long a report of 10,000 stored runs takes and how large it is: one command makes the table of report.md.

    python benchmarks/report.py

The runs are made up: a study in the lab's own format whose curves nobody trained, with failures and misses among them. Three
shapes of 10,000 runs: many tasks, many trials, many seeds. The page is opened in headless Chromium if there is one.
"""

import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "lab"))
from browser import CHROMIUM, browser  # pyright: ignore[reportMissingImports]

from thalweg.lab.analysis import Analysis
from thalweg.lab.contract import Contract, EntryTerms, TaskTerms
from thalweg.lab.environment import environment
from thalweg.lab.records import CurvePoint, Result, RunConfig
from thalweg.lab.report import write_report
from thalweg.lab.space import ENTRIES, points
from thalweg.lab.store import Store
from thalweg.lab.study import ready

NAMES = ["sgd", "momentum", "nesterov", "rmsprop", "adagrad", "adam", "adamw", "nadam", "muon", "saveus"]
SHAPES = {"many tasks": (20, 38, 10), "many trials": (5, 188, 10), "many seeds": (5, 48, 150)}
"""Tasks, trials and seeds; ten optimizers, a sharpness and a timing run each."""
POINTS = 15
MARK = "<!-- measured -->\n"


def contract(tasks: int, trials: int, seeds: int) -> Contract:
    terms = TaskTerms(
        name="", summary="made up", data_hash="0" * 16, parameters=10_000, batch_size=32, budget=300,
        metric="accuracy", unit="%", better="max", margin=0.5, targets=(60.0, 75.0, 85.0, 92.0),
    )  # fmt: skip
    return Contract(
        suite="made-up",
        tasks=[terms.model_copy(update={"name": f"task-{number}"}) for number in range(tasks)],
        optimizers=[EntryTerms(entry=ENTRIES[name], points=points(ENTRIES[name], trials)) for name in NAMES],
        trials=trials,
        tuning_seeds=[0],
        final_seeds=list(range(1000, 1000 + seeds)),
        aside=("sharpness", "timing"),
    )


def make_up(folder: Path, contract: Contract) -> Store:
    """Store all runs of a study."""
    store, draw = Store.create(folder, contract), np.random.default_rng(0)
    results: dict[str, Result] = {}
    while configs := ready(contract, results):
        for config in configs:
            results[config.path] = store_run(store, config, draw)
    return store


def store_run(store: Store, config: RunConfig, draw: np.random.Generator) -> Result:
    speed = 1 + NAMES.index(config.optimizer) / 10 + draw.normal(0, 0.1)
    ok, folder = draw.random() > 0.02, store.run(config)
    folder.folder.mkdir(parents=True)
    (folder.folder / "config.json").write_text(config.model_dump_json())
    (folder.folder / "env.json").write_text(environment().model_dump_json())
    curve: list[CurvePoint] = []
    for k in range(POINTS + 1):
        part, sharp = k / POINTS, config.phase == "sharpness" and k % 3 == 0
        value = 96 - 86 * float(np.exp(-4 * speed * part)) + draw.normal(0, 0.4)
        curve.append(
            CurvePoint(
                step=20 * k, charged=20 * k, seconds=round(0.02 * k * (1 + draw.random()), 6), lr=0.1, train_loss=1 - part / 2,
                validation_loss=1.1 - part / 2, validation=value, sharpness=1 + k if sharp else None,
                threshold=20.0 if sharp else None,
            )
        )  # fmt: skip
    (folder.folder / "metrics.jsonl").write_text("".join(point.model_dump_json() + "\n" for point in curve))
    last = curve[-1]
    result = Result(
        state="ok" if ok else "diverged", value=last.validation if ok else None, loss=last.validation_loss if ok else None,
        test=last.validation if ok and config.phase == "final" else None, highest=2.0, untrained=10.0, steps=300,
        charged=300, seconds=last.seconds, milliseconds=1.5 if config.phase == "timing" else None,
        state_bytes_per_parameter=8.0,
    )  # fmt: skip
    (folder.folder / "result.json").write_text(result.model_dump_json())
    return result


def measure(shape: str, folder: Path) -> str:
    terms = contract(*SHAPES[shape])
    store = make_up(folder / "study", terms)
    import_module("scipy.stats")  # which is done at its first use, and takes a second
    started, worked = time.perf_counter(), time.process_time()
    path = write_report(Analysis.of(Store.open(store.folder)))
    written = f"{time.process_time() - worked:.1f} / {time.perf_counter() - started:.1f}"
    opened = "–"
    if CHROMIUM is not None:
        with browser(folder / "profile") as page:
            page.size(1280, 900)
            started = time.perf_counter()
            page.open(path)
            page.wait("typeof charts !== 'undefined'")
            opened = f"{time.perf_counter() - started:.1f}"
    sizes = [(folder / "study" / name).stat().st_size / 1e6 for name in ("report.html", "curves.csv")]
    tasks, trials, seeds = SHAPES[shape]
    cells = [shape, f"{len(NAMES)} × {tasks}", trials, seeds, f"{terms.runs:,}", written, opened]
    return " | ".join(["", *map(str, cells), *(f"{size:.1f}" for size in sizes), ""]).strip()


def main() -> None:
    head = [
        "shape",
        "optimizers × tasks",
        "trials",
        "seeds",
        "runs",
        "written, CPU / wall s",
        "usable, s",
        "HTML, MB",
        "curves.csv, MB",
    ]
    lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
    for shape in SHAPES:
        with tempfile.TemporaryDirectory() as folder:
            lines.append(measure(shape, Path(folder)))
            print(lines[-1], flush=True)
    file = Path(__file__).with_suffix(".md")
    before, _, _ = file.read_text(encoding="utf-8").partition(MARK) if file.exists() else ("", "", "")
    table = "\n".join(lines)
    file.write_text(f"{before}{MARK}\n{table}\n\n{environment().said}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
