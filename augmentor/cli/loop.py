"""augment loop: a better mix, found on val; then one look at test."""

from typing import Annotated

import typer

from augmentor.cli.console import DebugOption, JsonOption, command
from augmentor.cli.options import ProjectOption, numbers, open_here


def loop(
    hours: Annotated[
        float | None, typer.Option(min=0, help="Budget of wall time, over all calls.")
    ] = None,
    runs: Annotated[int | None, typer.Option(min=1, help="Budget of trainings.")] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="detection, classification or localisation. Default: augment.yaml's first."
        ),
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Seeds for each training set.")] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Optimiser steps of each training.")
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Trainings side by side.")] = None,
    ratios: Annotated[str, typer.Option(help="Of the sweep, comma-separated.")] = "0.3,0.5,0.8",
    generators: Annotated[
        str | None,
        typer.Option(
            help="Of the sweep, comma-separated; A+B shares equally. Default: the project's "
            "recipe, copy-paste, and both."
        ),
    ] = None,
    restart: Annotated[
        bool,
        typer.Option("--restart", help="Forget what was tried, and look at test once more."),
    ] = False,
    project: ProjectOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Improve the mix round by round on val alone, then evaluate it on test, once."""
    with command(json, debug) as console:
        from augmentor.workflows.loop import Asked, run_loop

        asked = Asked(
            task=task,
            hours=hours,
            runs=runs,
            seeds=seeds,
            steps=steps,
            jobs=jobs,
            ratios=tuple(numbers(ratios)),
            generators=tuple(generators.split(",")) if generators else None,
        )
        looped = run_loop(open_here(project, console), console, asked, restart=restart)
        state = looped.state
        console.table(
            f"What each round brought, {state.metric} on val",
            ("round", "began with", "value", "came out"),
            [
                (
                    str(one.number or "sweep"),
                    one.start.arm,
                    "-" if one.start_value is None else f"{one.start_value:.3f}",
                    one.said,
                )
                for one in state.rounds
            ],
        )
        console.text(state.stopped)
        console.text(f"On test: {state.verdict}" if looped.report else state.verdict)
        console.text(f"Report: {looped.html}")
        console.result({**state.model_dump(mode="json", by_alias=True), "report": looped.report})
