"""A race as a GIF that loops."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from thalweg.lab.errors import UserError
from thalweg.lab.race.drawing import colours, contours, momenta, steps
from thalweg.lab.race.run import Race
from thalweg.lab.untyped import untyped

FRAMES = 80
MILLISECONDS = 70
"""Of a frame; the last is held for `HELD`."""
HELD = 2500
PALETTE = 96
"""Colours, the same for all frames: what does not move is then stored once."""
INK, PAPER, VALLEY, WALL = "#1b2430", "#ffffff", "#8fbbdd", "#fafbfc"


def write_gif(path: Path, race: Race) -> Path:
    """Draw the race, frame after frame, and return the path, which is there whole or not at all.

    Raises:
        UserError: the file cannot be written.
    """
    picture = Picture(race)
    frames = [picture.at(race.budget * frame / FRAMES) for frame in range(FRAMES + 1)]
    first, *others = reduced(frames, list(colours(race).values()))
    durations = [MILLISECONDS] * FRAMES + [HELD]
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        first.save(draft, "GIF", save_all=True, append_images=others, duration=durations, loop=0)
        draft.replace(path)
    except OSError as error:
        raise UserError(f"--output {path} cannot be written: {error.strerror}.") from error
    finally:
        draft.unlink(missing_ok=True)
    return path


def reduced(images: list[Any], inks: list[str]) -> list[Any]:
    """Return images with one palette for all: the colours of the last, and those of lines, too thin to win a place in it."""
    colour = untyped("PIL.ImageColor").getrgb
    lines = [channel for ink in [INK, *inks] for channel in colour(ink)]
    most = PALETTE - len(lines) // 3
    palette = untyped("PIL.Image").new("P", (1, 1))
    palette.putpalette(images[-1].quantize(most).getpalette()[: 3 * most] + lines)
    return [image.quantize(palette=palette, dither=0) for image in images]


class Picture:
    """The surface, and each optimizer's trail up to a number of gradient-equivalents."""

    def __init__(self, race: Race):
        self.race = race
        self.figure: Any = untyped("matplotlib.figure").Figure(figsize=(6, 5), dpi=100, facecolor=PAPER)
        self.canvas: Any = untyped("matplotlib.backends.backend_agg").FigureCanvasAgg(self.figure)
        self.axes: Any = self.figure.add_axes((0.02, 0.13, 0.96, 0.8))
        draw_surface(self.axes, race)
        self.lines: list[tuple[Any, Any]] = []
        self.arrows: list[list[tuple[Tensor, Any]]] = []
        for track in race.tracks:
            ink = colours(race)[track.optimizer]
            (trail,) = self.axes.plot([], [], color=ink, linewidth=1.6, label=f"{track.optimizer}, lr {track.lr:.2g}")
            (head,) = self.axes.plot([], [], "o", color=ink, markersize=7, markeredgecolor=PAPER, zorder=4)
            self.lines.append((trail, head))
            found = [(steps(race.surface, track), 1.0), (momenta(race.surface, track), 0.45)]
            self.arrows.append([(vectors, self._arrow(ink, alpha)) for vectors, alpha in found if vectors is not None])
        self.figure.legend(loc="lower center", ncols=3, fontsize=8, frameon=False, labelcolor=INK)
        self.axes.set_title(f"{race.surface.name}: f = {race.surface.formula}", fontsize=10, color=INK)
        self.clock: Any = self.axes.text(
            0.99, 0.02, "", transform=self.axes.transAxes, ha="right", fontsize=9, color=INK
        )

    def _arrow(self, ink: str, alpha: float) -> Any:
        scaled = dict(angles="xy", scale_units="xy", scale=1, width=0.005, headwidth=4)
        return self.axes.quiver([0], [0], [0], [0], color=ink, alpha=alpha, zorder=3, **scaled)

    def at(self, used: float) -> Any:
        """Return the image of the trails up to this many gradient-equivalents."""
        for track, (trail, head), arrows in zip(self.race.tracks, self.lines, self.arrows, strict=True):
            made = int(torch.searchsorted(track.charged, used, right=True))
            reached = track.points[:made].T.numpy()
            trail.set_data(*reached)
            head.set_data(*reached[:, -1:])
            for vectors, arrow in arrows:
                arrow.set_offsets(reached[:, -1])
                arrow.set_UVC(*vectors[made - 1].numpy())
        self.clock.set_text(f"{used:.0f} of {self.race.budget} gradients")
        return image_of(self.canvas)


def image_of(canvas: Any) -> Any:
    """Return what a canvas shows, as Pillow's image."""
    canvas.draw()
    size, pixels = canvas.get_width_height(), bytes(canvas.buffer_rgba())
    return untyped("PIL.Image").frombytes("RGBA", size, pixels).convert("RGB")


def draw_surface(axes: Any, race: Race) -> None:
    """Contours, the start and the minima."""
    surface = race.surface
    x, y, z = contours(surface)
    scale = untyped("matplotlib.colors").LinearSegmentedColormap.from_list("valley", [VALLEY, WALL])
    axes.contourf(x.numpy(), y.numpy(), z.numpy(), levels=16, cmap=scale)
    axes.contour(x.numpy(), y.numpy(), z.numpy(), levels=16, colors="#8fa6ba", linewidths=0.4, linestyles="solid")
    axes.plot(*surface.start, "o", color=INK, markersize=4, zorder=3)
    for minimum in surface.minima:
        axes.plot(*minimum, "*", color=INK, markersize=11, zorder=3)
    axes.set(xlim=surface.window[0], ylim=surface.window[1], xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
