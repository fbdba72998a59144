"""Low-rank adapters beside the weights of attention, by peft."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from diffusers import UNet2DConditionModel
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from pydantic import Field
from torch import Tensor, nn

from generator.checkpoints import LORA, save_tensors
from generator.config import Choice, Recipe
from generator.errors import RecipeError
from generator.registry import register
from generator.tuning.tuning import Tuning, pretrained_reason

ADAPTER = "default"
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")


class LoraSettings(Choice):
    """The adapters: W + alpha / rank * B A, B being zero before training."""

    rank: int = Field(16, ge=1, le=1024, description="columns of B, rows of A")
    alpha: int = Field(32, ge=1, description="the adapter counts alpha / rank times")
    dropout: float = Field(0.1, ge=0, lt=1, description="of the adapter's input, in training")
    targets: tuple[str, ...] = Field(
        ATTENTION, min_length=1, description="ends of the names of the layers that are adapted"
    )


@register("tuning", "lora")
class LoraTuning(Tuning):
    """Low-rank adaptation (Hu et al., LoRA, 2106.09685) of the denoiser; all else is frozen."""

    class Settings(LoraSettings):
        """See `LoraSettings`."""

        kind: Literal["lora"] = "lora"

    @staticmethod
    def refuse(recipe: Recipe) -> str | None:
        """There must be something to adapt."""
        return pretrained_reason(recipe)

    def choose(self, backbone: nn.Module) -> dict[str, nn.Parameter]:
        """The adapters, which are added at the first call.

        Raises:
            RecipeError: no layer's name ends in one of `targets`.
        """
        add_adapters(backbone, self.settings)
        return adapters(backbone)

    def fuse(self, backbone: nn.Module) -> None:
        """Add the adapters to the weights beside them, and take them away."""
        fuse_adapters(backbone)

    def export(self, backbone: nn.Module, weights: Mapping[str, Tensor], folder: Path) -> None:
        """Write `lora/`, which `load_lora_weights` of a plain diffusers pipeline reads."""
        export_adapters(backbone, self.settings, weights, folder)


def add_adapters(backbone: Any, settings: LoraSettings) -> None:
    """Put an adapter beside every target in `backbone.denoiser`, unless there are some.

    Raises:
        RecipeError: no layer's name ends in one of the targets.
    """
    if _layers(backbone.denoiser):
        return
    try:
        inject_adapter_in_model(_config(settings), backbone.denoiser, ADAPTER)
    except ValueError:
        raise RecipeError(
            f"tuning.targets {list(settings.targets)} are no layers that an adapter fits; "
            f"attention's are {', '.join(ATTENTION)}; correct the recipe, then type: augment train."
        ) from None
    for layer in _layers(backbone.denoiser).values():
        # Autocast brings the adapter to its input's precision. By default peft first brings every
        # input to the adapter's float32, which would cost memory and time for nothing.
        layer.cast_input_dtype_enabled = False


def adapters(backbone: nn.Module) -> dict[str, nn.Parameter]:
    """The adapters' weights by name."""
    return {name: p for name, p in backbone.named_parameters() if is_adapter(name)}


def is_adapter(name: str) -> bool:
    """Whether that is the name of an adapter's weight."""
    return f".lora_A.{ADAPTER}." in name or f".lora_B.{ADAPTER}." in name


def fuse_adapters(backbone: Any) -> None:
    """W + alpha / rank * B A becomes the weight, so that sampling pays nothing for it."""
    denoiser = backbone.denoiser
    for name, layer in _layers(denoiser).items():
        layer.merge()
        parent, _, own = name.rpartition(".")
        setattr(denoiser.get_submodule(parent), own, layer.get_base_layer())


def export_adapters(
    backbone: Any, settings: LoraSettings, weights: Mapping[str, Tensor], folder: Path
) -> None:
    """Write the adapters of a UNet in diffusers' own format. Of other denoisers nothing is written:
    diffusers has no reader for their adapters."""
    denoiser = backbone.denoiser
    if not isinstance(denoiser, UNet2DConditionModel):
        return
    own = next(name for name, part in backbone.named_children() if part is denoiser)
    layers = {
        f"unet.{name.removeprefix(own + '.').replace(f'.{ADAPTER}.', '.')}": value
        for name, value in weights.items()
        if is_adapter(name)
    }
    # Without the settings readers take alpha for equal to the rank. `save_lora_weights` would
    # write a second key, and safetensors writes several in an order that differs every time.
    settled = _config(settings).to_dict() | {"target_modules": sorted(settings.targets)}
    said = json.dumps({f"unet.{key}": value for key, value in settled.items()}, sort_keys=True)
    path = folder / LORA / "pytorch_lora_weights.safetensors"
    save_tensors(path, layers, {LORA_ADAPTER_METADATA_KEY: said})


def _layers(denoiser: nn.Module) -> dict[str, Any]:
    """Layers with an adapter beside them, by name."""
    return {n: layer for n, layer in denoiser.named_modules() if isinstance(layer, LoraLayer)}


def _config(settings: LoraSettings) -> LoraConfig:
    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(settings.targets),
        init_lora_weights=True,
    )
