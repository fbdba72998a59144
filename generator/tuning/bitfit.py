"""Biases and norms move; the matrices stay."""

from typing import Literal

from torch import nn

from generator.config import Choice, Recipe
from generator.registry import register
from generator.tuning.tuning import Tuning, pretrained_reason, unfrozen

_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


@register("tuning", "bitfit")
class BitFitTuning(Tuning):
    """Only biases are tuned (Ben Zaken et al., BitFit, 2106.10199), and the affine norms, where a
    network has some. The embedding of the classes is the conditioning's, and moves as always."""

    class Settings(Choice):
        """No settings of its own."""

        kind: Literal["bitfit"] = "bitfit"

    @staticmethod
    def refuse(recipe: Recipe) -> str | None:
        """Random matrices would stay random."""
        return pretrained_reason(recipe)

    def choose(self, backbone: nn.Module) -> dict[str, nn.Parameter]:
        """Biases, and norms' weights, of everything that denoises."""
        owners = dict(backbone.named_modules())
        return {
            name: parameter
            for name, parameter in unfrozen(backbone).items()
            if name.endswith(".bias") or isinstance(owners[name.rpartition(".")[0]], _NORMS)
        }
