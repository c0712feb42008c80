"""The house rules that no type checker sees: which way imports run, how long files may be, where names may stand."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import thalweg
from thalweg.registry import OPTIMIZERS

SOURCE = Path(thalweg.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))

# A file may import what has a lower floor than its own, and its own folder.
FLOORS = {
    "core": 0,
    "_version": 0,
    "batchnorm": 1,
    "curvature": 1,
    "rules": 2,
    "integrations": 2,
    "control": 3,
    "registry": 4,
    "convert": 5,
    "mixed": 5,
    "routing": 5,
    "preflight": 6,
    "__init__": 7,
    "conformance": 8,
    "lab": 9,
    "__main__": 10,
}


def room(file: Path) -> str:
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names.add(node.module or "")
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(SOURCE)))
def test_imports_run_one_way(file: Path) -> None:
    for name in imported(file):
        package, _, rest = name.partition(".")
        if package != "thalweg":
            continue
        target = rest.split(".")[0] or "__init__"
        if target in FLOORS and target != room(file):
            assert FLOORS[target] < FLOORS[room(file)], f"{file} imports {name}"


def test_the_core_imports_torch_only() -> None:
    import sys

    for file in (SOURCE / "core").rglob("*.py"):
        packages = {name.split(".")[0] for name in imported(file)}
        assert packages <= {"torch", "thalweg"} | set(sys.stdlib_module_names), file


def test_the_core_names_no_rule() -> None:
    classes = {cls.__name__ for cls in OPTIMIZERS.values()} - {"SGD", "Adam", "AdamW"} | {"sgd", "adamw", "exp_avg"}
    for file in (SOURCE / "core").rglob("*.py"):
        tree = ast.parse(file.read_text())
        used = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
        used |= {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
        assert not used & classes, file


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(SOURCE)))
def test_files_keep_to_their_length(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= 400
    budget = {"pipeline.py": 80, "tensorlist.py": 150}.get(file.name, 400)
    assert code_lines(ast.parse(file.read_text())) <= budget


def code_lines(node: ast.AST) -> int:
    """Lines of a definition that hold code: no signature, no docstring, no blank, no comment."""
    lines: set[int] = set()
    signatures = {id(part) for n in ast.walk(node) if isinstance(n, ast.arguments) for part in ast.walk(n)}
    for child in (n for n in ast.walk(node) if id(n) not in signatures):
        is_docstring = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
        if isinstance(child, ast.stmt | ast.arg | ast.expr) and not is_docstring:
            lines |= {child.lineno, child.end_lineno or child.lineno} if not isinstance(child, ast.Constant) else set()
    return len(lines)


@pytest.mark.parametrize("file", sorted((SOURCE / "rules").glob("*.py")), ids=lambda f: f.name)
def test_rules_keep_to_their_length(file: Path) -> None:
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            assert code_lines(node) <= 40, node.name
        if isinstance(node, ast.ClassDef):
            assert code_lines(node) <= 70, node.name
