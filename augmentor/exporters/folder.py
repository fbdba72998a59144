"""A folder that is written whole or not at all, and images that are linked or copied into it."""

import ctypes
import errno
import os
import shutil
from collections.abc import Iterator, Set
from contextlib import contextmanager, suppress
from pathlib import Path

from augmentor.errors import ExportError, SourceError, disk_errors
from augmentor.exporters.collect import Wanted

MARKER = "manifest.jsonl"
"""Every export has one; a folder without it is not ours to replace."""

_LITTER = {".DS_Store", "Thumbs.db", "desktop.ini"}
"""What a system's file browser leaves behind; nobody misses it."""

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"


HEADER = "export.json"
"""What detectors are trained on has this, too."""


@contextmanager
def replaced_folder(folder: Path, *, internal: bool = False) -> Iterator[Path]:
    """Give an empty temporary sibling to fill, and put it in the place of `folder` at the end.

    The old and the new folder change places in one step, so that whoever looks, or is killed,
    finds the one or the other.

    Args:
        folder: to be filled anew.
        internal: it is one of a project's own folders, so that one whose manifest was lost is
            known by its `HEADER`; a user's folder may hold a file of that name.

    Raises:
        ExportError: `folder` holds something that is not an export.
        DiskError: no space, or no right to write.
    """
    folder = folder.absolute()
    ours = (folder / MARKER).is_file() or (internal and (folder / HEADER).is_file())
    if folder.exists() and not ours and not _is_empty(folder):
        raise ExportError(
            f"{folder} holds files that are not an export; choose an empty or new folder."
        )
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
        temporary.mkdir()
        try:
            yield temporary
            _put_in_place(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def check_replaceable(folder: Path, names: Set[str], format: str) -> None:
    """Refuse a folder at whose top level something lies that the new export would not write: it
    would be gone with the old one, whoever put it there.

    Args:
        folder: to be replaced, if it is there.
        names: that an export of this format has at its top level.
        format: for the sentence.

    Raises:
        ExportError: with what lies there, and what to type.
    """
    held = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if foreign := sorted(held - names - _LITTER):
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        raise ExportError(
            f"{folder} holds {', '.join(foreign[:3])}{more}, which no {format} export has, and "
            "which would be deleted with the old one; move that away, or write elsewhere: "
            f"augment export --format {format} --to NEW_FOLDER"
        )


def copy_image(source: Path, target: Path) -> None:
    """Copy an image into what other tools get: whoever changes the copy leaves the user's own
    picture alone.

    Raises:
        SourceError: there is no such image any more.
    """
    try:
        shutil.copyfile(source, target)
    except FileNotFoundError:
        raise _gone(source) from None


def link_image(source: Path, target: Path) -> None:
    """Hard-link `source` to `target`, or copy it where the file system doesn't allow a link.

    Only for folders that nothing but our own detectors reads (docs/formats.md): what is written
    into a link is written into the user's picture.

    A JPEG that lacks its end marker is copied: ultralytics mends such files in place, which
    through a link would change the user's own picture.

    Raises:
        SourceError: there is no such image any more.
    """
    try:
        if _is_cut_jpeg(source):
            shutil.copyfile(source, target)
            return
        try:
            # of a link, what it leads to: readers would be led out of the folder
            os.link(source.resolve(), target)
        except OSError as fault:
            if fault.errno in (errno.ENOENT, errno.ENOSPC, errno.EDQUOT):
                raise
            shutil.copyfile(source, target)
    except FileNotFoundError:
        raise _gone(source) from None


def _gone(source: Path) -> SourceError:
    return SourceError(f"{source} is gone; bring it back, or run `augment import` again.")


def check_folder_names(wanted: Wanted) -> None:
    """Raise ExportError for a class that can't be the name of a folder."""
    names = wanted.classes
    if faulty := [name for name in names if name.startswith(".") or "/" in name or not name]:
        other = "type `augment export --format coco`, or " if wanted.task != "classify" else ""
        raise ExportError(
            f"Class {faulty[0]!r} can't be the name of a folder; {other}rename the class."
        )


def _is_cut_jpeg(path: Path) -> bool:
    with path.open("rb") as stream:
        if stream.read(2) != _JPEG_START:
            return False
        stream.seek(-2, os.SEEK_END)
        return stream.read(2) != _JPEG_END


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def _remove_leftovers(folder: Path) -> None:
    """Remove what killed runs left beside `folder`; that of a living one is not touched."""
    for leftover in folder.parent.glob(f".{folder.name}.*.tmp"):
        pid = leftover.name.split(".")[-2]
        if pid.isdigit() and (int(pid) == os.getpid() or not _is_alive(int(pid))):
            shutil.rmtree(leftover, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    with suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    return True


def _put_in_place(temporary: Path, folder: Path) -> None:
    if not folder.exists():
        temporary.rename(folder)
    elif not _exchange(temporary, folder):
        # A system that can't exchange two folders: for a moment there is neither, never a half.
        old = temporary.with_suffix(".old")
        folder.rename(old)
        temporary.rename(folder)
        shutil.rmtree(old, ignore_errors=True)


def _exchange(a: Path, b: Path) -> bool:
    """Let two folders change places in one step (Linux); False where that isn't possible."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename is None:
        return False
    done = rename(_AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), _RENAME_EXCHANGE)
    return bool(done == 0)
