"""Where a detector starts: at random, from a file, or from a run that saw no val or test image."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from downstream.config import STARTS, ExperimentConfig, Task
from downstream.dataset import Export, read_export
from downstream.detectors import resnet, yolo
from downstream.detectors.networks import bare_detector
from downstream.errors import LeakError, RunError, WeightsError
from downstream.files import read_json
from downstream.runs import Run, execute, plan_runs

TINY = ExperimentConfig(
    detection_steps=7,
    detection_px=64,
    detection_batch=3,
    classification_steps=4,
    classification_px=32,
    classification_batch=4,
    localisation_steps=4,
    localisation_px=64,
    localisation_batch=4,
    localisation_width=4,
    precision="fp32",
    device="cpu",
)


def test_unknown_and_missing_detector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsError, match="ultralytics knows no model 'yolo99z'"):
        yolo.resolve_start("yolo99z", True, None)
    with pytest.raises(WeightsError, match="is not on disk; put it there"):
        yolo.resolve_start("mine.pt", True, tmp_path)
    mine = tmp_path / "mine.pt"
    mine.write_bytes(b"weights")
    assert yolo.resolve_start("mine.pt", True, tmp_path) == yolo.Start(str(mine), mine)
    assert yolo.resolve_start("mine", True, tmp_path).weights == mine
    assert yolo.resolve_start("yolo11n", True, tmp_path) == yolo.Start("yolo11n.yaml")
    with pytest.raises(WeightsError, match="holds no finished detector; set detector to the"):
        yolo.resolve_start(str(tmp_path), True, None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "yolo11n").mkdir()  # called like a model, and none of ours
    assert yolo.resolve_start("yolo11n", True, None) == yolo.Start("yolo11n.yaml")


@pytest.mark.parametrize("task", list(STARTS))
@pytest.mark.parametrize("name", ["/nowhere/drawn/runs/run-1", "~/nowhere/run-1", "runs/run-1"])
def test_a_start_that_is_gone_is_said_before_anything_is_trained(
    blobs: Path, tmp_path: Path, task: Task, name: str
) -> None:
    with pytest.raises(WeightsError, match=r"run-1 is not there.*augment weights use FOLDER"):
        planned(blobs, tmp_path, tasks=(task,), **{STARTS[task][0]: name})


def planned(export: Path, out: Path, **more: object) -> tuple[Export, ExperimentConfig, Run]:
    """The one run on the arm `real` of an export, of detection unless `more` says otherwise, in
    steps too few to learn in."""
    settings = {"tasks": ("detection",), "arms": ("real",), "seeds": (0,), "measure": "val", **more}
    config = TINY.model_copy(update=settings)
    whole = read_export(export, config.measure)
    (run,) = plan_runs(whole, out, config)
    return whole, config, run


def test_a_detector_goes_on_from_an_earlier_run(
    any_export: Callable[..., Path], blobs: Path, tmp_path: Path
) -> None:
    """Its layers are the earlier run's where nothing is learnt; what that run and the one before
    it have seen is known, and may not be of val or test."""
    whole, config, first = planned(any_export(tmp_path / "first", seed=1), tmp_path / "one")
    execute(first, whole, config)
    still = {"detector": str(first.folder), "detection_lr": 1e-12}
    whole, config, second = planned(blobs, tmp_path / "two", **still)
    assert read_json(second.folder / "result.json") == {}
    result = execute(second, whole, config)
    assert not result["from_scratch"] and str(first.folder) in result["weights"]
    ours, theirs = (load_file(run.folder / "weights.safetensors") for run in (second, first))
    learnt = [name for name in ours if name.endswith(("conv.weight", "bn.bias"))]
    assert len(learnt) > 100
    for name in learnt:
        assert torch.allclose(ours[name], theirs[name], atol=1e-5), name
    assert json.loads((second.folder / "model.json").read_text())["source"] == "yolo11n.yaml"

    _, _, scratch = planned(blobs, tmp_path / "two")
    _, _, never = planned(blobs, tmp_path / "two", detector=str(first.folder), pretrained=False)
    assert scratch.inputs["weights"] is None and "seen" not in scratch.inputs
    assert never.inputs["weights"] is None
    assert second.inputs["weights"] and len(second.inputs["seen"]) == 8

    moved = shutil.copytree(first.folder, tmp_path / "elsewhere" / first.folder.name)
    _, _, same = planned(blobs, tmp_path / "two", **{**still, "detector": str(moved)})
    assert same.key == second.key, "what was trained from it is not trained again"

    swapped = any_export(
        tmp_path / "swapped", seed=1, arms={"real": 0}
    )  # what was trained on is now held out
    lines = (swapped / "manifest.jsonl").read_text()
    for before, after in (("train", "kept"), ("val", "train"), ("kept", "val")):
        lines = lines.replace(f'"split": "{before}"', f'"split": "{after}"')
    (swapped / "manifest.jsonl").write_text(lines)
    for folder in (first.folder, second.folder):
        with pytest.raises(LeakError, match=r"has learned from .*, which is in val here; set"):
            planned(swapped, tmp_path / "three", detector=str(folder))


def change(export: Path, how: Callable[[dict], dict]) -> Path:
    """Every line of an export's manifest, changed."""
    manifest = export / "manifest.jsonl"
    lines = [how(json.loads(line)) for line in manifest.read_text().splitlines()]
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return export


def test_what_samples_were_made_from_was_learnt_from(
    any_export: Callable[..., Path], tmp_path: Path
) -> None:
    """A run on samples alone knows the photographs that they were made from, and so does whatever
    goes on from it."""
    ours = any_export(tmp_path / "ours", arms={"real": 0, "synthetic": 4})
    change(ours, lambda line: {**line, "arms": line["arms"] or ["real"]})
    task = {"tasks": ("classification",), "classification_adjust": False}
    whole, config, first = planned(ours, tmp_path / "one", arms=("synthetic",), **task)
    execute(first, whole, config)
    onward = {"arms": ("synthetic",), "classifier": str(first.folder), **task}
    whole, config, second = planned(ours, tmp_path / "two", **onward)
    execute(second, whole, config)

    other = any_export(tmp_path / "other", seed=1, arms={"real": 0})
    names = {"val0": "train0", "train0": "val0"}  # what they were made from is now held out
    change(other, lambda line: {**line, "id": names.get(line["id"], line["id"])})
    for run in (first, second):
        with pytest.raises(LeakError, match=r"has learned from val0.png, which is in val here"):
            planned(other, tmp_path / "three", classifier=str(run.folder), **task)


def test_a_detector_of_other_classes_lends_all_but_its_last_layer(
    blobs: Path, tmp_path: Path
) -> None:
    whole, config, run = planned(blobs, tmp_path / "one")
    execute(run, whole, config)
    start = yolo.resolve_start(str(run.folder), True, None)
    before = yolo._trained_before(start)
    assert before is not None and before.names == {0: "dot", 1: "bar"}
    more = bare_detector({"source": start.model, "yaml": before.yaml, "classes": "abcde"})
    more.load(before, verbose=False)
    ours, theirs = more.state_dict(), before.state_dict()
    other = {name for name in ours if ours[name].shape != theirs[name].shape}
    assert other and all(".cv3." in name for name in other)
    assert torch.equal(ours["model.0.conv.weight"], theirs["model.0.conv.weight"])

    about = json.loads((run.folder / "model.json").read_text())
    (run.folder / "model.json").write_text(json.dumps(about | {"classes": ["a", "b", "c"]}))
    with pytest.raises(WeightsError, match=r"weights.safetensors does not fit its model.json"):
        yolo._trained_before(start)
    (run.folder / "config.json").unlink()
    with pytest.raises(WeightsError, match="does not say what the detector was trained on"):
        planned(blobs, tmp_path / "two", detector=str(run.folder))


@pytest.fixture
def masked(any_export: Callable[..., Path], tmp_path: Path) -> Path:
    return any_export(tmp_path / "masked", task="segment")


def renamed(export: Path, *classes: str) -> Path:
    """The export with classes of other names, in the order of its labels."""
    header = json.loads((export / "export.json").read_text())
    lines = (export / "manifest.jsonl").read_text()
    for before, after in zip(header["classes"], classes, strict=True):
        lines = lines.replace(f'"class": "{before}"', f'"class": "{after}"')
    (export / "manifest.jsonl").write_text(lines)
    (export / "export.json").write_text(json.dumps(header | {"classes": classes}))
    return export


@pytest.mark.parametrize(
    ("task", "head"), [("classification", "fc."), ("localisation", "nothing.")]
)
def test_the_other_networks_go_on_from_an_earlier_run(
    any_export: Callable[..., Path], masked: Path, tmp_path: Path, task: Task, head: str
) -> None:
    setting, usual = STARTS[task]
    before = any_export(tmp_path / "before", seed=1, task="segment")
    whole, config, first = planned(before, tmp_path / "one", tasks=(task,))
    assert execute(first, whole, config)["from_scratch"]
    still = {"tasks": (task,), f"{task}_lr": 1e-12, setting: str(first.folder)}
    whole, config, second = planned(masked, tmp_path / "two", **still)
    result = execute(second, whole, config)
    assert not result["from_scratch"] and str(first.folder) in result["weights"]
    assert read_json(second.folder / "model.json")["source"] == usual
    ours, theirs = (load_file(run.folder / "weights.safetensors") for run in (second, first))
    learnt = [
        name
        for name in ours
        if not name.startswith(head) and not name.endswith(("_mean", "_var", "_tracked"))
    ]
    assert len(learnt) > 20
    for name in learnt:
        assert torch.allclose(ours[name], theirs[name], atol=1e-5), name

    _, _, never = planned(masked, tmp_path / "two", **still, pretrained=False)
    assert never.inputs["weights"] is None and never.key != second.key
    # where good ends and defects begin was chosen on val, so that has been learned from as well
    assert len(second.inputs["seen"]) == (8 + 9 if task == "classification" else 8)
    with pytest.raises(WeightsError, match=f"holds no finished {setting}; set {setting} to the"):
        planned(masked, tmp_path / "two", **{**still, setting: str(tmp_path)})
    (first.folder / "config.json").unlink()
    with pytest.raises(WeightsError, match=f"does not say what the {setting} was trained on"):
        planned(masked, tmp_path / "three", **still)


def test_a_classifier_takes_over_the_rows_of_classes_that_both_know(
    any_export: Callable[..., Path], blobs: Path, tmp_path: Path
) -> None:
    before = renamed(any_export(tmp_path / "before", seed=1), "scratch", "dot")
    whole, config, first = planned(before, tmp_path / "one", tasks=("classification",))
    execute(first, whole, config)
    still = {"classifier": str(first.folder), "classification_lr": 1e-12}
    still["classification_adjust"] = False
    whole, config, second = planned(blobs, tmp_path / "two", tasks=("classification",), **still)
    execute(second, whole, config)
    ours, theirs = (
        load_file(r.folder / "weights.safetensors")["fc.weight"] for r in (second, first)
    )
    # dot, bar, good beside scratch, dot, good
    assert torch.allclose(ours[0], theirs[1], atol=1e-5)
    assert torch.allclose(ours[2], theirs[2], atol=1e-5)
    assert not torch.allclose(ours[1], theirs[0], atol=1e-2)


def test_a_localiser_of_another_width_is_refused(masked: Path, tmp_path: Path) -> None:
    whole, config, run = planned(masked, tmp_path / "one", tasks=("localisation",))
    execute(run, whole, config)
    wider = {"localiser": str(run.folder), "localisation_width": 8}
    whole, config, other = planned(masked, tmp_path / "two", tasks=("localisation",), **wider)
    with pytest.raises(RunError, match="a U-Net with width 4; set localisation_width to 4"):
        execute(other, whole, config)


def test_a_typing_error_is_no_folder() -> None:
    with pytest.raises(
        ValidationError, match="must be resnet18, resnet34, resnet50, or the folder"
    ):
        ExperimentConfig(classifier="resnet19")
    with pytest.raises(ValidationError, match="must be unet, or the folder of an earlier run"):
        ExperimentConfig(localiser="u-net")
    assert ExperimentConfig(classifier="runs/a").classifier == "runs/a"


def test_what_an_earlier_val_chose_for_good_is_not_taken_over(
    any_export: Callable[..., Path], blobs: Path, tmp_path: Path
) -> None:
    task = {"tasks": ("classification",)}
    whole, config, first = planned(any_export(tmp_path / "first", seed=1), tmp_path / "one", **task)
    execute(first, whole, config)
    model, keys = first.folder / "model.json", []
    saved = load_file(first.folder / "weights.safetensors")["fc.bias"]
    for shift in (0.0, 2.5):
        model.write_text(json.dumps(read_json(model) | {"good_shift": shift}))
        _, config, second = planned(blobs, tmp_path / "two", classifier=str(first.folder), **task)
        network, _, _ = resnet._build(config, ("dot", "bar", "good"), seed=0)
        taken = (saved - network.fc.bias.detach()).tolist()
        assert taken == pytest.approx([0, 0, shift], abs=1e-6)
        keys.append(second.key)
    assert keys[0] != keys[1]
