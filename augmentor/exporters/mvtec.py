"""MVTec AD: good parts to train on, good and faulty ones to test, a mask for each fault."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from augmentor.errors import ExportError, SourceError
from augmentor.exporters.collect import Wanted, hash_of, manifest_line, provenance
from augmentor.exporters.folder import check_folder_names, copy_image
from augmentor.items import Item
from generator.files import sha256_of_file, write_lines
from generator.records import GOOD

TOP_LEVEL = {"train", "test", "validation", "train_defects", "validation_defects"}
TOP_LEVEL |= {"ground_truth", "train_defects_ground_truth", "validation_defects_ground_truth"}


def write_mvtec(folder: Path, wanted: Wanted) -> None:
    """Fill `folder` with MVTec AD's tree, every image as PNG, since its readers know no other.

    The layout has no place for faulty training images, and a reader that found some in `train`
    would take them for good ones. They, and the validation split, stand beside the tree:
    `train_defects/<class>` and `validation_defects/<class>`, each with its `..._ground_truth`,
    and `validation/good`.

    Raises:
        ExportError: an instance has no mask, or a class can't be the name of a folder.
    """
    if wanted.task == "classify":
        raise ExportError(
            "The images have labels only, and the MVTec layout is made of masks; type `augment "
            "export --format folders`."
        )
    check_folder_names(wanted)
    for place in ("train/good", "test/good"):
        (folder / place).mkdir(parents=True)
    lines = []
    for item, arms in wanted.items():
        place, truth = _places(item)
        image, label = f"{place}/{item.id}.png", None
        (folder / place).mkdir(parents=True, exist_ok=True)
        _write_png(item, folder / image)
        if item.label != GOOD:
            label = f"{truth}/{item.id}_mask.png"
            (folder / truth).mkdir(parents=True, exist_ok=True)
            Image.fromarray(_full_mask(item)).save(folder / label)
        line = manifest_line(item, arms, wanted.classes) | {"image": image, "label": label}
        copied = item.image_path.suffix.lower() == ".png"
        digest = hash_of(item, folder / image) if copied else sha256_of_file(folder / image)
        lines.append(line | {"sha256": digest, "provenance": provenance(item)})
    write_lines(folder / "manifest.jsonl", lines)


def _places(item: Item) -> tuple[str, str]:
    """Folder of the image, and of its mask."""
    if item.split == "test":
        return f"test/{item.label}", f"ground_truth/{item.label}"
    split = "train" if item.split == "train" else "validation"
    if item.label == GOOD:
        return f"{split}/good", ""
    return f"{split}_defects/{item.label}", f"{split}_defects_ground_truth/{item.label}"


def _write_png(item: Item, target: Path) -> None:
    if item.image_path.suffix.lower() == ".png":
        copy_image(item.image_path, target)
        return
    image = cv2.imread(str(item.image_path), cv2.IMREAD_UNCHANGED)
    if image is None or not cv2.imwrite(str(target), image):
        raise SourceError(f"{item.image_path} can't be read; run `augment import` again.")


def _full_mask(item: Item) -> np.ndarray:
    """All instances of an image in one mask, uint8, 0 or 255."""
    full = np.zeros((item.height, item.width), np.uint8)
    for label in item.labels:
        if label.mask is None:
            break
        x1, y1, x2, y2 = label.box_xyxy
        full[y1:y2, x1:x2][label.mask] = 255
    else:
        if full.any():
            return full
    raise ExportError(
        f"Image {item.id} has a defect without a mask, and the MVTec layout is made of masks; "
        "type `augment export --format coco` or `--format folders`."
    )
