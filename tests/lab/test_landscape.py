"""`thalweg landscape`: planes against other libraries, losses against the network's own, page, refusals."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from browser import CHROMIUM, Page, fits_a_phone_and_the_dark, hides_and_shows, opened
from commands import Command
from made_up import ended, made_up
from sklearn.decomposition import PCA
from torch import nn

from thalweg.lab.contract import draw_up
from thalweg.lab.errors import UserError
from thalweg.lab.landscape.limits import snapshots
from thalweg.lab.landscape.page import write_landscape
from thalweg.lab.landscape.plane import BLOCK, Plane, oriented, principal, random_filters
from thalweg.lab.landscape.request import Request
from thalweg.lab.landscape.run import Landscape, Terrain, axes, survey, trainable
from thalweg.lab.landscape.show import notes
from thalweg.lab.run import Trainer, evaluate
from thalweg.lab.space import entry
from thalweg.lab.tasks import load_task


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("n", [40, 2 * BLOCK + 7])
def test_the_plane_is_the_one_of_other_libraries(n: int) -> None:
    points = drawn(12, n) * torch.linspace(3, 1, 12)[:, None] + drawn(n, seed=1)
    plane = principal(points)
    centred = points.double() - points.double().mean(0)
    _, values, directions = torch.linalg.svd(centred, full_matrices=False)
    cosines = (plane.directions.double() * directions[:2]).sum(1)
    assert cosines.abs().tolist() == pytest.approx([1, 1], abs=1e-5)
    torch.testing.assert_close(plane.directions.norm(dim=1), torch.ones(2), rtol=1e-5, atol=0)
    share = float(values[:2].square().sum() / values.square().sum())
    assert plane.explained(points) == pytest.approx(share, rel=1e-5)
    fitted = PCA(2, svd_solver="full").fit(points.double().numpy())
    assert plane.explained(points) == pytest.approx(fitted.explained_variance_ratio_.sum(), rel=1e-5)
    theirs = torch.from_numpy(fitted.transform(points.double().numpy()))
    torch.testing.assert_close(plane.coordinates(points).abs(), theirs.abs(), rtol=1e-3, atol=1e-3)


def test_coordinates_and_distances_are_those_of_least_squares() -> None:
    plane = Plane(drawn(30), drawn(2, 30, seed=1))  # neither orthogonal nor of one length
    points = drawn(5, 30, seed=2)
    right = (points - plane.origin).double().T
    theirs = torch.linalg.lstsq(plane.directions.double().T, right)
    torch.testing.assert_close(plane.coordinates(points), theirs.solution.T, rtol=1e-5, atol=1e-6)
    off = (right - plane.directions.double().T @ theirs.solution).norm(dim=0)
    torch.testing.assert_close(plane.distances(points), off, rtol=1e-5, atol=1e-6)
    inside = plane.at(0.5, -2.0)[None]
    assert plane.coordinates(inside).flatten().tolist() == pytest.approx([0.5, -2.0], rel=1e-5)
    assert plane.distances(inside).item() < 1e-5


def test_movements_go_right_and_up() -> None:
    plane = Plane(torch.zeros(10), drawn(2, 10))
    movements = drawn(3, 10, seed=3)
    for signs in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        turned = oriented(Plane(plane.origin, plane.directions * torch.tensor(signs)[:, None]), movements)
        assert torch.all(movements.sum(0) @ turned.directions.T > 0)


def test_random_directions_have_the_length_of_each_filter() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(12, 4))
    origin = nn.utils.parameters_to_vector(model.parameters()).detach()
    shapes = [p.shape for p in model.parameters()]
    plane = random_filters(origin, shapes, torch.Generator().manual_seed(1))
    for direction in plane.directions:
        parts = direction.split([shape.numel() for shape in shapes])
        for part, p in zip(parts, model.parameters(), strict=True):
            if p.ndim == 1:
                assert not part.any()
            else:
                lengths = part.reshape(p.shape).flatten(1).norm(dim=1)
                torch.testing.assert_close(lengths, p.detach().flatten(1).norm(dim=1))
    assert not torch.allclose(*plane.directions)
    again = random_filters(origin, shapes, torch.Generator().manual_seed(1))
    assert torch.equal(again.directions, plane.directions)


def test_the_grid_covers_the_points_evenly() -> None:
    points = torch.tensor([[0.0, 0.0], [10.0, 1.0]], dtype=torch.float64)
    a, b = axes(points, 21)
    assert len(a) == 21
    assert a[0] < 0 < 10 < a[-1]
    assert b[0] < 0 < 1 < b[-1]
    assert torch.diff(a).tolist() == pytest.approx([torch.diff(b)[0].item()] * 20)
    assert (b[-1] - b[0]) / (a[-1] - a[0]) >= 0.6


class Normalized(nn.Module):
    """Batch normalization, dropout and weights that are not trained."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 10))
        self.net[3].weight.requires_grad_(False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.net(inputs)


def test_the_terrain_is_the_network_with_statistics_of_the_probe_batch() -> None:
    task = replace(load_task("digits-mlp"), build=Normalized)
    terrain = Terrain(task, 3)
    model: Any = task.model(3)
    assert len(trainable(model)) == 5
    point = nn.utils.parameters_to_vector(trainable(model)).detach() * 1.5
    nn.utils.vector_to_parameters(point, trainable(model))
    inputs, targets = task.probe
    model.net[1].momentum = None  # a cumulative average over one batch
    with torch.no_grad():
        model.train()
        model.net[2].eval()
        expected = task.loss(model(inputs), targets).item()
    assert terrain(point) == pytest.approx(expected, rel=1e-6)
    assert terrain(point) == terrain(point)


@pytest.fixture(scope="module")
def landscape(study: Path) -> Landscape:
    torch.set_num_threads(1)
    return survey(Request.of(study, None, "adamw,sgd", "pca", None, 9), lambda what, done, total: None)


def test_the_runs_are_the_stored_ones(landscape: Landscape) -> None:
    assert [one.optimizer for one in landscape.trajectories] == ["adamw", "sgd"]
    assert all(one.same for one in landscape.trajectories)
    assert torch.equal(landscape.trajectories[0].points[0], landscape.trajectories[1].points[0])
    for one in landscape.trajectories:
        assert len(one.points) == len(one.steps) == len(one.losses) == 51
        assert one.steps[0] == 0
        assert one.steps[-1] == one.run.result.steps
        assert one.charged == pytest.approx([one.charged[-1] * i / 50 for i in range(51)], abs=1)


def test_losses_are_those_of_the_network(landscape: Landscape) -> None:
    one, task = landscape.trajectories[0], landscape.request.task
    model = task.model(landscape.request.seed)
    assert one.losses[0] == pytest.approx(evaluate(task, model, task.probe)[0], rel=1e-5)
    for i, (a, b) in enumerate(landscape.coordinates[0][::17].tolist()):
        point = landscape.plane.at(a, b)
        nn.utils.vector_to_parameters(point, model.parameters())
        assert landscape.under[0][17 * i] == pytest.approx(evaluate(task, model, task.probe)[0], rel=1e-5)
    row, column = 2, 3
    nn.utils.vector_to_parameters(
        landscape.plane.at(landscape.a[column].item(), landscape.b[row].item()), model.parameters()
    )
    assert landscape.heights[row, column].item() == pytest.approx(evaluate(task, model, task.probe)[0], rel=1e-5)


def test_what_the_plane_misses_is_said(landscape: Landscape) -> None:
    assert 0.3 < landscape.explained < 1
    one = landscape.trajectories[1]
    spread = (one.points - landscape.plane.origin).double().square().sum(1)
    off = (spread - landscape.coordinates[1].square().sum(1)).clamp(min=0).sqrt().mean().item()
    assert landscape.off[1] == pytest.approx(off / (one.points - one.points[0]).norm(dim=1).max().item(), rel=1e-3)


def test_an_average_is_what_is_seen_of_an_optimizer_that_keeps_one(tmp_path: Path) -> None:
    contract = draw_up("tasks", ["digits-mlp"], [entry("adamw_schedule_free")], 1, 1)
    store = made_up(tmp_path / "study", contract, lambda config: ended(1.0, 50.0))
    found = survey(Request.of(store.folder, None, None, "random", None, 5), lambda what, done, total: None)
    one = found.trajectories[0]
    trainer = Trainer(one.run.config, found.request.task)
    while trainer.used < one.run.config.budget:
        trainer.step()
    with trainer.evaluated():
        average = nn.utils.parameters_to_vector(trainer.model.parameters()).detach()
    assert torch.equal(one.points[-1], average)
    assert not torch.equal(average, nn.utils.parameters_to_vector(trainer.model.parameters()))
    assert torch.equal(found.plane.origin, average)  # random directions start from the best end
    assert found.explained < 0.1
    said = " ".join(notes(found))
    assert "did not end where the stored one did" in said  # whose results are made up
    assert "--plane pca" in said


def test_snapshots_fit_into_memory() -> None:
    assert snapshots(10_000, 3) == 50
    assert snapshots(11_000_000, 3) == (2 << 30) // (4 * 11_000_000 * 3) - 1 < 50
    with pytest.raises(UserError, match="do not fit into 2 GiB; name fewer"):
        snapshots(110_000_000, 3)


def test_the_command_writes_a_page(command: Command, study: Path) -> None:
    done = command("landscape", study, "-o", "sgd,momentum", "--resolution", "5", "--json")
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed["page"] == "landscape-digits-mlp.html"
    assert Path(printed["page"]).stat().st_size < 8e6
    assert [row["optimizer"] for row in printed["optimizers"]] == ["sgd", "momentum"]
    assert all(row["same_as_stored"] for row in printed["optimizers"])
    assert f"{printed['explained']:.1%} of the variance lies in this plane" in done.stderr
    assert "stored result" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--task", "digits-mpl"], "task of the study 'digits-mpl' is unknown. Did you mean digits-mlp?"),
        (["-o", "adam"], "optimizer of the study 'adam' is unknown. Did you mean adamw"),
        (["--plane", "pcb"], "--plane 'pcb' is unknown"),
        (["--seed", "7"], "--seed is 7; the study's final seeds are 1000 to 1002"),
        (["--resolution", "4"], "--resolution is 4; it must lie between 5 and 301"),
        (["--output", "page.pdf"], "--output is page.pdf; it must end in .html"),
    ],
)
def test_what_cannot_be_done_is_named(command: Command, study: Path, arguments: list[str], said: str) -> None:
    done = command("landscape", study, *arguments)
    assert said in done.stderr
    assert not list(Path().iterdir())


def test_a_folder_without_a_study_is_named(command: Command) -> None:
    assert "STUDY nowhere holds no study" in command("landscape", "nowhere").stderr


def test_runs_that_are_missing_failed_or_on_other_data_are_named(command: Command, study: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(study, folder)
    run = next(folder.glob("runs/digits-mlp/sgd/final-*-seed1001"))
    result = json.loads((run / "result.json").read_text())
    (run / "result.json").write_text(json.dumps({**result, "state": "diverged"}))
    said = command("landscape", folder, "-o", "sgd", "--seed", "1001").stderr
    assert "sgd on digits-mlp, seed 1001: the run diverged; give another --seed" in said
    (run / "result.json").unlink()
    said = command("landscape", folder, "-o", "sgd", "--seed", "1001").stderr
    assert "there is no finished run; continue the study" in said
    contract = json.loads((folder / "contract.json").read_text())
    contract["tasks"][0]["data_hash"] = "0" * 16
    (folder / "contract.json").write_text(json.dumps(contract))
    assert "the data is not the study's" in command("landscape", folder, "-o", "adamw").stderr


@pytest.fixture(scope="module")
def page(landscape: Landscape, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on PATH")
    folder = tmp_path_factory.mktemp("landscape")
    with opened(write_landscape(folder / "page.html", landscape), folder / "profile") as shown:
        shown.wait("document.querySelectorAll('.main-svg').length > 0")
        yield shown


TRAILS = "document.querySelectorAll('#plane .plot .scatterlayer .trace').length"


def test_title_and_figures_are_there(page: Page, landscape: Landscape) -> None:
    assert page.run("document.querySelectorAll('#plane .ground .contour').length") == 1
    title = page.run("document.querySelector('#plane figcaption').textContent")
    assert f"{landscape.explained:.1%} of the variance" in title
    assert f"adamw {landscape.off[0]:.0%}, sgd {landscape.off[1]:.0%}" in title


def test_trails_lie_over_their_ground(page: Page) -> None:
    axes_of = "(({l, t, w, h}) => [l, t, w, h])(document.querySelector('#plane .{}')._fullLayout._size)"
    assert page.run(axes_of.replace("{}", "plot")) == page.run(axes_of.replace("{}", "ground"))
    domain = "['xaxis', 'yaxis'].flatMap((name) => document.querySelector('#plane .{}')._fullLayout[name].range)"
    assert page.run(domain.replace("{}", "plot")) == pytest.approx(page.run(domain.replace("{}", "ground")))


def test_play_moves_the_slider(page: Page) -> None:
    page.run("play.click()")
    page.wait("Number(slider.value) > 1 && Number(slider.value) < 200")
    page.run("play.click()")
    assert page.run("play.textContent") == "Play"


def test_the_legend_hides_and_shows(page: Page) -> None:
    hides_and_shows(page, TRAILS)


def test_it_fits_a_phone_and_the_dark(page: Page) -> None:
    fits_a_phone_and_the_dark(page)
