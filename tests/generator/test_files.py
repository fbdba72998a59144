"""Files: whole or not at all, readable by others, and without leftovers."""

import errno
import os
import signal
import stat
import subprocess
import sys

import pytest
import torch

from generator.checkpoints import save_tensors
from generator.files import write_text


@pytest.fixture
def usual_umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_weights_can_be_read_by_whoever_may_read_other_files(tmp_path, usual_umask):
    save_tensors(tmp_path / "weights.safetensors", {"w": torch.zeros(2)})
    write_text(tmp_path / "data.json", "{}")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {0o644}


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left, living = (tmp_path / f".state.{pid}.tmp" for pid in (ended.pid, os.getppid()))
    other = tmp_path / f".other.{ended.pid}.tmp"
    for path in (left, living, other):
        path.mkdir()
        (path / ".tmpBivqAs").touch()
    save_tensors(tmp_path / "state.safetensors", {"w": torch.zeros(2)})
    assert sorted(tmp_path.iterdir()) == sorted([living, other, tmp_path / "state.safetensors"])


KILLED = """
import os, signal, sys
from pathlib import Path
from threading import Thread
import torch
from generator.checkpoints import save_tensors

def end_in_the_middle():
    while not any(p.is_file() for p in Path(sys.argv[1]).rglob("*")):
        pass
    os.kill(os.getpid(), signal.SIGKILL)

tensors = {"w": torch.zeros(50_000_000)}
Thread(target=end_in_the_middle).start()
save_tensors(Path(sys.argv[1]) / "state.safetensors", tensors)
"""


def test_nothing_is_left_of_a_write_that_was_killed_once_another_is_done(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()), "the kill came while it wrote"
    save_tensors(tmp_path / "state.safetensors", {"w": torch.zeros(2)})
    assert [path.name for path in tmp_path.iterdir()] == ["state.safetensors"]


FULL = """
import resource, signal, sys
from pathlib import Path
import torch
from generator.checkpoints import save_tensors
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    save_tensors(Path(sys.argv[1]), {"w": torch.zeros(10_000)})
except OSError as fault:
    print(fault.errno, fault.filename)
"""


def test_a_file_that_finds_no_room_is_an_error_of_the_disk(tmp_path):
    path = tmp_path / "state.safetensors"
    command = [sys.executable, "-c", FULL, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"{errno.EFBIG} {path}\n"
    assert list(tmp_path.iterdir()) == []
