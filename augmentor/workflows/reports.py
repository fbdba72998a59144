"""Reports that were written: where they lie, and two of them side by side."""

import os
import sys
import webbrowser
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from augmentor.errors import ProjectError
from augmentor.workflows.project import Project
from downstream.compare_reports import Compared, compare_reports, title
from downstream.errors import DownstreamError
from downstream.files import read_json
from downstream.report_file import SPLITS_PAGE, all_reports, read_report, written
from downstream.verdict import signed

__all__ = ["Opened", "compare_written", "gain_text", "list_reports", "open_report", "title"]


@dataclass(frozen=True)
class Opened:
    """A report's page, and whether a browser was told to show it."""

    path: Path
    shown: bool


@dataclass(frozen=True)
class Listed:
    """A report: when it was written (UTC), over how many splits if repeated, of which arms, its
    first sentence, and its page."""

    written: datetime
    over: str
    arms: str
    headline: str
    page: Path


def open_report(project: Project) -> Opened:
    """Show the project's report.html in the browser, or splits.html where that was written last; a
    browser is only told where there is a screen for one.

    Raises:
        ProjectError: nothing was evaluated yet.
    """
    pages = [project.evaluation / name for name in ("report.html", SPLITS_PAGE)]
    written = [page for page in pages if page.is_file()]
    if not written:
        raise ProjectError(f"There is no report in {project.evaluation} yet: augment evaluate")
    path = max(written, key=lambda page: page.stat().st_mtime_ns)
    return Opened(path, has_screen() and webbrowser.open(path.as_uri()))


def list_reports(project: Project) -> list[Listed]:
    """The project's reports, the newest first: the ones that stand, and those before them.

    Raises:
        ProjectError: nothing was evaluated yet.
    """
    found = []
    for path in all_reports(project.evaluation):
        report = read_json(path)
        if said := report.get("headline"):
            over = f"{len(report['splits'])} splits" if "splits" in report else ""
            arms = ", ".join(report.get("arms", ()))
            page = path.with_suffix(".html")
            found.append(Listed(written(path), over, arms, said, page))
    if not found:
        raise ProjectError(f"There is no report in {project.evaluation} yet: augment evaluate")
    return found


def has_screen() -> bool:
    """Whether a browser could be seen: on Linux a display server must be there."""
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def compare_written(a: Path, b: Path) -> tuple[Compared, tuple[dict[str, Any], dict[str, Any]]]:
    """Two reports side by side; each is a report.json, or a folder in which one lies.

    Raises:
        DownstreamError: one of them can't be read.
    """
    reports = (read_report(a), read_report(b))
    try:
        return compare_reports(*reports), reports
    except (KeyError, TypeError, AttributeError) as fault:
        raise DownstreamError(
            f"{a} or {b} is damaged ({type(fault).__name__}: {fault}); write it anew: augment "
            "evaluate"
        ) from None


def gain_text(gap: Any) -> str:
    """A difference with interval and verdict; empty without one."""
    return f"{signed(gap)} {gap['verdict']}" if gap else ""
