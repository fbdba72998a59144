"""augment review: look at the dataset in the FiftyOne App."""

from typing import Annotated

import typer

from augmentor.cli.console import DebugOption, JsonOption, command
from augmentor.cli.options import ProjectOption, open_here


def review(
    dataset: Annotated[
        str | None, typer.Option(help="Name in FiftyOne. Default: the project's mixed dataset.")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="First port to try.")] = 5151,
    address: Annotated[
        str, typer.Option(help="Address to listen on; any other than 127.0.0.1 opens it to others.")
    ] = "127.0.0.1",
    project: ProjectOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Open the FiftyOne App; tag a sample `rejected` and the next build leaves it out."""
    with command(json, debug) as console:
        from augmentor.workflows.review import open_app

        name = dataset or open_here(project, console).mixed_name
        session = open_app(name, port=port, address=address)
        console.text(f"{name}: {session.url}")
        console.text(
            "Select samples, press the tag icon and tag them `rejected`: the next `augment build` "
            "leaves them out. Ctrl-C ends the App."
        )
        console.result({"dataset": name, "url": session.url})
        session.wait()
