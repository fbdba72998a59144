"""Pictures of what a network has learnt so far, from the same crops and seeds each time."""

from pathlib import Path

import numpy as np
import torch

from generator.assembly import Parts
from generator.canvas import to_pixels
from generator.config import Recipe
from generator.data import Batch, CropData
from generator.images import write_png
from generator.preview import preview

COLUMNS = 12


def write_sheet(
    path: Path, recipe: Recipe, parts: Parts, data: CropData, seed: int, device: torch.device
) -> None:
    """Write a PNG of three rows: training crops, their masks, and what is painted there instead;
    class by class, a dozen columns in all, or one a class where there are more.

    The painting starts from pure noise, under the weights that are in `parts`.
    """
    each = max(1, COLUMNS // len(data.classes))
    # A seed that training never uses, so that the sheet's crops are not of a batch of its own.
    batch = Batch.joined(
        [data.class_crops(k, each, seed + 2**32) for k in range(len(data.classes))]
    )
    painted = preview(recipe, parts, data, batch, seed, device)
    masks = np.repeat(batch.masks.numpy().transpose(0, 2, 3, 1) * 255, data.channels, axis=3)
    rows = [to_pixels(batch.images), masks, painted]
    picture = np.concatenate([np.concatenate(list(row), axis=1) for row in rows])
    write_png(path, np.clip(picture, 0, 255).astype(np.uint8))
