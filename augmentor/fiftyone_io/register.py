"""Datasets in FiftyOne: the real images as imported, and the mix; a second build updates them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from augmentor.errors import DatabaseError, SourceError
from augmentor.fiftyone_io.connection import (
    connect,
    database_errors,
    imported,
    make_durable,
)
from augmentor.fiftyone_io.schema import (
    DETAILS,
    ID,
    NEW,
    NOT_IN_MIX,
    OUR_TAGS,
    REJECTED,
    RUNS,
    SIDEBAR,
    VERSION,
    VIEWS,
    declare,
    detail_fields,
    details_version_of,
    fields_of,
    noted,
    version_of,
)
from augmentor.items import Item, PoolSample, check_classes, real_item, synthetic_item
from augmentor.records_io import PROJECT_FILE
from generator.records import DefectExample

BATCH = 200
"""Samples written at once. Their masks are in memory together, so not too many."""

Entry = DefectExample | PoolSample


def register_real(
    name: str,
    records: Sequence[DefectExample],
    classes: Sequence[str],
    project: Path | None = None,
) -> dict[str, int]:
    """Register all real images, `reserve` included, as the FiftyOne dataset `name`.

    The folder of the `project` is noted with it, see `check_name`. See `register_mix` for what a
    second call does, what is returned and what is raised.
    """
    planned = [_plan(record, classes) for record in records]
    info = {"role": "real"} | ({"project": str(project.resolve())} if project else {})
    return _register(name, planned, classes, info)


def register_mix(
    name: str,
    records: Sequence[DefectExample],
    samples: Sequence[PoolSample],
    classes: Sequence[str],
    mix_info: dict[str, Any],
    others: Sequence[PoolSample] = (),
) -> dict[str, int]:
    """Register the mixed dataset as the persistent FiftyOne dataset `name`.

    Calling again updates it in place. A sample is found again by its id, and keeps the tags and
    fields that a person gave it; its labels are rewritten only if what they were made from has
    changed (a new import). A sample that is in neither `samples` nor `others` any more is
    removed, unless a person tagged it or one of its labels: it then stays, tagged `not-in-mix`.

    Args:
        name: of the dataset.
        records: real images; those of `reserve` are left out.
        samples: synthetic samples of the mix.
        classes: defect classes in label order.
        mix_info: JSON-able; stored with the dataset under `info["augmentor"]`. `project` in it
            is the folder of the project that the dataset belongs to, see `check_name`.
        others: samples of the pools that are not in the mix (rejected, or more than was asked
            for), to be looked at; tagged `not-in-mix`.

    Returns:
        How many samples were `added`, `updated`, `unchanged`, `removed` and `kept` (no longer in
        a pool, but a person's), and `total` in the mix.

    Raises:
        DatabaseError: the database can't be started or died, or `name` is a dataset that
            `augment` didn't make, or made for another project.
        SourceError, PoolError: an image or mask is gone or unreadable.
    """
    planned = [_plan(record, classes) for record in records if record.split != "reserve"]
    planned += [_plan(PoolSample(*sample), classes) for sample in samples]
    outside = ("synthetic", NOT_IN_MIX)
    planned += [_plan(PoolSample(*sample), classes, outside) for sample in others]
    counts = _register(name, planned, classes, {"role": "mix", **mix_info})
    return counts | {"total": counts["total"] - len(others)}


def add_new(name: str, samples: Sequence[PoolSample], classes: Sequence[str]) -> int:
    """Add samples that were just made to a dataset, tagged `new` and `not-in-mix`.

    Returns:
        How many of them it did not hold yet.

    Raises:
        DatabaseError: the database died, or the dataset is gone.
    """
    fo = connect()
    planned = [_plan(sample, classes, ("synthetic", NOT_IN_MIX, NEW)) for sample in samples]
    with database_errors():
        dataset = load(fo, name)
        declare(fo, dataset, classes, _scores(planned))
        held = set(dataset.match({ID: {"$in": [image.id for image in planned]}}).values(ID))
        fresh = [image for image in planned if image.id not in held]
        _write(fo, dataset, fresh, {}, classes)
        make_durable()
    return len(fresh)


def load(fo: Any, name: str) -> Any:
    """Load a dataset as it is in the database now.

    Raises:
        DatabaseError: there is none of that name.
    """
    if not fo.dataset_exists(name):
        raise DatabaseError(
            f"FiftyOne has no dataset {name!r} any more; make it again with `augment build`, "
            "decisions are kept."
        )
    dataset = fo.load_dataset(name)
    dataset.reload()
    return dataset


def dataset_exists(name: str, *, start: bool = True) -> bool:
    """Whether FiftyOne has a dataset of this name.

    Args:
        name: of the dataset.
        start: start a database that has died anew; else that is an error.

    Raises:
        DatabaseError: the database can't be started, or died.
    """
    fo = connect() if start else imported()
    with database_errors():
        return bool(fo.dataset_exists(name))


def is_dataset_of(name: str, project: Path) -> bool:
    """Whether FiftyOne has a dataset of this name that was registered for the project in this
    folder.

    Raises:
        DatabaseError: the database can't be started, or died.
    """
    fo = connect()
    with database_errors():
        if not fo.dataset_exists(name):
            return False
        owner = _owner(fo.load_dataset(name))
        return owner is not None and owner.resolve() == project.resolve()


def is_free(name: str, project: Path) -> bool:
    """Whether the project in this folder may register a dataset under this name, see
    `check_name`."""
    fo = connect()
    with database_errors():
        return not _taken(fo, name, project)


def check_name(name: str, project: Path) -> None:
    """Refuse a name whose dataset is not this project's to write into.

    A dataset belongs to the project whose folder it notes, as long as that folder holds a project:
    one that has moved takes its datasets along.

    Raises:
        DatabaseError: another project, or somebody else, has a dataset of this name, or of one that
            FiftyOne doesn't tell from it; or the database can't be started, or died.
    """
    fo = connect()
    with database_errors():
        if said := _taken(fo, name, project):
            raise DatabaseError(said)


def _taken(fo: Any, name: str, project: Path) -> str:
    """Why a project may not have a dataset of this name; empty if it may."""
    if fo.dataset_exists(name):
        return _obstacle(fo.load_dataset(name), project)
    from fiftyone.core.utils import to_slug

    # it refuses a name whose address in the App would be another's
    other = next((o for o in fo.list_datasets() if to_slug(o) == to_slug(name)), "")
    return other and (
        f"FiftyOne has a dataset {other!r} already, which it does not tell from {name!r} (case "
        "counts for nothing, and dots, - and _ are one); choose another name: augment import "
        "SOURCE --name NAME, or change `name` in augment.yaml."
    )


def note(name: str, **values: Any) -> None:
    """Note something with a dataset, beside what its build noted; see `dataset_info`.

    Raises:
        DatabaseError: the database died, or the dataset is gone.
    """
    fo = connect()
    with database_errors():
        dataset = load(fo, name)
        dataset.info["augmentor"] = {**noted(dataset), **values}
        dataset.save()


def save_own_view(dataset: Any, title: str, view: Any, **how: Any) -> None:
    """Save a view of ours and note that, for the next `dataset.save`. A person's view at the same
    address in the App stays, and ours is not saved then."""
    from fiftyone.core.utils import to_slug

    about = noted(dataset)
    ours, address = about.get(VIEWS, []), to_slug(title)
    if any(to_slug(o) == address and o not in ours for o in dataset.list_saved_views()):
        return
    dataset.save_view(title, view, overwrite=True, **how)
    dataset.info["augmentor"] = {**about, VIEWS: [*(o for o in ours if o != title), title]}


def sample_keys(name: str) -> set[str]:
    """Our ids of every image of a dataset.

    Raises:
        DatabaseError: the database died, or the dataset is gone.
    """
    fo = connect()
    with database_errors():
        return {key for key in load(fo, name).values(ID) if key is not None}


def dataset_info(name: str) -> dict[str, Any]:
    """What a build noted with the dataset, see `register_mix`.

    Raises:
        DatabaseError: the database died, or the dataset is gone.
    """
    fo = connect()
    with database_errors():
        return noted(load(fo, name))


@dataclass(frozen=True)
class _Planned:
    """An image to register, before its masks are read."""

    entry: Entry
    id: str
    path: Path
    tags: list[str]
    version: str
    details: str

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
    details: str | None
    touched: bool


def _register(
    name: str, planned: Sequence[_Planned], classes: Sequence[str], info: dict[str, Any]
) -> dict[str, int]:
    fo = connect()
    with database_errors():
        dataset = _open(fo, name, Path(info["project"]) if info.get("project") else None)
        declare(fo, dataset, classes, _scores(planned))
        known = _known(dataset)
        counts = _write(fo, dataset, planned, known, classes)
        stays = {image.id for image in planned}
        counts |= _retire(dataset, [old for key, old in known.items() if key not in stays])
        kept = {
            key: value for key, value in noted(dataset).items() if key in (RUNS, VIEWS, SIDEBAR)
        }
        dataset.info["augmentor"] = {**info, **kept}
        for tag in ("synthetic", REJECTED):
            save_own_view(dataset, tag, dataset.match_tags(tag))
        dataset.save()
        make_durable()
    return counts | {"total": len(planned)}


def _scores(planned: Sequence[_Planned]) -> set[str]:
    made = [image.entry.record for image in planned if isinstance(image.entry, PoolSample)]
    return {name for record in made for name in record.scores}


def _plan(
    entry: Entry, classes: Sequence[str], tags: Sequence[str] = ("synthetic", "train")
) -> _Planned:
    record = entry.record if isinstance(entry, PoolSample) else entry
    if isinstance(entry, PoolSample):
        path, label = entry.pool / entry.record.image, entry.record.class_name
    else:
        path, label, tags = entry.image_path, entry.label, ("real", str(entry.split))
    check_classes([label], classes)
    version = version_of(record, path, classes)
    return _Planned(entry, record.id, path, [*tags], version, details_version_of(record))


def _open(fo: Any, name: str, project: Path | None) -> Any:
    """Load the dataset, or make it; refuse one that somebody else made, or another project."""
    if not fo.dataset_exists(name):
        dataset = fo.Dataset(name, persistent=True)
        dataset.info["augmentor"] = {}
        dataset.save()
        return dataset
    dataset = fo.load_dataset(name)
    if said := _obstacle(dataset, project):
        raise DatabaseError(said)
    dataset.persistent = True
    return dataset


def _owner(dataset: Any) -> Path | None:
    """Folder of the project that a dataset was registered for, as it was then."""
    folder = noted(dataset).get("project")
    return Path(folder) if folder else None


def _obstacle(dataset: Any, project: Path | None) -> str:
    """Why a project may not write into a dataset; empty if it may."""
    if "augmentor" not in dataset.info and len(dataset):
        return (
            f"FiftyOne has a dataset {dataset.name!r} already that `augment` did not make; choose "
            "another name: augment import SOURCE --name NAME, or `name` in augment.yaml; or rename "
            "the dataset in FiftyOne."
        )
    owner = _owner(dataset)
    if project is None or owner is None or owner.resolve() == project.resolve():
        return ""
    if not (owner / PROJECT_FILE).is_file():
        return ""
    return (
        f"FiftyOne has a dataset {dataset.name!r} already, of the project in {owner}; choose "
        "another name: augment import SOURCE --name NAME, or, for the copy of a project, change "
        "`name` in its augment.yaml."
    )


def _known(dataset: Any) -> dict[str, _Known]:
    """Every sample of the dataset that is ours, by our id."""
    ours = ["id", ID, "tags", VERSION, DETAILS]
    values = dataset.values([*ours, "ground_truth.detections.tags", "defect.tags"])
    known = {}
    for sample_id, key, tags, version, details, *label_tags in zip(*values, strict=True):
        touched = bool(set(tags) - OUR_TAGS) or any(_flat(label_tags))
        if key is not None:
            known[key] = _Known(sample_id, tags, version, details, touched)
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
    known_better = [
        (image, was)
        for image, was in old
        if image.version == was.version and image.details != was.details
    ]
    _rewrite_details(fo, dataset, known_better)
    tags = {was.sample_id: _merged(image.tags, was.tags) for image, was in old}
    retagged = {was.sample_id: tags[was.sample_id] for _, was in old if _differs(tags, was)}
    if retagged:
        dataset.set_values("tags", retagged, key_field="id", progress=False)
    rewritten = {known[image.id].sample_id for image in changed}
    rewritten |= {was.sample_id for _, was in known_better}
    updated = len(rewritten | set(retagged))
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


def _rewrite_details(fo: Any, dataset: Any, images: Sequence[tuple[_Planned, _Known]]) -> None:
    """Write what is known about existing samples again, and leave their labels alone."""
    found: dict[str, dict[str, Any]] = {}
    for image, was in images:
        entry = image.entry
        record = entry.record if isinstance(entry, PoolSample) else entry
        for field, value in detail_fields(fo, record).items():
            found.setdefault(field, {})[was.sample_id] = value
    for field, values in found.items():
        dataset.set_values(field, values, key_field="id", progress=False)


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
