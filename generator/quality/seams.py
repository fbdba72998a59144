"""Is the rim of a sample's mask sharper than a real defect's rim?"""

from collections.abc import Sequence

import cv2
import numpy as np

from generator.quality.calibration import upper_bound
from generator.quality.windows import Window

LEAST_LEVEL = 1.0
"""Grey levels; a surface smoother than this has only the rounding of its pixels."""

RING_PX = (5, 12)
INNER_PX = 2


def rim_sharpness(image: np.ndarray, mask: np.ndarray) -> float:
    """Sharpness along a mask's rim by that of the defect and of the surface around it.

    Sharpness is the mean absolute Laplacian: what was cut out hard steps within one pixel, and a
    lens never does. (The score `seam` of compositing compares gradients with the background's at
    the same place; strong real defects have those too.)

    Args:
        image: (H, W, 3) uint8.
        mask: (H, W) bool.

    Returns:
        A ratio, at least 0; 0 for a mask without a rim (empty, or the whole image).
    """
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    window = (
        slice(max(top - RING_PX[1], 0), top + height + RING_PX[1]),
        slice(max(left - RING_PX[1], 0), left + width + RING_PX[1]),
    )
    part = np.ascontiguousarray(mask[window]).view(np.uint8)
    rim = cv2.morphologyEx(part, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    if not mask.any() or not rim.any():
        return 0.0
    sharp = np.abs(cv2.Laplacian(image[window].mean(axis=2, dtype=np.float32), cv2.CV_32F))
    outside = cv2.distanceTransform(1 - part, cv2.DIST_L2, 5)
    inside = cv2.distanceTransform(part, cv2.DIST_L2, 5)
    ring = (outside > RING_PX[0]) & (outside <= RING_PX[1])
    levels = [float(sharp[a].mean()) for a in (ring, inside > INNER_PX) if a.any()]
    return float(sharp[rim].mean()) / max([LEAST_LEVEL, *levels])


class Seams:
    """Rim sharpness in units of what 95 % of the real defects of a class keep.

    The unit of a class is the median of its real ones times the 95 % bound of (value / median of
    the others), which is pooled over classes.
    """

    def __init__(self, windows: Sequence[Window], classes: Sequence[str]) -> None:
        """Measure the real rims."""
        values = {
            name: np.array([_of(w) for w in windows if w.class_name == name]) for name in classes
        }
        values = {name: found[found > 0] for name, found in values.items()}
        ratios = [
            found[k] / np.median(np.delete(found, k))
            for found in values.values()
            for k in range(len(found))
            if len(found) > 1
        ]
        self._units = {
            name: float(np.median(found)) * upper_bound(ratios)
            for name, found in values.items()
            if len(found) > 1
        }

    def score(self, image: np.ndarray, mask: np.ndarray, class_name: str) -> float | None:
        """The sharpness of a sample's rim in units of its class; 1 is the bound of the real ones.

        Args:
            image: (H, W, 3) uint8.
            mask: (H, W) bool.
            class_name: of the defect.

        Returns:
            None for a class with fewer than two real rims to compare with.
        """
        unit = self._units.get(class_name)
        return None if unit is None else rim_sharpness(image, mask) / unit


def _of(window: Window) -> float:
    return rim_sharpness(window.pixels, window.mask)
