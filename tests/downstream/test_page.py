"""The page as a browser sees it: without a network, whole, on paper too."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from planted_runs import planted_report

from downstream.dataset import read_export


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
