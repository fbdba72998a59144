"""What a person, or with --json a machine, sees of a command: lines, bars, tables, errors."""

import json as jsonlib
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from augmentor.cli.errors import EXIT_INTERRUPTED, describe

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output.")
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]

QUIET_SECONDS = 300
"""Without a terminal: a log that says nothing for longer looks as if the command hung."""


class Console:
    """A `Reporter` that prints. Results go to standard output, everything else to standard error,
    so that `augment ... --json | jq` works."""

    def __init__(self, json: bool) -> None:
        from rich.console import Console as RichConsole

        # Of several processes that a launcher started, the first one speaks.
        self._speaks = os.environ.get("RANK", "0") == "0"
        self.json = json
        self._out = RichConsole(soft_wrap=True, highlight=False, quiet=not self._speaks)
        self._err = RichConsole(
            stderr=True, soft_wrap=True, highlight=False, quiet=not self._speaks
        )
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}
        self._printed: dict[str, tuple[int, float]] = {}

    def say(self, text: str) -> None:
        """Print a line about what is being done."""
        self._err.print(text, markup=False)

    def warn(self, text: str) -> None:
        """Print a line that must not be missed."""
        self._err.print(f"warning: {text}", style="yellow", markup=False)

    def progress(self, task: str, done: int, total: int, note: str = "") -> None:
        """Move a bar; where standard error is no terminal, print a line every tenth instead, and
        every few minutes."""
        if not self._err.is_terminal:
            tenth, now = 10 * done // max(total, 1), time.monotonic()
            told, when = self._printed.get(task, (-1, now))
            if told != tenth or now - when > QUIET_SECONDS:
                self._printed[task] = (tenth, now)
                self.say(f"{task}: {done} of {total} {note}".rstrip())
            return
        if self._bars is None:
            self._bars = _bars(self._err)
            self._bars.start()
        if task not in self._tasks:
            self._tasks[task] = self._bars.add_task(task, total=total, note=note)
        self._bars.update(self._tasks[task], completed=done, total=total, note=note)
        if done >= total and self._bars.finished:
            self.close()

    def close(self) -> None:
        """Stop the bars, leaving them on the screen."""
        if self._bars is not None:
            self._bars.stop()
            self._bars, self._tasks = None, {}

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Print a table, numbers to the right; with --json nothing."""
        if self.json:
            return
        from rich import box
        from rich.markup import escape
        from rich.table import Table

        self.close()
        table = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD)
        for number, column in enumerate(columns):
            numeric = all(isinstance(row[number], int | float) for row in rows)
            table.add_column(escape(column), justify="right" if numeric and rows else "left")
        for row in rows:
            table.add_row(*(escape(str(cell)) for cell in row))
        self._out.print(table)

    def text(self, text: str) -> None:
        """Print a part of the result; with --json nothing."""
        if not self.json:
            self.close()
            self._out.print(text, markup=False)

    def result(self, value: Mapping[str, Any]) -> None:
        """With --json, print `value` as the command's one JSON object."""
        self.close()
        if self.json and self._speaks:
            print(jsonlib.dumps(value, indent=2, default=str))


def _bars(console: Any) -> Any:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=console,
    )


@contextmanager
def command(json: bool, debug: bool, *, hub: bool = False) -> Iterator[Console]:
    """Run a command's body; turn what it raises into one sentence and an exit code.

    `hub` leaves the way to the Hugging Face hub open.
    """
    from augmentor.offline import stay_offline

    stay_offline(hub=hub)
    console = Console(json)
    try:
        yield console
    except KeyboardInterrupt:
        console.close()
        _fail(console, "Interrupted; run the same command again to continue.", EXIT_INTERRUPTED)
    except typer.Exit:
        console.close()
        raise
    except Exception as error:
        console.close()
        if debug:
            raise
        _fail(console, *describe(error))


def _fail(console: Console, message: str, code: int) -> None:
    if console.json:
        print(jsonlib.dumps({"error": message, "exit_code": code}))
    else:
        print(f"error: {message}", file=sys.stderr)
    raise typer.Exit(code)
