"""What backbones that denoise a VAE's latents share (Rombach et al., 2112.10752)."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from generator.conditioning.conditions import Conditions, Encoded
from generator.config import Recipe
from generator.errors import WeightsError
from generator.weights import find_weights

IMAGES_AT_ONCE = 4
"""Images that the VAE takes at once; its memory grows with them, to gigabytes at 512 pixels."""


class LatentBackbone(nn.Module):
    """A frozen VAE and its schedule; what denoises is left to the backbone that derives from this.

    Pixels are taken and given as they are, in [-1, 1]: conditionings of such backbones have
    `Conditions.spread` 1 and `Conditions.level` 0.

    Attributes:
        folder: of the pretrained weights, in the hub's layout.
        schedule: content of the weights' `scheduler_config.json`.
        shrink: pixels along a latent's side, 8 for Stable Diffusion's VAE.
    """

    needs_colour = True
    blends = True
    PARTS: tuple[str, ...] = ("vae", "scheduler")
    """Folders of the weights that are needed."""
    FROZEN: tuple[str, ...] = ("vae",)
    """Sub-modules that are never trained, and keep float32."""

    def __init__(self, weights: str) -> None:
        """Open the VAE and the schedule.

        Args:
            weights: hub id or local folder.

        Raises:
            WeightsError: the weights are not on disk, not whole, or pickles.
        """
        super().__init__()
        self.folder: Path = find_weights(weights, self.PARTS)
        self.schedule: dict[str, Any] = read_json(self.folder / "scheduler/scheduler_config.json")
        self.vae: Any = open_part(AutoencoderKL, self.folder, "vae").requires_grad_(False)
        self.shrink = 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def denoiser(self) -> Any:
        """The pretrained diffusers model that denoises; adapters go into it."""
        raise NotImplementedError

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) pixels in [-1, 1] -> (B, c, H / shrink, W / shrink) float32 latents.

        The mode of the VAE's posterior, scaled to a deviation of about 1, so that the same image
        always has the same latents.
        """
        # In float32 whatever surrounds the call: bf16 would round the pixels away.
        with torch.autocast(pixels.device.type, enabled=False):
            parts = pixels.float().split(IMAGES_AT_ONCE)
            modes = [self.vae.encode(part).latent_dist.mode() for part in parts]
        return torch.cat(modes) * self.vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, grid: Tensor) -> Tensor:
        """(B, c, h, w) latents -> (B, 3, h * shrink, w * shrink) float32 pixels in about [-1, 1],
        not clipped."""
        with torch.autocast(grid.device.type, enabled=False):
            parts = (grid.float() / self.vae.config.scaling_factor).split(IMAGES_AT_ONCE)
            return torch.cat([self.vae.decode(part).sample for part in parts])

    def prepare(
        self, images: Tensor, masks: Tensor, given: Conditions, *, clean: bool = True
    ) -> Encoded:
        """A batch in this network's grid.

        A latent is hidden where any of its pixels is, and covered by the defect as its pixels are
        on average.

        Args:
            images: (B, 3, H, W) float32 in [-1, 1].
            masks: (B, 1, H, W) float32 in [0, 1].
            given: of the conditioning, in pixels.
            clean: False leaves `Encoded.clean` without channels, where nobody reads it: a pass of
                the VAE less.
        """
        hidden = F.max_pool2d(given.hidden, self.shrink)
        return Encoded(
            clean=self.encode(images) if clean else hidden[:, :0],
            masks=F.avg_pool2d(masks, self.shrink),
            hidden=hidden,
            given=self.shown(masks, given, hidden),
        )

    def shown(self, masks: Tensor, given: Conditions, hidden: Tensor) -> Conditions:
        """Conditions as `forward` takes them, in the grid; here without a picture of anything.

        Encoded batches are kept on the device by the hundred, so pixels are left out.

        Args:
            masks: (B, 1, H, W) float32 in [0, 1].
            given: in pixels.
            hidden: (B, 1, h, w) float32, `given.hidden` in the grid.
        """
        bare = hidden[:, :0]
        return replace(given, spatial=bare, hidden=hidden, known=bare)

    def noise(self, seed: int, size_px: int) -> Tensor:
        """(1, c, h, w) float32 normal noise in the grid of a canvas of `size_px`; on the CPU."""
        side = size_px // self.shrink
        shape = (1, self.vae.config.latent_channels, side, side)
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

    def settle(self, device: torch.device, precision: torch.dtype, *, training: bool) -> None:
        """Move to a device, in channels_last.

        For sampling what denoises goes to `precision`. In training, weights that are trained stay
        float32 and autocast does the rest; on a GPU the large frozen ones go to `precision` at
        once, since autocast would cast them anew at every step.
        """
        self.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        for name, part in self.named_children():
            if name in self.FROZEN:
                continue
            if not training:
                # Around diffusers' own `to`, which warns of an empty list at every call.
                nn.Module.to(part, dtype=precision)
            elif device.type == "cuda":
                cast_frozen(part, precision)

    def train(self, mode: bool = True) -> "LatentBackbone":
        """Training mode, but for what is never trained."""
        super().train(mode)
        for name in self.FROZEN:
            getattr(self, name).eval()
        return self

    def save_memory(self) -> None:
        """Gradient checkpointing: activations are computed again on the way back."""
        self.denoiser.enable_gradient_checkpointing()

    def compile_blocks(self) -> None:
        """Compile the block that is repeated, once for all its places."""
        self.denoiser.compile_repeated_blocks()


def open_part(model: Any, folder: Path, part: str, **settings: Any) -> Any:
    """A pretrained diffusers model in float32, in evaluation mode; from safetensors, offline.

    Args:
        model: its class.
        folder: of the pipeline.
        part: its sub-folder.
        settings: keys of its config that are to differ from what the folder says.

    Raises:
        WeightsError: the files are of another model, or damaged.
    """
    logger = logging.getLogger("diffusers.models.modeling_utils")
    loud = logger.level
    # What it would warn of, a screenful of names, is said in the error's one sentence.
    logger.setLevel(logging.ERROR)
    try:
        opened, found = model.from_pretrained(
            folder,
            subfolder=part,
            use_safetensors=True,
            local_files_only=True,
            torch_dtype=torch.float32,
            output_loading_info=True,
            **settings,
        )
        # diffusers itself would only warn, and start from random weights.
        if odd := sorted(map(str, [*found["missing_keys"], *found["mismatched_keys"]])):
            raise ValueError(f"{len(odd)} of its weights are missing, the first is {odd[0]}")
    except (OSError, ValueError, TypeError, RuntimeError) as fault:
        raise WeightsError(
            f"{folder / part} is no {model.__name__} ({' '.join(str(fault).split())[:200]}); see "
            "which weights a recipe needs with: augment weights list"
        ) from None
    finally:
        logger.setLevel(loud)
    return opened.eval()


def read_json(path: Path) -> dict[str, Any]:
    """A config file of the weights.

    Raises:
        WeightsError: it is not JSON.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise WeightsError(
            f"{path} is not JSON; bring the weights again with: augment weights fetch RECIPE"
        ) from None
    return content


def canvas_reason(recipe: Recipe, multiple: int) -> str | None:
    """Why a recipe's canvases don't fit a grid of `multiple` pixels, or None."""
    for key in ("size_px", "whole_image_px"):
        side = getattr(recipe.crops, key)
        if side % multiple:
            return (
                f"crops.{key} {side} is not a multiple of {multiple}, which backbone "
                f"{recipe.backbone.kind!r} needs; set it to {round(side / multiple) * multiple}"
            )
    return None


def cast_frozen(part: nn.Module, precision: torch.dtype) -> None:
    """Cast those weights of linear layers and convolutions that are not trained.

    Everything else keeps float32: norms are computed in it anyway.

    Args:
        part: what denoises, marked with what is ever trained.
        precision: that autocast will compute in.
    """
    for module in part.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            for parameter in module.parameters(recurse=False):
                if not parameter.requires_grad:
                    parameter.data = parameter.data.to(precision)
