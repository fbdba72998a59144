"""From records and samples to the items of an export, with everything checked on the way."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from augmentor.errors import ExportError, SourceError
from augmentor.items import Item, PoolSample, check_classes, real_item, synthetic_item
from generator.files import sha256_of_file
from generator.records import GOOD, DefectExample, MaskKind, SyntheticDefect

Task = Literal["segment", "detect", "classify"]
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Wanted:
    """Everything that an export is made of, before any mask is read.

    Attributes:
        name: of the dataset.
        classes: defect classes in label order.
        entries: what to write, by split, real before synthetic, then by id; with the arms that
            each belongs to (empty: every arm).
        arms: their names.
        notes: sentences for whoever reads the export.
    """

    name: str
    classes: tuple[str, ...]
    entries: tuple[tuple[DefectExample | PoolSample, tuple[str, ...]], ...]
    arms: tuple[str, ...]
    notes: tuple[str, ...]

    def items(self) -> Iterator[tuple[Item, tuple[str, ...]]]:
        """The items one at a time, since all masks at once may not fit into memory."""
        for entry, arms in self.entries:
            yield (
                (synthetic_item(entry), arms)
                if isinstance(entry, PoolSample)
                else (real_item(entry), arms)
            )

    @property
    def task(self) -> Task:
        """`segment` where every instance has an exact mask, `detect` where all have boxes,
        `classify` where no image has a place.

        Masks that were only proposed from boxes are not taught: the boxes are what is known.
        """
        kinds = [kind for entry, _ in self.entries for kind in _mask_kinds(entry)]
        if not kinds:
            return (
                "classify"
                if any(_label(entry) != "good" for entry, _ in self.entries)
                else "segment"
            )
        return "segment" if all(kind == "exact" for kind in kinds) else "detect"


def collect(
    name: str,
    classes: Sequence[str],
    records: Sequence[DefectExample],
    samples: Sequence[PoolSample],
    arms: Mapping[str, Set[str]] | None,
    notes: Sequence[str],
) -> Wanted:
    """Decide what goes into an export.

    Images of the `reserve` split are left out, unless an arm holds them: they are then training
    images of that arm.

    Raises:
        ExportError: an id occurs twice, or an arm names an image that is not a training image.
        SourceError: an unknown class, or a defect image without a place among images with one.
    """
    samples = [PoolSample(*sample) for sample in samples]
    check_classes([r.label for r in records] + [s.record.class_name for s in samples], classes)
    check_classes((i.class_name for r in records for i in r.instances), classes)
    check_classes((i.class_name for s in samples for i in s.record.carried_instances), classes)
    holders = _holders(arms, records, samples)
    entries: list[tuple[DefectExample | PoolSample, tuple[str, ...]]] = []
    for record in sorted(records, key=lambda r: (_order(r), r.id)):
        if record.split is None:
            raise SourceError(f"{record.source_path} is in no split; run `augment import` again.")
        always = record.split in ("val", "test") or (arms is None and record.split == "train")
        if always:
            entries.append((record, ()))
        elif record.id in holders:
            entries.append((record.model_copy(update={"split": "train"}), holders[record.id]))
    for sample in sorted(samples, key=lambda s: s.record.id):
        if arms is None or sample.record.id in holders:
            entries.append((sample, holders.get(sample.record.id, ())))
    entries.sort(key=lambda pair: _order(pair[0]))
    wanted = Wanted(name, tuple(classes), tuple(entries), tuple(arms or ()), tuple(notes))
    _check_unique(wanted)
    _check_places(wanted)
    return wanted


def manifest_line(item: Item, arms: tuple[str, ...], classes: Sequence[str]) -> dict[str, Any]:
    """What the manifest of every format says of an image, without its paths and its hash."""
    return {
        "id": item.id,
        "split": item.split,
        "kind": item.kind,
        "generator": item.generator,
        "class": item.label,
        "boxes": [[classes.index(x.class_name), *x.box_xyxy] for x in item.labels],
        "width": item.width,
        "height": item.height,
        "source_ids": list(item.source_ids),
        "group": item.record.group if isinstance(item.record, DefectExample) else None,
        "arms": list(arms),
    }


def provenance(item: Item) -> dict[str, Any]:
    """Where an image came from, for the manifest of an export to other tools; `mask_kinds` says of
    each of its boxes whether its mask is known or was guessed from the box."""
    record, kinds = item.record, {"mask_kinds": [label.mask_kind for label in item.labels]}
    if isinstance(record, DefectExample):
        return {"source": record.source_path.name, "sha256_of_source": record.sha256, **kinds}
    keys = {
        *("index", "seed", "fingerprint", "background_id", "background_xyxy", "mask_source_id"),
        *("mask_kind", "feather_px", "crop_xyxy", "scores"),
    }
    return record.model_dump(mode="json", include=keys) | kinds


def image_name(item: Item) -> str:
    """Name of an image in an export: its id, which no two share, and the file's own suffix."""
    return f"{item.id}{item.image_path.suffix.lower()}"


def hash_of(item: Item, image: Path) -> str:
    """SHA-256 of the exported file's bytes; read only where it isn't known yet."""
    return item.sha256 or sha256_of_file(image)


def _label(entry: DefectExample | PoolSample) -> str:
    return entry.record.class_name if isinstance(entry, PoolSample) else entry.label


def _mask_kinds(entry: DefectExample | PoolSample) -> list[MaskKind]:
    if not isinstance(entry, PoolSample):
        return [instance.mask_kind for instance in entry.instances]
    made: SyntheticDefect = entry.record
    carried = [instance.mask_kind for instance in made.carried_instances]
    return [made.mask_kind] * len(made.boxes_xyxy) + carried


def _order(entry: DefectExample | PoolSample) -> int:
    split = "train" if isinstance(entry, PoolSample) else entry.split
    return SPLITS.index(split) if split in SPLITS else len(SPLITS)


def _holders(
    arms: Mapping[str, Set[str]] | None,
    records: Sequence[DefectExample],
    samples: Sequence[PoolSample],
) -> dict[str, tuple[str, ...]]:
    """The names of the arms that hold each image."""
    trainable = {r.id for r in records if r.split in ("train", "reserve")}
    trainable |= {s.record.id for s in samples}
    held: dict[str, tuple[str, ...]] = {}
    for arm, ids in (arms or {}).items():
        if foreign := sorted(ids - trainable):
            raise ExportError(
                f"Arm {arm!r} names {len(foreign)} images that are no training images of this "
                f"dataset, such as {foreign[0]}."
            )
        for image in ids:
            held[image] = (*held.get(image, ()), arm)
    return held


def _check_unique(wanted: Wanted) -> None:
    ids = Counter(e.record.id if isinstance(e, PoolSample) else e.id for e, _ in wanted.entries)
    if twice := sorted(name for name, number in ids.items() if number > 1):
        raise ExportError(
            f"{len(twice)} images occur twice in the export, such as {twice[0]}; "
            "run `augment import` again."
        )


def _check_places(wanted: Wanted) -> None:
    """A defect image without a place, among images that have one, would read as a good part."""
    if wanted.task == "classify":
        return
    placeless = [e for e, _ in wanted.entries if _label(e) != GOOD and not _mask_kinds(e)]
    if placeless:
        first = placeless[0]
        where = first.record.id if isinstance(first, PoolSample) else first.source_path
        raise SourceError(
            f"{len(placeless)} images are labelled as a defect, but nothing says where it is, "
            f"such as {where}: give them masks or boxes, or run `augment import --on-bad skip`."
        )
