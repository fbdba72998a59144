"""Conditionings of backbones that work on pixels: the class, with or without the background."""

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from generator.conditioning.conditions import Conditioning, Conditions, Prompt, guidance_reason
from generator.config import Choice, Recipe
from generator.registry import register


@register("conditioning", "class_mask_background")
class ClassMaskBackground(Conditioning):
    """Class embedding; the mask as a further channel; the image itself around the mask.

    Around the mask the network is not given a noisy image but the real one, and is not asked to
    repeat it: all that it learns is what belongs under the mask.
    """

    class Settings(Choice):
        """`margin_px` of the canvas around the mask are hidden too, for the defect's own rim."""

        kind: Literal["class_mask_background"] = "class_mask_background"
        drop_class: float = Field(0.1, ge=0, le=1, description="share trained without class")
        margin_px: int = Field(2, ge=0, le=32)

    sees_background = True

    @staticmethod
    def refuse(recipe: Recipe) -> str | None:
        """Guidance needs a network that has seen 'no class'."""
        return guidance_reason(recipe)

    @staticmethod
    def channels(image_channels: int) -> int:
        """The mask."""
        return 1

    def forward(
        self, images: Tensor, masks: Tensor, class_ids: Tensor, prompt: Prompt = "defect"
    ) -> Conditions:
        """Conditions of a batch; see `Conditioning.forward`."""
        return self._around(class_ids, masks, hidden_by(masks, self.settings.margin_px), images)


@register("conditioning", "class")
class ClassOnly(Conditioning):
    """Class embedding alone, for whole images."""

    class Settings(Choice):
        """See `ClassMaskBackground.Settings`."""

        kind: Literal["class"] = "class"
        drop_class: float = Field(0.1, ge=0, le=1, description="share trained without class")

    @staticmethod
    def refuse(recipe: Recipe) -> str | None:
        """It can neither continue a background nor weigh a mask that it isn't given."""
        if recipe.sampling.init == "paste":
            return (
                "conditioning 'class' paints whole images, so there is nothing to paste into; "
                "set sampling.init to 'noise' or choose conditioning 'class_mask_background'"
            )
        if getattr(recipe.objective, "mask_weight", 0) > 0:
            return (
                "objective.mask_weight needs a mask, which conditioning 'class' has not; "
                "set it to 0 or choose conditioning 'class_mask_background'"
            )
        return guidance_reason(recipe)

    def forward(
        self, images: Tensor, masks: Tensor, class_ids: Tensor, prompt: Prompt = "defect"
    ) -> Conditions:
        """Conditions of a batch; see `Conditioning.forward`."""
        return self._around(class_ids, images[:, :0], torch.ones_like(masks), images)


def hidden_by(masks: Tensor, margin_px: int) -> Tensor:
    """(B, 1, H, W) float32, 1 on the masks and `margin_px` pixels around them, else 0."""
    return F.max_pool2d((masks > 0).float(), 2 * margin_px + 1, stride=1, padding=margin_px)
