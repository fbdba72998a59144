"""Files: whole or not at all, readable by others, and without leftovers."""

import os
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
    left, living = (tmp_path / f".state.{pid}.tmp.safetensors" for pid in (ended.pid, os.getppid()))
    other = tmp_path / f".other.{ended.pid}.tmp.safetensors"
    for path in (left, living, other):
        path.touch()
    save_tensors(tmp_path / "state.safetensors", {"w": torch.zeros(2)})
    assert sorted(tmp_path.iterdir()) == sorted([living, other, tmp_path / "state.safetensors"])
