"""The report as one HTML file: no script, nothing fetched, and it prints."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from downstream.files import write_text
from downstream.names import METRICS, PER_CLASS_TITLES, TITLES
from downstream.pictures import example_picture, file_as_data
from downstream.plots import (
    arms_plot,
    confusion_plot,
    forest_plot,
    loss_plot,
    names_as_they_are,
    with_caption,
)
from downstream.plots_gain import gain_figures
from downstream.templating import page_environment

MARKS = {"helps": "▲", "hurts": "▼", "no evidence": "○", "no verdict": "–"}
"""Beside the word, so that a verdict is told by shape and not by colour alone."""

GROUPS = (
    ("found_only", "Found only with synthetic images"),
    ("lost", "Lost with synthetic images"),
    ("neither", "Missed either way"),
)


@names_as_they_are()
def render_html(report: Mapping[str, Any], path: Path) -> None:
    """Write `report` (see report.py) as a self-contained page, whole or not at all.

    Photographs of the export and maps of the runs beside `path` are taken in, where they are there.
    """
    environment = page_environment()
    page = environment.get_template("report.html.j2").render(
        report=report,
        figures={task: _figures(report, task) for task in report["tasks"]},
        examples={task: _examples(report, task, path.parent) for task in report["tasks"]},
        sheets=_sheets(report),
        metrics=METRICS,
        titles=TITLES,
        kinds=PER_CLASS_TITLES,
        marks=MARKS,
        percent=f"{report['settings']['confidence'] * 100:g} %",
    )
    write_text(path, page)


def _figures(report: Mapping[str, Any], task: str) -> list[tuple[str, Markup]]:
    """(caption, SVG) of what can be drawn of a task; nothing where no run finished."""
    if not report["results"].get(task):
        return []
    primary = report["primary"][task]
    title = TITLES[primary]
    figures = [(f"{title} of each arm", arms_plot(report, task, primary, title))]
    if report["differences"].get(task):
        figures.append(("Differences, class by class", forest_plot(report, task, primary, title)))
    figures += gain_figures(report, task, primary, title)
    if task == "classification":
        figures.append(("Confusion, rows are the truth", confusion_plot(report, task)))
    figures.append(("Training", loss_plot(report, task)))
    return [(caption, with_caption(svg, caption)) for caption, svg in figures]


def _examples(report: Mapping[str, Any], task: str, out: Path) -> dict[str, Any] | None:
    """The single defects of misses.py with their pictures; None where there are none."""
    seen = report["misses"].get(task)
    if seen is None:
        return None
    export = Path(report["export"])
    groups = [
        (title, [_example(seen, task, each, export, out) for each in seen[kind]])
        for kind, title in GROUPS
    ]
    return {
        **{name: seen[name] for name in ("base", "arm", "counts")},
        "what": "defects" if task == "detection" else "images with a defect",
        "groups": [(title, [each for each in group if each]) for title, group in groups],
    }


def _example(
    seen: Mapping[str, Any], task: str, each: Mapping[str, Any], export: Path, out: Path
) -> dict[str, Any] | None:
    sides: list[dict[str, Any]] = []
    for side in ("base", "arm"):
        said = each[side]
        picture = example_picture(export, out, each, said)
        if picture is None:
            return None
        text = (
            f"pixel AP {said['found']:.2f} on it"
            if task == "localisation"
            else f"found by {said['found']:.0%} of the seeds"
        )
        if task == "classification":
            text = f"{said['guess']} {said['share']:.2f}; right in {said['found']:.0%} of the seeds"
        if sides and sides[0]["picture"] == picture:
            picture = None  # a classifier draws nothing, so once is enough
        sides.append({"arm": seen[side], "picture": picture, "text": text})
    return {"class": each["class"], "id": each["id"], "sides": sides}


def _sheets(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    found = [(title, file_as_data(Path(path))) for title, path in report["extras"]["sheets"]]
    return [(title, picture) for title, picture in found if picture is not None]
