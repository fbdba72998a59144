"""augment evaluate: was anything gained?"""

from typing import Annotated

import typer

from augmentor.cli.console import DebugOption, JsonOption, command
from augmentor.cli.options import ProjectOption, open_here


def evaluate(
    seeds: Annotated[int | None, typer.Option(min=1, help="Seeds for each arm.")] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Optimiser steps of each detector, in every arm.")
    ] = None,
    arms: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated: real,classical,copy-paste,mixed,full. Default: all "
            "but full (every real image, with those set aside by --shots)."
        ),
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs side by side.")] = None,
    project: ProjectOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Train detectors on each arm and report the gain over real images alone."""
    with command(json, debug) as console:
        from augmentor.workflows.evaluate import evaluate_project

        evaluated = evaluate_project(
            open_here(project, console),
            console,
            arms=arms.split(",") if arms else None,
            seeds=seeds,
            steps=steps,
            jobs=jobs,
        )
        console.text(evaluated.table)
        console.text(f"Report: {evaluated.html}  ({evaluated.json})")
        console.result(evaluated.report)
