"""augment evaluate: was anything gained?"""

from typing import Annotated, Any

import typer

from augmentor.cli.console import DebugOption, JsonOption, command
from augmentor.cli.options import ProjectOption, numbers, open_here


def evaluate(
    arms: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated: real, classical, plain-paste, copy-paste, mixed (the built "
            "dataset), synthetic (without real defects), full (with the images set aside by "
            "--shots), real:5 (5 real defect images a class), mixed@0.8, classical@0.8, "
            "compact@0.8 and compact+poisson-paste@0.8 (generators at a ratio). "
            "Default: real,classical,copy-paste,mixed."
        ),
    ] = None,
    ratios: Annotated[
        str | None,
        typer.Option(help="Comma-separated ratios, such as 0.3,0.5,0.8: adds mixed@R for each."),
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(help="Comma-separated: detection, classification, localisation."),
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Seeds for each arm.")] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Optimiser steps of each detector, in every arm.")
    ] = None,
    select: Annotated[
        str | None,
        typer.Option(help="Which detector counts: last (step), val (best on val), both."),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            help="Whose settings hold: few-shot (those of augment.yaml), or anomalydiffusion, in a "
            "project that was imported so. Default: that of the import."
        ),
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs side by side.")] = None,
    splits: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Repeat all of it, import to detectors, over this many splits of the images, each "
            "with a seed of its own: the surest answer; as many builds, and trainings of one seed "
            "each.",
        ),
    ] = None,
    to_fiftyone: Annotated[
        bool,
        typer.Option(
            "--to-fiftyone", help="Bring the predictions into FiftyOne, as augment predictions."
        ),
    ] = False,
    project: ProjectOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Train detectors on each arm and report the gain over real images alone."""
    clash = [
        name
        for name, given in (
            ("--seeds", seeds is not None),
            ("--protocol", protocol is not None),
            ("--to-fiftyone", to_fiftyone),
        )
        if given and splits is not None
    ]
    with command(json, debug) as console:
        from augmentor.errors import UsageError

        if clash:
            raise UsageError(
                "Each split has a seed and predictions of its own; leave out "
                f"{' and '.join(clash)}."
            )
        own_arms, more = _listed(arms), numbers(ratios)
        if own_arms and own_arms != ["real"] and len({*own_arms, *more}) == 1:
            raise UsageError(
                f"The arm {own_arms[0]} alone has nothing to be compared with; type: augment "
                f"evaluate --arms real,{own_arms[0]}"
            )
        from augmentor.workflows.evaluate import evaluate_project
        from augmentor.workflows.splits import evaluate_splits

        opened = open_here(project, console)
        asked: dict[str, Any] = {
            "arms": own_arms,
            "ratios": more,
            "tasks": _listed(tasks),
            "steps": steps,
            "jobs": jobs,
            "select": select,
        }
        if splits is not None:
            evaluated = evaluate_splits(opened, console, splits, **asked)
        else:
            evaluated = evaluate_project(opened, console, seeds=seeds, protocol=protocol, **asked)
        console.text(evaluated.table)
        console.text(f"Report: {evaluated.html}  ({evaluated.json})")
        if to_fiftyone:
            from augmentor.cli.predictions import show
            from augmentor.workflows.predictions import bring_predictions

            seed = evaluated.report["seeds"][0]
            show(console, bring_predictions(opened, console, seed=seed))
        console.result(evaluated.report)


def _listed(text: str | None) -> list[str] | None:
    return [part.strip() for part in text.split(",")] if text else None
