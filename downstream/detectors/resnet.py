"""Image-level classification with a ResNet: the only import of torchvision's models.

Images are read once, resized to a square (so the aspect ratio is not kept) and held as uint8.
Every batch is drawn class-balanced, and every arm gets the same number of steps, the same schedule
and the same light augmentation: flips, a shift of up to 6 %, brightness and contrast.
"""

import os
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from torch import nn

from downstream.config import ExperimentConfig
from downstream.dataset import Item
from downstream.detectors.adjustment import SHIFTS, add_to_good, best_shift
from downstream.detectors.batches import (
    MEAN,
    STD,
    augment,
    balanced_batch,
    normalise,
    read_square,
    real_part,
)
from downstream.detectors.earlier import about_run, earlier_run, load_run, take_over
from downstream.detectors.fitting import fit, save_network, seeded
from downstream.detectors.networks import bare_classifier
from downstream.detectors.outcome import OnStep, Outcome, pick_device, use_bf16
from downstream.detectors.selection import BestOnVal


def train_classifier(
    train: list[Item],
    val: list[Item],
    test: list[Item],
    classes: tuple[str, ...],
    config: ExperimentConfig,
    seed: int,
    folder: Path,
    on_step: OnStep,
) -> Outcome:
    """Train a ResNet on `train` for exactly `config.classification_steps` steps and predict.

    Which step's weights are measured is `config.select`'s word; with `val` or `both`, ten checks
    of macro F1 on val choose one (see selection.py). Val also says where the line between `good`
    and the defects runs (see adjustment.py). `test` is predicted once both are fixed. The weights
    measured are saved as `weights.safetensors` beside `model.json`.

    Args:
        train: synthetic images without an image-level label of their own are left out.
        classes: as from `Export.told_apart`; images of other classes are left out, on all sides.

    Raises:
        ExportError: an image can't be read.
        WeightsError: the earlier run that it goes on from is none, or does not fit.
        RunError: the loss stopped being a number.
    """
    keep = {name: index for index, name in enumerate(classes)}
    train = [item for item in train if item.class_name in keep and item.has_one_label]
    device = torch.device(pick_device(config.device))
    pixels = load_square(train, config.classification_px)
    targets = torch.tensor([keep[item.class_name] for item in train])
    model, source, weights = _build(config, classes, seed)
    model = model.to(device).to(memory_format=torch.channels_last)
    sides = {
        name: [item for item in own if item.class_name in keep]
        for name, own in (("val", val), ("test", test))
        if own
    }

    def predict(model: nn.Module, *names: str) -> dict[str, list[dict[str, Any]]]:
        return {name: _predict(model, sides[name], keep, config, device) for name in names}

    tried = SHIFTS if config.classification_adjust else (0.0,)
    shifts: list[float] = []  # the first is that of the weights that are measured and saved

    def on_val(model: nn.Module) -> tuple[float, float]:
        return best_shift(predict(model, "val")["val"], classes, tried)

    def measured(model: nn.Module) -> dict[str, list[dict[str, Any]]]:
        shifts.append(on_val(model)[0])
        add_to_good(model.fc, shifts[-1], classes)  # type: ignore[arg-type]
        return predict(model, *sides)

    best = BestOnVal(model, config.classification_steps, config.select, lambda m: on_val(m)[1])

    def stepped(done: int, total: int) -> None:
        best.after_step(done)
        on_step(done, total)

    real = np.array([item.kind == "real" for item in train])
    history = _fit(model, pixels, targets, real, config, seed, device, stepped)
    selected, predictions, val_chosen = best.settle(measured)
    _save(model, source, classes, config, shifts[0], folder)
    return Outcome(
        steps=config.classification_steps,
        predictions=predictions,
        from_scratch=weights is None,
        weights=f"{source}, {weights or 'random weights'}",
        device=str(device),
        parameters=sum(p.numel() for p in model.parameters()),
        history=history,
        selected_step=selected,
        labels=classes,
        val_chosen=val_chosen,
        checks=best.checks,
    )


def load_square(items: list[Item], px: int) -> torch.Tensor:
    """Read images as a uint8 tensor of shape (N, 3, px, px), RGB, resized without keeping aspect.

    Raises:
        ExportError: an image can't be read.
    """
    stack = torch.empty((len(items), 3, px, px), dtype=torch.uint8)
    for index, item in enumerate(items):
        stack[index] = torch.from_numpy(read_square(item, px).copy()).permute(2, 0, 1)
    return stack


def _fit(
    model: nn.Module,
    pixels: torch.Tensor,
    targets: torch.Tensor,
    real: np.ndarray,
    config: ExperimentConfig,
    seed: int,
    device: torch.device,
    on_step: OnStep,
) -> list[tuple[int, float]]:
    rng = np.random.default_rng(seed)
    present = [np.flatnonzero(targets.numpy() == c) for c in sorted(set(targets.tolist()))]
    late, step = real_part(present, real), count()
    mixed = config.synthetic_steps("classification")
    bf16 = use_bf16(config.precision, str(device))

    def loss_of_batch() -> torch.Tensor:
        drawn = present if next(step) < mixed else late
        index = balanced_batch(drawn, config.classification_batch, rng)
        batch = augment(pixels[index].to(device), rng)[0]
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            return nn.functional.cross_entropy(model(batch), targets[index].to(device))

    return fit(
        model,
        loss_of_batch,
        steps=config.classification_steps,
        rate=config.classification_lr,
        rate_key="classification_lr",
        on_step=on_step,
    )


@torch.no_grad()
def _predict(
    model: nn.Module,
    items: list[Item],
    keep: dict[str, int],
    config: ExperimentConfig,
    device: torch.device,
) -> list[dict[str, Any]]:
    model.eval()
    found: list[dict[str, Any]] = []
    size = max(config.classification_batch, 32)
    for start in range(0, len(items), size):
        part = items[start : start + size]
        pixels = load_square(part, config.classification_px).to(device).float() / 255
        shares = model(normalise(pixels)).float().softmax(dim=1).cpu().double()
        for item, row in zip(part, shares, strict=True):
            probabilities = row.round(decimals=6).tolist()
            found.append(
                {"id": item.id, "target": keep[item.class_name], "probabilities": probabilities}
            )
    return found


def imagenet_weights(name: str) -> Path | None:
    """The file with ImageNet's weights of a torchvision model, where torch.hub keeps such files;
    None where it isn't there."""
    weights = torchvision.models.get_model_weights(name).DEFAULT
    file = Path(torch.hub.get_dir()) / "checkpoints" / os.path.basename(weights.url)  # noqa: PTH119
    return file if file.is_file() else None


def _build(
    config: ExperimentConfig, classes: tuple[str, ...], seed: int
) -> tuple[nn.Module, str, str | None]:
    """The network, its architecture, and its weights' name, or None where it starts at random."""
    run = earlier_run(config.classifier)
    about = about_run(run, "classification") if run else {"source": config.classifier}
    file = imagenet_weights(about["source"]) if run is None and config.pretrained else None
    with seeded(seed):
        model = bare_classifier(about["source"])
        name = None
        if file is not None:
            model.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
            name = f"ImageNet weights {file.name}"
        model.fc = nn.Linear(model.fc.in_features, len(classes))
    if run is not None and config.pretrained:
        before = load_run(
            lambda: bare_classifier(about["source"], len(about["classes"])), run, "classification"
        )
        # what that run's val chose is no part of what it has learned
        shift = float(about.get("good_shift", 0.0))
        add_to_good(before.fc, -shift, about["classes"])  # type: ignore[arg-type]
        take_over(model, before, "fc", classes, tuple(about["classes"]))
        name = f"those of {run}"
    return model, about["source"], name


def _save(
    model: nn.Module,
    source: str,
    classes: tuple[str, ...],
    config: ExperimentConfig,
    shift: float,
    folder: Path,
) -> None:
    about = {
        "kind": "torchvision-classify",
        "source": source,
        "classes": list(classes),
        "px": config.classification_px,
        "mean": MEAN,
        "std": STD,
        # already in the last layer's bias; here for whoever wants to move it
        "good_shift": shift,
    }
    save_network(model, about, folder)
