"""Pascal VOC: an XML file an image, image sets, and palette masks where all masks are known."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from augmentor.errors import ExportError
from augmentor.exporters.collect import (
    SPLITS,
    Wanted,
    hash_of,
    manifest_line,
    provenance,
)
from augmentor.exporters.folder import copy_image
from augmentor.items import Item, class_map
from generator.files import write_lines

FOLDERS = ("JPEGImages", "Annotations", "SegmentationClass", "SegmentationObject")


def write_voc(folder: Path, wanted: Wanted) -> None:
    """Fill `folder` with the tree of VOC2012.

    `ImageSets/Main` holds every image, `ImageSets/Segmentation` those with masks: where every
    defect has an exact one, good parts are among them, all background.

    Images keep their bytes, and all are named .jpg: that is what readers of VOC make of the names
    in an image set, and a picture's kind is read from what it holds (Pillow, OpenCV).

    Boxes are VOC's own: pixels are counted from 1, and the last one belongs to the box. A reader
    that takes the numbers for edges counted from 0 (FiftyOne's) finds them a pixel too far right
    and down at the near corner.

    Raises:
        ExportError: the dataset has no boxes.
    """
    if wanted.task == "classify":
        raise ExportError(
            "The images have labels only, no boxes; type `augment export --format folders`."
        )
    for name in FOLDERS:
        (folder / name).mkdir()
    stems: dict[str, list[str]] = {split: [] for split in SPLITS}
    segmented: dict[str, list[str]] = {split: [] for split in SPLITS}
    masks_known = wanted.task == "segment"
    lines = []
    for item, arms in wanted.items():
        image, annotation = f"JPEGImages/{item.id}.jpg", f"Annotations/{item.id}.xml"
        copy_image(item.image_path, folder / image)
        has_masks = (masks_known or bool(item.labels)) and _write_masks(
            folder, item, wanted.classes
        )
        tree = _tree(item, wanted.name, has_masks)
        ElementTree.indent(tree)
        tree.write(folder / annotation, encoding="unicode")
        stems[item.split].append(item.id)
        segmented[item.split] += [item.id] if has_masks else []
        line = manifest_line(item, arms, wanted.classes) | {"image": image, "label": annotation}
        line |= {"sha256": hash_of(item, folder / image), "provenance": provenance(item)}
        lines.append(line)
    _write_sets(folder / "ImageSets" / "Main", stems)
    if any(segmented.values()):
        _write_sets(folder / "ImageSets" / "Segmentation", segmented)
    write_lines(folder / "manifest.jsonl", lines)


def _write_sets(folder: Path, stems: Mapping[str, Sequence[str]]) -> None:
    folder.mkdir(parents=True)
    for split in SPLITS:
        (folder / f"{split}.txt").write_text("".join(f"{s}\n" for s in stems[split]), "utf-8")


def _tree(item: Item, name: str, segmented: bool) -> ElementTree.ElementTree:
    root = ElementTree.Element("annotation")
    _text(root, "folder", "JPEGImages")
    _text(root, "filename", f"{item.id}.jpg")
    source = ElementTree.SubElement(root, "source")
    _text(source, "database", name)
    _text(source, "image", item.kind)
    size = ElementTree.SubElement(root, "size")
    depth = 1 if item.grey else 3
    for key, value in (("width", item.width), ("height", item.height), ("depth", depth)):
        _text(size, key, value)
    _text(root, "segmented", int(segmented))
    for label in item.labels:
        found = ElementTree.SubElement(root, "object")
        _text(found, "name", label.class_name)
        _text(found, "pose", "Unspecified")
        _text(found, "truncated", 0)
        _text(found, "difficult", 0)
        box = ElementTree.SubElement(found, "bndbox")
        x1, y1, x2, y2 = label.box_xyxy
        for key, edge in (("xmin", x1 + 1), ("ymin", y1 + 1), ("xmax", x2), ("ymax", y2)):
            _text(box, key, edge)
    return ElementTree.ElementTree(root)


def _text(parent: ElementTree.Element, name: str, value: object) -> None:
    ElementTree.SubElement(parent, name).text = str(value)


def _write_masks(folder: Path, item: Item, classes: tuple[str, ...]) -> bool:
    """Write the class and object masks, 0 is background; False where a mask is unknown."""
    painted = class_map(item, classes)
    if painted is None or len(item.labels) > 254:
        return False
    objects = np.zeros_like(painted)
    numbered = enumerate(item.labels, 1)
    for number, label in sorted(numbered, key=lambda pair: -_area(pair[1].mask)):
        x1, y1, x2, y2 = label.box_xyxy
        objects[y1:y2, x1:x2][label.mask] = number
    for name, array in (("SegmentationClass", painted), ("SegmentationObject", objects)):
        picture = Image.fromarray(array, mode="P")
        picture.putpalette(_palette())
        picture.save(folder / name / f"{item.id}.png")
    return True


def _area(mask: np.ndarray | None) -> int:
    return 0 if mask is None else int(mask.sum())


def _palette() -> list[int]:
    """VOC's colours: the bits of the index, spread over red, green and blue from the top down."""
    colours = []
    for index in range(256):
        rgb = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                rgb[channel] |= ((index >> (3 * bit + channel)) & 1) << (7 - bit)
        colours.extend(rgb)
    return colours
