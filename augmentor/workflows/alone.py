"""One command at a time works on a project; whoever comes second is told which one does."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from augmentor.errors import BusyError, ProjectError, disk_errors
from augmentor.workflows.project import Project

LOCK = ".augment.lock"
"""In a project's folder while a command works on it. Its lock ends with the process, so that what a
killed one leaves behind stops nobody."""

P = ParamSpec("P")
R = TypeVar("R")

_held: set[Path] = set()
"""Folders that this process works on: a workflow may call another."""


Workflow = Callable[Concatenate[Project, P], R]


def alone(name: str) -> Callable[[Workflow[P, R]], Workflow[P, R]]:
    """Let a workflow, which takes its project first, run only where no other works on it.

    Args:
        name: of the command, for whoever comes second.
    """

    def wrap(workflow: Workflow[P, R]) -> Workflow[P, R]:
        @wraps(workflow)
        def run(project: Project, *args: P.args, **kwargs: P.kwargs) -> R:
            with working_on(project.folder, name):
                return workflow(project, *args, **kwargs)

        return run

    return wrap


def is_first() -> bool:
    """Whether this process writes: of several that a launcher started for one training, the first
    one does, for all."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def working_on(folder: Path, name: str) -> Iterator[None]:
    """Hold a project's folder, made if need be, as the only command that works on it.

    Inside another such block of this process, and in all but the first of several processes that a
    launcher started, nothing is done.

    Raises:
        BusyError: another command holds it; the sentence says which.
        ProjectError: a file is where the folder should be.
        DiskError: the folder may not be written to.
    """
    folder = folder.resolve()
    if folder in _held or not is_first():
        yield
        return
    made = not folder.exists()
    lock = _locked(folder, name)
    _held.add(folder)
    try:
        yield
    finally:
        _held.discard(folder)
        (folder / LOCK).unlink(missing_ok=True)
        os.close(lock)
        if made:
            with suppress(OSError):  # what was begun there has failed before it left anything
                folder.rmdir()


def _locked(folder: Path, name: str) -> int:
    path = folder / LOCK
    file = next((place for place in (folder, *folder.parents) if place.is_file()), None)
    if file is not None:
        raise ProjectError(f"{file} is a file; give the folder of a project with --project.")
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                # POSIX's lock and not flock: no child holds it on when this process is killed
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(lock, 200).decode("utf-8", "replace") or "another command"
                os.close(lock)
                raise BusyError(
                    f"{holder} is at work on {folder}; when it has ended, type the same again."
                ) from None
            if _is_at(lock, path):
                break
            os.close(lock)  # its holder ended, and took the file away, in between
        os.ftruncate(lock, 0)
        began = datetime.now().strftime("%H:%M")
        os.write(lock, f"`augment {name}` (process {os.getpid()}, since {began})".encode())
    return lock


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
