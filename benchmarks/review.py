"""How fast the review is on a large pool: opening it, its views, its operators.

    .venv/bin/python benchmarks/review.py [--samples 5000]

Everything is made in a temporary folder, with a database of its own. Operators are called as the
App calls them, by HTTP; the view is opened in a headless Chromium where there is one.
"""

import argparse
import json
import os
import shutil
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from build import CLASSES, Spent, _pool, _print, _records, _timed

SELECTED = 500


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=5000, help="synthetic images in the pool")
    arguments = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="augmentor-bench-"))
    os.environ["AUGMENTOR_HOME"] = str(root / "home")
    try:
        _run(root, arguments.samples)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _run(root: Path, number: int) -> None:
    from augmentor.fiftyone_io import PoolSample, connect, register_mix
    from augmentor.workflows.reporting import Silent
    from augmentor.workflows.review import open_review, prepare

    records = _records(root, max(1, number // 10))
    project = _project(root / "project", records)
    pool = project.pool("compact")
    made = _pool(pool, number, records)
    fo = connect()
    samples = [PoolSample(pool, record) for record in made]
    half = len(samples) // 2
    name = project.mixed_name
    register_mix(name, records, samples[:half], CLASSES, {}, samples[half:])
    total = len(records) + number
    print(f"{number} synthetic and {len(records)} real images\n")

    rows: list[tuple[str, int, Spent]] = []
    _, spent = _timed(lambda: prepare(name, project, Silent()))
    rows.append(("prepare views, order, colours", total, spent))
    review, spent = _timed(
        lambda: open_review(
            name, project, port=5900, address="127.0.0.1", who="bench", reporter=Silent()
        )
    )
    rows.append(("open the App (with that)", total, spent))
    try:
        _wait_for(review.url)
        rows += _browsed(review.url)
        rows += _operated(fo.load_dataset(name), review.url)
    finally:
        review.close()
    _print(rows)


def _project(folder: Path, records: list[Any]) -> Any:
    from augmentor.filters import FilterConfig
    from augmentor.records_io import save_records
    from augmentor.workflows.project import ProjectConfig, SourceConfig, save_project
    from generator.quality.rules import QualityRules

    # no embedding in the background: it would be measured with what it stands beside
    off = {name: {"enabled": False} for name in QualityRules.model_fields}
    config = ProjectConfig(
        name="bench",
        classes=CLASSES,
        source=SourceConfig(path=folder),
        filters=FilterConfig(quality=QualityRules.model_validate(off)),
    )
    save_records(folder / "data", records)
    return save_project(folder, config)


def _wait_for(url: str) -> None:
    """Until the App's server answers."""
    base = url.split("/datasets/")[0]
    for _ in range(300):
        try:
            urllib.request.urlopen(f"{base}/fiftyone", timeout=5).read()
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"{base} does not answer")


def _browsed(url: str) -> list[tuple[str, int, Spent]]:
    """The view, from the address to the first drawn image; the second time with the App's scripts
    in the browser's cache; and another one chosen in the App that is open."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        print("no Chromium: the view is not measured")
        return []
    from playwright.sync_api import sync_playwright

    rows = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1500, "height": 950})
        # fonts from elsewhere, which the App asks for, would be waited for
        page.route(lambda address: "127.0.0.1" not in address, lambda route: route.abort())
        for view, label in (("to-review", "first tab"), ("class-crack", "next view")):

            def opened(view: str = view) -> None:
                page.goto(f"{url}?view={view}")
                page.wait_for_selector(
                    "[data-cy=looker] canvas[canvas-loaded=true]", timeout=120_000
                )

            _, spent = _timed(opened)
            rows.append((f"view `{view}`, {label}", 0, spent))
        _, spent = _timed(lambda: _switched(page, f"class {CLASSES[-1]}"))
        rows.append(("another view, chosen in the App", 0, spent))
        browser.close()
    return rows


def _switched(page: Any, view: str) -> None:
    """As a person goes on to another view: in the App's list of them, until it is drawn."""
    page.evaluate("document.querySelectorAll('canvas').forEach(c => c.dataset.before = 1)")
    page.locator("[data-cy=saved-views-selection]").dispatch_event("click")
    page.locator("[data-cy=saved-views-selection-view]").get_by_text(view).click()
    page.wait_for_url(f"**view={view.replace(' ', '-')}*")
    drawn = "[data-cy=looker] canvas[canvas-loaded=true]:not([data-before])"
    page.wait_for_selector(drawn, timeout=60_000)


def _operated(dataset: Any, url: str) -> list[tuple[str, int, Spent]]:
    """Operators on many selected samples, the panel, and the queueing of requests."""
    base = url.split("/datasets/")[0]
    ids = dataset.match_tags("synthetic").limit(SELECTED).values("id")

    def call(operator: str, **params: Any) -> dict[str, Any]:
        body = {
            "operator_uri": f"@augmentor/review/{operator}",
            "dataset_name": dataset.name,
            "selected": ids,
            "params": params,
        }
        request = urllib.request.Request(
            f"{base}/operators/execute",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            found: dict[str, Any] = json.load(answer)
        if found.get("error"):
            raise SystemExit(found["error"])
        return found["result"] or {}

    rows = []
    for operator, params in (
        ("accept", {}),
        ("reject", {"reason": "bench"}),
        ("undo", {}),
        ("relabel", {"class_name": CLASSES[0]}),
        ("try_again", {}),
    ):
        answer, spent = _timed(lambda o=operator, p=params: call(o, **p))
        if len(ids) not in answer.values():
            raise SystemExit(f"{operator} answered {answer}")
        rows.append((f"operator {operator}", len(ids), spent))
    _, spent = _timed(lambda: call("review_panel", __method__="on_load", panel_id="bench"))
    rows.append(("panel", 0, spent))
    return rows


if __name__ == "__main__":
    main()
