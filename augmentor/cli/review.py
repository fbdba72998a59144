"""augment review: look at the dataset in the FiftyOne App, and decide."""

from typing import Annotated

import typer

from augmentor.cli.console import DebugOption, JsonOption, command
from augmentor.cli.options import ProjectOption, open_here


def review(
    dataset: Annotated[
        str | None,
        typer.Option(
            help="Any dataset in FiftyOne, only to look at. Default: the project's mixed one."
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="First port to try.")] = 5151,
    address: Annotated[
        str, typer.Option(help="Address to listen on; any other than 127.0.0.1 opens it to others.")
    ] = "127.0.0.1",
    who: Annotated[
        str | None,
        typer.Option("--as", help="Name that decisions are signed with. Default: your account's."),
    ] = None,
    project: ProjectOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Open the FiftyOne App: accept, reject, relabel, ask for more; the next build obeys."""
    with command(json, debug) as console:
        from augmentor.workflows.review import open_review

        opened = None if dataset else open_here(project, console)
        name = opened.mixed_name if opened else str(dataset)
        session = open_review(name, opened, port=port, address=address, who=who, reporter=console)
        if session.note:
            console.warn(session.note)
        console.text(f"{name}: {session.url}")
        if opened:
            console.text(
                "Select samples and press Shift+A to accept, Shift+X to reject, Shift+U to undo, "
                "Shift+M for more like them, Shift+T to try again."
            )
        console.text("Ctrl-C ends the App.")
        console.result({"dataset": name, "url": session.url})
        session.wait()
