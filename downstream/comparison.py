"""Every arm against the baseline: the differences of a report, with intervals and verdicts."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from downstream.closure import gap_closure
from downstream.config import ExperimentConfig
from downstream.dataset import Export, Split
from downstream.localisation import localisation_samples
from downstream.names import is_synthetic
from downstream.power import power_note
from downstream.runs import Run, read_predictions
from downstream.statistics import (
    Difference,
    classification_samples,
    corrected_verdict,
    detection_samples,
    difference,
    draw,
    holm,
    over_seeds,
)

Samples = dict[str, np.ndarray]


class Measured:
    """The metrics of one task's runs on every resample of a split's images.

    Args:
        export: what was trained and measured on.
        config: of the resampling.
        task: whose runs count.
        runs: those that are done, of any task.
        results: by key, what those runs wrote.
        split: `test` for a verdict, `val` for a choice.
    """

    def __init__(
        self,
        export: Export,
        config: ExperimentConfig,
        task: str,
        runs: Sequence[Run],
        results: Mapping[str, dict[str, Any]],
        split: Split = "test",
    ) -> None:
        self.export, self.config, self.results, self.split = export, config, results, split
        self.by_arm: dict[str, dict[int, Run]] = {}
        for run in runs:
            if run.task == task:
                self.by_arm.setdefault(run.arm, {})[run.seed] = run
        self._known: dict[str, Samples] = {}

    def seeds(self, *arms: str) -> list[int]:
        """The seeds that all of these arms have."""
        return sorted(set.intersection(*(set(self.by_arm.get(arm, ())) for arm in arms)))

    def labels(self, arm: str) -> list[str]:
        """Class names in the order of `per_class`."""
        first = next(iter(self.by_arm[arm].values()))
        return list(self.results[first.key]["labels"])

    def stacked(self, arm: str, seeds: Sequence[int]) -> Samples:
        """By metric (S, 1 + B) or (S, 1 + B, classes); first the split as it is, then resamples."""
        each = [self._of(self.by_arm[arm][seed]) for seed in seeds]
        return {name: np.stack([samples[name] for samples in each]) for name in each[0]}

    def rows(self, seeds: int) -> np.ndarray:
        """(B, S) int: which of the seeds each resample draws, the same for all arms."""
        config = self.config
        return draw([""], seeds, config.bootstrap_samples, config.bootstrap_seed + 1).seeds

    def _of(self, run: Run) -> Samples:
        if run.key not in self._known:
            self._known[run.key] = _samples(
                self.export, self.config, run, self.results[run.key], self.split
            )
        return self._known[run.key]


def compare(
    export: Export,
    config: ExperimentConfig,
    task: str,
    runs: Sequence[Run],
    results: Mapping[str, dict[str, Any]],
    baseline: str | None,
    split: Split = "test",
) -> dict[str, Any]:
    """Paired differences of every arm to `baseline` on one split, for one task.

    Args:
        runs: those that are done, of any task; arms are paired by the seeds that both have.
        results: by key, what those runs wrote.
        baseline: any arm; None, or one that no run is of, compares nothing.
        split: `test` for a verdict, `val` for a choice.

    Returns:
        By arm, by metric: `difference`, `low`, `high`, `p`, `verdict`; and `per_class`. See
        report.py. Empty without a baseline.
    """
    return differences(Measured(export, config, task, runs, results, split), baseline)


def differences(measured: Measured, baseline: str | None) -> dict[str, Any]:
    """As `compare`, of runs that are measured already."""
    if baseline is None or baseline not in measured.by_arm:
        return {}
    found = {}
    for arm in measured.by_arm:
        if arm != baseline and (seeds := measured.seeds(arm, baseline)):
            ours, theirs = measured.stacked(arm, seeds), measured.stacked(baseline, seeds)
            found[arm] = _one(measured, ours, theirs, measured.labels(arm), len(seeds))
    return found


def correct_over_arms(
    found: Mapping[str, Mapping[str, Any]], primary: Mapping[str, str], confidence: float
) -> None:
    """Holm's correction of what decides, over the synthetic arms of all tasks: each gets `p_holm`,
    and a verdict that does not outlast it becomes `no evidence`.

    Args:
        found: by task, what `differences` gave; changed in place.
        primary: by task, the metric that decides.
        confidence: of the verdicts.
    """
    family = {
        f"{task} {arm}": gaps[primary[task]]
        for task, arms in found.items()
        for arm, gaps in arms.items()
        if is_synthetic(arm) and primary[task] in gaps
    }
    adjusted = holm({name: gap["p"] for name, gap in family.items()})
    for name, gap in family.items():
        gap["p_holm"] = adjusted[name]
        gap["verdict"] = corrected_verdict(gap["verdict"], adjusted[name], confidence)


def _one(
    measured: Measured, ours: Samples, theirs: Samples, labels: list[str], seeds: int
) -> dict[str, Any]:
    rows, confidence = measured.rows(seeds), measured.config.confidence
    gaps: dict[str, Any] = {}
    classes: dict[str, Difference] = {}
    for name, arm in ours.items():
        per_seed = arm[:, 0] - theirs[name][:, 0]
        drawn, base = over_seeds(arm[:, 1:], rows), over_seeds(theirs[name][:, 1:], rows)
        if name != "per_class":
            gap = difference(drawn, base, per_seed, confidence)
            if gap is not None:
                gaps[name] = _as_dict(gap, gap.verdict)
            continue
        for k, label in enumerate(labels):
            gap = difference(drawn[:, k], base[:, k], per_seed[:, k], confidence)
            if gap is not None:
                classes[label] = gap
    adjusted = holm({label: gap.p for label, gap in classes.items()})
    gaps["per_class"] = {
        label: {
            **_as_dict(gap, corrected_verdict(gap.verdict, adjusted[label], confidence)),
            "p_holm": adjusted[label],
        }
        for label, gap in classes.items()
    }
    return gaps


def intervals(measured: Measured) -> dict[str, dict[str, tuple[float, float]]]:
    """By arm, by metric: the interval of the arm's own mean over the seeds."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for arm in measured.by_arm:
        seeds = measured.seeds(arm)
        rows, found[arm] = measured.rows(len(seeds)), {}
        for name, values in measured.stacked(arm, seeds).items():
            if name == "per_class":
                continue
            drawn = over_seeds(values[:, 1:], rows)
            own = difference(drawn, np.zeros(len(drawn)), values[:, 0], measured.config.confidence)
            if own is not None:  # Student's knows nothing of the bounds of a metric
                found[arm][name] = (max(0.0, own.low), min(1.0, own.high))
    return found


def closures(measured: Measured, metric: str, real: str, full: str) -> dict[str, Any]:
    """By arm, the share of the gap between `real` and `full` that it closes; see closure.py."""
    found = {}
    for arm in measured.by_arm:
        seeds = measured.seeds(arm, real, full)
        if arm in (real, full) or full not in measured.by_arm or not seeds:
            continue
        rows, confidence = measured.rows(len(seeds)), measured.config.confidence
        base, ours, best = (measured.stacked(name, seeds)[metric] for name in (real, arm, full))
        drawn = {
            name: over_seeds((values - base)[:, 1:], rows)
            for name, values in (("arm", ours), ("full", best))
        }
        ours, best = (ours - base)[:, 0], (best - base)[:, 0]
        gap = difference(drawn["full"], np.zeros(len(rows)), best, confidence)
        found[arm] = asdict(gap_closure(drawn["arm"], drawn["full"], ours, best, gap, confidence))
    return found


def seed_power(
    measured: Measured, metric: str, baseline: str, comparisons: int
) -> dict[str, Any] | None:
    """What this experiment can show at all, of so many comparisons that are corrected for; see
    power.py. None for one seed, or one arm.

    The spread from seed to seed and the error of the images are those of all arms' differences to
    the baseline, as a root mean square.
    """
    spreads, errors = [], []
    for arm in measured.by_arm:
        seeds = measured.seeds(arm, baseline) if baseline in measured.by_arm else []
        if arm == baseline or len(seeds) < 2:
            continue
        gaps = measured.stacked(arm, seeds)[metric] - measured.stacked(baseline, seeds)[metric]
        spreads.append(np.std(gaps[:, 0], ddof=1))
        errors.append(np.nanstd(gaps[:, 1:].mean(axis=0), ddof=1))
    if not spreads or np.isnan([*spreads, *errors]).any():
        return None
    spread, images = (float(np.sqrt(np.mean(np.square(each)))) for each in (spreads, errors))
    return power_note(spread, images, measured.config.confidence, comparisons)


def _samples(
    export: Export, config: ExperimentConfig, run: Run, result: Mapping[str, Any], split: Split
) -> Samples:
    """Metrics of one run on a split as it is (first row) and on every resample of its images."""
    rows = read_predictions(run, split)
    # a classifier without `good` was measured on no clean image
    by_id = {item.id: item for item in export.items(split)}
    items = [by_id[row["id"]] for row in rows]
    groups = [item.group or item.id for item in items]
    drawn = draw(groups, 1, config.bootstrap_samples, config.bootstrap_seed).images
    images = np.concatenate([np.ones((1, len(rows)), dtype=int), drawn])
    n = len(result["labels"])
    if run.task == "detection":
        boxes, threshold = [item.boxes for item in items], result["threshold"]
        return detection_samples(rows, boxes, n, images, threshold)
    if run.task == "localisation":
        return localisation_samples(rows, result["labels"], images)
    guesses = [int(np.argmax(row["probabilities"])) for row in rows]
    return classification_samples([row["target"] for row in rows], guesses, n, images)


def _as_dict(gap: Difference, verdict: str) -> dict[str, Any]:
    return {
        "difference": gap.value,
        "low": gap.low,
        "high": gap.high,
        "p": gap.p,
        "verdict": verdict,
    }
