"""Datasets in FiftyOne: the real images as imported, and the mix; a second build updates them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from augmentor.errors import DatabaseError, SourceError
from augmentor.fiftyone_io.connection import connect, database_errors, make_durable
from augmentor.fiftyone_io.schema import (
    ID,
    NOT_IN_MIX,
    OUR_TAGS,
    REJECTED,
    VERSION,
    declare,
    fields_of,
    version_of,
)
from augmentor.items import Item, PoolSample, check_classes, real_item, synthetic_item
from generator.records import DefectExample

BATCH = 200
"""Samples written at once. Their masks are in memory together, so not too many."""

Entry = DefectExample | PoolSample


def register_real(
    name: str, records: Sequence[DefectExample], classes: Sequence[str]
) -> dict[str, int]:
    """Register all real images, `reserve` included, as the FiftyOne dataset `name`.

    See `register_mix` for what a second call does, what is returned and what is raised.
    """
    return _register(name, list(records), classes, {"role": "real"})


def register_mix(
    name: str,
    records: Sequence[DefectExample],
    samples: Sequence[PoolSample],
    classes: Sequence[str],
    mix_info: dict[str, Any],
) -> dict[str, int]:
    """Register the mixed dataset as the persistent FiftyOne dataset `name`.

    Calling again updates it in place. A sample is found again by its id, and keeps the tags and
    fields that a person gave it; its labels are rewritten only if what they were made from has
    changed (a new import). A sample that is no longer in the mix is removed, unless a person
    tagged it or one of its labels: it then stays, and is tagged `not-in-mix`.

    Args:
        name: of the dataset.
        records: real images; those of `reserve` are left out.
        samples: synthetic samples.
        classes: defect classes in label order.
        mix_info: JSON-able; stored with the dataset under `info["augmentor"]`.

    Returns:
        How many samples were `added`, `updated`, `unchanged`, `removed` and `kept` (tagged
        `not-in-mix`), and `total` in the mix.

    Raises:
        DatabaseError: the database can't be started or died, or `name` is a dataset that
            `augment` didn't make.
        SourceError, PoolError: an image or mask is gone or unreadable.
    """
    entries: list[Entry] = [record for record in records if record.split != "reserve"]
    entries += [PoolSample(*sample) for sample in samples]
    return _register(name, entries, classes, {"role": "mix", **mix_info})


def dataset_exists(name: str) -> bool:
    """Whether FiftyOne has a dataset of this name.

    Raises:
        DatabaseError: the database can't be started, or died.
    """
    fo = connect()
    with database_errors():
        return bool(fo.dataset_exists(name))


def reviewed_rejections(name: str) -> frozenset[str]:
    """Ids of the samples that a person tagged `rejected` in the App; none without a dataset.

    Raises:
        DatabaseError: the database can't be started, or died.
    """
    fo = connect()
    with database_errors():
        if not fo.dataset_exists(name):
            return frozenset()
        dataset = fo.load_dataset(name)
        if not dataset.has_field(ID):
            return frozenset()
        found = dataset.match_tags(REJECTED).values(ID)
    return frozenset(value for value in found if value is not None)


@dataclass(frozen=True)
class _Planned:
    """An image to register, before its masks are read."""

    entry: Entry
    id: str
    path: Path
    tags: list[str]
    version: str

    def item(self) -> Item:
        """The item with its masks."""
        if isinstance(self.entry, PoolSample):
            return synthetic_item(self.entry)
        return real_item(self.entry)


@dataclass(frozen=True)
class _Known:
    """What the database holds of an image; `touched` where a person tagged it."""

    sample_id: str
    tags: list[str]
    version: str | None
    touched: bool


def _register(
    name: str, entries: Sequence[Entry], classes: Sequence[str], info: dict[str, Any]
) -> dict[str, int]:
    planned = [_plan(entry, classes) for entry in entries]
    fo = connect()
    with database_errors():
        dataset = _open(fo, name)
        scores = {s for e in entries if isinstance(e, PoolSample) for s in e.record.scores}
        declare(fo, dataset, classes, scores)
        known = _known(dataset)
        counts = _write(fo, dataset, planned, known, classes)
        stays = {image.id for image in planned}
        counts |= _retire(dataset, [old for key, old in known.items() if key not in stays])
        dataset.info["augmentor"] = info
        dataset.save()
        for tag in ("synthetic", REJECTED):
            dataset.save_view(tag, dataset.match_tags(tag), overwrite=True)
        make_durable()
    return counts | {"total": len(entries)}


def _plan(entry: Entry, classes: Sequence[str]) -> _Planned:
    if isinstance(entry, PoolSample):
        check_classes([entry.record.class_name], classes)
        path, tags = entry.pool / entry.record.image, ["synthetic", "train"]
        return _Planned(entry, entry.record.id, path, tags, version_of(entry.record, path, classes))
    check_classes([entry.label], classes)
    version = version_of(entry, entry.image_path, classes)
    return _Planned(entry, entry.id, entry.image_path, ["real", str(entry.split)], version)


def _open(fo: Any, name: str) -> Any:
    """Load the dataset, or make it; refuse one that somebody else made."""
    if not fo.dataset_exists(name):
        dataset = fo.Dataset(name, persistent=True)
        dataset.info["augmentor"] = {}
        dataset.save()
        return dataset
    dataset = fo.load_dataset(name)
    if "augmentor" not in dataset.info and len(dataset):
        raise DatabaseError(
            f"FiftyOne has a dataset {name!r} already that `augment` did not make; choose another "
            "name in augment.yaml, or rename the dataset in FiftyOne."
        )
    dataset.persistent = True
    return dataset


def _known(dataset: Any) -> dict[str, _Known]:
    """Every sample of the dataset that is ours, by our id."""
    fields = ["id", ID, "tags", VERSION, "ground_truth.detections.tags", "defect.tags"]
    known = {}
    for sample_id, key, tags, version, *label_tags in zip(*dataset.values(fields), strict=True):
        touched = bool(set(tags) - OUR_TAGS) or any(_flat(label_tags))
        if key is not None:
            known[key] = _Known(sample_id, tags, version, touched)
    return known


def _flat(nested: Iterable[Any]) -> list[str]:
    """All strings in nested lists, in which None stands for an empty one."""
    found = []
    for part in nested:
        found += [part] if isinstance(part, str) else _flat(part or [])
    return found


def _write(
    fo: Any,
    dataset: Any,
    planned: Sequence[_Planned],
    known: dict[str, _Known],
    classes: Sequence[str],
) -> dict[str, int]:
    """Add what is new, rewrite what has changed, and set our tags on what is left as it was."""
    new = [image for image in planned if image.id not in known]
    for batch in _batches(new):
        made = [_sample(fo, image, classes) for image in batch]
        # `declare` has made every field, and the records are validated: a fifth of the time saved
        dataset.add_samples(made, expand_schema=False, validate=False, progress=False)
    old = [(image, known[image.id]) for image in planned if image.id in known]
    changed = [image for image, was in old if image.version != was.version]
    for batch in _batches(changed):
        _rewrite(fo, dataset, {known[image.id].sample_id: image for image in batch}, classes)
    tags = {was.sample_id: _merged(image.tags, was.tags) for image, was in old}
    retagged = {was.sample_id: tags[was.sample_id] for _, was in old if _differs(tags, was)}
    if retagged:
        dataset.set_values("tags", retagged, key_field="id", progress=False)
    updated = len({known[image.id].sample_id for image in changed} | set(retagged))
    return {"added": len(new), "updated": updated, "unchanged": len(old) - updated}


def _differs(tags: dict[str, list[str]], was: _Known) -> bool:
    return set(tags[was.sample_id]) != set(was.tags)


def _rewrite(fo: Any, dataset: Any, images: dict[str, _Planned], classes: Sequence[str]) -> None:
    """Write the fields of existing samples again; fields that are not ours stay."""
    for sample in dataset.select(list(images)).iter_samples(autosave=True, progress=False):
        image = images[sample.id]
        sample.filepath = _filepath(image.path)
        for field, value in fields_of(fo, image.item(), classes).items():
            sample[field] = value


def _retire(dataset: Any, gone: list[_Known]) -> dict[str, int]:
    """Remove samples that left the mix; those that a person touched stay, and are tagged."""
    removed = [old.sample_id for old in gone if not old.touched]
    if removed:
        dataset.delete_samples(removed)
    kept = {
        old.sample_id: _merged(
            [tag for tag in old.tags if tag in ("real", "synthetic")] + [NOT_IN_MIX], old.tags
        )
        for old in gone
        if old.touched
    }
    if kept:
        dataset.set_values("tags", kept, key_field="id", progress=False)
    return {"removed": len(removed), "kept": len(kept)}


def _merged(ours: list[str], old: list[str]) -> list[str]:
    """Our tags as they are now, then everybody else's as they were."""
    return [*ours, *(tag for tag in old if tag not in OUR_TAGS)]


def _sample(fo: Any, image: _Planned, classes: Sequence[str]) -> Any:
    fields = fields_of(fo, image.item(), classes)
    return fo.Sample(filepath=_filepath(image.path), tags=image.tags, **fields)


def _filepath(path: Path) -> str:
    if not path.is_file():
        raise SourceError(f"{path} is gone; bring it back, or run `augment import` again.")
    return str(path.absolute())


def _batches(images: Sequence[_Planned]) -> Iterable[Sequence[_Planned]]:
    return (images[start : start + BATCH] for start in range(0, len(images), BATCH))
