"""Trainings of a few steps: equal in every arm, and the same when repeated."""

import itertools
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from downstream.config import ExperimentConfig
from downstream.dataset import GOOD, Item, read_export
from downstream.detectors import by_step, resnet, yolo
from downstream.detectors.batches import real_part
from downstream.detectors.outcome import Outcome, rate_at
from downstream.errors import ExportError
from downstream.onnx_check import _suppressed

DetectionTrainer = yolo.DetectionTrainer  # imported there, after what keeps it offline

TINY = ExperimentConfig(
    detection_steps=7,
    detection_px=64,
    detection_batch=3,
    classification_steps=5,
    classification_px=40,
    classification_batch=6,
    precision="fp32",
    device="cpu",
)


def train(
    folder: Path, out: Path, arm: str, config: ExperimentConfig = TINY, **more: object
) -> Outcome:
    export = read_export(folder)
    out.mkdir(parents=True, exist_ok=True)
    sides = [export.items("train", arm), export.items("val"), export.items("test")]
    classes = export.classes
    settings = {"seed": 0, "on_step": lambda done, total: None, **more}
    kind = settings.pop("kind", "yolo")
    if kind == "yolo":
        return yolo.train_detector(*sides, classes, config, folder=out, **settings)  # type: ignore[arg-type]
    classes = export.told_apart(config.with_good)
    return resnet.train_classifier(*sides, classes, config, folder=out, **settings)  # type: ignore[arg-type]


def test_arms_of_different_size_take_the_same_steps(
    blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """8 and 20 images: 7 optimiser steps at the same rates, and each batch is full."""
    stepped: list[float] = []
    real_step = torch.optim.AdamW.step

    def step(self, *args, **kwargs):
        stepped.append(self.param_groups[0]["lr"])
        return real_step(self, *args, **kwargs)

    sizes: list[int] = []
    real_batch = DetectionTrainer.preprocess_batch

    def batch(self, given):
        sizes.append(len(given["img"]))
        return real_batch(self, given)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    monkeypatch.setattr(DetectionTrainer, "preprocess_batch", batch)
    rates = {}
    told: list[tuple[int, int]] = []
    for arm in ("real", "mixed"):
        stepped.clear()
        sizes.clear()
        told.clear()
        outcome = train(
            blobs, tmp_path / arm, arm, on_step=lambda done, total: told.append((done, total))
        )
        assert outcome.steps == 7
        assert told == [(k, 7) for k in range(1, 8)]
        assert sizes[:7] == [3] * 7 and len(sizes) == 7 + by_step.CALIBRATION
        rates[arm] = list(stepped)
    expected = [TINY.detection_lr * rate_at(k, 7, floor=0.01) for k in range(7)]
    assert rates["real"] == pytest.approx(expected) and rates["mixed"] == pytest.approx(expected)


def test_predictions_and_weights(blobs: Path, tmp_path: Path) -> None:
    export = read_export(blobs)
    outcome = train(blobs, tmp_path / "a", "real")
    assert outcome.from_scratch and "yolo11n.yaml, random weights" in outcome.weights
    assert [p["id"] for p in outcome.predictions["test"]] == [i.id for i in export.items("test")]
    for found, item in zip(outcome.predictions["test"], export.items("test"), strict=True):
        boxes = np.array(found["boxes"]).reshape(-1, 4)
        assert (boxes >= 0).all()
        assert (boxes[:, [0, 2]] <= item.width).all() and (boxes[:, [1, 3]] <= item.height).all()
        assert found["scores"] == sorted(found["scores"], reverse=True)
        assert set(found["classes"]) <= {0, 1}
    state = load_file(tmp_path / "a/weights.safetensors")
    assert sum(v.numel() for v in state.values() if v.is_floating_point()) >= outcome.parameters
    assert json.loads((tmp_path / "a/model.json").read_text())["classes"] == ["dot", "bar"]
    again = train(blobs, tmp_path / "b", "real")
    assert again.predictions == outcome.predictions
    assert not list((blobs / "labels").glob("*.cache"))


def test_best_on_val_is_kept(blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores on val are planted: the third of seven checks is best, and only val is looked at."""
    scores = iter([0.1, 0.2, 0.9, 0.3, 0.3, 0.3, 0.3])
    looked: list[int] = []

    def planted(predictions, targets, n):
        looked.append(len(targets))
        return {"map50": next(scores)}

    monkeypatch.setattr(by_step, "detection_metrics", planted)
    config = TINY.model_copy(update={"select": "val"})
    outcome = train(blobs, tmp_path / "a", "real", config)
    assert outcome.selected_step == 3 and outcome.steps == 7
    assert looked == [9] * 7
    last = train(blobs, tmp_path / "b", "real")
    ours, theirs = (load_file(tmp_path / k / "weights.safetensors") for k in "ab")
    assert any(not torch.equal(ours[name], theirs[name]) for name in ours)
    assert last.selected_step == 7


def test_a_loader_with_workers_lasts_until_the_end(
    blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: ultralytics ends the workers after the last step, and the model's batch
    statistics need them once more."""

    class Plan(by_step.Plan):
        def __init__(self, *args) -> None:
            super().__init__(*args)
            self.workers = 1

    monkeypatch.setattr(yolo, "Plan", Plan)
    outcome = train(blobs, tmp_path / "run", "mixed", TINY.model_copy(update={"select": "both"}))
    assert outcome.steps == TINY.detection_steps
    assert len(outcome.predictions["test"]) > 0


def test_every_image_once_before_any_twice() -> None:
    sampler = by_step.StepSampler(["dot"] * 5, 0.25, 4, seed=1)
    drawn = [index for _ in range(5) for index in sampler]
    assert len(sampler) == 4 and len(drawn) == 20
    assert all(sorted(drawn[k : k + 5]) == [0, 1, 2, 3, 4] for k in range(0, 20, 5))
    assert drawn[:5] != drawn[5:10]


def test_many_clean_images_are_held_back_and_few_are_not() -> None:
    names = ["dot"] * 10 + [GOOD] * 190
    drawn = list(by_step.StepSampler(names, 0.25, 4000, seed=0))
    assert abs(sum(k >= 10 for k in drawn) / 4000 - 0.25) < 0.03
    seen = [drawn.count(k) for k in range(10)]
    assert max(seen) - min(seen) <= 1, "every image of a class is seen as often as any other"
    few = ["dot"] * 90 + [GOOD] * 10
    drawn = list(by_step.StepSampler(few, 0.25, 4000, seed=0))
    assert abs(sum(k >= 90 for k in drawn) / 4000 - 0.1) < 0.03
    assert set(by_step.StepSampler([GOOD] * 3, 0.25, 30, seed=0)) == {0, 1, 2}


def test_what_is_mixed_in_takes_no_clean_images_place() -> None:
    names = np.array(["dot"] * 60 + [GOOD] * 20 + ["dot"] * 240)
    real = np.arange(len(names)) < 80
    shares = [
        by_step.StepSampler(names[: 80 + more], 0.5, 9, 0, real[: 80 + more]).clean_share
        for more in (0, 60, 240)
    ]
    assert shares == [0.25, 0.25, 0.25]
    alone = by_step.StepSampler(names[60:], 0.5, 9, 0, real[60:])
    assert alone.clean_share == 20 / 260, "without real defects, of all"


def test_a_class_of_few_images_is_drawn_as_often_as_one_of_many() -> None:
    """Or an arm with more images of the common class would see less of the rare one."""
    names = ["dot"] * 54 + ["bar"] * 6 + [GOOD] * 90
    sampler = by_step.StepSampler(names, 0.25, 4000, seed=0)
    random.seed(0)
    for drawn in (list(sampler), sampler.partners(4000)):
        share = [sum(names[k] == name for k in drawn) / 4000 for name in ("dot", "bar", GOOD)]
        assert share == pytest.approx([0.375, 0.375, 0.25], abs=0.03)
        assert set(drawn) >= set(range(60))


def test_a_mosaic_has_clean_partners_as_seldom_as_a_batch_has_clean_images(
    blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two defect images beside thirty clean ones, of which none is asked for."""
    export = read_export(blobs)
    items = export.items("train", "mixed")
    defects = [item for item in items if item.boxes][:2]
    bare = next(item for item in items if not item.boxes)
    many = []
    for number in range(30):
        copied = tmp_path / f"clean{number}.png"
        shutil.copy(bare.image, copied)
        many.append(bare.model_copy(update={"id": f"clean{number}", "image": copied}))
    loaded: list[str] = []
    load = by_step._YoloDataset.get_image_and_label

    def note(self, index):
        if self.augment:
            loaded.append(self.im_files[index])
        return load(self, index)

    monkeypatch.setattr(by_step._YoloDataset, "get_image_and_label", note)
    changes = {"detection_mosaic": 1.0, "detection_most_clean": 0.0}
    config = TINY.model_copy(update=changes)
    sides = ([*defects, *many], export.items("val"), [])
    yolo.train_detector(*sides, export.classes, config, 0, tmp_path, lambda done, total: None)
    assert len(loaded) > 4 * TINY.detection_batch * TINY.detection_steps / 2
    assert set(loaded) == {str(item.image) for item in defects}


def test_partners_are_drawn_as_often_clean_as_batches_are() -> None:
    names = ["dot"] * 10 + [GOOD] * 190
    random.seed(0)
    drawn = by_step.StepSampler(names, 0.25, 40, seed=0).partners(4000)
    assert abs(sum(k >= 10 for k in drawn) / 4000 - 0.25) < 0.03
    assert set(drawn) >= set(range(10))
    random.seed(0)
    assert set(by_step.StepSampler(["dot"] * 3, 0.25, 40, seed=0).partners(99)) == {0, 1, 2}
    assert set(by_step.StepSampler([GOOD] * 3, 0.25, 40, seed=0).partners(99)) == {0, 1, 2}


class _Partners(torch.utils.data.Dataset):
    """What a mosaic does in a loader's process: ask for partners, whatever the index."""

    def __init__(self, sampler: by_step.StepSampler) -> None:
        self.sampler = sampler

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> set[int]:
        return set(self.sampler.partners(30))


def test_a_loader_with_processes_hears_that_real_images_alone_are_drawn() -> None:
    """The last steps on real images: partners too are those alone, in a loader that runs on."""
    real = np.isin(np.arange(6), [1, 4])
    sampler = by_step.StepSampler(["dot", "bar"] * 3, 0.25, 40, 0, real, mixed=40)
    loader = torch.utils.data.DataLoader(
        _Partners(sampler),
        sampler=sampler,
        num_workers=1,
        persistent_workers=True,
        collate_fn=list,
    )
    before = set().union(*(each for batch in loader for each in batch))
    after = set().union(*(each for batch in loader for each in batch))
    assert (before, after) == (set(range(6)), {1, 4})
    assert set(sampler) == {1, 4}


class _Indices(torch.utils.data.Dataset):
    def __getitem__(self, index: int) -> int:
        return index


def test_a_loader_that_draws_ahead_changes_to_real_images_with_the_same_batch() -> None:
    """Beside a GPU up to sixteen batches are drawn before the step that they are for."""
    names, real = ["dot", "bar"] * 6, np.arange(12) < 4

    def drawn(workers: int) -> list[int]:
        sampler = by_step.StepSampler(names, 0.25, 96, 0, real, mixed=40)
        loader = torch.utils.data.DataLoader(
            _Indices(), batch_size=4, sampler=sampler, num_workers=workers
        )
        return [int(index) for batch in loader for index in batch]

    alone, ahead = drawn(0), drawn(2)
    assert alone == ahead and len(alone) == 96
    assert set(alone[40:]) == {0, 1, 2, 3} and max(alone[:40]) > 3


def test_where_no_image_is_synthetic_the_shuffles_go_on() -> None:
    """So that a run of real images alone does not hang on when others would come to an end."""
    names = ["a"] * 5 + ["b"] * 4 + [GOOD] * 3

    def drawn(switch: bool) -> list[int]:
        mixed = 7 if switch else None
        sampler = by_step.StepSampler(names, 0.5, 7, seed=3, mixed=mixed)
        return [index for _ in range(7) for index in sampler]

    assert drawn(switch=True) == drawn(switch=False)


RTDETR = """
nc: 80
backbone:
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
head:
  - [[2, 3, 4], 1, RTDETRDecoder, [nc, 32, 20, 2, 2, 2]]
"""
"""rtdetr-l's decoder, in small, on a plain pyramid."""


def test_rtdetr_trains_and_finds_boxes_in_pixels_of_the_image(blobs: Path, tmp_path: Path) -> None:
    """Its dataset, loss and post-processing are others than YOLO's."""
    source = tmp_path / "rtdetr-tiny.yaml"
    source.write_text(RTDETR)
    settings = {"detector": str(source), "detection_steps": 60, "detection_lr": 0.01}
    config = TINY.model_copy(update=settings)
    outcome = train(blobs, tmp_path / "a", "mixed", config)
    assert outcome.steps == 60 and outcome.from_scratch
    losses = [loss for _, loss in outcome.history]
    assert np.mean(losses[-5:]) < 0.8 * losses[0]
    sizes = {item.id: (item.width, item.height) for item in read_export(blobs).items("test")}
    for found in outcome.predictions["test"]:
        width, height = sizes[found["id"]]
        boxes = np.array(found["boxes"])
        assert len(boxes) and set(found["classes"]) <= {0, 1}
        assert (boxes >= -1).all() and (boxes <= [width + 1, height + 1] * 2).all()
        assert (np.ptp(boxes[:, [0, 2]], axis=0) > 1).any(), "more than one place is named"
    again = train(blobs, tmp_path / "b", "mixed", config)
    assert again.predictions == outcome.predictions


def test_the_last_steps_draw_real_images_alone(
    blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """8 real and 12 synthetic images; of 40 steps the last 20 are for the real ones."""
    update = {"detection_finish_on_real": 0.5, "classification_finish_on_real": 0.5}
    config = TINY.model_copy(update=update | {"detection_steps": 40, "classification_steps": 40})
    real = {str(i.image): i.kind == "real" for i in read_export(blobs).items("train", "mixed")}
    seen: list[list[bool]] = []
    real_batch = DetectionTrainer.preprocess_batch

    def batch(self, given):
        if self.model.training and len(seen) < 40:  # the batches of the calibration come last
            seen.append([real[file] for file in given["im_file"]])
        return real_batch(self, given)

    monkeypatch.setattr(DetectionTrainer, "preprocess_batch", batch)
    train(blobs, tmp_path / "yolo", "mixed", config)
    assert len(seen) == 40 and all(map(all, seen[20:]))
    assert not all(map(all, seen[:20]))

    drawn: list[np.ndarray] = []
    balanced = resnet.balanced_batch

    def draw(*args):
        drawn.append(balanced(*args))
        return drawn[-1]

    monkeypatch.setattr(resnet, "balanced_batch", draw)
    train(blobs, tmp_path / "resnet", "mixed", config, kind="resnet")
    kinds = np.array(list(real.values()))
    assert len(drawn) == 40 and kinds[np.concatenate(drawn[20:])].all()
    assert not kinds[np.concatenate(drawn[:20])].all()


def test_a_class_without_a_real_image_is_drawn_as_before() -> None:
    by_class = [np.array([0, 1, 2]), np.array([3, 4])]
    real = np.array([True, False, True, False, False])
    kept = real_part(by_class, real)
    assert [own.tolist() for own in kept] == [[0, 2], [3, 4]]


def test_classifier(blobs: Path, tmp_path: Path) -> None:
    export = read_export(blobs)
    outcome = train(blobs, tmp_path / "a", "mixed", kind="resnet")
    assert outcome.labels == ("dot", "bar", "good") and outcome.steps == 5
    rows = outcome.predictions["test"]
    assert [row["id"] for row in rows] == [item.id for item in export.items("test")]
    assert all(sum(row["probabilities"]) == pytest.approx(1, abs=1e-4) for row in rows)
    assert [row["target"] for row in rows[:3]] == [0, 1, 2]
    assert train(blobs, tmp_path / "b", "mixed", kind="resnet").predictions == outcome.predictions
    without = TINY.model_copy(update={"with_good": False})
    outcome = train(blobs, tmp_path / "c", "mixed", without, kind="resnet")
    assert outcome.labels == ("dot", "bar") and len(outcome.predictions["test"]) == 6


def test_a_synthetic_image_of_several_classes_teaches_no_classifier(
    blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = read_export(blobs)
    sides = [export.items("train", "mixed"), export.items("val"), export.items("test")]

    def with_both(kind: str) -> list[Item]:
        """The training images, of which the first of a kind shows the other class as well."""
        changed = next(item for item in sides[0] if item.kind == kind and item.boxes)
        boxes = (*changed.boxes, (1 - changed.boxes[0][0], 0, 0, 5, 5))
        both = changed.model_copy(update={"boxes": boxes})
        return [both if item is changed else item for item in sides[0]]

    read: list[list[Item]] = []
    load = resnet.load_square

    def load_square(items, px):
        read.append(items)
        return load(items, px)

    monkeypatch.setattr(resnet, "load_square", load_square)
    for kind, left_out in (("synthetic", 1), ("real", 0)):
        read.clear()
        resnet.train_classifier(
            with_both(kind),
            *sides[1:],
            (*export.classes, GOOD),
            TINY,
            seed=0,
            folder=tmp_path / kind,
            on_step=lambda done, total: None,
        )
        assert len(read[0]) == len(sides[0]) - left_out


def test_the_saved_classifier_names_the_line_that_val_chose(
    blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `both` val-chosen weights are measured too; the line named is that of the saved ones."""
    lines = iter([*[0.5] * 5, 1.25, 2.0, 9.0, 9.0])  # a check a step, then the last, then the best
    monkeypatch.setattr(resnet, "best_shift", lambda rows, classes, tried: (next(lines), 0.5))
    train(blobs, tmp_path, "mixed", TINY.model_copy(update={"select": "both"}), kind="resnet")
    assert json.loads((tmp_path / "model.json").read_text())["good_shift"] == 1.25
    assert next(lines) == 9.0


def test_batches_are_balanced() -> None:
    groups = [np.arange(2), np.arange(2, 100)]
    rng = np.random.default_rng(0)
    drawn = np.concatenate([resnet.balanced_batch(groups, 32, rng) for _ in range(40)])
    assert 0.45 < (drawn < 2).mean() < 0.55


def test_unreadable_image(blobs: Path, tmp_path: Path) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(b"not an image")
    item: Item = read_export(blobs).items("val")[0].model_copy(update={"image": path})
    with pytest.raises(ExportError, match=r"broken\.png can't be read as an image"):
        resnet.load_square([item], 32)


def test_schedule() -> None:
    rates = [rate_at(k, 200, floor=0.1) for k in range(200)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == 1 and rates[10] == 1
    assert rates[199] == pytest.approx(0.1, abs=0.001)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rate_at(0, 1, floor=0.0) == 1


def test_nothing_is_fetched(blobs: Path, tmp_path: Path) -> None:
    """A whole training in a process in which opening a connection or looking up a name is fatal."""
    code = """
import socket, sys
from pathlib import Path
def refuse(*args, **kwargs):
    print("NETWORK", args)
    sys.stdout.flush()
    import os; os._exit(3)
socket.getaddrinfo = refuse
socket.socket.connect = refuse
from downstream.config import ExperimentConfig
from downstream.experiment import run_experiment
config = ExperimentConfig(seeds=1, detection_steps=2, detection_px=64, detection_batch=2,
    classification_steps=2, classification_px=32, classification_batch=4, arms=["real"])
run_experiment(Path(sys.argv[1]), Path(sys.argv[2]), config)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(blobs), str(tmp_path / "out")],
        capture_output=True, text=True, timeout=200,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NETWORK" not in done.stdout
    assert "ultralytics" not in done.stdout.lower()


def test_batch_statistics_are_the_models_own(
    blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first batch norm's mean is that of what the first convolution really gives, and not the
    trace of zero that a momentum of 0.03 leaves after seven steps."""
    seen: list[torch.Tensor] = []
    real = by_step.ByStep.calibrated

    def calibrated(self):
        model = real(self)
        batch = self.preprocess_batch(next(iter(self.train_loader)))["img"]
        seen.append(model.model[0].conv(batch).mean(dim=(0, 2, 3)).detach())
        seen.append(model.model[0].bn.running_mean.clone())
        assert model is not self.ema.ema and model.model[0].bn.momentum == 0.03
        return model

    monkeypatch.setattr(by_step.ByStep, "calibrated", calibrated)
    train(blobs, tmp_path, "mixed")
    ours, kept = seen
    assert torch.nn.functional.cosine_similarity(ours, kept, dim=0) > 0.98
    assert kept.norm() / ours.norm() == pytest.approx(1, abs=0.2)


def test_a_busy_machine_does_not_decide_what_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past its limit of seconds ultralytics leaves the rest of a batch without a box."""
    from ultralytics.utils import nms

    moments = itertools.count(0, 100)
    monkeypatch.setattr(nms.time, "time", lambda: float(next(moments)))
    raw = torch.tensor(
        [[[20.0, 60.0], [20.0, 60.0], [9.0, 9.0], [9.0, 9.0], [0.9, 0.8], [0.1, 0.1]]]
    )
    batch = raw.repeat(4, 1, 1)
    assert sum(len(found) for found in nms.non_max_suppression(batch, 0.5)) == 2

    class Validator:
        def postprocess(self, preds: torch.Tensor) -> list[dict[str, torch.Tensor]]:
            return [{"bboxes": each[:, :4]} for each in nms.non_max_suppression(preds, 0.5)]

    found = list(by_step._suppressed(Validator(), (batch, None)))
    assert [len(each["bboxes"]) for each in found] == [2, 2, 2, 2]
    assert [(rows[:, 4] > 0.5).sum() for rows in _suppressed(batch)] == [2, 2, 2, 2]
