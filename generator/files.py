"""Writing files so that a killed run never leaves half of one behind, and hashing them."""

import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

_UMASK = os.umask(0o022)
os.umask(_UMASK)  # asking is only possible by setting


def write_atomic(path: Path, write: Callable[[Path], object], *, durable: bool = False) -> None:
    """Let `write` fill a temporary sibling of `path`, then rename it into place.

    The temporary keeps the suffix of `path`, since image writers choose a format by it. `durable`
    waits for the disk, so that the file outlives a power cut wherever something that is written
    later does (a millisecond or some).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        write(temporary)
        if durable:
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_safetensors(
    path: Path,
    tensors: Mapping[str, Any],
    said: Mapping[str, str] | None = None,
    check: Callable[[Path], object] | None = None,
) -> None:
    """Write tensors as safetensors, whole or not at all, and wait for the disk.

    safetensors itself writes to a file of another name and renames that. It does so in a folder of
    this process here, so that what a kill left of it is known, and removed by the next call: a
    state of a large network is many gigabytes.

    Args:
        path: of the file.
        tensors: contiguous, on the CPU.
        said: the file's metadata.
        check: given what was written, before it takes its place; what it raises is raised.

    Raises:
        OSError: it can't be written, such as on a full disk, of which safetensors has an exception
            of its own.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    _remove_leftovers(path)
    workshop = path.with_name(f".{path.stem}.{os.getpid()}.tmp")
    workshop.mkdir(parents=True)
    try:
        written = workshop / path.name
        save_file(dict(tensors), written, metadata=dict(said) if said else None)
        written.chmod(0o666 & ~_UMASK)  # safetensors makes files that nobody else may read
        if check is not None:
            check(written)
        with written.open("rb") as stream:
            os.fsync(stream.fileno())
        written.replace(path)
    except SafetensorError as fault:
        if code := re.search(r"os error (\d+)", str(fault)):
            raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from fault
        raise
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def _remove_leftovers(path: Path) -> None:
    """Remove what killed processes of this machine left of `write_safetensors`."""
    for left in path.parent.glob(f".{path.stem}.*.tmp"):
        pid = left.name.removeprefix(f".{path.stem}.").partition(".")[0]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(left, ignore_errors=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the file `path`, made if need be, alone; whoever else wants it waits.

    The lock ends with the block, or with the process.
    """
    with path.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 `text` to `path`, whole or not at all."""
    write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, default=str) + "\n")


def write_lines(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Write `records` as JSON lines with sorted keys, whole or not at all."""
    write_text(path, "".join(json.dumps(r, sort_keys=True, default=str) + "\n" for r in records))


def sha256_of_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_of(value: Any) -> str:
    """Hex SHA-256 of a JSON-able value, independent of the order of its keys."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()


def step_seed(seed: int, *what: int) -> int:
    """A seed of its own for everything in a step, or in a part of one; below 2^60."""
    return int(sha256_of(["noise", seed, *what])[:15], 16)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines; a last line that a killed run left unfinished is passed over."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):
            records.append(json.loads(line))
    return records
