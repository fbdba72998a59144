"""Trials see val alone: test may be gone, and nothing in it can change what comes out."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from downstream.config import ExperimentConfig
from downstream.dataset import read_export
from downstream.errors import ExportError, LeakError, SettingsError
from downstream.experiment import run_experiment
from downstream.localisation import count_pixels
from downstream.outcomes import defect_outcomes
from downstream.runs import Run, plan_runs
from downstream.trials import run_trials

SETTINGS: dict[str, Any] = {
    "tasks": ["classification"],
    "seeds": 1,
    "detection_steps": 2,
    "detection_px": 64,
    "detection_batch": 2,
    "classification_steps": 3,
    "classification_px": 32,
    "classification_batch": 4,
    "localisation_steps": 2,
    "localisation_px": 64,
    "localisation_batch": 2,
    "bootstrap_samples": 100,
    "device": "cpu",
}
TRIAL = {**SETTINGS, "measure": "val"}


def without_test(folder: Path) -> None:
    for kind in ("images", "labels", "masks"):
        shutil.rmtree(folder / kind / "test", ignore_errors=True)


@pytest.mark.parametrize("task", ["classification", "detection", "localisation"])
def test_trials_do_without_the_files_of_test(
    make_export: Callable[..., Path], tmp_path: Path, task: str
) -> None:
    folder = make_export(arms={"real": 0, "mixed": 4}, task="segment")
    without_test(folder)
    config = ExperimentConfig(**{**TRIAL, "tasks": [task]})
    trials = run_trials(folder, tmp_path, config, "real")
    assert list(trials.done) == ["real", "mixed"] and not trials.failed and not trials.left
    assert trials.done["real"].gain is None
    mixed = trials.done["mixed"]
    assert mixed.gain is not None and mixed.gain.low <= mixed.gain.difference <= mixed.gain.high
    assert mixed.gain.difference == pytest.approx(mixed.value - trials.done["real"].value, abs=1e-6)
    assert not list(tmp_path.glob("runs/*/*test*"))
    for result in map(json.loads, (p.read_text() for p in tmp_path.glob("runs/*/result.json"))):
        assert list(result["metrics"]) == ["val"]
    with pytest.raises(ExportError, match="images/test"):
        run_experiment(folder, tmp_path, ExperimentConfig(**SETTINGS))


def test_nothing_in_test_can_change_a_trial(
    make_export: Callable[..., Path], tmp_path: Path
) -> None:
    """A planted choice by test: its labels are turned into each other, and the keys and values of
    every trial stay what they were."""
    folder = make_export(arms={"real": 0, "mixed": 4})
    config = ExperimentConfig(**TRIAL)
    honest = run_trials(folder, tmp_path, config, "real")
    lines = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    turned = {"dot": "bar", "bar": "dot", "good": "good"}
    for line in lines:
        if line["split"] == "test":
            line["class"] = turned[line["class"]]
            line["boxes"] = [[1 - c, *box] for c, *box in line["boxes"]]
    (folder / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("runs/*/result.json")}
    assert run_trials(folder, tmp_path, config, "real") == honest
    assert {p: p.stat().st_mtime_ns for p in tmp_path.glob("runs/*/result.json")} == before


def test_a_run_on_val_never_passes_for_a_full_one(blobs: Path, tmp_path: Path) -> None:
    on_val, full = ExperimentConfig(**TRIAL), ExperimentConfig(**SETTINGS)
    keys = {r.key for r in plan_runs(read_export(blobs, "val"), tmp_path, on_val)}
    assert keys.isdisjoint(r.key for r in plan_runs(read_export(blobs), tmp_path, full))
    with pytest.raises(SettingsError, match="only augment loop chooses on val"):
        run_experiment(blobs, tmp_path, on_val)
    with pytest.raises(SettingsError, match="measures val alone"):
        run_trials(blobs, tmp_path, full, "real")
    with pytest.raises(SettingsError, match="incumbent 'best' is none of real, mixed"):
        run_trials(blobs, tmp_path, on_val, "best")


def test_a_leak_from_test_is_refused_although_test_is_not_read(
    make_export: Callable[..., Path],
) -> None:
    folder = make_export()
    manifest = folder / "manifest.jsonl"
    manifest.write_text(manifest.read_text().replace('["train0"]', '["test0"]'))
    without_test(folder)
    with pytest.raises(LeakError, match="was made from test0, which is in test"):
        read_export(folder, "val")


def test_the_budget_is_asked_before_each_training(blobs: Path, tmp_path: Path) -> None:
    config = ExperimentConfig(**{**TRIAL, "seeds": 2})
    asked: list[int] = []

    def three(under_way: frozenset[str]) -> bool:
        asked.append(len(under_way))
        return len(under_way) < 3

    first = run_trials(blobs, tmp_path, config, "real", may_train=three)
    assert asked == [0, 1, 2, 3]
    assert list(first.done) == ["real"] and first.left == ("mixed",)
    asked.clear()
    second = run_trials(blobs, tmp_path, config, "real", may_train=lambda keys: True)
    assert list(second.done) == ["real", "mixed"]
    assert second.done["real"] == first.done["real"]


def plant(folder: Path, task: str, rows: list[dict[str, Any]]) -> tuple[Run, dict[str, Any]]:
    folder.mkdir()
    (folder / "predictions-val.json").write_text(json.dumps(rows))
    return Run(task, "real", 0, folder.name, folder, {}), {}  # type: ignore[arg-type]


def test_the_fate_of_each_defect_in_detection(blobs: Path, tmp_path: Path) -> None:
    export = read_export(blobs, "val")
    items = {item.id: item for item in export.items("val")}
    rows = []
    for name, item in items.items():
        row: dict[str, Any] = {"id": name, "boxes": [], "scores": [], "classes": []}
        if name == "val0":  # found, twice over
            row |= {"boxes": [list(item.boxes[0][1:])] * 2, "scores": [0.9, 0.8], "classes": [0, 0]}
        if name == "val1":  # its own class, but under the threshold; another one above
            row |= {"boxes": [list(item.boxes[0][1:])] * 2, "scores": [0.4, 0.7], "classes": [1, 0]}
        if name == "val3":  # right class, elsewhere
            row |= {"boxes": [[0, 0, 3, 3]], "scores": [0.9], "classes": [0]}
        rows.append(row)
    run, _ = plant(tmp_path / "a", "detection", rows)
    found = defect_outcomes(export, [run], {"a": {"threshold": 0.5, "labels": ["dot", "bar"]}})
    fates = {o.image_id: (o.found, o.confused, o.missed) for o in found}
    assert fates["val0"] == (1, 0, 0)
    assert fates["val1"] == (0, 1, 0)
    assert fates["val3"] == fates["val4"] == (0, 0, 1)
    assert set(fates) == {name for name, item in items.items() if item.boxes}
    assert found[0].box == items[found[0].image_id].boxes[0][1:]


def test_the_fate_of_each_image_in_classification_is_shared_by_seeds(
    blobs: Path, tmp_path: Path
) -> None:
    export, labels = read_export(blobs, "val"), ["dot", "bar", "good"]
    runs, results = [], {}
    for seed, guess in (("a", 0), ("b", 2)):
        rows = [
            {"id": i.id, "target": labels.index(i.class_name), "probabilities": np.eye(3)[guess]}
            for i in export.items("val")
        ]
        rows = [{**row, "probabilities": row["probabilities"].tolist()} for row in rows]
        runs.append(plant(tmp_path / seed, "classification", rows)[0])
        results[seed] = {"labels": labels}
    outcomes = {o.image_id: o for o in defect_outcomes(export, runs, results)}
    assert (outcomes["val0"].found, outcomes["val0"].missed) == (0.5, 0.5)
    assert (outcomes["val1"].confused, outcomes["val1"].missed) == (0.5, 0.5)
    assert outcomes["val0"].box is None and "val2" not in outcomes


def test_the_fate_of_each_image_in_localisation(blobs: Path, tmp_path: Path) -> None:
    export = read_export(blobs, "val")
    rows = []
    for item in export.items("val"):
        mask = np.zeros((40, 60), dtype=bool)
        scores = np.full(mask.shape, 0.1, dtype=np.float32)
        if item.boxes:
            mask[10:20, 10:30] = True
            share = 15 if item.id == "val0" else 30 if item.id == "val1" else 12
            scores[10:20, 10:share] = 0.9
        rows.append(
            {"id": item.id, "class": item.class_name, "score": 0.5, **count_pixels(scores, mask)}
        )
    run, _ = plant(tmp_path / "a", "localisation", rows)
    outcomes = {o.image_id: o for o in defect_outcomes(export, [run], {"a": {}})}
    assert outcomes["val1"].found == 1  # all of it
    assert outcomes["val0"].missed == outcomes["val3"].missed == 1  # a quarter, a tenth
