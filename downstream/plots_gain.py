"""Figures that show what is gained: over the ratio, over the number of real images, over recall."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from downstream.matching import RECALLS
from downstream.names import is_synthetic
from downstream.plots import WIDTH_IN, new_figure, style, to_svg


def ratio_of(counts: Mapping[str, Any]) -> float:
    """The share of synthetic images among the defect images of a training set."""
    defects = counts["images"] - counts["clean"]
    return float(counts["synthetic"]) / defects if defects else 0.0


def family(arm: str) -> str:
    """What an arm adds, without the ratio: `mixed@0.8` is of the family of `mixed`."""
    return arm.rpartition("@")[0] or arm


def ratio_plot(report: Mapping[str, Any], task: str, metric: str, title: str) -> str | None:
    """Difference to the baseline over the ratio, a line for each generator.

    None below two ratios.
    """
    gaps = report["differences"].get(task, {})
    points: dict[str, list[tuple[float, Mapping[str, Any]]]] = {}
    for arm in report["arms"]:
        if is_synthetic(arm) and metric in gaps.get(arm, {}):
            ratio = ratio_of(report["counts"]["train"][arm])
            points.setdefault(family(arm), []).append((ratio, gaps[arm][metric]))
    ratios = sorted({round(ratio, 2) for own in points.values() for ratio, _ in own})
    if len(ratios) < 2:
        return None
    figure, axes = new_figure(2.8)
    for k, (name, own) in enumerate(points.items()):
        colour, marker = style(k + 1)
        own.sort(key=lambda point: point[0])
        # side by side, where several generators have one ratio
        xs = np.array([ratio for ratio, _ in own]) + 0.006 * (k - (len(points) - 1) / 2)
        ys = np.array([gap["difference"] for _, gap in own])
        low, high = (np.array([gap[side] for _, gap in own]) for side in ("low", "high"))
        axes.errorbar(
            xs, ys, yerr=(ys - low, high - ys), color=colour, marker=marker, ms=6, lw=1.2,
            capsize=3, label=name,
        )  # fmt: skip
    axes.axhline(0, color="#555555", lw=0.9, ls="--")
    axes.set_xlabel("ratio: share of synthetic among the defect images")
    axes.set_ylabel(f"{title}, difference to {report['baseline']}")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8)
    return to_svg(figure, f"ratio-{task}")


def shots_plot(report: Mapping[str, Any], task: str, metric: str, title: str) -> str | None:
    """The metric over the number of real defect images, and the arms with synthetic ones as levels.

    Where a level meets the curve stands how many real images it is worth. None below two numbers.
    """
    found = report["results"].get(task, {})
    real = []
    for arm in report["arms"]:
        if arm in found and not is_synthetic(arm):
            counts = report["counts"]["train"][arm]
            real.append((counts["real"] - counts["clean"], found[arm]["metrics"][metric], arm))
    real.sort(key=lambda point: point[0])
    if len({number for number, _, _ in real}) < 2:
        return None
    figure, axes = new_figure(2.8)
    colour, marker = style(0)
    xs = np.array([number for number, _, _ in real])
    ys = np.array([value["mean"] for _, value, _ in real])
    low, high = (
        np.array([value["mean"] if value.get(end) is None else value[end] for _, value, _ in real])
        for end in _ENDS
    )
    axes.errorbar(
        xs, ys, yerr=(np.maximum(ys - low, 0), np.maximum(high - ys, 0)), color=colour,
        marker=marker, ms=5, lw=1.2, capsize=3, label="real images alone",
    )  # fmt: skip
    for number, value, arm in real:
        axes.annotate(
            arm, (number, value["mean"]), xytext=(5, -11), textcoords="offset points", fontsize=7
        )
    levels = [arm for arm in report["arms"] if arm in found and is_synthetic(arm)]
    for k, arm in enumerate(levels):
        colour, marker = style(k + 1)
        level = found[arm]["metrics"][metric]["mean"]
        axes.plot(
            [xs.min(), xs.max()], [level, level], color=colour, lw=1.1, ls="--", marker=marker,
            ms=5, label=arm,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xticks(sorted(set(xs.tolist())), [str(x) for x in sorted(set(xs.tolist()))])
    axes.minorticks_off()
    axes.set_xlabel("real defect images in the training set")
    axes.set_ylabel(f"{title} on test")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8)
    return to_svg(figure, f"shots-{task}")


_ENDS = ("low", "high")


def curves_plot(report: Mapping[str, Any], task: str) -> str | None:
    """Precision over recall, a panel for each class, a line for each arm."""
    curves = report["curves"].get(task, {})
    labels = list(dict.fromkeys(label for own in curves.values() for label in own))
    arms = [arm for arm in report["arms"] if curves.get(arm)]
    if not labels:
        return None
    columns = min(3, len(labels))
    lines = -(-len(labels) // columns)
    figure = Figure(figsize=(WIDTH_IN, 0.7 + 2.1 * lines), layout="constrained")
    for k, label in enumerate(labels):
        axes = figure.add_subplot(lines, columns, k + 1)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=7)
        for arm in arms:
            if label not in curves[arm]:
                continue
            colour, marker = style(report["arms"].index(arm))
            axes.plot(
                RECALLS, curves[arm][label], color=colour, lw=1.2, marker=marker, ms=3.5,
                markevery=(4 * report["arms"].index(arm) % 20, 20), label=arm if not k else None,
            )  # fmt: skip
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        axes.set_title(label, fontsize=9)
        axes.grid(color="#e5e5e5", lw=0.5)
    figure.supxlabel("recall", fontsize=8)
    figure.supylabel("precision", fontsize=8)
    figure.legend(loc="outside upper center", ncols=min(6, len(arms)), frameon=False, fontsize=8)
    return to_svg(figure, f"curves-{task}")


def gain_figures(
    report: Mapping[str, Any], task: str, metric: str, title: str
) -> Sequence[tuple[str, str]]:
    """(caption, SVG) of those that can be drawn of a task."""
    drawn = (
        ("Gain over the ratio", ratio_plot(report, task, metric, title)),
        ("How many real images is it worth?", shots_plot(report, task, metric, title)),
        ("Precision over recall on test, class by class", curves_plot(report, task)),
    )
    return [(caption, svg) for caption, svg in drawn if svg is not None]
