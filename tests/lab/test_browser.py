"""The report in a real browser: no script error, no request, every figure, every control."""

import base64
import itertools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import CHROMIUM, Page, opened
from made_up import ended, made_up

from thalweg.lab.analysis import Analysis
from thalweg.lab.comparison import Request
from thalweg.lab.report import write_report
from thalweg.lab.space import ENTRIES
from thalweg.lab.store import Store

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH")

NAMES = ".ytick text, .y2tick text"
READY = "undrawn.size === 0"
DRAWN = "[...document.querySelectorAll('.plot')].filter((plot) => plot.querySelector('.main-svg')).length"
TITLE = "document.querySelector('#curve-figures .{axis}title').textContent"
LINES = "document.querySelectorAll('#curve-figures .scatterlayer .trace').length"
PICTURES = "[...document.querySelectorAll('#{within} .plot .main-svg')].map((picture) => picture.outerHTML).join()"


@pytest.fixture(scope="module")
def page(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The report of the small study, as if its task had targets."""
    folder = tmp_path_factory.mktemp("targeted")
    shutil.copytree(study, folder / "study")
    contract = json.loads((folder / "study" / "contract.json").read_text())
    contract["tasks"][0]["targets"] = [60.0, 80.0, 90.0]
    (folder / "study" / "contract.json").write_text(json.dumps(contract))
    report = write_report(Analysis.of(Store.open(folder / "study")))
    with opened(report, folder / "profile") as shown:
        shown.wait(READY)
        yield shown


def click(page: Page, selector: str) -> None:
    page.run(f"document.querySelector('{selector}').click()")
    page.wait(READY)


def test_every_figure_is_drawn(page: Page) -> None:
    sections = ["overall", "profile-figure", "curve-figures", "reached-figures", "speed-up-figures", "final-figures"]
    sections += ["sensitivity-figures", "best-of-figures", "sharpness-figures"]
    for section in sections:
        assert page.run(f"document.querySelectorAll('#{section} .plot .main-svg').length") > 0, section
    assert page.run(DRAWN) == page.run("document.querySelectorAll('.plot').length") == 3 + 8


@pytest.mark.parametrize(
    ("value", "title"), [("charged", "gradient-equivalents"), ("seconds", "CPU seconds"), ("step", "steps")]
)
def test_the_horizontal_axis_can_be_chosen(page: Page, value: str, title: str) -> None:
    click(page, f"input[name=x][value={value}]")
    assert page.run(TITLE.format(axis="x")) == title


@pytest.mark.parametrize(
    ("value", "title"),
    [("validation_loss", "validation loss"), ("train_loss", "training loss"), ("validation", "accuracy, %")],
)
def test_the_vertical_axis_can_be_chosen(page: Page, value: str, title: str) -> None:
    click(page, f"input[name=y][value={value}]")
    assert page.run(TITLE.format(axis="y")) == title


def test_seeds_can_be_hidden(page: Page) -> None:
    assert page.run(LINES) == 3 * (3 + 1)
    click(page, "#seeds")
    assert page.run(LINES) == 3
    click(page, "#seeds")
    assert page.run(LINES) == 3 * (3 + 1)


def test_an_optimizer_can_be_hidden_everywhere(page: Page) -> None:
    click(page, "#legend button")
    assert page.run("document.querySelector('#legend button').getAttribute('aria-pressed')") == "false"
    assert page.run(LINES) == 2 * (3 + 1)
    click(page, "#legend button")
    assert page.run(LINES) == 3 * (3 + 1)


def test_every_control_changes_the_figures(page: Page) -> None:
    """Every value of every control is clicked once: no two may give the same figures."""
    groups = {"x": "curve", "y": "curve", "clock": "reached", "reference": "speed-up", "level": "reached"}
    for group, name in groups.items():
        within = f"{name}-figures"
        values = page.run(f"[...document.querySelectorAll('input[name={group}]')].map((input) => input.value)")
        assert len(values) > 1
        pictures: set[str] = set()
        for value in values:
            click(page, f'input[name={group}][value="{value}"]')
            pictures.add(page.run(PICTURES.format(within=within)))
        assert len(pictures) == len(values), group
        click(page, f'input[name={group}][value="{values[0]}"]')


def test_it_follows_the_colour_scheme(page: Page) -> None:
    ink = "getComputedStyle(document.querySelector('.plot .xtick text')).fill"
    light = page.run(ink)
    page.scheme("dark")
    page.wait(f"{ink} !== '{light}'")
    assert page.run("getComputedStyle(document.body).backgroundColor") == "rgb(17, 22, 28)"
    page.scheme("light")
    page.wait(f"{ink} === '{light}'")


def test_the_theme_can_be_chosen_against_the_system(page: Page) -> None:
    back, names = "getComputedStyle(document.body).backgroundColor", list[str]()
    light = page.run(back)
    for expected in (light, "rgb(17, 22, 28)", light):
        click(page, "#theme")
        names.append(page.run("document.getElementById('theme').textContent"))
        assert page.run(back) == expected
    assert names == ["theme: light", "theme: dark", "theme: auto"]


def test_every_control_is_reached_by_the_tab_key_and_has_a_name(page: Page) -> None:
    named = "(e) => (e.getAttribute('aria-label') ?? e.closest('label')?.textContent ?? e.textContent).trim()"
    controls = "[...document.querySelectorAll('button, input, a, summary')]"
    assert page.run(f"{controls}.filter((e) => e.tabIndex < 0).length") == 0
    assert page.run(f"{controls}.map({named}).filter((name) => !name).length") == 0
    page.run("document.activeElement.blur()")
    tab: dict[str, object] = {"key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}
    page.call("Input.dispatchKeyEvent", type="keyDown", **tab)
    page.call("Input.dispatchKeyEvent", type="keyUp", **tab)
    assert page.run("document.activeElement.className") == "skip"


def test_every_figure_has_a_name_and_its_data_as_a_table(page: Page) -> None:
    assert page.run(
        "[...document.querySelectorAll('.plot')].every((plot) => plot.getAttribute('aria-label').length > 12)"
    )
    page.run("document.querySelector('#curve-figures details summary').click()")
    page.wait("document.querySelectorAll('#curve-figures details tbody tr').length > 0")
    assert page.run("document.querySelectorAll('#curve-figures details tbody tr').length") == 3 * 3 * 16
    page.run("document.querySelector('#curve-figures details summary').click()")


def test_a_phone_scrolls_only_down(page: Page) -> None:
    page.size(390, 800)
    page.wait("document.documentElement.scrollWidth <= 390")
    page.wait(READY)
    page.wait(
        "Math.max(...[...document.querySelectorAll('.plot .main-svg')].map((svg) => svg.getBoundingClientRect().width)) <= 390"
    )
    page.size(1280, 900)


def test_the_data_of_a_figure_can_be_saved(page: Page) -> None:
    page.run("globalThis.saved = null; HTMLAnchorElement.prototype.click = function () { saved = this.download; }")
    page.run("document.querySelector('#curve-figures button').click()")
    assert page.run("saved") == "digits-mlp.csv"


def test_it_prints_in_light_colours_on_several_pages(page: Page) -> None:
    page.scheme("dark")
    page.run("addEventListener('beforeprint', () => { globalThis.printed = [root.dataset.theme, undrawn.size]; })")
    pdf = base64.b64decode(page.call("Page.printToPDF", printBackground=True)["data"])
    assert pdf.count(b"/Type /Page\n") >= 2
    assert page.run("printed") == ["light", 0]
    assert page.run("document.documentElement.dataset.theme") == "dark"
    page.scheme("light")
    page.wait(READY)


def test_the_names_of_many_optimizers_can_be_read(tmp_path: Path) -> None:
    contract = Request(["digits-mlp"], ",".join(ENTRIES), 1, 2).contract()
    store = made_up(tmp_path / "study", contract, lambda run: ended(1.0, 4.0 if run.optimizer == "sgd" else 97.0))
    with opened(write_report(Analysis.of(store)), tmp_path / "profile") as shown:
        shown.wait(READY)
        for section in ("overall", "final-figures", "speed-up-figures", "sensitivity-figures"):
            boxes = f"[...document.querySelectorAll('#{section} .plot')].map((plot) => [...plot.querySelectorAll('{NAMES}')]"
            tops = f"{boxes}.map((name) => name.getBoundingClientRect().top).sort((one, other) => one - other))"
            for names in shown.run(tops):
                assert len(names) >= len(ENTRIES) - 1
                assert min(after - before for before, after in itertools.pairwise(names)) > 12, section
        assert shown.run("document.querySelector('#curve-figures .plot')._fullLayout.yaxis.type") == "linear"
        shown.run("document.querySelector('nav a[href=\"#finals\"]').click()")
        shown.wait(
            "((gap) => gap >= 0 && gap < 60)(document.querySelector('#finals h2').getBoundingClientRect().top"
            " - document.querySelector('nav').getBoundingClientRect().bottom)"
        )
