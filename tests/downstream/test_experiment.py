"""Runs are reused, survive a SIGKILL, and fail alone."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image
from small_export import write_export

from downstream import experiment
from downstream.config import ExperimentConfig
from downstream.dataset import read_export
from downstream.errors import RunError, SettingsError
from downstream.experiment import read_report, run_experiment
from downstream.report import format_table
from downstream.report_file import all_reports
from downstream.runs import pin_threads, plan_runs

SETTINGS: dict[str, Any] = {
    "seeds": 2,
    "detection_steps": 4,
    "detection_px": 64,
    "detection_batch": 2,
    "classification_steps": 6,
    "classification_px": 32,
    "classification_batch": 6,
    "bootstrap_samples": 100,
    "device": "cpu",
}
CLASSIFY = {**SETTINGS, "tasks": ["classification"]}

CHILD = """
import json, sys
from pathlib import Path
from downstream.config import ExperimentConfig
from downstream.experiment import run_experiment
run_experiment(Path(sys.argv[1]), Path(sys.argv[2]), ExperimentConfig(**json.loads(sys.argv[3])))
"""


def start(export: Path, out: Path, settings: dict[str, Any]) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, str(export), str(out), json.dumps(settings)]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def numbers(report: dict[str, Any]) -> dict[str, Any]:
    return {key: report[key] for key in ("verdict", "results", "differences", "counts", "notes")}


def test_both_tasks_end_to_end(blobs: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    config = ExperimentConfig(**{**SETTINGS, "seeds": 1})
    path = run_experiment(blobs, tmp_path, config, on_progress=lambda *each: told.append(each))
    report = read_report(path)
    assert path == tmp_path / "report.json" and report["schema"] == 2
    assert report["arms"] == ["real", "mixed"] and report["baseline"] == "real"
    assert report["counts"]["train"]["mixed"]["synthetic"] == 12
    assert [run["state"] for run in report["runs"]] == ["done"] * 4
    assert {run["steps"] for run in report["runs"] if run["task"] == "detection"} == {4}
    assert told[-1][1:] == (20, 20) and told[0] == ("detection real seed 0", 1, 20)
    notes = " ".join(report["notes"])
    assert "100 resamples are too few to call one of 2 classes or arms better or worse" in notes
    assert "One seed alone" in notes and "from scratch" in notes and "Few defects on test" in notes
    assert notes.count("of the steps drew real images alone") == 2, "both by default"
    table = format_table(report)
    assert "| mixed | 8    | 12 " in table and table.startswith(report["verdict"])
    for run in plan_runs(read_export(blobs), tmp_path, config):
        assert (run.folder / "predictions-test.json").is_file()
        assert json.loads((run.folder / "config.json").read_text())["key"] == run.key
    told.clear()
    again = read_report(
        run_experiment(blobs, tmp_path, config, on_progress=lambda *each: told.append(each))
    )
    assert told == [] and {run["state"] for run in again["runs"]} == {"reused"}
    assert numbers(again) == numbers(report)


def test_killed_and_started_again(blobs: Path, tmp_path: Path) -> None:
    settings = {**CLASSIFY, "seeds": 1, "arms": ["mixed", "real"], "classification_steps": 40}
    whole = read_report(run_experiment(blobs, tmp_path / "whole", ExperimentConfig(**settings)))
    out = tmp_path / "killed"
    child = start(blobs, out, settings)
    until = time.monotonic() + 120
    while not list(out.glob("runs/*/result.json")) and time.monotonic() < until:
        assert child.poll() is None, child.communicate()[0]
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    finished = {p: p.stat().st_mtime_ns for p in out.glob("runs/*/result.json")}
    assert len(finished) == 1 and not (out / "report.json").exists()
    second = start(blobs, out, settings)
    assert second.wait(timeout=200) == 0, second.communicate()[0]
    report = read_report(out / "report.json")
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert [run["state"] for run in report["runs"]].count("reused") == len(finished)
    assert numbers(report) == numbers(whole)


def test_defects_below_a_pixel_are_named(tmp_path: Path) -> None:
    folder = write_export(tmp_path / "export", real=4, held_out=2)
    lines = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    thin = [line for line in lines if line["class"] == "bar" and line["kind"] == "real"]
    for line in thin:
        x1, y1, x2, _ = line["boxes"][0][1:]
        line["boxes"][0][1:] = [x1, y1, x2, y1 + 1]  # 1 px of 64 or 88
    (folder / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    def notes(px: int) -> str:
        config = ExperimentConfig(**{**CLASSIFY, "seeds": 1, "classification_px": px})
        return " ".join(read_report(run_experiment(folder, tmp_path / str(px), config))["notes"])

    said = notes(32)
    assert f"so that little or nothing is left of them: bar {len(thin)};" in said
    assert "raise evaluate.classification_px in augment.yaml" in said
    assert "narrower than a pixel" not in notes(96)


def test_every_look_at_test_is_counted(blobs: Path, tmp_path: Path) -> None:
    def notes(steps: int) -> str:
        config = ExperimentConfig(**{**CLASSIFY, "seeds": 1, "classification_steps": steps})
        return " ".join(read_report(run_experiment(blobs, tmp_path, config))["notes"])

    assert "had test measured" not in notes(3)
    assert "had test measured" not in notes(3)
    assert "2 other trainings beside these" in notes(4)


def test_a_report_takes_the_place_of_one_that_says_no_more(blobs: Path, tmp_path: Path) -> None:
    def reports() -> list[list[str]]:
        return [json.loads(path.read_text())["arms"] for path in all_reports(tmp_path)]

    settings = {**CLASSIFY, "seeds": 1, "with_good": True}
    for arms in (["real"], ["real", "mixed"], ["real", "mixed"]):
        run_experiment(blobs, tmp_path, ExperimentConfig(**settings, arms=arms))
    assert reports() == [["real", "mixed"]]
    run_experiment(blobs, tmp_path, ExperimentConfig(**settings, arms=["real"]))
    assert reports() == [["real"], ["real", "mixed"]], "the one with more is kept"
    (kept,) = (tmp_path / "reports").iterdir()
    assert (kept / "report.html").is_file() and read_report(kept)["arms"] == ["real", "mixed"]
    (tmp_path / "report.json").write_text("{")
    run_experiment(blobs, tmp_path, ExperimentConfig(**settings, arms=["mixed"]))
    assert reports() == [["mixed"], ["real", "mixed"]], "from a damaged one nothing is lost"


def test_images_that_no_label_fits_are_counted(
    make_export: Callable[..., Path], tmp_path: Path
) -> None:
    folder, name = make_export(), "mixed-synthetic0"
    lines = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    changed = next(line for line in lines if line["id"] == name)
    changed["boxes"].append([1 - changed["boxes"][0][0], 0, 0, 5, 5])
    (folder / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    label = folder / changed["label"]
    label.write_text(label.read_text() + "1 0.03 0.03 0.05 0.05\n")
    config = ExperimentConfig(**{**CLASSIFY, "seeds": 1})
    report = read_report(run_experiment(folder, tmp_path / "out", config))
    assert "were not given to classifiers: 1." in " ".join(report["notes"])


def test_a_failing_run_fails_alone(
    blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from downstream.detectors import resnet

    fit = resnet._fit

    def fail_once(model, pixels, targets, real, config, seed, *more):
        if len(pixels) == 20 and seed == 1:
            raise ValueError("the disk is on fire")
        return fit(model, pixels, targets, real, config, seed, *more)

    monkeypatch.setattr(resnet, "_fit", fail_once)
    config = ExperimentConfig(**CLASSIFY)
    with pytest.raises(RunError, match=r"1 of 4 runs failed \(classification mixed seed 1\).*fire"):
        run_experiment(blobs, tmp_path, config)
    report = read_report(tmp_path / "report.json")
    assert [run["state"] for run in report["runs"]] == ["done", "done", "done", "failed"]
    assert report["verdict"].startswith("1 of 4 runs failed.")
    assert report["results"]["classification"]["mixed"]["seeds"] == [0]
    assert "on fire" in report["failed"][0] and "on fire" in (tmp_path / "report.html").read_text()
    monkeypatch.setattr(resnet, "_fit", fit)
    report = read_report(run_experiment(blobs, tmp_path, config))
    assert [run["state"] for run in report["runs"]] == ["reused"] * 3 + ["done"]
    assert report["failed"] == []


def test_side_by_side(tmp_path: Path, make_export: Callable[..., Path]) -> None:
    """Two processes; an image of one arm vanishes between the check and the training."""
    folder = make_export(arms={"real": 0, "mixed": 4})
    config = ExperimentConfig(**{**CLASSIFY, "seeds": 1})
    alone = read_report(run_experiment(folder, tmp_path / "1", config))
    gone = folder / "images/train/mixed-synthetic0.png"
    at_once = config.model_copy(update={"jobs": 2})

    todo = plan_runs(read_export(folder), tmp_path / "2", at_once)
    results: dict[str, dict[str, Any]] = {}
    failed: dict[str, str] = {}
    export = read_export(folder)
    gone.unlink()
    progress = experiment._Progress(todo, at_once, None)
    experiment._side_by_side(todo, export, at_once, progress, results, failed)
    assert list(failed) == [todo[1].key] and list(results) == [todo[0].key]
    assert "mixed seed 0 failed" in failed[todo[1].key]
    assert "can't be read as an image" in failed[todo[1].key]
    assert progress.done == {run.key: 6 for run in todo}
    accuracy = results[todo[0].key]["metrics"]["test"]["accuracy"]
    theirs = alone["results"]["classification"]["real"]["metrics"]["accuracy"]["mean"]
    assert accuracy == pytest.approx(theirs, abs=0.25)  # other thread counts round differently


def test_trainings_end_with_a_killed_parent(blobs: Path, tmp_path: Path) -> None:
    settings = {**CLASSIFY, "seeds": 1, "jobs": 2, "classification_steps": 100_000}
    parent = start(blobs, tmp_path, settings)
    until = time.monotonic() + 120
    while len(list(tmp_path.glob("runs/*/log.txt"))) < 2 and time.monotonic() < until:
        assert parent.poll() is None, parent.communicate()[0]
        time.sleep(0.05)
    trainings = [
        p for p in psutil.Process(parent.pid).children() if "spawn_main" in str(p.cmdline())
    ]
    assert len(trainings) == 2
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    _, left = psutil.wait_procs(trainings, timeout=20)
    for process in left:
        process.kill()
    assert not left


def test_key_depends_on_what_is_trained_on(
    make_export: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_export()
    config = ExperimentConfig(**SETTINGS)

    def keys(**more: object) -> dict[str, str]:
        settings = ExperimentConfig(**{**SETTINGS, **more})
        return {r.name: r.key for r in plan_runs(read_export(folder), tmp_path, settings)}

    base = keys()
    assert len(base) == 8 and len(set(base.values())) == 8
    assert keys(jobs=2, bootstrap_samples=500) == base
    finished = keys(detection_finish_on_real=0.3, classification_finish_on_real=0.3)
    of_mixed = {name for name in base if " mixed " in name}
    assert {name for name in base if finished[name] != base[name]} == of_mixed
    other = keys(detection_steps=5)
    assert other["classification real seed 0"] == base["classification real seed 0"]
    assert other["detection real seed 0"] != base["detection real seed 0"]
    label = folder / "labels/train/mixed-synthetic0.txt"
    label.write_text(label.read_text() + "\n")
    changed = keys()
    assert changed["detection real seed 0"] == base["detection real seed 0"]
    assert changed["detection mixed seed 0"] != base["detection mixed seed 0"]
    assert config.arms is None
    weights = tmp_path / "torch/hub/checkpoints/resnet18-f37072fd.pth"
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    assert keys() == changed
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"of ImageNet")
    found = keys()
    assert {name for name in found if found[name] != changed[name]} == {
        name for name in found if name.startswith("classification")
    }, "what starts from them is compared with nothing that started at random"
    own = tmp_path / "small.yaml"
    own.write_text("backbone: []\n")
    of_own = keys(detector=str(own))
    own.write_text("backbone: []  # and a head\n")
    edited = keys(detector=str(own))
    assert edited["detection real seed 0"] != of_own["detection real seed 0"]
    assert edited["classification real seed 0"] == found["classification real seed 0"]


def test_settings_that_do_not_fit(make_export: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_export()
    with pytest.raises(SettingsError, match="no arm 'full'; it has real, mixed"):
        run_experiment(folder, tmp_path, ExperimentConfig(**SETTINGS, arms=["real", "full"]))
    header = json.loads((folder / "export.json").read_text())
    (folder / "export.json").write_text(json.dumps({**header, "task": "classify"}))
    only = ExperimentConfig(**{**SETTINGS, "tasks": ["detection"]})
    with pytest.raises(SettingsError, match="image-level labels alone"):
        run_experiment(folder, tmp_path, only)
    config = ExperimentConfig(**{**SETTINGS, "seeds": 1, "arms": ["mixed"]})
    report = read_report(run_experiment(folder, tmp_path, config))
    assert report["tasks"] == ["classification"] and report["baseline"] is None
    assert "detection was not evaluated" in report["notes"][0]
    assert report["verdict"] == "There is no arm real to compare with."


def test_one_class_alone_is_not_classified(make_export: Callable[..., Path]) -> None:
    """Refused before hours of training, not by the metrics after them."""
    folder = make_export()
    only = read_export(folder).model_copy(update={"classes": ("dot",)})
    config = ExperimentConfig(**{**SETTINGS, "with_good": False})
    fitted, notes = experiment.fit_to_export(config, only)
    assert fitted.tasks == ("detection",) and "one class alone" in notes[0]
    with pytest.raises(SettingsError, match="nothing to tell apart; set tasks to detection"):
        experiment.fit_to_export(config.model_copy(update={"tasks": ("classification",)}), only)
    fitted, notes = experiment.fit_to_export(config.model_copy(update={"with_good": True}), only)
    assert "classification" in fitted.tasks and not notes


def test_clean_images_that_a_classifier_is_not_asked_about_are_no_part_of_its_report(
    blobs: Path, tmp_path: Path
) -> None:
    config = ExperimentConfig(**{**CLASSIFY, "seeds": 1, "with_good": False})
    report = read_report(run_experiment(blobs, tmp_path, config))
    assert report["results"]["classification"]["real"]["labels"] == ["dot", "bar"]
    matrix = report["results"]["classification"]["real"]["confusion_matrix"]
    assert sum(map(sum, matrix)) == 6, "of nine test images three are clean"


def test_what_no_held_out_photograph_can_tell_is_not_evaluated(
    make_export: Callable[..., Path],
) -> None:
    """Refused before hours of training, not by the metrics after them."""
    tasks = ("detection", "classification", "localisation")
    config = ExperimentConfig(**{**SETTINGS, "tasks": tasks})
    masked = make_export(task="segment")
    assert experiment.fit_to_export(config, read_export(masked))[0].tasks == tasks

    def of_test(keep: Callable[[Any], bool]) -> Any:
        whole = read_export(masked)
        items = tuple(i for i in whole.all_items if i.split != "test" or keep(i))
        return whole.model_copy(update={"all_items": items})

    fitted, notes = experiment.fit_to_export(config, of_test(lambda i: i.class_name == "dot"))
    assert fitted.tasks == ("detection", "localisation")
    assert "The photographs of test show one class alone" in notes[0]
    full = of_test(lambda i: i.mask is not None)
    for item in full.items("test"):
        Image.new("L", (item.width, item.height), 255).save(item.mask)
    fitted, notes = experiment.fit_to_export(config, full)
    assert fitted.tasks == ("detection", "classification")
    assert "Defects fill every photograph of test" in notes[0]
    only = config.model_copy(update={"tasks": ("localisation",)})
    with pytest.raises(SettingsError, match="Nothing is left to evaluate: Defects fill"):
        experiment.fit_to_export(only, full)


def test_images_that_a_classifier_is_not_given_are_no_part_of_its_key(
    make_export: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_export()
    config = ExperimentConfig(**{**CLASSIFY, "seeds": 1, "arms": ["mixed"]})
    whole = read_export(folder)
    (before,) = plan_runs(whole, tmp_path, config)
    first = next(i for i in whole.all_items if i.kind == "synthetic")
    both = first.model_copy(update={"boxes": ((0, 0, 0, 5, 5), (1, 5, 5, 9, 9))})
    items = tuple(both if i.id == first.id else i for i in whole.all_items)
    without = tuple(i for i in whole.all_items if i.id != first.id)
    (beside,), (left_out,) = (
        plan_runs(whole.model_copy(update={"all_items": each}), tmp_path, config)
        for each in (items, without)
    )
    assert beside.key == left_out.key != before.key


def test_every_run_has_the_same_threads_whatever_ran_before(monkeypatch) -> None:
    import torch

    before = torch.get_num_threads()
    try:
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        for left_behind in (1, 2):
            torch.set_num_threads(left_behind)  # as ultralytics leaves it
            pin_threads(jobs=1)
            assert torch.get_num_threads() == 2
        pin_threads(jobs=4)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
