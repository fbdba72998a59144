"""A detector that learned drawn defects, made by one command and gone on from."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import augment

from augmentor.cli.errors import EXIT_USAGE, EXIT_WEIGHTS
from augmentor.workflows.alone import working_on
from augmentor.workflows.project import open_project
from downstream.config import ExperimentConfig
from downstream.detectors import yolo
from downstream.runs import _start


def said(output: str) -> Path:
    return Path(json.loads(output[output.index("{") :])["run"])


def test_a_detector_is_pretrained_once_and_can_be_gone_on_from(tmp_path: Path) -> None:
    folder = tmp_path / "drawn"
    arguments = ("weights", "pretrain", folder, "--per-class", "4", "--steps", "2", "--json")
    code, output = augment(*arguments)
    assert code == 0, output
    run = said(output)
    settings = json.loads((run / "config.json").read_text())["settings"]
    assert settings["detection_steps"] == 2 and settings["detector"] == "yolo11n"
    about = json.loads((run / "model.json").read_text())
    assert about["classes"] == ["crack", "edge_chip", "pit", "scratch", "stain"]
    start = yolo.resolve_start(str(run), True, None)
    assert start.run == run and start.weights is not None and start.weights.is_file()

    finished = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    code, again = augment(*arguments)
    assert code == 0 and said(again) == run, again
    assert again[again.index("{") :] == output[output.index("{") :]
    assert finished == {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}

    with working_on(folder, "weights pretrain"):
        other = [
            sys.executable,
            "-m",
            "augmentor",
            *map(str, arguments),
            "--task",
            "classification",
        ]
        second = subprocess.run(other, capture_output=True, text=True, check=False)
    assert second.returncode == 3
    assert f"is at work on {folder}; when it has ended, type the same again" in second.stdout

    short = ("--per-class", "4", "--steps", "2", "--json", "--task")
    for task, metric in (("classification", "macro_f1"), ("localisation", "pixel_ap")):
        code, output = augment("weights", "pretrain", folder, *short, task)
        assert code == 0, output
        made = json.loads(output[output.index("{") :])
        assert made["metric"] == metric and 0 <= made["score"] <= 1
        settings = ExperimentConfig(**{made["setting"]: made["run"]})
        assert _start(settings, task) == (Path(made["run"]) / "weights.safetensors", said(output))

    project = tmp_path / "parts"
    project.mkdir()
    own = (
        "name: parts\nclasses: [pit]\nsource: {path: /data}\n"
        "evaluate: {tasks: [detection]}  # boxes are all we have\n"
    )
    (project / "augment.yaml").write_text(own)
    code, output = augment("weights", "use", tmp_path / "parts", "--project", project)
    assert code == 3 and f"augment weights pretrain {tmp_path / 'parts'}" in output
    assert (project / "augment.yaml").read_text() == own
    (project / "augment.yaml").write_text(own.replace("{tasks", "{pretrained: false, tasks"))
    code, output = augment("weights", "use", folder, "--project", project)
    assert code == 3 and "evaluate.pretrained is false" in output
    (project / "augment.yaml").write_text(own)
    code, output = augment("weights", "use", folder, "--project", project, "--json")
    assert code == 0, output
    starts = json.loads(output[output.index("{") :])
    evaluate = open_project(project).config.evaluate
    assert starts["detector"] == str(run) == evaluate.detector
    assert starts["localiser"] == made["run"] == evaluate.localiser
    assert "classifier" in starts and evaluate.tasks == ("detection",)
    assert "# boxes are all we have" in (project / "augment.yaml").read_text()

    code, output = augment("weights", "pretrain", folder, "--per-class", "5")
    assert code == 4 and "already holds a sample dataset made with other settings" in output


@pytest.mark.parametrize(
    ("task", "named", "code", "why"),
    [
        ("classification", "resnet99", EXIT_USAGE, "resnet99"),
        ("detection", "yolo99z", EXIT_WEIGHTS, "ultralytics knows no model 'yolo99z'"),
        ("localisation", "nets/mine", EXIT_WEIGHTS, "nets/mine is not there"),
    ],
)
def test_a_network_that_there_is_not_is_said_before_anything_is_drawn(
    tmp_path: Path, task: str, named: str, code: int, why: str
) -> None:
    folder = tmp_path / "drawn"
    option = {"classification": "--classifier"}.get(task, "--detector")
    found, output = augment("weights", "pretrain", folder, "--task", task, option, named)
    assert (found, why in " ".join(output.split())) == (code, True), output
    assert not (folder / "photos").exists()
