"""Precision over recall, from the predictions that a run kept."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.metrics import precision_recall_curve

from downstream.dataset import GOOD, Export
from downstream.localisation import read_counts
from downstream.matching import RECALLS, ClassMatches, match
from downstream.runs import Run, read_predictions


def precision_at_recalls(
    export: Export, task: str, runs: Sequence[Run], labels: Sequence[str]
) -> dict[str, list[float]]:
    """Precision on test at 101 recalls, as COCO interpolates it, mean over the seeds of an arm.

    Detection: boxes at IoU 0.5. Classification: each class against all others, by its probability.
    Localisation: pixels of the images of a class and of all good ones.

    Args:
        export: what was tested on.
        task: what was trained.
        runs: of one arm, one a seed, all done.
        labels: class names in the order of the model's outputs.

    Returns:
        By class (101,) values in [0, 1], rounded; without the classes that test doesn't have.
    """
    by_class: dict[str, list[np.ndarray]] = {}
    for run in runs:
        for label, curve in _curves(export, task, run, labels).items():
            by_class.setdefault(label, []).append(curve)
    return {
        label: [round(float(v), 4) for v in np.mean(curves, axis=0)]
        for label, curves in by_class.items()
    }


def _curves(export: Export, task: str, run: Run, labels: Sequence[str]) -> dict[str, np.ndarray]:
    rows = read_predictions(run, "test")
    if task == "detection":
        matches = match(rows, [item.boxes for item in export.items("test")], len(labels))
        pairs = zip(labels, matches, strict=True)
        return {label: _of_boxes(each) for label, each in pairs if each.truths.any()}
    if task == "localisation":
        return _of_pixels(rows, labels)
    truth = np.array([row["target"] for row in rows])
    shares = np.array([row["probabilities"] for row in rows])
    found = {}
    for k, label in enumerate(labels):
        if label != GOOD and (truth == k).any():
            precision, recall, _ = precision_recall_curve(truth == k, shares[:, k])
            # without sklearn's last point, precision 1 at recall 0, which no threshold gives
            found[label] = _interpolated(recall[-2::-1], precision[-2::-1])
    return found


def _of_boxes(matches: ClassMatches) -> np.ndarray:
    right = np.cumsum(matches.hits[0])
    recall = right / matches.truths.sum()
    return _interpolated(recall, right / np.arange(1, len(right) + 1))


def _of_pixels(rows: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> dict[str, np.ndarray]:
    counts = read_counts(rows)
    found = {}
    for label in labels:
        own = counts.classes == label
        positives = counts.positives[own].sum(axis=0)[::-1].cumsum()
        if not own.any() or not positives[-1]:
            continue
        negatives = counts.negatives[own | (counts.classes == GOOD)].sum(axis=0)[::-1].cumsum()
        given = np.maximum(positives + negatives, 1)
        found[label] = _interpolated(positives / positives[-1], positives / given)
    return found


def _interpolated(recall: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """The best precision at each of `RECALLS` or beyond; 0 where a recall is never reached.

    Args:
        recall: (K,) rising.
        precision: (K,) at these recalls.
    """
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(recall, RECALLS, side="left")
    curve = np.zeros(len(RECALLS))
    inside = at < len(recall)
    curve[inside] = envelope[at[inside]]
    return curve
