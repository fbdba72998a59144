"""Import: a folder of real photographs becomes a project."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from augmentor import fiftyone_io
from augmentor.errors import ProjectError
from augmentor.importers import ImportOutcome, import_source
from augmentor.workflows.project import (
    FILE_NAME,
    Project,
    ProjectConfig,
    SourceConfig,
    SplitConfig,
    edit_project,
    mixed_name,
    open_project,
    save_project,
)
from augmentor.workflows.reporting import Reporter
from generator.files import sha256_of, write_json
from generator.records import DefectExample


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
    is refused, since everything made so far rests on the first split.

    Raises:
        SourceError: the folder can't be read as asked, or holds bad files and `on_bad` is `error`.
        ProjectError: `folder` is already another project.
        DatabaseError: another project has the name's datasets in FiftyOne.
    """
    absolute = {"path": source.path.expanduser().resolve()}
    if source.roi is not None:
        absolute["roi"] = source.roi.expanduser().resolve()
    source = source.model_copy(update=absolute)
    _refuse_another(folder, name, source, split)
    for dataset in (name, mixed_name(name)):
        fiftyone_io.check_name(dataset, folder)
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
    if (folder / FILE_NAME).is_file():
        project = _with_new_classes(open_project(folder), outcome, reporter)
    else:
        project = save_project(
            folder,
            ProjectConfig(name=name, classes=outcome.classes, source=source, split=split),
        )
    _register(project, outcome, reporter)
    return Imported(project, outcome)


def count_splits(records: Iterable[DefectExample]) -> dict[str, Counter[str]]:
    """Images of each label on each side; clean ones last."""
    counts: dict[str, Counter[str]] = {}
    for record in sorted(records, key=lambda r: (r.is_clean, r.label)):
        counts.setdefault(record.label, Counter())[str(record.split)] += 1
    return counts


def _refuse_another(folder: Path, name: str, source: SourceConfig, split: SplitConfig) -> None:
    if not (folder / FILE_NAME).is_file():
        return
    config = open_project(folder).config
    if (config.name, config.source, config.split) != (name, source, split):
        raise ProjectError(
            f"{folder} is already a project made with other arguments, and what was trained there "
            "rests on its split; import into another folder: augment import SOURCE --name NAME "
            "--project FOLDER"
        )


def _with_new_classes(project: Project, outcome: ImportOutcome, reporter: Reporter) -> Project:
    """The project with classes that its photographs did not show before, after those it has: the
    order is that of every label written so far."""
    known = project.config.classes
    new = [name for name in outcome.classes if name not in known]
    if not new:
        return project
    reporter.say(f"New in {FILE_NAME}: {', '.join(new)}")
    return edit_project(project, {"classes": [*known, *new]})


def _register(project: Project, outcome: ImportOutcome, reporter: Reporter) -> None:
    """Register the real images in FiftyOne, unless that has been done for these records."""
    stamp = project.data / "registered.json"
    key: dict[str, Any] = {
        "dataset": project.config.name,
        "records": sha256_of([r.model_dump(mode="json") for r in outcome.records]),
    }
    name = project.config.name
    done = stamp.is_file() and json.loads(stamp.read_text()) == key
    if done and fiftyone_io.is_dataset_of(name, project.folder):
        return
    reporter.say(f"Registering {len(outcome.records)} images in FiftyOne ({name})")
    fiftyone_io.register_real(name, outcome.records, project.config.classes, project.folder)
    write_json(stamp, key)
