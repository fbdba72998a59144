"""A class that is only ever the smaller defect on an image of another class."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import augment
from PIL import Image

from augmentor.cli.errors import EXIT_SHORT

H, W = 96, 144
PLACES = {"stain": (20, 10, 70, 50), "pit": (100, 60, 114, 72)}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """COCO: ten plates with a large stain and a small pit on each, six clean ones."""
    folder, images, annotations = tmp_path / "photos", [], []
    folder.mkdir()
    for k in range(16):
        pixels = np.random.default_rng(k).normal(150, 4, (H, W, 1)).repeat(3, axis=2)
        images.append({"id": k, "file_name": f"{k}.png", "width": W, "height": H})
        for category, (x1, y1, x2, y2) in enumerate(PLACES.values(), 1):
            if k < 10:
                pixels[y1:y2, x1:x2] -= 60
                corners = [x1, y1, x2, y1, x2, y2, x1, y2]
                annotations.append(
                    {"id": len(annotations), "image_id": k, "category_id": category,
                     "bbox": [x1, y1, x2 - x1, y2 - y1], "segmentation": [corners],
                     "area": (x2 - x1) * (y2 - y1), "iscrowd": 0}
                )  # fmt: skip
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{k}.png")
    categories = [{"id": k, "name": name} for k, name in enumerate(PLACES, 1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


def test_it_is_pasted_and_what_cannot_be_copied_whole_is_said(photos, tmp_path):
    here = ("--project", tmp_path / "project")
    code, output = augment("import", photos, "--name", "smaller", *here)
    assert code == 0, output
    yaml = tmp_path / "project/augment.yaml"
    looks = ("class_agreement", "realism", "memorisation", "seam")  # ten plates are too alike
    off = ", ".join(f"{rule}: {{enabled: false}}" for rule in looks)
    yaml.write_text(yaml.read_text() + f"filters: {{quality: {{{off}}}}}\n")
    code, output = augment("build", "--ratio", "0.5", "--generator", "copy-paste", *here)
    lines = (tmp_path / "project/dataset/manifest.jsonl").read_text().splitlines()
    made = [line for line in map(json.loads, lines) if line["kind"] == "synthetic"]
    assert {line["class"] for line in made} == {"pit"}, output
    assert "Nothing can be made" not in output
    code, output = augment("build", "--ratio", "0.5", "--generator", "classical", *here)
    assert code == EXIT_SHORT
    assert "Nothing of 'pit' can be copied by classical, since on train images it is only" in output
