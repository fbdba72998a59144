"""Masks for data that has only boxes: GrabCut within the box, and a plain shape where it fails."""

import contextlib

import cv2
import numpy as np

from generator.errors import ExampleError
from generator.records import Box

WORK_PX = 72
"""Longer side of the window that GrabCut works on; larger ones are scaled down to it."""

CONTEXT = 0.35
"""Context around the box, as a share of its longer side: where GrabCut learns the surface."""

LEAST_FILL, MOST_FILL = 0.06, 0.95

LEAST_SEPARATION = 1.4
"""Least difference of the means in and around a mask, in standard deviations of the surface."""


def propose_mask(image: np.ndarray, box_xyxy: Box) -> np.ndarray:
    """Propose where in its box a defect lies.

    GrabCut (Rother et al., 2004) with everything outside the box as sure background and the
    box's corners as likely background. Where it finds nothing, everything, or something that
    does not span the box, the answer is a rounded shape that fills most of the box. The same
    input always gives the same mask: OpenCV's generator (one per thread) is seeded on each call.

    Args:
        image: (H, W, 3) uint8, RGB.
        box_xyxy: the defect's box, integer pixels, half-open, inside the image.

    Returns:
        Bool array of the box's size (y2 - y1, x2 - x1); never empty.

    Raises:
        ExampleError: the box is empty or leaves the image.
    """
    height, width = image.shape[:2]
    x1, y1, x2, y2 = box_xyxy
    if not (0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height):
        raise ExampleError(
            f"box_xyxy must lie inside the image of {width} x {height} px, got {box_xyxy}; "
            "correct the box in the annotations."
        )
    w, h = x2 - x1, y2 - y1
    pad = max(4, round(CONTEXT * max(w, h)))
    left, top = max(x1 - pad, 0), max(y1 - pad, 0)
    window = image[top : min(y2 + pad, height), left : min(x2 + pad, width)]
    # Without a rim of surface around the box there is nothing to learn the background from.
    if min(w, h) < 4 or w * h > 0.85 * window.shape[0] * window.shape[1]:
        return rounded_box(w, h)
    found = _grab(window, (x1 - left, y1 - top, x2 - left, y2 - top))
    return found if _plausible(found) else rounded_box(w, h)


def rounded_box(width: int, height: int, exponent: float = 3.0) -> np.ndarray:
    """Superellipse that touches all four sides of a box: (height, width) bool."""
    x = np.abs((np.arange(width) + 0.5) / width * 2 - 1)[None, :]
    y = np.abs((np.arange(height) + 0.5) / height * 2 - 1)[:, None]
    return np.asarray(x**exponent + y**exponent <= 1) | (min(width, height) < 3)


def _grab(window: np.ndarray, inner: Box) -> np.ndarray:
    """GrabCut's foreground at the size of the inner box."""
    x1, y1, x2, y2 = inner
    factor = min(1.0, WORK_PX / max(window.shape[:2]))
    small = cv2.resize(window, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    sx, sy = small.shape[1] / window.shape[1], small.shape[0] / window.shape[0]
    a, b = round(x1 * sx), round(y1 * sy)
    c, d = max(round(x2 * sx), a + 2), max(round(y2 * sy), b + 2)
    smooth = cv2.GaussianBlur(small, (0, 0), 0.8)
    seeds = _departures(smooth, (a, b, c, d))
    if not seeds.any():
        return np.zeros((y2 - y1, x2 - x1), dtype=bool)
    labels = np.full(small.shape[:2], cv2.GC_BGD, dtype=np.uint8)
    labels[b:d, a:c] = np.where(seeds, cv2.GC_PR_FGD, cv2.GC_PR_BGD)
    cv2.setRNGSeed(0)
    background, defect = np.zeros((1, 65)), np.zeros((1, 65))
    unused = (0, 0, 1, 1)
    # fewer pixels than colour models, or colours without any spread, are an error to OpenCV
    with contextlib.suppress(cv2.error):
        cv2.grabCut(smooth, labels, unused, background, defect, 2, cv2.GC_INIT_WITH_MASK)
    cut = np.isin(labels[b:d, a:c], (cv2.GC_FGD, cv2.GC_PR_FGD))
    # On low contrast GrabCut may give up the defect altogether; its seeds are then the answer.
    found = cut if _plausible(cut) else seeds
    if not _stands_out(smooth, found, (a, b, c, d)):
        return np.zeros((y2 - y1, x2 - x1), dtype=bool)
    closed = cv2.morphologyEx(found.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    large = cv2.resize(closed * 255, (x2 - x1, y2 - y1), interpolation=cv2.INTER_LINEAR)
    return _without_specks(large > 127)


def _stands_out(image: np.ndarray, found: np.ndarray, inner: Box) -> bool:
    """False for a diffuse texture, whose darker half is no outline of anything."""
    x1, y1, x2, y2 = inner
    grey = image.mean(axis=2)
    rest = np.ones(grey.shape, dtype=bool)
    rest[y1:y2, x1:x2] = ~found
    if not found.any() or not rest.any():
        return False
    inside, outside = grey[y1:y2, x1:x2][found], grey[rest]
    return bool(abs(inside.mean() - outside.mean()) > LEAST_SEPARATION * (outside.std() + 0.5))


def _departures(image: np.ndarray, inner: Box) -> np.ndarray:
    """Where the inner box departs from the surface around it, split by Otsu's threshold."""
    x1, y1, x2, y2 = inner
    outside = np.ones(image.shape[:2], dtype=bool)
    outside[y1:y2, x1:x2] = False
    surface = np.median(image[outside], axis=0)
    distance = np.abs(image.astype(np.float32) - surface).max(axis=2)
    box = np.clip(distance[y1:y2, x1:x2], 0, 255).astype(np.uint8)
    level, _ = cv2.threshold(box, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    noise = float(np.median(distance[outside]))
    return np.asarray(box > max(level, 1.5 * noise))


def _without_specks(mask: np.ndarray) -> np.ndarray:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count < 2:
        return mask
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    return np.asarray(np.isin(labels, np.flatnonzero(areas >= 0.05 * areas.max())))


def _plausible(mask: np.ndarray) -> bool:
    """A box is drawn tightly around its defect, so a good mask spans most of it both ways."""
    if not LEAST_FILL <= mask.mean() <= MOST_FILL:
        return False
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    spans = (np.ptp(ys) + 1) / mask.shape[0], (np.ptp(xs) + 1) / mask.shape[1]
    return min(spans) >= 0.6
