"""augment report: look at an evaluation again, or at two side by side."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from augmentor.cli.console import Console, DebugOption, JsonOption, command
from augmentor.cli.options import ProjectOption, open_here

app = typer.Typer(
    name="report",
    no_args_is_help=True,
    help="Evaluations' reports: open, list all, compare two.",
)

ReportArgument = typer.Argument(help="A project's folder, an evaluation's, or a report.json.")


@app.command("open")
def open_(
    project: ProjectOption = None, json: JsonOption = False, debug: DebugOption = False
) -> None:
    """Open report.html in the browser; without a screen, say where it is."""
    with command(json, debug) as console:
        from augmentor.workflows.reports import open_report

        opened = open_report(open_here(project, console))
        console.text(f"Report: {opened.path}")
        if not opened.shown:
            console.text("No browser could be opened here; copy the file, it needs no other.")
        console.result({"report": str(opened.path), "opened": opened.shown})


@app.command("list")
def list_(
    project: ProjectOption = None, json: JsonOption = False, debug: DebugOption = False
) -> None:
    """Show all reports, the newest first; one with other trainings takes no earlier one's place."""
    with command(json, debug) as console:
        from augmentor.workflows.reports import list_reports

        listed = list_reports(open_here(project, console))
        for report in listed:
            over = f" over {report.over}" if report.over else ""
            console.text(f"{report.written:%Y-%m-%d %H:%M} UTC, {report.arms}{over}")
            console.text(f"    {report.headline}\n    {report.page}")
        console.result({"reports": [asdict(report) for report in listed]})


@app.command("compare")
def compare(
    a: Annotated[Path, ReportArgument],
    b: Annotated[Path, ReportArgument],
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Set two reports side by side: each arm's metric and gain, and in what the two differ."""
    with command(json, debug) as console:
        from augmentor.workflows.reports import compare_written

        compared, reports = compare_written(a, b)
        console.text(f"A: {a} ({reports[0]['name']})\nB: {b} ({reports[1]['name']})")
        console.text(compared.sentence)
        _show(console, compared, reports)
        console.result({"sentence": compared.sentence, **asdict(compared)})


def _show(console: Console, compared: Any, reports: Any) -> None:
    from augmentor.workflows.reports import gain_text, title

    for task in dict.fromkeys(line.task for line in compared.lines):
        named = next(report for report in reports if task in report["primary"])
        metric = title(named, task)
        head = ["arm", f"{metric} A", "B", "gain A", "gain B"]
        shots = ["real defects A", "B "] if compared.shots_differ else []
        rows = [
            [
                line.arm,
                *(["" if n is None else n for n in line.shots] if shots else []),
                *("" if v is None else f"{v:.3f}" for v in line.values),
                *(gain_text(gap) for gap in line.gains),
            ]
            for line in compared.lines
            if line.task == task
        ]
        console.table(f"{task} on test", [head[0], *shots, *head[1:]], rows)
    rows = [[name, *map(_short, both)] for name, both in compared.settings.items()]
    if rows:
        console.table("In what they differ", ["", "A", "B"], rows)
    else:
        console.text("Settings, versions and numbers of images are the same.")


def _short(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
