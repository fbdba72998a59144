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
