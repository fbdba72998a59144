"""A project's records on disk: `data/records.jsonl`, checked against the files they speak of.

Paths of files under the data folder are stored relative to it, so a project can be moved; the
user's own images are stored absolute.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from augmentor.errors import ProjectError
from generator.files import read_lines, sha256_of_file, write_lines
from generator.images import hash_annotation
from generator.records import DefectExample

PROJECT_FILE = "augment.yaml"
"""A folder that holds one is a project."""

RECORDS = "records.jsonl"
SPLITS = "splits.json"
REPORT = "import_report.json"


def save_records(data_dir: Path, records: Iterable[DefectExample]) -> None:
    """Write `data_dir/records.jsonl`, whole or not at all.

    Raises:
        ProjectError: two records have one id (the first 16 digits of their content hashes agree).
    """
    lines: list[dict[str, Any]] = []
    seen: dict[str, Path] = {}
    for record in records:
        if record.id in seen:
            raise ProjectError(
                f"{seen[record.id]} and {record.source_path} have the same id {record.id}; "
                "leave one of them out."
            )
        seen[record.id] = record.source_path
        lines.append(_map_paths(record.model_dump(mode="json"), lambda p: _stored(p, data_dir)))
    write_lines(data_dir / RECORDS, lines)


def load_records(data_dir: Path, *, verify: bool = True) -> list[DefectExample]:
    """Read `data_dir/records.jsonl`; every path comes out absolute.

    Args:
        data_dir: the project's `data/`.
        verify: check that every image and mask is still there and every image unchanged: by size
            and time as noted in `splits.json`, and by its hash where those differ.

    Raises:
        ProjectError: nothing was imported, the file is damaged, or an image has since vanished or
            changed.
    """
    path = data_dir / RECORDS
    if not path.exists():
        raise ProjectError(f"{path} does not exist; run: augment import SOURCE --name NAME")
    try:
        records = [
            DefectExample.model_validate(_map_paths(line, lambda p: _resolved(p, data_dir)))
            for line in read_lines(path)
        ]
    except (ValueError, KeyError, TypeError) as fault:
        first = " ".join(str(fault).split())[:200]
        raise ProjectError(f"{path} is damaged ({first}); run augment import again.") from None
    if verify:
        _verify(records, data_dir)
    return records


def content_of(record: DefectExample) -> dict[str, Any]:
    """What a record says, with what its files hold in the place of where they lie: the same for a
    project that has moved, another for a mask or a region of interest that was corrected.

    Raises:
        ExampleError: a mask or a region of interest can't be read.
    """
    apart = {"image_path", "source_path", "roi_path", "instances"}
    instances = [
        i.model_dump(mode="json", exclude={"mask_path"}) | {"mask": hash_annotation(i.mask_path)}
        for i in record.instances
    ]
    said = record.model_dump(mode="json", exclude=apart)
    return said | {"instances": instances, "roi": hash_annotation(record.roi_path)}


def located(record: DefectExample) -> list[Any]:
    """`content_of` a record and where its image lies, for what shows it from there."""
    return [content_of(record), str(record.image_path), str(record.source_path)]


def file_facts(path: Path) -> dict[str, int]:
    """Size in bytes and time of change in nanoseconds, to tell cheaply that nothing changed."""
    status = path.stat()
    return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns}


def _noted(data_dir: Path) -> dict[str, dict[str, Any]]:
    """What `splits.json` notes of each image, by its id; {} without that file."""
    path = data_dir / SPLITS
    if not path.exists():
        return {}
    try:
        return {entry["id"]: entry for entry in json.loads(path.read_text("utf-8"))["files"]}
    except (ValueError, KeyError, TypeError) as fault:
        raise ProjectError(f"{path} is damaged; run augment import again.") from fault


def _verify(records: Sequence[DefectExample], data_dir: Path) -> None:
    noted = _noted(data_dir)
    if noted and noted.keys() != {record.id for record in records}:
        raise ProjectError(
            f"{data_dir / RECORDS} holds {len(records)} images and {SPLITS} beside it "
            f"{len(noted)}, so one of them is damaged; run augment import again."
        )
    for record in records:
        masks = [i.mask_path for i in record.instances if i.mask_path is not None]
        for path in (record.image_path, record.source_path, *masks):
            if not path.exists():
                raise ProjectError(
                    f"{path} was there when the data was imported and is gone; bring it back, or "
                    "run augment import again."
                )
        facts = file_facts(record.source_path)
        known = noted.get(record.id, {})
        if all(known.get(key) == value for key, value in facts.items()):
            continue
        if sha256_of_file(record.source_path) != record.sha256:
            raise ProjectError(
                f"{record.source_path} has changed since it was imported; run augment import again."
            )


def _map_paths(line: dict[str, Any], change: Any) -> dict[str, Any]:
    """A record's line with `change` applied to each path in it."""
    out = dict(line)
    for key in ("image_path", "source_path", "roi_path"):
        if out.get(key) is not None:
            out[key] = change(out[key])
    out["instances"] = [
        {**i, "mask_path": change(i["mask_path"]) if i.get("mask_path") is not None else None}
        for i in out.get("instances", ())
    ]
    return out


def _stored(path: str, data_dir: Path) -> str:
    absolute = Path(path).absolute()
    root = data_dir.absolute()
    inside = absolute.is_relative_to(root)
    return absolute.relative_to(root).as_posix() if inside else str(absolute)


def _resolved(path: str, data_dir: Path) -> str:
    return str(data_dir.absolute() / path)  # an absolute path stays as it is
