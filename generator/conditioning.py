"""What the network is told besides the noisy image.

Class ids run over the defect classes in the order of the checkpoint; then comes the clean surface,
then 'no class', which guidance leads away from.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from generator.config import Choice, Recipe
from generator.registry import register


@dataclass(frozen=True)
class Conditions:
    """Attributes:
    class_ids: (B,) int64.
    spatial: (B, C, H, W) float32 in pixels, laid beside the noisy image; C may be 0.
    hidden: (B, 1, H, W) float32, 1 where the network paints and 0 where it is shown `known`.
    known: (B, C, H, W) float32, the image in standard units; looked at only where `hidden` is 0.
    level: (B, C, 1, 1) float32, the mean of what is known of each image.
    spread: by how much images typically differ from their level; one number a checkpoint.
    """

    class_ids: Tensor
    spatial: Tensor
    hidden: Tensor
    known: Tensor
    level: Tensor
    spread: float

    def standardise(self, images: Tensor) -> Tensor:
        """Images in [-1, 1] -> standard units, mean about 0 and deviation about 1.

        Objectives mix images with noise of deviation 1. Surfaces vary far less within a crop than
        from part to part, so without this nearly all times would be nearly all noise.
        """
        return (images - self.level) / self.spread

    def restore(self, standard: Tensor) -> Tensor:
        """The inverse of `standardise`."""
        return standard * self.spread + self.level

    def surround(self, painted: Tensor) -> Tensor:
        """(B, C, H, W) what was painted, with the known image around it."""
        return torch.where(self.hidden.bool(), painted, self.known)

    def twice(self, other: "Conditions") -> "Conditions":
        """Both behind one another, as one batch."""
        return Conditions(
            class_ids=torch.cat([self.class_ids, other.class_ids]),
            spatial=torch.cat([self.spatial, other.spatial]),
            hidden=torch.cat([self.hidden, other.hidden]),
            known=torch.cat([self.known, other.known]),
            level=torch.cat([self.level, other.level]),
            spread=self.spread,
        )


def clean_id(classes: Sequence[str]) -> int:
    """Id of the clean surface."""
    return len(classes)


def null_id(classes: Sequence[str]) -> int:
    """Id of 'no class'."""
    return len(classes) + 1


class _ClassConditioning:
    """Class dropout and guidance (Ho and Salimans, classifier-free guidance, 2207.12598)."""

    def __init__(self, settings: Any, classes: Sequence[str], spread: float = 1.0) -> None:
        self.settings = settings
        self.spread = spread
        self.classes = tuple(classes)

    def _conditions(
        self, class_ids: Tensor, spatial: Tensor, hidden: Tensor, images: Tensor
    ) -> Conditions:
        shown = images * (1 - hidden)
        count = (1 - hidden).sum(dim=(2, 3), keepdim=True)
        level = shown.sum(dim=(2, 3), keepdim=True) / count.clamp(min=1)
        known = (images - level) / self.spread * (1 - hidden)
        return Conditions(class_ids, spatial, hidden, known, level, self.spread)

    def drop(self, given: Conditions, generator: torch.Generator) -> Conditions:
        """For training: forget the class of a random share of the batch."""
        chance = torch.rand(len(given.class_ids), generator=generator)
        forget = (chance < self.settings.drop_class).to(given.class_ids.device)
        ids = torch.where(forget, null_id(self.classes), given.class_ids)
        return replace(given, class_ids=ids)

    def against(self, given: Conditions, what: str) -> Conditions:
        """What guidance leads away from: `nothing` (no class) or `clean` (the bare surface)."""
        other = clean_id(self.classes) if what == "clean" else null_id(self.classes)
        return replace(given, class_ids=torch.full_like(given.class_ids, other))


@register("conditioning", "class_mask_background")
class ClassMaskBackground(_ClassConditioning):
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
        return _guidance_reason(recipe)

    @staticmethod
    def channels(image_channels: int) -> int:
        """Number of channels laid beside an image of `image_channels`."""
        return 1

    def __call__(self, images: Tensor, masks: Tensor, class_ids: Tensor) -> Conditions:
        """Conditions of a batch.

        Args:
            images: (B, C, H, W) float32 in [-1, 1]; what is under the mask is not looked at.
            masks: (B, 1, H, W) float32 in [0, 1], coverage by the defect.
            class_ids: (B,) int64.
        """
        margin = self.settings.margin_px
        hidden = F.max_pool2d((masks > 0).float(), 2 * margin + 1, stride=1, padding=margin)
        return self._conditions(class_ids, masks, hidden, images)


@register("conditioning", "class")
class ClassOnly(_ClassConditioning):
    """Class embedding alone, for whole images."""

    class Settings(Choice):
        """See `ClassMaskBackground.Settings`."""

        kind: Literal["class"] = "class"
        drop_class: float = Field(0.1, ge=0, le=1, description="share trained without class")

    sees_background = False

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
        return _guidance_reason(recipe)

    @staticmethod
    def channels(image_channels: int) -> int:
        """None."""
        return 0

    def __call__(self, images: Tensor, masks: Tensor, class_ids: Tensor) -> Conditions:
        """Conditions of a batch; see `ClassMaskBackground.__call__`."""
        return self._conditions(class_ids, images[:, :0], torch.ones_like(masks), images)


def _guidance_reason(recipe: Recipe) -> str | None:
    sampling = recipe.sampling
    dropped = getattr(recipe.conditioning, "drop_class", 0)
    if sampling.guidance > 1 and sampling.guide_against == "nothing" and dropped == 0:
        return (
            "sampling.guidance above 1 leads away from 'no class', which a network trained with "
            "conditioning.drop_class 0 has never seen; set drop_class to 0.1 or guidance to 1"
        )
    if sampling.guidance > 1 and sampling.guide_against == "clean" and not recipe.crops.clean_share:
        return (
            "sampling.guide_against 'clean' needs clean crops in training; "
            "set crops.clean_share above 0 or guide_against to 'nothing'"
        )
    return None
