"""Reading report.json: light, so that whoever only looks at reports loads no torch."""

import json
from pathlib import Path
from shlex import quote
from typing import Any

from downstream.errors import DownstreamError

SCHEMA = 2
"""Of report.json; report.py says what it holds. Schema 1 knew one baseline and no intervals of the
noise of the training."""

SPLITS_REPORT, SPLITS_PAGE = "splits.json", "splits.html"
"""What repeated splits come to, beside report.json and report.html of one."""

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
