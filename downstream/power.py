"""How many seeds would a difference need before an experiment like this one shows it?"""

from typing import Any

import numpy as np
from scipy import stats

from downstream.config import LEAST_SEEDS

DIFFERENCES = (0.02, 0.05, 0.10)
"""Those that a report speaks of, in units of the primary metric."""
POWER = 0.8
"""Chance with which a difference that is there shall be shown."""
MOST_SEEDS = 1000


def power(difference: float, spread: float, images: float, seeds: int, level: float) -> float:
    """The chance that the two-sided paired t-test over `seeds` finds a true `difference`.

    With `images` 0 it is the textbook's (statsmodels' TTestPower).

    Args:
        difference: the true one.
        spread: standard deviation of a paired difference from seed to seed.
        images: standard error that the test images bring, which no further seed takes away.
        seeds: how many; 2 at least.
        level: of the test, such as 0.05.
    """
    error = np.sqrt(spread**2 / seeds + images**2)
    if error == 0:
        return 1.0
    far = difference / error
    critical = stats.t.ppf(1 - level / 2, seeds - 1)
    right = stats.nct.sf(critical, seeds - 1, far)
    wrong = stats.nct.cdf(-critical, seeds - 1, far)  # NaN where it is too small for scipy's series
    return float(right + np.nan_to_num(wrong))


def seeds_needed(difference: float, spread: float, images: float, level: float) -> int | None:
    """The fewest seeds, `LEAST_SEEDS` at least, with which `difference` shows with `POWER`.

    Returns:
        None where the test images are too few for it, however many seeds there are.
    """
    low, high = LEAST_SEEDS, MOST_SEEDS
    if power(difference, spread, images, high, level) < POWER:
        return None
    while low < high:  # the power grows with the seeds
        middle = (low + high) // 2
        if power(difference, spread, images, middle, level) >= POWER:
            high = middle
        else:
            low = middle + 1
    return low


def smallest_shown(images: float, level: float) -> float:
    """The smallest difference that these test images can show, with endlessly many seeds."""
    return float(images * (stats.norm.ppf(1 - level / 2) + stats.norm.ppf(POWER)))


def power_note(
    spread: float, images: float, confidence: float, comparisons: int = 1
) -> dict[str, Any]:
    """What `report.json` says about power: `spread`, `images`, `comparisons`, `smallest`, and
    `needed`, the seeds for each of `DIFFERENCES`, null where these test images can't show it.

    The level is that of Holm's first step, which one difference among nothing has to pass.
    """
    level = (1 - confidence) / comparisons
    return {
        "comparisons": comparisons,
        "spread": spread,
        "images": images,
        "smallest": smallest_shown(images, level),
        "needed": {f"{d:.2f}": seeds_needed(d, spread, images, level) for d in DIFFERENCES},
    }
