"""Reading report.json: light, so that whoever only looks at reports loads no torch."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import Any

from downstream.errors import DownstreamError

SCHEMA = 2
"""Of report.json; report.py says what it holds. Schema 1 knew one baseline and no intervals of the
noise of the training."""

SPLITS_REPORT, SPLITS_PAGE = "splits.json", "splits.html"
"""What repeated splits come to, beside report.json and report.html of one."""

KEPT = "reports"
"""Beside them: the folder of those that others took the place of, each in one named by its time."""

_KINDS: dict[str, type] = {
    **dict.fromkeys(("name", "verdict"), str),
    **dict.fromkeys(("tasks", "arms", "seeds", "runs"), list),
    **dict.fromkeys(("primary", "counts", "results", "differences", "hashes"), dict),
    **dict.fromkeys(("settings", "versions"), dict),
}


def read_report(path: Path) -> dict[str, Any]:
    """Read a report that `run_experiment` wrote.

    Args:
        path: report.json, or a folder that holds it, itself or in `evaluation`.

    Raises:
        DownstreamError: it isn't there, or isn't a report of this schema.
    """
    folder, path = path, find_report(path)
    if not path.is_file():
        where = f" --project {quote(str(folder))}" if folder.is_dir() else ""
        raise DownstreamError(f"There is no report in {folder}; write one: augment evaluate{where}")
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise DownstreamError(
            f"{path} can't be read as a report: {fault}; write one: augment evaluate"
        ) from None
    if isinstance(report, dict) and "splits" in report:
        raise DownstreamError(
            f"{path} is of repeated splits, and reports of one split are compared; take those of "
            f"its splits, each in a folder of {path.parent / 'splits'}"
        )
    schema = report.get("schema") if isinstance(report, dict) else None
    if schema == SCHEMA:
        faulty = [name for name, kind in _KINDS.items() if not isinstance(report.get(name), kind)]
        if faulty:
            raise DownstreamError(
                f"{path} is damaged, it lacks {', '.join(faulty)}; write it anew: augment evaluate"
            )
        return dict(report)
    if schema == 1:
        raise DownstreamError(
            f"{path} is of schema 1, which an older version wrote, and {SCHEMA} is read; evaluate "
            "again, which uses finished runs that are still valid: augment evaluate"
        )
    raise DownstreamError(
        f"{path} is not a report of schema {SCHEMA} but of {schema!r}; write one: augment evaluate"
    )


def find_report(path: Path) -> Path:
    """report.json itself, or where it lies in a project's, or an evaluation's, folder."""
    if not path.is_dir():
        return path
    places = [path / "evaluation" / "report.json", path / "report.json"]
    return next((place for place in places if place.is_file()), places[0])


def keep_earlier(data: Path, replaces: Callable[[Mapping[str, Any]], bool]) -> Path | None:
    """Move the report that is about to be written over, and its page, to a folder of their own.

    Args:
        data: report.json or splits.json; its page lies beside it.
        replaces: whether the new report says all that the earlier one, which it is given, did.

    Returns:
        The folder; None where there was none, or nothing is lost with it.
    """
    if not data.is_file():
        return None
    try:
        if replaces(json.loads(data.read_text(encoding="utf-8"))):
            return None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None  # damaged: nothing can be read from it
    time = f"{written(data):%Y-%m-%dT%H-%M-%S}"
    names = [time, *(f"{time}-{number}" for number in range(2, 1000))]
    folder = next(f for name in names if not (f := data.parent / KEPT / name).exists())
    folder.mkdir(parents=True)
    for path in (data.with_suffix(".html"), data):
        if path.is_file():
            path.rename(folder / path.name)
    return folder


def all_reports(evaluation: Path) -> list[Path]:
    """The report.json and splits.json of an evaluation, also earlier ones, the newest first."""
    names = ("report.json", SPLITS_REPORT)
    folders = [evaluation, *(evaluation / KEPT).glob("*")]
    found = [path for folder in folders for name in names if (path := folder / name).is_file()]
    return sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def written(data: Path) -> datetime:
    """When a report was written, UTC."""
    return datetime.fromtimestamp(data.stat().st_mtime, UTC)
