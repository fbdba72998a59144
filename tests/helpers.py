"""What several test files use."""

import hashlib
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from typer.testing import CliRunner

from augmentor.cli import app

AUGMENT = [sys.executable, "-m", "augmentor"]


def augment(*arguments: str | Path) -> tuple[int, str]:
    """Run a command in this process; exit code and everything it printed."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    return result.exit_code, result.output


def copy_project(project: Path, folder: Path, name: str) -> Path:
    """A copy under a name of its own, as FiftyOne asks for: a dataset belongs to one project."""
    shutil.copytree(project, folder)
    config = folder / "augment.yaml"
    text, found = re.subn(r"(?m)^name: .*$", f"name: {name}", config.read_text())
    assert found == 1
    config.write_text(text)
    return folder


def tree_hashes(*folders: Path) -> dict[str, str]:
    """SHA-256 of every file below the folders, by path."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def run(folder: Path, *arguments: str) -> None:
    """Run a command on a project in a process of its own; it must end well."""
    done = subprocess.run(
        [*AUGMENT, *arguments, "--project", str(folder)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def kill_when(
    folder: Path, arguments: tuple[str, ...], ready: Callable[[], bool], timeout_s: float = 120
) -> None:
    """Start the command and SIGKILL it, with its children, as soon as `ready()` is true."""
    process = subprocess.Popen(
        [*AUGMENT, *arguments, "--project", str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + timeout_s
    while not ready():
        assert process.poll() is None, "the command ended before it could be killed"
        assert time.monotonic() < deadline, "the moment to kill never came"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
