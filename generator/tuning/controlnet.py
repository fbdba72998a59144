"""A ControlNet beside a UNet that was adapted first."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from torch import Tensor, nn

from generator import registry
from generator.checkpoints import CONTROLNET, save_tensors
from generator.config import Recipe
from generator.files import write_text
from generator.registry import register
from generator.tuning.lora import (
    LoraSettings,
    adapters,
    add_adapters,
    export_adapters,
    fuse_adapters,
)
from generator.tuning.tuning import Stage, Tuning, late_reason, pretrained_reason

_PREFIX = "controlnet."


@register("tuning", "controlnet")
class ControlNetTuning(Tuning):
    """First the adapters and the conditioning learn what the defects look like; then both are
    frozen and the ControlNet (Zhang et al., 2302.05543) learns to put them where the mask is."""

    class Settings(LoraSettings):
        """See `LoraSettings` for stage 'base'."""

        kind: Literal["controlnet"] = "controlnet"
        controlnet_from: int = Field(
            250, ge=1, description="epochs (or steps, where the recipe counts them) of stage 'base'"
        )

    @staticmethod
    def refuse(recipe: Recipe) -> str | None:
        """There must be a ControlNet, and a time to train it."""
        if reason := pretrained_reason(recipe):
            return reason
        if not getattr(registry.method("backbone", recipe.backbone.kind), "CONTROLLED", False):
            return (
                f"tuning 'controlnet' trains a ControlNet, which backbone {recipe.backbone.kind!r} "
                "has not; choose backbone 'stable_diffusion_controlnet' or tuning 'lora'"
            )
        settings: Any = recipe.tuning
        return late_reason(recipe, {"controlnet_from": settings.controlnet_from})

    def choose(self, backbone: nn.Module) -> dict[str, nn.Parameter]:
        """The adapters, which are added at the first call, and the ControlNet."""
        add_adapters(backbone, self.settings)
        chosen = adapters(backbone)
        return {
            name: parameter
            for name, parameter in backbone.named_parameters()
            if name in chosen or name.startswith(_PREFIX)
        }

    def stages(self, trained: Mapping[str, nn.Parameter]) -> tuple[Stage, ...]:
        """`base` without the ControlNet, then `controlnet` with nothing else."""
        control = frozenset(name for name in trained if name.startswith(_PREFIX))
        return (
            Stage("base", 0, frozenset(trained) - control),
            Stage("controlnet", self.settings.controlnet_from, control),
        )

    def fuse(self, backbone: nn.Module) -> None:
        """Add the adapters to the weights beside them, and take them away."""
        fuse_adapters(backbone)

    def export(self, backbone: Any, weights: Mapping[str, Tensor], folder: Path) -> None:
        """Write `lora/` and `controlnet/`, which plain diffusers reads (`load_lora_weights`,
        `ControlNetModel.from_pretrained`)."""
        export_adapters(backbone, self.settings, weights, folder)
        network = {
            name.removeprefix(_PREFIX): value
            for name, value in weights.items()
            if name.startswith(_PREFIX)
        }
        place = folder / CONTROLNET
        save_tensors(place / "diffusion_pytorch_model.safetensors", network, {"format": "pt"})
        write_text(place / "config.json", backbone.controlnet.to_json_string())
