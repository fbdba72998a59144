"""Training: validate, build, resume, loop, report, save.

Everything random in a step follows from (seed, step), and a state is written every few steps, so
a run that is killed and started again ends with the same bits as one that was left alone.

A folder belongs to the inputs that `checkpoint_key` hashes. What an unfinished run of the same
inputs left there is continued; a finished checkpoint of the same inputs is returned as it is; what
other inputs left there, finished or not, is replaced.
"""

import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from generator.assembly import Parts, autocast, build, pick_device, pick_precision
from generator.checkpoints import (
    DONE,
    METRICS,
    RECIPE,
    SAMPLES,
    WEIGHTS,
    State,
    describe_data,
    is_done,
    load_state,
    save_state,
    save_tensors,
    state_path,
)
from generator.config import Recipe, TrainSettings, dump_recipe
from generator.data import Batch, CropData
from generator.errors import RecipeError, TrainingError
from generator.files import read_lines, sha256_of, sha256_of_file, write_json, write_lines
from generator.files import write_text as write
from generator.objectives import loss_weights
from generator.records import DefectExample
from generator.sheets import write_sheet

__all__ = ["checkpoint_key", "is_done", "train"]

_BLIND = (
    "Conditioning {!r} does not see the background, so it can only learn whole images, and these "
    "examples mark where their defects are; choose conditioning 'class_mask_background'."
)
RULES = 1
"""Raised whenever the same recipe and data would lead to other weights than before."""


def checkpoint_key(
    recipe: Recipe, examples: Sequence[DefectExample], classes: Sequence[str], seed: int
) -> str:
    """Hash of everything that the trained weights follow from."""
    learnt = recipe.model_dump(mode="json", exclude={"sampling", "name"})
    data = describe_data(examples, classes)
    return sha256_of({"rules": RULES, "recipe": learnt, "data": data, "seed": seed})


def train(
    recipe: Recipe,
    examples: Sequence[DefectExample],
    classes: Sequence[str],
    folder: Path,
    *,
    seed: int,
    on_step: Callable[[int, int, float], None] | None = None,
) -> Path:
    """Train a generator into `folder`, or continue, or return at once; see the module.

    Args:
        recipe: what to train and how.
        examples: the train split's examples, with defects and without.
        classes: defect classes; their order becomes the checkpoint's.
        folder: of the checkpoint.
        seed: of weights, crops, noise.
        on_step: called after each step with its number (from 1), how many there are, and the loss.

    Returns:
        `folder`.

    Raises:
        ExampleError: an example can't be read or contradicts itself.
        RecipeError: the recipe does not go with the data.
        TrainingError: nothing to train on, or the loss stopped being a number.
    """
    key = checkpoint_key(recipe, examples, classes, seed)
    if is_done(folder, key):
        # Settings of sampling are no part of the key; the newest ones count.
        write(folder / RECIPE, dump_recipe(recipe))
        return folder
    data = CropData(examples, classes, recipe.crops)
    device = pick_device()
    spread = data.spread(seed)
    parts = build(recipe, classes, data.channels, spread=spread, seed=seed)
    if not data.whole and not parts.conditioning.sees_background:
        raise RecipeError(_BLIND.format(recipe.conditioning.kind))
    parts.backbone.to(device, memory_format=torch.channels_last)
    step, average, optimizer = _resume_or_start(folder, key, parts, recipe, examples, data, seed)
    settings = recipe.training
    in_precision = autocast(device, pick_precision(recipe, device))
    while step < settings.steps:
        batch = data.batch(step, seed, settings.batch_size)
        _set_rate(optimizer, settings, step)
        generator = torch.Generator().manual_seed(_step_seed(seed, step))
        loss, norm = _step(parts, batch, optimizer, recipe, in_precision, generator, step, device)
        step += 1
        _follow(average, parts, settings.ema_decay, step)
        if step % settings.log_every == 0 or step == settings.steps:
            line = {
                "step": step,
                "loss": loss,
                "gradient_norm": norm,
                "rate": _rate(settings, step),
            }
            _append(folder / METRICS, line)
        if step % settings.sheet_every == 0 or step == settings.steps:
            write_sheet(
                folder / SAMPLES / f"step-{step:06d}.png", recipe, parts, average, data, seed
            )
        if step % settings.checkpoint_every == 0 and step < settings.steps:
            save_state(folder, State.of(key, step, parts.trained, average, optimizer))
        if on_step is not None:
            on_step(step, settings.steps, loss)
    save_tensors(folder / WEIGHTS, average)
    weights_hash = sha256_of_file(folder / WEIGHTS)
    write_json(folder / DONE, {"key": key, "weights_sha256": weights_hash, "steps": step})
    # Nothing is left to resume, and the state is six times as large as the weights.
    shutil.rmtree(state_path(folder).parent, ignore_errors=True)
    return folder


def _resume_or_start(
    folder: Path,
    key: str,
    parts: Parts,
    recipe: Recipe,
    examples: Sequence[DefectExample],
    data: CropData,
    seed: int,
) -> tuple[int, dict[str, Tensor], torch.optim.Optimizer]:
    """The step to begin with, the averaged weights and the optimiser, from a state or new."""
    settings = recipe.training
    optimizer = torch.optim.AdamW(
        parts.trained.values(),
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    average = {name: p.detach().clone() for name, p in parts.trained.items()}
    state = load_state(folder, key)
    if state is None:
        _clear(folder)
    else:
        state.restore(parts.trained, average, optimizer)
    step = 0 if state is None else state.step
    write(folder / RECIPE, dump_recipe(recipe))
    write_json(
        folder / "data.json",
        describe_data(examples, data.classes)
        | {
            "channels": data.channels,
            "whole_images": data.whole,
            "clean_crops_from": data.clean_source,
            "spread": parts.conditioning.spread,
            "seed": seed,
            "key": key,
        },
    )
    metrics = folder / METRICS
    past = read_lines(metrics) if metrics.exists() else []
    write_lines(metrics, [line for line in past if line["step"] <= step])
    return step, average, optimizer


def _clear(folder: Path) -> None:
    """Remove another run's checkpoint, `done.json` first: it vouches for the rest."""
    for name in (DONE, WEIGHTS, METRICS):
        (folder / name).unlink(missing_ok=True)
    state_path(folder).unlink(missing_ok=True)
    shutil.rmtree(folder / SAMPLES, ignore_errors=True)


def _step(
    parts: Parts,
    batch: Batch,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    in_precision: Callable[[], Any],
    generator: torch.Generator,
    step: int,
    device: torch.device,
) -> tuple[float, float]:
    """One optimiser step. Returns the loss and the gradient's norm before clipping."""
    parts.backbone.train()
    images, masks = batch.images.to(device), batch.masks.to(device)
    given = parts.conditioning(images, masks, batch.class_ids.to(device))
    given = parts.conditioning.drop(given, generator)
    weights = loss_weights(masks, given.hidden, recipe.objective.mask_weight)  # type: ignore[attr-defined]
    with in_precision():
        losses = parts.objective.loss(
            parts.objective.preconditioned(lambda x, time: parts.backbone(x, time, given)),
            parts.backbone.encode(given.standardise(images)),
            parts.backbone.encode(weights.expand_as(images)),
            generator,
        )
    optimizer.zero_grad(set_to_none=True)
    losses.mean().backward()
    clip = recipe.training.gradient_clip
    norm = torch.nn.utils.clip_grad_norm_(parts.trained.values(), clip)
    loss = float(losses.detach().mean())
    if not (math.isfinite(loss) and math.isfinite(float(norm))):
        bad = [i for i, v in zip(batch.example_ids, losses.tolist(), strict=True) if v - v != 0]
        raise TrainingError(
            f"The loss stopped being a number at step {step + 1} (examples "
            f"{', '.join(dict.fromkeys(bad or batch.example_ids))}); nothing of that step was "
            "kept. Lower training.learning_rate in the recipe, then train again."
        )
    optimizer.step()
    return loss, float(norm)


def _follow(average: dict[str, Tensor], parts: Parts, decay: float, step: int) -> None:
    """Exponential moving average; a young one follows faster, so that it forgets the start."""
    share = 1 - min(decay, (1 + step) / (10 + step))
    with torch.no_grad():
        torch._foreach_lerp_(list(average.values()), list(parts.trained.values()), share)


def _rate(settings: TrainSettings, step: int) -> float:
    """Learning rate of a step: a linear warm-up, then half a cosine."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    done = (step - settings.warmup_steps) / max(settings.steps - settings.warmup_steps, 1)
    cosine = 0.5 * (1 + math.cos(math.pi * min(done, 1)))
    return settings.learning_rate * (settings.final_rate + (1 - settings.final_rate) * cosine)


def _set_rate(optimizer: torch.optim.Optimizer, settings: TrainSettings, step: int) -> None:
    for group in optimizer.param_groups:
        group["lr"] = _rate(settings, step)


def _step_seed(seed: int, step: int) -> int:
    return int(sha256_of(["noise", seed, step])[:15], 16)


def _append(path: Path, line: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line, sort_keys=True) + "\n")
