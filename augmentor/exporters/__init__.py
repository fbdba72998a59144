"""Writing the mixed dataset out: for our own detectors, and for other tools."""

from collections.abc import Callable, Mapping, Sequence, Set
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from augmentor.errors import ExportError
from augmentor.exporters.coco import write_coco
from augmentor.exporters.collect import SPLITS, Wanted, collect
from augmentor.exporters.folder import MARKER, check_replaceable, replaced_folder
from augmentor.exporters.folders import shows_one_class, write_folders
from augmentor.exporters.mvtec import TOP_LEVEL as MVTEC
from augmentor.exporters.mvtec import write_mvtec
from augmentor.exporters.voc import FOLDERS as VOC_FOLDERS
from augmentor.exporters.voc import write_voc
from augmentor.exporters.yolo import write_training, write_yolo
from augmentor.items import PoolSample
from generator.files import read_lines
from generator.records import DefectExample

__all__ = ["FORMATS", "Format", "PoolSample", "export_dataset", "guessed_masks"]
__all__ += ["coarse_outlines", "shows_one_class", "write_training_export"]

Format = Literal["yolo", "yolo-seg", "coco", "voc", "mvtec", "folders"]
FORMATS: tuple[Format, ...] = get_args(Format)

_WRITERS: dict[str, Callable[[Path, Wanted], None]] = {
    "yolo": partial(write_yolo, task="detect"),
    "yolo-seg": partial(write_yolo, task="segment"),
    "coco": write_coco,
    "voc": write_voc,
    "mvtec": write_mvtec,
    "folders": write_folders,
}

_YOLO = {"images", "labels", "data.yaml"}
_TOP_LEVEL: dict[str, set[str]] = {
    "yolo": _YOLO,
    "yolo-seg": _YOLO,
    "coco": {"annotations", *SPLITS},
    "voc": {*VOC_FOLDERS, "ImageSets"},
    "mvtec": MVTEC,
    "folders": {*SPLITS},
}
"""What each format has at its top level, beside the manifest."""


LEAST_OVERLAP = 0.95
"""Intersection over union of a mask and its outline in a label, below which it is said."""

_UNMARKED = {"yolo-seg", "voc", "mvtec"}
"""Formats whose labels are masks, and can't say of one that it is a guess; COCO has `mask_kind`."""


def write_training_export(
    folder: Path,
    *,
    name: str,
    classes: Sequence[str],
    records: Sequence[DefectExample],
    samples: Sequence[PoolSample] = (),
    arms: Mapping[str, Set[str]] | None = None,
    notes: Sequence[str] = (),
) -> Path:
    """Write what detectors are trained on; the format is described in docs/formats.md.

    The same arguments give the same bytes. A killed run leaves the old export or the new one.

    Args:
        folder: where; an export that is there already is replaced.
        name: of the dataset.
        classes: defect classes in label order.
        records: real images of all splits; `reserve` is left out unless an arm holds it.
        samples: synthetic samples; all become training images.
        arms: for each arm, the ids of the training images (real and synthetic) that it trains
            on; what is in no arm is left out. None: one training split for all.
        notes: sentences for whoever reads the export.

    Returns:
        The folder.

    Raises:
        ExportError: the folder holds something else, or ids are twice there or unknown.
        SourceError: an image or mask is gone or unreadable, or a defect has no place.
        DiskError: no space left, or no right to write.
    """
    wanted = collect(name, classes, records, samples, arms, notes)
    with replaced_folder(folder, internal=True) as temporary:
        write_training(temporary, wanted)
    return folder


def export_dataset(
    folder: Path,
    format: str,
    *,
    name: str,
    classes: Sequence[str],
    records: Sequence[DefectExample],
    samples: Sequence[PoolSample] = (),
    notes: Sequence[str] = (),
) -> Path:
    """Write the dataset for other tools, with a `manifest.jsonl` of where each image came from.

    `yolo` (boxes), `yolo-seg` (polygons, IoU with the mask above 0.98; of a great many parts less,
    see `coarse_outlines`), `coco` (run-length masks, exact), `voc`, `mvtec`, `folders` (one folder
    a class, without the samples that show several). Images are copies, so that nothing that is done
    to the export reaches the originals. See `write_training_export` for the other arguments and for
    what is raised.

    Args:
        format: one of `FORMATS`.

    Raises:
        ExportError: also where the format can't hold what the dataset has, or where the folder
            holds something that an export of this format doesn't write.
    """
    if format not in _WRITERS:
        raise ExportError(f"Unknown format {format!r}; choose one of {', '.join(FORMATS)}.")
    if (folder / MARKER).is_file():
        check_replaceable(folder, {MARKER, *_TOP_LEVEL[format]}, format)
    wanted = collect(name, classes, records, samples, None, notes)
    with replaced_folder(folder) as temporary:
        _WRITERS[format](temporary, wanted)
    return folder


def coarse_outlines(folder: Path, format: str) -> str:
    """A sentence on the labels of an export that say less than their masks; empty without any.

    Args:
        folder: that `export_dataset` wrote.
        format: in which.
    """
    lines = read_lines(folder / MARKER) if format == "yolo-seg" else []
    coarse = [line for line in lines if line["least_overlap"] < LEAST_OVERLAP]
    if not coarse:
        return ""
    worst = min(coarse, key=lambda line: float(line["least_overlap"]))
    return (
        f"{len(coarse)} of {len(lines)} images have a mask of so many parts that no outline of a "
        f"thousand points says them all (the worst, {worst['image']}, agrees with its mask to "
        f"{worst['least_overlap']:.0%}); masks are kept as they are by: augment export --format "
        "coco"
    )


def guessed_masks(folder: Path, format: str) -> str:
    """A sentence on the masks of an export that were guessed from boxes, where its labels can't say
    which these are; empty where there are none, or where they can.

    Args:
        folder: that `export_dataset` wrote.
        format: in which.
    """
    if format not in _UNMARKED:
        return ""
    lines = read_lines(folder / MARKER)
    kinds = [kind for line in lines for kind in line["provenance"]["mask_kinds"]]
    guessed = kinds.count("approximate")
    if not guessed:
        return ""
    return (
        f"{guessed} of {len(kinds)} masks were guessed from boxes, and {format} labels can't say "
        f"it; provenance.mask_kinds in {folder / MARKER} does, and so do the labels of `augment "
        "export --format coco`; for boxes alone: augment export --format yolo"
    )
