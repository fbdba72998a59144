"""Shapes of defects: what the real ones of a class are like, and procedural ones like them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from scipy import ndimage
from skimage.morphology import skeletonize

from generator.placement import Site
from generator.records import DefectExample, Instance

Kind = Literal["blob", "stroke", "crack", "bite", "band"]

PREFERRED_RESULTANT = 0.6
"""Length of the mean orientation vector from which on a class counts as oriented."""


RIM_PX, LEAST_INSIDE = 3, 200
"""What lies within so many pixels of a mask's rim belongs to the defect's outline; an inside of
fewer pixels is too little to have a direction."""


@dataclass(frozen=True)
class RealShape:
    """One real instance with what was measured on it.

    Attributes:
        mask: bool array of the box's size.
        angle: principal axis, radians in [0, pi); `elongation`: ratio of the axes, >= 1.
        thickness: mean width across the skeleton, pixels.
        kind: what a procedural shape like this one would be.
        grain: how much its inside has one direction, 0 to 1; see `grain_of`.
    """

    example: DefectExample
    instance: Instance
    mask: np.ndarray
    site: Site
    angle: float
    elongation: float
    thickness: float
    kind: Kind
    grain: float = 0.0


def measure(
    example: DefectExample, instance: Instance, mask: np.ndarray, site: Site, pixels: np.ndarray
) -> RealShape:
    """Measure an instance; `mask` is a bool array of the box's size, `pixels` uint8 (h, w, 3) of
    the box."""
    angle, elongation = principal_axis(mask)
    thickness, branches = _skeleton(mask)
    kind: Kind
    if "both" in (site.x.kind, site.y.kind):
        kind = "band"
    elif elongation >= 3 or max(mask.shape) > 8 * thickness:
        kind = "crack" if branches > 2 else "stroke"
    else:
        kind = "bite" if site.touches else "blob"
    grain = grain_of(pixels, mask)
    return RealShape(example, instance, mask, site, angle, elongation, thickness, kind, grain)


def grain_of(pixels: np.ndarray, mask: np.ndarray) -> float:
    """How much a defect's inside has one direction, such as a surface's grain seen through a stain,
    or light that falls from one side.

    Args:
        pixels: uint8 (h, w, 3).
        mask: (h, w) bool.

    Returns:
        Coherence of the structure tensor (Bigun and Granlund 1987) over what lies deeper than
        `RIM_PX` in the mask, 0 (none) to 1; 0 where that is less than `LEAST_INSIDE` pixels.
    """
    inside = cv2.distanceTransform(np.pad(mask.view(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    deep = inside > RIM_PX
    if deep.sum() < LEAST_INSIDE:
        return 0.0
    grey = cv2.GaussianBlur(pixels.mean(axis=2, dtype=np.float32), (0, 0), 1)
    gx, gy = cv2.Sobel(grey, cv2.CV_32F, 1, 0)[deep], cv2.Sobel(grey, cv2.CV_32F, 0, 1)[deep]
    xx, yy, xy = float((gx * gx).sum()), float((gy * gy).sum()), float((gx * gy).sum())
    return float(np.hypot(xx - yy, 2 * xy) / (xx + yy)) if xx + yy > 0 else 0.0


def principal_axis(mask: np.ndarray) -> tuple[float, float]:
    """Direction (radians, [0, pi), x to the right and y down) and ratio of the principal axes."""
    ys, xs = np.nonzero(mask)
    if len(xs) < 2:
        return 0.0, 1.0
    # 1/12 is the variance of a pixel's own square: a line one pixel wide has a width.
    cov = np.cov(np.stack([xs, ys]), bias=True) + np.eye(2) / 12
    values, vectors = np.linalg.eigh(cov)
    angle = float(np.arctan2(vectors[1, 1], vectors[0, 1]) % np.pi)
    return angle, float(np.sqrt(values[1] / values[0]))


def _skeleton(mask: np.ndarray) -> tuple[float, int]:
    """Mean thickness in pixels, and the number of junctions of the skeleton."""
    factor = min(1.0, 96 / max(mask.shape))
    small = mask
    if factor < 1:
        size = max(round(mask.shape[1] * factor), 1), max(round(mask.shape[0] * factor), 1)
        small = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    line = skeletonize(np.pad(small, 1))
    neighbours = ndimage.convolve(line.astype(int), np.ones((3, 3), int)) - 1
    thickness = small.sum() / max(int(line.sum()), 1) / factor
    return float(thickness), int(ndimage.label(line & (neighbours > 2), np.ones((3, 3)))[1])


@dataclass(frozen=True)
class Orientation:
    """How a class's instances lie: the mean axis, and the spread around it in radians.

    `preferred` is False where they lie in all directions, or have no direction.
    """

    preferred: bool
    angle: float = 0.0
    spread: float = np.pi


def orientation_of(shapes: Sequence[RealShape]) -> Orientation:
    """Mean axis by doubled angles (Mardia and Jupp, Directional Statistics), longer ones more."""
    weights = np.array([min(s.elongation - 1, 3.0) for s in shapes])
    weights[weights < 0.3] = 0
    if np.count_nonzero(weights) < max(2, 0.5 * len(shapes)):
        return Orientation(preferred=False)
    doubled = np.exp(2j * np.array([s.angle for s in shapes]))
    mean = complex((weights * doubled).sum() / weights.sum())
    if abs(mean) < PREFERRED_RESULTANT:
        return Orientation(preferred=False)
    # all alike: rounding may leave a length above 1, and a spread of -0, which numpy refuses
    spread = float(np.sqrt(2 * abs(np.log(min(abs(mean), 1.0)))) / 2)
    return Orientation(True, float(np.angle(mean) / 2 % np.pi), spread)


def axis_distance(a: float, b: float) -> float:
    """Angle between two axes, radians, 0 to pi/2."""
    return float(abs(np.angle(np.exp(2j * (a - b)))) / 2)


def blend_outlines(first: np.ndarray, second: np.ndarray, share: float) -> np.ndarray:
    """A shape between two: the zero line of the blended signed distances.

    Args:
        first, second: bool masks; the second is stretched to the first one's box.
        share: of the first, 0 to 1.

    Returns:
        Bool mask of the first one's size; the first itself where the blend has no pixels left.
    """
    size = first.shape[1], first.shape[0]
    other = cv2.resize(second.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    blended = share * _signed_distance(first) + (1 - share) * _signed_distance(other) > 0
    return blended if blended.sum() >= 0.25 * first.sum() else first


def _signed_distance(mask: np.ndarray) -> np.ndarray:
    padded = np.pad(mask.astype(np.uint8), 1)
    inner = cv2.distanceTransform(padded, cv2.DIST_L2, 3)
    outer = cv2.distanceTransform(1 - padded, cv2.DIST_L2, 3)
    return (inner - outer)[1:-1, 1:-1]


def procedural_mask(model: RealShape, rng: np.random.Generator) -> np.ndarray:
    """Draw a new shape of the kind, size, elongation and direction of a real one.

    Returns a bool array of the real one's box size; never empty.
    """
    h, w = model.mask.shape
    draw = {"blob": _blob, "bite": _bite, "band": _band, "stroke": _strokes, "crack": _strokes}
    mask = draw[model.kind](model, rng)
    if mask.sum() < 0.2 * model.mask.sum():
        mask = _blob(model, rng)
    return mask if mask.any() else np.ones((h, w), dtype=bool)


def _wave(t: np.ndarray, rng: np.random.Generator, roughness: float = 0.35) -> np.ndarray:
    """Smooth periodic noise over t in radians, falling off with frequency."""
    k = np.arange(1, 7)
    amplitude = roughness * rng.normal(size=6) / k**1.3
    return (amplitude[:, None] * np.cos(k[:, None] * t + rng.uniform(0, 2 * np.pi, (6, 1)))).sum(0)


def _fill(points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    canvas = np.zeros(shape, dtype=np.uint8)
    cv2.fillPoly(canvas, [np.round(points * 16).astype(np.int32)], 1, shift=4)
    return canvas > 0


def _blob(model: RealShape, rng: np.random.Generator) -> np.ndarray:
    h, w = model.mask.shape
    t = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    radius = np.exp(_wave(t, rng))
    ratio = np.sqrt(np.clip(model.elongation, 1, 6))
    x, y = radius * np.cos(t) * ratio, radius * np.sin(t) / ratio
    c, s = np.cos(model.angle), np.sin(model.angle)
    points = np.stack([c * x - s * y, s * x + c * y], axis=1)
    low, high = points.min(axis=0), points.max(axis=0)
    return _fill((points - low) / (high - low) * np.array([w - 1, h - 1]), (h, w))


def _bite(model: RealShape, rng: np.random.Generator) -> np.ndarray:
    """A blob cut by the touched sides: twice as large there, of which the inner half remains."""
    h, w = model.mask.shape
    sides = model.site.sides or _side_of_normal(model.site.normal)
    wide = 2 * w if sides & {"left", "right"} else w
    high = 2 * h if sides & {"top", "bottom"} else h
    whole = _blob(model, rng)
    whole = cv2.resize(whole.astype(np.uint8), (wide, high), interpolation=cv2.INTER_LINEAR) > 0
    x = w if "left" in sides and wide > w else 0
    y = h if "top" in sides and high > h else 0
    return whole[y : y + h, x : x + w]


def _side_of_normal(normal: float | None) -> frozenset[str]:
    if normal is None:
        return frozenset()
    names = ("right", "bottom", "left", "top")
    return frozenset({names[round(normal / (np.pi / 2)) % 4]})


def _band(model: RealShape, rng: np.random.Generator) -> np.ndarray:
    """From a touched side (or around the middle) to a wavy line across the box."""
    h, w = model.mask.shape
    across = model.site.x.kind == "both"
    length, depth = (w, h) if across else (h, w)
    other = model.site.y if across else model.site.x
    t = np.linspace(0, np.pi, length)
    slope = rng.normal(0, 0.15) * np.linspace(-1, 1, length)
    far = np.clip(0.85 + 0.25 * _wave(t, rng) + slope, 0.3, 1.0)[:, None] * depth
    d = np.arange(depth)[None, :] + 0.5
    if other.kind == "high":
        band = d >= depth - far
    elif other.kind == "free":
        near = np.clip(0.12 + 0.2 * _wave(t, rng) - slope, 0.0, 0.4)[:, None] * depth
        band = (d >= near) & (d <= far)
    else:
        band = d <= far
    return np.asarray(band.T if across else band)


def _strokes(model: RealShape, rng: np.random.Generator) -> np.ndarray:
    """A curved line of the model's direction, length and thickness; a crack also branches."""
    h, w = model.mask.shape
    length = 2 * np.hypot(h, w)
    trunk = _walk(model.angle, length, 0.10 if model.kind == "stroke" else 0.22, rng)
    lines = [(trunk, 1.0)]
    if model.kind == "crack":
        for _ in range(int(rng.integers(1, 4))):
            start = int(rng.integers(len(trunk) // 5, len(trunk) - 2))
            heading = model.angle + rng.choice([-1, 1]) * rng.uniform(0.4, 1.1)
            branch = _walk(heading, length * rng.uniform(0.15, 0.4), 0.25, rng)
            lines.append((branch + trunk[start], 0.7))
    points = np.concatenate([line for line, _ in lines])
    low, high = points.min(axis=0), points.max(axis=0)
    half = min(model.thickness / 2, 0.45 * min(h, w))
    # each axis on its own scale: the stroke keeps the real one's box, and so its direction
    size = np.maximum(np.array([w, h]) - 1 - 2 * half, 0.1)
    canvas = np.zeros((h, w), dtype=np.uint8)
    for line, share in lines:
        at = (line - low) / np.maximum(high - low, 1e-6) * size + half
        width = half * 2 * share * np.exp(_wave(np.linspace(0, np.pi, len(at)), rng, 0.2))
        for a, b, thick in zip(at[:-1], at[1:], width[:-1], strict=True):
            cv2.line(
                canvas,
                tuple(np.round(a * 16).astype(int).tolist()),
                tuple(np.round(b * 16).astype(int).tolist()),
                1,
                max(1, round(float(thick))),
                shift=4,
            )
    return canvas > 0


def _walk(heading: float, length: float, wander: float, rng: np.random.Generator) -> np.ndarray:
    """Points of a path whose direction drifts smoothly around `heading`."""
    steps = 24
    drift = ndimage.gaussian_filter1d(rng.normal(0, 1, steps), 2, mode="nearest") * 4 * wander
    direction = heading + drift
    moves = np.stack([np.cos(direction), np.sin(direction)], axis=1) * length / steps
    return np.concatenate([np.zeros((1, 2)), np.cumsum(moves, axis=0)])
