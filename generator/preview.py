"""What a network in training paints, from the same crops and seeds each time."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from generator.assembly import Parts, autocast, pick_precision
from generator.canvas import to_pixels
from generator.conditioning.conditions import Conditions
from generator.config import Recipe
from generator.data import Batch, CropData
from generator.files import step_seed
from generator.objectives.objective import solve
from generator.painting import guided, holding
from generator.portions import Portions


@torch.no_grad()
def preview(
    recipe: Recipe, parts: Parts, data: CropData, batch: Batch, seed: int, device: torch.device
) -> np.ndarray:
    """Paint anew what the masks of a batch cover, from pure noise, under the weights in `parts`.

    Args:
        recipe: how is sampled.
        parts: on `device`, in evaluation mode afterwards.
        data: where the batch comes from.
        batch: crops, masks and classes.
        seed: of the noise, one row after the other.
        device: where the network is.

    Returns:
        (B, S, S, C) float32 in [0, 255], not clipped.
    """
    painted = []
    for few, grid in _solved(recipe, parts, data, batch, seed, device):
        with autocast(device, pick_precision(recipe, device))():
            decoded = parts.backbone.decode(grid)
        painted.append(to_pixels(few.restore(few.surround(decoded.float()))))
    return np.concatenate(painted)


@torch.no_grad()
def preview_grid(
    recipe: Recipe, parts: Parts, data: CropData, batch: Batch, seed: int, device: torch.device
) -> Tensor:
    """As `preview`, before decoding: (B, c, h, w) float32 in the network's grid."""
    return torch.cat([grid for _, grid in _solved(recipe, parts, data, batch, seed, device)])


def _solved(
    recipe: Recipe, parts: Parts, data: CropData, batch: Batch, seed: int, device: torch.device
) -> Iterator[tuple[Conditions, Tensor]]:
    """Conditions in pixels and the solved grid, of a portion of the batch at a time."""
    for part in (parts.backbone, parts.conditioning):
        part.eval()
    images, masks = batch.images.to(device), batch.masks.to(device)
    class_ids = batch.class_ids.to(device)
    given = parts.conditioning(images, masks, class_ids, parts.objective.paints)

    def solve_rows(rows: Sequence[int]) -> tuple[Conditions, Tensor]:
        few = given.map(lambda value: value[list(rows)])
        scene = parts.backbone.prepare(images[list(rows)], masks[list(rows)], few)
        noise = [parts.backbone.noise(step_seed(seed, k), data.canvas_px) for k in rows]
        grid = torch.cat(noise).to(device)
        scheduler = parts.objective.scheduler(recipe.sampling.solver, recipe.sampling.steps)
        start = parts.objective.noised(scheduler, 0, torch.zeros_like(grid), grid)
        blind = not data.whole and not parts.conditioning.sees_background
        hold = holding(parts.objective, scheduler, scene, grid) if blind else None
        with autocast(device, pick_precision(recipe, device))():
            predict = guided(parts, scene.given, recipe.sampling, torch.float32)
            return few, solve(predict, scheduler, start, 0, hold)

    portions = Portions(recipe.sampling.batch_size)
    for _, found in portions.over(range(len(images)), solve_rows):
        yield found
