"""Is a sample a copy of one training image?

Features that know classes do not answer that: they are made to see two pits as the same. So the
pixels of the defect itself are compared, whatever the background, the light, the place, the
direction and the size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from generator.quality.calibration import group_minimum, lower_bound
from generator.quality.windows import Window

PATCH_PX = 40
TURNS = 36
"""Directions in which each training defect is held against a sample; each also mirrored."""

MARGIN = 1.15
FINE_BLUR, COARSE_BLUR = 0.6, 4.0
"""In pixels of the patch: what is finer is noise, what is coarser is light."""

SCALES = (0.9, 1.0, 1.1)
SHIFTS_PX = (-1, 0, 1)
FLOOR = 0.02
"""Weight of the patch beyond the defect's edge."""

LEAST_VARIANCE = 1e-3

_axis = np.arange(PATCH_PX) - (PATCH_PX - 1) / 2
_DISC = np.hypot(_axis[:, None], _axis[None, :]) <= PATCH_PX / 2


@dataclass(frozen=True)
class Nearest:
    """`ratio` is the score; `example_id` names the training image behind it."""

    ratio: float
    example_id: str


class Memorisation:
    """Distance of a sample's defect to the nearest training defect of its class.

    The distance of two defects is 1 - the largest normalised cross-correlation of their
    band-passed pixels over 72 poses (36 turns, mirrored), 3 scales and 9 shifts. It is divided by
    the sample's median distance to the training images of its class, so it says how much nearer
    the nearest is than the others are (as Carlini et al., 2301.13188, section 5.1, do); and by
    the 95 % bound of the same number of real defects against each other, pooled over classes. Below
    1, a sample is nearer to one training image than 95 % of the real ones are.

    Of a class with many defects only `generator.quality.windows.MOST_OF_CLASS` are at hand, so the
    one that a sample's shape comes from is held against it besides (`lent`).

    A class of fewer than three groups of images has no such number.
    """

    def __init__(self, windows: Sequence[Window], classes: Sequence[str]) -> None:
        """Hold the real ones against each other."""
        self._banks = {}
        for name in classes:
            found = [w for w in windows if w.class_name == name and w.mask.any()]
            if len({w.group for w in found}) > 2:
                self._banks[name] = _Bank(found)
        ratios = [
            bank.nearest(window.pixels, window.mask, window.group).ratio
            for bank in self._banks.values()
            for window in bank.windows
        ]
        self._unit = max(lower_bound(ratios), 1e-6) if ratios else 1.0

    def score(
        self,
        image: np.ndarray,
        mask: np.ndarray,
        class_name: str,
        lent: Sequence[Window] = (),
    ) -> Nearest | None:
        """The sample's distance in units of the real ones' bound, and the nearest image.

        Args:
            image: (H, W, 3) uint8.
            mask: (H, W) bool.
            class_name: of the defect.
            lent: windows of its class that it may be a copy of, besides those at hand.

        Returns:
            None for an empty mask, or a class with too few images.
        """
        bank = self._banks.get(class_name)
        if bank is None or not mask.any():
            return None
        found = bank.nearest(image, mask, lent=[w for w in lent if w.mask.any()])
        return Nearest(found.ratio / self._unit, found.example_id)


class _Bank:
    """The training defects of a class in every pose."""

    def __init__(self, windows: Sequence[Window]) -> None:
        self.windows = list(windows)
        self._groups = np.array([w.group for w in windows])
        poses = [_views(w.pixels, w.mask, _POSES)[0] for w in windows]
        self._poses = np.stack(poses)

    def nearest(
        self,
        image: np.ndarray,
        mask: np.ndarray,
        own: str | None = None,
        lent: Sequence[Window] = (),
    ) -> Nearest:
        """The least distance by the median one, over groups of images other than `own`; the least
        one is looked for in `lent`, too."""
        views, weights = _views(image, mask, _VARIANTS)
        gaps = _gaps(views, weights, self._poses)
        nearest = group_minimum(gaps[None], self._groups, None if own is None else [own])[0]
        column = int(nearest.argmin())
        group = np.unique(self._groups)[column]
        members = np.flatnonzero(self._groups == group)
        example = self.windows[members[gaps[members].argmin()]].example_id
        typical = float(np.median(nearest[np.isfinite(nearest)]))
        least = float(nearest[column])
        if lent:
            others = np.stack([_views(w.pixels, w.mask, _POSES)[0] for w in lent])
            closer = _gaps(views, weights, others)
            if closer.min() < least:
                least, example = float(closer.min()), lent[int(closer.argmin())].example_id
        return Nearest(least / max(typical, 1e-6), example)


Pose = tuple[float, bool, float, float, float]
"""Angle, mirrored or not, scale, shift in x and in y (pixels of the patch)."""

_POSES: list[Pose] = [
    (2 * np.pi * turn / TURNS, mirrored, 1.0, 0.0, 0.0)
    for mirrored in (False, True)
    for turn in range(TURNS)
]
_VARIANTS: list[Pose] = [
    (0.0, False, scale, float(dx), float(dy))
    for scale in SCALES
    for dx in SHIFTS_PX
    for dy in SHIFTS_PX
]


def _gaps(views: np.ndarray, weights: np.ndarray, poses: np.ndarray) -> np.ndarray:
    """(N,) distances of a defect, (V, P) in its variants, to others, (N, poses, P)."""
    plain, (count, turns, size) = len(_VARIANTS) // 2, poses.shape
    coarse = _correlate(views[plain, None], weights[plain, None], poses.reshape(-1, size))
    best = coarse.reshape(count, turns).argmax(axis=1)
    chosen = poses[np.arange(count), best]
    return np.asarray(1 - _correlate(views, weights, chosen).max(axis=0))


def _views(
    image: np.ndarray, mask: np.ndarray, poses: Sequence[Pose]
) -> tuple[np.ndarray, np.ndarray]:
    """A defect's band-passed pixels and their weights in each pose: two (poses, P) float32.

    A patch is a disc around the mask's centre of mass that holds all of it.
    """
    ys, xs = np.nonzero(mask)
    centre = np.array([xs.mean(), ys.mean()])
    radius = max(float(np.hypot(xs - centre[0], ys - centre[1]).max()) * MARGIN, 4.0)
    step = 2 * radius / PATCH_PX
    grey = image.mean(axis=2, dtype=np.float32)
    band = _blur(grey, max(FINE_BLUR * step, 0.4)) - _blur(grey, COARSE_BLUR * step)
    soft = _blur(mask.astype(np.float32), max(FINE_BLUR * step, 0.4))
    views, weights = [], []
    for angle, mirrored, scale, dx, dy in poses:
        cos, sin = np.cos(angle) * step * scale, np.sin(angle) * step * scale
        sign = -1 if mirrored else 1
        linear = np.array([[cos * sign, -sin], [sin * sign, cos]])
        middle = np.array([(PATCH_PX - 1) / 2 + dx, (PATCH_PX - 1) / 2 + dy])
        place = np.column_stack([linear, centre - linear @ middle])
        views.append(_warp(band, place)[_DISC])
        near = cv2.dilate(_warp(soft, place), np.ones((3, 3)))
        weights.append(np.clip(1.5 * near, 0, 1)[_DISC] + FLOOR)
    return np.array(views, np.float32), np.array(weights, np.float32)


def _blur(pixels: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(pixels, (0, 0), sigma)


def _warp(pixels: np.ndarray, place: np.ndarray) -> np.ndarray:
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(
        pixels, place, (PATCH_PX, PATCH_PX), flags=flags, borderMode=cv2.BORDER_REFLECT_101
    )


def _correlate(views: np.ndarray, weights: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Weighted normalised cross-correlation: (V, P), (V, P), (N, P) -> (V, N) in [-1, 1]."""
    weights = weights / weights.sum(axis=1, keepdims=True)
    centred = views - (weights * views).sum(axis=1, keepdims=True)
    variance = (weights * centred**2).sum(axis=1, keepdims=True)
    theirs = weights @ (others**2).T - (weights @ others.T) ** 2
    shared = (weights * centred) @ others.T
    return np.asarray(shared / np.sqrt(np.maximum(variance * theirs, LEAST_VARIANCE)))
