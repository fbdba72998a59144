"""Class folders: `<split>/<class>/<image>`, for classification."""

from pathlib import Path

from augmentor.exporters.collect import (
    SPLITS,
    Wanted,
    hash_of,
    image_name,
    manifest_line,
    provenance,
)
from augmentor.exporters.folder import check_folder_names, copy_image
from generator.files import write_lines
from generator.records import GOOD, SyntheticDefect


def shows_one_class(sample: SyntheticDefect) -> bool:
    """False of a sample painted beside real defects of another class: no image-level label says
    what it shows."""
    return all(i.class_name == sample.class_name for i in sample.carried_instances)


def write_folders(folder: Path, wanted: Wanted) -> None:
    """Fill `folder`; every class has its folder in every split, since readers such as
    torchvision's ImageFolder number the classes by the folders that they find. Synthetic images
    that no folder is right for (`shows_one_class`) are left out."""
    check_folder_names(wanted)
    for split in SPLITS:
        for name in (*wanted.classes, GOOD):
            (folder / split / name).mkdir(parents=True)
    lines = []
    for item, arms in wanted.items():
        if isinstance(item.record, SyntheticDefect) and not shows_one_class(item.record):
            continue
        image = f"{item.split}/{item.label}/{image_name(item)}"
        copy_image(item.image_path, folder / image)
        line = manifest_line(item, arms, wanted.classes) | {"image": image, "label": None}
        line |= {"sha256": hash_of(item, folder / image), "provenance": provenance(item)}
        lines.append(line)
    write_lines(folder / "manifest.jsonl", lines)
