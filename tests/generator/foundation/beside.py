"""A scene, and what runs a backbone of ours beside diffusers' own pipeline on it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
)
from PIL import Image
from tiny import WIDTH

from generator.conditioning.conditions import Conditions, as_they_are
from generator.config import Recipe, load_recipe

HIGH, WIDE = 64, 96
"""Of the scene in pixels: not square."""
BOX = (16, 56, 24, 72)
"""Top, bottom, left, right of its mask, on the grid of latents."""


def backbone_of(kind: type, folder: Path, **settings: Any) -> Any:
    torch.manual_seed(0)
    made = kind(
        kind.Settings(weights=str(folder), **settings),
        image_channels=3,
        spatial_channels=0,
        class_count=4,
    )
    return made.eval().requires_grad_(False)


def scene(count: int = 1) -> tuple[torch.Tensor, torch.Tensor, Image.Image, Image.Image]:
    """Images in [-1, 1] and masks as tensors, and the first of them as pictures."""
    grey = torch.randint(0, 256, (count, 3, HIGH, WIDE), generator=seeded(1), dtype=torch.uint8)
    mask = torch.zeros(count, 1, HIGH, WIDE)
    top, bottom, left, right = BOX
    mask[:, :, top:bottom, left:right] = 1
    picture = Image.fromarray(grey[0].permute(1, 2, 0).numpy())
    drawn = Image.fromarray((mask[0, 0] * 255).byte().numpy())
    return grey / 127.5 - 1, mask, picture, drawn


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def conditions(images: torch.Tensor, masks: torch.Tensor) -> Conditions:
    return as_they_are(torch.zeros(len(images), dtype=torch.int64), masks, masks, images)


def tokens(count: int = 1, length: int = 5) -> torch.Tensor:
    return torch.randn(count, length, WIDTH, generator=seeded(2))


def with_tokens(given: Conditions, found: torch.Tensor) -> Conditions:
    return replace(given, tokens=found)


class Spy:
    """What a pipeline's UNet was given and said at each step."""

    def __init__(self, unet: Any) -> None:
        self.calls: list[tuple[torch.Tensor, float, torch.Tensor]] = []
        unet.register_forward_hook(self._note, with_kwargs=True)

    def _note(self, _: Any, args: Any, kwargs: Any, output: Any) -> None:
        self.calls.append((args[0].clone(), float(args[1]), output[0].clone()))


def run(pipeline: Any, **inputs: Any) -> Any:
    """Two unguided steps of DDIM."""
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        prompt_embeds=tokens(),
        num_inference_steps=2,
        guidance_scale=1.0,
        height=HIGH,
        width=WIDE,
        generator=seeded(3),
        **inputs,
    )


def network_inputs(backbone: Any, count: int) -> tuple[Any, Any, Any]:
    """What `forward` takes, of `count` scenes."""
    images, masks, _, _ = scene(count)
    noisy = torch.randn(count, 4, HIGH // 8, WIDE // 8, generator=seeded(6))
    seen = backbone.prepare(images, masks, conditions(images, masks))
    given = with_tokens(seen.given, tokens(count))
    return noisy, torch.full((count,), 0.3), given


def recipe_of(name: str, folder: Path, **sections: dict[str, Any]) -> Recipe:
    """A recipe that we ship, on a small canvas, with sections overlaid."""
    content = load_recipe(name).model_dump(mode="json")
    content["backbone"]["weights"] = str(folder)
    content["crops"] |= {"size_px": 64, "whole_image_px": 64}
    content["sampling"] |= {"steps": 4}
    for section, values in sections.items():
        content[section] |= values
    return Recipe.model_validate(content)
