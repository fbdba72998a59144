"""What earlier imports left in a project's `data/`: whether the folder is theirs, the sides that
they gave to photographs, and which of their files to remove."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from augmentor.errors import ProjectError, SourceError
from augmentor.importers.scan import Tree
from augmentor.records_io import RECORDS, REPORT, SPLITS, load_records
from generator.files import write_json
from generator.records import DefectExample, Split

ID = re.compile(r"[0-9a-f]{16}")
"""What an import names its pictures by."""


ELSEWHERE = (
    "give the project a folder of its own: augment import SOURCE --name NAME --project FOLDER"
)


def check_apart(source: Path, data_dir: Path) -> None:
    """Refuse photographs that lie where the import writes.

    Raises:
        SourceError: they do.
    """
    if source.resolve().is_relative_to(data_dir.resolve()):
        raise SourceError(f"{source} lies in {data_dir}, where the import writes; {ELSEWHERE}")


def claim(tree: Tree, data_dir: Path) -> None:
    """Make `data_dir` the import's own, before anything is written there.

    Raises:
        SourceError: photographs to import lie beside it, so that the next import would take what
            the project has made by then for photographs; or it holds files that no import wrote.
    """
    home = data_dir.resolve().parent
    root = tree.root.resolve()
    if home.is_relative_to(root) and any(p.resolve().is_relative_to(home) for p in tree.images):
        raise SourceError(
            f"{home} is to be the project's folder, but holds photographs of {tree.root}; "
            f"{ELSEWHERE}"
        )
    if (data_dir / REPORT).is_file() or (data_dir / RECORDS).is_file():
        return
    if data_dir.exists() and (not data_dir.is_dir() or any(data_dir.iterdir())):
        raise SourceError(
            f"{data_dir}, where the import would write, holds something else; {ELSEWHERE}"
        )
    write_json(data_dir / REPORT, {"status": "begun"})


def known_sides(data_dir: Path, arguments: Mapping[str, Any], notes: list[str]) -> dict[str, Split]:
    """The sides that the last import with these arguments gave, by id; {} after none.

    Args:
        data_dir: the project's `data/`.
        arguments: of the split.
        notes: told where they can't be read any more.
    """
    path = data_dir / SPLITS
    if not path.is_file():
        return {}
    try:
        document = json.loads(path.read_text("utf-8"))
        same = {key: document.get(key) for key in arguments} == dict(arguments)
        return {line["id"]: line["split"] for line in document["files"]} if same else {}
    except (ValueError, KeyError, TypeError, AttributeError):
        pass  # the records say it too
    try:
        records = load_records(data_dir, verify=False)
    except ProjectError:
        notes.append(f"{SPLITS} was damaged, so all images were split anew.")
        return {}
    return {record.id: record.split for record in records if record.split is not None}


def said_of_sides(records: Sequence[DefectExample], known: Mapping[str, Split]) -> list[str]:
    """What is to be said where some photographs had a side before, as sentences."""
    had = [record for record in records if record.id in known]
    if not had:
        return []
    gone = len(known) - len(had)
    moves = Counter((known[r.id], r.split) for r in had if {known[r.id], r.split} & {"val", "test"})
    notes = []
    if new := len(records) - len(had):
        moved = any(old != now for old, now in moves)
        keep = "" if moved else "; those known before keep their side"
        notes.append(f"{new} new images were split{keep}.")
    if gone:
        notes.append(f"{gone} images of the import before are not there any more.")
    for (old, now), number in sorted(moves.items(), key=str):
        if old != now:
            notes.append(
                f"Of the images known before, {number} went from {old} to {now}: what was measured "
                "before is not to be compared with what follows."
            )
    return notes


def clear(data_dir: Path, records: Sequence[DefectExample]) -> None:
    """Remove what earlier imports wrote and `records` don't need; files of other names stay."""
    (data_dir / RECORDS).unlink(missing_ok=True)
    used = {path for r in records for path in (r.image_path, r.roi_path)}
    for folder in ("images", "roi"):
        for path in (data_dir / folder).glob("*.png"):
            if ID.fullmatch(path.stem) and path not in used:
                path.unlink()
    for masks in (data_dir / "masks").glob("*"):
        if ID.fullmatch(masks.name) and masks.is_dir():
            for path in masks.glob("*.png"):
                if path.stem.isdecimal():
                    path.unlink()
            if not any(masks.iterdir()):
                masks.rmdir()
