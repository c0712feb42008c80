"""Training the winners of a study again, and looking at the loss around where they went."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from thalweg.lab.analysis import Run
from thalweg.lab.landscape.plane import Plane, oriented, principal, random_filters
from thalweg.lab.landscape.request import Request
from thalweg.lab.run import Trainer
from thalweg.lab.tasks import Task
from thalweg.lab.tasks.task import stream

Tell = Callable[[str, int, int], None]
"""(what is done, how far, of how much)."""


@dataclass(frozen=True)
class Trajectory:
    """One run's snapshots, evenly spread over its budget, the start and the end among them."""

    run: Run
    points: Tensor
    """(S, n) float32: the parameters that are judged, averages where the optimizer keeps any."""
    steps: list[int]
    charged: list[float]
    losses: list[float]
    """Of the network, on the probe batch."""
    same: bool
    """Whether the run ended where the stored one did, to the bit."""

    @property
    def optimizer(self) -> str:
        """Whose run it is."""
        return self.run.config.optimizer

    @property
    def extent(self) -> float:
        """The longest distance of a snapshot from the start."""
        return (self.points - self.points[0]).square().sum(1).max().sqrt().item()


@dataclass(frozen=True)
class Landscape:
    """Trajectories, the plane they share, and the loss on it."""

    request: Request
    trajectories: list[Trajectory]
    plane: Plane
    explained: float
    """Part of the variance of all snapshots that lies along the plane."""
    coordinates: list[Tensor]
    """(S, 2) of each trajectory."""
    off: list[float]
    """Mean distance of each trajectory off the plane, in parts of its extent."""
    under: list[list[float]]
    """Loss of the plane under each snapshot."""
    a: Tensor
    b: Tensor
    heights: Tensor
    """(len(b), len(a)): the loss at a d₁ + b d₂."""


class Terrain:
    """The loss on the probe batch as a function of all trainable parameters, in a network of its own.

    Modes are those of evaluation, but batch normalization takes its statistics from the probe batch: running ones belong to one
    point of one run, and would be wrong everywhere else.
    """

    def __init__(self, task: Task, seed: int):
        self.task, self.model = task, task.model(seed).eval()
        for module in self.model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):  # pyright: ignore[reportPrivateUsage]
                module.train()
        self.parameters = trainable(self.model)

    @torch.no_grad()
    def __call__(self, point: Tensor) -> float:
        """Return the loss at a point (n)."""
        vector_to_parameters(point, self.parameters)
        inputs, targets = self.task.probe
        return self.task.loss(self.model(inputs), targets).item()


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that are trained."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def retrace(run: Run, task: Task, terrain: Terrain, count: int, tell: Tell) -> Trajectory:
    """Train a stored run again and take `count` snapshots after the first, at equal distances in what its budget counts."""
    trainer = Trainer(run.config, task)
    parameters = trainable(trainer.model)
    points = torch.empty(count + 1, sum(parameter.numel() for parameter in parameters))
    steps, charged, taken = list[int](), list[float](), 0

    def snapshot() -> None:
        with trainer.evaluated():
            points[taken] = parameters_to_vector(parameters).detach()
        steps.append(trainer.steps)
        charged.append(float(trainer.charged))

    snapshot()
    while trainer.used < run.config.budget:
        trainer.step()
        if trainer.used >= run.config.budget * (taken + 1) / count:
            taken += 1
            snapshot()
            tell(run.config.optimizer, taken, count)
    end = trainer.point()
    same = (end.validation, end.validation_loss) == (run.result.value, run.result.loss)
    kept = points[: taken + 1]
    return Trajectory(run, kept, steps, charged, [terrain(point) for point in kept], same)


def survey(request: Request, tell: Tell) -> Landscape:
    """Train all runs again, lay a plane through them and evaluate the loss on it."""
    terrain = Terrain(request.task, request.seed)
    trajectories = [retrace(run, request.task, terrain, request.snapshots, tell) for run in request.runs]
    every = torch.cat([trajectory.points for trajectory in trajectories])
    movements = torch.stack([trajectory.points[-1] - trajectory.points[0] for trajectory in trajectories])
    plane = oriented(_plane(request, trajectories, every, terrain), movements)
    coordinates = [plane.coordinates(trajectory.points) for trajectory in trajectories]
    a, b = axes(torch.cat(coordinates), request.resolution)
    heights = torch.empty(len(b), len(a), dtype=torch.float64)
    for row in range(len(b)):
        for column in range(len(a)):
            heights[row, column] = terrain(plane.at(a[column].item(), b[row].item()))
        tell("loss on the plane", row + 1, len(b))
    return Landscape(
        request=request,
        trajectories=trajectories,
        plane=plane,
        explained=plane.explained(every),
        coordinates=coordinates,
        off=[plane.distances(one.points).mean().item() / one.extent for one in trajectories],
        under=[[terrain(plane.at(a.item(), b.item())) for a, b in found] for found in coordinates],
        a=a,
        b=b,
        heights=heights,
    )


def _plane(request: Request, trajectories: list[Trajectory], every: Tensor, terrain: Terrain) -> Plane:
    if request.plane == "pca":
        return principal(every)
    best = min(trajectories, key=lambda trajectory: trajectory.losses[-1])
    generator = torch.Generator().manual_seed(stream(request.seed, "landscape"))
    return random_filters(best.points[-1], [parameter.shape for parameter in terrain.parameters], generator)


MARGIN = 0.15
"""Of the trajectories' extent, around them."""
FLATTEST = 0.6
"""Height of the window in parts of its width, or width in parts of its height, at least."""


def axes(points: Tensor, resolution: int) -> tuple[Tensor, Tensor]:
    """Return the coordinates of a grid around points (R, 2), as dense both ways, `resolution` on the longer side."""
    low, high = points.amin(0), points.amax(0)
    sides = (1 + 2 * MARGIN) * (high - low)
    sides = torch.maximum(sides, FLATTEST * sides.max())
    middle, spacing = (low + high) / 2, sides.max() / (resolution - 1)
    counts = (sides / spacing).ceil().int() + 1
    a, b = (
        middle[i] + spacing * (torch.arange(int(counts[i]), dtype=torch.float64) - (int(counts[i]) - 1) / 2)
        for i in range(2)
    )
    return a, b
