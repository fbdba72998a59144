"""One command at a time works on a project, in every way in which the first may end."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import augment

from augmentor.cli.errors import EXIT_PROJECT
from augmentor.errors import ProjectError
from augmentor.workflows.alone import LOCK, working_on

HOLDER = """
import os, sys, time
from pathlib import Path
from augmentor.workflows.alone import working_on
with working_on(Path(sys.argv[1]), "build"):
    child = os.fork()  # as the workers that load a training's images
    if child:
        print(child, flush=True)
    time.sleep(600)
"""


def hold(folder: Path) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdout=subprocess.PIPE, text=True
    )
    return process, int(process.stdout.readline())


def test_the_second_command_says_which_one_runs_and_a_kill_frees_the_project(tmp_path):
    (tmp_path / "augment.yaml").write_text("name: tiles\nclasses: [pit]\nsource: {path: /photos}\n")
    process, child = hold(tmp_path)
    try:
        for command in (["build"], ["evaluate"], ["loop"], ["sample", "-n", "1"], ["train"]):
            code, output = augment(*command, "--project", tmp_path)
            assert code == EXIT_PROJECT, output
            words = (
                rf"error: `augment build` \(process {process.pid}, since \d\d:\d\d\) is at work on "
                rf"{re.escape(str(tmp_path))}; when it has ended, type the same again\.\n"
            )
            assert re.search(words, output), output
        process.kill()
        process.wait()
        os.kill(child, 0)  # it lives, and holds nothing
        assert (tmp_path / LOCK).exists()
        with working_on(tmp_path, "evaluate"):
            pass
        assert not (tmp_path / LOCK).exists()
    finally:
        process.kill()
        os.kill(child, signal.SIGKILL)


def test_a_workflow_may_call_another_and_errors_leave_nothing_behind(tmp_path):
    new = tmp_path / "new"
    with pytest.raises(ProjectError), working_on(new, "loop"), working_on(new, "build"):
        assert (new / LOCK).exists()
        raise ProjectError("said")
    assert not new.exists()


def test_the_processes_of_one_launcher_are_one_command(tmp_path, monkeypatch):
    process, child = hold(tmp_path)
    try:
        monkeypatch.setenv("RANK", "1")
        with working_on(tmp_path, "train"):
            pass
    finally:
        process.kill()
        os.kill(child, signal.SIGKILL)
