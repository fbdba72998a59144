"""Where scores look: windows around real defects, around samples, and on the bare surface."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from generator.crops import crop_window
from generator.errors import PoolError
from generator.files import sha256_of
from generator.images import ExampleReader
from generator.records import GOOD, Box, DefectExample, Instance, SyntheticDefect

T = TypeVar("T")

FOLDS = 3
"""Parts of the train split that take turns in being held out."""

MOST_CLEAN = 400
"""Clean windows at most: enough to know the surface, and the same time for 10,000 images."""

MOST_OF_CLASS = 150
"""Windows of a class at most, spread over its images."""

NEVER_HELD_OUT = -1


@dataclass(frozen=True)
class Window:
    """A defect or a piece of bare surface, cut out of its image.

    Attributes:
        example_id: of the image.
        group: images of one group are never on two sides; the id where there is none.
        class_name: of the defect, or `good`.
        pixels: (h, w, 3) uint8.
        mask: (h, w) bool, the defect; all True where its place is unknown, all False on the bare
            surface.
        fold: 0 to FOLDS - 1, the part that the group belongs to; `NEVER_HELD_OUT` for the only
            group of its class.
    """

    example_id: str
    group: str
    class_name: str
    pixels: np.ndarray
    mask: np.ndarray
    fold: int


def defect_window(image: np.ndarray, box_xyxy: Box) -> np.ndarray:
    """The square-ish window around a box, the same for real defects and for samples.

    Args:
        image: (H, W) or (H, W, 3), of any dtype; a mask is cut like its image.
        box_xyxy: the defect's box.

    Returns:
        (h, w) or (h, w, 3), a view; the geometry is `generator.crops.crop_window`'s default one.
    """
    height, width = image.shape[:2]
    left, top, right, bottom = crop_window(box_xyxy, (width, height))
    return image[top:bottom, left:right]


def assign_folds(examples: Sequence[DefectExample], seed: int) -> dict[str, int]:
    """Fold by example id: groups whole, classes spread evenly, in the order of a hash.

    A group belongs to the class that comes first among its images' labels.
    """
    labels: dict[str, str] = {}
    for example in sorted(examples, key=lambda e: (e.is_clean, e.label)):
        labels.setdefault(group_of(example), example.label)
    by_class: dict[str, list[str]] = {}
    for group in sorted(labels, key=lambda g: sha256_of([seed, g])):
        by_class.setdefault(labels[group], []).append(group)
    folds = {
        group: k % FOLDS if len(groups) > 1 else NEVER_HELD_OUT
        for groups in by_class.values()
        for k, group in enumerate(groups)
    }
    return {example.id: folds[group_of(example)] for example in examples}


def group_of(example: DefectExample) -> str:
    """What must stay together with an image: its group, or itself."""
    return example.group or example.id


def real_windows(
    examples: Sequence[DefectExample],
    classes: Sequence[str],
    seed: int = 0,
    reader: ExampleReader | None = None,
) -> list[Window]:
    """Windows around the real defects of each class, then windows of the bare surface.

    Images whose class is known but whose defects have no place give themselves as a whole.

    Args:
        examples: of the train split.
        classes: defect classes; others are passed over.
        seed: of the folds and of where the clean windows lie.
        reader: of the images; None makes one.

    Raises:
        ExampleError: an image or mask can't be read.
    """
    reader = reader or ExampleReader()
    folds = assign_folds(examples, seed)
    ordered = sorted(examples, key=lambda e: e.id)
    found = []
    for name in classes:
        owners = [(e, i) for e in ordered for i in _instances(e) if i.class_name == name]
        for example, instance in _spread(owners, MOST_OF_CLASS):
            found.append(_window(reader, example, instance, folds[example.id]))
    rng = np.random.default_rng([seed, len(found)])
    sides = [max(w.pixels.shape[:2]) for w in found] or [64]
    for example in _spread([e for e in ordered if e.is_clean], MOST_CLEAN):
        image = reader.image(example)
        side = min(int(rng.choice(sides)), example.width, example.height)
        x = int(rng.integers(example.width - side + 1))
        y = int(rng.integers(example.height - side + 1))
        pixels = image[y : y + side, x : x + side].copy()
        none = np.zeros(pixels.shape[:2], dtype=bool)
        found.append(Window(example.id, group_of(example), GOOD, pixels, none, folds[example.id]))
    return found


def windows_of(
    example: DefectExample, class_name: str, folds: Mapping[str, int], reader: ExampleReader
) -> list[Window]:
    """The windows around all defects of a class in one image, as `real_windows` cuts them.

    Raises:
        ExampleError: the image or a mask can't be read.
    """
    return [
        _window(reader, example, instance, folds[example.id])
        for instance in _instances(example)
        if instance.class_name == class_name
    ]


def count_of_class(examples: Sequence[DefectExample], class_name: str) -> int:
    """How many windows there would be of a class if `real_windows` took them all."""
    return sum(i.class_name == class_name for e in examples for i in _instances(e))


def read_sample(pool: Path, sample: SyntheticDefect) -> tuple[np.ndarray, np.ndarray, Box]:
    """A sample's pixels, its mask, and the box of all that it shows.

    Returns:
        (H, W, 3) uint8, (H, W) bool and the box. In whole-image mode mask and box are the whole
        image; a sample on which nothing appeared is looked at where it was painted.

    Raises:
        PoolError: a file is missing or damaged.
    """
    image = _decode(pool, sample.image, cv2.IMREAD_COLOR)[..., ::-1]
    if sample.mask is None:
        return image, np.ones(image.shape[:2], dtype=bool), (0, 0, sample.width, sample.height)
    mask = _decode(pool, sample.mask, cv2.IMREAD_GRAYSCALE) > 127
    boxes = sample.boxes_xyxy or (sample.crop_xyxy,)
    box = (
        min(b[0] for b in boxes),
        min(b[1] for b in boxes),
        max(b[2] for b in boxes),
        max(b[3] for b in boxes),
    )
    return image, mask, box


def _window(reader: ExampleReader, example: DefectExample, instance: Instance, fold: int) -> Window:
    image, mask = reader.image(example), _full_mask(reader, example, instance)
    # copies, so that the whole images can be forgotten
    pixels, part = (defect_window(a, instance.box_xyxy).copy() for a in (image, mask))
    return Window(example.id, group_of(example), instance.class_name, pixels, part, fold)


def _instances(example: DefectExample) -> tuple[Instance, ...]:
    if example.instances or example.is_clean:
        return example.instances
    whole = (0, 0, example.width, example.height)
    return (Instance(class_name=example.label, box_xyxy=whole),)


def _full_mask(reader: ExampleReader, example: DefectExample, instance: Instance) -> np.ndarray:
    mask = np.zeros((example.height, example.width), dtype=bool)
    x1, y1, x2, y2 = instance.box_xyxy
    mask[y1:y2, x1:x2] = reader.mask(example, instance) if example.instances else True
    return mask


def _spread(members: Sequence[T], most: int) -> list[T]:
    """At most `most` of them, evenly spread."""
    if len(members) <= most:
        return list(members)
    return [members[k * len(members) // most] for k in range(most)]


def _decode(pool: Path, name: str, flags: int) -> np.ndarray:
    image = cv2.imread(str(pool / name), flags)
    if image is None:
        raise PoolError(
            f"{pool / name} is missing or is not an image; delete {pool} and sample again with: "
            "augment build"
        )
    return image
