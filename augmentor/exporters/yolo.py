"""YOLO folders: what detectors are trained on, and what `augment export --format yolo` writes."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import yaml

from augmentor.errors import ExportError
from augmentor.exporters.collect import (
    SPLITS,
    Task,
    Wanted,
    hash_of,
    image_name,
    manifest_line,
    provenance,
)
from augmentor.exporters.folder import HEADER, copy_image, link_image
from augmentor.exporters.polygons import mask_to_polygon, overlap, yolo_line
from augmentor.items import Item
from generator.files import write_json, write_lines

APPROXIMATE = (
    "Some masks are missing or were only proposed from boxes, so the labels are boxes, not "
    "polygons."
)
NO_PLACE = "The images have labels, but no place of the defect is known: classification only."


def write_training(folder: Path, wanted: Wanted) -> None:
    """Fill `folder` with a training export (docs/formats.md)."""
    task = wanted.task
    own_notes = {"segment": (), "detect": (APPROXIMATE,), "classify": (NO_PLACE,)}[task]
    _write(folder, wanted, task, for_training=True)
    content = {
        "schema": 1,
        "name": wanted.name,
        "classes": list(wanted.classes),
        "task": task,
        "arms": list(wanted.arms),
        "notes": [*wanted.notes, *own_notes],
    }
    write_json(folder / HEADER, content)


def write_yolo(folder: Path, wanted: Wanted, task: Task) -> None:
    """Fill `folder` with a plain YOLO dataset.

    Raises:
        ExportError: the dataset has no boxes, or polygons are asked for and masks are missing.
    """
    if wanted.task == "classify":
        raise ExportError(
            "The images have labels only, no boxes; type `augment export --format folders`."
        )
    _write(folder, wanted, task, for_training=False)


def _write(folder: Path, wanted: Wanted, task: Task, for_training: bool) -> None:
    with_masks = for_training and task == "segment"
    for kind in ("images", "labels", *(["masks"] if with_masks else [])):
        for split in SPLITS:
            (folder / kind / split).mkdir(parents=True)
    lines = []
    for item, arms in wanted.items():
        name = image_name(item)
        image = f"images/{item.split}/{name}"
        label = f"labels/{item.split}/{item.id}.txt"
        (link_image if for_training else copy_image)(item.image_path, folder / image)
        outlines = _outlines(item) if task == "segment" else []
        text = _label_text(item, wanted, task, outlines)
        (folder / label).write_text(text, encoding="utf-8")
        line = manifest_line(item, arms, wanted.classes)
        line |= {"image": image, "label": label, "sha256": hash_of(item, folder / image)}
        if for_training:
            line["mask"] = _write_mask(folder, item) if with_masks else None
        else:
            line["provenance"] = provenance(item)
            if task == "segment":
                line["least_overlap"] = _least_overlap(item, outlines)
        lines.append(line)
    write_lines(folder / "manifest.jsonl", lines)
    # Without `path`, ultralytics takes the folder of the file itself: an export can be moved.
    data = {split: f"images/{split}" for split in SPLITS}
    text = yaml.safe_dump(data | {"names": dict(enumerate(wanted.classes))}, sort_keys=False)
    (folder / "data.yaml").write_text(text, encoding="utf-8")


def _outlines(item: Item) -> list[np.ndarray]:
    """The outline of each of an image's defects, in pixels of its box."""
    outlines = []
    for label in item.labels:
        if label.mask is None:
            raise ExportError(
                f"Image {item.id} has a box without a mask, so there is no polygon of it; "
                "type `augment export --format yolo`."
            )
        outlines.append(mask_to_polygon(label.mask))
    return outlines


def _label_text(item: Item, wanted: Wanted, task: Task, outlines: Sequence[np.ndarray]) -> str:
    if task == "classify":
        return ""
    lines = []
    for number, label in enumerate(item.labels):
        index = wanted.classes.index(label.class_name)
        x1, y1, x2, y2 = label.box_xyxy
        if task == "detect":
            centre = ((x1 + x2) / 2 / item.width, (y1 + y2) / 2 / item.height)
            size = ((x2 - x1) / item.width, (y2 - y1) / item.height)
            lines.append(" ".join([str(index), *(f"{v:.7f}" for v in (*centre, *size))]))
        else:
            lines.append(yolo_line(index, outlines[number] + (x1, y1), item.width, item.height))
    return "".join(line + "\n" for line in lines)


def _least_overlap(item: Item, outlines: Sequence[np.ndarray]) -> float:
    """The worst agreement of a defect's outline with its mask; 1 without defects."""
    pairs = zip(item.labels, outlines, strict=True)
    shares = [overlap(x.mask, outline) for x, outline in pairs if x.mask is not None]
    return round(min(shares, default=1.0), 3)


def _write_mask(folder: Path, item: Item) -> str | None:
    """Write the union of an image's instances, 0 and 255, full size; its path, or None for a clean
    image."""
    if not item.labels:
        return None
    union = np.zeros((item.height, item.width), np.uint8)
    for label in item.labels:
        x1, y1, x2, y2 = label.box_xyxy
        assert label.mask is not None  # the task is `segment`, and the label was written above
        union[y1:y2, x1:x2][label.mask] = 255
    mask = f"masks/{item.split}/{item.id}.png"
    (folder / mask).write_bytes(cv2.imencode(".png", union)[1].tobytes())
    return mask
