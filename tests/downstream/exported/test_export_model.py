"""augment export-model, as a user types it, on a small project with a real evaluation."""

import json
import shutil
from pathlib import Path

import pytest
from helpers import augment

from augmentor.cli.errors import EXIT_DATA, EXIT_PROJECT
from downstream.config import ExperimentConfig
from downstream.experiment import run_experiment
from downstream.predict import load_model

CONFIG = ExperimentConfig(
    tasks=("classification",),
    arms=("real",),
    seeds=(0, 2),
    bootstrap_samples=100,
    classification_steps=6,
    classification_px=40,
    classification_batch=8,
    device="cpu",
)


@pytest.fixture(scope="module")
def project(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export-model") / "blobs"
    shutil.copytree(blobs, folder / "evaluation/export")
    (folder / "augment.yaml").write_text(
        "name: blobs\nclasses: [dot, bar]\nsource: {path: /photos}\n"
    )
    run_experiment(folder / "evaluation/export", folder / "evaluation", CONFIG)
    return folder


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads on a busy machine are slower than one."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def folder_of(project: Path, arm: str, seed: int) -> Path:
    runs = json.loads((project / "evaluation/report.json").read_text())["runs"]
    (line,) = [line for line in runs if (line["arm"], line["seed"]) == (arm, seed)]
    return project / "evaluation" / line["folder"]


def test_a_run_by_its_name(project: Path) -> None:
    code, output = augment(
        "export-model", "classification/real/2", "--onnx", "--project", project, "--json"
    )
    assert code == 0, output
    said = json.loads(output[output.index("{") :])
    path = project / "exports/onnx/classification-real-seed2.onnx"
    assert said["path"] == str(path) and said["opset"] == 18
    assert said["parity"]["differences"]["probabilities"] < 1e-4
    assert said["recorded"]["images"] == 9 and said["latency"]["repeats"] == 50
    run = json.loads(load_model(path).session.get_modelmeta().custom_metadata_map["run"])
    own = json.loads((folder_of(project, "real", 2) / "result.json").read_text())
    assert run["key"] == own["key"]


def test_a_run_by_its_folder_and_what_is_printed(project: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.onnx"
    folder = folder_of(project, "real", 0)
    for name in (folder, folder.name, "classification/real"):
        code, output = augment("export-model", name, "--out", out, "--project", project)
        assert code == 0, output
        assert f"Written: {out}" in output
        assert "Against torch: probabilities within" in output
        assert "onnxruntime is" in output and "p95 ms" in output
    assert load_model(out).card.classes == ("dot", "bar", "good")


@pytest.mark.parametrize(
    ("run", "said"),
    [
        ("detection/real", "there are classification/real:"),
        ("classification/real/7", "there are classification/real/0, classification/real/2"),
        ("classification/real/x", "there are classification/real/0, classification/real/2"),
        ("nonsense", "augment export-model classification/real --onnx"),
    ],
)
def test_no_such_run(project: Path, run: str, said: str) -> None:
    code, output = augment("export-model", run, "--onnx", "--project", project)
    assert code == EXIT_PROJECT
    assert f"There is no run '{run}'" in output and said in output


def test_before_any_evaluation(project: Path, tmp_path: Path) -> None:
    shutil.copy(project / "augment.yaml", tmp_path)
    code, output = augment("export-model", "detection/real", "--onnx", "--project", tmp_path)
    assert code == EXIT_PROJECT
    assert "train and measure first: augment evaluate" in output


def test_an_unfinished_run(project: Path, tmp_path: Path) -> None:
    copy = tmp_path / "blobs"
    shutil.copytree(project, copy)
    (folder_of(copy, "real", 0) / "result.json").unlink()
    code, output = augment("export-model", "classification/real", "--onnx", "--project", copy)
    assert code == EXIT_DATA
    assert "is not finished; finish it: augment evaluate" in output
    assert not (copy / "exports/onnx/classification-real-seed0.onnx").exists()


def test_a_network_that_does_not_fit_its_description(project: Path, tmp_path: Path) -> None:
    copy = tmp_path / "blobs"
    shutil.copytree(project, copy)
    about = folder_of(copy, "real", 0) / "model.json"
    about.write_text(about.read_text().replace("resnet18", "resnet50"))
    code, output = augment("export-model", "classification/real", "--onnx", "--project", copy)
    assert code == EXIT_DATA
    assert "does not fit its model.json" in output
