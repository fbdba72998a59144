"""augment sample: add samples to a generator's pool."""

from typing import Annotated

import typer

from augmentor.cli.console import DebugOption, JsonOption, command
from augmentor.cli.options import ProjectOption, open_here


def sample(
    number: Annotated[int, typer.Option("-n", "--number", min=1, help="How many to add.")],
    class_name: Annotated[
        str | None, typer.Option("--class", help="Only of this class. Default: all, in turn.")
    ] = None,
    generator: Annotated[
        str | None,
        typer.Option(help="A recipe or a baseline. Default: the project's recipe."),
    ] = None,
    project: ProjectOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Add samples to the pool, each with a mask, scores and a verdict."""
    with command(json, debug) as console:
        from augmentor.workflows.sampling import add_samples

        opened = open_here(project, console)
        added = add_samples(opened, generator or opened.config.recipe, number, class_name, console)
        console.table(
            f"Added to {added.pool}",
            ("class", "accepted", "rejected"),
            [(name, *counts) for name, counts in added.counts.items()],
        )
        for rule, count in added.rejections.items():
            console.text(f"  rejected by {rule}: {count}")
        console.text("Next: augment build --ratio 0.5")
        console.result(
            {"pool": str(added.pool), "counts": added.counts, "rejections": added.rejections}
        )
