"""augment demo: the built-in sample dataset, and the whole way on it."""

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from augmentor.cli.console import Console, DebugOption, JsonOption, command


def demo(
    folder: Annotated[Path, typer.Argument(help="Folder to write.")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the surfaces and defects.")] = 0,
    run: Annotated[
        bool, typer.Option("--run", help="Go on: import, build at ratio 0.5, evaluate briefly.")
    ] = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write the sample dataset: procedural metal with five kinds of defects, for trying things."""
    with command(json, debug) as console:
        from augmentor.sample_data import write_sample_dataset

        folder = folder.resolve()
        if run:
            _walk(folder, seed, console)
            return
        from augmentor.workflows.project import name_like

        counts = write_sample_dataset(folder, seed=seed)
        console.table(f"Written to {folder}", ("class", "images"), list(counts.items()))
        name = name_like(folder.name, "sample")
        console.text(f"Next: augment import {quote(str(folder))} --name {name}-demo")
        console.result({"folder": str(folder), "counts": counts})


def _walk(folder: Path, seed: int, console: Console) -> None:
    from augmentor.cli import build, import_
    from augmentor.workflows.demo import walk

    walked = walk(folder, seed, console)
    project = walked.imported.project.folder
    import_.show(console, walked.imported.outcome, project)
    build.show(console, walked.built.summary)
    console.text(walked.evaluated.table)
    console.text(f"Photographs: {folder / 'photos'}")
    console.text(f"Project:     {project}")
    console.text(f"Report:      {walked.evaluated.html}")
    console.text(f"Open the App on the mixed dataset: cd {quote(str(project))} && augment review")
    console.result(
        {
            "photos": walked.photos,
            "project": str(project),
            "build": walked.built.summary,
            "report": walked.evaluated.report,
        }
    )
