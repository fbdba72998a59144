"""Options that several commands share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from augmentor.cli.console import Console

if TYPE_CHECKING:
    from augmentor.workflows.project import Project

ProjectOption = Annotated[
    Path | None,
    typer.Option("--project", help="The project's folder. Default: the one you are in."),
]


def open_here(folder: Path | None, console: Console) -> "Project":
    """Open the project that a command works on, and say which it is."""
    from augmentor.records_io import PROJECT_FILE
    from augmentor.workflows.project import open_project

    project = open_project(folder)
    console.say(f"Project {project.config.name}: {project.folder / PROJECT_FILE}")
    return project


def numbers(text: str | None) -> list[float]:
    """Ratios, separated by commas.

    Raises:
        UsageError: something else.
    """
    from augmentor.errors import UsageError

    try:
        found = [float(part) for part in text.split(",")] if text else []
    except ValueError:
        found = [-1.0]
    if not all(0 < ratio <= 1 for ratio in found):
        raise UsageError(
            f"--ratios {text!r} is no list of shares above 0 and up to 1; write for example "
            "--ratios 0.3,0.5,0.8"
        )
    return found
