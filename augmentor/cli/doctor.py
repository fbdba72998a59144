"""augment doctor: is this machine ready, and what to type where it isn't."""

import typer

from augmentor.cli.console import DebugOption, JsonOption, command
from augmentor.cli.options import ProjectOption


def doctor(
    project: ProjectOption = None, json: JsonOption = False, debug: DebugOption = False
) -> None:
    """Check Python, torch, GPU, mongod, disk, weights, and the project; say the fix for each."""
    with command(json, debug) as console:
        from augmentor.workflows.doctor import examine

        checks = examine(project)
        for check in checks:
            console.text(f"{check.mark:<5} {check.subject:<14} {check.finding}")
            if check.fix:
                console.text(f"{'':<20} fix: {check.fix}")
        console.result({"checks": [check.as_dict() for check in checks]})
        if any(check.mark == "FAIL" for check in checks):
            raise typer.Exit(1)
