"""From masks, boxes, polygons and run lengths to instances, each cut to its box.

Rules: which parts of a mask belong together, `generator.parts` says; a part of fewer than
`LEAST_AREA_PX` px is left out as a speck where a larger one of its class is in the same mask, and
the specks are counted. Boxes that reach over the image's edge are cut to it. Labels made for
another size of the same picture are scaled to the image's own.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from scipy import ndimage

from augmentor.errors import ImageError
from augmentor.importers.mask_files import (
    ASPECT_TOLERANCE,
    THRESHOLD,
    MaskEncoding,
    least_grey,
    mask_levels,
    read_mask,
)
from augmentor.importers.rle import rle_mask
from augmentor.importers.scan import Found, Shape
from generator.parts import label_parts
from generator.records import GOOD, Box, MaskKind

LEAST_AREA_PX = 9
MOST_PX = 1_000_000
"""A side that a label states and that is longer is no image's."""
EDGE_TOLERANCE = 0.02
"""How far a box may reach over the image's edge, as a share of its side (at least 2 px)."""

ROUNDING_PX = 0.05
"""What a whole pixel may be off by: shares of six decimals are, on an image of thousands."""


class Part(NamedTuple):
    """One defect: class, box, and its mask cut to the box, (h, w) bool; None for a bare box."""

    class_name: str
    box_xyxy: Box
    mask: np.ndarray | None
    kind: MaskKind


@dataclass(frozen=True)
class Marks:
    """What is labelled in one image; `specks` were left out, and `rescaled` labels were made for
    another size of it."""

    label: str
    parts: tuple[Part, ...]
    specks: int = 0
    rescaled: bool = False

    @property
    def area_px(self) -> int:
        """Pixels that its masks mark."""
        return sum(int(part.mask.sum()) for part in self.parts if part.mask is not None)

    def key(self) -> tuple[str, tuple[tuple[str, Box, bytes], ...]]:
        """What must agree between two files of the same content."""
        return self.label, tuple(sorted(map(_of_part, self.parts)))


def _of_part(part: Part) -> tuple[str, Box, bytes]:
    return part.class_name, part.box_xyxy, _packed(part.mask)


def _packed(mask: np.ndarray | None) -> bytes:
    return b"" if mask is None else np.packbits(mask).tobytes()


@dataclass(frozen=True)
class MaskRule:
    """How the masks of a set are read: threshold, encoding, and, for `index` masks, the class of
    each value by the folder that the mask lies under, '' where there is none; `given` as in
    `read_mask`."""

    threshold: int = THRESHOLD
    encoding: MaskEncoding = "binary"
    names: Mapping[tuple[str, int], str] | None = None
    only_class: str = "defect"
    given: bool = True


def marks_of(found: Found, resolution_wh: tuple[int, int], rule: MaskRule) -> Marks:
    """Read everything that is labelled in an image.

    Args:
        found: the image and where its labels are.
        resolution_wh: of the upright image, pixels.
        rule: how masks are read.

    Raises:
        ImageError: with the kind it is counted under (`scan.BAD_KINDS`).
    """
    if found.shapes is not None:
        return _from_shapes(found, resolution_wh)
    if found.masks:
        return _from_masks(found, resolution_wh, rule)
    return Marks(found.label or GOOD, ())


def separate(mask: np.ndarray) -> tuple[list[tuple[Box, np.ndarray]], int]:
    """Cut a mask, (H, W) bool, into its instances by the rules at the top of this file.

    Returns:
        Box and box-sized mask of each, largest first, and the number of specks left out.
    """
    if not mask.any():
        return [], 0
    labels, _ = label_parts(mask)
    out: list[tuple[Box, np.ndarray]] = []
    specks: list[tuple[Box, np.ndarray]] = []
    for number, where in enumerate(ndimage.find_objects(labels), start=1):
        cut = labels[where] == number
        box = (where[1].start, where[0].start, where[1].stop, where[0].stop)
        (out if cut.sum() >= LEAST_AREA_PX else specks).append((box, cut))
    if not out:
        out, specks = specks, []
    return sorted(out, key=lambda item: (-int(item[1].sum()), item[0])), len(specks)


def _whole(mask: np.ndarray) -> tuple[Box, np.ndarray]:
    """Box and box-sized mask of everything in a mask, (H, W) bool, that isn't empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x1, x2, y1, y2 = columns[0], columns[-1] + 1, rows[0], rows[-1] + 1
    return (int(x1), int(y1), int(x2), int(y2)), mask[y1:y2, x1:x2].copy()


def image_label(parts: Sequence[Part]) -> str:
    """The class with the largest area, the first by name among equals; `good` without parts."""
    areas: Counter[str] = Counter()
    for part in parts:
        x1, y1, x2, y2 = part.box_xyxy
        area = int(part.mask.sum()) if part.mask is not None else (x2 - x1) * (y2 - y1)
        areas[part.class_name] += area
    return min(areas, key=lambda name: (-areas[name], name)) if areas else GOOD


def _from_masks(found: Found, resolution_wh: tuple[int, int], rule: MaskRule) -> Marks:
    parts: list[Part] = []
    specks = 0
    for path in found.masks:
        try:
            values = read_mask(path, resolution_wh, rule.threshold, rule.encoding, given=rule.given)
        except ImageError as fault:
            own = ("mask_size", "mask_levels")
            kind = fault.kind if fault.kind in own else "unreadable_mask"
            raise ImageError(str(fault), kind) from None
        for value in np.unique(values[values > 0]):
            name = _class_of(found, int(value), rule)
            mask = values == value
            cuts, dropped = ([_whole(mask)], 0) if path in found.one_each else separate(mask)
            specks += dropped
            parts += [Part(name, box, cut, "exact") for box, cut in cuts]
    if len(found.masks) > 1:  # the same mask once more, as a view in colours beside it
        parts = list({_of_part(part): part for part in parts}.values())
    if found.label == GOOD and parts:
        area = sum(int(p.mask.sum()) for p in parts if p.mask is not None)
        raise ImageError(f"its mask marks {area} px as defective", "mask_under_clean")
    if not parts and found.label not in (None, GOOD):
        raise ImageError(_nothing_marked(found, rule), "empty_mask")
    if not parts and found.label is None and not rule.given and _marks_faintly(found):
        raise ImageError(_nothing_marked(found, rule), "mask_levels")
    return Marks(image_label(parts), tuple(parts), specks)


def _marks_faintly(found: Found) -> bool:
    """Whether a mask that marks nothing is not black: no folder says that its image is clean."""
    return any(level >= least_grey(path) for path in found.masks for level in mask_levels(path))


def _nothing_marked(found: Found, rule: MaskRule) -> str:
    """Why a mask marks nothing: it is black, or too dark beside the others of its set."""
    highest = max((level for path in found.masks for level in mask_levels(path)), default=0)
    if rule.encoding == "index" or not highest:
        return "its mask marks no pixel"
    if highest > rule.threshold:
        return "nothing is left of its mask at the image's size; save it at that size"
    return (
        f"its mask marks no pixel: its highest value is {highest}, while other masks have some "
        f"above {rule.threshold}, the least for a defect; save it with 255 on the defect"
    )


def _class_of(found: Found, value: int, rule: MaskRule) -> str:
    label = found.label or rule.only_class
    if rule.encoding == "binary" or rule.names is None:
        return label
    return rule.names.get((found.label or "", value), label)


def _from_shapes(found: Found, resolution_wh: tuple[int, int]) -> Marks:
    stated = found.size_wh or resolution_wh
    width, height = resolution_wh
    too_large = max(stated) > MOST_PX
    if too_large or abs(stated[0] * height / (stated[1] * width) - 1) > ASPECT_TOLERANCE:
        raise ImageError(
            f"its label was made for {stated[0]} x {stated[1]} px, the upright image has "
            f"{width} x {height} px",
            "bad_label",
        )
    unit = (1, 1) if found.normalised else stated
    scale = np.array([width / unit[0], height / unit[1]])
    with np.errstate(over="ignore"):  # what is out of all bounds is refused as such
        parts = [_part(shape, resolution_wh, stated, scale) for shape in found.shapes or ()]
    return Marks(image_label(parts), tuple(parts), rescaled=stated != resolution_wh)


def _part(
    shape: Shape, resolution_wh: tuple[int, int], stated_wh: tuple[int, int], scale: np.ndarray
) -> Part:
    """One shape in the image's own pixels; `scale` turns the label's x and y into those."""
    if shape.polygons:
        points = [np.array(p, float).reshape(-1, 2) * scale for p in shape.polygons]
        mask = polygon_mask(points, resolution_wh)
    elif shape.rle is not None:
        mask = rle_mask(shape.rle, stated_wh)
        if stated_wh != resolution_wh:
            values = mask.astype(np.uint8)
            mask = cv2.resize(values, resolution_wh, interpolation=cv2.INTER_NEAREST) > 0
    else:
        if shape.box_xyxy is None:
            raise ImageError("one of its labels has neither box nor outline", "bad_label")
        box = (np.array(shape.box_xyxy, float).reshape(2, 2) * scale).ravel()
        return Part(shape.class_name, _clipped(box, resolution_wh), None, "none")
    if not mask.any():
        raise ImageError("the outline of one of its labels holds no pixel", "bad_label")
    return Part(shape.class_name, *_whole(mask), "exact")


def polygon_mask(polygons: Sequence[np.ndarray], resolution_wh: tuple[int, int]) -> np.ndarray:
    """Pixels inside polygons, (H, W) bool, by COCO's own rule (pycocotools).

    Args:
        polygons: of shape (n, 2), x and y in pixels; their union is taken.
        resolution_wh: of the image.
    """
    from pycocotools import mask as coco_mask

    width, height = resolution_wh
    outlines = []
    for points in polygons:
        if len(points) < 3:
            raise ImageError("an outline of its labels has fewer than 3 points", "bad_label")
        if not np.isfinite(points).all():
            raise ImageError(
                "an outline of its labels holds a value that is no number", "bad_label"
            )
        slack = np.maximum(2, EDGE_TOLERANCE * np.array([width, height]))
        if (points < -slack).any() or (points > np.array([width, height]) + slack).any():
            raise ImageError("an outline of its labels leaves the image", "bad_label")
        outlines.append(np.clip(points, 0, [width, height]).ravel().tolist())
    merged = coco_mask.merge(coco_mask.frPyObjects(outlines, height, width))
    return coco_mask.decode(merged).astype(bool)


def _clipped(box: np.ndarray, resolution_wh: tuple[int, int]) -> Box:
    """A box rounded outwards to whole pixels and cut to the image."""
    if not np.isfinite(box).all():
        raise ImageError("a box of its labels is not a number", "bad_label")
    width, height = resolution_wh
    limit = np.array([width, height, width, height])
    slack = np.maximum(2, EDGE_TOLERANCE * limit)
    if (box < -slack).any() or (box > limit + slack).any():
        xyxy = ", ".join(f"{v:g}" for v in box)
        raise ImageError(f"the box ({xyxy}) leaves the image of {width} x {height} px", "bad_label")
    low, high = np.floor(box[:2] + ROUNDING_PX), np.ceil(box[2:] - ROUNDING_PX)
    x1, y1 = (int(v) for v in np.clip(low, 0, limit[:2]))
    x2, y2 = (int(v) for v in np.clip(high, 0, limit[:2]))
    if x1 >= x2 or y1 >= y2:
        raise ImageError("a box of its labels is empty", "bad_label")
    return x1, y1, x2, y2
