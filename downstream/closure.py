"""How much of the gap between the few real images and all of them does an arm close?"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from downstream.config import LEAST_SEEDS
from downstream.statistics import Difference


@dataclass(frozen=True)
class Closure:
    """(arm - real) / (full - real): 1 is as good as all real data, 0 no better than the few.

    Attributes:
        value: on the split as it is, mean over the seeds; None where it is not defined.
        low, high: the interval; None where the value is.
        reason: why it is not defined; empty where it is.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""


def gap_closure(
    arm: np.ndarray,
    full: np.ndarray,
    arm_seeds: np.ndarray,
    full_seeds: np.ndarray,
    gap: Difference | None,
    confidence: float,
) -> Closure:
    """The share of the gap that is closed, with the wider of two intervals on either side.

    One is of the percentiles of the ratio over the resamples; the other is Fieller's (1954, "Some
    problems in interval estimation") for the ratio of the seeds' mean differences, which takes the
    noise of the denominator into account as `difference` does that of the training.

    Args:
        arm, full: (B,) their differences to real on the same resamples of images and seeds.
        arm_seeds, full_seeds: (S,) their differences to real on the split as it is.
        gap: full against real, of the same seeds.
        confidence: coverage, such as 0.95.
    """
    if gap is None:
        return Closure(None, reason="no seed has real, full and this arm")
    if gap.seeds < LEAST_SEEDS:
        return Closure(None, reason=f"not defined below {LEAST_SEEDS} seeds")
    if gap.low <= 0:
        interval = f"{gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]"
        return Closure(None, reason=f"not defined: full against real is {interval}, no sure gap")
    known = (full > 0) & ~np.isnan(arm)  # all but a few, since the interval leaves zero out
    tail = (1 - confidence) / 2
    low, high = np.quantile(arm[known] / full[known], [tail, 1 - tail])
    bounds = fieller(arm_seeds, full_seeds, confidence)
    if bounds is None:
        return Closure(None, reason="not defined: the full arm isn't above real in enough seeds")
    value = float(arm_seeds.mean() / full_seeds.mean())
    return Closure(value, min(float(low), bounds[0]), max(float(high), bounds[1]))


def fieller(above: np.ndarray, below: np.ndarray, confidence: float) -> tuple[float, float] | None:
    """Fieller's interval for mean(above) / mean(below) of (S,) paired values.

    Returns:
        None where the denominator's own interval holds zero, so that the ratio has no bounds.
    """
    n = len(above)
    top, bottom = above.mean(), below.mean()
    (v_top, v_both), (_, v_bottom) = np.cov(above, below) / n
    t = float(stats.t.ppf((1 + confidence) / 2, n - 1))
    a = bottom**2 - t**2 * v_bottom
    if a <= 0:
        return None
    # the ratios r with (top - r bottom)^2 <= t^2 var(top - r bottom), a quadratic in r
    b = top * bottom - t**2 * v_both
    c = top**2 - t**2 * v_top
    root = float(np.sqrt(max(0.0, b**2 - a * c)))
    return float((b - root) / a), float((b + root) / a)
