"""The report as one HTML file: no script, nothing fetched, and it prints."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from downstream.files import write_text
from downstream.names import METRICS, TITLES
from downstream.plots import arms_plot, confusion_plot, forest_plot, loss_plot

MARKS = {"helps": "▲", "hurts": "▼", "no evidence": "○"}
"""Beside the word, so that a verdict is told by shape and not by colour alone."""


def render_html(report: Mapping[str, Any], path: Path) -> None:
    """Write `report` (see report.py) as a self-contained page, whole or not at all."""
    environment = Environment(
        loader=PackageLoader("downstream", "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = lambda v: "–" if v is None else f"{v:.3f}"
    environment.filters["signed"] = lambda v: f"{v:+.3f}"
    page = environment.get_template("report.html.j2").render(
        report=report,
        figures={task: _figures(report, task) for task in report["tasks"]},
        metrics=METRICS,
        titles=TITLES,
        marks=MARKS,
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
    figures.append(("Training", loss_plot(report, task)))
    if task == "classification":
        figures.append(("Confusion, rows are the truth", confusion_plot(report, task)))
    return [(caption, Markup(svg)) for caption, svg in figures]
