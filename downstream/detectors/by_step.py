"""Ultralytics' own training loop, counted in steps and fed by the manifest.

Ultralytics counts in epochs, so an arm with more images would get more optimiser steps. Here an
'epoch' is a fixed number of batches drawn from an endless shuffle, the gradient is never
accumulated, and the learning rate follows the step: every arm gets exactly the same training.
"""

import io
import json
import math
import os
import random
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from copy import deepcopy
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Sampler
from ultralytics.data.augment import Compose, Mosaic
from ultralytics.data.build import InfiniteDataLoader, seed_worker
from ultralytics.data.dataset import YOLODataset
from ultralytics.models.rtdetr.val import RTDETRDataset
from ultralytics.utils import LOGGER, ops

from downstream.config import PRIMARY, ExperimentConfig
from downstream.dataset import GOOD, Item
from downstream.detectors.batches import defects_by_class, real_part, share_of_clean
from downstream.detectors.outcome import OnStep, rate_at
from downstream.detectors.selection import CHECKS
from downstream.errors import RunError
from downstream.metrics import detection_metrics

if TYPE_CHECKING:
    _Trainer = Any  # mixins: what they are mixed into is chosen at run time
    _Dataset = Any
else:
    _Trainer = _Dataset = object

CONFIDENCE_FLOOR = 0.001
MAX_DETECTIONS = 100
"""Per image, as in COCO's evaluation."""
CALIBRATION = 16
"""Training batches over which the final batch statistics are taken."""
RAM_FOR_IMAGES = 2 * 2**30
"""Resized images are kept in memory up to this many bytes."""


class StepSampler(Sampler[int]):
    """Endless shuffles, handed out in portions of `portion` indices, with clean images held back
    and defect classes drawn evenly.

    A draw is a clean image with the probability `most_clean`, or their share of the real images
    where that is lower, so that arms of the same real images draw as many: thousands of good parts
    beside a few defects would otherwise leave most batches without anything to detect. Else it is a
    defect class by even chance, as in the other tasks: an arm with more images of the common
    classes would otherwise see the rare ones less, and lose by having more. Each kind is shuffled
    by itself: every image of it is seen once before any is seen again, whatever the portion.

    Args:
        names: the class of each image, `GOOD` for one without a defect.
        most_clean: largest share of clean images among the draws, 0 to 1.
        portion: length.
        seed: of the shuffles.
        real: (N,) bool; None where all are.
        mixed: after that many draws only real defect images are drawn; of a class that has none,
            and of clean images, as before. It is counted where images are drawn and not where
            steps end, as a loader with processes draws ahead. None: never.
    """

    def __init__(
        self,
        names: Sequence[str],
        most_clean: float,
        portion: int,
        seed: int,
        real: np.ndarray | None = None,
        mixed: int | None = None,
    ) -> None:
        own = np.asarray(names)
        self.real = np.ones(len(own), dtype=bool) if real is None else real
        self.mixed, self.drawn = mixed, 0
        self.by_class = defects_by_class(own)
        self.clean = np.flatnonzero(own == GOOD)
        natural = share_of_clean(own, self.real)
        self.clean_share = natural if natural == 1 else min(natural, most_clean)
        self.portion = portion
        self.rng = np.random.default_rng(seed)
        self.queues: dict[int, list[int]] = {}
        # partners are drawn in a loader's processes, which see no change but one in shared memory
        self.left = torch.ones(len(own), dtype=torch.bool).share_memory_()

    def _only_real(self) -> None:
        self.left.zero_()
        for kind, own in enumerate(real_part(self.by_class, self.real)):
            self.left[own] = True
            if len(own) < len(self.by_class[kind]):  # else its shuffle goes on
                self.queues.pop(kind, None)

    def kind(self, clean: bool, chance: float) -> int:
        """The kind that a draw is of: a class's number, or -1 for clean; `chance` is in [0, 1)."""
        return -1 if clean else int(chance * len(self.by_class))

    def of_kind(self, kind: int) -> np.ndarray:
        """The images of a kind that are drawn now."""
        if kind == -1:
            return self.clean
        own = self.by_class[kind]
        return own[self.left.numpy()[own]]

    def partners(self, number: int) -> list[int]:
        """Images to stand beside another in a mosaic, drawn as all others are.

        From `random`, as ultralytics does, which seeds it in each of a loader's processes.
        """
        kinds = [
            self.kind(random.random() < self.clean_share, random.random()) for _ in range(number)
        ]
        return [int(random.choice(self.of_kind(kind))) for kind in kinds]

    def __len__(self) -> int:
        return self.portion

    def __iter__(self) -> Iterator[int]:
        for _ in range(self.portion):
            if self.drawn == self.mixed:
                self._only_real()
            self.drawn += 1
            kind = self.kind(self.rng.random() < self.clean_share, self.rng.random())
            queue = self.queues.setdefault(kind, [])
            if not queue:
                queue.extend(self.rng.permutation(self.of_kind(kind)).tolist())
            yield queue.pop()


class _ManifestLabels(_Dataset):
    """Labels from the manifest, in place of ultralytics' search for label files."""

    def get_img_files(self, img_path: Any) -> list[str]:
        return list(img_path)

    def get_labels(self) -> list[dict[str, Any]]:
        return [deepcopy(self.data["labels"][file]) for file in self.im_files]


class _YoloDataset(_ManifestLabels, YOLODataset):
    pass


class _RTDETRDataset(_ManifestLabels, RTDETRDataset):
    pass


def _dataset(
    trainer: Any, files: list[str], data: dict[str, Any], *, augment: bool, cache: str | None
) -> YOLODataset:
    extra: dict[str, Any] = {} if trainer.plan.rtdetr else {"stride": 32, "task": "detect"}
    with redirect_stdout(io.StringIO()):  # a progress bar that no setting turns off
        return (_RTDETRDataset if trainer.plan.rtdetr else _YoloDataset)(
            img_path=files,
            imgsz=trainer.args.imgsz,
            batch_size=trainer.plan.batch,
            augment=augment,
            hyp=trainer.args,
            rect=False,
            cache=cache,
            data=data,
            **extra,
        )


def _mosaics(transforms: Compose) -> Iterator[Mosaic]:
    """The mosaics among a dataset's transforms, which are nested."""
    for each in transforms.transforms:
        if isinstance(each, Compose):
            yield from _mosaics(each)
        elif isinstance(each, Mosaic):
            yield each


def _label(item: Item) -> dict[str, Any]:
    rows = np.array(item.boxes, dtype=np.float32).reshape(-1, 5)
    x1, y1, x2, y2 = rows[:, 1:].T
    xywh = np.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], axis=1)
    return {
        "im_file": str(item.image),
        "shape": (item.height, item.width),
        "cls": rows[:, :1],
        "bboxes": xywh / np.array([item.width, item.height] * 2, dtype=np.float32),
        "segments": [],
        "keypoints": None,
        "normalized": True,
        "bbox_format": "xywh",
    }


class Plan:
    """What one training needs to know besides ultralytics' own arguments."""

    def __init__(
        self,
        train: list[Item],
        val: list[Item],
        classes: tuple[str, ...],
        config: ExperimentConfig,
        seed: int,
        rtdetr: bool,
        device: str,
        on_step: OnStep,
    ) -> None:
        self.val, self.seed, self.rtdetr, self.on_step = val, seed, rtdetr, on_step
        self.steps, self.batch = config.detection_steps, config.detection_batch
        self.select, self.check = config.select, config.select != "last"
        self.most_clean = config.detection_most_clean
        mixed = config.synthetic_steps("detection")
        # the batches of the calibration come after the last step and are drawn as its batch
        self.mixed = mixed * self.batch if mixed < self.steps else None
        self.names = {str(i.image): i.class_name if i.boxes else GOOD for i in train}
        self.real = {str(item.image): item.kind == "real" for item in train}
        self.portion = math.ceil(self.steps / CHECKS)
        # a CPU trains slower than it loads; beside a GPU, runs at once share the cores
        share = max(1, min(8, (os.cpu_count() or 1) // config.jobs))
        self.workers = 0 if device == "cpu" else share
        self.cpu_bf16 = False
        self.before: torch.nn.Module | None = None
        self.data: dict[str, Any] = {
            "train": [str(item.image) for item in train],
            "val": [str(item.image) for item in val],
            "names": dict(enumerate(classes)),
            "nc": len(classes),
            "channels": 3,
            "labels": {str(item.image): _label(item) for item in [*train, *val]},
        }

    def sampler(self, files: Sequence[str], portion: int) -> StepSampler:
        """The order in which `files` are trained on."""
        names = [self.names[file] for file in files]
        real = np.array([self.real[file] for file in files])
        return StepSampler(names, self.most_clean, portion, self.seed, real, self.mixed)


class ByStep(_Trainer):
    """Mixed into one of ultralytics' trainers: the same loop, counted in steps."""

    def __init__(self, plan: Plan, overrides: dict[str, Any]) -> None:
        self.plan = plan
        self.done = 0
        self.history: list[tuple[int, float]] = []
        self.checks: list[tuple[int, float]] = []
        self.kept: tuple[float, int, torch.nn.Module] | None = None
        self.last: torch.nn.Module | None = None
        super().__init__(overrides=overrides)
        self.add_callback("on_train_start", ByStep._prepare)
        self.add_callback("on_train_batch_start", ByStep._set_rate)

    def get_dataset(self) -> dict[str, Any]:
        return self.plan.data

    def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True):
        if (before := self.plan.before) is not None:
            cfg, weights = before.yaml, before
        return super().get_model(cfg, weights, verbose)

    def build_dataset(self, img_path: list[str], mode: str = "train", batch: int | None = None):
        size = self.args.imgsz**2 * 3 * len(img_path)
        cache = "ram" if mode == "train" and size <= RAM_FOR_IMAGES else None
        return _dataset(self, img_path, self.data, augment=mode == "train", cache=cache)

    def get_dataloader(self, dataset_path, batch_size=16, rank=0, mode="train"):
        if batch_size not in (self.plan.batch, self.plan.batch * 2):
            raise RunError(
                f"The device ran out of memory at detection_batch {self.plan.batch}; set a smaller "
                "one, for all arms alike."
            )
        train = mode == "train"
        dataset = self.build_dataset(dataset_path, mode, batch_size)
        portion = self.plan.portion * batch_size if train else len(dataset)
        sampler = self.plan.sampler(dataset.im_files, portion) if train else None
        if sampler is not None:
            for mosaic in _mosaics(dataset.transforms):
                mosaic.get_indexes = partial(  # type: ignore[method-assign]
                    sampler.partners, mosaic.n - 1
                )
        generator = torch.Generator()
        generator.manual_seed(self.plan.seed)
        return InfiniteDataLoader(
            dataset=dataset,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=self.plan.workers if train else 0,
            collate_fn=dataset.collate_fn,
            worker_init_fn=seed_worker,
            generator=generator,
            pin_memory=self.device.type == "cuda",
        )

    def _prepare(self) -> None:
        """Make a CPU's training nearly three times as fast: NHWC, and bf16 where it is native.

        Ultralytics does both on CUDA alone, and its own autocast would turn bf16 off again around
        the loop, so it is switched on inside, for the model's forward pass.
        """
        if self.device.type != "cpu":
            return
        self.model.to(memory_format=torch.channels_last)
        if not self.plan.cpu_bf16:
            return
        entered: list[Any] = []

        def enter(module: torch.nn.Module, args: Any) -> None:
            entered.append(torch.autocast("cpu", torch.bfloat16))
            entered[-1].__enter__()

        def leave(module: torch.nn.Module, args: Any, output: Any) -> None:
            entered.pop().__exit__(None, None, None)

        self.model.register_forward_pre_hook(enter)
        self.model.register_forward_hook(leave, always_call=True)

    def _set_rate(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * rate_at(self.done, self.plan.steps, floor=0.01)

    def optimizer_step(self) -> None:
        super().optimizer_step()
        loss = float(self.loss.detach())
        if not math.isfinite(loss):
            raise RunError(
                f"The detector's loss stopped being a number at step {self.done + 1}; set a "
                "smaller detection_lr."
            )
        self.done += 1
        if self.done % max(1, self.plan.steps // 50) == 0 or self.done == 1:
            self.history.append((self.done, loss / self.plan.batch))
        self.plan.on_step(self.done, self.plan.steps)
        if self.done >= self.plan.steps:
            self.stop = True

    def validate(self) -> tuple[dict[str, float], float | None]:
        """A look at val, where the best check is to be kept; test is never looked at here."""
        if not self.plan.check:
            return {}, None
        model = self.calibrated()
        predictions = predict(model, self, self.plan.val)
        targets = [item.boxes for item in self.plan.val]
        score = detection_metrics(predictions, targets, len(self.plan.data["names"]))[
            PRIMARY["detection"]
        ]
        self.checks.append((self.done, float(score)))
        if self.kept is None or score > self.kept[0]:
            self.kept = (score, self.done, model)
        return {"val/map50": score}, score

    @torch.no_grad()
    def calibrated(self) -> torch.nn.Module:
        """A copy of the averaged model whose batch statistics are its own.

        Ultralytics' batch norm follows with a momentum of 0.03, so after a few hundred steps its
        running statistics are those of a model long gone. They are taken anew over
        `CALIBRATION` training batches, as in 'precise BN' (Wu and Johnson 2021, "Rethinking Batch
        in BatchNorm"); in a throw-away trial that lifted mAP50 after 150 steps from 0.03 to 0.24.
        """
        model = deepcopy(self.ema.ema).float().train()
        norms = [m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # torch: the plain mean over all batches
        batches = (batch for _ in range(CALIBRATION) for batch in self.train_loader)
        for batch in islice(batches, CALIBRATION):
            model(self.preprocess_batch(batch)["img"])
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        return model.eval()

    def save_model(self) -> bool:
        return False

    def final_eval(self) -> None:
        """Keep the last step's model, if it counts; ultralytics ends the loader's workers next."""
        if self.plan.select != "val" or self.kept is None:
            self.last = self.calibrated()

    def _handle_nan_recovery(self, epoch: int) -> bool:
        return False

    def save_metrics(self, metrics: dict[str, Any]) -> None:
        LOGGER.info(f"step {self.done}: {json.dumps(metrics, default=float)}")


def _suppressed(validator: Any, raw: Any) -> Iterator[dict[str, torch.Tensor]]:
    """What `validator.postprocess` leaves of each image of a batch. It is asked image by image:
    after some seconds it leaves what is left of a batch without a box, so that a busy machine
    would decide what is found."""
    outputs = raw[0] if isinstance(raw, (list, tuple)) else raw
    for one in outputs.split(1):
        yield from validator.postprocess(one)


@torch.no_grad()
def predict(model: torch.nn.Module, trainer: Any, items: list[Item]) -> list[dict[str, Any]]:
    """Boxes found in `items`, as pixels of each image: see `Outcome.predictions`."""
    data = {**trainer.data, "labels": {str(item.image): _label(item) for item in items}}
    dataset = _dataset(trainer, list(data["labels"]), data, augment=False, cache=None)
    validator = trainer.get_validator()
    validator.args.conf, validator.args.max_det = CONFIDENCE_FLOOR, MAX_DETECTIONS
    validator.device, validator.nc = trainer.device, len(data["names"])
    validator.args.quantize = None
    validator.end2end = getattr(model, "end2end", False)
    was_training = model.training
    model.eval()
    found: list[dict[str, Any]] = []
    for start in range(0, len(dataset), trainer.plan.batch):
        part = range(start, min(start + trainer.plan.batch, len(dataset)))
        batch = validator.preprocess(dataset.collate_fn([dataset[i] for i in part]))
        for k, each in enumerate(_suppressed(validator, model(batch["img"]))):
            boxes = ops.scale_boxes(
                batch["img"].shape[2:],
                each["bboxes"].clone().float(),
                batch["ori_shape"][k],
                ratio_pad=batch["ratio_pad"][k],
            )
            order = torch.argsort(each["conf"], descending=True, stable=True)[:MAX_DETECTIONS]
            found.append(
                {
                    "id": items[start + k].id,
                    "boxes": boxes[order].cpu().double().round(decimals=2).tolist(),
                    "scores": each["conf"][order].cpu().double().round(decimals=5).tolist(),
                    "classes": each["cls"][order].int().cpu().tolist(),
                }
            )
    model.train(was_training)
    return found
