"""augment build: the command that people know us by."""

from typing import Annotated, Any

import typer

from augmentor.cli.console import Console, DebugOption, JsonOption, command
from augmentor.cli.errors import EXIT_SHORT
from augmentor.cli.options import ProjectOption, open_here


def build(
    ratio: Annotated[
        float | None,
        typer.Option(
            help="Share of synthetic among the defect images of the mixed training split: "
            "0 real only, 0.5 as many synthetic as real, 1 synthetic only."
        ),
    ] = None,
    generator: Annotated[
        str | None,
        typer.Option(help="compact, copy-paste, ..., or shares: compact=0.7,copy-paste=0.3"),
    ] = None,
    balance: Annotated[
        str | None,
        typer.Option(help="class: bring the classes to equal numbers; natural: as they occur."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of sampling and mixing.")] = None,
    project: ProjectOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Train and sample what is missing, filter, mix at a ratio, register in FiftyOne, export."""
    with command(json, debug) as console:
        from augmentor.workflows.build import build_dataset, with_mix

        opened = with_mix(
            open_here(project, console),
            ratio=ratio,
            generators=generator,
            balance=balance,
            seed=seed,
        )
        built = build_dataset(opened, console)
        show(console, built.summary)
        console.result(built.summary)
        if built.summary["short"]:
            raise typer.Exit(EXIT_SHORT)


def show(console: Console, summary: dict[str, Any]) -> None:
    """Print what a build led to."""
    from augmentor.workflows.build import remarks

    if summary["unchanged"]:
        console.say("Nothing to do: built from these samples with these settings before.")
    console.table(
        f"Training split at ratio {summary['ratio']:g}",
        ("class", "real", "synthetic"),
        [(row["class"], row["real"], row["synthetic"]) for row in summary["counts"]],
    )
    for name, rules in summary["rejections"].items():
        for rule, count in rules.items():
            console.text(f"rejected, {name}: {count} by {rule}")
    by_hand = summary["decisions"]
    if any(by_hand.values()):
        console.text(
            f"Decisions by hand applied: {by_hand['rejected']} rejected, {by_hand['accepted']} "
            f"accepted, {by_hand['relabelled']} relabelled"
            + (
                f"; {by_hand['elsewhere']} on samples that are not in use"
                * bool(by_hand["elsewhere"])
            )
        )
    for line in remarks(summary):
        console.warn(line)
    console.text(f"Dataset:  {summary['export']}   FiftyOne: {summary['fiftyone']}")
    console.text(f"Pictures: {summary['sheet']}")
    console.text("Next: augment review   (look at it)   augment evaluate   (does it help?)")
