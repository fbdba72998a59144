"""One experiment, repeated over several splits of the same photographs: what do its arms gain then?

Which few images a class one happens to have, and which parts are in test, moves a detector's score
as much as the seed of its training does, and one split tells nothing of either. Here the split is
what is repeated, each with a seed of its own, and what is judged is the mean over the splits of
what an arm has above the baseline on the same split.

Interval and p are Student's over those differences. They are about these photographs, however they
may be split. Any two splits share some of them, so for new photographs of the same line the
interval says too much; the wider one of Nadeau and Bengio stands beside it.

"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from downstream.closure import fieller
from downstream.config import BASELINE, LEAST_SEEDS
from downstream.names import FULL, PER_CLASS
from downstream.statistics import Verdict

LEAST_SPLITS = LEAST_SEEDS
"""Below this there are differences, but no verdict."""

SIDES = ("val", "test")

Rows = Mapping[tuple[str, str], Mapping[int, Mapping[str, Mapping[str, Any]]]]
"""By task and arm, then split, then side: the metrics as they stand in a run's result."""


@dataclass(frozen=True)
class Gap:
    """What an arm has above the baseline, over the splits that have both.

    Attributes:
        difference: mean.
        low, high: Student's interval, about these photographs.
        new_low, new_high: that of Nadeau and Bengio, for new ones of the same line.
        p: two-sided, of no difference; of Student's.
        by_split: each split's difference, in the order of their seeds.
    """

    difference: float
    low: float
    high: float
    new_low: float
    new_high: float
    p: float
    by_split: tuple[float, ...]

    @property
    def splits(self) -> int:
        """How many it rests on."""
        return len(self.by_split)

    def verdict(self, p: float, confidence: float) -> Verdict:
        """What it says, `p` being the corrected one."""
        if self.splits < LEAST_SPLITS:
            return "no verdict"
        if p >= 1 - confidence:
            return "no evidence"
        return "helps" if self.difference > 0 else "hurts"


@dataclass(frozen=True)
class Pair:
    """A metric of an arm beside that of the baseline, split by split."""

    task: str
    arm: str
    metric: str
    side: str
    base: tuple[float, ...]
    own: tuple[float, ...]

    def gap(self, shared: float, confidence: float = 0.95) -> Gap:
        """The arm's gain; see `student`."""
        return student(
            [a - b for a, b in zip(self.own, self.base, strict=True)], shared, confidence
        )


def student(gaps: Sequence[float], shared: float, confidence: float = 0.95) -> Gap:
    """The mean of paired differences, with both intervals.

    The wider one takes the mean to vary by (1/n + shared) times the differences' variance (Nadeau
    and Bengio 2003, "Inference for the Generalization Error", section 4).

    Args:
        gaps: one a split, at least one.
        shared: test images to training images.
        confidence: coverage, such as 0.95.
    """
    mean, n = float(np.mean(gaps)), len(gaps)
    each = tuple(float(gap) for gap in gaps)
    if n < 2:
        return Gap(mean, -math.inf, math.inf, -math.inf, math.inf, 1.0, each)
    if np.ptp(each) <= 1e-12:
        # a metric of few defects takes few values: that they agree says no more than their signs
        if abs(mean) <= 1e-12:
            return Gap(mean, mean, mean, mean, mean, 1.0, each)
        return Gap(mean, -math.inf, math.inf, -math.inf, math.inf, 2.0 ** (1 - n), each)
    found = stats.ttest_1samp(each, 0.0)
    half = float(found.confidence_interval(confidence).high) - mean
    wide = half * math.sqrt(1 + n * shared)
    return Gap(mean, mean - half, mean + half, mean - wide, mean + wide, float(found.pvalue), each)


def pairs(
    rows: Rows,
    baseline: str,
    value: Callable[[Mapping[str, Any], str], float | None],
    names: Callable[[str], Sequence[str]],
) -> list[Pair]:
    """Every metric of every arm but the baseline, over the splits that have both.

    Args:
        rows: the metrics.
        baseline: the arm that the others are compared with.
        value: a metric of one run's, by name; None where it has none, which leaves the split out.
        names: the metrics of a task.
    """
    found = []
    for (task, arm), own in sorted(rows.items()):
        base = rows.get((task, baseline), {})
        for metric in names(task) if arm != baseline else ():
            for side in SIDES:
                both = [
                    (value(base[split][side], metric), value(own[split][side], metric))
                    for split in sorted(own.keys() & base.keys())
                    if side in own[split] and side in base[split]
                ]
                known = [(b, o) for b, o in both if b is not None and o is not None]
                if known:
                    left, right = zip(*known, strict=True)
                    found.append(Pair(task, arm, metric, side, left, right))
    return found


def share_of_gap(
    rows: Rows, task: str, arm: str, metric: str, confidence: float = 0.95
) -> dict[str, Any]:
    """The share of the gap from `real` to `full` on test that an arm closes, over the splits that
    have all three, with Fieller's interval: `value`, `low`, `high`, `reason`, `splits`."""
    trio = [rows.get((task, name), {}) for name in (BASELINE, FULL, arm)]
    splits = sorted(set.intersection(*(set(of) for of in trio)))
    found: dict[str, Any] = {"value": None, "low": None, "high": None, "splits": len(splits)}
    if len(splits) < LEAST_SPLITS:
        return found | {"reason": f"not defined below {LEAST_SPLITS} splits"}
    real, full, own = (np.array([of[split]["test"][metric] for split in splits]) for of in trio)
    bounds = fieller(own - real, full - real, confidence)
    if bounds is None or (full - real).mean() <= 0:
        return found | {"reason": "not defined, as full is not surely above real"}
    ratio = float((own - real).mean() / (full - real).mean())
    return found | {"value": ratio, "low": bounds[0], "high": bounds[1], "reason": ""}


def rows_of(reports: Mapping[int, Mapping[str, Any]]) -> Rows:
    """The metrics in the splits' reports (see report.py), mean over each one's seeds."""
    rows: dict[tuple[str, str], dict[int, dict[str, dict[str, Any]]]] = {}
    for split, report in reports.items():
        for task, arms in report["results"].items():
            for arm, found in arms.items():
                sides = {"val": found["val"], "test": found["metrics"]}
                rows.setdefault((task, arm), {})[split] = {
                    side: {name: each["mean"] for name, each in own.items()}
                    for side, own in sides.items()
                }
                rows[task, arm][split]["test"][PER_CLASS[task]] = found["per_class"]
    return rows
