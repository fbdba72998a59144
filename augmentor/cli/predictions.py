"""augment predictions: what the evaluated detectors say, beside the truth in FiftyOne."""

from typing import TYPE_CHECKING, Annotated

import typer

from augmentor.cli.console import Console, DebugOption, JsonOption, command
from augmentor.cli.options import ProjectOption, open_here

if TYPE_CHECKING:
    from augmentor.workflows.predictions import Brought


def predictions(
    arms: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated arms of the last evaluation, such as real,mixed. Default: all."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the trainings.")] = 0,
    project: ProjectOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Bring predictions on val and test into FiftyOne, to sort by what synthetic data changed."""
    with command(json, debug) as console:
        from augmentor.workflows.predictions import bring_predictions

        brought = bring_predictions(
            open_here(project, console),
            console,
            arms=[part.strip() for part in arms.split(",")] if arms else None,
            seed=seed,
        )
        show(console, brought)
        gain = brought.gain
        console.result(
            {
                "dataset": brought.dataset,
                "arms": brought.arms,
                "seed": brought.seed,
                "gain": vars(gain) if gain else None,
            }
        )


def show(console: Console, brought: "Brought") -> None:
    """Print what was brought in, and where to look at it."""
    gain = brought.gain
    if gain:
        console.text(
            f"Of the defects on test, {gain.found} were found with {gain.arm} and not with "
            f"{gain.baseline}, {gain.lost} the other way round (seed {brought.seed}, IoU 0.5)."
        )
    console.text(
        f"FiftyOne: {brought.dataset}   Next: augment review   (views: found only with synthetic, "
        "lost with synthetic)"
    )
