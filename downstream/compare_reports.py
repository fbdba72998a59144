"""Two reports side by side: what came out of each, and in what they differ."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from downstream.names import TITLES

PASSED_OVER = frozenset({"jobs", "device", "arms", "seeds", "weights_dir"})
"""Settings that don't change what is compared, or stand in the tables themselves, or whose effect
does: what trainings started from."""


MEASURED_BY = {"localisation": ("localisation_px",), "classification": ("with_good",)}
"""Settings by which a metric is of other pixels, or of other classes."""


@dataclass(frozen=True)
class Line:
    """An arm's primary metric in both reports; None where one hasn't got it.

    Attributes:
        task, arm: what was trained, on what.
        shots: real defect images in its training set, in A and in B.
        values: mean over the seeds, in A and in B.
        gains: difference to the baseline with its interval, in A and in B.
    """

    task: str
    arm: str
    shots: tuple[int | None, int | None]
    values: tuple[float | None, float | None]
    gains: tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]


@dataclass(frozen=True)
class Compared:
    """Two reports, A and B.

    Attributes:
        same_test: whether both were tested on the same images and labels, by their hash; where
            not, their numbers can't be set against each other.
        lines: every arm of either, task by task.
        settings: those that differ, with both values; versions and counts of seeds too.
        otherwise: tasks whose metrics are of something else by a setting (`MEASURED_BY`).
        shots_differ: whether the arms that both have were trained on other numbers of real defects.
    """

    same_test: bool
    lines: tuple[Line, ...]
    settings: Mapping[str, tuple[Any, Any]]
    shots_differ: bool
    otherwise: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """What must be known before the numbers are read."""
        if self.same_test and self.otherwise:
            return (
                "Both were tested on the same images and labels, but measured otherwise in "
                f"{' and '.join(self.otherwise)}, so compare the gains within each there and not "
                "the values across them."
            )
        if self.same_test:
            return "Both were tested on the same images and labels, so their numbers compare."
        return (
            "They were tested on different images or labels, so compare the gains within each and "
            "not the values across them."
        )


def compare_reports(a: Mapping[str, Any], b: Mapping[str, Any]) -> Compared:
    """Set two reports (see report.py) side by side."""
    lines = [
        Line(
            task,
            arm,
            (_shots(a, arm), _shots(b, arm)),
            (_value(a, task, arm), _value(b, task, arm)),
            (_gain(a, task, arm), _gain(b, task, arm)),
        )
        for task in dict.fromkeys([*a["tasks"], *b["tasks"]])
        for arm in dict.fromkeys([*a["arms"], *b["arms"]])
    ]
    known = [line for line in lines if line.values != (None, None)]
    return Compared(
        a["hashes"]["test"] == b["hashes"]["test"],
        tuple(known),
        _differing(a, b),
        any(None not in line.shots and line.shots[0] != line.shots[1] for line in known),
        tuple(
            task
            for task in dict.fromkeys(line.task for line in known if None not in line.values)
            if any(
                a["settings"].get(name) != b["settings"].get(name)
                for name in MEASURED_BY.get(task, ())
            )
        ),
    )


def title(report: Mapping[str, Any], task: str) -> str:
    """The name of a task's primary metric."""
    return TITLES[report["primary"][task]]


def _shots(report: Mapping[str, Any], arm: str) -> int | None:
    counts = report["counts"]["train"].get(arm)
    if counts is None:
        return None
    clean = counts["clean"]  # all of them real
    return int(counts["real"] - clean)


def _value(report: Mapping[str, Any], task: str, arm: str) -> float | None:
    found = report["results"].get(task, {}).get(arm)
    return None if found is None else found["metrics"][report["primary"][task]]["mean"]


def _gain(report: Mapping[str, Any], task: str, arm: str) -> Mapping[str, Any] | None:
    gaps = report["differences"].get(task, {}).get(arm, {})
    found: Mapping[str, Any] | None = gaps.get(report["primary"].get(task))
    return found


def _differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    found = {}
    for section in ("settings", "versions"):
        for name in dict.fromkeys([*a[section], *b[section]]):
            both = (a[section].get(name), b[section].get(name))
            if both[0] != both[1] and name not in PASSED_OVER:
                found[name] = both
    if a["seeds"] != b["seeds"]:
        found["seeds"] = (len(a["seeds"]), len(b["seeds"]))
    for task in [task for task in a["tasks"] if task in b["tasks"]]:
        starts = (_starts(a, task), _starts(b, task))
        if starts[0] != starts[1]:
            found[f"{task} started from"] = starts
    for split in ("val", "test"):
        both = tuple(report["counts"][split]["images"] for report in (a, b))
        if both[0] != both[1]:
            found[f"{split} images"] = (both[0], both[1])
    return found


def _starts(report: Mapping[str, Any], task: str) -> str:
    """What a task's finished trainings started from, as their results say."""
    known = {run.get("weights") for run in report.get("runs", ()) if run["task"] == task}
    return ", ".join(sorted(str(each) for each in known if each))
