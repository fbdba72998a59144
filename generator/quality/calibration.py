"""Bounds that come from the real defects themselves."""

import math
from collections.abc import Sequence

import numpy as np

SHARE = 0.95
"""Share of real defects that keep a bound."""


def upper_bound(values: Sequence[float] | np.ndarray, share: float = SHARE) -> float:
    """What a new value keeps with probability `share`, given exchangeable ones.

    The quantile of split conformal prediction (Vovk et al., 2005; Lei et al., 1604.04173, section
    2.2): the ceil((n + 1) share)-th smallest of n values, and the largest where n is too small
    for that.

    Args:
        values: n numbers, at least one.
        share: 0 to 1.
    """
    ordered = np.sort(np.asarray(values, dtype=float))
    return float(ordered[min(math.ceil((len(ordered) + 1) * share), len(ordered)) - 1])


def lower_bound(values: Sequence[float] | np.ndarray, share: float = SHARE) -> float:
    """As `upper_bound`, for values that must not be too small."""
    return -upper_bound(-np.asarray(values, dtype=float), share)


def group_minimum(
    distances: np.ndarray, groups: np.ndarray, own: Sequence[str] | np.ndarray | None = None
) -> np.ndarray:
    """Distances to windows -> distances to groups of images.

    Args:
        distances: (M, N) float, to N windows.
        groups: (N,) str, the group that each window belongs to.
        own: (M,) str, the group of each row, which is left out of it (inf); None: none is.

    Returns:
        (M, G) float, the least distance to each group, groups in sorted order.
    """
    names, index = np.unique(groups, return_inverse=True)
    nearest = np.full((len(distances), len(names)), np.inf)
    for column in range(len(names)):
        nearest[:, column] = distances[:, index == column].min(axis=1)
    if own is not None:
        nearest[np.asarray(own)[:, None] == names[None, :]] = np.inf
    return nearest
