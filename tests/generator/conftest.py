"""Tiny real examples and recipes that the generator's tests share."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from generator.config import Recipe
from generator.records import DefectExample, Instance

CLASSES = ("pit", "scratch")

TINY = {
    "name": "tiny",
    "backbone": {"kind": "compact", "channels": [16, 32], "norm_groups": 8, "head_width": 16},
    "conditioning": {"kind": "class_mask_background"},
    "tuning": {"kind": "full"},
    "objective": {"kind": "flow"},
    "crops": {"size_px": 32, "least_px": 32, "whole_image_px": 32},
    "training": {
        "steps": 8,
        "batch_size": 4,
        "warmup_steps": 2,
        "checkpoint_every": 3,
        "log_every": 2,
        "sheet_every": 8,
    },
    "sampling": {"steps": 4, "batch_size": 3},
}


def write_examples(
    folder: Path, *, defects: int = 3, clean: int = 2, grey: bool = True, instances: bool = True
) -> list[DefectExample]:
    """Non-square noise surfaces, `defects` a class with a dark pit or a bright scratch."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(5)
    made = []
    for k in range(defects * len(CLASSES) + clean):
        name = CLASSES[k % 2] if k < defects * len(CLASSES) else "good"
        height, width = 48 + 4 * k, 96 - 5 * k
        pixels = rng.normal(128, 12, (height, width, 1 if grey else 3)).clip(0, 255)
        box = (10, 12, 22, 20) if name == "pit" else (5, 14, 45, 18)
        x1, y1, x2, y2 = box
        if name != "good":
            pixels[y1:y2, x1:x2] = 30 if name == "pit" else 240
        path = folder / f"{k}.png"
        cv2.imwrite(str(path), pixels.astype(np.uint8))
        mask = folder / f"{k}_mask.png"
        cv2.imwrite(str(mask), np.full((y2 - y1, x2 - x1), 255, np.uint8))
        sha = hashlib.sha256(path.read_bytes()).hexdigest()
        instance = Instance(class_name=name, box_xyxy=box, mask_path=mask, mask_kind="exact")
        made.append(
            DefectExample(
                id=sha[:16],
                sha256=sha,
                image_path=path,
                source_path=path,
                width=width,
                height=height,
                grey=grey,
                label=name,
                instances=(instance,) if instances and name != "good" else (),
                split="train",
            )
        )
    return made


@pytest.fixture
def tiny_classes() -> tuple[str, ...]:
    """The classes of `tiny_examples`."""
    return CLASSES


@pytest.fixture
def tiny_examples(tmp_path: Path) -> Callable[..., list[DefectExample]]:
    """A maker of examples; see `write_examples`."""
    return lambda **how: write_examples(tmp_path / f"examples-{len(json.dumps(how))}", **how)


@pytest.fixture
def tiny_recipe() -> Callable[..., Recipe]:
    """A maker of recipes: `TINY`, with sections overlaid."""

    def make(**sections: dict) -> Recipe:
        content = json.loads(json.dumps(TINY))
        for section, values in sections.items():
            content[section] = content[section] | values if isinstance(values, dict) else values
        return Recipe.model_validate(content)

    return make
