"""Every arm against the baseline: the differences of a report, with intervals and verdicts."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from downstream.config import ExperimentConfig
from downstream.dataset import Export, Split
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
    by_arm: dict[str, dict[int, Run]] = {}
    for run in runs:
        if run.task == task:
            by_arm.setdefault(run.arm, {})[run.seed] = run
    if baseline is None or baseline not in by_arm:
        return {}
    measured: dict[str, Samples] = {}
    found: dict[str, Any] = {}
    for arm, own in by_arm.items():
        seeds = sorted(set(own) & set(by_arm[baseline]))
        if arm == baseline or not seeds:
            continue
        for run in [own[s] for s in seeds] + [by_arm[baseline][s] for s in seeds]:
            if run.key not in measured:
                measured[run.key] = _samples(export, config, run, results[run.key], split)
        found[arm] = _one(
            [measured[own[s].key] for s in seeds],
            [measured[by_arm[baseline][s].key] for s in seeds],
            results[own[seeds[0]].key]["labels"],
            config,
        )
    return found


def _one(
    arm: list[Samples], base: list[Samples], labels: list[str], config: ExperimentConfig
) -> dict[str, Any]:
    rows = draw(1, len(arm), config.bootstrap_samples, config.bootstrap_seed + 1).seeds
    gaps: dict[str, Any] = {}
    classes: dict[str, Difference] = {}
    for name in arm[0]:
        ours, theirs = (np.stack([each[name] for each in side]) for side in (arm, base))
        point = np.atleast_1d((ours[:, 0] - theirs[:, 0]).mean(axis=0))
        ours, theirs = over_seeds(ours[:, 1:], rows), over_seeds(theirs[:, 1:], rows)
        if name != "per_class":
            gap = difference(ours, theirs, float(point[0]), config.confidence)
            if gap is not None:
                gaps[name] = _as_dict(gap, gap.verdict)
            continue
        for k, label in enumerate(labels):
            gap = difference(ours[:, k], theirs[:, k], float(point[k]), config.confidence)
            if gap is not None:
                classes[label] = gap
    adjusted = holm({label: gap.p for label, gap in classes.items()})
    gaps["per_class"] = {
        label: {
            **_as_dict(gap, corrected_verdict(gap, adjusted[label], config.confidence)),
            "p_holm": adjusted[label],
        }
        for label, gap in classes.items()
    }
    return gaps


def _samples(
    export: Export, config: ExperimentConfig, run: Run, result: Mapping[str, Any], split: Split
) -> Samples:
    """Metrics of one run on a split as it is (first row) and on every resample of its images."""
    rows = read_predictions(run, split)
    drawn = draw(len(rows), 1, config.bootstrap_samples, config.bootstrap_seed).images
    images = np.concatenate([np.ones((1, len(rows)), dtype=int), drawn])
    n = len(result["labels"])
    if run.task == "detection":
        return detection_samples(rows, [i.boxes for i in export.items(split)], n, images)
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
