"""Reads a training export (docs/formats.md) and refuses one that would make a result worthless.

A missing label is an error and never 'no defect'; anything of val or test that reaches the
training split is a leak and stops the experiment before it starts.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from downstream.errors import EmptySideError, ExportError, LeakError, SettingsError
from downstream.files import sha256_of_file

GOOD = "good"
"""The image-level label of an image without any defect."""

Split = Literal["train", "val", "test"]
PixelBox = tuple[int, float, float, float, float]


class Item(BaseModel):
    """One line of the export's manifest, with its files' absolute paths.

    `boxes` are (class index, x1, y1, x2, y2) in pixels of the image, half-open. `mask` is the
    union of its instances, 8 bit, 0 and 255; None for a clean image, and where the export has no
    exact masks. Images of one `group` are no independent evidence beside each other.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    id: str
    image: Path
    label: Path
    mask: Path | None = None
    split: Split
    kind: Literal["real", "synthetic"]
    generator: str | None = None
    class_name: str = Field(alias="class")
    boxes: tuple[PixelBox, ...] = ()
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    sha256: str
    source_ids: tuple[str, ...] = ()
    group: str | None = None
    arms: tuple[str, ...] = ()
    label_sha256: str = ""
    mask_sha256: str = ""

    @model_validator(mode="after")
    def _check(self) -> "Item":
        for _, x1, y1, x2, y2 in self.boxes:
            if not (0 <= x1 < x2 <= self.width and 0 <= y1 < y2 <= self.height):
                raise ValueError(
                    f"box {(x1, y1, x2, y2)} is empty or leaves the image "
                    f"({self.width} x {self.height} px)"
                )
        return self

    @property
    def has_one_label(self) -> bool:
        """False of a synthetic image painted beside real defects of another class: no image-level
        label says what it shows. A real one has the label that it came with."""
        return self.kind == "real" or len({box[0] for box in self.boxes}) < 2


class Export(BaseModel):
    """A validated training export.

    `classes` are the defect classes in label order, without `good`. `task` says which labels
    there are: `segment` and `detect` carry boxes, `classify` image-level labels alone.
    """

    model_config = ConfigDict(frozen=True)

    folder: Path
    name: str
    classes: tuple[str, ...]
    task: Literal["segment", "detect", "classify"]
    arms: tuple[str, ...]
    notes: tuple[str, ...]
    all_items: tuple[Item, ...]

    def items(self, split: Split, arm: str | None = None) -> list[Item]:
        """The images of a split, sorted by path; of `train`, only those that `arm` holds.

        Raises:
            SettingsError: the export has no such arm.
        """
        if arm is not None and arm not in self.arms:
            raise SettingsError(f"{self.folder} has no arm {arm!r}, only {', '.join(self.arms)}.")
        chosen = [item for item in self.all_items if item.split == split]
        if arm is not None:
            chosen = [item for item in chosen if not item.arms or arm in item.arms]
        return sorted(chosen, key=lambda item: item.image.as_posix())

    def told_apart(self, with_good: bool) -> tuple[str, ...]:
        """What a classifier tells apart: the defects and, `with_good`, `good` where there are such
        images."""
        good = with_good and any(item.class_name == GOOD for item in self.all_items)
        return (*self.classes, GOOD) if good else self.classes

    def counts(self, items: list[Item]) -> dict[str, object]:
        """How many of `items` are real, synthetic (by which generator), clean, of each class."""
        synthetic = [item for item in items if item.kind == "synthetic"]
        by_class = Counter(item.class_name for item in items)
        return {
            "images": len(items),
            "real": len(items) - len(synthetic),
            "synthetic": len(synthetic),
            "by_generator": dict(sorted(Counter(str(i.generator) for i in synthetic).items())),
            "clean": by_class.get(GOOD, 0),
            "by_class": {name: by_class.get(name, 0) for name in (*self.classes, GOOD)},
            "instances": dict(zip(self.classes, _instances(items, len(self.classes)), strict=True)),
        }


def read_export(folder: Path, measure: Literal["val", "val+test"] = "val+test") -> Export:
    """Read and check a training export.

    Args:
        folder: of the export.
        measure: with `val` the images of the test split are left out: their lines of the manifest
            are checked for leaks, and none of their files is opened.

    Raises:
        ExportError: a file is missing or altered, a line of the manifest doesn't fit, a class or
            arm is unknown, or a split or arm is empty; the sentence names file and line.
        LeakError: one image stands in two splits, val or test hold a synthetic image, or a
            synthetic image was made from one of val or test.
    """
    header = _read_header(folder)
    splits: tuple[Split, ...] = ("train", "val") if measure == "val" else ("train", "val", "test")
    items = _read_manifest(folder, splits)
    try:
        kept = tuple(item for item in items if item.split in splits)
        export = Export(folder=folder.resolve(), all_items=kept, **header)
    except (ValidationError, TypeError) as fault:
        raise ExportError(f"{folder / 'export.json'}: {_first(fault)}.") from None
    _check_labels(export)
    check_leaks(tuple(items))
    _check_sides(export, splits[1:])
    return export


def check_leaks(items: tuple[Item, ...]) -> None:
    """Refuse items of which something stands on both sides of the experiment.

    Raises:
        LeakError: with the first offending image.
    """
    sides: dict[str, tuple[str, str]] = {}
    for item in items:
        if item.split != "train" and item.kind == "synthetic":
            raise LeakError(
                f"{item.split} holds the synthetic image {item.id}; val and test must be real, "
                "so build the export again."
            )
        for key in (f"content {item.sha256}", f"id {item.id}"):
            split, other = sides.setdefault(key, (item.split, item.id))
            if split != item.split:
                raise LeakError(
                    f"{item.image.name} in {item.split} and {other} in {split} share one {key}; "
                    "split the data again, so that no image falls on two sides."
                )
    held_out = {item.id: item.split for item in items if item.split != "train"}
    for item in items:
        for source in item.source_ids:
            if source in held_out:
                raise LeakError(
                    f"The synthetic image {item.id} was made from {source}, which is in "
                    f"{held_out[source]}; sample again from the train split alone."
                )


def _read_header(folder: Path) -> dict[str, object]:
    path = folder / "export.json"
    if not path.is_file():
        raise ExportError(f"{folder} is no training export: it has no export.json.")
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as fault:
        raise ExportError(f"{path} is not JSON: {fault}.") from None
    if not isinstance(header, dict) or header.get("schema") != 1:
        found = header.get("schema") if isinstance(header, dict) else header
        raise ExportError(f"{path} has schema {found!r}, and only 1 is known; build it again.")
    missing = [key for key in ("classes", "task", "arms") if key not in header]
    if missing:
        raise ExportError(f"{path} lacks {', '.join(missing)}.")
    kept = {key: header[key] for key in ("classes", "task", "arms")}
    return {"name": header.get("name", folder.name), "notes": header.get("notes", ()), **kept}


def _read_manifest(folder: Path, splits: tuple[Split, ...]) -> list[Item]:
    """Every line; only the files of `splits` are looked at."""
    path = folder / "manifest.jsonl"
    if not path.is_file():
        raise ExportError(f"{path} does not exist; build the export again.")
    items: list[Item] = []
    seen: set[Path] = set()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        place = f"{path}:{number}"
        try:
            item = Item.model_validate(json.loads(line))
        except (ValueError, TypeError) as fault:  # pydantic's ValidationError is a ValueError
            raise ExportError(f"{place}: {_first(fault)}.") from None
        image, label = folder / item.image, folder / item.label
        if item.split not in splits:
            items.append(item)
            continue
        for what, file in (("image", image), ("label", label)):
            if not file.is_file():
                raise ExportError(
                    f"{place}: the {what} file {file} is missing; a clean image has an empty "
                    "label file, so build the export again."
                )
        if image in seen:
            raise ExportError(f"{place}: {item.image} is listed twice.")
        seen.add(image)
        if sha256_of_file(image) != item.sha256:
            raise ExportError(f"{place}: {image} is not the file whose sha256 is in the manifest.")
        files = {"image": image.resolve(), "label": label.resolve()}
        hashes = {"label_sha256": sha256_of_file(label)}
        if item.mask is not None:
            mask = folder / item.mask
            if not mask.is_file():
                raise ExportError(
                    f"{place}: the mask file {mask} is missing; build the export again: augment "
                    "build"
                )
            files["mask"], hashes["mask_sha256"] = mask.resolve(), sha256_of_file(mask)
        items.append(item.model_copy(update=files | hashes))
    if not items:
        raise ExportError(f"{path} is empty.")
    return items


def _check_labels(export: Export) -> None:
    """The class, the boxes and the label file of every image must tell one story."""
    for item in export.all_items:
        name = item.image.name
        if item.class_name not in (*export.classes, GOOD):
            known = ", ".join((*export.classes, GOOD))
            raise ExportError(f"{name} has the class {item.class_name!r}; known are {known}.")
        unknown = sorted(set(item.arms) - set(export.arms))
        if unknown:
            raise ExportError(f"{name} is in the arm {unknown[0]!r}, which export.json lacks.")
        if any(not 0 <= box[0] < len(export.classes) for box in item.boxes):
            raise ExportError(
                f"{name} has a box of a class outside 0 .. {len(export.classes) - 1}."
            )
        if export.task == "classify":
            continue
        if (item.class_name == GOOD) != (not item.boxes):
            raise ExportError(
                f"{name} is labelled {item.class_name!r} but has {len(item.boxes)} boxes."
            )
        if (item.label.stat().st_size == 0) != (not item.boxes):
            raise ExportError(
                f"{item.label} is {'empty' if item.boxes else 'not empty'} but the manifest "
                f"gives {len(item.boxes)} boxes."
            )
        if export.task == "segment" and (item.mask is None) != (not item.boxes):
            raise ExportError(
                f"{name} {'lacks its mask' if item.boxes else 'has a mask but no box'} in "
                f"{export.folder}, which may be an export of an earlier version; build it again: "
                "augment build"
            )


def _check_sides(export: Export, held_out: tuple[Split, ...]) -> None:
    if len(set(export.arms)) != len(export.arms) or not export.arms:
        raise ExportError(f"{export.folder} must name one arm or more, each once: {export.arms}.")
    for split in held_out:
        items = [item for item in export.all_items if item.split == split]
        if not any(item.class_name != GOOD for item in items):
            raise EmptySideError(
                f"{export.folder}: {split} holds no image with a defect; import into "
                "another project with another --seed, or with larger shares for --val and --test: "
                "augment import SOURCE --name OTHER --project OTHER --seed N"
            )
    for arm in export.arms:
        if not any(item.class_name != GOOD for item in export.items("train", arm)):
            raise EmptySideError(f"{export.folder}: the arm {arm!r} trains on no defect at all.")


def _instances(items: list[Item], n: int) -> list[int]:
    counted = Counter(box[0] for item in items for box in item.boxes)
    return [counted.get(index, 0) for index in range(n)]


def _first(fault: Exception) -> str:
    if isinstance(fault, ValidationError):
        error = fault.errors()[0]
        place = ".".join(map(str, error["loc"]))
        message = error["msg"].removeprefix("Value error, ")
        return f"{place}: {message}" if place else message
    return f"{type(fault).__name__}: {fault}"
