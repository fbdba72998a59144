"""A short real training of each task, once, and the ONNX file of each."""

import json
from pathlib import Path

import pytest

from downstream.config import ExperimentConfig
from downstream.experiment import run_experiment
from downstream.onnx import export_onnx
from downstream.onnx_check import measured_images

TINY = ExperimentConfig(
    tasks=["detection", "classification", "localisation"],
    seeds=1,
    arms=["mixed"],
    detection_steps=90,
    detection_px=64,
    detection_batch=4,
    detection_lr=0.01,
    classification_steps=20,
    classification_px=40,
    classification_batch=12,
    localisation_steps=20,
    localisation_px=64,
    localisation_batch=6,
    localisation_width=8,
    precision="fp32",
    bootstrap_samples=100,
    device="cpu",
)


@pytest.fixture(scope="session")
def trained(masked: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of finished runs, by task."""
    out = tmp_path_factory.mktemp("trained")
    report = json.loads(run_experiment(masked, out, TINY).read_text())
    return {line["task"]: out / line["folder"] for line in report["runs"]}


@pytest.fixture(scope="session")
def exported(trained: dict[str, Path], masked: Path, tmp_path_factory: pytest.TempPathFactory):
    """What `export_onnx` returned, by task."""
    out = tmp_path_factory.mktemp("exported")
    return {
        task: export_onnx(
            folder, out / f"{task}.onnx", measured_images(folder, masked, 64), repeats=5
        )
        for task, folder in trained.items()
    }
