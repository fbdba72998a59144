"""What every detector hands back, and how it is called: the interface between one training and
the experiment around it."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

OnStep = Callable[[int, int], None]
"""Called after every optimiser step with (steps done, steps in all)."""


@dataclass(frozen=True)
class ValChosen:
    """What the weights that val would have chosen predict, where the last step's are measured.

    Attributes:
        step: whose weights they are.
        predictions: as in `Outcome`.
    """

    step: int
    predictions: dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Outcome:
    """One finished training.

    Attributes:
        steps: optimiser steps that were really taken.
        predictions: for `val`, and for `test` where it is measured, one dict an image, in the order
            of the split. Detection:
            `id`, `boxes` (xyxy, pixels of the image), `scores` in [0, 1], `classes`.
            Classification: `id`, `target`, `probabilities`, over `labels`. Localisation: `id`,
            `class`, `score` and the counts of localisation.py.
        from_scratch: no pretrained weights were used.
        weights: what the training started from, in words.
        device: where it ran.
        parameters: how many numbers the model has.
        history: (step, training loss) at about fifty steps.
        selected_step: the step whose weights are measured.
        labels: class names in the order of the model's outputs; the defect classes where it only
            tells defect from sound.
        val_chosen: with `select: both`, what the val-chosen weights predict.
        checks: (step, score on val) of each look at val, where `select` asks for any.
    """

    steps: int
    predictions: dict[str, list[dict[str, Any]]]
    from_scratch: bool
    weights: str
    device: str
    parameters: int
    history: list[tuple[int, float]]
    selected_step: int
    labels: tuple[str, ...]
    val_chosen: ValChosen | None = None
    checks: list[tuple[int, float]] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)


def rate_at(step: int, steps: int, *, floor: float) -> float:
    """The share of the peak learning rate at `step` (from 0) of `steps`.

    Linear warm-up over the first twentieth (100 steps at most), then half a cosine down to `floor`.
    It depends on the step alone, so arms of any size get the same schedule.
    """
    warmup = max(1, min(100, steps // 20))
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))


def pick_device(name: str) -> str:
    """`auto` is the first GPU, where there is one, else the CPU."""
    if name != "auto":
        return name
    return "cuda:0" if torch.cuda.is_available() else "cpu"


def use_bf16(precision: str, device: str) -> bool:
    """Whether the forward pass of a training runs in bf16; `auto` says so where it is native."""
    if precision != "auto":
        return precision == "bf16"
    if device.startswith("cuda"):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # private, so it may be absent
    return bool(native and native())
