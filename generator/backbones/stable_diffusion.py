"""Stable Diffusion's UNet on a VAE's latents: text-to-image and inpainting weights."""

from dataclasses import replace
from typing import Any, Literal

import torch
from diffusers import UNet2DConditionModel
from pydantic import Field
from torch import Tensor

from generator.backbones.attention import CrossAttention
from generator.backbones.latents import LatentBackbone, canvas_reason, open_part
from generator.conditioning.conditions import Conditions
from generator.config import Choice, Recipe
from generator.errors import WeightsError
from generator.registry import register

Task = Literal["text-to-image", "inpainting"]
SHRINK = 8
"""Pixels along a latent's side, in every Stable Diffusion up to 2.1."""


@register("backbone", "stable_diffusion")
class StableDiffusionBackbone(LatentBackbone):
    """The pretrained UNet (Rombach et al., 2112.10752), with cross-attention to tokens.

    Weights for inpainting are shown, beside the noisy latents, which of them are hidden and the
    latents of the image without what is hidden: 9 channels instead of 4, in the order of
    diffusers' StableDiffusionInpaintPipeline. The text encoder is no part of this backbone;
    a conditioning that needs one opens it from `folder`.
    """

    takes = "tokens"
    CONTROLLED = False
    """Whether a ControlNet steers the UNet by the mask."""
    PARTS = ("unet", "vae", "scheduler")

    class Settings(Choice):
        """Any weights in the layout of Stable Diffusion 1 or 2."""

        kind: Literal["stable_diffusion"] = "stable_diffusion"
        weights: str = Field(min_length=1, description="hub id or local folder")
        task: Task = Field("text-to-image", description="what the weights were trained for")

    @staticmethod
    def refuse(recipe: Recipe) -> str | None:
        """The canvas must divide, and inpainting needs what surrounds the mask."""
        settings: Any = recipe.backbone
        shown = getattr(recipe.conditioning, "background", False)
        if settings.task == "inpainting" and not shown:
            return (
                "backbone.task 'inpainting' needs to be shown what surrounds the mask; set "
                "conditioning.background to true"
            )
        if settings.task == "text-to-image" and shown:
            return (
                "conditioning.background shows what surrounds the mask, for which weights of task "
                "'text-to-image' have no channels; set it to false or backbone.task to 'inpainting'"
            )
        return canvas_reason(recipe, SHRINK)

    def __init__(
        self, settings: Any, *, image_channels: int, spatial_channels: int, class_count: int
    ) -> None:
        """Open the weights.

        Args:
            settings: a `StableDiffusionBackbone.Settings`.
            image_channels: 3.
            spatial_channels: not looked at: the weights fix how many there are.
            class_count: not looked at: classes come as tokens.

        Raises:
            WeightsError: the weights are not on disk, not whole, pickles, or of another task.
        """
        super().__init__(settings.weights)
        self.unet: Any = open_part(UNet2DConditionModel, self.folder, "unet")
        self.inpaints = getattr(settings, "task", "text-to-image") == "inpainting"
        self._refuse_foreign_task(settings.weights)
        self._crossings = CrossAttention(self.unet)

    @property
    def denoiser(self) -> Any:
        """The UNet."""
        return self.unet

    @property
    def token_width(self) -> int:
        """D of `Conditions.tokens` (B, T, D)."""
        return int(self.unet.config.cross_attention_dim)

    def shown(self, masks: Tensor, given: Conditions, hidden: Tensor) -> Conditions:
        """See `LatentBackbone.shown`; for inpainting, with the latents of the masked image, in
        which hidden pixels are mid-grey."""
        bare = super().shown(masks, given, hidden)
        return replace(bare, known=self.encode(given.known)) if self.inpaints else bare

    def forward(self, noisy: Tensor, time: Tensor, given: Conditions) -> Tensor:
        """Predict what the weights were trained to say: the noise, or v.

        Args:
            noisy: (B, c, h, w) float, latents with noise.
            time: (B,) float in [0, 1]; times the schedule's length it is the UNet's timestep.
            given: conditions of `prepare`, with `tokens`.

        Returns:
            As `noisy`.
        """
        prediction: Tensor = self.unet(*self.inputs(noisy, time, given)).sample
        return prediction

    def record_attention(self, positions: Tensor | None, *, within: str = "") -> None:
        """Record at each forward pass which share of the attention chosen tokens get; None stops
        it. See `CrossAttention.record`.

        Args:
            positions: (P,) or (B, P) int64, places of the tokens in `Conditions.tokens`.
            within: `up_blocks` for the layers of the decoder alone.
        """
        self._crossings.record(positions, within=within)

    def attention_maps(self) -> list[Tensor]:
        """(B, hw, P) float32 a cross-attention layer; see `CrossAttention.maps`."""
        return self._crossings.maps()

    def inputs(
        self, noisy: Tensor, time: Tensor, given: Conditions
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The UNet's first three arguments: sample (B, 4 or 9, h, w), timesteps (B,) and tokens
        (B, T, D); see `forward`."""
        if given.tokens is None:
            raise ValueError("the conditions have no tokens; call the conditioning's embed first")
        sample = noisy
        if self.inpaints:
            sample = torch.cat([noisy, given.hidden.to(noisy), given.known.to(noisy)], dim=1)
        return (
            sample.contiguous(memory_format=torch.channels_last),
            time * self.schedule["num_train_timesteps"],
            given.tokens.to(noisy),
        )

    def _refuse_foreign_task(self, weights: str) -> None:
        """Raise WeightsError unless the UNet has the channels that the task feeds."""
        latents, found = self.vae.config.latent_channels, self.unet.config.in_channels
        needed = 2 * latents + 1 if self.inpaints else latents
        if found == needed:
            return
        tasks: dict[int, Task] = {latents: "text-to-image", 2 * latents + 1: "inpainting"}
        kind = f"weights for {tasks[found]}" if found in tasks else "weights for another task"
        raise WeightsError(
            f"The UNet of {weights} takes {found} channels where {needed} are fed to it: these are "
            f"{kind}; name others with: augment train RECIPE --weights FOLDER"
        )
