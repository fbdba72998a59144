"""augment export: write the mixed dataset for other tools."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from augmentor.cli.console import DebugOption, JsonOption, command
from augmentor.cli.options import ProjectOption, open_here


class Format(StrEnum):
    """Layouts that other tools read."""

    yolo = "yolo"
    yolo_seg = "yolo-seg"
    coco = "coco"
    voc = "voc"
    mvtec = "mvtec"
    folders = "folders"


def export(
    layout: Annotated[Format, typer.Option("--format", help="What the other tool reads.")],
    to: Annotated[
        Path | None, typer.Option(help="Folder to write. Default: exports/FORMAT in the project.")
    ] = None,
    project: ProjectOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write the mixed dataset, with its provenance, for other tools."""
    with command(json, debug) as console:
        from augmentor.exporters import coarse_outlines, guessed_masks
        from augmentor.workflows.export import export_project

        folder = export_project(open_here(project, console), layout.value, to, console)
        guessed = guessed_masks(folder, layout.value)
        coarse = coarse_outlines(folder, layout.value)
        for said in (guessed, coarse):
            if said:
                console.warn(said)
        console.text(f"Written: {folder}")
        console.result(
            {"format": layout.value, "folder": str(folder), "guessed": guessed, "coarse": coarse}
        )
