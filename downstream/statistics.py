"""Is an arm better than the baseline, and how sure is that?

Seeds and test images are both resampled (a hierarchical bootstrap; images of one group are drawn
together), and every resample is given to all arms alike, so what is judged is the paired
difference. Of few seeds such resampling sees too little of the noise of the training, so Student's
interval over the seeds' differences stands beside it, and the wider of the two counts, on either
side (docs/adr/0006).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import stats

from downstream.config import LEAST_SEEDS
from downstream.matching import Boxes, ClassMatches, average_precision, match, weighted_f1

Verdict = Literal["helps", "no evidence", "hurts", "no verdict"]


@dataclass(frozen=True)
class Resamples:
    """What is drawn, once for all arms.

    Attributes:
        images: (B, N) int, how often each of the N test images is in each resample.
        seeds: (B, S) int, which of the S seeds are in each resample.
    """

    images: np.ndarray
    seeds: np.ndarray


@dataclass(frozen=True)
class Difference:
    """An arm minus the baseline.

    Attributes:
        value: on the split as it is, mean over the seeds.
        low, high: the interval.
        p: two-sided, of no difference.
        seeds: how many it rests on.
    """

    value: float
    low: float
    high: float
    p: float
    seeds: int = LEAST_SEEDS

    @property
    def verdict(self) -> Verdict:
        """What the interval says: it must exclude zero, and rest on `LEAST_SEEDS`."""
        if self.seeds < LEAST_SEEDS:
            return "no verdict"
        if self.low > 0:
            return "helps"
        return "hurts" if self.high < 0 else "no evidence"


def draw(groups: Sequence[str], n_seeds: int, samples: int, seed: int) -> Resamples:
    """Draw `samples` resamples of images and of seeds, each with replacement.

    Args:
        groups: of each image, what it shares with those that are no independent evidence beside it
            (photographs of one part); they are drawn together, as they are one unit of chance
            (Davison & Hinkley, Bootstrap Methods and their Application, 1997, section 3.8).
        n_seeds: how many seeds there are.
        samples: how many resamples.
        seed: of the drawing.
    """
    rng = np.random.default_rng(seed)
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    units = rng.multinomial(len(numbers), np.full(len(numbers), 1 / len(numbers)), size=samples)
    images = units[:, [numbers[group] for group in groups]]
    return Resamples(images, rng.integers(0, n_seeds, size=(samples, n_seeds)))


def detection_samples(
    predictions: Sequence[dict[str, Any]],
    targets: Sequence[Boxes],
    n_classes: int,
    images: np.ndarray,
    threshold: float,
) -> dict[str, np.ndarray]:
    """Detection metrics of one run on every resample of the test images.

    Args:
        predictions: raw predictions on test, one an image.
        targets: defects of the same images.
        n_classes: how many classes there are.
        images: (B, N) weights from `draw`; a first row of ones gives the split itself.
        threshold: the score that F1 counts from, as val gave it; it stays as it is.

    Returns:
        `map50`, `map` and `f1` of shape (B,), `per_class` AP50 of shape (B, classes). NaN where a
        resample has no defect of the class; the means pass over those classes, as COCO does.
    """
    matches: list[ClassMatches] = match(predictions, targets, n_classes)
    table = np.stack([[average_precision(m, weights) for m in matches] for weights in images])
    with np.errstate(invalid="ignore"):
        have = ~np.isnan(table[:, :, 0])
        count = np.maximum(have.sum(axis=1), 1)
        by_metric = {
            "map50": table[:, :, 0],
            "map": table.mean(axis=2),
            "f1": np.stack([weighted_f1(m, images, threshold) for m in matches], axis=1),
        }
        means = {
            name: np.where(have.any(axis=1), np.nansum(values, axis=1) / count, np.nan)
            for name, values in by_metric.items()
        }
    return {**means, "per_class": table[:, :, 0]}


def classification_samples(
    targets: Sequence[int], predicted: Sequence[int], n_classes: int, images: np.ndarray
) -> dict[str, np.ndarray]:
    """Classification metrics of one run on every resample of the test images.

    Returns:
        `accuracy`, `macro_f1` and `balanced_accuracy` of shape (B,), `per_class` F1 of shape
        (B, classes). As in torchmetrics, a class that is neither there nor given is passed over.
    """
    cell = np.asarray(targets) * n_classes + np.asarray(predicted)
    flat = np.zeros((len(images), n_classes * n_classes))
    for value in np.unique(cell):
        flat[:, value] = images[:, cell == value].sum(axis=1)
    matrix = flat.reshape(-1, n_classes, n_classes)
    right = np.diagonal(matrix, axis1=1, axis2=2)
    truth, given = matrix.sum(axis=2), matrix.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        f1 = np.where(truth + given > 0, 2 * right / (truth + given), np.nan)
        recall = np.where(truth > 0, right / truth, np.nan)
        # torchmetrics: a class that is given but not there counts as recall 0
        spread = np.where(truth + given > 0, np.nan_to_num(recall), np.nan)
        return {
            "accuracy": right.sum(axis=1) / truth.sum(axis=1),
            "macro_f1": np.nanmean(f1, axis=1),
            "balanced_accuracy": np.nanmean(spread, axis=1),
            "per_class": np.where(truth > 0, f1, np.nan),
        }


def over_seeds(values: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """Mean of (S, B, ...) metric samples over the seeds that each resample drew: (B, ...)."""
    return np.stack([values[drawn, b].mean(axis=0) for b, drawn in enumerate(seeds)])


def difference(
    arm: np.ndarray, base: np.ndarray, per_seed: np.ndarray, confidence: float
) -> Difference | None:
    """The paired difference with its interval: the wider, on either side, of two.

    The percentiles of the hierarchical bootstrap know the chance of the images. Student's interval
    over the seeds' differences knows the chance of the training, however few seeds there are.

    Args:
        arm: (B,) the arm's metric on each resample of images and seeds.
        base: (B,) the baseline's, on the same resamples.
        per_seed: (S,) the difference of each seed on the split as it is.
        confidence: coverage, such as 0.95.

    Returns:
        None where no resample, or no seed, has a value for both.
    """
    gaps = (arm - base)[~np.isnan(arm - base)]
    each = per_seed[~np.isnan(per_seed)]
    if not len(gaps) or not len(each):
        return None
    low, high, p = _percentiles(gaps, confidence)
    if np.ptp(each) > 1e-9:  # without any spread it is a point, which the bootstrap's holds
        of_seeds = stats.ttest_1samp(each, 0.0)
        student = of_seeds.confidence_interval(confidence)
        low, high = min(low, float(student.low)), max(high, float(student.high))
        p = max(p, float(of_seeds.pvalue))
    return Difference(float(each.mean()), low, high, p, len(each))


def _percentiles(gaps: np.ndarray, confidence: float) -> tuple[float, float, float]:
    tail = (1 - confidence) / 2
    low, high = np.quantile(gaps, [tail, 1 - tail])
    # The share of resamples on the far side of zero, counting the sample itself (Davison and
    # Hinkley 1997, 4.11), so that it is never 0.
    side = min((gaps <= 0).sum(), (gaps >= 0).sum())
    return float(low), float(high), float(min(1.0, 2 * (side + 1) / (len(gaps) + 1)))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down adjustment (1979): the family-wise error over all names stays bounded."""
    adjusted: dict[str, float] = {}
    largest = 0.0
    ordered = sorted(p_values, key=lambda name: p_values[name])
    for rank, name in enumerate(ordered):
        largest = max(largest, min(1.0, (len(ordered) - rank) * p_values[name]))
        adjusted[name] = largest
    return adjusted


def corrected_verdict(verdict: Verdict, adjusted_p: float, confidence: float) -> Verdict:
    """The verdict on one class or arm among several, by its Holm-adjusted p-value."""
    if verdict in ("helps", "hurts") and adjusted_p >= 1 - confidence:
        return "no evidence"
    return verdict
