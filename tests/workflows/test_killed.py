"""Killed at any moment, continued by the same command, with the files of an undisturbed run."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import tree_hashes

AUGMENT = [sys.executable, "-c", "from augmentor.cli import main; main()"]


def run(folder: Path, *arguments: str) -> None:
    done = subprocess.run(
        [*AUGMENT, *arguments, "--project", str(folder)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def kill_when(folder: Path, arguments: tuple[str, ...], ready, timeout_s: float = 120) -> None:
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


def lines_in(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_killed_sampling_ends_with_the_same_files(project):
    arguments = ("sample", "-n", "60", "--generator", "copy-paste", "--class", "scratch")
    folder = project()
    run(folder, *arguments)
    undisturbed = tree_hashes(folder / "pool")
    # Pictures and masks; the manifest, the scores and the empty lock of the pool.
    assert len(undisturbed) == 2 * 60 + 3

    folder = project()
    pool = folder / "pool" / "copy-paste" / "manifest.jsonl"
    kill_when(folder, arguments, lambda: lines_in(pool) >= 10)
    assert 10 <= lines_in(pool) < 60
    run(folder, *arguments)
    assert tree_hashes(folder / "pool") == undisturbed


@pytest.mark.parametrize("moment", ["sampling", "exporting"])
def test_killed_build_ends_with_the_same_files(project, moment):
    arguments = ("build", "--ratio", "0.6", "--generator", "copy-paste")
    folder = project()
    run(folder, *arguments)
    undisturbed = tree_hashes(folder / "pool", folder / "dataset")

    folder = project()
    manifest = folder / "pool" / "copy-paste" / "manifest.jsonl"
    ready = {
        "sampling": lambda: lines_in(manifest) >= 5,
        "exporting": lambda: any("dataset" in path.name for path in folder.iterdir()),
    }[moment]
    kill_when(folder, arguments, ready)
    assert not (folder / "dataset" / "build.json").exists()
    run(folder, *arguments)
    assert tree_hashes(folder / "pool", folder / "dataset") == undisturbed
