"""augment sheet: a contact sheet for people without the App."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from augmentor.cli.console import DebugOption, JsonOption, command
from augmentor.cli.options import ProjectOption, open_here


def sheet(
    to: Annotated[
        Path | None,
        typer.Option(help="A .html or .png file. Default: sheet.html in the project."),
    ] = None,
    class_name: Annotated[
        str | None, typer.Option("--class", help="Only this class. Default: all.")
    ] = None,
    generator: Annotated[
        str | None, typer.Option(help="Only samples of this generator. Default: all.")
    ] = None,
    verdict: Annotated[
        Literal["accepted", "rejected"] | None,
        typer.Option(help="Only samples with this verdict. Default: both."),
    ] = None,
    number: Annotated[
        int, typer.Option("-n", "--number", min=1, max=1000, help="Most pictures in a row.")
    ] = 6,
    project: ProjectOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write real beside synthetic per class: mask outlines, scores, the rejected with reasons."""
    with command(json, debug) as console:
        from augmentor.workflows.sheet import write_contact_sheet

        opened = open_here(project, console)
        written = write_contact_sheet(
            opened,
            to or opened.folder / "sheet.html",
            console,
            class_name=class_name,
            generator=generator,
            verdict=verdict,
            number=number,
        )
        for kind, count in written.samples.items():
            console.text(f"{kind}: {written.shown[kind]} of {count} shown")
        console.text(f"Written to {written.path}")
        console.result(
            {"sheet": str(written.path), "samples": written.samples, "shown": written.shown}
        )
