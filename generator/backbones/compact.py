"""A small UNet trained from scratch: diffusers' UNet2DModel in a space-to-depth grid."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from diffusers import UNet2DModel
from pydantic import Field
from torch import Tensor, nn

from generator.conditioning.conditions import Conditions, Encoded
from generator.config import Choice, Recipe
from generator.registry import register


@register("backbone", "compact")
class CompactBackbone(nn.Module):
    """UNet with attention at its lowest level (Ho et al., DDPM, 2006.11239), a few million weights.

    Pixels are folded `patch` x `patch` into channels, which makes a step `patch`^2 times cheaper
    than on raw pixels at the same width.
    """

    takes = "class ids"
    needs_colour = False
    blends = False

    class Settings(Choice):
        """`channels` go from the finest level to the coarsest; each level halves the grid."""

        kind: Literal["compact"] = "compact"
        channels: tuple[int, ...] = Field((32, 64, 128, 160), min_length=2, max_length=6)
        layers_per_block: int = Field(1, ge=1, le=4)
        patch: int = Field(2, ge=1, le=8, description="pixels folded into channels, a side")
        norm_groups: int = Field(16, ge=1)
        head_width: int = Field(32, ge=4, description="channels an attention head")

    @staticmethod
    def refuse(recipe: Recipe) -> str | None:
        """The canvas must divide, and so must the groups; and nothing is asked for in vain."""
        settings: Any = recipe.backbone
        for key, asked in (
            ("training.compile", recipe.training.compile),
            ("training.gradient_checkpointing", recipe.training.gradient_checkpointing),
            ("sampling.compile", recipe.sampling.compile),
        ):
            if asked:
                return f"backbone compact would ignore {key}; set it to false"
        step = settings.patch * 2 ** (len(settings.channels) - 1)
        for key in ("size_px", "whole_image_px"):
            side = getattr(recipe.crops, key)
            if side % step:
                return (
                    f"crops.{key} {side} is not a multiple of {step}, which backbone.patch "
                    f"{settings.patch} and {len(settings.channels)} levels of channels need"
                )
        odd = [c for c in settings.channels if c % settings.norm_groups]
        if odd:
            return f"backbone.channels {odd} are not multiples of norm_groups"
        if settings.channels[-1] % settings.head_width:
            return "the last of backbone.channels is not a multiple of head_width"
        return None

    def __init__(
        self, settings: Any, *, image_channels: int, spatial_channels: int, class_count: int
    ) -> None:
        """Build with random weights.

        Args:
            settings: a `CompactBackbone.Settings`.
            image_channels: 1 (grey) or 3.
            spatial_channels: channels of `Conditions.spatial`.
            class_count: number of class ids, 'clean' and 'no class' included.
        """
        super().__init__()
        self.image_channels = image_channels
        self.patch = settings.patch
        levels = len(settings.channels)
        fold = settings.patch**2
        self.unet: Any = UNet2DModel(
            in_channels=(image_channels + spatial_channels) * fold,
            out_channels=image_channels * fold,
            block_out_channels=settings.channels,
            layers_per_block=settings.layers_per_block,
            down_block_types=("DownBlock2D",) * (levels - 1) + ("AttnDownBlock2D",),
            up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * (levels - 1),
            norm_num_groups=settings.norm_groups,
            attention_head_dim=settings.head_width,
            num_class_embeds=class_count,
        )

    def encode(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) pixels -> (B, C * patch^2, H / patch, W / patch), losslessly."""
        return F.pixel_unshuffle(pixels, self.patch)

    def decode(self, grid: Tensor) -> Tensor:
        """The inverse of `encode`."""
        return F.pixel_shuffle(grid, self.patch)

    def prepare(
        self,
        images: Tensor,
        masks: Tensor,
        given: Conditions,
        *,
        clean: bool = True,
    ) -> Encoded:
        """A batch in this network's grid.

        Args:
            images: (B, C, H, W) float32 in [-1, 1].
            masks: (B, 1, H, W) float32 in [0, 1].
            given: of the conditioning, in pixels.
            clean: whether `Encoded.clean` is wanted; here it costs nothing.
        """
        return Encoded(
            clean=self.encode(given.standardise(images)),
            masks=self.encode(masks.expand_as(images)),
            hidden=self.encode(given.hidden.expand_as(images)),
            given=given,
        )

    def noise(self, seed: int, size_px: int) -> Tensor:
        """(1, c, h, w) float32 normal noise in the grid of a canvas of `size_px`; on the CPU."""
        shape = (1, self.image_channels, size_px, size_px)
        return self.encode(torch.randn(shape, generator=torch.Generator().manual_seed(seed)))

    def settle(self, device: torch.device, precision: torch.dtype, *, training: bool) -> None:
        """Move to a device; for sampling the weights go to `precision`, in training they stay as
        they are and autocast does the rest."""
        kept = {} if training else {"dtype": precision}
        self.to(device=device, memory_format=torch.channels_last, **kept)  # type: ignore[call-overload]

    def forward(self, noisy: Tensor, time: Tensor, given: Conditions) -> Tensor:
        """Predict what the objective asks for.

        Args:
            noisy: (B, C, H, W) float, an encoded image with noise.
            time: (B,) float in [0, 1], 1 is pure noise.
            given: conditions, `spatial` in pixels.
        """
        known, hidden = self.encode(given.known), self.encode(given.hidden.expand_as(given.known))
        grid = torch.where(hidden.bool(), noisy, known.to(noisy.dtype))
        if given.spatial.shape[1]:
            grid = torch.cat([grid, self.encode(given.spatial).to(noisy.dtype)], dim=1)
        grid = grid.contiguous(memory_format=torch.channels_last)
        # The sinusoidal embedding expects times that spread over about a thousand.
        prediction: Tensor = self.unet(grid, time * 1000, class_labels=given.class_ids).sample
        return prediction
