"""The command line of `thalweg bench`."""

import json
import re
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from thalweg.lab.bench import show
from thalweg.lab.bench.measure import Settings, run
from thalweg.lab.bench.models import MODELS
from thalweg.lab.bench.result import Result
from thalweg.lab.bench.subjects import RULES, STRATEGIES
from thalweg.lab.errors import UserError, check_name, check_range

DTYPES = ("float32", "float64", "bfloat16", "float16")
PLAIN_WIDTH = 160
"""Columns when the output is no terminal: wide enough that no table breaks its lines."""


def command(
    rules: Annotated[str, typer.Option(help="Rules, separated by commas.")] = ",".join(RULES),
    strategies: Annotated[str, typer.Option(help="Our strategies, separated by commas.")] = ",".join(STRATEGIES),
    model: Annotated[str, typer.Option(help=f"Reference model: {', '.join(MODELS)}.")] = "transformer",
    threads: Annotated[int, typer.Option(help="CPU threads of every subject.")] = 2,
    rounds: Annotated[int, typer.Option(help="Interleaved rounds.")] = 30,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    dtype: Annotated[str, typer.Option(help=f"{', '.join(DTYPES)}.")] = "float32",
    peers: Annotated[bool, typer.Option(help="Also time other installed libraries.")] = True,
    compiling: Annotated[bool, typer.Option(help="Also measure compile time, cold and warm, and recompiles.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON in place of the table.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Save to FILE.md, FILE.json, or both as DATE-DEVICE-MODEL in a directory."),
    ] = None,
) -> None:
    """Time every rule and strategy against torch's own and other libraries, interleaved, as ratios with spread."""
    settings = Settings(
        rules=_choices("--rules", rules, RULES),
        strategies=_choices("--strategies", strategies, STRATEGIES),
        model=check_name("--model", model, MODELS),
        threads=check_range("--threads", threads, 1, 1024),
        rounds=check_range("--rounds", rounds, 1, 10_000),
        device=_check_device(device),
        dtype=check_name("--dtype", dtype, DTYPES),
        peers=peers,
        compiling=compiling,
    )
    if output is not None:
        _check_writable(output)
    console = Console(stderr=True)
    with console.status("") as status:
        result = run(settings, lambda text: status.update(text) if console.is_terminal else console.print(text))
    if as_json:
        typer.echo(json.dumps(result.as_json(), indent=2))
    else:
        Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH).print(show.terminal(result))
    if output is not None:
        for path in _save(result, output):
            console.print(f"saved {path}")


def _choices(option: str, names: str, allowed: Iterable[str]) -> tuple[str, ...]:
    known = list(allowed)
    return tuple(dict.fromkeys(check_name(option, name.strip(), known) for name in names.split(",")))


def _check_device(name: str) -> str:
    if check_name("--device", name, ("cpu", "cuda")) == "cuda" and not torch.cuda.is_available():
        raise UserError("--device is cuda, and torch finds no CUDA device here.")
    return name


def _check_writable(output: Path) -> None:
    """Refuse a path that cannot be written before minutes of measuring, not after."""
    if not _is_directory(output) and output.suffix not in (".md", ".json"):
        raise UserError(f"--output is {output}; it must end in .md or .json, or be a directory.")
    directory = output if _is_directory(output) else output.parent
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise UserError(f"--output {output} cannot be written: {error.strerror}.") from None


def _save(result: Result, output: Path) -> list[Path]:
    paths = [output]
    if _is_directory(output):
        device = re.sub(r"[^a-z0-9]+", "-", result.conditions.device.lower()).strip("-")
        stem = f"{result.conditions.date}-{device}-{result.conditions.model}"
        paths = [output / f"{stem}.md", output / f"{stem}.json"]
    for path in paths:
        text = show.markdown(result) if path.suffix == ".md" else json.dumps(result.as_json(), indent=2) + "\n"
        path.write_text(text, encoding="utf-8")
    return paths


def _is_directory(path: Path) -> bool:
    return path.is_dir() or path.suffix == ""
