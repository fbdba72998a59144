"""Where a defect sits: learned from a real instance, found again on another image.

A real instance's place is written down relative to the sides of its image (for a surface that
fills the frame) or to the outline of the part (for a part on a backdrop). The same description
then gives a place on any other image, of any size.
"""

from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np

from generator.records import Box

AxisKind = Literal["low", "high", "both", "free"]

TOUCH_PX = 2
"""A defect whose distance to a side or an outline is at most this touches it."""

NEAR_SHARE = 0.1
"""A side nearer than this share of the image's length keeps its distance in pixels."""

FULL_SHARE = 0.995
"""A part that covers this share of its image has no backdrop."""


@dataclass(frozen=True)
class AxisSite:
    """Place along one axis: near the low side, the high side, spanning both, or free.

    `gap` is the distance to that side in pixels; `position` the centre, 0 to 1 of the length.
    """

    kind: AxisKind
    gap: float
    position: float

    @property
    def touches(self) -> bool:
        """True for a defect that reaches the side."""
        return self.kind == "both" or (self.kind != "free" and self.gap <= TOUCH_PX)

    def mirrored(self) -> "AxisSite":
        """The same place seen from the other end."""
        other: dict[AxisKind, AxisKind] = {"low": "high", "high": "low"}
        return replace(self, kind=other.get(self.kind, self.kind), position=1 - self.position)


@dataclass(frozen=True)
class Site:
    """Place of one instance.

    `on_backdrop` says that the part does not fill its image; positions are then relative to the
    part's box. `contact_xy` and `normal` (outward direction, radians) are the place and the
    direction in which the defect touches the part's outline; None where it does not.
    """

    x: AxisSite
    y: AxisSite
    on_backdrop: bool = False
    contact_xy: tuple[float, float] | None = None
    normal: float | None = None

    @property
    def touches(self) -> bool:
        """True for a defect at an edge of the part or of the image."""
        return self.normal is not None or self.x.touches or self.y.touches

    @property
    def sides(self) -> frozenset[str]:
        """Which sides of the image are touched."""
        found = set()
        for axis, low, high in ((self.x, "left", "right"), (self.y, "top", "bottom")):
            if axis.touches:
                found |= (
                    {low, high} if axis.kind == "both" else {low if axis.kind == "low" else high}
                )
        return frozenset(found)


@dataclass(frozen=True)
class Ground:
    """A surface to paint on.

    Attributes:
        foreground: (H, W) bool, the part.
        taken: (H, W) bool, where no new defect may lie; None where nothing is taken.
        box_xyxy: the part's box.
    """

    foreground: np.ndarray
    taken: np.ndarray | None
    box_xyxy: Box

    @property
    def on_backdrop(self) -> bool:
        """True where the part does not fill the image."""
        x1, y1, x2, y2 = self.box_xyxy
        height, width = self.foreground.shape
        return (x1, y1, x2, y2) != (0, 0, width, height) or not self.foreground.all()


def ground_of(foreground: np.ndarray, taken: np.ndarray | None = None) -> Ground:
    """Wrap a (H, W) bool foreground; one that covers nearly all is taken as all."""
    height, width = foreground.shape
    if foreground.mean() >= FULL_SHARE or not foreground.any():
        return Ground(np.ones_like(foreground), taken, (0, 0, width, height))
    return Ground(foreground, taken, box_of(foreground))


def box_of(mask: np.ndarray) -> Box:
    """Tight xyxy box of a (H, W) bool mask that is not empty."""
    x, y, w, h = cv2.boundingRect(mask.view(np.uint8) if mask.dtype == bool else mask)
    return x, y, x + w, y + h


def site_of(box_xyxy: Box, mask: np.ndarray, ground: Ground) -> Site:
    """Describe where an instance sits.

    Args:
        box_xyxy: the instance's box.
        mask: bool array of the box's size.
        ground: the instance's own image.
    """
    bx1, by1, bx2, by2 = ground.box_xyxy
    x1, y1, x2, y2 = box_xyxy
    if not ground.on_backdrop:
        return Site(_axis(x1, x2, bx2), _axis(y1, y2, by2))
    free_x = AxisSite("free", 0.0, float(np.clip(((x1 + x2) / 2 - bx1) / (bx2 - bx1), 0, 1)))
    free_y = AxisSite("free", 0.0, float(np.clip(((y1 + y2) / 2 - by1) / (by2 - by1), 0, 1)))
    contact = _contact(box_xyxy, mask, ground.foreground)
    if contact is None:
        return Site(free_x, free_y, on_backdrop=True)
    return Site(free_x, free_y, True, contact[:2], contact[2])


def _axis(low: int, high: int, length: int) -> AxisSite:
    before, after = low, length - high
    position = (low + high) / 2 / length
    touch = max(TOUCH_PX, 0.01 * length)
    if before <= touch and after <= touch:
        return AxisSite("both", 0.0, position)
    if min(before, after) > NEAR_SHARE * length:
        return AxisSite("free", 0.0, position)
    gap = float(min(before, after))
    return AxisSite("low" if before <= after else "high", 0.0 if gap <= touch else gap, position)


def _contact(
    box_xyxy: Box, mask: np.ndarray, foreground: np.ndarray
) -> tuple[float, float, float] | None:
    """Where and in which direction (radians) a defect touches the part's outline."""
    x1, y1, x2, y2 = box_xyxy
    pad = 12
    height, width = foreground.shape
    window = np.zeros((y2 - y1 + 2 * pad, x2 - x1 + 2 * pad), dtype=np.uint8)
    left, top, right, bottom = x1 - pad, y1 - pad, x2 + pad, y2 + pad
    a, b, c, d = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    window[b - top : d - top, a - left : c - left] = foreground[b:d, a:c]
    # A missing chunk looks like backdrop: the part includes what the defect took from it.
    window[pad:-pad, pad:-pad] |= mask.view(np.uint8)
    distance = cv2.distanceTransform(window, cv2.DIST_L2, 3)
    touching = np.zeros(window.shape, dtype=bool)
    touching[pad:-pad, pad:-pad] = mask & (distance[pad:-pad, pad:-pad] <= TOUCH_PX)
    if not touching.any():
        return None
    soft = cv2.GaussianBlur(window.astype(np.float32), (0, 0), 4)
    gx = cv2.Sobel(soft, cv2.CV_32F, 1, 0)[touching].sum()
    gy = cv2.Sobel(soft, cv2.CV_32F, 0, 1)[touching].sum()
    ys, xs = np.nonzero(touching)
    return float(xs.mean() + left), float(ys.mean() + top), float(np.arctan2(-gy, -gx))


def side_normal(site: Site) -> float | None:
    """Outward direction of the touched sides of a frame-filling surface; None inside."""
    dx = {"low": -1.0, "high": 1.0}.get(site.x.kind, 0.0) if site.x.touches else 0.0
    dy = {"low": -1.0, "high": 1.0}.get(site.y.kind, 0.0) if site.y.touches else 0.0
    return float(np.arctan2(dy, dx)) if dx or dy else None


def site_for_frame(site: Site) -> Site:
    """A place on a part's outline, said in terms of the sides of a frame-filling surface."""
    if not site.on_backdrop:
        return site
    if site.normal is None:
        return replace(site, on_backdrop=False)
    dx, dy = np.cos(site.normal), np.sin(site.normal)
    x, y = site.x, site.y
    if abs(dx) >= abs(dy):
        x = replace(x, kind="high" if dx > 0 else "low", gap=0.0)
    else:
        y = replace(y, kind="high" if dy > 0 else "low", gap=0.0)
    return Site(x, y)


def rim_point(
    ground: Ground, direction: float | None, spread: float, rng: np.random.Generator
) -> tuple[float, float, float]:
    """A random point of the part's outline and its outward normal (radians).

    Where the part is cut off by the image's side, that side is no outline of it: such points are
    taken only where there are no others.

    Args:
        direction: normals near this one are preferred; None for any.
        spread: standard deviation of that preference, radians.
    """
    outlines, _ = cv2.findContours(
        ground.foreground.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    points = max(outlines, key=len)[:, 0, :].astype(np.float64)
    step = max(3, len(points) // 80)
    tangent = np.roll(points, -step, axis=0) - np.roll(points, step, axis=0)
    # OpenCV walks an outer outline so that (y, -x) of the tangent points inwards or outwards
    # alike for the whole curve; the side is settled by the curve's signed area.
    sign = np.sign(cv2.contourArea(points.astype(np.float32), oriented=True)) or 1.0
    normals = np.arctan2(-sign * tangent[:, 0], sign * tangent[:, 1])
    weights = np.ones(len(points))
    if direction is not None:
        away = np.angle(np.exp(1j * (normals - direction)))
        weights = np.exp(-0.5 * (away / max(spread, 0.05)) ** 2) + 1e-9
    last = np.array(ground.foreground.shape[::-1]) - 1
    # one step from it as well: the tangent there turns round the corner
    cut = ((points <= step) | (points >= last - step)).any(axis=1)
    if not cut.all():
        weights[cut] = 0
    k = int(rng.choice(len(points), p=weights / weights.sum()))
    return float(points[k, 0]), float(points[k, 1]), float(normals[k])


def admissible(mask: np.ndarray, origin_xy: tuple[int, int], ground: Ground, inside: bool) -> bool:
    """True where a mask may lie.

    Args:
        mask: (h, w) bool, not empty, a window of the ground at `origin_xy`.
        inside: the defect must stay clear of the part's and the image's edge, by more than
            `TOUCH_PX`.
    """
    x, y = origin_xy
    height, width = ground.foreground.shape
    h, w = mask.shape
    if ground.taken is not None and (ground.taken[y : y + h, x : x + w] & mask).any():
        return False
    if not inside:
        return not (mask & ~ground.foreground[y : y + h, x : x + w]).any()
    x1, y1, x2, y2 = box_of(mask)
    if min(x + x1, y + y1, width - x - x2, height - y - y2) <= TOUCH_PX:
        return False
    if not ground.on_backdrop:
        return True
    k = TOUCH_PX
    a, b, c, d = max(x - k, 0), max(y - k, 0), min(x + w + k, width), min(y + h + k, height)
    grown = np.zeros((d - b, c - a), dtype=np.uint8)
    grown[y - b : y - b + h, x - a : x - a + w] = mask
    grown = cv2.dilate(grown, np.ones((2 * k + 1, 2 * k + 1), np.uint8))
    return not (grown.view(bool) & ~ground.foreground[b:d, a:c]).any()
