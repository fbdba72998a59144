"""What is measured, as pure functions over torchmetrics."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torchmetrics.detection import MeanAveragePrecision
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_confusion_matrix,
    multiclass_f1_score,
)

from downstream.localisation import localisation_metrics, localisation_samples
from downstream.matching import IOU_THRESHOLDS, RECALLS, Boxes, f1_by_threshold, match

__all__ = [
    "choose_threshold",
    "classification_metrics",
    "detection_metrics",
    "f1_at",
    "localisation_metrics",
    "localisation_samples",
]

THRESHOLDS = np.linspace(0.001, 0.999, 999)
"""Confidence thresholds among which val chooses."""


def detection_metrics(
    predictions: Sequence[dict[str, Any]], targets: Sequence[Boxes], n_classes: int
) -> dict[str, Any]:
    """COCO metrics of one split, by torchmetrics with faster-coco-eval.

    Args:
        predictions: one dict an image, with `boxes` (xyxy, px), `scores` in [0, 1], `classes`.
        targets: for the same images, (class, x1, y1, x2, y2) of each defect, px.
        n_classes: how many classes there are.

    Returns:
        `map50`, `map` (mean over IoU 0.5 .. 0.95) and, by class index, `ap50_per_class` and
        `ap_per_class`; each in [0, 1]. A class without a defect in the split is None and doesn't
        enter the means.
    """
    metric = MeanAveragePrecision(
        backend="faster_coco_eval",
        extended_summary=True,
        # its own thresholds are rounded to float32, which moves some by a step
        iou_thresholds=IOU_THRESHOLDS.tolist(),
        rec_thresholds=RECALLS.tolist(),
    )
    metric.warn_on_many_detections = False
    metric.update(
        [
            {
                "boxes": torch.tensor(p["boxes"], dtype=torch.float32).reshape(-1, 4),
                "scores": torch.tensor(p["scores"], dtype=torch.float32),
                "labels": torch.tensor(p["classes"], dtype=torch.int64),
            }
            for p in predictions
        ],
        [
            {
                "boxes": torch.tensor([b[1:] for b in t], dtype=torch.float32).reshape(-1, 4),
                "labels": torch.tensor([b[0] for b in t], dtype=torch.int64),
            }
            for t in targets
        ],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = metric.compute()
    present = sorted({box[0] for boxes in targets for box in boxes})
    # precision: (IoU threshold, recall, class, area, detections); -1 where the class is absent
    classes = result["classes"].reshape(-1).tolist()
    precision = result["precision"][:, :, :, 0, -1]
    ap50: list[float | None] = [None] * n_classes
    ap: list[float | None] = [None] * n_classes
    for c in present:
        k = classes.index(c)
        ap50[c] = float(precision[0, :, k].mean())
        ap[c] = float(precision[:, :, k].mean())
    return {
        "map50": float(result["map_50"]),
        "map": float(result["map"]),
        "ap50_per_class": ap50,
        "ap_per_class": ap,
    }


def choose_threshold(
    predictions: Sequence[dict[str, Any]], targets: Sequence[Boxes], n_classes: int
) -> float:
    """The confidence threshold with the best mean F1 over classes (IoU 0.5). For val alone.

    Of equally good ones, the middle of the widest stretch, which moves least with the data.
    """
    scores = np.nanmean(f1_by_threshold(match(predictions, targets, n_classes), THRESHOLDS), axis=0)
    good = np.flatnonzero(scores >= scores.max() - 1e-12)
    stretches = np.split(good, np.flatnonzero(np.diff(good) > 1) + 1)
    widest = max(stretches, key=len)
    return float(THRESHOLDS[widest[len(widest) // 2]])


def f1_at(
    predictions: Sequence[dict[str, Any]],
    targets: Sequence[Boxes],
    n_classes: int,
    threshold: float,
) -> dict[str, Any]:
    """F1 (IoU 0.5) of detections that score at least `threshold`: `f1` (mean) and `per_class`."""
    rows = f1_by_threshold(match(predictions, targets, n_classes), np.array([threshold]))[:, 0]
    return {
        "f1": float(np.nanmean(rows)),
        "per_class": [None if np.isnan(value) else float(value) for value in rows],
    }


def classification_metrics(
    targets: Sequence[int], predicted: Sequence[int], n_classes: int
) -> dict[str, Any]:
    """Image-level classification of one split, by torchmetrics.

    Args:
        targets: true class index of each image.
        predicted: class index that was given to it.
        n_classes: how many classes there are.

    Returns:
        `accuracy`, `macro_f1`, `balanced_accuracy` (mean recall), each in [0, 1], `f1_per_class`
        (None for a class that the split doesn't have) and `confusion_matrix` (rows: truth).
    """
    truth, guess = torch.tensor(targets), torch.tensor(predicted)
    f1 = multiclass_f1_score(guess, truth, n_classes, average="none")
    have = set(truth.tolist())
    return {
        "accuracy": float(multiclass_accuracy(guess, truth, n_classes, average="micro")),
        "macro_f1": float(multiclass_f1_score(guess, truth, n_classes, average="macro")),
        "balanced_accuracy": float(multiclass_accuracy(guess, truth, n_classes, average="macro")),
        "f1_per_class": [float(f1[c]) if c in have else None for c in range(n_classes)],
        "confusion_matrix": multiclass_confusion_matrix(guess, truth, n_classes).tolist(),
    }
