"""A recipe -> its four parts, built, and the hardware that they run on."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from generator import registry
from generator.config import Recipe
from generator.weights import find_weights, needs_of, weights_hash


@dataclass(frozen=True)
class Parts:
    """What a recipe names, built. What is trained has random or pretrained weights until others
    are loaded.

    A backbone offers `prepare` (a batch in its grid), `forward` (what the objective asks for),
    `decode` (the grid back in pixels), `noise` (a seed's), `settle` (device and precision), and
    `needs_colour`; see `generator.backbones.compact`.
    """

    backbone: Any
    conditioning: Any
    tuning: Any
    objective: Any
    trained: dict[str, nn.Parameter]


def base_hash(recipe: Recipe) -> str:
    """Identity of the pretrained weights that a recipe starts from; empty where there are none.

    Raises:
        WeightsError: they are not on disk, or are pickled.
    """
    needs = needs_of(recipe)
    if needs is None:
        return ""
    folder = find_weights(needs.name, needs.parts, recipe=recipe.name)
    return weights_hash(folder, needs.parts)


def image_channels(recipe: Recipe, grey: bool) -> int:
    """1 for grey images, unless the backbone was trained on colour."""
    backbone = registry.method("backbone", recipe.backbone.kind)
    return 1 if grey and not backbone.needs_colour else 3


def build(
    recipe: Recipe, classes: Sequence[str], channels: int, *, spread: float = 1.0, seed: int = 0
) -> Parts:
    """Build a recipe's parts.

    Args:
        recipe: the four choices.
        classes: defect classes in the checkpoint's order.
        channels: 1 (grey) or 3.
        spread: by how much images typically differ from their level; see `Conditions`.
        seed: of the random weights.

    Raises:
        WeightsError: the recipe names weights that are not on disk, or are pickled.
    """
    chosen = {
        axis: registry.method(axis, getattr(recipe, axis).kind)
        for axis in ("backbone", "conditioning", "tuning", "objective")
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = chosen["backbone"](
            recipe.backbone,
            image_channels=channels,
            spatial_channels=chosen["conditioning"].channels(channels),
            class_count=len(classes) + 2,
        )
        conditioning = chosen["conditioning"](recipe.conditioning, classes, spread, backbone)
        tuning = chosen["tuning"](recipe.tuning)
        trained = tuning.prepare(backbone, conditioning)
    return Parts(
        backbone=backbone,
        conditioning=conditioning,
        tuning=tuning,
        objective=chosen["objective"](recipe.objective, backbone),
        trained=trained,
    )


def pick_device() -> torch.device:
    """The GPU where there is one that torch can use, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def pick_precision(recipe: Recipe, device: torch.device) -> torch.dtype:
    """What is asked for or, with `auto`, bfloat16 where the hardware multiplies in it."""
    if recipe.precision == "auto":
        if device.type == "cuda":
            able = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            able = _cpu_has_bf16()
        return torch.bfloat16 if able else torch.float32
    return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[recipe.precision]


def autocast(device: torch.device, precision: torch.dtype) -> Callable[[], AbstractContextManager]:
    """A maker of contexts in which the network computes in `precision`."""
    return lambda: torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32)


def _cpu_has_bf16() -> bool:
    # Without these instructions torch emulates bf16, slower than float32.
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
