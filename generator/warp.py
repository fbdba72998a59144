"""Carrying a shape, and its pixels, from one image to another by one and the same map."""

from dataclasses import dataclass

import cv2
import numpy as np

from generator.records import Box

GAIN_RANGE = (0.6, 1.7)
WHITE = 255.0
HALO_PX = 4
"""How far outside the mask a defect's own surroundings are carried along, pixels: people draw their
masks inside a defect's soft edge, and a defect cut there would teach that masks are wider than what
is seen."""
WHOLE_PX = 2
"""How much of that is carried whole, before it fades into the target."""
RING_PX = 8
"""How far outside the mask the surface is compared for its light, pixels."""


@dataclass(frozen=True)
class Pose:
    """Affine map `target = target_xy + matrix (source - source_xy)`, plus elastic bending.

    Attributes:
        matrix: (2, 2) float.
        source_xy, target_xy: the same point in both images, pixels.
        elastic_px: standard deviation of the bending, pixels of the source.
        elastic_seed: of the bending.
        prolonged: whether a mask that reaches a side of its source goes on beyond it, so that a
            turned or bent copy still reaches the target's side; False for one that is laid
            elsewhere, where it would show pixels that no photograph has.
    """

    matrix: np.ndarray
    source_xy: tuple[float, float]
    target_xy: tuple[float, float]
    elastic_px: float = 0.0
    elastic_seed: int = 0
    prolonged: bool = True


@dataclass(frozen=True)
class Warped:
    """A shape in the target: `mask` is a (h, w) bool window at `origin_xy`; `map_x` and `map_y`
    say for each of its pixels where in the source it comes from."""

    mask: np.ndarray
    origin_xy: tuple[int, int]
    map_x: np.ndarray
    map_y: np.ndarray


def warp_mask(
    mask: np.ndarray,
    box_xyxy: Box,
    source_wh: tuple[int, int],
    pose: Pose,
    target_wh: tuple[int, int],
    margin: int = RING_PX,
) -> Warped | None:
    """Carry a mask by `pose`; what leaves the target is cut off.

    A mask that reaches a side of its source is continued beyond it where the pose says so.

    Args:
        mask: bool array of the box's size.
        margin: pixels of the window around the mask.

    Returns:
        The window, or None where no pixel of the mask is left in the target.
    """
    x1, y1, x2, y2 = box_xyxy
    pad = 2 + int(np.ceil(3 * pose.elastic_px)) + max(4, max(x2 - x1, y2 - y1) // 6)
    padded = np.pad(mask.astype(np.uint8), pad)
    if pose.prolonged:
        _continue(padded, pad, box_xyxy, source_wh)
    corners = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], dtype=float)
    moved = (corners - pose.source_xy) @ pose.matrix.T + pose.target_xy
    slack = margin + np.ceil(2 * pose.elastic_px * np.linalg.norm(pose.matrix, 2))
    low = np.maximum(np.floor(moved.min(axis=0) - slack), 0).astype(int)
    high = np.minimum(np.ceil(moved.max(axis=0) + slack), target_wh).astype(int)
    w, h = high - low
    if w < 1 or h < 1:
        return None
    map_x, map_y = _inverse_map(pose, (int(low[0]), int(low[1])), (int(w), int(h)))
    found = cv2.remap(
        padded * 255,
        map_x - np.float32(x1 - pad),
        map_y - np.float32(y1 - pad),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
    )
    result = found > 127
    if not result.any():
        return None
    return Warped(result, (int(low[0]), int(low[1])), map_x, map_y)


def _continue(padded: np.ndarray, pad: int, box: Box, source_wh: tuple[int, int]) -> None:
    """Repeat the last row or column beyond each side of the image that the box reaches."""
    x1, y1, x2, y2 = box
    near = 2
    if x1 <= near:
        padded[:, :pad] = padded[:, pad : pad + 1]
    if x2 >= source_wh[0] - near:
        padded[:, -pad:] = padded[:, -pad - 1 : -pad]
    if y1 <= near:
        padded[:pad] = padded[pad : pad + 1]
    if y2 >= source_wh[1] - near:
        padded[-pad:] = padded[-pad - 1 : -pad]


def _inverse_map(
    pose: Pose, origin: tuple[int, int], size_wh: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    inverse = np.linalg.inv(pose.matrix)
    w, h = size_wh
    x = np.arange(w, dtype=np.float32)[None, :] + origin[0] + 0.5 - pose.target_xy[0]
    y = np.arange(h, dtype=np.float32)[:, None] + origin[1] + 0.5 - pose.target_xy[1]
    map_x = inverse[0, 0] * x + inverse[0, 1] * y + pose.source_xy[0] - 0.5
    map_y = inverse[1, 0] * x + inverse[1, 1] * y + pose.source_xy[1] - 0.5
    if pose.elastic_px > 0:
        # Simard et al., 2003: smooth random displacement; drawn on a coarse grid, so that its
        # waves are a fixed share of the shape whatever the shape's size.
        field = np.random.default_rng(pose.elastic_seed).normal(size=(2, 6, 6)).astype(np.float32)
        field = np.stack([cv2.GaussianBlur(f, (0, 0), 0.7) for f in field])
        field *= pose.elastic_px / max(float(field.std()), 1e-6)
        map_x = map_x + cv2.resize(field[0], (w, h), interpolation=cv2.INTER_CUBIC)
        map_y = map_y + cv2.resize(field[1], (w, h), interpolation=cv2.INTER_CUBIC)
    return map_x.astype(np.float32), map_y.astype(np.float32)


def carry(warped: Warped, source: np.ndarray) -> np.ndarray:
    """The pixels of `source`, (H, W, 3) uint8, that come to lie in the window of `warped`."""
    # cubic, as linear interpolation leaves the defect smoother than the surface around it
    return cv2.remap(
        source, warped.map_x, warped.map_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
    )


def paste_pixels(
    warped: Warped,
    source: np.ndarray,
    source_others: np.ndarray | None,
    target: np.ndarray,
    part: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Lay the source's pixels into a copy of the target, under the target's light.

    Brightness is matched as reflectance is seen (a ratio) over a ring around the mask, smoothly
    varying along it. The mask and `WHOLE_PX` around it hold the source's pixels alone; from
    there they fade into the target's up to `HALO_PX`, beyond which the target is unchanged.

    Args:
        source: (H, W, 3) uint8, the image that the mask comes from.
        source_others: (H, W) bool, what in the source is not its surface: defects, backdrop.
        target: (H', W', 3) uint8.
        part: (H', W') bool, where the target is not backdrop; None for everywhere. Over the
            backdrop nothing is carried outside the mask.

    Returns:
        The paste, and the context: the same pixels under their own light with a rim of
        `RING_PX` of their own surface. Both (H', W', 3) uint8.
    """
    x, y = warped.origin_xy
    h, w = warped.mask.shape
    carried = carry(warped, source).astype(np.float32)
    below = target[y : y + h, x : x + w].astype(np.float32)
    away = cv2.distanceTransform((~warped.mask).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    known = (warped.map_x > -1) & (warped.map_x < source.shape[1])
    known &= (warped.map_y > -1) & (warped.map_y < source.shape[0])
    here = np.ones((h, w), dtype=bool) if part is None else part[y : y + h, x : x + w]
    own = known & here
    if source_others is not None:
        others = cv2.remap(
            source_others.view(np.uint8), warped.map_x, warped.map_y, cv2.INTER_NEAREST
        )
        # next to the mask it is the defect itself, by rounding
        own &= (others == 0) | (away < 2)
    lit = _match_light(carried, below, own & (away > HALO_PX) & (away <= RING_PX))
    alpha = np.where(own, np.clip((HALO_PX + 1 - away) / (HALO_PX + 1 - WHOLE_PX), 0, 1), 0)
    alpha[warped.mask] = 1
    mixed = below + alpha[..., None] * (lit - below)
    result = target.copy()
    window = result[y : y + h, x : x + w]
    written = alpha > 0
    window[written] = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)[written]
    context = target.copy()
    rim = known & here & (away <= RING_PX)
    context[y : y + h, x : x + w][rim] = np.rint(carried).astype(np.uint8)[rim]
    return result, context


def _match_light(carried: np.ndarray, below: np.ndarray, ring: np.ndarray) -> np.ndarray:
    """Multiply `carried` by the smooth ratio of the two surfaces' brightness on the ring.

    Where that makes it brighter, what is paler than its own surface is seen from white instead,
    whose distance is multiplied: from black, a pale defect on a brighter surface would burn out.
    """
    if ring.sum() < 8:
        return carried
    # one light for all channels: a defect keeps its own colour against the surface's
    surfaces = np.stack([carried.mean(axis=2), below.mean(axis=2)], axis=-1) * ring[..., None]
    total = surfaces.sum(axis=(0, 1)) / ring.sum()
    sigma = max(ring.shape) / 4
    factor = min(1.0, 32 / max(ring.shape))
    size = max(round(ring.shape[1] * factor), 1), max(round(ring.shape[0] * factor), 1)
    small = cv2.resize(surfaces, size, interpolation=cv2.INTER_AREA)
    weight = cv2.resize(ring.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    blur = max(sigma * factor, 0.5)
    # a little of the global mean keeps the ratio tame far from the ring
    weight = cv2.GaussianBlur(weight, (0, 0), blur) + 1e-2
    small = cv2.GaussianBlur(small, (0, 0), blur) + 1e-2 * total
    local = small / weight[..., None]
    ratio = np.clip((local[..., 1] + 4) / (local[..., 0] + 4), *GAIN_RANGE)
    rest = local[..., 1] - ratio * local[..., 0]
    ratio, rest, own = np.moveaxis(
        cv2.resize(
            np.stack([ratio, rest, local[..., 0]], axis=-1).astype(np.float32),
            (ring.shape[1], ring.shape[0]),
            interpolation=cv2.INTER_LINEAR,
        ),
        -1,
        0,
    )
    pixel = carried.mean(axis=2)
    lit, surface = ratio * pixel + rest, ratio * own + rest
    from_white = WHITE - (WHITE - pixel) * (WHITE - surface) / np.maximum(WHITE - own, 1)
    pale = (pixel > own) & (surface > own)
    # all channels alike, so that no hue changes
    keep = np.where(pale, from_white / np.maximum(lit, 1), 1)
    return np.asarray((carried * ratio[..., None] + rest[..., None]) * keep[..., None])
