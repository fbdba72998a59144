"""What detectors made of each real defect of a split: found, taken for another class, or missed."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torchvision.ops import box_iou

from downstream.dataset import GOOD, Export, Item, Split
from downstream.localisation import read_counts
from downstream.runs import Run, read_predictions

LEAST_IOU = 0.5
"""Overlap from which a detection is about a defect, as in mAP50."""

LEAST_SHARE = 0.5
"""Share of a defect's pixels from which it counts as localised."""

Fate = Literal["found", "confused", "missed"]


@dataclass(frozen=True)
class DefectOutcome:
    """One defect, over the seeds of an arm.

    Attributes:
        image_id: of the image in the export.
        box: xyxy in pixels; None where the task judges the image as a whole.
        class_name: what it is.
        found, confused, missed: the shares of the seeds that met each fate; they add up to 1.
    """

    image_id: str
    box: tuple[float, float, float, float] | None
    class_name: str
    found: float
    confused: float
    missed: float


def defect_outcomes(
    export: Export,
    runs: Sequence[Run],
    results: Mapping[str, Mapping[str, Any]],
    split: Split = "val",
) -> list[DefectOutcome]:
    """The fate of every defect of a split under one arm.

    Detection: a detection of the defect's class that scores at least the run's val-chosen
    threshold and overlaps by `LEAST_IOU` has found it, each detection one defect; one of another
    class has confused it. Classification: the image's class was given to it (found), another
    defect's (confused), or `good` (missed). Localisation, image by image: at the threshold with the
    best pixel F1 on val, half of the defect's pixels are marked (found), or fewer (missed).

    Args:
        export: that was trained on.
        runs: of one arm and one task, one a seed, all done.
        results: by key, what those runs wrote.
        split: whose defects; `test` is for a report, never for a choice.
    """
    items = [item for item in export.items(split) if item.class_name != GOOD]
    told = [_fates(items, run, results[run.key], split) for run in runs]
    outcomes = []
    for k, (item, box, name) in enumerate(_defects(items, export, runs[0].task)):
        counted = Counter(fates[k] for fates in told)
        shares = {fate: counted[fate] / len(runs) for fate in ("found", "confused", "missed")}
        outcomes.append(DefectOutcome(item.id, box, name, **shares))
    return outcomes


def _defects(
    items: Sequence[Item], export: Export, task: str
) -> list[tuple[Item, tuple[float, float, float, float] | None, str]]:
    if task != "detection":
        return [(item, None, item.class_name) for item in items]
    return [(item, box[1:], export.classes[box[0]]) for item in items for box in item.boxes]


def _fates(items: Sequence[Item], run: Run, result: Mapping[str, Any], split: Split) -> list[Fate]:
    rows = {row["id"]: row for row in read_predictions(run, split)}
    if run.task == "classification":
        return [_fate_of_image(rows[item.id], result["labels"]) for item in items]
    if run.task == "localisation":
        marked = _marked(read_predictions(run, "val"), [rows[item.id] for item in items])
        return ["found" if share >= LEAST_SHARE else "missed" for share in marked]
    return [
        fate for item in items for fate in _fates_of_boxes(item, rows[item.id], result["threshold"])
    ]


def _fate_of_image(row: Mapping[str, Any], labels: Sequence[str]) -> Fate:
    guess = int(np.argmax(row["probabilities"]))
    if guess == row["target"]:
        return "found"
    return "missed" if labels[guess] == GOOD else "confused"


def _marked(val: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """The share of each image's defect pixels that is marked at val's best pixel F1."""
    known, own = read_counts(val), read_counts(rows)
    right, wrong = (
        np.cumsum(pixels.sum(axis=0)[::-1])[::-1] for pixels in (known.positives, known.negatives)
    )
    best = int(np.argmax(2 * right / np.maximum(right + wrong + right[0], 1)))
    every = np.maximum(own.positives.sum(axis=1), 1)
    return np.asarray(own.positives[:, best:].sum(axis=1) / every)


def _fates_of_boxes(item: Item, row: Mapping[str, Any], threshold: float) -> list[Fate]:
    scores = np.asarray(row["scores"], dtype=float)
    kept = np.flatnonzero(scores >= threshold)
    kept = kept[np.argsort(-scores[kept], kind="stable")]
    if not len(kept):
        return ["missed"] * len(item.boxes)
    boxes = np.asarray(row["boxes"], dtype=float).reshape(-1, 4)[kept]
    classes = np.asarray(row["classes"], dtype=int)[kept]
    truths = np.asarray(item.boxes, dtype=float).reshape(-1, 5)
    iou = box_iou(torch.from_numpy(boxes), torch.from_numpy(truths[:, 1:])).numpy()
    fates: list[Fate] = ["missed"] * len(truths)
    for d, name in enumerate(classes):  # best score first, as in matching.py
        own = (truths[:, 0] == name) & np.array([fate != "found" for fate in fates])
        best = int(np.argmax(np.where(own, iou[d], -1.0)))
        if own[best] and iou[d, best] >= LEAST_IOU:
            fates[best] = "found"
    for k, truth in enumerate(truths):
        other = (classes != truth[0]) & (iou[:, k] >= LEAST_IOU)
        if fates[k] == "missed" and other.any():
            fates[k] = "confused"
    return fates
