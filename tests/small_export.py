"""A small training export, made on the fly: coloured blobs on noise, never square."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from downstream.files import sha256_of_file

CLASSES = ("dot", "bar")
COLOURS = ((220, 60, 60), (60, 60, 220))


def paint(rng: np.random.Generator, width: int, height: int, kind: int | None):
    """A grey noise image and its boxes: a red square dot (0), a blue bar (1) or nothing (None)."""
    image = rng.normal(120, 8, (height, width, 1)).repeat(3, axis=2)
    boxes = []
    if kind is not None:
        w, h = ((16, 16), (36, 10))[kind]
        x, y = int(rng.integers(0, width - w)), int(rng.integers(0, height - h))
        image[y : y + h, x : x + w] = COLOURS[kind]
        boxes.append([kind, x, y, x + w, y + h])
    return image.clip(0, 255).astype(np.uint8), boxes


def write_export(
    folder: Path,
    *,
    arms: dict[str, int] | None = None,
    real: int = 8,
    held_out: int = 9,
    seed: int = 0,
    task: str = "detect",
) -> Path:
    """Write an export with `real` real training images, `held_out` in val and in test, and for
    each arm the given number of synthetic images besides. With the task `segment` there are
    masks, which fill the boxes, and the label files hold polygons."""
    rng = np.random.default_rng(seed)
    arms = {"real": 0, "mixed": 12} if arms is None else arms
    lines = []

    def add(name: str, split: str, defect: int | None, **more: object) -> None:
        width, height = (96, 64) if rng.random() < 0.5 else (72, 88)
        image, boxes = paint(rng, width, height, defect)
        path, label = folder / f"images/{split}/{name}.png", folder / f"labels/{split}/{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        label.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
        text = "".join(
            f"{c} {(x1 + x2) / 2 / width} {(y1 + y2) / 2 / height} "
            f"{(x2 - x1) / width} {(y2 - y1) / height}\n"
            for c, x1, y1, x2, y2 in boxes
        )
        mask = None
        if task == "segment" and boxes:
            mask = f"masks/{split}/{name}.png"
            drawn = np.zeros((height, width), np.uint8)
            for _, x1, y1, x2, y2 in boxes:
                drawn[y1:y2, x1:x2] = 255
            (folder / mask).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(drawn).save(folder / mask)
            text = "".join(
                f"{c} " + " ".join(f"{x / width} {y / height}" for x in (x1, x2) for y in (y1, y2))
                + "\n"
                for c, x1, y1, x2, y2 in boxes
            )  # fmt: skip
        label.write_text(text)
        record = {
            "id": name,
            "image": str(path.relative_to(folder)),
            "label": str(label.relative_to(folder)),
            "mask": mask,
            "split": split,
            "kind": "real",
            "generator": None,
            "class": "good" if defect is None else CLASSES[defect],
            "boxes": boxes,
            "width": width,
            "height": height,
            "sha256": sha256_of_file(path),
            "source_ids": [],
            "arms": [],
        }
        lines.append({**record, **more})

    for split, count in (("train", real), ("val", held_out), ("test", held_out)):
        for k in range(count):
            add(f"{split}{k}", split, (0, 1, None)[k % 3])
    for arm, count in arms.items():
        for k in range(count):
            more = {"kind": "synthetic", "generator": "compact", "arms": [arm]}
            add(f"{arm}-synthetic{k}", "train", k % 2, source_ids=["train0"], **more)
    header = {
        "schema": 1,
        "name": "blobs",
        "classes": list(CLASSES),
        "task": task,
        "arms": list(arms),
        "notes": ["Made by a test."],
    }
    (folder / "export.json").write_text(json.dumps(header))
    (folder / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder
