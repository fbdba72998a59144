"""All weights move."""

from typing import Literal

from torch import nn

from generator.config import Choice, Recipe
from generator.registry import register
from generator.tuning.tuning import Tuning, unfrozen


@register("tuning", "full")
class FullTuning(Tuning):
    """Every weight of the backbone that is not frozen by nature (a VAE, a text encoder)."""

    class Settings(Choice):
        """No settings of its own."""

        kind: Literal["full"] = "full"

    @staticmethod
    def refuse(recipe: Recipe) -> str | None:
        """Nothing stands against it."""
        return None

    def choose(self, backbone: nn.Module) -> dict[str, nn.Parameter]:
        """Everything that denoises."""
        return unfrozen(backbone)
