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


@dataclass(frozen=True)
class Parts:
    """What a recipe names, built. `backbone` has random weights until some are loaded."""

    backbone: Any
    conditioning: Any
    tuning: Any
    objective: Any
    trained: dict[str, nn.Parameter]


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
    """
    chosen = {
        axis: registry.method(axis, getattr(recipe, axis).kind)
        for axis in ("backbone", "conditioning", "tuning", "objective")
    }
    conditioning = chosen["conditioning"](recipe.conditioning, classes, spread)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = chosen["backbone"](
            recipe.backbone,
            image_channels=channels,
            spatial_channels=conditioning.channels(channels),
            class_count=len(classes) + 2,
        )
    tuning = chosen["tuning"](recipe.tuning)
    return Parts(
        backbone=backbone,
        conditioning=conditioning,
        tuning=tuning,
        objective=chosen["objective"](recipe.objective),
        trained=tuning.prepare(backbone),
    )


def pick_device() -> torch.device:
    """The GPU where there is one that torch can use, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def pick_precision(recipe: Recipe, device: torch.device) -> torch.dtype:
    """bfloat16 where asked for or, with `auto`, where the hardware multiplies in it."""
    if recipe.precision == "auto":
        able = torch.cuda.is_bf16_supported() if device.type == "cuda" else _cpu_has_bf16()
        return torch.bfloat16 if able else torch.float32
    return torch.bfloat16 if recipe.precision == "bf16" else torch.float32


def autocast(device: torch.device, precision: torch.dtype) -> Callable[[], AbstractContextManager]:
    """A maker of contexts in which the network computes in `precision`."""
    return lambda: torch.autocast(
        device.type, dtype=torch.bfloat16, enabled=precision == torch.bfloat16
    )


def _cpu_has_bf16() -> bool:
    # Without these instructions torch emulates bf16, slower than float32.
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
