"""The queue of what people asked for in the App: a file, worked off by `augment review`.

`review/queue.jsonl` is only ever added to: a line for each thing asked, and one for each thing
finished. What has no such second line is done by the next `augment review`, so that nothing is
lost when it is ended, or killed, in between.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from augmentor.errors import ProjectError, disk_errors
from generator.files import write_json
from generator.records import Record

QUEUE = Path("review") / "queue.jsonl"
PROGRESS = Path("review") / "progress.json"
WORKER = Path("review") / "worker.lock"

Kind = Literal["more", "again", "rebuild"]


class Asked(Record):
    """One thing to do: `number` samples like each of `sample_ids`, each of them again, or a
    rebuild of the mix at `ratio`."""

    id: str
    kind: Kind
    sample_ids: tuple[str, ...] = ()
    number: int = Field(1, ge=1)
    ratio: float | None = Field(None, ge=0, le=1)
    who: str
    time: str


class Finished(Record):
    """What became of a thing asked: the samples that were made, and why others were not."""

    asked: str
    made: tuple[str, ...] = ()
    error: str = ""
    time: str


class Progress(Record):
    """How far the work is; for the panel."""

    task: str = ""
    done: int = 0
    total: int = 0
    waiting: int = 0
    made: int = 0
    said: str = ""


def append(folder: Path, lines: Sequence[Asked | Finished]) -> None:
    """Add lines to a project's queue, all of them on disk when this returns.

    Raises:
        DiskError: the disk is full, or the folder may not be written to.
    """
    path = folder / QUEUE
    text = "".join(json.dumps(_tagged(line), sort_keys=True) + "\n" for line in lines)
    with disk_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            stream.seek(0)
            content = stream.read()
            # what a killed process left after the last line's end
            stream.truncate(content.rfind(b"\n") + 1)
            stream.write(text.encode())
            stream.flush()
            os.fsync(stream.fileno())


def read(folder: Path) -> tuple[list[Asked], dict[str, Finished]]:
    """Everything that was asked, in order, and what became of it, by the id of the asking.

    Raises:
        ProjectError: a line that is not the last can't be read.
    """
    path = folder / QUEUE
    asked, finished = [], {}
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    for number, line in enumerate(lines, 1):
        if not line.endswith(b"\n"):
            break
        try:
            content = json.loads(line)
            if "asked" in content:
                asked.append(Asked.model_validate(content["asked"]))
            else:
                done = Finished.model_validate(content["finished"])
                finished[done.asked] = done
        except (ValueError, KeyError, TypeError, ValidationError):
            raise ProjectError(
                f"{path}, line {number} can't be read; delete that line, then: augment review"
            ) from None
    return asked, finished


def pending(folder: Path) -> list[Asked]:
    """What was asked and is not finished, in order."""
    asked, finished = read(folder)
    return [one for one in asked if one.id not in finished]


def write_progress(folder: Path, progress: Progress) -> None:
    """Say how far the work is."""
    write_json(folder / PROGRESS, progress.model_dump())


def read_progress(folder: Path) -> Progress:
    """How far the work is; nothing at all where it was never said."""
    try:
        return Progress.model_validate_json((folder / PROGRESS).read_bytes())
    except (OSError, ValidationError):
        return Progress()


@contextmanager
def sole_worker(folder: Path) -> Iterator[bool]:
    """Whether this process may work the queue off; another one has it otherwise.

    The right ends with the block, or with the process.
    """
    path = folder / WORKER
    with disk_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("w")
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True


def _tagged(line: Asked | Finished) -> dict[str, object]:
    name = "asked" if isinstance(line, Asked) else "finished"
    return {name: line.model_dump(mode="json", exclude_defaults=True)}
