"""The report in a real browser: no script error, no request, every figure, every control."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import CHROMIUM, Page, opened

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH")

DRAWN = "[...document.querySelectorAll('.plot')].filter((plot) => plot.querySelector('.main-svg')).length"
TITLE = "document.querySelector('#curve-figures .{axis}title').textContent"
LINES = "document.querySelectorAll('#curve-figures .scatterlayer .trace').length"


@pytest.fixture(scope="module")
def page(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with opened(study / "report.html", tmp_path_factory.mktemp("profile")) as shown:
        yield shown


def test_every_figure_is_drawn(page: Page) -> None:
    assert page.run(DRAWN) == page.run("document.querySelectorAll('.plot').length") == 5


@pytest.mark.parametrize(
    ("value", "title"), [("charged", "gradient-equivalents"), ("seconds", "CPU seconds"), ("step", "steps")]
)
def test_the_horizontal_axis_can_be_chosen(page: Page, value: str, title: str) -> None:
    page.run(f"document.querySelector('input[name=x][value={value}]').click()")
    assert page.run(TITLE.format(axis="x")) == title


@pytest.mark.parametrize(
    ("value", "title"),
    [("validation_loss", "validation loss"), ("train_loss", "training loss"), ("validation", "accuracy, %")],
)
def test_the_vertical_axis_can_be_chosen(page: Page, value: str, title: str) -> None:
    page.run(f"document.querySelector('input[name=y][value={value}]').click()")
    assert page.run(TITLE.format(axis="y")) == title


def test_seeds_can_be_hidden(page: Page) -> None:
    assert page.run(LINES) == 3 * (3 + 1)
    page.run("document.getElementById('seeds').click()")
    assert page.run(LINES) == 3
    page.run("document.getElementById('seeds').click()")
    assert page.run(LINES) == 3 * (3 + 1)


def test_an_optimizer_can_be_hidden_everywhere(page: Page) -> None:
    page.run("document.querySelector('#legend button').click()")
    assert page.run("document.querySelector('#legend button').getAttribute('aria-pressed')") == "false"
    assert page.run(LINES) == 2 * (3 + 1)
    page.run("document.querySelector('#legend button').click()")
    assert page.run(LINES) == 3 * (3 + 1)


def test_it_follows_the_colour_scheme(page: Page) -> None:
    ink = "getComputedStyle(document.querySelector('.plot .xtick text')).fill"
    light = page.run(ink)
    page.scheme("dark")
    page.wait(f"{ink} !== '{light}'")
    assert page.run("getComputedStyle(document.body).backgroundColor") == "rgb(17, 22, 28)"
    page.scheme("light")


def test_a_phone_scrolls_only_down(page: Page) -> None:
    page.size(390, 800)
    page.wait("document.documentElement.scrollWidth <= 390")
    page.size(1280, 900)


def test_the_data_of_a_figure_can_be_saved(page: Page) -> None:
    page.run("globalThis.saved = null; HTMLAnchorElement.prototype.click = function () { saved = this.download; }")
    page.run("document.querySelector('#curve-figures button').click()")
    assert page.run("saved") == "digits-mlp.csv"
