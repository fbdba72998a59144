"""Which weights move, and so which are saved."""

from typing import Any, Literal

from torch import Tensor, nn

from generator.config import Choice, Recipe
from generator.registry import register


@register("tuning", "full")
class FullTuning:
    """Every weight of the backbone is trained."""

    class Settings(Choice):
        """No settings of its own."""

        kind: Literal["full"] = "full"

    @staticmethod
    def refuse(recipe: Recipe) -> str | None:
        """Nothing stands against it."""
        return None

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    def prepare(self, backbone: nn.Module) -> dict[str, nn.Parameter]:
        """Mark what is trained. Returns those parameters by name, in a fixed order."""
        backbone.requires_grad_(True)
        return dict(backbone.named_parameters())

    def load(self, backbone: nn.Module, weights: dict[str, Tensor]) -> None:
        """Put trained weights into a freshly built backbone.

        Raises:
            RuntimeError: names or shapes differ.
        """
        backbone.load_state_dict(weights, strict=True)
