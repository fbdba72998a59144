"""A report's results as a table for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from downstream.names import METRICS, PER_CLASS_TITLES, TITLES
from downstream.verdict import signed


def format_table(report: Mapping[str, Any]) -> str:
    """The results as markdown that also reads well in a terminal."""
    parts = [str(report["verdict"]), ""]
    for task in report["tasks"]:
        arms = report["results"].get(task, {})
        if not arms:
            parts += [f"**{task}**: no run finished.", ""]
            continue
        names = METRICS[task]
        primary = report["primary"][task]
        head = ["arm", "real", "synthetic", *(TITLES[m] for m in names)]
        head += [f"{TITLES[primary]} against real", "verdict"]
        order = [arm for arm in report["arms"] if arm in arms]
        rows = [_table_row(report, task, arm, names, primary) for arm in order]
        seeds = len(report["seeds"])
        parts += [f"**{task}** on test, mean of {seeds} seed{'s' * (seeds != 1)}", ""]
        parts += [markdown(head, rows), ""]
        kind = PER_CLASS_TITLES[task]
        labels = arms[order[0]]["labels"]
        rows = [[arm, *(number(arms[arm]["per_class"][c]) for c in labels)] for arm in order]
        parts += [markdown([f"{kind} by class", *labels], rows), ""]
        told = [f"- {sentence}" for sentence in report["findings"].get(task, [])]
        parts += [*told, ""] if told else []
    if report["notes"]:
        parts += [*(f"- {note}" for note in report["notes"]), ""]
    return "\n".join(parts).rstrip() + "\n"


def _table_row(
    report: Mapping[str, Any], task: str, arm: str, names: Sequence[str], primary: str
) -> list[str]:
    counts, each = report["counts"]["train"][arm], report["results"][task][arm]
    row = [arm, str(counts["real"]), str(counts["synthetic"])]
    row += [number(each["metrics"][name]["mean"]) for name in names]
    gap = report["differences"].get(task, {}).get(arm, {}).get(primary)
    return [*row, *((signed(gap), gap["verdict"]) if gap else ("", ""))]


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns also stand under one another as plain text."""
    widths = [max(len(row[k]) for row in [head, *rows]) for k in range(len(head))]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in lines
    )


def number(value: float | None) -> str:
    """A metric with three decimals, or that there is none."""
    return "none" if value is None else f"{value:.3f}"
