"""`thalweg race`: surfaces with known minima, runs against torch's optimizers, page and GIF, refusals."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from browser import CHROMIUM, Page, fits_a_phone_and_the_dark, hides_and_shows, opened
from commands import Command, start
from PIL import Image

from thalweg.lab.race import gif
from thalweg.lab.race.drawing import GRID, contours, momenta, steps
from thalweg.lab.race.page import write_race
from thalweg.lab.race.run import DIVERGED_ABOVE, Race, drive, race, rates, tune
from thalweg.lab.race.surfaces import SURFACES, Surface
from thalweg.lab.space import ENTRIES, entry

EACH = pytest.mark.parametrize("surface", SURFACES.values(), ids=lambda surface: surface.name)
SHORT = ["rosenbrock", "-o", "momentum,lbfgs", "--steps", "40", "--trials", "2"]


def at(*point: float) -> torch.Tensor:
    return torch.tensor(point, dtype=torch.float64)


@EACH
def test_minima_are_flat_and_nothing_in_the_window_is_lower(surface: Surface) -> None:
    for minimum in surface.minima:
        point = at(*minimum).requires_grad_()
        surface.loss(point).backward()
        assert surface.heights(point).item() == pytest.approx(0, abs=1e-12)
        assert point.grad.abs().max() < 1e-12
    x, y = (torch.linspace(*ends, 201, dtype=torch.float64) for ends in surface.window)
    heights = surface.heights(torch.stack(torch.meshgrid(x, y, indexing="xy"), -1))
    assert heights.min() > -1e-12
    assert heights.min() < 0.05 * heights.max()


@pytest.mark.parametrize(("name", "value"), [("rosenbrock", 24.2), ("beale", 14.203125), ("saddle", 1.2799995 + 0.25)])
def test_heights_of_the_starts_are_those_of_the_literature(name: str, value: float) -> None:
    assert SURFACES[name].heights(at(*SURFACES[name].start)).item() == pytest.approx(value, rel=1e-9)


def test_the_ravine_is_as_long_as_it_says() -> None:
    H = torch.autograd.functional.hessian(lambda p: SURFACES["ravine"].f(p[0], p[1]), at(0.3, 0.2))
    assert torch.linalg.eigvalsh(H).tolist() == pytest.approx([1, 100])


@EACH
@pytest.mark.parametrize(
    ("name", "lr", "oracle"),
    [
        ("sgd", 0.02, lambda p: torch.optim.SGD([p], 0.02)),
        ("momentum", 0.01, lambda p: torch.optim.SGD([p], 0.01, momentum=0.9)),
        ("adamw", 0.1, lambda p: torch.optim.AdamW([p], 0.1, weight_decay=0.01)),
    ],
)
def test_runs_are_those_of_torch(surface: Surface, name: str, lr: float, oracle: Any) -> None:
    p = at(*surface.start).requires_grad_()
    optimizer, expected = oracle(p), [p.detach().clone()]
    for _ in range(25):
        optimizer.zero_grad()
        surface.loss(p).backward()
        optimizer.step()
        expected.append(p.detach().clone())
    track = drive(surface, entry(name), lr, 25)
    torch.testing.assert_close(track.points, torch.stack(expected), rtol=1e-12, atol=1e-12)
    assert track.charged.tolist() == list(range(26))
    torch.testing.assert_close(track.heights, surface.heights(torch.stack(expected)), rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore:DCAO", "ignore:HiDLR")  # of learning rates that they think little of
@pytest.mark.parametrize("name", ENTRIES)
def test_every_optimizer_runs_and_is_charged(name: str) -> None:
    one = ENTRIES[name]
    track = drive(SURFACES["beale"], one, one.space["lr"].at(0.4), 12)
    assert track.steps > 0
    assert torch.all(torch.diff(track.charged) > 0)
    assert track.diverged or 12 <= track.charged[-1] < 30
    assert not torch.equal(track.points[0], track.points[-1])


def test_muon_and_mars_are_not_left_to_adamw() -> None:
    adamw = drive(SURFACES["beale"], entry("adamw"), 0.1, 5)
    for name in ("muon", "mars"):
        assert not torch.allclose(drive(SURFACES["beale"], entry(name), 0.1, 5).points, adamw.points, atol=1e-3)
    moved = torch.diff(drive(SURFACES["ravine"], entry("muon"), 1e-3, 5).points, dim=0).norm(dim=1)
    assert moved.tolist() == pytest.approx([moved[0].item()] * 5, rel=1e-2)  # steps of one length


def test_an_average_is_where_the_optimizer_is_seen() -> None:
    schedulefree = pytest.importorskip("schedulefree")
    surface = SURFACES["ravine"]
    p = at(*surface.start).requires_grad_()
    oracle = schedulefree.SGDScheduleFree([p], lr=0.3, momentum=0.9)
    for _ in range(10):
        oracle.train()
        oracle.zero_grad()
        surface.loss(p).backward()
        oracle.step()
        oracle.eval()
    track = drive(surface, entry("sgd_schedule_free"), 0.3, 10)
    torch.testing.assert_close(track.points[-1], p.detach(), rtol=1e-9, atol=1e-9)


def test_tuning_takes_the_learning_rate_whose_run_settles_lowest() -> None:
    one, surface = entry("sgd"), SURFACES["ravine"]
    tried = rates(one, 8)
    assert (tried[0], tried[-1]) == pytest.approx((one.space["lr"].low, one.space["lr"].high))
    assert torch.diff(torch.tensor(tried).log()).tolist() == pytest.approx([math.log(10) * 3.5 / 7] * 7, rel=1e-4)
    runs = [drive(surface, one, lr, 60) for lr in tried]
    assert any(run.diverged for run in runs)
    best = min((run for run in runs if not run.diverged), key=lambda run: run.settled)
    assert tune(surface, one, 8, 60).lr == best.lr
    assert rates(one, 1) == [pytest.approx((one.space["lr"].low * one.space["lr"].high) ** 0.5)]


def test_a_run_that_diverges_ends_and_comes_last() -> None:
    surface = SURFACES["rosenbrock"]
    wild, tame = drive(surface, entry("sgd"), 10.0, 100), drive(surface, entry("sgd"), 1e-3, 100)
    assert wild.diverged
    assert wild.steps < 100
    assert not wild.heights[-1] <= DIVERGED_ABOVE * wild.heights[0]
    assert tame.rank < wild.rank
    assert wild.arrival is None


def test_a_run_that_diverged_is_drawn_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gif, "FRAMES", 2)
    surface = SURFACES["rosenbrock"]
    wild = drive(surface, entry("sgd"), 1e308, 20)
    assert not wild.points.isfinite().all()
    assert steps(surface, wild).isfinite().all()
    found = Race(surface, 20, 1, [wild])
    text = write_race(tmp_path / "race.html", found).read_text(encoding="utf-8")
    assert "sgd, lr 1e+308, diverged" in text
    with Image.open(gif.write_gif(tmp_path / "race.gif", found)) as image:
        assert image.size == (600, 500)


def test_arriving_is_staying() -> None:
    track = drive(SURFACES["ravine"], entry("momentum"), 0.03, 200)
    assert track.arrival is not None
    assert torch.all(track.heights[track.arrival :] <= 1e-3)
    assert track.heights[track.arrival - 1] > 1e-3


def test_a_race_is_deterministic() -> None:
    names = ["adamw", "dcao", "newton_cg"]
    once, again = (
        race(SURFACES["saddle"], [entry(name) for name in names], 3, 20, lambda track: None) for _ in range(2)
    )
    for one, other in zip(once.tracks, again.tracks, strict=True):
        assert one.lr == other.lr
        assert torch.equal(one.points, other.points)


def test_arrows_point_along_the_last_step_and_down_the_momentum() -> None:
    surface = SURFACES["rosenbrock"]
    track = drive(surface, entry("momentum"), 0.01, 20)
    moved = torch.diff(track.points, dim=0)
    arrows = steps(surface, track)
    assert torch.equal(arrows[0], at(0, 0))
    torch.testing.assert_close(torch.cosine_similarity(arrows[1:], moved), torch.ones(20, dtype=torch.float64))
    found = momenta(surface, track)
    assert found is not None
    torch.testing.assert_close(torch.cosine_similarity(found[1:], moved), torch.ones(20, dtype=torch.float64))
    assert momenta(surface, drive(surface, entry("sgd"), 0.01, 3)) is None


@EACH
def test_contours_are_level_at_the_bottom_alone(surface: Surface) -> None:
    x, y, z = contours(surface)
    assert z.shape == (GRID[1], GRID[0]) == (len(y), len(x))
    raised = z > z.min()
    here = surface.heights(torch.stack(torch.meshgrid(x, y, indexing="xy"), -1))
    torch.testing.assert_close(z[raised], here.log10()[raised])
    assert (~raised).float().mean() < 0.05


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short race's files and what it printed, to be read only."""
    folder = tmp_path_factory.mktemp("race")
    process = start("race", *SHORT, "--json", cwd=folder)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    (folder / "printed.json").write_text(out, encoding="utf-8")
    return folder


def test_adamw_and_sgd_always_take_part(folder: Path) -> None:
    printed = json.loads((folder / "printed.json").read_text())
    assert printed["files"] == ["race-rosenbrock.html", "race-rosenbrock.gif"]
    found = {row["optimizer"]: row for row in printed["optimizers"]}
    assert set(found) == {"adamw", "sgd", "momentum", "lbfgs"}
    ended = [row["settled"] for row in printed["optimizers"] if not row["diverged"]]
    assert len(ended) >= 3
    assert ended == sorted(ended)
    for name, row in found.items():
        track = drive(SURFACES["rosenbrock"], entry(name), row["lr"], 40)
        assert row["lowest"] == track.heights.min().item()
        assert row["final"] == track.heights[-1].item()


def test_the_gif_moves_and_loops(folder: Path) -> None:
    path = folder / "race-rosenbrock.gif"
    assert path.stat().st_size < 3e6
    image: Any
    with Image.open(path) as image:
        assert image.n_frames > 40
        assert image.info["loop"] == 0
        first = image.convert("RGB").tobytes()
        image.seek(image.n_frames - 1)
        assert image.convert("RGB").tobytes() != first
    assert not list(folder.glob("*.tmp"))


def test_the_table_says_what_was_tuned(command: Command) -> None:
    done = command("race", "ravine", "-o", "adamw", "--steps", "10", "--trials", "2", "--output", "here/one.html")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[3:5]] in (["adamw", "sgd"], ["sgd", "adamw"])
    assert "Each tried 2 learning rates of f/10" in done.stdout
    assert [path.name for path in Path("here").iterdir()] == ["one.html"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rosenbrok"], "surface 'rosenbrok' is unknown. Did you mean rosenbrock?"),
        (["beale", "-o", "adamv"], "optimizer 'adamv' is unknown. Did you mean adam"),
        (["beale", "-o", "adam,,sgd"], "has an empty name"),
        (["beale", "--steps", "0"], "--steps is 0; it must lie between 1 and 20000"),
        (["beale", "--trials", "many"], "--trials is 'many'; it must be a whole number"),
        (["beale", "--output", "race.png"], "--output is race.png; it must end in .html or .gif"),
        (["beale", "--output", "a.gif", "--output", "a.gif"], "--output gives a.gif twice"),
    ],
)
def test_what_cannot_be_done_is_named(command: Command, arguments: list[str], said: str) -> None:
    done = command("race", *arguments)
    assert done.returncode == 2 or "thalweg: " in str(done.returncode)
    assert said in done.stderr
    assert not list(Path().iterdir())


@pytest.fixture(scope="module")
def page(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on PATH")
    with opened(folder / "race-rosenbrock.html", tmp_path_factory.mktemp("profile")) as shown:
        shown.wait("document.querySelectorAll('.main-svg').length > 0")
        yield shown


TRAILS = "document.querySelectorAll('#surface .plot .scatterlayer .trace').length"


def test_every_figure_is_drawn(page: Page) -> None:
    page.wait("document.querySelectorAll('.plot .main-svg').length >= 2")
    assert page.run("document.querySelectorAll('#surface .ground .contour').length") == 1
    assert "adamw, lr" in page.run("document.querySelector('#legend').textContent")


def test_play_moves_the_slider_and_stops(page: Page) -> None:
    assert page.run("slider.value") == page.run("slider.max") == "40"
    page.run("play.click()")
    assert page.run("play.textContent") == "Pause"
    page.wait("Number(slider.value) > 1 && Number(slider.value) < 40")
    page.run("play.click()")
    assert page.run("play.textContent") == "Play"
    assert page.run("now.value") == f"{page.run('Math.round(used())')} of 40 gradients"


def test_keys_move_the_slider(page: Page) -> None:
    page.run("slider.value = 10; slider.dispatchEvent(new Event('input'))")
    for key, code in (("ArrowRight", 39), ("ArrowRight", 39), ("ArrowLeft", 37)):
        page.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code)
        page.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)
    assert page.run("slider.value") == "11"


def test_the_legend_hides_and_shows(page: Page) -> None:
    hides_and_shows(page, TRAILS)


def test_it_fits_a_phone_and_the_dark(page: Page) -> None:
    fits_a_phone_and_the_dark(page)
