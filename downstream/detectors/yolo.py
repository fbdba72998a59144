"""Object detection with ultralytics (AGPL-3.0; see docs/licences.md), trained by the step.

Labels come from the export's manifest, so no label file is guessed at and no cache is written
beside the images. Nothing is downloaded, and nothing is reported to anyone.
"""

import gc
import logging
import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ultralytics import settings
from ultralytics.models.rtdetr.train import RTDETRTrainer
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.nn.tasks import yaml_model_load
from ultralytics.utils import LOGGER

from downstream.config import ExperimentConfig
from downstream.dataset import Item
from downstream.detectors.by_step import (
    CONFIDENCE_FLOOR,
    MAX_DETECTIONS,
    ByStep,
    Plan,
    predict,
)
from downstream.detectors.earlier import about_run, earlier_run, load_run
from downstream.detectors.fitting import WEIGHTS, save_network
from downstream.detectors.networks import bare_detector, is_rtdetr
from downstream.detectors.outcome import OnStep, Outcome, ValChosen, pick_device, use_bf16
from downstream.detectors.selection import CHECKS
from downstream.errors import WeightsError, one_line

if settings["sync"]:
    settings.update({"sync": False})


@dataclass(frozen=True)
class Start:
    """Where a detector starts.

    Attributes:
        model: the .pt or .yaml that ultralytics builds it from.
        weights: the file that holds its weights; None for random ones.
        run: the folder of the earlier training that it goes on from, if it is one of ours.
    """

    model: str
    weights: Path | None = None
    run: Path | None = None

    @property
    def rtdetr(self) -> bool:
        """Whether it is a transformer, which ultralytics trains by other classes."""
        return is_rtdetr(self.model)


def resolve_start(name: str, pretrained: bool, weights_dir: Path | None) -> Start:
    """Where the detector called `name` starts.

    A file is taken as it is, and of a folder with an earlier training its weights; a name is looked
    for as `<name>.pt` in the current folder and in `weights_dir`, else built from ultralytics' own
    `<name>.yaml` with random weights.

    Raises:
        WeightsError: a file that was named isn't there, a folder holds no detector, or ultralytics
            knows no such model.
    """
    if (run := earlier_run(name)) is not None:
        # its layers are in model.json, whatever file it was once built from
        name = f"{Path(str(about_run(run, 'detection')['source'])).stem}.yaml"
        if pretrained:
            return Start(name, run / WEIGHTS, run)
    stem = name.removesuffix(".pt").removesuffix(".yaml")
    if name.endswith(".yaml") and Path(name).is_file():
        return Start(name)
    if not name.endswith(".yaml") and pretrained:
        file = f"{stem}.pt"
        for candidate in [Path(file), *([weights_dir / file] if weights_dir else [])]:
            if candidate.is_file():
                return Start(str(candidate.resolve()), candidate.resolve())
    if name.endswith(".pt") and pretrained:
        raise WeightsError(
            f"{name} is not on disk; put it there, or set detector to {Path(stem).name!r} to train "
            "it from scratch."
        )
    try:
        yaml_model_load(f"{Path(stem).name}.yaml")
    except Exception as fault:
        raise WeightsError(
            f"ultralytics knows no model {Path(stem).name!r} ({one_line(fault)}); name one such as "
            "yolo11n, yolov8s or rtdetr-l."
        ) from None
    return Start(f"{Path(stem).name}.yaml")


def _trained_before(start: Start) -> torch.nn.Module | None:
    """The detector of an earlier training, whose layers a new one takes over wherever their shapes
    agree; None where `start` is none of ours."""
    if start.run is None:
        return None
    about = about_run(start.run, "detection")
    model = load_run(lambda: bare_detector(about), start.run, "detection")
    # by its names ultralytics finds the classes that both have
    model.names = dict(enumerate(about["classes"]))  # type: ignore[assignment]
    return model


def train_detector(
    train: list[Item],
    val: list[Item],
    test: list[Item],
    classes: tuple[str, ...],
    config: ExperimentConfig,
    seed: int,
    folder: Path,
    on_step: OnStep,
) -> Outcome:
    """Train a detector on `train` and predict on `val` and `test`.

    Exactly `config.detection_steps` optimiser steps of `detection_batch` images are taken,
    whatever the size of `train`. `test` is predicted once, after the weights are fixed. The
    averaged weights (EMA), with batch statistics of their own, are measured and saved as
    `weights.safetensors` beside `model.json`.

    Raises:
        WeightsError: the model that is named can't be found.
        RunError: the loss stopped being a number, or the device ran out of memory.
    """
    start = resolve_start(config.detector, config.pretrained, config.weights_dir)
    base = RTDETRTrainer if start.rtdetr else DetectionTrainer
    device = pick_device(config.device)
    plan = Plan(train, val, classes, config, seed, start.rtdetr, device, on_step)
    plan.before = _trained_before(start)
    bf16 = use_bf16(config.precision, device)
    plan.cpu_bf16 = bf16 and device == "cpu"
    overrides = _overrides(plan, config, start, device, bf16)
    with _quiet(folder / "log.txt"), tempfile.TemporaryDirectory() as scratch_dir:
        overrides["save_dir"] = scratch_dir
        trainer = type(f"ByStep{base.__name__}", (ByStep, base), {})(plan, overrides)
        trainer.train()
        if config.select == "val" and trainer.kept is not None:
            _, selected, model = trainer.kept
        else:
            assert trainer.last is not None
            model, selected = trainer.last, trainer.done
        sides = {name: own for name, own in (("val", val), ("test", test)) if own}
        predictions = {name: predict(model, trainer, own) for name, own in sides.items()}
        val_chosen = None
        if config.select == "both" and trainer.kept is not None:
            _, step, best = trainer.kept
            chosen = {name: predict(best, trainer, own) for name, own in sides.items()}
            val_chosen = ValChosen(step, chosen)
    _save(model, classes, start.model, config, folder)
    outcome = Outcome(
        steps=trainer.done,
        predictions=predictions,
        from_scratch=start.weights is None,
        weights=str(start.weights or f"{start.model}, random weights"),
        device=str(trainer.device),
        parameters=sum(p.numel() for p in model.parameters()),
        history=trainer.history,
        selected_step=selected,
        labels=classes,
        val_chosen=val_chosen,
        checks=trainer.checks,
    )
    del trainer, model
    gc.collect()
    return outcome


def _overrides(
    plan: Plan, config: ExperimentConfig, start: Start, device: str, bf16: bool
) -> dict[str, Any]:
    """Ultralytics' arguments. `nbs` equals `batch`, so that every batch is an optimiser step;
    the optimiser is named, since `auto` chooses it by the size of the train set; warm-up and decay
    are off here and done by the step."""
    return {
        "model": start.model,
        "pretrained": start.weights is not None,
        "task": "detect",
        "mode": "train",
        "device": device.removeprefix("cuda:"),
        "workers": plan.workers,
        "amp": "bf16" if bf16 and device != "cpu" else False,
        "seed": plan.seed,
        "deterministic": True,
        "epochs": math.ceil(plan.steps / plan.portion),
        "imgsz": config.detection_px,
        "batch": plan.batch,
        "nbs": plan.batch,
        "optimizer": "AdamW",
        "lr0": config.detection_lr,
        "lrf": 1.0,
        "momentum": 0.9,
        "warmup_epochs": 0.0,
        "mosaic": config.detection_mosaic,
        "close_mosaic": 1 if plan.steps >= CHECKS else 0,
        "val": plan.check,
        "patience": 0,
        "save": False,
        "exist_ok": True,
        "plots": False,
        "verbose": False,
        "max_det": MAX_DETECTIONS,
        "conf": CONFIDENCE_FLOOR,
    }


def _save(
    model: torch.nn.Module,
    classes: tuple[str, ...],
    source: str,
    config: ExperimentConfig,
    folder: Path,
) -> None:
    about = {
        "kind": "ultralytics-detect",
        "source": source,
        "yaml": model.yaml,
        "classes": list(classes),
        "px": config.detection_px,
    }
    save_network(model, about, folder)


@contextmanager
def _quiet(log: Path) -> Iterator[None]:
    """Send ultralytics' talk to the run's log file, and its progress bars with it."""
    handler = logging.FileHandler(log, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    kept, level, spread = LOGGER.handlers[:], LOGGER.level, LOGGER.propagate
    LOGGER.handlers, LOGGER.propagate = [handler], False
    LOGGER.setLevel(logging.INFO)
    try:
        yield
    finally:
        LOGGER.handlers, LOGGER.propagate = kept, spread
        LOGGER.setLevel(level)
        handler.close()
