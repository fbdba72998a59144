"""Which step's weights count: by the last step or by val, and never by test."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from downstream.config import ExperimentConfig
from downstream.dataset import Item, read_export
from downstream.detectors import by_step, resnet, unet, yolo
from downstream.detectors.outcome import Outcome
from downstream.detectors.selection import BestOnVal
from downstream.experiment import run_experiment
from downstream.report_file import read_report
from downstream.runs import plan_runs

TINY = ExperimentConfig(
    seeds=1,
    detection_steps=7,
    detection_px=64,
    detection_batch=3,
    classification_steps=10,
    classification_px=32,
    classification_batch=6,
    localisation_steps=20,
    localisation_px=64,
    localisation_batch=4,
    localisation_width=4,
    localisation_lr=3e-3,
    bootstrap_samples=100,
    precision="fp32",
    device="cpu",
)
SELECT = ("last", "val", "both")


def train(
    task: str, folder: Path, out: Path, select: str, **sides: Sequence[Item] | None
) -> Outcome:
    """Train on `real`; a side that is given takes the place of the export's own."""
    export = read_export(folder)
    out.mkdir(parents=True)
    own = [
        list(sides.get(name) or export.items(name, "real" if name == "train" else None))  # type: ignore[arg-type]
        for name in ("train", "val", "test")
    ]
    config = TINY.model_copy(update={"select": select})
    more: dict[str, Any] = {"seed": 0, "folder": out, "on_step": lambda done, total: None}
    if task == "localisation":
        return unet.train_localiser(*own, export.classes, config, **more)
    if task == "detection":
        return yolo.train_detector(*own, export.classes, config, **more)
    return resnet.train_classifier(*own, (*export.classes, "good"), config, **more)


def rotated(items: list[Item]) -> list[Item]:
    """Every image is given another class: the better the training goes, the worse the score."""
    after = {"dot": "bar", "bar": "good", "good": "dot"}
    return [item.model_copy(update={"class_name": after[item.class_name]}) for item in items]


def inverted(items: list[Item], folder: Path) -> list[Item]:
    """Masks of all but the defects: the better the training goes, the worse the score."""
    folder.mkdir()
    changed = []
    for item in items:
        if item.mask is not None:
            path = folder / item.mask.name
            Image.fromarray(255 - np.asarray(Image.open(item.mask))).save(path)
            item = item.model_copy(update={"mask": path})
        changed.append(item)
    return changed


def test_ten_checks_and_the_earliest_of_the_best() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    values = {3: 0.1, 6: 0.5, 9: 0.4, 12: 0.5, 15: 0.2, 18: 0.1, 21: 0.0, 24: 0.3, 25: 0.4}
    seen: list[float] = []

    def score(own: torch.nn.Module) -> float:
        assert not own.training
        seen.append(own.weight.item())
        return values[round(own.weight.item())]

    def predict(own: torch.nn.Module) -> dict[str, list[dict[str, Any]]]:
        return {"val": [{"weight": own.weight.item()}]}

    for select in SELECT:
        seen.clear()
        model.train()
        best = BestOnVal(model, 25, select, score)
        for done in range(1, 26):
            torch.nn.init.constant_(model.weight, done)
            best.after_step(done)
            assert model.training
        assert seen == ([] if select == "last" else [float(k) for k in values])
        step, predictions, chosen = best.settle(predict)
        expected = 6 if select == "val" else 25
        assert step == expected == model.weight.item()
        assert predictions == {"val": [{"weight": float(expected)}]}
        if select == "both":
            assert chosen is not None and chosen.step == 6
            assert chosen.predictions == {"val": [{"weight": 6.0}]}
        else:
            assert chosen is None


def same_weights(*folders: Path) -> bool:
    first, second = (load_file(folder / "weights.safetensors") for folder in folders)
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_test_labels_that_would_prefer_another_step_change_no_classifier(
    masked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Test is labelled as another check's weights see it, so they alone would score 1 on it.
    Neither the step nor the line between `good` and the defects follows it."""
    items = read_export(masked).items("test")
    right = train("classification", masked, tmp_path / "right", "val")
    guesses: list[list[int]] = []
    real_score = resnet.best_shift

    def recorded(rows, classes, tried):
        shift, score = real_score(rows, classes, tried)
        shares = np.array([row["probabilities"] for row in rows]) * np.exp([0, 0, shift])
        guesses.append(shares.argmax(axis=1).tolist())
        return shift, score

    monkeypatch.setattr(resnet, "best_shift", recorded)
    train("classification", masked, tmp_path / "look", "val", val=items)
    ours = guesses[right.selected_step - 1]  # a check at every step
    theirs = next(found for found in guesses if found != ours)
    names = ("dot", "bar", "good")
    wrong = [
        item.model_copy(update={"class_name": names[k]})
        for item, k in zip(items, theirs, strict=True)
    ]
    by_test = train("classification", masked, tmp_path / "by-test", "val", val=wrong)
    assert by_test.selected_step != right.selected_step, "or nothing would be planted"
    other = train("classification", masked, tmp_path / "other", "val", test=wrong)
    assert other.selected_step == right.selected_step
    assert other.predictions["val"] == right.predictions["val"]
    assert same_weights(tmp_path / "right", tmp_path / "other")


def test_test_masks_that_would_prefer_another_step_change_no_localiser(
    masked: Path, tmp_path: Path
) -> None:
    wrong = inverted(read_export(masked).items("test"), tmp_path / "masks")
    right = train("localisation", masked, tmp_path / "right", "val")
    by_test = train("localisation", masked, tmp_path / "by-test", "val", val=wrong)
    assert by_test.selected_step < right.selected_step, "or nothing would be planted"
    other = train("localisation", masked, tmp_path / "other", "val", test=wrong)
    assert other.selected_step == right.selected_step
    assert other.predictions["val"] == right.predictions["val"]
    assert same_weights(tmp_path / "right", tmp_path / "other")


@pytest.mark.parametrize("task", ["classification", "localisation"])
def test_both_is_the_last_step_with_the_choice_of_val_beside_it(
    task: str, masked: Path, tmp_path: Path
) -> None:
    """Val is labelled so that an early step is best on it."""
    items = read_export(masked).items("val")
    wrong = rotated(items) if task == "classification" else inverted(items, tmp_path / "masks")
    last, val, both = (train(task, masked, tmp_path / s, s, val=wrong) for s in SELECT)
    steps = last.steps
    assert last.selected_step == both.selected_step == steps and val.selected_step < steps
    assert last.val_chosen is None and val.val_chosen is None and both.val_chosen is not None
    assert both.predictions == last.predictions != val.predictions
    assert both.val_chosen.step == val.selected_step
    assert both.val_chosen.predictions == val.predictions
    assert same_weights(tmp_path / "last", tmp_path / "both")
    if task == "localisation":
        pictures = [tmp_path / s / "maps-test/test0.png" for s in ("last", "both", "val")]
        content = [picture.read_bytes() for picture in pictures]
        assert content[0] == content[1] != content[2]


def test_a_detector_is_chosen_on_val_alone(
    masked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores on val are planted: the third of seven checks is best."""
    looked: list[int] = []

    def scored(predictions, targets, n):
        looked.append(len(targets))
        return {"map50": 0.9 if len(looked) == 3 else 0.1}

    monkeypatch.setattr(by_step, "detection_metrics", scored)
    few = read_export(masked).items("test")[:4]
    both = train("detection", masked, tmp_path / "both", "both", test=few)
    assert looked == [9] * 7, "val has nine images, test four"
    assert both.checks == [(k, 0.9 if k == 3 else 0.1) for k in range(1, 8)]
    assert both.selected_step == 7 and both.val_chosen is not None and both.val_chosen.step == 3
    assert len(both.val_chosen.predictions["test"]) == len(both.predictions["test"]) == 4
    assert both.val_chosen.predictions["val"] != both.predictions["val"]


def test_both_are_reported_for_every_task(masked: Path, tmp_path: Path) -> None:
    config = TINY.model_copy(
        update={
            "tasks": ("detection", "classification", "localisation"), "select": "both",
            "arms": ("real",), "detection_steps": 2, "classification_steps": 3,
            "localisation_steps": 3,
        }
    )  # fmt: skip
    report = read_report(run_experiment(masked, tmp_path, config))
    for run in plan_runs(read_export(masked), tmp_path, config):
        result = json.loads((run.folder / "result.json").read_text())
        chosen = result["val_chosen"]
        assert 1 <= chosen["step"] <= result["steps"] == result["selected_step"]
        checks = dict(result["checks"])
        assert list(checks) == list(range(1, result["steps"] + 1))
        assert checks[chosen["step"]] == max(checks.values())
        assert chosen["metrics"].keys() == result["metrics"].keys() == {"val", "test"}
        assert chosen["metrics"]["test"].keys() == result["metrics"]["test"].keys()
        assert ("threshold" in chosen) == (run.task == "detection")
        for split in ("val", "test"):
            rows = [
                json.loads((run.folder / f"predictions-{split}{end}.json").read_text())
                for end in ("", "-val-chosen")
            ]
            assert len(rows[0]) == len(rows[1]) == 9
        seen = report["levelled"][run.task].get("real")
        assert seen is None if run.task == "detection" else seen["by"] == "checks"
        found = report["results"][run.task]["real"]["val_chosen"]
        primary = report["primary"][run.task]
        assert found["steps"] == [chosen["step"]]
        assert found["metrics"][primary]["mean"] == chosen["metrics"]["test"][primary]


def test_a_choice_is_part_of_the_key_and_none_is_not(masked: Path, tmp_path: Path) -> None:
    def keys(select: str) -> dict[str, str]:
        config = TINY.model_copy(
            update={
                "select": select, "tasks": ("detection", "classification", "localisation"),
            }
        )  # fmt: skip
        return {run.name: run.key for run in plan_runs(read_export(masked), tmp_path, config)}

    last, val, both = keys("last"), keys("val"), keys("both")
    for name in last:
        assert len({last[name], val[name], both[name]}) == 3
    assert "select" not in TINY.training_settings("classification")
