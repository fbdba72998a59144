"""The page as a browser sees it: without a network, whole, on paper too."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw
from planted_runs import planted_report

from downstream.dataset import read_export
from downstream.pictures import _labelled


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, any_export: Callable[..., Path]) -> Path:
    home = tmp_path_factory.mktemp("page")
    export = read_export(any_export(home / "export", arms={"real": 0, "mixed": 6}, held_out=18))
    extras = {"sheets": [("A sheet", str(export.items("train")[0].image))]}
    planted_report(export, home / "out", {"real": 0.3, "mixed": 0.9}, extras=extras)
    return home / "out" / "report.html"


@pytest.fixture
def seen(browser: Any, page: Path) -> Iterator[tuple[Any, list[str]]]:
    """The page in a fresh profile without scripts, and every address that it asked for."""
    context = browser.new_context(
        viewport={"width": 1100, "height": 900}, java_script_enabled=False, offline=True
    )
    asked: list[str] = []
    tab = context.new_page()
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(page.as_uri())
    yield tab, asked
    context.close()


def test_nothing_is_asked_for_but_the_file(seen: tuple[Any, list[str]], page: Path) -> None:
    tab, asked = seen
    assert tab.title() == "blobs: does it help?"
    assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()]
    assert tab.locator(".headline").inner_text().endswith(".")
    assert tab.locator("svg").count() >= 8


def test_figures_have_names_and_no_two_elements_one_id(page: Path) -> None:
    text = page.read_text()
    figures = re.findall("<svg[^>]*>", text)
    assert len(figures) >= 8
    assert all('role="img" aria-label="' in figure for figure in figures)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids)) > 100
    used = set(re.findall(r'="#([^"]+)"|url\(#([^)]+)\)', text))
    assert {one or other for one, other in used} <= set(ids)
    assert '<th scope="row">mixed' in text


def test_names_with_dollars_are_names_and_no_formulas(
    any_export: Callable[..., Path], tmp_path: Path
) -> None:
    folder = any_export(tmp_path / "export")
    for path in (folder / "export.json", folder / "manifest.jsonl"):
        path.write_text(path.read_text().replace('"dot"', '"$a_$"'))
    planted_report(read_export(folder), tmp_path / "out", {"real": 0.3, "mixed": 0.9})
    assert ">$a_$</text>" in (tmp_path / "out" / "report.html").read_text()


def test_boxes_that_end_before_they_begin_are_not_drawn() -> None:
    view = Image.new("RGB", (60, 60))
    _labelled(ImageDraw.Draw(view), (40.0, 40.0, 20.0, 20.0), "dot 0.50", view.size)
    assert view.getbbox() is None


def test_everything_fits_and_every_picture_is_there(
    browser: Any, page: Path, seen: tuple[Any, list[str]]
) -> None:
    tab, _ = seen
    boxes = [each.bounding_box() for each in tab.locator("img").all()]
    assert len(boxes) > 4 and all(box["width"] > 20 and box["height"] > 20 for box in boxes)
    for width in (1100, 700):
        tab.set_viewport_size({"width": width, "height": 900})
        assert tab.locator("body").bounding_box()["width"] <= width
    collapsed = tab.get_by_text("SHA-256 of test")
    assert not collapsed.is_visible()
    tab.get_by_text("Settings, hashes, versions").click()  # no script is needed for that
    assert collapsed.is_visible()


def test_it_prints_with_what_is_folded_away(seen: tuple[Any, list[str]], tmp_path: Path) -> None:
    tab, _ = seen
    tab.emulate_media(media="print")
    assert tab.get_by_text("SHA-256 of test").is_visible()
    tab.pdf(path=str(tmp_path / "page.pdf"), format="A4")
    written = (tmp_path / "page.pdf").read_bytes()
    assert written.startswith(b"%PDF") and len(written) > 50_000
