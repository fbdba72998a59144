"""What a localiser is fed with: images with their masks, as squares, and in which order."""

from collections.abc import Iterable

import numpy as np
import torch
from PIL import Image

from downstream.dataset import GOOD, Item
from downstream.detectors.batches import (
    balanced_batch,
    defects_by_class,
    read_square,
    real_part,
    share_of_clean,
)
from downstream.errors import ExportError

RAM_FOR_IMAGES = 2 * 2**30
"""Squares are kept in memory up to this many bytes, and read again beyond."""


def read_mask_square(item: Item, px: int) -> np.ndarray:
    """The mask of an image as uint8 (px, px), 1 on the defect, resized like the image.

    A pixel is defect where half of what it covers is; of a defect that would vanish so, the
    pixels that it covers most remain, since a defect image without a defect would be a lie.

    Raises:
        ExportError: it can't be read, is not of the size of its image, or is empty.
    """
    if item.mask is None:
        return np.zeros((px, px), np.uint8)
    try:
        with Image.open(item.mask) as image:
            size = image.size
            cover = np.asarray(image.convert("L").resize((px, px), Image.Resampling.BOX))
    except (OSError, ImportError) as fault:
        raise ExportError(
            f"{item.mask} can't be read as a mask ({fault}); build the export again: augment build"
        ) from None
    if size != (item.width, item.height) or not cover.any():
        raise ExportError(
            f"{item.mask} is empty or not of its image's size, {item.width} x {item.height} px; "
            "build the export again: augment build"
        )
    return (cover >= min(128, int(cover.max()))).astype(np.uint8)


class Squares:
    """Images with their masks, as squares, read when they are first asked for."""

    def __init__(self, items: list[Item], px: int) -> None:
        self.items, self.px = items, px
        self.kept: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.room = RAM_FOR_IMAGES // (4 * px * px)

    def __len__(self) -> int:
        return len(self.items)

    def batch(self, indices: Iterable[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """uint8 images (n, 3, px, px), RGB, and masks (n, px, px), 1 on the defect."""
        images, masks = zip(*(self._one(int(index)) for index in indices), strict=True)
        return torch.stack(images), torch.stack(masks)

    def _one(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        if index in self.kept:
            return self.kept[index]
        item = self.items[index]
        image = torch.from_numpy(read_square(item, self.px).copy()).permute(2, 0, 1).contiguous()
        pair = (image, torch.from_numpy(read_mask_square(item, self.px)))
        if len(self.kept) < self.room:
            self.kept[index] = pair
        return pair


class Draws:
    """Which images a batch holds: clean ones with the probability `most_clean`, or their share of
    the real images where that is lower; else a defect class by even chance, then one of its
    images."""

    def __init__(self, items: list[Item], most_clean: float, rng: np.random.Generator) -> None:
        names = np.array([item.class_name for item in items])
        self.clean = np.flatnonzero(names == GOOD)
        self.by_class = defects_by_class(names)
        self.real = np.array([item.kind == "real" for item in items])
        self.clean_share = min(share_of_clean(names, self.real), most_clean)
        self.rng = rng

    def only_real(self) -> None:
        """From now on draw real images alone; of a class that has none, as before."""
        self.by_class = real_part(self.by_class, self.real)

    def batch(self, size: int) -> np.ndarray:
        """(size,) indices."""
        clean = int(self.rng.binomial(size, self.clean_share))
        return np.concatenate(
            [
                balanced_batch(self.by_class, size - clean, self.rng),
                self.rng.choice(self.clean, clean) if clean else [],
            ]
        ).astype(int)
