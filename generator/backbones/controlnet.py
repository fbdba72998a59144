"""Stable Diffusion's UNet, steered to the mask by a ControlNet."""

from dataclasses import replace
from typing import Any, Literal

import torch
from diffusers import ControlNetModel
from pydantic import Field
from torch import Tensor

from generator.backbones.latents import canvas_reason
from generator.backbones.stable_diffusion import SHRINK, StableDiffusionBackbone
from generator.conditioning.conditions import Conditions
from generator.config import Choice, Recipe
from generator.registry import register


@register("backbone", "stable_diffusion_controlnet")
class ControlNetBackbone(StableDiffusionBackbone):
    """A text-to-image UNet and a ControlNet (Zhang et al., 2302.05543) that sees the mask.

    The ControlNet starts as a copy of the UNet's encoder whose outputs pass through convolutions
    of zeros, so that before training it changes nothing.
    """

    CONTROLLED = True

    class Settings(Choice):
        """As for `stable_diffusion`; weights for inpainting are shown the mask already."""

        kind: Literal["stable_diffusion_controlnet"] = "stable_diffusion_controlnet"
        weights: str = Field(min_length=1, description="hub id or local folder")

    @staticmethod
    def refuse(recipe: Recipe) -> str | None:
        """The canvas must divide, and the ControlNet must be trained."""
        if getattr(recipe.conditioning, "background", False):
            return (
                "conditioning.background shows what surrounds the mask, for which the weights of a "
                "ControlNet's base have no channels; set it to false or choose backbone "
                "'stable_diffusion' with task 'inpainting'"
            )
        if recipe.tuning.kind not in ("controlnet", "full"):
            return (
                f"tuning {recipe.tuning.kind!r} leaves the ControlNet untrained, and untrained it "
                "does nothing; choose tuning 'controlnet' or backbone 'stable_diffusion'"
            )
        return canvas_reason(recipe, SHRINK)

    def __init__(
        self, settings: Any, *, image_channels: int, spatial_channels: int, class_count: int
    ) -> None:
        """Open the UNet and copy its encoder; see `StableDiffusionBackbone.__init__`."""
        super().__init__(
            settings,
            image_channels=image_channels,
            spatial_channels=spatial_channels,
            class_count=class_count,
        )
        self.controlnet: Any = ControlNetModel.from_unet(self.unet)
        self._stage = "controlnet"

    def shown(self, masks: Tensor, given: Conditions, hidden: Tensor) -> Conditions:
        """See `LatentBackbone.shown`; with the mask in pixels, a byte each."""
        bare = super().shown(masks, given, hidden)
        return replace(bare, spatial=(masks * 255).round().to(torch.uint8))

    def enter(self, stage: str) -> None:
        """Stage `base` trains the UNet without its ControlNet; in `controlnet` only that moves."""
        self._stage = stage

    def train(self, mode: bool = True) -> "ControlNetBackbone":
        """Training mode; a UNet that is frozen drops nothing out."""
        super().train(mode)
        if self._stage == "controlnet":
            self.unet.eval()
        return self

    def forward(self, noisy: Tensor, time: Tensor, given: Conditions) -> Tensor:
        """See `StableDiffusionBackbone.forward`; `given.spatial` is the mask, uint8 in pixels."""
        if self._stage == "base":
            return super().forward(noisy, time, given)
        sample, times, tokens = self.inputs(noisy, time, given)
        control = (given.spatial.to(noisy) / 255).expand(-1, 3, -1, -1)
        down, middle = self.controlnet(sample, times, tokens, control, return_dict=False)
        prediction: Tensor = self.unet(
            *(sample, times, tokens),
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
        ).sample
        return prediction

    def save_memory(self) -> None:
        """See `LatentBackbone.save_memory`."""
        super().save_memory()
        self.controlnet.enable_gradient_checkpointing()

    def compile_blocks(self) -> None:
        """See `LatentBackbone.compile_blocks`."""
        super().compile_blocks()
        for module in self.controlnet.modules():
            if type(module).__name__ in self.unet._repeated_blocks:
                module.compile()
