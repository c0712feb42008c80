"""The libraries that the package names, in its own metadata, and whether they are installed."""

from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import Requirement

from thalweg.lab.doctor.checks import Finding, State

NEEDED = "lab"
"""The extra without which no command works; what the others bring is optional."""
LEFT_OUT = ("dev",)


def extras() -> Iterator[Finding]:
    """One finding an extra: what it brings, what is missing, how to get it."""
    try:
        about = metadata.metadata("thalweg")
    except metadata.PackageNotFoundError:
        yield Finding("extras", "absent", "not known: thalweg is not installed as a package", "pip install thalweg")
        return
    named = [Requirement(text) for text in metadata.requires("thalweg") or []]
    for extra in about.get_all("Provides-Extra") or []:
        if extra not in LEFT_OUT:
            yield finding(extra, brought(named, extra))


def brought(named: list[Requirement], extra: str) -> list[Requirement]:
    """The libraries that an extra brings, without those that all need."""
    needed = [one for one in named if one.marker and one.marker.evaluate({"extra": NEEDED})] if extra != NEEDED else []
    common = {"thalweg", *(one.name for one in needed)}
    return [one for one in named if one.marker and one.marker.evaluate({"extra": extra}) and one.name not in common]


def finding(extra: str, requirements: list[Requirement]) -> Finding:
    """What is there of an extra's libraries."""
    states = {needed.name: installed(needed) for needed in requirements}
    wrong = [said for met, said in states.values() if not met]
    if not wrong:
        return Finding(f"extra {extra}", "ok", ", ".join(said for _, said in states.values()))
    state: State = "broken" if extra == NEEDED else "absent"
    return Finding(f"extra {extra}", state, ", ".join(wrong), f'pip install "thalweg[{extra}]"')


def installed(requirement: Requirement) -> tuple[bool, str]:
    """Whether a library is there in a version that will do, and that in words."""
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return False, f"{requirement.name} is not installed"
    met = requirement.specifier.contains(version, prereleases=True)
    return met, f"{requirement.name} {version}" + ("" if met else f" is not {requirement.specifier}")
