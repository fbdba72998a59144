"""The report's figures, as SVG that stands in the page itself. Told apart by shape and by colours
that the colour-blind can tell apart (Okabe and Ito 2008)."""

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from downstream.names import PER_CLASS_TITLES

COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = ("s", "o", "^", "D", "v", "P", "X")
WIDTH_IN = 7.6


@contextmanager
def names_as_they_are() -> Iterator[None]:
    """Within it, and in a function that it decorates, matplotlib takes nothing in a name for a
    formula, as it does else with what stands between dollars."""
    with matplotlib.rc_context({"text.parse_math": False}):
        yield


def with_caption(svg: str, caption: str) -> Markup:
    """A figure for a page, with a name for those who can't see it."""
    return Markup(svg.replace("<svg", f'<svg role="img" aria-label="{escape(caption)}"', 1))


def style(index: int) -> tuple[str, str]:
    """Colour and marker of the arm at `index`; both repeat, but not at once."""
    return COLOURS[index % len(COLOURS)], MARKERS[(index + index // len(COLOURS)) % len(MARKERS)]


def arms_plot(report: Mapping[str, Any], task: str, metric: str, title: str) -> str:
    """Every seed's value of the primary metric, arm by arm, with their mean."""
    arms = _arms(report, task)
    figure, axes = new_figure(0.9 + 0.36 * len(arms))
    for row, arm in enumerate(arms):
        colour, marker = style(report["arms"].index(arm))
        each = report["results"][task][arm]["metrics"][metric]
        axes.plot(each["per_seed"], [row] * len(each["per_seed"]), marker, color=colour, ms=6)
        axes.plot([each["mean"]] * 2, [row - 0.3, row + 0.3], color=colour, lw=2)
        axes.annotate(
            f"{each['mean']:.3f}", (1.01, row), xycoords=("axes fraction", "data"), fontsize=8
        )
    _rows(axes, arms)
    axes.set_xlim(left=0)
    axes.set_xlabel(f"{title} on test: a mark for each seed, a line for their mean")
    return to_svg(figure, f"arms-{task}")


def forest_plot(report: Mapping[str, Any], task: str, metric: str, title: str) -> str:
    """Difference of every arm to the baseline, in all and class by class, with intervals."""
    gaps = report["differences"][task]
    arms = [arm for arm in report["arms"] if arm in gaps]
    rows = ["all classes", *report["results"][task][arms[0]]["labels"]]
    figure, axes = new_figure(1.0 + len(rows) * (0.16 + 0.17 * len(arms)))
    for k, arm in enumerate(arms):
        colour, marker = style(report["arms"].index(arm))
        shift = (k - (len(arms) - 1) / 2) * 0.8 / max(1, len(arms))
        for row, label in enumerate(rows):
            each = gaps[arm].get(metric) if row == 0 else gaps[arm]["per_class"].get(label)
            if each is None:
                continue
            sure = each["verdict"] in ("helps", "hurts")
            axes.plot([each["low"], each["high"]], [row + shift] * 2, color=colour, lw=1.4)
            axes.plot(
                each["difference"], row + shift, marker, color=colour, ms=6,
                mfc=colour if sure else "white", label=arm if row == 0 else None,
            )  # fmt: skip
    axes.axvline(0, color="#555555", lw=0.9, ls="--")
    axes.axhline(0.5, color="#bbbbbb", lw=0.6)
    _rows(axes, rows)
    per_class = PER_CLASS_TITLES[task]
    axes.set_xlabel(
        f"difference to {report['baseline']}: {title}, and {per_class} of each class "
        "(filled: evidence; hollow: none)"
    )
    if len(arms) > 1:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8)
    return to_svg(figure, f"forest-{task}")


def loss_plot(report: Mapping[str, Any], task: str) -> str:
    """Training loss by step, seed by seed: has the training levelled off?"""
    figure, axes = new_figure(2.3)
    named: set[str] = set()
    for run in report["runs"]:
        if run["task"] != task or "history" not in run:
            continue
        colour, marker = style(report["arms"].index(run["arm"]))
        steps, losses = np.array(run["history"]).T
        label = None if run["arm"] in named else run["arm"]
        named.add(run["arm"])
        smooth = _smooth(losses)
        axes.plot(
            steps, smooth, color=colour, lw=1.1, alpha=0.85, marker=marker, ms=4,
            markevery=max(1, len(steps) // 6), label=label,
        )  # fmt: skip
    axes.set_xlabel("optimiser step")
    axes.set_ylabel("training loss")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8)
    return to_svg(figure, f"loss-{task}")


def confusion_plot(report: Mapping[str, Any], task: str) -> str:
    """Confusion matrices side by side, seeds added up; rows are the truth."""
    arms = _arms(report, task)
    columns = min(3, len(arms))
    lines = -(-len(arms) // columns)
    figure = Figure(figsize=(WIDTH_IN, 0.4 + 2.5 * lines), layout="constrained")
    for k, arm in enumerate(arms):
        each = report["results"][task][arm]
        matrix = np.array(each["confusion_matrix"], dtype=float)
        shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        axes = figure.add_subplot(lines, columns, k + 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), value in np.ndenumerate(matrix):
            dark = shares[row, column] > 0.55
            axes.text(
                column, row, f"{value:.0f}", ha="center", va="center", fontsize=7,
                color="white" if dark else "black",
            )  # fmt: skip
        axes.set_xticks(range(len(matrix)), each["labels"], rotation=45, ha="right", fontsize=7)
        axes.set_yticks(range(len(matrix)), each["labels"], fontsize=7)
        axes.set_title(arm, fontsize=9)
    return to_svg(figure, f"confusion-{task}")


def to_svg(figure: Figure, name: str) -> str:
    """The figure as an `<svg>` element for a page, without addresses and the same every time."""
    stream = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # several figures stand in one page
    text = re.sub(r'(\bid="|="#|url\(#)', rf"\g<1>{name}-", text)
    return re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", text)


def new_figure(height: float) -> tuple[Figure, Axes]:
    """A figure of the page's width, with one pair of axes in its style; `height` in inches."""
    figure = Figure(figsize=(WIDTH_IN, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.xaxis.label.set_fontsize(8)
    axes.yaxis.label.set_fontsize(8)
    return figure, axes


def _rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="x", color="#dddddd", lw=0.6)
    axes.set_axisbelow(True)


def _arms(report: Mapping[str, Any], task: str) -> list[str]:
    return [arm for arm in report["arms"] if arm in report["results"].get(task, {})]


def _smooth(values: np.ndarray, width: int = 5) -> np.ndarray:
    """A centred running mean that keeps the ends."""
    half = width // 2
    return np.array([values[max(0, k - half) : k + half + 1].mean() for k in range(len(values))])
