"""The way through the diffusion generator, with a network small enough for a test."""

import json
from collections import Counter
from pathlib import Path

import cv2
import pytest
import yaml
from helpers import augment

from augmentor.cli.errors import EXIT_DATA
from generator.config import load_recipe

SMALL = {
    "name": "small",
    "backbone": {"channels": [16, 32]},
    "crops": {"size_px": 32, "whole_image_px": 32},
    "training": {"steps": 4, "batch_size": 4, "checkpoint_every": 2, "keep_checkpoints": 1},
    "sampling": {"steps": 2, "batch_size": 4},
}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """`compact`, made small."""
    content = load_recipe("compact").model_dump(mode="json")
    for key, value in SMALL.items():
        content[key] = {**content[key], **value} if isinstance(value, dict) else value
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def manifest(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def test_train_then_sample_then_build(project, recipe):
    folder = project()
    config = yaml.safe_load((folder / "augment.yaml").read_text())
    config["recipe"] = str(recipe)
    off = {"class_agreement", "realism", "memorisation", "seam"}
    config["filters"] = {
        "mask": {"least_fill": 0.0, "least_contrast": 0.0, "most_leak": 1.0},
        "quality": {rule: {"enabled": False} for rule in off},
    }
    (folder / "augment.yaml").write_text(yaml.safe_dump(config))

    code, output = augment("train", "--project", folder)
    assert code == 0, output
    assert (folder / "generator" / "small" / "weights.safetensors").is_file()
    assert "Nothing to do" in augment("train", "--project", folder)[1]

    code, output = augment("sample", "-n", "5", "--project", folder)
    assert code == 0, output
    assert len(manifest(folder / "pool" / "small")) == 5
    before = {line["id"] for line in manifest(folder / "pool" / "small")}

    # sampling goes by what the recipe says now, and nothing is trained for it
    weights = (folder / "generator" / "small" / "weights.safetensors").stat().st_mtime_ns
    own = folder / "recipes" / "small.yaml"
    changed = yaml.safe_load(own.read_text())
    changed["sampling"]["strength"] = 0.9
    own.write_text(yaml.safe_dump(changed))
    code, output = augment("build", "--ratio", "0.5", "--project", folder, "--json")
    assert code in (0, 7), output
    lines = [line for line in manifest(folder / "dataset") if line["split"] == "train"]
    made = [line for line in lines if line["kind"] == "synthetic"]
    assert made
    assert not before & {line["id"] for line in made}
    assert (folder / "generator" / "small" / "weights.safetensors").stat().st_mtime_ns == weights
    assert {line["generator"] for line in made} == {"small"}
    assert all(line["source_ids"] for line in made)

    kept = ("sample", "-n", "1", "--generator", "small@2", "--project", folder)
    code, output = augment(*kept)
    assert code == 0, output
    changed["training"]["batch_size"] = 3
    own.write_text(yaml.safe_dump(changed))
    code, output = augment(*kept)
    assert code == EXIT_DATA and "augment train small" in output, "it may know val or test images"


def test_class_folders_give_whole_images_and_classification_alone(photos, tmp_path, recipe):
    source = tmp_path / "by_class"
    for number, path in enumerate(sorted((photos / "test").rglob("*.png"))):
        target = source / path.parent.name / f"{number}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(target), cv2.imread(str(path)))
    folder = tmp_path / "project"
    code, output = augment("import", source, "--name", "folders", "--project", folder)
    assert code == 0, output
    assert "Layout folders" in output
    config = yaml.safe_load((folder / "augment.yaml").read_text())
    config["evaluate"] = {"seeds": 1, "classification_steps": 2, "classification_px": 32}
    (folder / "augment.yaml").write_text(yaml.safe_dump(config))

    code, output = augment(
        "build", "--ratio", "0.5", "--generator", str(recipe), "--project", folder
    )
    assert code == 0, output
    assert "No filter judged" in output and "since labels are image-level" in output
    train = [line for line in manifest(folder / "dataset") if line["split"] == "train"]
    kinds = Counter(line["kind"] for line in train if line["class"] != "good")
    assert kinds["real"] == kinds["synthetic"] > 0
    assert {line["width"] for line in train if line["kind"] == "synthetic"} == {32}

    code, output = augment("evaluate", "--project", folder)
    assert code == 0, output
    report = json.loads((folder / "evaluation" / "report.json").read_text())
    assert report["tasks"] == ["classification"]
    assert any("classif" in note.lower() for note in report["notes"])
    assert report["arms"] == ["real", "classical", "mixed"], "nothing can be cut out and pasted"
    assert "No defect's place is known, so there is no arm copy-paste." in report["notes"]
