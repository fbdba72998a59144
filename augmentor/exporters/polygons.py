"""One polygon for one mask, exact for readers that fill pixels and for those that measure areas.

Readers disagree on what a coordinate is. OpenCV (and so ultralytics) cuts it to the pixel and
fills including the outline: for them an outline through pixel centres is exact, and one around
the pixels is a pixel too large. Geometry (COCO tools, shapely) takes it as it stands: for them
the first is a pixel too small. Here the outline runs `INSET_PX` inside the pixels' outer edges,
which both read as the same mask.
"""

import cv2
import numpy as np
from scipy.spatial import KDTree

INSET_PX = 0.02
"""Distance of the outline from the true edge: more than the rounding of 7 decimals of a 100,000
px image, and for a defect of 12 x 13 px under 1 % of its area."""

MAX_POINTS = 900
"""ultralytics resamples outlines to 1,000 points: it adds to shorter ones, and skips points of
longer ones wherever they happen to lie. Longer ones are simplified here, with a bound."""

TOLERANCES_PX = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)


def mask_to_polygon(mask: np.ndarray, offset_xy: tuple[int, int] = (0, 0)) -> np.ndarray:
    """Outline a mask as a single closed polygon.

    Several parts and holes are joined through their nearest corners by a line that is walked
    there and back, as ultralytics does for COCO, so that an instance stays one line of a label
    file. The line encloses nothing; a reader that draws outlines paints it one pixel wide.

    Args:
        mask: bool (h, w), not empty.
        offset_xy: where the mask's corner lies in the image, pixels.

    Returns:
        float64 (n, 2), n >= 4, x and y in pixels of the image, corners of the outline in order.
    """
    # Doubled, every pixel has a left and a right half, which tells its two edges apart.
    doubled = mask.astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    found, _ = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    rings = [ring[:, 0, :].astype(np.int64) for ring in found]
    outlines = [_to_pixels(ring) for ring in rings]
    for tolerance in TOLERANCES_PX:
        if sum(len(outline) + 2 for outline in outlines) <= MAX_POINTS:
            break
        outlines = _simplified(rings, tolerance)
    return _join(outlines) + np.asarray(offset_xy, np.float64)


def overlap(mask: np.ndarray, polygon: np.ndarray) -> float:
    """Intersection over union of a mask, bool (h, w), with its outline as OpenCV fills it; of a
    great many parts no outline of `MAX_POINTS` says all."""
    drawn = np.zeros(mask.shape, np.uint8)
    cv2.fillPoly(drawn, [polygon.astype(np.int32)], 1)
    found = drawn > 0
    return float((found & mask).sum() / (found | mask).sum())


def yolo_line(class_index: int, polygon: np.ndarray, width: int, height: int) -> str:
    """One line of a YOLO segmentation label: the class, then x and y as shares of the image."""
    shares = (polygon / (width, height)).clip(0, 1).ravel()
    return " ".join([str(class_index), *(f"{share:.7f}" for share in shares)])


def _to_pixels(ring: np.ndarray) -> np.ndarray:
    """From half-pixel cells to points just inside the pixel's outer edge."""
    return ring // 2 + np.where(ring % 2, 1 - INSET_PX, INSET_PX)


def _simplified(rings: list[np.ndarray], tolerance: float) -> list[np.ndarray]:
    """Rings with fewer corners, each within `tolerance` pixels of the true outline.

    A ring that collapses (a hole or speck smaller than the tolerance) is left out; of nothing but
    such rings the hull of all is drawn, as two points would be read as a box's centre and size.
    """
    approximated = [
        cv2.approxPolyDP(ring[:, None].astype(np.int32), 2 * tolerance, True)[:, 0]
        for ring in rings
    ]
    kept = [ring for ring in approximated if len(ring) >= 3]
    if not kept:
        kept = [cv2.convexHull(np.concatenate(rings).astype(np.int32))[:, 0]]
    return [_to_pixels(ring.astype(np.int64)) for ring in kept]


def _join(rings: list[np.ndarray]) -> np.ndarray:
    """Merge rings into one, always the nearest next, by a line walked there and back."""
    joined, rest = rings[0], rings[1:]
    nearest = [_nearest(joined, ring) for ring in rest]
    while rest:
        k = min(range(len(rest)), key=lambda i: nearest[i][0])
        ring, (_, at, start) = rest.pop(k), nearest.pop(k)
        turned = np.concatenate([ring[start:], ring[: start + 1]])
        joined = np.concatenate([joined[: at + 1], turned, joined[at:]])
        inserted = len(turned) + 1
        for i, other in enumerate(rest):
            distance, old_at, old_start = nearest[i]
            moved = (distance, old_at + inserted if old_at > at else old_at, old_start)
            near, new_at, new_start = _nearest(turned, other)
            nearest[i] = min(moved, (near, at + 1 + new_at, new_start))
    return joined


def _nearest(a: np.ndarray, b: np.ndarray) -> tuple[float, int, int]:
    """Smallest distance between two sets of points, and the index in each."""
    distances, indices = KDTree(a).query(b)
    start = int(distances.argmin())
    return float(distances[start]), int(indices[start]), start
