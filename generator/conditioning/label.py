"""Rows of a pretrained table of labels, one of its own for each class of the project."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
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
from generator.conditioning.imagenet import imagenet_index, label_name
from generator.conditioning.nearest import (
    assign,
    find_classifier,
    look_similarity,
    name_similarity,
)
from generator.conditioning.pixels import hidden_by
from generator.config import Choice, Recipe
from generator.errors import RecipeError
from generator.registry import register


@register("conditioning", "label")
class Label(Conditioning):
    """A row for each class, which starts as that of the nearest ImageNet class and is trained.

    The last row is DiT's own for 'no class' (Peebles and Xie, 2212.09748, section 3); the clean
    surface has it too, so guidance leads away from the part as it is.
    """

    gives = "labels"

    class Settings(Choice):
        """Names of defects mean little to ImageNet; where a classifier is on disk, `image` finds
        classes that look like them."""

        kind: Literal["label"] = "label"
        start: Literal["name", "image"] = Field(
            "name",
            description="ImageNet class that a row starts from: nearest by name, or by what "
            "a classifier of ImageNet sees in the training crops",
        )
        labels: dict[str, int | str] = Field(
            {},
            description="the ImageNet class (number, synset or name) that a class starts from, "
            "where it isn't to be searched",
        )
        classifier: Path | None = Field(
            None, description="for start `image`: safetensors of torchvision's resnet18"
        )
        drop_class: float = Field(0.1, ge=0, le=1, description="share trained without class")
        margin_px: int = Field(
            0, ge=0, le=128, description="around the mask, painted too: for the defect's own rim"
        )

    @staticmethod
    def refuse(recipe: Recipe) -> str | None:
        """Guidance needs a network that has seen no class."""
        settings: Any = recipe.conditioning
        if settings.classifier is not None and settings.start != "image":
            return "conditioning.classifier is only looked at with conditioning.start 'image'"
        return guidance_reason(recipe)

    @staticmethod
    def starts_from(settings: Any) -> Path | None:
        """The classifier that finds the rows to start from."""
        return find_classifier(settings.classifier) if settings.start == "image" else None

    def __init__(self, settings: Any, classes: Sequence[str], spread: float, backbone: Any) -> None:
        """All rows are the one of 'no class' until `begin` finds better ones."""
        # Pretrained networks know images as they are, so there is no spread to divide by.
        super().__init__(settings, classes, 1.0, backbone)
        self._rows_of = backbone.label_rows
        null = [backbone.null_label]
        self.rows = nn.Parameter(self._rows_of(null * (len(classes) + 1)))
        self._labels: tuple[int, ...] = ()

    def begin(self, data: Any, seed: int) -> tuple[str, ...]:
        """Start each class's row from an ImageNet class; see `Conditioning.begin`.

        Raises:
            RecipeError: `labels` names a class that ImageNet or the project has not.
            WeightsError: with `start` `image`, the classifier is not on disk.
        """
        settings = self.settings
        if foreign := sorted(set(settings.labels) - set(self.classes)):
            raise RecipeError(
                f"conditioning.labels names {', '.join(foreign)}, and the classes are "
                f"{', '.join(self.classes)}; correct the recipe, then type: augment train."
            )
        fixed = {self.classes.index(n): imagenet_index(k) for n, k in settings.labels.items()}
        if settings.start == "image":
            similarity = look_similarity(data, settings.classifier, seed)
        else:
            similarity = name_similarity(self.classes)
        self._labels = assign(similarity, fixed)
        with torch.no_grad():
            self.rows[: len(self.classes)] = self._rows_of(self._labels).to(self.rows.device)
        return tuple(
            f"Class {name} starts from ImageNet's {label_name(label)!r} ({label})."
            for name, label in zip(self.classes, self._labels, strict=True)
        )

    def describe(self) -> dict[str, Any]:
        """Which ImageNet classes the rows started from."""
        return {"imagenet": dict(zip(self.classes, self._labels, strict=False))}

    def forward(
        self, images: Tensor, masks: Tensor, class_ids: Tensor, prompt: Prompt = "defect"
    ) -> Conditions:
        """Conditions of a batch; see `Conditioning.forward`."""
        hidden = hidden_by(masks, self.settings.margin_px)
        return as_they_are(class_ids, images[:, :0], hidden, images, prompt)

    def embed(self, given: Conditions) -> Conditions:
        """`given` with `tokens` (B, T, D), the rows of its classes."""
        # 'Clean' and 'no class' are numbered behind the classes, and share the last row.
        return replace(given, tokens=self.rows[given.class_ids.clamp(max=len(self.classes))])

    def own_weights(self) -> dict[str, nn.Parameter]:
        """The rows."""
        return {"rows": self.rows}
