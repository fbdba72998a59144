"""Examples -> batches of crops.

A batch depends on (seed, step) and nothing else, so training resumes at any step.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor

from generator.conditioning import clean_id
from generator.config import CropSettings
from generator.crops import crop_window
from generator.errors import ExampleError, TrainingError
from generator.records import Box, DefectExample, Instance

T = TypeVar("T")

CACHE_BYTES = 512 * 2**20
"""Decoded images kept in memory; further ones are decoded again when they are drawn."""


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


class ImageStore:
    """Decoded images of examples, the most recently used ones kept."""

    def __init__(self, channels: int, capacity: int = CACHE_BYTES) -> None:
        self.channels = channels
        self.capacity = capacity
        self._kept: OrderedDict[str, np.ndarray] = OrderedDict()
        self._bytes = 0

    def image(self, example: DefectExample) -> np.ndarray:
        """(H, W, C) uint8 pixels of an example.

        Raises:
            ExampleError: the file can't be read, or has another size than the record says.
        """
        if example.id in self._kept:
            self._kept.move_to_end(example.id)
            return self._kept[example.id]
        flag = cv2.IMREAD_GRAYSCALE if self.channels == 1 else cv2.IMREAD_COLOR_RGB
        pixels = _read(example.image_path, flag, (example.height, example.width))
        pixels = pixels.reshape(example.height, example.width, self.channels)
        self._kept[example.id] = pixels
        self._bytes += pixels.nbytes
        while self._bytes > self.capacity and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= dropped.nbytes
        return pixels


def instance_mask(instance: Instance) -> np.ndarray:
    """Box-sized uint8 mask, 0 or 255; all 255 where only the box is known.

    Raises:
        ExampleError: the mask can't be read, has another size than the box, or is empty.
    """
    x1, y1, x2, y2 = instance.box_xyxy
    if instance.mask_path is None:
        return np.full((y2 - y1, x2 - x1), 255, np.uint8)
    mask = _read(instance.mask_path, cv2.IMREAD_GRAYSCALE, (y2 - y1, x2 - x1))
    mask = np.where(mask > 127, 255, 0).astype(np.uint8)
    if not mask.any():
        raise ExampleError(f"{instance.mask_path}: the mask is empty; import the data again.")
    return mask


def to_canvas(window: np.ndarray, size_px: int) -> np.ndarray:
    """A window as the network sees it: mirrored out to a square, then scaled.

    Args:
        window: (h, w) or (h, w, C) uint8.

    Returns:
        (size_px, size_px) or (size_px, size_px, C), same dtype.
    """
    height, width = window.shape[:2]
    side = max(height, width)
    if height != width:
        pad = ((0, side - height), (0, side - width), *((0, 0),) * (window.ndim - 2))
        window = np.pad(window, pad, mode="symmetric")
    return scale(window, (size_px, size_px))


def from_canvas(canvas: np.ndarray, shape_hw: tuple[int, int]) -> np.ndarray:
    """The inverse of `to_canvas`, up to what scaling loses."""
    side = max(shape_hw)
    return scale(canvas, (side, side))[: shape_hw[0], : shape_hw[1]]


def scale(pixels: np.ndarray, shape_hw: tuple[int, int]) -> np.ndarray:
    """Resize, averaging where it shrinks; the number of axes stays."""
    if pixels.shape[:2] == shape_hw:
        return pixels
    shrinks = shape_hw[0] < pixels.shape[0]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    out = cv2.resize(pixels, shape_hw[::-1], interpolation=how)
    return out[..., None] if out.ndim < pixels.ndim else out


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
        self.store = ImageStore(self.channels)
        defects = [e for e in examples if not e.is_clean]
        self.whole = bool(defects) and not any(e.instances for e in defects)
        _check(defects, self.classes, self.whole)
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
        self.masks = {
            (e.id, i.box_xyxy, i.class_name): instance_mask(i)
            for members in self.instances
            for e, i in members
        }

    @property
    def clean_source(self) -> str:
        """Where clean crops come from: `clean images`, `defect-free regions` or `none`."""
        if self.clean:
            return "clean images"
        return "defect-free regions" if self.regions else "none"

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
        mask = np.zeros((example.height, example.width), np.uint8)
        x1, y1, x2, y2 = instance.box_xyxy
        mask[y1:y2, x1:x2] = self.masks[example.id, instance.box_xyxy, instance.class_name]
        pixels, cut = self._cut(example, mask, window)
        return (*self._vary(pixels, cut, rng), class_id, example.id)

    def _clean(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, int, str]:
        class_id = clean_id(self.classes)
        if self.whole:
            return self._whole(self.clean, class_id, rng)
        lender, instance = _pick(_pick(self.instances, rng), rng)
        window = self._window(lender, instance, rng)
        shape = np.zeros((lender.height, lender.width), np.uint8)
        x1, y1, x2, y2 = instance.box_xyxy
        shape[y1:y2, x1:x2] = self.masks[lender.id, instance.box_xyxy, instance.class_name]
        cut = _canvas_mask(_at(shape, window), self.crops.size_px)
        if self.clean:
            example = _pick(self.clean, rng)
            free: Box = (0, 0, example.width, example.height)
        else:
            example, free = _pick(self.regions, rng)
        left, top, right, bottom = free
        wide = min(max(window[2] - window[0], window[3] - window[1]), right - left, bottom - top)
        x = int(rng.integers(left, right - wide + 1))
        y = int(rng.integers(top, bottom - wide + 1))
        pixels = _at(self.store.image(example), (x, y, x + wide, y + wide))
        canvas = to_canvas(pixels, self.crops.size_px)
        return (*self._vary(canvas, cut, rng), class_id, example.id)

    def _whole(
        self, members: Sequence[DefectExample], class_id: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, int, str]:
        example = _pick(members, rng)
        pixels = scale(self.store.image(example), (self.canvas_px, self.canvas_px))
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

    def _cut(
        self, example: DefectExample, mask: np.ndarray, window: Box
    ) -> tuple[np.ndarray, np.ndarray]:
        size = self.crops.size_px
        pixels = to_canvas(_at(self.store.image(example), window), size)
        return pixels, _canvas_mask(_at(mask, window), size)

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


def to_tensor(pixels: np.ndarray) -> Tensor:
    """(B, H, W, C) pixels in [0, 255] -> (B, C, H, W) float32 in [-1, 1]."""
    scaled = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), dtype=np.float32)
    return torch.from_numpy(scaled) / 127.5 - 1


def to_pixels(images: Tensor) -> np.ndarray:
    """The inverse of `to_tensor`, as float32, not yet rounded or clipped."""
    return ((images.float().cpu() + 1) * 127.5).permute(0, 2, 3, 1).numpy()


def _check(defects: Sequence[DefectExample], classes: tuple[str, ...], whole: bool) -> None:
    if not defects:
        raise TrainingError("There is no defect example to train on; import a folder with some.")
    named = {i.class_name for e in defects for i in e.instances} | {e.label for e in defects}
    if unknown := sorted(named - set(classes)):
        raise ExampleError(
            f"Examples name the classes {', '.join(unknown)}, which the project does not know "
            f"({', '.join(classes)}); import the data again."
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


def _canvas_mask(mask: np.ndarray, size_px: int) -> np.ndarray:
    """A mask on the canvas; what is mirrored in is not the defect, so it is padded with 0."""
    height, width = mask.shape
    side = max(height, width)
    square = np.zeros((side, side), np.uint8)
    square[:height, :width] = mask
    return np.asarray(scale(square, (size_px, size_px)))


def _shift(
    low: int, high: int, first: int, last: int, length: int, rng: np.random.Generator
) -> tuple[int, int]:
    """Move a span at random such that it still holds [first, last) and stays in [0, length)."""
    size = high - low
    start = int(rng.integers(max(last - size, 0), min(first, length - size) + 1))
    return start, start + size


def _read(path: Path, flag: int, shape_hw: tuple[int, int]) -> np.ndarray:
    pixels = cv2.imread(str(path), flag)
    if pixels is None:
        raise ExampleError(f"{path} can't be read as an image; import the data again.")
    if pixels.shape[:2] != shape_hw:
        raise ExampleError(
            f"{path} is {pixels.shape[1]} x {pixels.shape[0]} px, its record says "
            f"{shape_hw[1]} x {shape_hw[0]}; import the data again."
        )
    return pixels
