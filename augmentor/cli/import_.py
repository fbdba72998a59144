"""augment import: a folder of real photographs becomes a project."""

from enum import StrEnum
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from augmentor.cli.console import Console, DebugOption, JsonOption, command

if TYPE_CHECKING:
    from augmentor.importers import ImportOutcome


class Layout(StrEnum):
    """How the files lie."""

    auto = "auto"
    pairs = "pairs"
    mvtec = "mvtec"
    voc = "voc"
    coco = "coco"
    yolo = "yolo"
    folders = "folders"


class OnBad(StrEnum):
    """What becomes of bad files."""

    error = "error"
    skip = "skip"


class Protocol(StrEnum):
    """How the images are split."""

    few_shot = "few-shot"
    anomalydiffusion = "anomalydiffusion"


def import_(
    source: Annotated[Path, typer.Argument(help="Folder with the real images and their labels.")],
    name: Annotated[str, typer.Option(help="Name of the project and of its FiftyOne dataset.")],
    layout: Annotated[Layout, typer.Option(help="How the files lie.")] = Layout.auto,
    protocol: Annotated[
        Protocol,
        typer.Option(
            help="How the images are split: few-shot (ours), or anomalydiffusion, the published "
            "split of a product of MVTec AD (docs/protocols.md)."
        ),
    ] = Protocol.few_shot,
    shots: Annotated[
        int | None,
        typer.Option(min=1, help="Keep this many defect images a class; the rest is set aside."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split.")] = 0,
    val: Annotated[float, typer.Option(help="Share of the images for validation.")] = 0.2,
    test: Annotated[float, typer.Option(help="Share of the images for the verdict.")] = 0.2,
    group_by: Annotated[
        str | None,
        typer.Option(
            help="Regex on the path: files with the same match stay on one side of the split; or "
            "the word similar: near-identical photographs do."
        ),
    ] = None,
    on_bad: Annotated[
        OnBad, typer.Option(help="Stop at bad files, or leave them out (always listed).")
    ] = OnBad.error,
    mask_threshold: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=254,
            help="Mask pixels above this grey level are defect. Default: 127, and masks with areas "
            "of other greys are refused.",
        ),
    ] = None,
    roi: Annotated[
        Path | None,
        typer.Option(
            help="Where the part is, in white: one picture for a fixed camera, or a folder with "
            "one for each image, named like it. Default: estimated."
        ),
    ] = None,
    project: Annotated[
        Path | None, typer.Option(help="Folder for the project. Default: ./NAME")
    ] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Read a real folder, check every file, split it once, register it in FiftyOne."""
    with command(json, debug) as console:
        from augmentor.errors import UsageError
        from augmentor.workflows.importing import import_project
        from augmentor.workflows.project import SourceConfig, SplitConfig
        from generator.config import parse

        split: dict[str, Any] = {"protocol": protocol.value, "seed": seed, "val": val, "test": test}
        split |= {"shots": shots, "group_by": group_by}
        folder = (project or Path(name)).resolve()
        imported = import_project(
            name,
            SourceConfig(
                path=source,
                layout=layout.value,
                on_bad=on_bad.value,
                mask_threshold=mask_threshold,
                roi=roi,
            ),
            parse(split, SplitConfig, "augment import", UsageError),
            folder,
            console,
        )
        show(console, imported.outcome, folder)
        console.text(f"Next: cd {quote(str(folder))} && augment build --ratio 0.5")
        console.result(
            {
                "project": str(folder),
                "layout": imported.outcome.layout,
                "classes": imported.outcome.classes,
                "report": imported.outcome.report,
            }
        )


def show(console: Console, outcome: "ImportOutcome", folder: Path) -> None:
    """Print what an import led to."""
    from augmentor.workflows.importing import count_splits

    if outcome.already_done:
        console.say("Nothing to do: these files were imported with these settings before.")
    console.say(f"Layout {outcome.layout}: {outcome.layout_reason}")
    sides = ("train", "val", "test", "reserve")
    rows = [
        (label, *(counts[side] for side in sides), sum(counts.values()))
        for label, counts in count_splits(outcome.records).items()
    ]
    console.table(f"Images in {folder / 'data'}", ("class", *sides, "all"), rows)
    for line in outcome.report.get("notes", []):
        console.say(f"note: {line}")
    for line in outcome.report.get("warnings", []):
        console.warn(line)
