"""Import: a folder of real photographs becomes a project."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from augmentor import fiftyone_io
from augmentor.errors import ProjectError, UsageError
from augmentor.importers import ImportOutcome, import_source
from augmentor.importers.scan import Tree
from augmentor.records_io import PROJECT_FILE, RECORDS, load_records, located
from augmentor.splits import shown_classes
from augmentor.workflows.alone import working_on
from augmentor.workflows.project import (
    NAME_PATTERN,
    Project,
    ProjectConfig,
    SourceConfig,
    SplitConfig,
    edit_project,
    mixed_name,
    name_like,
    open_project,
    save_project,
)
from augmentor.workflows.reporting import Reporter
from downstream.files import read_json
from generator.files import sha256_of, sha256_of_file, write_json
from generator.records import GOOD, DefectExample


@dataclass(frozen=True)
class Imported:
    """What an import led to."""

    project: Project
    outcome: ImportOutcome


def import_project(
    name: str,
    source: SourceConfig,
    split: SplitConfig,
    folder: Path,
    reporter: Reporter,
) -> Imported:
    """Read `source`, split it, register it in FiftyOne and write augment.yaml into `folder`.

    Run again with the same arguments it changes nothing, or takes in what is new among the
    photographs; new classes come after the known ones. With other arguments on the same folder it
    is refused, since everything made so far rests on the first split; but photographs that have
    moved may be imported from where they are now, and bad files among new ones may be left out.

    Raises:
        SourceError: the folder can't be read as asked, or holds bad files and `on_bad` is `error`.
        ProjectError: `folder` is already another project, or `name` can't be one's name, or
            another command works on it.
        DatabaseError: another project has the name's datasets in FiftyOne.
    """
    _check_name(name)
    absolute = {"path": source.path.expanduser().resolve()}
    if source.roi is not None:
        absolute["roi"] = source.roi.expanduser().resolve()
    source = source.model_copy(update=absolute)
    _refuse_another(folder, name, source, split)
    for dataset in (name, mixed_name(name)):
        fiftyone_io.check_name(dataset, folder)
    with working_on(folder, "import"):
        return _imported(name, source, split, folder, reporter)


def _imported(
    name: str, source: SourceConfig, split: SplitConfig, folder: Path, reporter: Reporter
) -> Imported:
    outcome = import_source(
        source.path,
        folder / "data",
        layout=source.layout,
        shots=split.shots,
        seed=split.seed,
        on_bad=source.on_bad,
        group_by=split.group_by,
        val=split.val,
        test=split.test,
        mask_threshold=source.mask_threshold,
        roi=source.roi,
        protocol=split.protocol,
        on_progress=lambda done, total: reporter.progress("Reading images", done, total),
    )
    if (folder / PROJECT_FILE).is_file():
        project = _brought_up_to_date(open_project(folder), source, outcome, reporter)
    else:
        project = save_project(
            folder,
            ProjectConfig(name=name, classes=outcome.classes, source=source, split=split),
        )
    _register(project, outcome, reporter)
    return Imported(project, outcome)


def count_splits(records: Iterable[DefectExample]) -> dict[str, Counter[str]]:
    """Images on each side that show each class, one of several under each of them; clean ones
    last."""
    counts: dict[str, Counter[str]] = {}
    for record in records:
        for name in shown_classes(record):
            counts.setdefault(name, Counter())[str(record.split)] += 1
    return {name: counts[name] for name in sorted(counts, key=lambda n: (n == GOOD, n))}


def _check_name(name: str) -> None:
    """Refuse before anything is read what augment.yaml would refuse after it."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise UsageError(
            f"--name {name!r} can't be a project's name, which is made of the letters a to z, "
            "digits, '.', '_' and '-', and begins with a letter or digit; try --name "
            f"{name_like(name, 'tiles')}"
        )


def _refuse_another(folder: Path, name: str, source: SourceConfig, split: SplitConfig) -> None:
    if not (folder / PROJECT_FILE).is_file():
        return
    config = open_project(folder).config
    may_change = {"path": source.path, "roi": source.roi, "on_bad": source.on_bad}
    elsewhere = config.source.model_copy(update=may_change)
    same = (config.name, elsewhere, config.split) == (name, source, split)
    if not same or not _shares_images(folder / "data", config.source, source):
        raise ProjectError(
            f"{folder} is already a project made with other arguments, and what was trained there "
            "rests on its split; import under another name into another folder: augment import "
            "SOURCE --name OTHER --project OTHER"
        )


def _shares_images(data: Path, before: SourceConfig, now: SourceConfig) -> bool:
    """Whether the photographs are those of the project, if they lie elsewhere than before: one
    that it knows by its content is enough, for some may be new."""
    if before.path == now.path or not (data / RECORDS).is_file():
        return True
    known = {record.sha256 for record in load_records(data, verify=False)}
    return any(sha256_of_file(path) in known for path in Tree(now.path, data).images)


def _brought_up_to_date(
    project: Project, source: SourceConfig, outcome: ImportOutcome, reporter: Reporter
) -> Project:
    """The project with where its photographs lie now, what becomes of bad ones, and classes that
    they did not show before, after those it has: the order is that of every label so far."""
    before, known = project.config.source, project.config.classes
    values: dict[str, Any] = {
        f"source.{key}": None if path is None else str(path)
        for key, path in (("path", source.path), ("roi", source.roi))
        if path != getattr(before, key)
    }
    if values:
        reporter.say(f"Now in {PROJECT_FILE}: the photographs are in {source.path}")
    if source.on_bad != before.on_bad:
        values["source.on_bad"] = source.on_bad
    if new := [name for name in outcome.classes if name not in known]:
        reporter.say(f"New in {PROJECT_FILE}: {', '.join(new)}")
        values["classes"] = [*known, *new]
    return edit_project(project, values) if values else project


def _register(project: Project, outcome: ImportOutcome, reporter: Reporter) -> None:
    """Register the real images in FiftyOne, unless that has been done for these records."""
    stamp = project.data / "registered.json"
    key: dict[str, Any] = {
        "dataset": project.config.name,
        "records": sha256_of([located(r) for r in outcome.records]),
    }
    name = project.config.name
    if read_json(stamp) == key and fiftyone_io.is_dataset_of(name, project.folder):
        return
    reporter.say(f"Registering {len(outcome.records)} images in FiftyOne ({name})")
    fiftyone_io.register_real(name, outcome.records, project.config.classes, project.folder)
    write_json(stamp, key)
