"""A class embedding in the place of the text encoder of Stable Diffusion."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from generator.conditioning.conditions import (
    Conditioning,
    Conditions,
    Prompt,
    as_they_are,
    guidance_reason,
)
from generator.conditioning.pixels import hidden_by
from generator.config import Choice, Recipe
from generator.registry import register


@register("conditioning", "class_embedding")
class ClassEmbedding(Conditioning):
    """One learnt token a class, which cross-attention reads instead of a prompt's 77.

    Class names of defects mean little to a text encoder, and without it neither its weights nor
    its tokens are needed. A further token stands for 'no class'; the clean surface has it too, so
    guidance leads away from the part as it is.
    """

    gives = "tokens"

    class Settings(Choice):
        """`background` lays the mask and the masked image beside the noise, for the weights of
        inpainting."""

        kind: Literal["class_embedding"] = "class_embedding"
        init_std: float = Field(
            0.02, gt=0, le=1, description="deviation of the tokens before training"
        )
        drop_class: float = Field(0.1, ge=0, le=1, description="share trained without class")
        background: bool = Field(
            False, description="show the network the mask and what surrounds it"
        )
        margin_px: int = Field(
            0, ge=0, le=128, description="around the mask, painted too: for the defect's own rim"
        )

    @staticmethod
    def refuse(recipe: Recipe) -> str | None:
        """Guidance needs a network that has seen 'no class'."""
        return guidance_reason(recipe)

    def __init__(self, settings: Any, classes: Sequence[str], spread: float, backbone: Any) -> None:
        """Draw the tokens, as wide as those that the backbone was trained on."""
        # Pretrained networks know images as they are, so there is no spread to divide by.
        super().__init__(settings, classes, 1.0, backbone)
        self.sees_background = settings.background
        self.table = nn.Embedding(len(classes) + 1, backbone.token_width)
        nn.init.normal_(self.table.weight, std=settings.init_std)

    def forward(
        self, images: Tensor, masks: Tensor, class_ids: Tensor, prompt: Prompt = "defect"
    ) -> Conditions:
        """Conditions of a batch; see `Conditioning.forward`."""
        hidden = hidden_by(masks, self.settings.margin_px)
        return as_they_are(class_ids, images[:, :0], hidden, images, prompt)

    def embed(self, given: Conditions) -> Conditions:
        """`given` with `tokens` (B, 1, D)."""
        # 'Clean' and 'no class' are numbered behind the classes, and share the last row.
        rows = given.class_ids.clamp(max=len(self.classes))
        return replace(given, tokens=self.table(rows)[:, None].to(torch.float32))

    def own_weights(self) -> dict[str, nn.Parameter]:
        """The table of tokens."""
        return dict(self.named_parameters())
