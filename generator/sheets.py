"""Pictures of what a network has learnt so far, from the same crops and seeds each time."""

import copy
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from generator.assembly import Parts, pick_device, pick_precision
from generator.canvas import to_pixels
from generator.config import Recipe
from generator.data import CropData
from generator.errors import CheckpointError
from generator.files import write_atomic
from generator.objectives import solve
from generator.painting import guided

COLUMNS = 12


def write_sheet(
    path: Path,
    recipe: Recipe,
    parts: Parts,
    average: Mapping[str, Tensor],
    data: CropData,
    seed: int,
) -> None:
    """Write a PNG of three rows: training crops, their masks, and what is painted there instead.

    The painting starts from pure noise under the averaged weights.
    """
    device = pick_device()
    precision = pick_precision(recipe, device)
    backbone = copy.deepcopy(parts.backbone)
    parts.tuning.load(backbone, dict(average))
    backbone.to(precision).eval()
    shown = Parts(backbone, parts.conditioning, parts.tuning, parts.objective, {})
    # A seed that training never uses, so that the sheet's crops are not a batch of its own.
    batch = data.batch(0, seed + 2**32, COLUMNS)
    images = batch.images.to(device)
    given = shown.conditioning(images, batch.masks.to(device), batch.class_ids.to(device))
    noise = torch.randn(batch.images.shape, generator=torch.Generator().manual_seed(seed))
    noise = backbone.encode(noise.to(device))
    scheduler = shown.objective.scheduler(recipe.sampling.solver, recipe.sampling.steps)
    start = shown.objective.noised(scheduler, 0, torch.zeros_like(noise), noise)
    grid = solve(guided(shown, given, recipe.sampling, precision), scheduler, start, 0)
    painted = to_pixels(given.restore(given.surround(backbone.decode(grid))))
    masks = np.repeat(batch.masks.numpy().transpose(0, 2, 3, 1) * 255, data.channels, axis=3)
    rows = [np.concatenate(list(row), axis=1) for row in (to_pixels(batch.images), masks, painted)]
    write_png(path, np.clip(np.concatenate(rows), 0, 255).astype(np.uint8))


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Write (H, W), (H, W, 1) or RGB (H, W, 3) uint8 pixels, whole or not at all.

    Raises:
        CheckpointError: the file can't be written.
    """
    turned = pixels[..., ::-1] if pixels.ndim == 3 and pixels.shape[2] == 3 else pixels

    def save(temporary: Path) -> None:
        if not cv2.imwrite(str(temporary), turned):
            raise CheckpointError(f"{path} can't be written; is the disk full?")

    write_atomic(path, save)
