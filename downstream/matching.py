"""Which detections hit: COCO's matching, kept image by image.

The reported AP comes from torchmetrics. A bootstrap needs it a thousand times over resampled
images, and for that the matches are made once and only re-weighted; `average_precision` with
weights of one equals torchmetrics' (a test says so).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torchvision.ops import box_iou

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
Boxes = Sequence[tuple[int, float, float, float, float]]


@dataclass(frozen=True)
class ClassMatches:
    """All detections of one class over a split, best score first.

    Attributes:
        scores: (D,) float64.
        hits: (10, D) bool, one row for each of `IOU_THRESHOLDS`.
        image: (D,) int, which image each detection is in.
        truths: (N,) int, how many defects of the class each of the N images has.
    """

    scores: np.ndarray
    hits: np.ndarray
    image: np.ndarray
    truths: np.ndarray


def match(
    predictions: Sequence[dict[str, Any]], targets: Sequence[Boxes], n_classes: int
) -> list[ClassMatches]:
    """Match detections to defects as COCO's evaluation does (Lin et al. 2014, COCOeval).

    Args:
        predictions: one dict an image, with `boxes` (xyxy, px), `scores` and `classes`.
        targets: for the same images, (class, x1, y1, x2, y2) of each defect, px.
        n_classes: how many classes there are.
    """
    collected: list[list[tuple[float, np.ndarray, int]]] = [[] for _ in range(n_classes)]
    truths = np.zeros((n_classes, len(targets)), dtype=int)
    for index, (found, real) in enumerate(zip(predictions, targets, strict=True)):
        classes = np.asarray(found["classes"], dtype=int)
        scores = np.asarray(found["scores"], dtype=float)
        boxes = np.asarray(found["boxes"], dtype=float).reshape(-1, 4)
        rows = np.asarray(real, dtype=float).reshape(-1, 5)
        for c in range(n_classes):
            own = rows[rows[:, 0] == c, 1:]
            truths[c, index] = len(own)
            chosen = np.flatnonzero(classes == c)
            chosen = chosen[np.argsort(-scores[chosen], kind="stable")]
            hits = _match_one(boxes[chosen], own)
            collected[c] += [(scores[d], hits[:, k], index) for k, d in enumerate(chosen)]
    return [_sorted(rows, truths[c]) for c, rows in enumerate(collected)]


def _match_one(boxes: np.ndarray, truths: np.ndarray) -> np.ndarray:
    hits = np.zeros((len(IOU_THRESHOLDS), len(boxes)), dtype=bool)
    if not len(boxes) or not len(truths):
        return hits
    iou = box_iou(torch.from_numpy(boxes), torch.from_numpy(truths)).numpy()
    for t, threshold in enumerate(IOU_THRESHOLDS):
        free = np.ones(len(truths), dtype=bool)
        for d in np.flatnonzero(iou.max(axis=1) >= threshold - 1e-10):
            candidates = np.where(free, iou[d], -1.0)
            best = len(candidates) - 1 - int(np.argmax(candidates[::-1]))  # the last of equals
            if candidates[best] >= threshold - 1e-10:
                free[best], hits[t, d] = False, True
    return hits


def _sorted(rows: list[tuple[float, np.ndarray, int]], truths: np.ndarray) -> ClassMatches:
    scores = np.array([row[0] for row in rows], dtype=float)
    order = np.argsort(-scores, kind="stable")
    hits = np.array([row[1] for row in rows], dtype=bool).reshape(-1, len(IOU_THRESHOLDS)).T
    image = np.array([row[2] for row in rows], dtype=int)
    return ClassMatches(scores[order], hits[:, order], image[order], truths)


def average_precision(matches: ClassMatches, weights: np.ndarray) -> np.ndarray:
    """COCO's 101-point AP at each IoU threshold, every image counted `weights` times.

    Args:
        matches: of one class.
        weights: (N,), how often each image is in the resample; ones for the split itself.

    Returns:
        (10,) float64 in [0, 1]; NaN where the resample has no defect of the class.
    """
    total = float(matches.truths @ weights)
    if total == 0:
        return np.full(len(IOU_THRESHOLDS), np.nan)
    each = weights[matches.image].astype(float)
    if not each.any():
        return np.zeros(len(IOU_THRESHOLDS))
    counted = np.cumsum(each)
    right = np.cumsum(matches.hits * each, axis=1)
    precision = right / np.maximum(counted, np.finfo(float).eps)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = right / total
    result = np.empty(len(IOU_THRESHOLDS))
    for t in range(len(IOU_THRESHOLDS)):
        at = np.searchsorted(recall[t], RECALLS, side="left")
        inside = at < recall.shape[1]
        result[t] = envelope[t, at[inside]].sum() / len(RECALLS)
    return result


def f1_by_threshold(matches: Sequence[ClassMatches], thresholds: np.ndarray) -> np.ndarray:
    """F1 at IoU 0.5 of each class when only detections of at least a score count.

    Returns:
        (classes, thresholds) float64; NaN for a class that the split doesn't have.
    """
    rows = []
    for each in matches:
        total = each.truths.sum()
        kept = np.searchsorted(-each.scores, -thresholds, side="right")
        right = np.concatenate([[0], np.cumsum(each.hits[0])])[kept]
        rows.append(2 * right / (kept + total) if total else np.full(len(thresholds), np.nan))
    return np.array(rows)


def weighted_f1(matches: ClassMatches, images: np.ndarray, threshold: float) -> np.ndarray:
    """F1 at IoU 0.5 of one class on resamples, detections of at least `threshold` alone.

    Args:
        matches: of the class.
        images: (B, N), how often each image is in each resample.
        threshold: least score that counts.

    Returns:
        (B,) float64; NaN where a resample has no defect of the class.
    """
    kept = int(np.searchsorted(-matches.scores, -threshold, side="right"))
    each = images[:, matches.image[:kept]]
    total = (images @ matches.truths).astype(float)
    right = 2.0 * (each @ matches.hits[0, :kept])
    return np.where(total > 0, right / np.where(total > 0, each.sum(axis=1) + total, 1), np.nan)
