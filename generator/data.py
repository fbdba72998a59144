"""Examples -> batches of crops.

A batch depends on (seed, step) and nothing else, so training resumes at any step.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from generator.canvas import scale, to_canvas, to_tensor
from generator.centre import CentreReader, centred
from generator.conditioning.conditions import clean_id
from generator.config import CropSettings
from generator.crops import crop_window, free_windows
from generator.errors import ExampleError, TrainingError
from generator.images import ExampleReader
from generator.records import Box, DefectExample, Instance

T = TypeVar("T")
Crop = tuple[np.ndarray, np.ndarray, int, str]
"""(S, S, C) float32 pixels, (S, S) uint8 mask, class id, example id."""


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

    @classmethod
    def joined(cls, parts: Sequence["Batch"]) -> "Batch":
        """One batch of several."""
        return cls(
            torch.cat([part.images for part in parts]),
            torch.cat([part.masks for part in parts]),
            torch.cat([part.class_ids for part in parts]),
            tuple(example for part in parts for example in part.example_ids),
        )


class CropData:
    """Balanced batches of crops around defects, and of the bare surface.

    Defect crops draw a class, then one of its instances, so that rare classes are seen as often
    as common ones. Clean crops carry the mask of some defect, in whose place the network learns
    to continue the surface. Without any instance, whole images are the crops (`whole`).
    """

    def __init__(
        self,
        examples: Sequence[DefectExample],
        classes: Sequence[str],
        crops: CropSettings,
        channels: int | None = None,
    ) -> None:
        """Check the examples.

        Args:
            examples: of the train split.
            classes: defect classes; their order numbers them.
            crops: what the network looks at.
            channels: 1 or 3; default: 1 if all images are grey.

        Raises:
            ExampleError: a class is unknown, or some defect images have instances and others not.
            TrainingError: there is nothing to train on.
        """
        self.classes = tuple(classes)
        self.crops = crops
        self.channels = channels or (1 if all(e.grey for e in examples) else 3)
        self.reader: ExampleReader | CentreReader = ExampleReader()
        self.notes: tuple[str, ...] = ()
        defects = [e for e in examples if not e.is_clean]
        self.whole = bool(defects) and not any(e.instances for e in defects)
        _check(examples, self.classes, self.whole)
        if crops.centre_px:
            cut = centred(examples, crops.centre_px)
            self.reader, self.notes = cut.reader, cut.notes
            examples, defects = cut.examples, [e for e in cut.examples if not e.is_clean]
        self.clean = [e for e in examples if e.is_clean]
        self.instances: list[list[tuple[DefectExample, Instance]]] = [
            [(e, i) for e in defects for i in e.instances if i.class_name == name]
            for name in self.classes
        ]
        self.images = [[e for e in defects if e.label == name] for name in self.classes]
        seen = self.images if self.whole else self.instances
        if absent := [n for n, members in zip(self.classes, seen, strict=True) if not members]:
            raise TrainingError(
                f"{' '.join((*self.notes, 'No training example of'))} {', '.join(absent)}; import "
                "more, or take the class out."
            )
        self.regions = [] if self.clean or self.whole else free_windows(defects, crops.least_px)

    @property
    def clean_source(self) -> str:
        """Where clean crops come from: `clean images`, `defect-free regions` or `none`."""
        if self.clean:
            return "clean images"
        return "defect-free regions" if self.regions else "none"

    @property
    def clean_share(self) -> float:
        """Share of clean crops among all that are drawn; 0 where there is nothing to cut any
        from."""
        return self.crops.clean_share if self.clean_source != "none" else 0.0

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

    @property
    def instance_count(self) -> int:
        """Defect instances, or defect images where no place is known: what an epoch goes over."""
        return sum(
            len(self.images[k] if self.whole else self.instances[k]) for k in self._class_ids
        )

    @property
    def _class_ids(self) -> range:
        return range(len(self.classes))

    def draw_classes(self, rng: np.random.Generator, size: int) -> list[int]:
        """Class ids of a batch: the clean share first, then defect classes, all equally likely."""
        exact = self.clean_share * size
        # a share that no whole number is drawn by chance: two crops would never have a clean one
        more = exact % 1 > 0 and rng.random() < exact % 1
        clean_count = min(int(exact) + int(more), max(size - 1, 1))
        drawn = rng.integers(len(self.classes), size=size - clean_count)
        return [clean_id(self.classes)] * clean_count + [int(k) for k in drawn]

    def batch(self, step: int, seed: int, batch_size: int) -> Batch:
        """The batch of a step."""
        rng = np.random.default_rng([seed, step])
        wanted = self.draw_classes(rng, batch_size)
        return _stack([self._crop(class_id, None, rng) for class_id in wanted])

    def bank(self, seed: int, variants: int, at_once: int) -> Iterator[Batch]:
        """Every instance cut and turned `variants` times, and clean crops in the share that
        batches have of them, in batches of `at_once`, each cut when it is asked for: thousands of
        crops are gigabytes."""
        jobs = [
            (class_id, k)
            for class_id in self._class_ids
            for k in range(len((self.images if self.whole else self.instances)[class_id]))
            for _ in range(variants)
        ]
        share = self.clean_share
        jobs += [(clean_id(self.classes), 0)] * math.ceil(len(jobs) * share / (1 - share))
        crops = (
            self._crop(class_id, k, np.random.default_rng([seed, number, 1]))
            for number, (class_id, k) in enumerate(jobs)
        )
        while few := list(islice(crops, at_once)):
            yield _stack(few)

    def class_crops(self, class_id: int, count: int, seed: int) -> Batch:
        """`count` crops of a class, its instances in turn."""
        members = len((self.images if self.whole else self.instances)[class_id])
        rngs = [np.random.default_rng([seed, class_id, k, 3]) for k in range(count)]
        return _stack([self._crop(class_id, k % members, rng) for k, rng in enumerate(rngs)])

    def _crop(self, class_id: int, member: int | None, rng: np.random.Generator) -> Crop:
        """A crop of a class: of its instance (or image) number `member`, or of any."""
        if class_id == clean_id(self.classes):
            return self._clean(rng)
        if self.whole:
            images = self.images[class_id]
            return self._whole(images if member is None else [images[member]], class_id, rng)
        instances = self.instances[class_id]
        example, instance = _pick(instances, rng) if member is None else instances[member]
        return self._defect(class_id, example, instance, rng)

    def _defect(
        self, class_id: int, example: DefectExample, instance: Instance, rng: np.random.Generator
    ) -> Crop:
        window = self._window(example, instance, rng)
        canvas = to_canvas(_at(self._pixels(example), window), self.crops.size_px)
        mask = self._mask_canvas(example, instance, window)
        return (*self._vary(canvas, mask, rng), class_id, example.id)

    def _clean(self, rng: np.random.Generator) -> Crop:
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
    ) -> Crop:
        example = _pick(members, rng)
        pixels = scale(self._pixels(example), (self.canvas_px, self.canvas_px))
        mask = np.full(pixels.shape[:2], 255, np.uint8)
        turned = self.crops.whole_image_turns
        return (*self._vary(pixels, mask, rng, turned), class_id, example.id)

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
        own = self.reader.keep(
            ("mask", example.id, instance),
            lambda: self.reader.mask(example, instance).astype(np.uint8) * 255,
        )
        left, top, right, bottom = window
        x1, y1, x2, y2 = instance.box_xyxy
        mask = np.zeros((bottom - top, right - left), np.uint8)
        mask[y1 - top : y2 - top, x1 - left : x2 - left] = own
        return to_canvas(mask, self.crops.size_px)

    def _vary(
        self, pixels: np.ndarray, mask: np.ndarray, rng: np.random.Generator, turned: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """Turn and mirror, unless it shall stay as it is, and change gain and offset."""
        turns, mirror = (int(rng.integers(4)), bool(rng.integers(2))) if turned else (0, False)
        pixels, mask = np.rot90(pixels, turns), np.rot90(mask, turns)
        if mirror:
            pixels, mask = pixels[:, ::-1], mask[:, ::-1]
        gain, offset = rng.uniform(-1, 1, 2) * self.crops.brightness
        varied = np.clip(pixels * np.float32(1 + gain) + np.float32(127.5 * offset), 0, 255)
        return varied, np.ascontiguousarray(mask)


def _stack(crops: Sequence[Crop]) -> Batch:
    images, masks, class_ids, ids = zip(*crops, strict=True)
    return Batch(
        images=to_tensor(np.stack(images)),
        masks=torch.from_numpy(np.stack(masks)[:, None].astype(np.float32) / 255),
        class_ids=torch.tensor(class_ids),
        example_ids=ids,
    )


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
