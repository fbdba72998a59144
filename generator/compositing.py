"""Blending a painted crop back into its background, and finding what really changed."""

from dataclasses import dataclass, field

import cv2
import numpy as np
from scipy import ndimage

from generator.parts import label_parts
from generator.placement import box_of
from generator.records import Box, Draft

COMPOSITE_VERSION = 2
"""Raised when the same plan gives other pixels or boxes."""

LEAST_NOISE = 1.0
"""Grey levels; differences below it are rounding, whatever the surface."""

LOW, HIGH = 0.8, 2.0
"""Hysteresis on the difference, in units of the surface's noise at the same scale: what exceeds
`LOW` and hangs together with something above `HIGH` has changed."""

STEP_PX = 6
"""Distance of the neighbour that the surface is compared with, pixels."""

SMOOTH_SHARE = 0.2
"""What of a defect counts as its grain is finer than this share of its mask's depth."""

LEAST_PART = 0.01
WORK_PX = 160


@dataclass(frozen=True)
class Composite:
    """A finished sample.

    Attributes:
        image: (H, W, 3) uint8; equal to the background beyond the feather.
        mask: (H, W) bool, what of the planned mask changed: the label. All False where nothing
            did, and in whole-image mode.
        boxes_xyxy: one box for each defect of the mask, as `generator.parts` tells them apart, or
            around all of them (`Draft.one_box`) and as much more as `Draft.beyond_px` says. What is
            smaller than a hundredth of the largest is in neither.
        scores: see `composite`; empty in whole-image mode.
    """

    image: np.ndarray
    mask: np.ndarray
    boxes_xyxy: tuple[Box, ...] = ()
    scores: dict[str, float] = field(default_factory=dict)


def composite(draft: Draft, painted: np.ndarray, *, feather_px: int = 3) -> Composite:
    """Blend what was painted into the background, and derive the mask from the difference.

    Pixels farther than `feather_px` from `draft.mask` are bit-identical to the background; within
    it the painted share falls linearly; with `draft.fade_px` it falls inside the mask instead, and
    nothing outside changes. A smooth offset between the painted crop and the
    background, as seen outside the mask, is taken off first, and what is left in the mask is
    multiplied by `draft.severity`, as far as it is no grain.

    Args:
        draft: the plan.
        painted: (crop height, crop width, 3) uint8, from a painter.
        feather_px: width of the blend around the mask, pixels; at least 0.

    Returns:
        The sample with the scores

        - `fill`: share of `draft.mask` that changed;
        - `contrast`: mean absolute change in the derived mask, in units of the surface's noise,
          both at the scale at which the mask was derived;
        - `leak`: share of the painted crop's changes (summed absolute difference above the noise)
          that lies outside the feathered mask, before blending cuts it off and without
          `Draft.severity`, which is of the mask alone;
        - `seam`: by how much the gradient along the mask's rim exceeds that of the background at
          the same place, in units of the surface's noise; 0 without excess. That of the defect
          before `Draft.severity`, as a darker one has no worse seam;
        - `area_px`: pixels of the derived mask.

    Raises:
        ValueError: the painted crop is not of the size that the draft asks for, or not uint8.
    """
    x1, y1, x2, y2 = draft.crop_xyxy
    if painted.shape != (y2 - y1, x2 - x1, 3) or painted.dtype != np.uint8:
        raise ValueError(
            f"the painter returned {painted.dtype} of shape {painted.shape}, "
            f"the draft's crop is uint8 of shape {(y2 - y1, x2 - x1, 3)}"
        )
    grey = draft.grey if draft.background is None else draft.background.grey
    if grey:
        painted = np.repeat(painted.mean(axis=2, keepdims=True).round().astype(np.uint8), 3, axis=2)
    if draft.background is None:
        return Composite(painted.copy(), np.zeros(draft.mask.shape, dtype=bool))
    below = draft.image[y1:y2, x1:x2]
    wanted = draft.mask[y1:y2, x1:x2]
    away = cv2.distanceTransform((~wanted).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    raw = painted.astype(np.float32) - below
    plain = raw - _offset(raw, away > feather_px)
    even = _stressed(plain, wanted, draft.severity)
    # only what lies within the feather is written at all: the rest stays bit-identical
    support = away <= feather_px
    alpha = np.clip(1 - away / (feather_px + 1), 0, 1)
    if draft.fade_px > 0:
        depth = cv2.distanceTransform(wanted.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        alpha = np.clip(depth / (draft.fade_px + 1), 0, 1)
    unstressed = _blend(below, plain, alpha, support)
    image = draft.image.copy()
    image[y1:y2, x1:x2] = unstressed if even is plain else _blend(below, even, alpha, support)

    change = image[y1:y2, x1:x2].astype(np.float32) - below
    changed, contrast = _derive(change, below, even, wanted, support)
    changed = _without_crumbs(changed)
    mask = np.zeros(draft.mask.shape, dtype=bool)
    mask[y1:y2, x1:x2] = changed
    scores = {
        "fill": float((changed & wanted).sum() / wanted.sum()),
        "contrast": contrast,
        "leak": _leak(plain, below, support),
        "seam": _seam(unstressed, below, wanted),
        "area_px": float(changed.sum()),
    }
    boxes = (_one_box(mask, draft.beyond_px),) if draft.one_box and mask.any() else boxes_of(mask)
    return Composite(image, mask, boxes, scores)


def _one_box(mask: np.ndarray, beyond_px: tuple[float, float, float, float]) -> Box:
    """The box of a (H, W) bool mask, wider by so much to the left, top, right and bottom."""
    height, width = mask.shape
    x1, y1, x2, y2 = box_of(mask)
    left, top, right, bottom = (round(px) for px in beyond_px)
    return max(x1 - left, 0), max(y1 - top, 0), min(x2 + right, width), min(y2 + bottom, height)


def _blend(
    below: np.ndarray, difference: np.ndarray, alpha: np.ndarray, support: np.ndarray
) -> np.ndarray:
    """A (h, w, 3) uint8 background with a share of a difference added where `support` is True."""
    mixed = np.clip(np.rint(below + alpha[..., None] * difference), 0, 255).astype(np.uint8)
    return np.where(support[..., None], mixed, below)


def boxes_of(mask: np.ndarray) -> tuple[Box, ...]:
    """One xyxy box for each defect of a (H, W) bool mask, largest first; those below a hundredth of
    the largest get none."""
    labels, _ = label_parts(mask)
    areas = np.bincount(labels.ravel())[1:]
    parts = []
    for area, (rows, columns) in zip(areas, ndimage.find_objects(labels), strict=True):
        if area >= LEAST_PART * areas.max():
            parts.append((-int(area), (columns.start, rows.start, columns.stop, rows.stop)))
    return tuple(box for _, box in sorted(parts))


def _without_crumbs(mask: np.ndarray) -> np.ndarray:
    """A (h, w) bool mask without the parts that `boxes_of` gives no box, so that both agree."""
    labels, count = label_parts(mask)
    if count < 2:
        return mask
    areas = np.bincount(labels.ravel())[1:]
    return np.isin(labels, 1 + np.flatnonzero(areas >= LEAST_PART * areas.max()))


def _offset(difference: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Smooth offset of the painted crop, known outside the mask and continued into it.

    Large differences there are defects that left their mask, and not an offset: they are clipped
    at three times the median.
    """
    if outside.sum() < 16 or not difference[outside].any():
        return np.zeros_like(difference)
    known = difference[outside]
    centre = np.median(known, axis=0)
    bound = 3 * np.median(np.abs(known - centre), axis=0) + LEAST_NOISE
    factor = min(1.0, 32 / max(outside.shape))
    size = max(round(outside.shape[1] * factor), 2), max(round(outside.shape[0] * factor), 2)
    clipped = np.clip(difference, centre - bound, centre + bound) * outside[..., None]
    small = cv2.resize(clipped, size, interpolation=cv2.INTER_AREA)
    weight = cv2.resize(outside.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    blur = 0.15 * max(size)
    weight = cv2.GaussianBlur(weight, (0, 0), blur) + 1e-2
    small = cv2.GaussianBlur(small, (0, 0), blur) + 1e-2 * centre.astype(np.float32)
    full = outside.shape[1], outside.shape[0]
    return cv2.resize(small / weight[..., None], full, interpolation=cv2.INTER_LINEAR)


def _stressed(difference: np.ndarray, wanted: np.ndarray, severity: float) -> np.ndarray:
    """A difference to the background with that of the mask made stronger or fainter.

    Only its smooth part is multiplied: paste and background have a grain of their own, and their
    difference has both.
    """
    if severity == 1:
        return difference
    inside = wanted.astype(np.float32)
    depth = cv2.distanceTransform(np.pad(wanted.view(np.uint8), 1), cv2.DIST_L2, 3).max()
    sigma = float(np.clip(SMOOTH_SHARE * depth, 0.7, 4.0))
    weight = cv2.GaussianBlur(inside, (0, 0), sigma) + 1e-3
    smooth = cv2.GaussianBlur(difference * inside[..., None], (0, 0), sigma) / weight[..., None]
    return np.asarray(difference + (severity - 1) * smooth * inside[..., None])


def _derive(
    change: np.ndarray,
    below: np.ndarray,
    painted_difference: np.ndarray,
    wanted: np.ndarray,
    support: np.ndarray,
) -> tuple[np.ndarray, float]:
    """What of `wanted` changed, as (h, w) bool, and the contrast score.

    Large weak defects are only seen when their texture is averaged out, so the difference is
    smoothed at a scale that follows the mask's own thickness, and compared with what the surface
    itself varies by at that scale.
    """
    inner = cv2.distanceTransform(np.pad(wanted.view(np.uint8), 1), cv2.DIST_L2, 3)
    thickness = float(inner.max())
    # a large mask is looked at from farther away: the same work for every size
    factor = min(1.0, 8 / max(thickness, 1e-6), 1.0) if max(wanted.shape) > WORK_PX else 1.0
    factor = max(factor, WORK_PX / max(wanted.shape)) if factor < 1 else 1.0
    size = round(wanted.shape[1] * factor), round(wanted.shape[0] * factor)

    def shrink(array: np.ndarray) -> np.ndarray:
        grey = array.astype(np.float32)
        return grey if factor == 1 else cv2.resize(grey, size, interpolation=cv2.INTER_AREA)

    sigma = float(np.clip(0.25 * thickness * factor, 0.6, 4.0))
    inside = shrink(support)
    weight = cv2.GaussianBlur(inside, (0, 0), sigma) + 1e-3
    energy = np.zeros_like(inside)
    strongest = max(range(3), key=lambda c: float(np.abs(change[..., c]).sum()))
    signed = shrink(change[..., strongest])
    fine = cv2.GaussianBlur(signed**2 * inside, (0, 0), sigma) / weight
    coarse = cv2.GaussianBlur(signed * inside, (0, 0), sigma) / weight
    surface = shrink(below[..., strongest])
    outside = inside < 0.01
    residual = shrink(painted_difference[..., strongest])
    noise = _noise(surface, residual, outside, 0.0)
    noise_coarse = _noise(surface, residual, outside, sigma)
    energy = np.maximum(np.sqrt(fine) / noise, np.abs(coarse) / noise_coarse)
    # around the mask lie the blend and the defect's soft edge, which real masks leave out as well
    energy *= shrink(wanted)
    found = _hysteresis(energy)
    closed = max(1, round(sigma))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * closed + 1,) * 2)
    found = _fill_holes(cv2.morphologyEx(np.pad(found, closed), cv2.MORPH_CLOSE, kernel))
    found = found[closed:-closed, closed:-closed]
    if factor < 1:
        full = wanted.shape[1], wanted.shape[0]
        found = (cv2.resize(found * 255, full, interpolation=cv2.INTER_LINEAR) > 127).view(np.uint8)
    result = _without_specks(found) & wanted & (np.abs(change).max(axis=2) > 0)
    result = _fill_holes(result.view(np.uint8)).view(bool) & wanted
    if not result.any():
        return result, 0.0
    # at the scale of the noise: where a crop was shrunk, averaging has taken grain from both
    weight = shrink(result)
    return result, float((np.abs(signed) * weight).sum() / weight.sum()) / noise


def _noise(surface: np.ndarray, residual: np.ndarray, outside: np.ndarray, sigma: float) -> float:
    """Standard deviation, in grey levels, by which a patch of this surface differs from its
    neighbour (as a repainted one would), or by which the painter missed the background outside
    the mask, whichever is larger; after smoothing by `sigma`."""
    step = max(STEP_PX, round(4 * sigma))
    variances = []
    for dy, dx in ((0, step), (step, 0)):
        if surface.shape[0] > 2 * dy and surface.shape[1] > 2 * dx:
            moved = surface[dy:, dx:] - surface[: surface.shape[0] - dy, : surface.shape[1] - dx]
            if sigma > 0:
                moved = cv2.GaussianBlur(moved, (0, 0), sigma)
            variances.append((float(np.median(np.abs(moved))) * 1.4826) ** 2)
    own = float(np.sqrt(np.mean(variances))) if variances else 0.0
    missed = 0.0
    if outside.sum() >= 16:
        smooth = cv2.GaussianBlur(residual, (0, 0), sigma) if sigma > 0 else residual
        missed = float(np.median(np.abs(smooth[outside]))) * 1.4826
    return max(own, missed, LEAST_NOISE / (1 + sigma))


def _hysteresis(energy: np.ndarray) -> np.ndarray:
    count, labels = cv2.connectedComponents((energy > LOW).view(np.uint8), connectivity=8)
    if count < 2:
        return np.zeros(energy.shape, dtype=np.uint8)
    strong = np.zeros(count, dtype=bool)
    strong[np.unique(labels[energy > HIGH])] = True
    strong[0] = False
    return np.asarray(strong[labels]).view(np.uint8)


def _fill_holes(mask: np.ndarray) -> np.ndarray:
    """A (h, w) uint8 mask of 0 and 1 without holes."""
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(mask.copy(), outlines, -1, 1, cv2.FILLED)


def _without_specks(mask: np.ndarray) -> np.ndarray:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if count < 2:
        return mask > 0
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    return np.asarray((areas >= max(3, 0.02 * areas.max()))[labels])


def _leak(difference: np.ndarray, below: np.ndarray, support: np.ndarray) -> float:
    if support.all() or not difference[~support].any():
        return 0.0
    size = np.abs(difference).mean(axis=2)
    grey = below.mean(axis=2)
    noise = _noise(grey, difference.mean(axis=2), ~support, 0.0)
    excess = np.maximum(size - 3 * noise, 0)
    total = float(excess.sum())
    return float(excess[~support].sum()) / total if total > 0 else 0.0


def _seam(image: np.ndarray, below: np.ndarray, wanted: np.ndarray) -> float:
    kernel = np.ones((3, 3), np.uint8)
    rim = cv2.morphologyEx(wanted.view(np.uint8), cv2.MORPH_GRADIENT, kernel) > 0
    if not rim.any():
        return 0.0
    steps = []
    for picture in (image, below):
        grey = picture.mean(axis=2, dtype=np.float32)
        gx, gy = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
        steps.append(np.hypot(gx, gy)[rim] / 8)
    noise = max(float(np.median(steps[1])), LEAST_NOISE)
    return max(float(steps[0].mean() - steps[1].mean()) / noise, 0.0)
