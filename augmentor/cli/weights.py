"""augment weights: pretrained weights that recipes start from."""

from pathlib import Path
from shlex import quote
from typing import Annotated, Literal

import typer

from augmentor.cli.console import DebugOption, JsonOption, command
from augmentor.cli.options import ProjectOption, open_here

app = typer.Typer(
    name="weights",
    no_args_is_help=True,
    help="Pretrained weights: what recipes need, what is there, bringing and making them.",
)


@app.command("list")
def list_(
    recipe: Annotated[
        str | None, typer.Argument(help="Name of a recipe, or a YAML file. Default: all.")
    ] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Say which weights a recipe needs, how large, under which licence, and where they are."""
    with command(json, debug) as console:
        from augmentor.workflows.weights import list_weights

        found = list_weights(recipe)
        rows = [
            (
                w.recipe,
                w.name or "none",
                _size(w.size) if w.name else "",
                w.licence or ("unknown" if w.name else ""),
                ("yes" if w.folder else "no") if w.name else "",
            )
            for w in found
        ]
        console.table("Weights", ("recipe", "weights", "size", "licence", "on disk"), rows)
        for licence, restricts in dict.fromkeys((w.licence, w.restricts) for w in found):
            if licence:
                console.text(f"{licence}: {restricts}.")
        for line in dict.fromkeys(f"{w.name} is in {w.folder}" for w in found if w.folder):
            console.text(line)
        for w in found:
            if w.problem:
                console.text(f"{w.recipe}: {w.problem}")
        console.result({"weights": [w.as_dict() for w in found]})


@app.command("fetch")
def fetch(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe, or a YAML file.")],
    to: Annotated[
        Path | None, typer.Option(help="Folder to write. Default: the Hugging Face cache.")
    ] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Bring the weights that a recipe needs; the one command that uses a network."""
    with command(json, debug, hub=True) as console:
        from augmentor.workflows.weights import fetch_weights

        found = fetch_weights(recipe, to, console)
        if found.name is None:
            console.text(f"{found.recipe} needs no weights.")
        else:
            console.text(f"On disk: {found.folder} ({_size(found.size)})")
            where = f" --weights {quote(str(to))}" if to else ""
            console.text(f"Next: augment train {quote(recipe)}{where}")
        console.result(found.as_dict())


@app.command("convert")
def convert(
    folder: Annotated[
        Path,
        typer.Argument(
            help="A pipeline's folder (unet/, vae/ and so on), a folder of pickled state dicts, or "
            "one such file."
        ),
    ],
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Make safetensors of pickled weights, reading nothing but tensors; the pickles stay."""
    with command(json, debug) as console:
        from augmentor.workflows.weights import convert_weights

        done = convert_weights(folder)
        for made in done:
            console.text(f"{made.source} -> {made.target} ({_size(made.size)})")
        if not done:
            console.text(f"Nothing to do: nothing in {folder} has its weights as a pickle only.")
        made_of = [{"from": str(c.source), "to": str(c.target), "bytes": c.size} for c in done]
        console.result({"folder": str(folder), "converted": made_of})


@app.command("pretrain")
def pretrain(
    folder: Annotated[Path, typer.Argument(help="Folder to write.")],
    task: Annotated[
        Literal["detection", "classification", "localisation"],
        typer.Option(help="What it is for."),
    ] = "detection",
    detector: Annotated[
        str | None,
        typer.Option(
            "--detector",
            "--classifier",
            help="An ultralytics model, or a ResNet to classify. Default: yolo11n, resnet18.",
        ),
    ] = None,
    per_class: Annotated[
        int, typer.Option(min=4, help="Pictures of each of five kinds of defects.")
    ] = 500,
    steps: Annotated[
        int | None,
        typer.Option(min=1, help="Optimiser steps. Default: 6400, 2400 or 4800, by task."),
    ] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Train a network on drawn defects, once, for `augment evaluate` to start from.

    Some 50 minutes for a detector on one CPU core, half an hour for a classifier; nothing is
    downloaded. The tasks share the pictures, so give them one folder.
    """
    with command(json, debug) as console:
        from augmentor.workflows.pretraining import pretrain

        made = pretrain(
            folder, console, task=task, detector=detector, per_class=per_class, steps=steps
        )
        console.text(
            f"Learned from {made.images} pictures in {made.seconds / 60:.0f} min; "
            f"{made.title} on others of their kind: {made.score:.3f}"
        )
        console.text(f"Next, in a project: augment weights use {quote(str(folder.resolve()))}")
        console.result(made.as_dict())


@app.command("use")
def use(
    folder: Annotated[Path, typer.Argument(help="That `augment weights pretrain` was given.")],
    project: ProjectOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Let this project's detectors, classifiers and localisers start from drawn defects.

    Written to `evaluate` in augment.yaml, for `augment evaluate` and `augment loop` alike; take the
    lines out to start from scratch.
    """
    with command(json, debug) as console:
        from augmentor.workflows.pretraining import use_pretrained

        starts = use_pretrained(open_here(project, console), folder)
        for setting, run in starts.items():
            console.text(f"evaluate.{setting}: {run}")
        console.text("Next: augment evaluate")
        console.result({setting: str(run) for setting, run in starts.items()})


def _size(size: int | None) -> str:
    if size is None:
        return "unknown"
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"
