"""The panel: how many samples of each class stand where, their scores, and what is being made."""

from typing import Any

import fiftyone.operators as foo
import fiftyone.operators.types as types
import numpy as np

from augmentor.errors import AugmentorError
from augmentor.workflows import deciding

POLL_MS = 3000
BINS = 24
COLOURS = {
    "to review": "#868e96",
    "accepted": "#2f9e44",
    "rejected by hand": "#e03131",
    "rejected by filter": "#f59f00",
}
COLUMNS = {
    "class": "class",
    "in mix": "mix",
    "to review": "open",
    "accepted": "accepted",
    "rejected by hand": "by hand",
    "rejected by filter": "by rule",
}
"""Heads of the table; short, for the panel is narrow."""


class ReviewPanel(foo.Panel):
    """Counts by class and verdict, score histograms, the acceptance rate, the work going on."""

    @property
    def config(self) -> foo.PanelConfig:
        """What the App shows of the panel."""
        return foo.PanelConfig(name="review_panel", label="Review", icon="fact_check")

    def on_load(self, ctx: Any) -> None:
        """Fill the panel when it is opened."""
        self.on_tick(ctx)

    def on_tick(self, ctx: Any) -> None:
        """Bring every number up to date. All of it is sent each time: a tab that was loaded anew
        keeps the panel's state, but has lost the plots' data, and does not say so."""
        try:
            state = deciding.summary(ctx.dataset_name)
        except AugmentorError as error:
            ctx.panel.state.said = str(error)
            return
        ctx.panel.state.said = _sentences(state)
        ctx.panel.state.counts = _table(state)
        for name, values in state.overview.scores.items():
            ctx.panel.set_data(name, _histogram(values))
        ctx.panel.state.scores = sorted(state.overview.scores)

    def render(self, ctx: Any) -> types.Property:
        """Lay the panel out."""
        panel = types.Object()
        panel.md(ctx.panel.state.said or "Counting …", name="said")
        table = types.TableView()
        for key, label in COLUMNS.items():
            table.add_column(key, label=label)
        panel.list("counts", types.Object(), view=table)
        for name in ctx.panel.state.scores or ():
            panel.plot(name, layout=_layout(name), config={"displayModeBar": False})
        timer = types.TimerView(interval=POLL_MS, on_interval=self.on_tick)
        panel.view("timer", timer)
        return types.Property(panel)


def _sentences(state: deciding.Summary) -> str:
    """What stands above the table, as Markdown."""
    lines = []
    if state.judged:
        rate = f"**{state.accepted / state.judged:.0%}** of {state.judged} judged were accepted"
        if state.judged > state.recent:
            rate += f"; of the last {state.recent}, **{state.recent_accepted / state.recent:.0%}**"
        lines.append(rate)
    else:
        lines.append("Nobody judged a sample yet")
    if state.overview.new:
        lines.append(f"**{state.overview.new}** new since the last build")
    if state.overview.scored_by:
        lines.append(f"Compared with real defects by {', '.join(state.overview.scored_by)}")
    work = state.progress
    if work.task:
        lines.append(f"{work.task}: **{work.done} of {work.total}**, {work.waiting} in the queue")
    elif work.waiting:
        lines.append(f"**{work.waiting}** in the queue")
    if work.said:
        lines.append(f"Last failure: {work.said}")
    return "  \n".join(lines)


def _table(state: deciding.Summary) -> list[dict[str, Any]]:
    counts = state.overview
    rows = []
    for name, row in counts.counts.items():
        states = {str(state): number for state, number in row.items()}
        rows.append({"class": name, "in mix": counts.in_mix.get(name, 0), **states})
    return rows


def _histogram(values: dict[Any, list[float]]) -> list[dict[str, Any]]:
    """Bars of one score, stacked by state."""
    everything = np.concatenate([np.asarray(v, float) for v in values.values()] or [np.zeros(0)])
    if not everything.size:
        return []
    low, high = float(everything.min()), float(everything.max())
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    middles = ((edges[1:] + edges[:-1]) / 2).round(4).tolist()
    return [
        {
            "type": "bar",
            "name": state,
            "x": middles,
            "y": np.histogram(found, edges)[0].tolist(),
            "marker": {"color": COLOURS[state]},
        }
        for state, found in values.items()
        if found
    ]


def _layout(name: str) -> dict[str, Any]:
    return {
        "title": {"text": name.replace("_", " "), "font": {"size": 13}},
        "barmode": "stack",
        "bargap": 0.05,
        "height": 200,
        "margin": {"l": 40, "r": 10, "t": 30, "b": 30},
        "showlegend": True,
    }
