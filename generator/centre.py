"""The centre square of images, for parts that lie on a backdrop."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from generator.images import ExampleReader
from generator.records import Box, DefectExample, Instance


@dataclass(frozen=True)
class Centred:
    """Attributes:
    examples: cut to their squares; boxes are numbered from the square's corner.
    reader: reads them; they keep the ids of what they are cut from.
    notes: how many defects lie outside of their image's square, and how many images are left
        out since no defect is left in them; empty if none.
    """

    examples: list[DefectExample]
    reader: "CentreReader"
    notes: tuple[str, ...]


def centred(examples: Sequence[DefectExample], side_px: int) -> Centred:
    """Cut images to the square in their middle.

    A defect on the square's edge is cut with it.

    Args:
        examples: of any size.
        side_px: side of the square; an image that is smaller along one axis is left whole there.

    Raises:
        ExampleError: a mask can't be read.
    """
    reader = CentreReader(examples, side_px)
    kept, lost_instances, lost_images = [], 0, 0
    for example in examples:
        cut = reader.cut(example)
        lost_instances += len(example.instances) - len(cut.instances)
        if example.instances and not cut.instances:
            lost_images += 1
        else:
            kept.append(cut)
    note = (
        f"Outside of the centre {side_px} px lie {lost_instances} defects; {lost_images} images "
        "have no other and are left out of training."
    )
    return Centred(kept, reader, (note,) if lost_instances else ())


class CentreReader:
    """Reads squares as `ExampleReader` reads whole images."""

    def __init__(self, examples: Sequence[DefectExample], side_px: int) -> None:
        """Remember what the squares are cut from."""
        self.side_px = side_px
        self._reader = ExampleReader()
        self._whole = {example.id: example for example in examples}
        self._source: dict[tuple[str, Instance], Instance] = {}

    def cut(self, example: DefectExample) -> DefectExample:
        """The example as `image` and `mask` read it; without the defects outside the square."""
        left, top, right, bottom = square_of(example, self.side_px)
        inside = []
        for instance in example.instances:
            x1, y1, x2, y2 = instance.box_xyxy
            box = max(x1, left), max(y1, top), min(x2, right), min(y2, bottom)
            if box[0] >= box[2] or box[1] >= box[3] or not self._part(example, instance, box).any():
                continue
            moved = box[0] - left, box[1] - top, box[2] - left, box[3] - top
            inside.append(instance.model_copy(update={"box_xyxy": moved}))
            self._source[example.id, inside[-1]] = instance
        size = {"width": right - left, "height": bottom - top}
        return example.model_copy(update={**size, "instances": tuple(inside)})

    def image(self, example: DefectExample) -> np.ndarray:
        """See `ExampleReader.image`."""
        whole = self._whole[example.id]
        left, top, right, bottom = square_of(whole, self.side_px)
        return self._reader.image(whole)[top:bottom, left:right]

    def mask(self, example: DefectExample, instance: Instance) -> np.ndarray:
        """See `ExampleReader.mask`."""
        whole = self._whole[example.id]
        left, top, _, _ = square_of(whole, self.side_px)
        x1, y1, x2, y2 = instance.box_xyxy
        box = x1 + left, y1 + top, x2 + left, y2 + top
        return self._part(whole, self._source[example.id, instance], box)

    def keep(self, key: tuple[Hashable, ...], make: Callable[[], np.ndarray]) -> np.ndarray:
        """See `ExampleReader.keep`."""
        return self._reader.keep(("centre", *key), make)

    def _part(self, whole: DefectExample, instance: Instance, box: Box) -> np.ndarray:
        """What of an instance's mask lies in `box`, which is a part of its own box."""
        x, y = instance.box_xyxy[:2]
        mask = self._reader.mask(whole, instance)
        return mask[box[1] - y : box[3] - y, box[0] - x : box[2] - x]


def square_of(example: DefectExample, side_px: int) -> Box:
    """The square of `side_px` in the middle of an image, cut to the image."""
    wide, high = min(side_px, example.width), min(side_px, example.height)
    left, top = (example.width - wide) // 2, (example.height - high) // 2
    return left, top, left + wide, top + high
