"""Where the part is and where the backdrop: a conservative estimate from one photograph."""

import cv2
import numpy as np

WORK_PX = 192
"""Longer side of the copy that is looked at; a backdrop is no matter of fine detail."""

CORNER_SHARE = 0.06
MOST_CORNER_DISTANCE = 12.0
MOST_BACKDROP_SPREAD = 6.0
LEAST_SEPARATION = 6.0
LEAST_CONTRAST = 30.0
LEAST_SHARE, MOST_SHARE = 0.05, 0.92
LEAST_EDGE_GRADIENT = 5.0

LEAST_STRIP_CONTRAST = 50.0
LEAST_STRIP_DEPTH = 0.02
LEAST_STRIP_SHARE_OF_SIDE = 0.9
MOST_STRIP_SHARE = 0.6


def estimate_foreground(image: np.ndarray) -> np.ndarray:
    """Tell a part from the uniform backdrop that it was photographed on.

    A backdrop around the part is believed in only where all four corners show the same even
    colour, most of the frame's rim has it too, and what differs from it differs strongly, in one
    compact piece with a sharp outline; a backdrop beyond an edge of the part, where one whole side
    of the frame shows an even strip that ends in a sharp, strong step. In every other case (a
    surface that fills the frame, uneven light, soft dark rims, doubt) everything is the part.

    Args:
        image: (H, W, 3) uint8, RGB.

    Returns:
        (H, W) bool, True on the part.
    """
    height, width = image.shape[:2]
    everything = np.ones((height, width), dtype=bool)
    factor = min(1.0, WORK_PX / max(height, width))
    size = max(round(width * factor), 8), max(round(height * factor), 8)
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), 1.0).astype(np.float32)

    backdrop = _corner_colour(small)
    if backdrop is None:
        return _enlarged(~_strips(small), width, height)
    distance = np.sqrt(np.square(small - backdrop).mean(axis=2)).astype(np.float32)
    level, _ = cv2.threshold(
        np.clip(distance, 0, 255).astype(np.uint8), 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU
    )
    # Otsu lies midway between the two; the outline is looked for nearer to the backdrop.
    part = _largest_filled(distance > max(0.6 * level, 2 * MOST_CORNER_DISTANCE / 3))
    if not _believable(part, distance):
        return everything
    return _enlarged(part, width, height)


def _enlarged(part: np.ndarray, width: int, height: int) -> np.ndarray:
    full = cv2.resize(part.astype(np.uint8), (width, height), interpolation=cv2.INTER_LINEAR)
    return full > 0


def _strips(image: np.ndarray) -> np.ndarray:
    """Backdrop beyond straight or ragged edges of the part, side by side of the frame."""
    found = np.zeros(image.shape[:2], dtype=bool)
    for turns in range(4):
        turned = np.rot90(image, turns)
        found |= np.rot90(_strip_at_top(turned), -turns)
    return found if found.mean() <= MOST_STRIP_SHARE else np.zeros_like(found)


def _strip_at_top(image: np.ndarray) -> np.ndarray:
    """The even region that hangs on the frame's upper side; empty where it is no backdrop."""
    nothing = np.zeros(image.shape[:2], dtype=bool)
    colour = np.median(image[0], axis=0)
    near = (np.abs(image - colour).max(axis=2) < MOST_CORNER_DISTANCE).astype(np.uint8)
    if near[0].mean() < LEAST_STRIP_SHARE_OF_SIDE:
        return nothing
    _, pieces = cv2.connectedComponents(near, connectivity=4)
    touching = np.unique(pieces[0][near[0] > 0])
    strip = np.isin(pieces, touching) & (near > 0)
    # the ramp that the blur makes of a sharp edge belongs to neither side
    ramp = cv2.dilate(strip.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    rest = ~ramp
    if strip.mean() < LEAST_STRIP_DEPTH or rest.mean() < 1 - MOST_STRIP_SHARE:
        return nothing
    level = image.mean(axis=2)
    beyond = cv2.dilate(ramp.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    step = np.abs(float(np.median(level[beyond & rest])) - float(np.median(level[strip])))
    even = float(level[strip].std()) < MOST_BACKDROP_SPREAD
    # a soft dark rim goes on getting lighter behind the ramp; a backdrop has ended there
    if not even or step < LEAST_STRIP_CONTRAST:
        return nothing
    return cv2.erode(ramp.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0


def _corner_colour(image: np.ndarray) -> np.ndarray | None:
    """Colour of the backdrop, or None where the corners or the rim tell of no backdrop."""
    height, width = image.shape[:2]
    a = max(3, round(CORNER_SHARE * min(height, width)))
    corners = [image[:a, :a], image[:a, -a:], image[-a:, :a], image[-a:, -a:]]
    medians = np.stack([np.median(c.reshape(-1, 3), axis=0) for c in corners])
    colour = np.median(medians, axis=0)
    if np.abs(medians - colour).max() > MOST_CORNER_DISTANCE:
        return None
    if max(float(c.std(axis=(0, 1)).max()) for c in corners) > MOST_BACKDROP_SPREAD:
        return None
    rim = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    near = np.abs(rim - colour).max(axis=1) < MOST_CORNER_DISTANCE
    return colour if near.mean() > 0.5 else None


def _largest_filled(mask: np.ndarray) -> np.ndarray:
    """Pieces of at least a fifth of the largest one, with their holes filled."""
    closed = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    outlines, _ = cv2.findContours(closed, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros_like(closed)
    if outlines:
        areas = [cv2.contourArea(o) for o in outlines]
        kept = [o for o, a in zip(outlines, areas, strict=True) if a >= 0.2 * max(areas)]
        cv2.drawContours(filled, kept, -1, 1, cv2.FILLED)
    return filled > 0


def _believable(part: np.ndarray, distance: np.ndarray) -> bool:
    share = float(part.mean())
    if not LEAST_SHARE <= share <= MOST_SHARE:
        return False
    inside, outside = distance[part], distance[~part]
    if float(np.percentile(outside, 98)) > 2 * MOST_CORNER_DISTANCE:
        return False
    contrast = float(np.median(inside) - np.median(outside))
    if contrast < LEAST_CONTRAST or contrast < LEAST_SEPARATION * float(outside.std() + 1e-6):
        return False
    # A part has an outline; light that falls off towards the corners has none.
    gx, gy = cv2.Sobel(distance, cv2.CV_32F, 1, 0), cv2.Sobel(distance, cv2.CV_32F, 0, 1)
    rim = cv2.morphologyEx(part.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((5, 5), np.uint8)) > 0
    return float(np.median(np.hypot(gx, gy)[rim]) / 8) > LEAST_EDGE_GRADIENT
