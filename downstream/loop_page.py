"""The loop's page: which round brought what on val, what val needed, and what test said at last.
One HTML file: no script, nothing fetched, and it prints."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from downstream.files import write_text
from downstream.names import TITLES
from downstream.plots import names_as_they_are, to_svg, with_caption
from downstream.templating import page_environment

ADOPTED, TRIED = "#0072B2", "#777777"
"""Okabe and Ito (2008); besides, what was adopted is filled and what was only tried is hollow."""


@names_as_they_are()
def render_loop(view: Mapping[str, Any], path: Path) -> None:
    """Write the page, whole or not at all.

    Args:
        view: `name` of the project, `state` (the content of loop/state.json), `mix` (of
            loop/mix.json, without its samples) and `report` (of the evaluation on test, or None).
        path: of the page.
    """
    environment = page_environment()
    state, report = view["state"], view["report"]
    page = environment.get_template("loop.html.j2").render(
        view=view,
        state=state,
        report=report,
        title=TITLES[state["metric"]],
        offers={o["arm"]: o for one in state["rounds"] for o in one["offers"]},
        figure=with_caption(progress_plot(state), "Gain of every trial on val, round by round")
        if any(r["trials"] for r in state["rounds"])
        else "",
    )
    write_text(path, page)


def progress_plot(state: Mapping[str, Any]) -> str:
    """Gain of every trial over the set that its round began with, round by round, as SVG."""
    rounds = [one for one in state["rounds"] if one["trials"]]
    rows = [(one, trial) for one in rounds for trial in one["trials"] if trial["value"] is not None]
    figure = Figure(figsize=(7.6, 1.1 + 0.26 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    before = None
    for row, (one, trial) in enumerate(rows):
        adopted = trial["arm"] == one["adopted"]
        colour = ADOPTED if adopted else TRIED
        if trial["difference"] is not None:
            axes.plot([trial["low"], trial["high"]], [row, row], color=colour, lw=1.4)
            fill = colour if adopted else "white"
            axes.plot(trial["difference"], row, "o", color=colour, mfc=fill, ms=6)
        if before is not None and before != one["number"]:
            axes.axhline(row - 0.5, color="#bbbbbb", lw=0.6)
        before = one["number"]
    axes.axvline(0, color="#555555", lw=0.9, ls="--")
    names = [trial["arm"] if one["number"] else f"sweep: {trial['arm']}" for one, trial in rows]
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="#dddddd", lw=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel(
        f"gain in {TITLES[state['metric']]} on val over what the round began with "
        "(filled: adopted)",
        fontsize=8,
    )
    return to_svg(figure, "loop-progress")
