"""Progressive unfreezing: adapters, then the upper half of the UNet, then all of it."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator
from torch import nn

from generator import registry
from generator.config import Recipe
from generator.registry import register
from generator.tuning.lora import LoraSettings, add_adapters, fuse_adapters, is_adapter
from generator.tuning.tuning import (
    CONDITIONING,
    Stage,
    Tuning,
    late_reason,
    pretrained_reason,
    unfrozen,
)


@register("tuning", "phases")
class PhasesTuning(Tuning):
    """Weights are let go from the output inwards (gradual unfreezing: Howard and Ruder, ULMFiT,
    1801.06146, section 3.3), so that what was pretrained is not lost while the new embedding is
    still random.

    The adapters and the conditioning's weights move in all three stages; in the last, the layers
    under the adapters move with them. What is saved is all of the UNet: gigabytes.
    """

    class Settings(LoraSettings):
        """Stages begin after that many epochs (or steps, where the recipe counts them)."""

        kind: Literal["phases"] = "phases"
        rank: int = Field(8, ge=1, le=1024, description="columns of B, rows of A")
        alpha: int = Field(16, ge=1, description="the adapter counts alpha / rank times")
        up_and_mid_from: int = Field(20, ge=1, description="up and mid blocks move from here on")
        all_from: int = Field(60, ge=2, description="the whole UNet moves from here on")

        @model_validator(mode="after")
        def _in_order(self) -> "PhasesTuning.Settings":
            if self.all_from <= self.up_and_mid_from:
                raise ValueError("all_from must come after up_and_mid_from")
            return self

    @staticmethod
    def refuse(recipe: Recipe) -> str | None:
        """The stages are those of a pretrained UNet, and each must begin."""
        if reason := pretrained_reason(recipe):
            return reason
        if "unet" not in registry.weight_parts(recipe.backbone.kind):
            return (
                "tuning 'phases' frees the up and mid blocks of a UNet, which backbone "
                f"{recipe.backbone.kind!r} has not; choose tuning 'lora' or 'full'"
            )
        settings = recipe.tuning
        return late_reason(
            recipe, {key: getattr(settings, key) for key in ("up_and_mid_from", "all_from")}
        )

    def choose(self, backbone: nn.Module) -> dict[str, nn.Parameter]:
        """All of the denoiser, adapters included: the union of the stages."""
        add_adapters(backbone, self.settings)
        return unfrozen(backbone)

    def stages(self, trained: Mapping[str, nn.Parameter]) -> tuple[Stage, ...]:
        """Adapters and conditioning; up and mid blocks with them; everything."""
        first = {name for name in trained if name.startswith(CONDITIONING) or is_adapter(name)}
        upper = {n for n in trained if n.split(".")[1] in ("up_blocks", "mid_block")}
        return (
            Stage("adapters", 0, frozenset(first)),
            Stage("up and mid blocks", self.settings.up_and_mid_from, frozenset(first | upper)),
            Stage("whole UNet", self.settings.all_from, frozenset(trained)),
        )

    def fuse(self, backbone: nn.Module) -> None:
        """Add the adapters to the weights beside them, and take them away."""
        fuse_adapters(backbone)
