"""How well defects are localised, pixel by pixel: what a published table of localisation shows.

A map of 256 x 256 scores an image is too much to keep, and a bootstrap needs every metric a
thousand times over re-weighted images. So each image is kept as counts of its pixels' scores
between fixed thresholds, the sound pixels apart from those of each defect region; every metric
here is a function of those counts. AP, F1 and AUROC come from torchmetrics, whose binned metrics
have just such counts as their state; PRO, which it lacks, is computed here.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from skimage.measure import label
from torchmetrics.classification import (
    BinaryAUROC,
    BinaryAveragePrecision,
    BinaryPrecisionRecallCurve,
)
from torchmetrics.functional.classification import binary_auroc, binary_average_precision

from downstream.dataset import GOOD

_LOGITS = np.linspace(-12, 12, 998)
THRESHOLDS = np.concatenate([[0.0], 1 / (1 + np.exp(-_LOGITS)), [1.0]]).astype(np.float32)
"""1,000 scores, evenly spaced as logits: a network is sure of most pixels, so evenly spaced shares
would put nearly all of them into one bin, and AUROC and PRO would be those of a coarser map."""

PRO_LIMIT = 0.3
"""False-positive rate up to which PRO is integrated (Bergmann et al. 2021)."""

Pairs = list[list[int]]
"""[index of the highest threshold that is reached, how many pixels], without the empty ones."""


@dataclass(frozen=True)
class Counts:
    """The images of a split; T thresholds.

    Attributes:
        negatives: (N, T) float64, sound pixels whose score lies from a threshold to the next.
        positives: (N, T) float64, the same of defect pixels.
        overlaps: (N, T) float64, the same of every defect region by itself, as shares of the
            region, added up over the image's regions.
        regions: (N,) float64, how many regions an image has.
        scores: (N,) float64, the image scores.
        classes: (N,) their image-level labels.
    """

    negatives: np.ndarray
    positives: np.ndarray
    overlaps: np.ndarray
    regions: np.ndarray
    scores: np.ndarray
    classes: np.ndarray


def count_pixels(scores: np.ndarray, mask: np.ndarray) -> dict[str, Any]:
    """Reduce one anomaly map to what the metrics need.

    Args:
        scores: float32 (H, W) in [0, 1].
        mask: (H, W), true on the defect. Its regions are 8-connected, as in Bergmann et al. 2021.

    Returns:
        `negatives` (`Pairs`) and `regions` (`Pairs` of each), ready for JSON.
    """
    bins = np.searchsorted(THRESHOLDS, scores, side="right") - 1
    regions, number = label(mask.astype(bool), connectivity=2, return_num=True)
    counted = [_pairs(bins[regions == k]) for k in range(number + 1)]
    return {"negatives": counted[0], "regions": counted[1:]}


def read_counts(rows: Sequence[Mapping[str, Any]]) -> Counts:
    """Predictions (`class`, `score` and what `count_pixels` gave) as arrays."""
    size = (len(rows), len(THRESHOLDS))
    negatives, positives, overlaps = np.zeros(size), np.zeros(size), np.zeros(size)
    for k, row in enumerate(rows):
        _add(negatives[k], row["negatives"], 1)
        for region in row["regions"]:
            _add(positives[k], region, 1)
            _add(overlaps[k], region, 1 / sum(number for _, number in region))
    return Counts(
        negatives,
        positives,
        overlaps,
        np.array([len(row["regions"]) for row in rows], dtype=float),
        np.array([row["score"] for row in rows], dtype=float),
        np.array([row["class"] for row in rows], dtype=object),
    )


def localisation_metrics(
    rows: Sequence[Mapping[str, Any]], classes: Sequence[str]
) -> dict[str, Any]:
    """Localisation of one split.

    Args:
        rows: predictions, one an image; see `read_counts`.
        classes: defect classes in label order.

    Returns:
        `pixel_ap`, `pixel_f1` (the best over thresholds), `pixel_auroc`, `pro`, `image_auroc` and
        `image_ap`, each in [0, 1] (None where the split has no sound, or no defect, pixels or
        images); `pixel_ap_per_class`, over the images of each class and all good ones; and
        `defect_share`, the share of defect pixels, which is the pixel AP of a map that knows
        nothing.
    """
    counts = read_counts(rows)
    positives, negatives = counts.positives.sum(axis=0), counts.negatives.sum(axis=0)
    share = float(positives.sum() / (positives.sum() + negatives.sum()))
    defect = torch.from_numpy(counts.classes != GOOD)
    scores = torch.from_numpy(counts.scores)
    both = bool(defect.any()) and not bool(defect.all())
    pro = pro_of(counts.overlaps.sum(axis=0), counts.regions.sum(), negatives)
    return {
        **_pixel_metrics(positives, negatives),
        "pro": None if np.isnan(pro) else float(pro),
        "image_auroc": float(binary_auroc(scores, defect.int())) if both else None,
        "image_ap": float(binary_average_precision(scores, defect.int())) if both else None,
        "pixel_ap_per_class": [
            _pixel_metrics(
                counts.positives[own].sum(axis=0), counts.negatives[own | good].sum(axis=0)
            )["pixel_ap"]
            for own, good in _by_class(counts, classes)
        ],
        "defect_share": share,
    }


def localisation_samples(
    rows: Sequence[Mapping[str, Any]], classes: Sequence[str], images: np.ndarray
) -> dict[str, np.ndarray]:
    """Localisation metrics of one run on every resample of the images.

    Args:
        rows: predictions, one an image; see `read_counts`.
        classes: defect classes in label order.
        images: (B, N) int, how often each image is in each resample; a row of ones is the split
            itself, and gives what `localisation_metrics` gives.

    Returns:
        `pixel_ap`, `pixel_f1`, `pixel_auroc`, `pro`, `image_auroc` and `image_ap` of shape (B,),
        `per_class` pixel AP of shape (B, classes). NaN where a resample can't have the metric.
    """
    counts = read_counts(rows)
    weights = images.astype(float)
    positives, negatives = weights @ counts.positives, weights @ counts.negatives
    precision, recall, fall_out = _curves(positives, negatives)
    with np.errstate(invalid="ignore", divide="ignore"):
        f1 = np.nan_to_num(2 * precision * recall / (precision + recall)).max(axis=1)
    area = np.trapezoid(recall[:, -2::-1], fall_out[:, -2::-1], axis=1)
    defect = counts.classes != GOOD
    return {
        "pixel_ap": _average_precision(positives, negatives),
        "pixel_f1": np.where(np.isnan(recall[:, 0]), np.nan, f1),
        "pixel_auroc": area,
        "pro": pro_of(weights @ counts.overlaps, weights @ counts.regions, negatives),
        **_image_samples(counts.scores, defect, weights),
        "per_class": np.stack(
            [
                _average_precision(
                    weights[:, own] @ counts.positives[own],
                    weights[:, own | good] @ counts.negatives[own | good],
                )
                for own, good in _by_class(counts, classes)
            ],
            axis=1,
        ),
    }


def pro_of(overlaps: np.ndarray, regions: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """Per-region overlap (PRO), from counts that are added up over images.

    At each threshold the overlap is the mean over all defect regions of the share of the region
    that is found, so a small defect weighs as much as a large one. It is integrated over the
    false-positive rate from 0 to `PRO_LIMIT`, and divided by that (Bergmann et al. 2021, "The
    MVTec Anomaly Detection Dataset", section 5.2).

    Args:
        overlaps: (..., T), as in `Counts`, added up.
        regions: (...), how many regions that are.
        negatives: (..., T), as in `Counts`, added up.

    Returns:
        (...) in [0, 1]; NaN where there is no region or no sound pixel.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        y = _at_least(overlaps) / np.asarray(regions)[..., None]
        x = _at_least(negatives) / negatives.sum(axis=-1, keepdims=True)
    # from the strictest threshold on, beginning with a map that claims nothing
    x = np.concatenate([np.zeros_like(x[..., :1]), x[..., ::-1]], axis=-1)
    y = np.concatenate([np.zeros_like(y[..., :1]), y[..., ::-1]], axis=-1)
    x0, x1, y0, y1 = x[..., :-1], x[..., 1:], y[..., :-1], y[..., 1:]
    start, end = np.minimum(x0, PRO_LIMIT), np.minimum(x1, PRO_LIMIT)
    with np.errstate(invalid="ignore", divide="ignore"):
        reached = np.where(x1 > x0, y0 + (y1 - y0) * (end - x0) / (x1 - x0), y0)
    area = ((end - start) * (y0 + reached) / 2).sum(axis=-1) / PRO_LIMIT
    unknown = np.isnan(x[..., -1]) | np.isnan(y[..., -1])
    return np.where(unknown, np.nan, area)


def _pixel_metrics(positives: np.ndarray, negatives: np.ndarray) -> dict[str, float | None]:
    """torchmetrics' binned metrics of (T,) counts: they are put where its `update` adds up its."""
    if not positives.sum() or not negatives.sum():
        return {"pixel_ap": None, "pixel_f1": None, "pixel_auroc": None}
    hit, false = _at_least(positives), _at_least(negatives)
    rows = [[negatives.sum() - false, false], [positives.sum() - hit, hit]]
    state = torch.from_numpy(np.array(rows)).permute(2, 0, 1).long()
    precision, recall, _ = _computed(BinaryPrecisionRecallCurve, state)
    f1 = torch.nan_to_num(2 * precision * recall / (precision + recall))
    return {
        "pixel_ap": float(_computed(BinaryAveragePrecision, state)),
        "pixel_f1": float(f1.max()),
        "pixel_auroc": float(_computed(BinaryAUROC, state)),
    }


def _computed(kind: Callable[..., Any], state: torch.Tensor) -> Any:
    metric = kind(thresholds=torch.from_numpy(THRESHOLDS))
    metric.confmat = state
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that `update` was never called
        return metric.compute()


def _curves(
    positives: np.ndarray, negatives: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and false-positive rate of (B, T) counts at each threshold, ending as
    torchmetrics' curves do with precision 1 and recall 0: (B, T + 1)."""
    hit, false = _at_least(positives), _at_least(negatives)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.nan_to_num(hit / (hit + false))
        recall = hit / positives.sum(axis=1, keepdims=True)
        fall_out = false / negatives.sum(axis=1, keepdims=True)
    end = np.ones((len(hit), 1))
    return (
        np.concatenate([precision, end], axis=1),
        np.concatenate([recall, 0 * end], axis=1),
        np.concatenate([fall_out, 0 * end], axis=1),
    )


def _average_precision(positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    precision, recall, _ = _curves(positives, negatives)
    return -(np.diff(recall, axis=1) * precision[:, :-1]).sum(axis=1)


def _image_samples(
    scores: np.ndarray, defect: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """AUROC and AP of image scores, each image counted as often as (B, N) `weights` say."""
    _, place = np.unique(scores, return_inverse=True)
    at = np.zeros((len(scores), place.max() + 1))
    at[np.arange(len(scores)), place] = 1
    positives = (weights * defect) @ at
    negatives = (weights * ~defect) @ at
    below = np.cumsum(negatives, axis=1) - negatives
    with np.errstate(invalid="ignore", divide="ignore"):
        pairs = positives.sum(axis=1) * negatives.sum(axis=1)
        # Mann and Whitney's U: an equal score counts half
        area = (positives * (below + negatives / 2)).sum(axis=1) / pairs
    average = np.where(pairs > 0, _average_precision(positives, negatives), np.nan)
    return {"image_auroc": area, "image_ap": average}


def _by_class(counts: Counts, classes: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each class which images are of it, and which are good, (N,) bool."""
    good = counts.classes == GOOD
    return [(counts.classes == name, good) for name in classes]


def _at_least(counts: np.ndarray) -> np.ndarray:
    """How many score at least each threshold."""
    return np.cumsum(counts[..., ::-1], axis=-1)[..., ::-1]


def _pairs(bins: np.ndarray) -> Pairs:
    numbers = np.bincount(bins)
    return [[int(k), int(numbers[k])] for k in np.flatnonzero(numbers)]


def _add(row: np.ndarray, pairs: Pairs, factor: float) -> None:
    if pairs:
        bins, numbers = np.array(pairs).T
        row[bins] += numbers * factor
