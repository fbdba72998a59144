"""Examples -> batches of crops.

A batch depends on (seed, step) and nothing else, so training resumes at any step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from generator.canvas import mask_canvas, scale, to_canvas, to_tensor
from generator.conditioning import clean_id
from generator.config import CropSettings
from generator.crops import crop_window
from generator.errors import ExampleError, TrainingError
from generator.images import ExampleReader
from generator.records import Box, DefectExample, Instance

T = TypeVar("T")


@dataclass(frozen=True)
class Batch:
    """Attributes:
    images: (B, C, S, S) float32 in [-1, 1].
    masks: (B, 1, S, S) float32 in [0, 1], coverage by the defect.
    class_ids: (B,) int64.
    example_ids: B ids, of the example behind each crop.
    """

    images: Tensor
    masks: Tensor
    class_ids: Tensor
    example_ids: tuple[str, ...]


class CropData:
    """Balanced batches of crops around defects, and of the bare surface.

    Defect crops draw a class, then one of its instances, so that rare classes are seen as often
    as common ones. Clean crops carry the mask of some defect, in whose place the network learns
    to continue the surface. Without any instance, whole images are the crops (`whole`).
    """

    def __init__(
        self, examples: Sequence[DefectExample], classes: Sequence[str], crops: CropSettings
    ) -> None:
        """Check the examples.

        Raises:
            ExampleError: a class is unknown, or some defect images have instances and others not.
            TrainingError: there is nothing to train on.
        """
        self.classes = tuple(classes)
        self.crops = crops
        self.channels = 1 if all(e.grey for e in examples) else 3
        self.reader = ExampleReader()
        defects = [e for e in examples if not e.is_clean]
        self.whole = bool(defects) and not any(e.instances for e in defects)
        _check(examples, self.classes, self.whole)
        self.clean = [e for e in examples if e.is_clean]
        self.instances: list[list[tuple[DefectExample, Instance]]] = [
            [(e, i) for e in defects for i in e.instances if i.class_name == name]
            for name in self.classes
        ]
        self.images = [[e for e in defects if e.label == name] for name in self.classes]
        seen = self.images if self.whole else self.instances
        if absent := [n for n, members in zip(self.classes, seen, strict=True) if not members]:
            raise TrainingError(
                f"No training example of {', '.join(absent)}; import more, or take the class out."
            )
        self.regions = [] if self.clean or self.whole else _free_windows(defects, crops.least_px)
        self._masks: dict[tuple[str, Instance], np.ndarray] = {}

    @property
    def clean_source(self) -> str:
        """Where clean crops come from: `clean images`, `defect-free regions` or `none`."""
        if self.clean:
            return "clean images"
        return "defect-free regions" if self.regions else "none"

    def spread(self, seed: int) -> float:
        """Root mean square of how far crops' pixels lie from their crop's mean, images being in
        [-1, 1]; estimated on 64 crops."""
        images = self.batch(0, seed, 64).images
        varied = images - images.mean(dim=(2, 3), keepdim=True)
        return max(float(varied.square().mean()) ** 0.5, 0.01)

    @property
    def canvas_px(self) -> int:
        """Side of the canvas, pixels."""
        return self.crops.whole_image_px if self.whole else self.crops.size_px

    def batch(self, step: int, seed: int, batch_size: int) -> Batch:
        """The batch of a step."""
        rng = np.random.default_rng([seed, step])
        share = self.crops.clean_share if self.clean_source != "none" else 0
        clean_count = round(share * batch_size)
        if batch_size > 1 or share == 0:
            clean_count = min(clean_count, batch_size - 1)
        draws = [(self._clean if k < clean_count else self._defect)(rng) for k in range(batch_size)]
        images, masks, class_ids, ids = zip(*draws, strict=True)
        return Batch(
            images=to_tensor(np.stack(images)),
            masks=torch.from_numpy(np.stack(masks)[:, None].astype(np.float32) / 255),
            class_ids=torch.tensor(class_ids),
            example_ids=ids,
        )

    def _defect(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, int, str]:
        class_id = int(rng.integers(len(self.classes)))
        if self.whole:
            return self._whole(self.images[class_id], class_id, rng)
        example, instance = _pick(self.instances[class_id], rng)
        window = self._window(example, instance, rng)
        canvas = to_canvas(_at(self._pixels(example), window), self.crops.size_px)
        mask = self._mask_canvas(example, instance, window)
        return (*self._vary(canvas, mask, rng), class_id, example.id)

    def _clean(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, int, str]:
        class_id = clean_id(self.classes)
        if self.whole:
            return self._whole(self.clean, class_id, rng)
        lender, instance = _pick(_pick(self.instances, rng), rng)
        window = self._window(lender, instance, rng)
        mask = self._mask_canvas(lender, instance, window)
        if self.clean:
            example = _pick(self.clean, rng)
            free: Box = (0, 0, example.width, example.height)
        else:
            example, free = _pick(self.regions, rng)
        left, top, right, bottom = free
        wide = min(max(window[2] - window[0], window[3] - window[1]), right - left, bottom - top)
        x = int(rng.integers(left, right - wide + 1))
        y = int(rng.integers(top, bottom - wide + 1))
        canvas = to_canvas(
            _at(self._pixels(example), (x, y, x + wide, y + wide)), self.crops.size_px
        )
        return (*self._vary(canvas, mask, rng), class_id, example.id)

    def _whole(
        self, members: Sequence[DefectExample], class_id: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, int, str]:
        example = _pick(members, rng)
        pixels = scale(self._pixels(example), (self.canvas_px, self.canvas_px))
        mask = np.full(pixels.shape[:2], 255, np.uint8)
        return (*self._vary(pixels, mask, rng), class_id, example.id)

    def _window(self, example: DefectExample, instance: Instance, rng: np.random.Generator) -> Box:
        """A window around an instance, of a slightly random size and place."""
        factor = self.crops.factor * float(np.exp(rng.uniform(-1, 1) * self.crops.jitter))
        window = crop_window(
            instance.box_xyxy,
            (example.width, example.height),
            factor=max(factor, 1.0),
            least_px=self.crops.least_px,
        )
        shifted = [
            _shift(window[a], window[a + 2], instance.box_xyxy[a], instance.box_xyxy[a + 2], n, rng)
            for a, n in ((0, example.width), (1, example.height))
        ]
        (left, right), (top, bottom) = shifted
        return left, top, right, bottom

    def _pixels(self, example: DefectExample) -> np.ndarray:
        return self.reader.image(example)[..., : self.channels]

    def _mask_canvas(self, example: DefectExample, instance: Instance, window: Box) -> np.ndarray:
        """An instance's mask in a window, on the canvas; a box without one gets a proposal."""
        key = (example.id, instance)
        if key not in self._masks:
            self._masks[key] = self.reader.mask(example, instance).astype(np.uint8) * 255
        left, top, right, bottom = window
        x1, y1, x2, y2 = instance.box_xyxy
        mask = np.zeros((bottom - top, right - left), np.uint8)
        mask[y1 - top : y2 - top, x1 - left : x2 - left] = self._masks[key]
        return mask_canvas(mask, self.crops.size_px)

    def _vary(
        self, pixels: np.ndarray, mask: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Turn, mirror, and change gain and offset."""
        turns, mirror = int(rng.integers(4)), bool(rng.integers(2))
        pixels, mask = np.rot90(pixels, turns), np.rot90(mask, turns)
        if mirror:
            pixels, mask = pixels[:, ::-1], mask[:, ::-1]
        gain, offset = rng.uniform(-1, 1, 2) * self.crops.brightness
        varied = np.clip(pixels * np.float32(1 + gain) + np.float32(127.5 * offset), 0, 255)
        return varied, np.ascontiguousarray(mask)


def _check(examples: Sequence[DefectExample], classes: tuple[str, ...], whole: bool) -> None:
    defects = [e for e in examples if not e.is_clean]
    if not defects:
        raise TrainingError("There is no defect example to train on; import a folder with some.")
    named = {i.class_name for e in defects for i in e.instances} | {e.label for e in defects}
    if unknown := sorted(named - set(classes)):
        raise ExampleError(
            f"Examples name the classes {', '.join(unknown)}, which the project does not know "
            f"({', '.join(classes)}); import the data again."
        )
    if missing := [str(e.image_path) for e in examples if not e.image_path.is_file()]:
        raise ExampleError(
            f"{len(missing)} images are missing ({', '.join(missing[:3])}); "
            "run augment import again."
        )
    bare = [str(e.source_path) for e in defects if not e.instances]
    if bare and not whole:
        raise ExampleError(
            f"{len(bare)} defect images have neither mask nor box while others have "
            f"({', '.join(bare[:3])}{', ...' if len(bare) > 3 else ''}); label them, or import "
            "with --on-bad skip."
        )


def _free_windows(
    defects: Sequence[DefectExample], least_px: int
) -> list[tuple[DefectExample, Box]]:
    """Windows without a defect in images with one, the largest that a coarse grid finds."""
    found = []
    for example in defects:
        taken = np.zeros((example.height, example.width), np.int32)
        for x1, y1, x2, y2 in (i.box_xyxy for i in example.instances):
            taken[y1:y2, x1:x2] = 1
        total = np.pad(taken.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        side = least_px
        while side <= min(example.width, example.height):
            # At most 16 x 16 windows of a size, however large the image.
            step_y = max(side // 2, (example.height - side) // 15, 1)
            step_x = max(side // 2, (example.width - side) // 15, 1)
            for y in range(0, example.height - side + 1, step_y):
                for x in range(0, example.width - side + 1, step_x):
                    a, b = total[y, x], total[y + side, x + side]
                    if a + b == total[y, x + side] + total[y + side, x]:
                        found.append((example, (x, y, x + side, y + side)))
            side *= 2
    return found


def _pick(members: Sequence[T], rng: np.random.Generator) -> T:
    return members[int(rng.integers(len(members)))]


def _at(pixels: np.ndarray, box: Box) -> np.ndarray:
    return pixels[box[1] : box[3], box[0] : box[2]]


def _shift(
    low: int, high: int, first: int, last: int, length: int, rng: np.random.Generator
) -> tuple[int, int]:
    """Move a span at random such that it still holds [first, last) and stays in [0, length)."""
    size = high - low
    start = int(rng.integers(max(last - size, 0), min(first, length - size) + 1))
    return start, start + size
