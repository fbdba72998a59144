"""COCO: `annotations/instances_<split>.json` beside one folder of images a split."""

from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from augmentor.errors import ExportError
from augmentor.exporters.collect import (
    SPLITS,
    Wanted,
    hash_of,
    image_name,
    manifest_line,
    provenance,
)
from augmentor.exporters.folder import copy_image
from augmentor.items import Item, Label
from generator.files import write_json, write_lines


def write_coco(folder: Path, wanted: Wanted) -> None:
    """Fill `folder`; masks are run-length encoded, so that they come back bit by bit.

    Category ids start at 1, as COCO's own do; image ids count through all splits.

    Raises:
        ExportError: the dataset has no boxes.
    """
    if wanted.task == "classify":
        raise ExportError(
            "The images have labels only, no boxes; type `augment export --format folders`."
        )
    (folder / "annotations").mkdir()
    images: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    annotations: dict[str, list[dict[str, Any]]] = {split: [] for split in SPLITS}
    for split in SPLITS:
        (folder / split).mkdir()
    lines, number = [], 0
    for image_id, (item, arms) in enumerate(wanted.items(), 1):
        image = f"{item.split}/{image_name(item)}"
        copy_image(item.image_path, folder / image)
        images[item.split].append(_image(item, image_id))
        for label in item.labels:
            number += 1
            annotations[item.split].append(_annotation(number, image_id, item, label, wanted))
        line = manifest_line(item, arms, wanted.classes)
        line |= {"image": image, "label": f"annotations/instances_{item.split}.json"}
        line |= {"sha256": hash_of(item, folder / image), "provenance": provenance(item)}
        lines.append(line)
    categories = [
        {"id": k, "name": name, "supercategory": "defect"}
        for k, name in enumerate(wanted.classes, 1)
    ]
    for split in SPLITS:
        content = {
            "info": {"description": wanted.name, "notes": list(wanted.notes)},
            "licenses": [],
            "categories": categories,
            "images": images[split],
            "annotations": annotations[split],
        }
        write_json(folder / "annotations" / f"instances_{split}.json", content)
    write_lines(folder / "manifest.jsonl", lines)


def _image(item: Item, image_id: int) -> dict[str, Any]:
    return {
        "id": image_id,
        "file_name": image_name(item),
        "width": item.width,
        "height": item.height,
        "kind": item.kind,
        "label": item.label,
    }


def _annotation(
    number: int, image_id: int, item: Item, label: Label, wanted: Wanted
) -> dict[str, Any]:
    x1, y1, x2, y2 = label.box_xyxy
    annotation: dict[str, Any] = {
        "id": number,
        "image_id": image_id,
        "category_id": 1 + wanted.classes.index(label.class_name),
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1),
        "iscrowd": 0,
        "mask_kind": label.mask_kind,
    }
    if label.mask is not None:
        full = np.zeros((item.height, item.width), np.uint8, order="F")
        full[y1:y2, x1:x2] = label.mask
        encoded = coco_mask.encode(full)
        counts = encoded["counts"].decode("ascii")
        annotation["segmentation"] = {"size": [item.height, item.width], "counts": counts}
        annotation["area"] = int(label.mask.sum())
    return annotation
