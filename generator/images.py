"""Reading an example's pixels, masks and foreground, each once, within a bounded memory; writing
pictures whole."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from generator.box_masks import propose_mask
from generator.errors import ExampleError
from generator.files import sha256_of_file, write_atomic
from generator.foreground import estimate_foreground
from generator.records import DefectExample, Instance

LEAST_SOUND_SHARE = 0.5
"""Least share of an estimated part that lies outside the image's defects; below it, what was taken
for the part is a defect, and what was taken for the backdrop is the surface that it lies on."""


def write_png(path: Path, pixels: np.ndarray, *, durable: bool = False) -> None:
    """Write a picture, whole or not at all.

    Args:
        path: of the PNG.
        pixels: uint8; (H, W) or (H, W, 1) grey, or (H, W, 3) RGB.
        durable: see `write_atomic`.

    Raises:
        OSError: the disk is full, or the folder may not be written to.
    """
    turned = pixels[..., ::-1] if pixels.ndim == 3 and pixels.shape[2] == 3 else pixels
    # encoded here and not by cv2.imwrite, which turns a full disk into a bare False
    _, encoded = cv2.imencode(".png", np.ascontiguousarray(turned))
    write_atomic(path, lambda temporary: temporary.write_bytes(encoded.tobytes()), durable=durable)


def hash_annotation(path: Path | None) -> str | None:
    """Hex SHA-256 of a mask's or a region of interest's file, None for none.

    It is the file's content that an annotation is known by, wherever it lies.

    Raises:
        ExampleError: the file can't be read.
    """
    if path is None:
        return None
    try:
        facts = path.stat()
        return _hashed(path, facts.st_size, facts.st_mtime_ns)
    except OSError as fault:
        raise ExampleError(
            f"{path} can't be read ({fault.strerror}); run augment import again."
        ) from None


@cache
def _hashed(path: Path, size: int, mtime_ns: int) -> str:
    # one region of interest serves thousands of images, and a file is asked for more than once
    return sha256_of_file(path)


class ExampleReader:
    """Reads examples; what was used last stays in memory until the budget is spent.

    Args:
        budget_bytes: most memory for decoded images and foregrounds together. A grey image is
            kept as one channel. One image larger than the budget is read each time anew.
    """

    def __init__(self, budget_bytes: int = 512 * 2**20) -> None:
        self.budget_bytes = budget_bytes
        self.used_bytes = 0
        self._kept: OrderedDict[tuple[Hashable, ...], np.ndarray] = OrderedDict()

    def image(self, example: DefectExample) -> np.ndarray:
        """(H, W, 3) uint8, RGB; the three channels of a grey example are equal.

        Raises:
            ExampleError: the file is missing, can't be decoded, or is not of the recorded size.
        """
        kept = self.keep(("image", example.id), lambda: self._read_image(example))
        return cv2.cvtColor(kept, cv2.COLOR_GRAY2RGB) if kept.ndim == 2 else kept

    def foreground(self, example: DefectExample) -> np.ndarray:
        """(H, W) bool: the user's region of interest where there is one, else an estimate; its
        defects belong to it, since where a chunk is missing the part should be.

        Raises:
            ExampleError: as `image`; or the region of interest is empty.
        """
        return self.keep(("foreground", example.id), lambda: self._find_foreground(example))

    def mask(self, example: DefectExample, instance: Instance) -> np.ndarray:
        """Bool array of the instance's box; proposed from the box where no mask is recorded.

        Raises:
            ExampleError: the file is missing, of another size than the box, or empty.
        """
        x1, y1, x2, y2 = instance.box_xyxy
        if instance.mask_path is None:
            return propose_mask(self.image(example), instance.box_xyxy)
        mask = _decode(instance.mask_path, cv2.IMREAD_GRAYSCALE) > 127
        _check_size(instance.mask_path, mask, (x2 - x1, y2 - y1), "its box")
        if not mask.any():
            raise ExampleError(
                f"{instance.mask_path} is empty; run augment import again, which refuses it."
            )
        return mask

    def _read_image(self, example: DefectExample) -> np.ndarray:
        if example.grey:
            image = _decode(
                example.image_path, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION
            )
        else:
            flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
            image = cv2.cvtColor(_decode(example.image_path, flags), cv2.COLOR_BGR2RGB)
        _check_size(example.image_path, image, (example.width, example.height), "its record")
        return image

    def _find_foreground(self, example: DefectExample) -> np.ndarray:
        if example.roi_path is None:
            part = estimate_foreground(self.image(example))
            return part if part.all() else self._with_defects(part, example)
        roi = _decode(example.roi_path, cv2.IMREAD_GRAYSCALE) > 127
        _check_size(example.roi_path, roi, (example.width, example.height), "the image")
        if not roi.any():
            raise ExampleError(
                f"{example.roi_path} marks nothing; mark the part in white, or remove the file."
            )
        return roi

    def _with_defects(self, part: np.ndarray, example: DefectExample) -> np.ndarray:
        """An estimated part and the defects on it; everything, where the "part" is a defect."""
        defects, reach = np.zeros_like(part), np.zeros_like(part)
        for instance in example.instances:
            x1, y1, x2, y2 = instance.box_xyxy
            mask = self.mask(example, instance)
            defects[y1:y2, x1:x2] |= mask
            reach[y1:y2, x1:x2] |= mask if instance.mask_kind == "exact" else True
        # a large stain on an even surface is as compact and as sharp as a part on its backdrop
        if (part & ~reach).sum() < LEAST_SOUND_SHARE * part.sum():
            return np.ones_like(part)
        return part | defects

    def keep(self, key: tuple[Hashable, ...], make: Callable[[], np.ndarray]) -> np.ndarray:
        """The array known as `key`; made, and kept as long as the budget allows, if it is not."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        value = make()
        value.setflags(write=False)
        self._kept[key] = value
        self.used_bytes += value.nbytes
        while self.used_bytes > self.budget_bytes and self._kept:
            _, oldest = self._kept.popitem(last=False)
            self.used_bytes -= oldest.nbytes
        return value


def _decode(path: Path, flags: int) -> np.ndarray:
    image = cv2.imread(str(path), flags)
    if image is None:
        raise ExampleError(
            f"{path} is missing or is not an image; run augment import again to check every file."
        )
    return image


def _check_size(path: Path, array: np.ndarray, expected_wh: tuple[int, int], of: str) -> None:
    found_wh = (array.shape[1], array.shape[0])
    if found_wh != expected_wh:
        raise ExampleError(
            f"{path} is {found_wh[0]} x {found_wh[1]} px, {of} says {expected_wh[0]} x "
            f"{expected_wh[1]} px; run augment import again."
        )
