"""One view of a real image and of a synthetic sample: what is in it, ready to be written out.

Exports and the FiftyOne dataset need the same things of both (path, label, instances with masks
and boxes), and read them here, so that they can't disagree.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
from scipy import ndimage

from augmentor.errors import SourceError
from generator.compositing import LEAST_PART
from generator.errors import PoolError
from generator.parts import label_parts
from generator.records import (
    GOOD,
    Box,
    DefectExample,
    Instance,
    MaskKind,
    Split,
    SyntheticDefect,
)

ItemKind = Literal["real", "synthetic"]


class PoolSample(NamedTuple):
    """A synthetic sample and the folder of the pool that holds its files."""

    pool: Path
    record: SyntheticDefect


@dataclass(frozen=True)
class Label:
    """One defect instance in pixels.

    `mask` is bool, of the size of `box_xyxy` (height, width); None when only the box is known.
    """

    class_name: str
    box_xyxy: Box
    mask: np.ndarray | None
    mask_kind: MaskKind


@dataclass(frozen=True)
class Item:
    """An image of the mixed dataset, real or synthetic.

    `label` is the image-level label; `labels` are the instances, and may be empty for a defect
    image whose class is known but whose place is not. `sha256` is that of the image file where it
    is known without reading it.
    """

    id: str
    image_path: Path
    split: Split
    kind: ItemKind
    generator: str | None
    label: str
    labels: tuple[Label, ...]
    width: int
    height: int
    grey: bool
    sha256: str | None
    source_ids: tuple[str, ...]
    record: DefectExample | SyntheticDefect

    @property
    def is_placeless(self) -> bool:
        """True for a defect image without a single instance."""
        return self.label != GOOD and not self.labels


def read_mask(path: Path, width: int, height: int) -> np.ndarray:
    """Read a mask PNG as bool of shape (height, width); grey levels above 127 are the defect.

    Raises:
        SourceError: the file is missing or unreadable, or has another size.
    """
    # cv2.imread prints a warning of its own for a missing file; the bytes are read first
    raw = path.read_bytes() if path.is_file() else b""
    mask = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_GRAYSCALE) if raw else None
    if mask is None:
        raise SourceError(f"{path} is missing or not a readable mask; make it again.")
    if mask.shape != (height, width):
        raise SourceError(
            f"{path} has {mask.shape[1]} x {mask.shape[0]} px, but its image or box says "
            f"{width} x {height} px; make it again."
        )
    return mask > 127


def label_of(instance: Instance, root: Path | None = None) -> Label:
    """Read an instance's mask; a relative path is taken from `root` where one is given."""
    x1, y1, x2, y2 = instance.box_xyxy
    path = instance.mask_path
    mask = None
    if path is not None:
        mask = read_mask(root / path if root else path, x2 - x1, y2 - y1)
        if not mask.any():
            raise SourceError(f"{path} is empty, although a defect is said to be there.")
    return Label(instance.class_name, instance.box_xyxy, mask, instance.mask_kind)


def real_item(record: DefectExample) -> Item:
    """The item of a real image.

    Raises:
        SourceError: the record has no split yet, or one of its masks can't be read.
    """
    if record.split is None:
        raise SourceError(f"{record.source_path} is in no split; run `augment import` again.")
    return Item(
        id=record.id,
        image_path=record.image_path,
        split=record.split,
        kind="real",
        generator=None,
        label=record.label,
        labels=tuple(label_of(instance) for instance in record.instances),
        width=record.width,
        height=record.height,
        grey=record.grey,
        sha256=record.sha256 if record.image_path == record.source_path else None,
        source_ids=(),
        record=record,
    )


def synthetic_item(sample: PoolSample) -> Item:
    """The item of a synthetic sample: its own defect, and those its background carried.

    Raises:
        PoolError: the mask and the boxes of the manifest don't agree.
        SourceError: a mask can't be read.
    """
    pool, record = sample
    labels = [*_made(pool, record), *(label_of(i, pool) for i in record.carried_instances)]
    return Item(
        id=record.id,
        image_path=pool / record.image,
        split="train",
        kind="synthetic",
        generator=record.generator,
        label=record.class_name,
        labels=tuple(labels),
        width=record.width,
        height=record.height,
        grey=record.grey,
        sha256=None,
        source_ids=record.source_ids,
        record=record,
    )


def _made(pool: Path, record: SyntheticDefect) -> list[Label]:
    """One label for each box of the sample, with the parts of the mask that lie in it."""
    name = record.class_name
    if record.mask is None or not record.boxes_xyxy:  # nothing changed, so nothing is labelled
        return [Label(name, box, None, "none") for box in record.boxes_xyxy]
    mask = read_mask(pool / record.mask, record.width, record.height)
    x1, y1, x2, y2 = record.boxes_xyxy[0]
    crop = mask[y1:y2, x1:x2]
    if len(record.boxes_xyxy) == 1 and crop.sum() == mask.sum():
        parts = [crop.copy()]
    else:
        parts = _parts(mask, record.boxes_xyxy)
    if not parts:
        raise PoolError(
            f"Sample {record.id} in {pool}: its mask and its boxes do not agree; delete the "
            "pool's folder and run `augment sample` again."
        )
    pairs = zip(record.boxes_xyxy, parts, strict=True)
    return [Label(name, box, part, record.mask_kind) for box, part in pairs]


def _parts(mask: np.ndarray, boxes: Sequence[Box]) -> list[np.ndarray]:
    """Split a full-size mask into one box-sized mask a box; [] if a part that is more than a crumb
    lies in no box.

    Parts are told apart as finely as the boxes ask for: as defects, or where two boxes lie closer
    than those, as what touches with or without corners.
    """
    for labelled in _ever_finer(mask):
        parts = _dealt(labelled, boxes)
        if parts and all(part.any() for part in parts):
            return parts
    return []


def _ever_finer(mask: np.ndarray) -> Iterator[np.ndarray]:
    """The mask's parts numbered: defects, then what touches with corners, then without."""
    yield label_parts(mask)[0]
    for connectivity in (8, 4):
        yield cv2.connectedComponents(mask.view(np.uint8), connectivity=connectivity)[1]


def _dealt(labelled: np.ndarray, boxes: Sequence[Box]) -> list[np.ndarray]:
    """A numbered mask dealt out to boxes, as in `_parts`.

    A part goes to the smallest box that holds it, so that a small part inside the box of a large
    one keeps its own.
    """
    areas = np.bincount(labelled.ravel())
    parts = [np.zeros((y2 - y1, x2 - x1), bool) for x1, y1, x2, y2 in boxes]
    by_area = sorted(range(len(boxes)), key=lambda k: parts[k].size)
    for part, (rows, columns) in enumerate(ndimage.find_objects(labelled), start=1):
        box = (columns.start, rows.start, columns.stop, rows.stop)
        home = [k for k in by_area if _holds(boxes[k], box)]
        if not home and areas[part] < LEAST_PART * areas[1:].sum():
            continue  # a crumb, which gets no box
        if not home:
            return []
        x1, y1, x2, y2 = boxes[home[0]]
        parts[home[0]] |= labelled[y1:y2, x1:x2] == part
    return parts


def _holds(outer: Box, inner: Box) -> bool:
    return (
        outer[0] <= inner[0]
        and outer[1] <= inner[1]
        and outer[2] >= inner[2]
        and outer[3] >= inner[3]
    )


def class_map(item: Item, classes: Sequence[str]) -> np.ndarray | None:
    """Full-size class map, uint8: 0 background, 1 + index of the class; small defects on top.

    None where an instance has no mask, or a defect image has no instance: the map would claim a
    background that nobody has seen.
    """
    masked = [(label, label.mask) for label in item.labels if label.mask is not None]
    if item.is_placeless or len(masked) < len(item.labels):
        return None
    painted = np.zeros((item.height, item.width), np.uint8)
    for label, mask in sorted(masked, key=lambda pair: -int(pair[1].sum())):
        x1, y1, x2, y2 = label.box_xyxy
        painted[y1:y2, x1:x2][mask] = 1 + classes.index(label.class_name)
    return painted


def check_classes(labels: Iterable[str], classes: Sequence[str]) -> None:
    """Raise SourceError for a label that is neither a class of the dataset nor `good`."""
    unknown = sorted(set(labels) - set(classes) - {GOOD})
    if unknown:
        raise SourceError(
            f"Unknown class {', '.join(map(repr, unknown))}; the dataset has "
            f"{', '.join(classes)}: run `augment import` again."
        )
