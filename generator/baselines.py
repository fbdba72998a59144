"""What needs no training: copy-paste, Poisson paste, CutPaste and Perlin texture."""

import difflib
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from generator.errors import ExampleError, RecipeError
from generator.files import sha256_of
from generator.interface import Painter
from generator.placement import box_of
from generator.records import Draft

VERSION = 1
"""Raised whenever a baseline's pixels change."""

RIM_PX = 3
"""How far outside the mask Poisson paste takes over the background's values, pixels."""

PLAIN_PASTE = "plain-paste"
"""Painted like copy-paste, and planned by `generator.plain_paste.PlainPlanner`."""

Paint = Callable[[Draft, np.random.Generator], np.ndarray]


def copy_paste(draft: Draft, rng: np.random.Generator) -> np.ndarray:
    """The real defect's own pixels, as the planner carried them: `DraftPlanner` under the new
    surface's light and with their soft edge, `PlainPlanner` as they are.

    Returns (H, W, 3) uint8.
    """
    del rng
    return _paste_of(draft)


def poisson_paste(draft: Draft, rng: np.random.Generator) -> np.ndarray:
    """The real defect's gradients, integrated from the background's values around it.

    Perez et al., Poisson Image Editing, 2003, in the form of its equation 7: the source plus the
    harmonic function that mends the difference at the rim. The rim lies `RIM_PX` outside the
    mask, in the source's own surface, so that a tightly drawn defect keeps its contrast.
    (OpenCV's seamlessClone erodes its mask three times, which leaves nothing of a crack.)
    Returns (H, W, 3) uint8.
    """
    del rng
    source = draft.context if draft.context is not None else _paste_of(draft)
    height, width = draft.mask.shape
    x1, y1, x2, y2 = box_of(draft.mask)
    reach = RIM_PX + 2
    window = (
        slice(max(y1 - reach, 0), min(y2 + reach, height)),
        slice(max(x1 - reach, 0), min(x2 + reach, width)),
    )
    kernel = np.ones((2 * RIM_PX + 1, 2 * RIM_PX + 1), np.uint8)
    inner = cv2.dilate(draft.mask[window].astype(np.uint8), kernel) > 0
    below, above = draft.image[window].astype(np.float32), source[window].astype(np.float32)
    result = draft.image.copy()
    mended = above + membrane(below - above, inner)
    result[window][inner] = np.clip(np.rint(mended), 0, 255).astype(np.uint8)[inner]
    return result


def membrane(difference: np.ndarray, inner: np.ndarray, most_unknowns: int = 3000) -> np.ndarray:
    """Continue a difference harmonically from around a region into it.

    Solved by a sparse factorisation; above `most_unknowns` pixels on a coarser grid, since a
    harmonic function is smooth (Farbman et al., Convolution Pyramids, 2011, make the same use of
    it). At the image's own border the derivative is 0.

    Args:
        difference: (h, w, 3) float32.
        inner: (h, w) bool, the region.

    Returns:
        (h, w, 3) float32, `difference` outside the region. Zero where nothing surrounds it.
    """
    if inner.all():
        return np.zeros_like(difference)
    factor = min(1.0, float(np.sqrt(most_unknowns / max(int(inner.sum()), 1))))
    h, w = inner.shape
    size = max(round(w * factor), 2), max(round(h * factor), 2)
    known = cv2.resize((~inner).astype(np.float32), size, interpolation=cv2.INTER_AREA)
    values = cv2.resize(difference * ~inner[..., None], size, interpolation=cv2.INTER_AREA)
    region = known < 0.02
    values[~region] /= known[~region][:, None]
    if region.any() and not region.all():
        values[region] = _solve_laplace(values, region)
    full = cv2.resize(values, (w, h), interpolation=cv2.INTER_LINEAR)
    return np.where(inner[..., None], full, difference)


def _solve_laplace(values: np.ndarray, region: np.ndarray) -> np.ndarray:
    h, w = region.shape
    number = np.full((h, w), -1)
    number[region] = np.arange(region.sum())
    ys, xs = np.nonzero(region)
    degree = np.zeros(len(ys))
    right = np.zeros((len(ys), values.shape[2]))
    rows, columns = [], []
    for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        y, x = ys + dy, xs + dx
        exists = np.flatnonzero((y >= 0) & (y < h) & (x >= 0) & (x < w))
        degree[exists] += 1
        there = number[y[exists], x[exists]]
        rows.append(exists[there >= 0])
        columns.append(there[there >= 0])
        rim = exists[there < 0]
        right[rim] += values[y[rim], x[rim]]
    row, column = np.concatenate(rows), np.concatenate(columns)
    # a part of the region that nothing surrounds would be singular: hold it weakly at 0
    matrix = sparse.diags(degree + 1e-6) - sparse.coo_matrix(
        (np.ones(len(row)), (row, column)), shape=(len(ys), len(ys))
    )
    return np.asarray(splu(matrix.tocsc()).solve(right))


def cut_paste(draft: Draft, rng: np.random.Generator) -> np.ndarray:
    """A piece of the same normal image from another place, with jittered light.

    Li et al., CutPaste, arXiv 2104.04015: brightness and contrast jitter of the patch; the patch
    has the planned mask's shape instead of a rectangle. Returns (H, W, 3) uint8.
    """
    height, width = draft.image.shape[:2]
    x1, y1, x2, y2 = box_of(draft.mask)
    source = draft.image[:, ::-1] if rng.random() < 0.5 else draft.image
    source = source[::-1] if rng.random() < 0.5 else source
    left = int(rng.integers(0, width - (x2 - x1) + 1))
    top = int(rng.integers(0, height - (y2 - y1) + 1))
    patch = source[top : top + y2 - y1, left : left + x2 - x1].astype(np.float32)
    contrast, brightness = rng.uniform(0.7, 1.3), rng.choice([-1, 1]) * rng.uniform(0.1, 0.4)
    centre = patch.mean(axis=(0, 1))
    patch = (patch - centre) * contrast + centre * (1 + brightness)
    result = draft.image.copy()
    here = draft.mask[y1:y2, x1:x2]
    result[y1:y2, x1:x2][here] = np.clip(np.rint(patch), 0, 255).astype(np.uint8)[here]
    return result


def perlin_texture(draft: Draft, rng: np.random.Generator) -> np.ndarray:
    """Perlin noise of random scale and opacity inside the mask.

    Zavrtanik et al., DRAEM, arXiv 2108.07610, with noise also for the anomaly's texture, which
    that paper takes from a texture data set. Returns (H, W, 3) uint8.
    """
    x1, y1, x2, y2 = box_of(draft.mask)
    noise = perlin((y2 - y1, x2 - x1), int(2 ** rng.integers(2, 6)), rng)
    texture = 127.5 + 127.5 * noise / max(float(np.abs(noise).max()), 1e-6)
    tint = np.ones(3) if _is_grey(draft) else rng.uniform(0.5, 1.5, 3)
    opacity = rng.uniform(0.3, 0.9)
    below = draft.image[y1:y2, x1:x2].astype(np.float64)
    mixed = below + opacity * (np.clip(texture[..., None] * tint, 0, 255) - below)
    result = draft.image.copy()
    here = draft.mask[y1:y2, x1:x2]
    result[y1:y2, x1:x2][here] = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)[here]
    return result


def perlin(shape: tuple[int, int], cell_px: int, rng: np.random.Generator) -> np.ndarray:
    """Gradient noise (Perlin, An Image Synthesizer, 1985) of a cell's size in pixels.

    Returns a float array of `shape`, about -0.7 to 0.7.
    """
    rows, columns = -(-shape[0] // cell_px), -(-shape[1] // cell_px)
    angles = rng.uniform(0, 2 * np.pi, (rows + 1, columns + 1))
    y = (np.arange(shape[0]) + 0.5)[:, None] / cell_px
    x = (np.arange(shape[1]) + 0.5)[None, :] / cell_px
    j, i = y.astype(int), x.astype(int)
    v, u = y - j, x - i

    def corner(dj: int, di: int) -> np.ndarray:
        a = angles[j + dj, i + di]
        return np.asarray(np.cos(a) * (u - di) + np.sin(a) * (v - dj))

    su, sv = (t**3 * (t * (6 * t - 15) + 10) for t in (u, v))
    upper = corner(0, 0) * (1 - su) + corner(0, 1) * su
    lower = corner(1, 0) * (1 - su) + corner(1, 1) * su
    return np.asarray(upper * (1 - sv) + lower * sv)


BASELINES: dict[str, Paint] = {
    "copy-paste": copy_paste,
    PLAIN_PASTE: copy_paste,
    "poisson-paste": poisson_paste,
    "cutpaste": cut_paste,
    "perlin": perlin_texture,
}
"""Every baseline by the name that is typed; each paints the whole image of a draft."""


class BaselinePainter:
    """A baseline behind the interface of all painters (`generator.interface.Painter`)."""

    batch_size = 1

    def __init__(self, name: str, seed_space: str) -> None:
        self.name = name
        self.fingerprint = sha256_of(["baseline", name, VERSION, seed_space])
        self._paint = BASELINES[name]
        self._key = int(self.fingerprint[:16], 16)

    def paint(self, drafts: Sequence[Draft]) -> list[np.ndarray]:
        """Paint each draft's crop; see `Painter.paint`.

        Raises:
            ExampleError: a draft has no place or no pixels that this baseline could use.
        """
        return [self._one(draft) for draft in drafts]

    def _one(self, draft: Draft) -> np.ndarray:
        if draft.background is None:
            raise ExampleError(
                f"{self.name} needs a place for the defect, and of class "
                f"{draft.request.class_name!r} only image-level labels are known; use a "
                "generator that paints whole images, such as compact."
            )
        # Python's big ints make one seed of both: no draft shares its stream with the planner
        rng = np.random.default_rng([self._key, draft.request.seed])
        x1, y1, x2, y2 = draft.crop_xyxy
        return np.ascontiguousarray(self._paint(draft, rng)[y1:y2, x1:x2])


def make_baseline(name: str, seed_space: str = "") -> Painter:
    """Build a baseline painter.

    Args:
        name: one of `BASELINES`.
        seed_space: drafts with the same seed get other random choices in another space.

    Raises:
        RecipeError: the name is unknown.
    """
    if name not in BASELINES:
        near = difflib.get_close_matches(name, BASELINES, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise RecipeError(f"Unknown baseline {name!r}: {hint}known are {', '.join(BASELINES)}.")
    return BaselinePainter(name, seed_space)


def _paste_of(draft: Draft) -> np.ndarray:
    if draft.paste is None:
        raise ExampleError(
            f"The draft of {draft.request.class_name!r} number {draft.request.index} carries no "
            "real defect's pixels; plan with real_share 1 and recombine 0 for a paste baseline."
        )
    return draft.paste


def _is_grey(draft: Draft) -> bool:
    return draft.background is not None and draft.background.grey
