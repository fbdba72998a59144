"""augment decisions: what people decided about samples, in and out of the project's log."""

from pathlib import Path
from shlex import quote
from typing import Annotated, Literal

import typer

from augmentor.cli.console import DebugOption, JsonOption, command
from augmentor.cli.options import ProjectOption, open_here

app = typer.Typer(
    name="decisions",
    no_args_is_help=True,
    help="What people decided about samples: list, add, export, import.",
)

Action = Literal["accept", "reject", "undo", "relabel"]


@app.command("list")
def list_(
    project: ProjectOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show what holds for each sample about which somebody decided; a tag set in the App counts
    from the next build or review on."""
    with command(json, debug) as console:
        from augmentor.workflows.decisions import logged_decisions

        held = sorted(logged_decisions(open_here(project, console)).values(), key=lambda s: s.time)
        console.table(
            f"{len(held)} samples decided about by hand",
            ("sample", "verdict", "class", "reason", "who", "when"),
            [
                (s.sample_id, s.verdict or "", s.class_name or "", s.reason, s.who, s.time[:19])
                for s in held
            ],
        )
        if not held:
            console.text("Nobody decided anything yet; look at the samples: augment review")
        console.result({"decisions": [s.model_dump() for s in held]})


@app.command()
def add(
    action: Annotated[Action, typer.Argument(help="What to do with the samples.")],
    ids: Annotated[list[str], typer.Argument(help="Their ids, as `augment sheet` shows them.")],
    reason: Annotated[str, typer.Option(help="Why, for people.")] = "",
    class_name: Annotated[str, typer.Option("--class", help="New class, for relabel.")] = "",
    project: ProjectOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Decide about samples without the App; `undo` takes back the last decision about each."""
    with command(json, debug) as console:
        from augmentor.workflows.built import build_again
        from augmentor.workflows.decisions import decide

        opened = open_here(project, console)
        decide(opened, action, ids, reason=reason, class_name=class_name)
        console.text(f"Noted: {action} {', '.join(ids)}. Next: {build_again(opened)}")
        console.result({"action": action, "samples": ids})


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="JSON lines to write.")],
    project: ProjectOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write every decision to a file, for another machine."""
    with command(json, debug) as console:
        from augmentor.workflows.decisions import export_decisions

        number = export_decisions(open_here(project, console), file)
        there = f"augment decisions import {quote(file.name)}"
        console.text(f"{number} decisions written; there: {there}")
        console.result({"file": str(file), "decisions": number})


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="JSON lines that `export` wrote.")],
    project: ProjectOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Merge the decisions of a file into the log; the later decision about a sample wins."""
    with command(json, debug) as console:
        from augmentor.workflows.built import build_again
        from augmentor.workflows.decisions import import_decisions

        opened = open_here(project, console)
        taken = import_decisions(opened, file)
        console.text(f"{taken.new} decisions are new, {taken.known} were known already")
        if taken.unknown:
            console.warn(
                f"{taken.unknown} of the samples are in no pool here; what was decided about them "
                "is kept, and counts as soon as they are made"
            )
        console.text(f"Next: {build_again(opened)}")
        console.result({"new": taken.new, "known": taken.known, "unknown_samples": taken.unknown})
