"""BitFit's weights move, and a new scale on every branch of every block."""

from typing import Any, Literal

import torch
from diffusers.models.attention import BasicTransformerBlock
from torch import Tensor, nn

from generator import registry
from generator.config import Choice, Recipe
from generator.registry import register
from generator.tuning.bitfit import BitFitTuning

_BRANCHES = ("attn1", "ff")


@register("tuning", "diffit")
class DiffFitTuning(BitFitTuning):
    """DiffFit (Xie et al., 2304.06648): what BitFit tunes and, of each transformer block, a vector
    gamma on what attention adds to the tokens and one on what the MLP adds, 1 before training."""

    class Settings(Choice):
        """No settings of its own."""

        kind: Literal["diffit"] = "diffit"

    @staticmethod
    def refuse(recipe: Recipe) -> str | None:
        """The scales are those of a pretrained transformer's blocks."""
        if reason := BitFitTuning.refuse(recipe):
            return reason
        if "transformer" not in registry.weight_parts(recipe.backbone.kind):
            return (
                "tuning 'diffit' scales the blocks of a diffusion transformer, which backbone "
                f"{recipe.backbone.kind!r} is not; choose backbone 'dit' or tuning 'bitfit'"
            )
        return None

    def choose(self, backbone: nn.Module) -> dict[str, nn.Parameter]:
        """BitFit's choice and the scales, which are added at the first call."""
        _add_scales(backbone)
        chosen = super().choose(backbone)
        return {
            name: parameter
            for name, parameter in backbone.named_parameters()
            if name in chosen or name.endswith(".gamma")
        }

    @torch.no_grad()
    def fuse(self, backbone: nn.Module) -> None:
        """gamma * (W x + b) is (gamma W) x + gamma b: the scales go into the last layers."""
        for branch in _branches(backbone):
            last = [layer for layer in branch.modules() if isinstance(layer, nn.Linear)][-1]
            last.weight.mul_(branch.gamma[:, None])
            last.bias.mul_(branch.gamma)
            branch.gamma = None


def _branches(backbone: Any) -> list[Any]:
    blocks = [m for m in backbone.denoiser.modules() if isinstance(m, BasicTransformerBlock)]
    return [getattr(block, name) for block in blocks for name in _BRANCHES]


def _add_scales(backbone: Any) -> None:
    for branch in _branches(backbone):
        if not hasattr(branch, "gamma"):
            last = [layer for layer in branch.modules() if isinstance(layer, nn.Linear)][-1]
            branch.gamma = nn.Parameter(torch.ones_like(last.bias))
            branch.register_forward_hook(_scaled)


def _scaled(branch: Any, inputs: object, output: Tensor) -> Tensor:
    # A float32 scale must not widen what autocast computed in bf16.
    return output if branch.gamma is None else output * branch.gamma.to(output.dtype)
