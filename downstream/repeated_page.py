"""The report over repeated splits, for the terminal and as one HTML file: no script, nothing
fetched, and it prints."""

from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from downstream.files import write_text
from downstream.names import METRICS, PER_CLASS_TITLES, TITLES
from downstream.page import MARKS
from downstream.plots import names_as_they_are, new_figure, style, to_svg, with_caption
from downstream.repeated_report import beside_sentences
from downstream.table import markdown, number
from downstream.templating import page_environment
from downstream.verdict import signed


def format_splits(report: Mapping[str, Any]) -> str:
    """The report (see repeated_report.py) as markdown that also reads well in a terminal."""
    parts = [report["headline"], "", report["verdict"], ""]
    for task in report["tasks"]:
        metric, arms = report["primary"][task], report["results"].get(task, {})
        if not arms:
            parts += [f"**{task}**: no split finished.", ""]
            continue
        head = ["arm", *(TITLES[name] for name in METRICS[task])]
        if report["differences"].get(task):
            head += [f"{TITLES[metric]} against {report['baseline']}", "by split", "verdict"]
        rows = []
        for arm in [arm for arm in report["arms"] if arm in arms]:
            row = [arm, *(number(_mean(arms[arm]["test"][name])) for name in METRICS[task])]
            gap = report["differences"].get(task, {}).get(arm, {}).get("test", {}).get(metric)
            if gap:
                row += [signed(gap), " ".join(f"{each:+.3f}" for each in gap["by_split"])]
                row.append(gap["verdict"])
            rows.append([*row, *[""] * (len(head) - len(row))])
        parts += [f"**{task}** on test, mean of {len(report['splits'])} splits", ""]
        parts += [markdown(head, rows), ""]
        if sentences := beside_sentences(report, task):
            parts += [*(f"- {sentence}" for sentence in sentences), ""]
    parts += [f"- {note}" for note in report["notes"]]
    return "\n".join(parts).rstrip() + "\n"


@names_as_they_are()
def render_splits(report: Mapping[str, Any], path: Path) -> None:
    """Write the page, whole or not at all."""
    environment = page_environment()
    environment.filters["p"] = lambda v: "< 0.001" if v < 0.001 else f"{v:.3f}"
    environment.filters["mean"] = _mean
    page = environment.get_template("splits.html.j2").render(
        report=report,
        beside={task: beside_sentences(report, task) for task in report["tasks"]},
        figures={
            task: with_caption(gaps_plot(report, task), f"{task}: differences, split by split")
            for task in report["differences"]
        },
        metrics=METRICS,
        titles=TITLES,
        kinds=PER_CLASS_TITLES,
        marks=MARKS,
        percent=f"{report['settings']['confidence'] * 100:g} %",
    )
    write_text(path, page)


def gaps_plot(report: Mapping[str, Any], task: str) -> str:
    """What each arm has above the baseline: a mark for each split, the mean with both intervals."""
    metric, found = report["primary"][task], report["differences"][task]
    arms = [arm for arm in report["arms"] if metric in found.get(arm, {}).get("test", {})]
    figure, axes = new_figure(0.9 + 0.5 * len(arms))
    for row, arm in enumerate(arms):
        colour, marker = style(report["arms"].index(arm))
        gap = found[arm]["test"][metric]
        axes.plot(
            gap["by_split"], [row - 0.2] * gap["splits"], marker, color=colour, ms=4, alpha=0.6
        )
        if gap["low"] is not None:
            axes.plot([gap["new_low"], gap["new_high"]], [row + 0.12] * 2, color=colour, lw=0.8)
            axes.plot([gap["low"], gap["high"]], [row + 0.12] * 2, color=colour, lw=2.4)
        axes.plot(gap["difference"], row + 0.12, marker, color=colour, ms=7)
        axes.annotate(
            f"{gap['difference']:+.3f}", (1.01, row), xycoords=("axes fraction", "data"), fontsize=8
        )
    axes.axvline(0, color="#555555", lw=0.9, ls="--")
    axes.set_yticks(range(len(arms)), arms)
    axes.set_ylim(len(arms) - 0.5, -0.6)
    axes.set_xlabel(
        f"{TITLES[metric]} on test against {report['baseline']}: small marks are splits; thick, "
        "these photographs; thin, new ones"
    )
    return to_svg(figure, f"splits-{task}")


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
