"""Augmentor's errors.

    AugmentorError
    ├── SourceError          a folder to import that is missing, empty, ambiguous or faulty
    │   └── ImageError       one image or mask that can't be read
    ├── SplitError           splits that can't be made as asked
    ├── LeakError            the same content or group stands on two sides of the split
    ├── ProjectError         no project here, or one that is unfinished, foreign or damaged
    │   ├── UsageError       an option of a command that is out of its bounds
    │   └── BusyError        another command is at work on the project
    ├── RatioError           a share of synthetic images that is out of range or can't be reached
    ├── DecisionError        decisions of a person that can't be read or can't be followed
    ├── ExportError          a format that can't hold the dataset, or a failed export
    ├── DatabaseError        FiftyOne's database is missing, can't be started, or died
    └── DiskError            no space left, or no right to write

Every message is one sentence that says what is wrong and, where there is one, the next command
to type.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class AugmentorError(Exception):
    """Base of everything that `augmentor` raises on purpose."""


class SourceError(AugmentorError):
    """A folder to import is missing, empty, ambiguous, or holds faulty files."""


class ImageError(SourceError):
    """An image or mask can't be read; `kind` is the heading it is counted under in a report."""

    def __init__(self, message: str, kind: str = "unreadable") -> None:
        super().__init__(message)
        self.kind = kind


class SplitError(AugmentorError):
    """The records can't be split as asked."""


class LeakError(AugmentorError):
    """Identical or grouped images stand on two sides of the split."""


class ProjectError(AugmentorError):
    """There is no project here, or it is unfinished, foreign or damaged."""


class UsageError(ProjectError):
    """An option of a command is out of its bounds."""


class BusyError(ProjectError):
    """Another command is at work on the project."""


class RatioError(AugmentorError):
    """A share of synthetic images is out of range, or can't be reached."""


class DecisionError(AugmentorError):
    """Decisions of a person can't be read, or name a class that doesn't exist."""


class ExportError(AugmentorError):
    """A format can't hold the dataset, or an export can't be written."""


class DatabaseError(AugmentorError):
    """FiftyOne's database is missing, can't be started, or has died."""


class DiskError(AugmentorError):
    """The disk is full, or the folder may not be written to."""


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn a full disk or a missing right to write, met inside the block, into `DiskError`.

    Raises:
        DiskError: with the folder and what to do; any other `OSError` passes unchanged.
    """
    try:
        yield
    except OSError as fault:
        if fault.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskError(
                f"The disk that holds {folder} is full; free some space and run the same command "
                "again, it continues where it stopped."
            ) from fault
        if fault.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise DiskError(
                f"{folder} may not be written to ({fault.strerror}); choose another folder or "
                "change its permissions."
            ) from fault
        raise
