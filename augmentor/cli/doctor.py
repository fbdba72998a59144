"""augment doctor: is this machine ready, and what to type where it isn't."""

import typer

from augmentor.cli.console import DebugOption, JsonOption, command


def doctor(json: JsonOption = False, debug: DebugOption = False) -> None:
    """Check Python, torch, GPU, mongod, disk, write access and weights; say the fix for each."""
    with command(json, debug) as console:
        from augmentor.workflows.doctor import examine

        checks = examine()
        for check in checks:
            console.text(f"{check.mark:<5} {check.subject:<14} {check.finding}")
            if check.fix:
                console.text(f"{'':<20} fix: {check.fix}")
        console.result({"checks": [check.as_dict() for check in checks]})
        if any(check.mark == "FAIL" for check in checks):
            raise typer.Exit(1)
