"""What is painted on: clean images, or beside the defects of others where none is clean."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from generator.errors import ExampleError
from generator.images import ExampleReader
from generator.placement import Ground, box_of, ground_of
from generator.records import Box, DefectExample, Instance

GRID = 48
"""Cells along the longer side, in which the largest defect-free rectangle is looked for."""

LOOK_GREY, LOOK_ROUGH, LOOK_SIZE = 24.0, 0.5, 0.5
"""Differences that weigh alike when surfaces are compared: of brightness in grey levels, of the
logarithms of roughness and of the sides' lengths."""

PER_CANDIDATE = 4
"""Images that there must be for each candidate: of a handful, the same few would always be the most
alike."""
REGION_SHARE = 0.5
"""Share of defect-free rectangles among the rest, where half of the tries found no place."""

GONE_SHARE = 0.15
"""Of a box that a new defect covers, up to this share of what is seen is no defect any more: the
corners that a rounded shape leaves."""
FOREIGN_SHARE = 0.5
"""From this share on what is seen of another class's box keeps its label."""
MOST_SHARED = 0.5
"""Of the smaller of two boxes of one class, the largest share that the other may hold."""


@dataclass(frozen=True)
class Surface:
    """A background, or a region of one, without its pixels.

    `carried` are the defects that it has; where they are not `ground.taken`, they may be covered.
    """

    example: DefectExample
    ground: Ground
    region_xyxy: Box | None = None
    carried: tuple[Instance, ...] = ()

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height of what is painted on, pixels."""
        height, width = self.ground.foreground.shape
        return width, height


class Backgrounds:
    """Draws surfaces from the clean images, or where there are none, from the defect images.

    Raises:
        ExampleError: (when drawing) no image has both a known place of its defects and pixels
            to paint on.
    """

    def __init__(
        self,
        examples: Sequence[DefectExample],
        reader: ExampleReader,
        clearance_px: int,
        own_share: float = 0.0,
        candidates: int = 1,
    ) -> None:
        self.clearance_px = clearance_px
        self.own_share = own_share
        self._reader = reader
        self._regions: dict[str, Box | None] = {}
        self._looks: dict[str, np.ndarray] = {}
        self._clean = [e for e in examples if e.is_clean]
        self.candidates = candidates
        # an image whose defects have no place may not be painted on: nobody knows what is free
        self._used = [e for e in examples if e.instances]
        self._own: dict[str, list[DefectExample]] = {}
        for example in self._used:
            for name in sorted({i.class_name for i in example.instances}):
                self._own.setdefault(name, []).append(example)

    def draw(
        self,
        rng: np.random.Generator,
        least_region_px: int,
        class_name: str,
        late: float = 0.0,
        like: DefectExample | None = None,
        *,
        covering: bool = False,
    ) -> Surface:
        """Draw a surface.

        With clean images: one of them, or with the probability `own_share` a whole image that
        holds the class already, with the defects it has; past a quarter of the tries a clean one.
        A clean one is, of `candidates` drawn, the one that looks most like `like` without its
        defects; past half of the tries any.
        Without clean images: a whole defect image with the defects it has, so that what is
        painted has the scale and the frame of a photograph: one that holds the class, whose
        surface is the one on which it occurs; past a quarter of the tries, of `candidates` the one
        most like `like`; with one candidate any. Past half of the tries any, or its largest
        defect-free rectangle, where the shorter side is at least `least_region_px`. With `covering`
        always a whole one, whose defects may be covered (see `left`).
        """
        if self._clean:
            own = self._own.get(class_name) if late < 0.25 and self.own_share else None
            if own and rng.random() < self.own_share:
                return self._whole(own[int(rng.integers(len(own)))])
            example = self._one_of(self._clean, rng, like if late < 0.5 else None)
            return Surface(example, ground_of(self._reader.foreground(example)))
        if not self._used:
            raise ExampleError(
                "There is no image to paint on: import clean images, or boxes of the defects."
            )
        # its own image would be the most alike
        others = [e for e in self._used if e is not like]
        covering = covering and bool(others)
        own = self._own.get(class_name, []) if late < 0.25 and self.candidates > 1 else []
        if covering:  # laid on itself nothing would be seen of it
            own = [e for e in own if e is not like]
        if own:
            example = own[int(rng.integers(len(own)))]
        else:
            example = self._one_of(others or self._used, rng, like if late < 0.5 else None)
        if covering:
            ground = ground_of(self._reader.foreground(example))
            return Surface(example, ground, None, example.instances)
        region = self._region(example) if late >= 0.5 and rng.random() < REGION_SHARE else None
        foreground = self._reader.foreground(example)
        if region is not None:
            x1, y1, x2, y2 = region
            if min(x2 - x1, y2 - y1) >= least_region_px and foreground[y1:y2, x1:x2].mean() > 0.5:
                return Surface(example, ground_of(foreground[y1:y2, x1:x2]), region)
        return self._whole(example)

    def _one_of(
        self, all_: Sequence[DefectExample], rng: np.random.Generator, like: DefectExample | None
    ) -> DefectExample:
        """Any of them, or of as many candidates as there may be the one most like `like`."""
        drawn = 1 if like is None else max(1, min(self.candidates, len(all_) // PER_CANDIDATE))
        some = [all_[int(k)] for k in rng.integers(len(all_), size=drawn)]
        if drawn == 1 or like is None:
            return some[0]
        wanted = self._look(like)
        return min(some, key=lambda one: float(np.abs(self._look(one) - wanted).sum()))

    def _look(self, example: DefectExample) -> np.ndarray:
        # seven numbers, kept beside the reader's budget: to measure them an image is read whole
        if example.id not in self._looks:
            self._looks[example.id] = self._measure_look(example)
        return self._looks[example.id]

    def _measure_look(self, example: DefectExample) -> np.ndarray:
        """(7,) float32: brightness in three quantiles, roughness along both axes, width and
        height, each in units of a difference that the eye notices."""
        grey = self._reader.image(example).mean(axis=2, dtype=np.float32)
        surface = self._reader.foreground(example) & ~self.defects(example)
        if not surface.any():
            surface = np.ones_like(surface)
        rough = [
            np.log1p(float(np.abs(np.diff(grey, axis=axis))[part].mean())) if part.any() else 0.0
            for axis, part in ((1, surface[:, 1:]), (0, surface[1:]))
        ]
        brightness = np.quantile(grey[surface], (0.1, 0.5, 0.9)) / LOOK_GREY
        sizes = np.log([example.width, example.height]) / LOOK_SIZE
        return np.array([*brightness, *np.array(rough) / LOOK_ROUGH, *sizes], dtype=np.float32)

    def _whole(self, example: DefectExample) -> Surface:
        """A defect image with the defects it has, which nothing new may touch."""
        taken = self.defects(example)
        size = 2 * self.clearance_px + 1
        wide = cv2.dilate(taken.view(np.uint8), np.ones((size, size), np.uint8)) > 0
        ground = ground_of(self._reader.foreground(example), wide)
        return Surface(example, ground, None, example.instances)

    def left(
        self, surface: Surface, mask: np.ndarray, class_name: str
    ) -> tuple[Instance, ...] | None:
        """The defects of a surface that are still seen when a new one covers a part of it.

        A defect with an exact mask is covered whole or not at all. Of one that is known by its
        box the box is drawn anew around what is seen of it. Another class's must be seen for the
        larger part, as nobody knows where in its box it lies; and one of the same class may not
        share half of its box, or of the new one's, as people would draw one box around both.

        Args:
            surface: whose defects they are.
            mask: (H, W) bool, the new defect.
            class_name: of the new defect.

        Returns:
            Their labels; None where a defect would be left that no label fits.
        """
        kept: list[Instance] = []
        new = box_of(mask) if surface.carried else (0, 0, 0, 0)
        for instance in surface.carried:
            x1, y1, x2, y2 = instance.box_xyxy
            hidden = mask[y1:y2, x1:x2]
            if instance.mask_kind == "exact":
                own = self._reader.mask(surface.example, instance)
                if not (hidden & own).any():
                    kept.append(instance)
                elif not hidden[own].all():
                    return None
                continue
            seen = 1 - float(hidden.mean())
            if seen <= GONE_SHARE:
                continue
            cut = _cut(instance, ~hidden)
            same = instance.class_name == class_name
            if _shared(cut.box_xyxy, new) > MOST_SHARED if same else seen < FOREIGN_SHARE:
                return None
            kept.append(cut)
        return tuple(kept)

    def _region(self, example: DefectExample) -> Box | None:
        if example.id not in self._regions:
            self._regions[example.id] = free_region(example, self.clearance_px)
        return self._regions[example.id]

    def pixels(self, surface: Surface) -> np.ndarray:
        """(H, W, 3) uint8, the surface's own pixels."""
        image = self._reader.image(surface.example)
        if surface.region_xyxy is None:
            return image
        x1, y1, x2, y2 = surface.region_xyxy
        return np.ascontiguousarray(image[y1:y2, x1:x2])

    def defects(self, example: DefectExample) -> np.ndarray:
        """(H, W) bool, every defect that the image already has (boxes where masks are rough)."""
        return self._reader.keep(("defects", example.id), lambda: self._find_defects(example))

    def _find_defects(self, example: DefectExample) -> np.ndarray:
        found = np.zeros((example.height, example.width), dtype=bool)
        for instance in example.instances:
            x1, y1, x2, y2 = instance.box_xyxy
            if instance.mask_kind == "exact":
                found[y1:y2, x1:x2] |= self._reader.mask(example, instance)
            else:
                found[y1:y2, x1:x2] = True
        return found


def _cut(instance: Instance, seen: np.ndarray) -> Instance:
    """A defect known by its box, with the box around what is seen of it."""
    left, top, right, bottom = box_of(seen)
    x1, y1, x2, y2 = instance.box_xyxy
    if (left, top, right, bottom) == (0, 0, x2 - x1, y2 - y1):
        return instance
    box = (x1 + left, y1 + top, x1 + right, y1 + bottom)
    return Instance(class_name=instance.class_name, box_xyxy=box)


def _shared(a: Box, b: Box) -> float:
    """Share of the smaller of two boxes that lies in the other."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    least = min((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (a, b))
    return max(width, 0) * max(height, 0) / least


def free_region(example: DefectExample, clearance_px: int) -> Box | None:
    """Largest rectangle that stays clear of every defect's box; None where all is taken."""
    cell = max(1, -(-max(example.width, example.height) // GRID))
    columns, rows = -(-example.width // cell), -(-example.height // cell)
    free = np.ones((rows, columns), dtype=bool)
    for instance in example.instances:
        x1, y1, x2, y2 = instance.box_xyxy
        low_x, low_y = max(x1 - clearance_px, 0) // cell, max(y1 - clearance_px, 0) // cell
        free[low_y : -(-(y2 + clearance_px) // cell), low_x : -(-(x2 + clearance_px) // cell)] = 0
    best: tuple[int, Box] | None = None
    heights = [0] * columns
    for row in range(rows):
        heights = [h + 1 if f else 0 for h, f in zip(heights, free[row].tolist(), strict=True)]
        for column in range(columns):
            least = heights[column]
            for end in range(column, columns):
                least = min(least, heights[end])
                area = least * (end - column + 1)
                if least == 0:
                    break
                if best is None or area > best[0]:
                    best = area, (column, row - least + 1, end + 1, row + 1)
    if best is None:
        return None
    x1, y1, x2, y2 = (v * cell for v in best[1])
    return x1, y1, min(x2, example.width), min(y2, example.height)
