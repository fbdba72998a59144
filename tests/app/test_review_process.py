"""What `augment review` does when something around it breaks."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from app.conftest import decisions, end_review, start_review

from augmentor import mongod
from augmentor.cli.errors import EXIT_DATABASE, EXIT_PROJECT
from augmentor.decisions import Decision, append_decisions, now
from augmentor.fiftyone_io import connect
from augmentor.workflows.project import open_project


@pytest.fixture
def own_copy(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The built project in a database of its own, which a test may kill."""
    home = tmp_path / "home"
    folder = tmp_path / "project"
    shutil.copytree(built, folder)
    monkeypatch.setenv(mongod.HOME, str(home))
    return folder


def test_a_port_in_use_is_passed_over_and_ctrl_c_leaves_nothing(built):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        reviewed = start_review(built, "--port", str(port))
        servers = psutil.Process(reviewed.process.pid).children(recursive=True)
    assert f":{port}/" not in reviewed.url
    said = end_review(reviewed)
    assert f"Port {port} is in use, so the App is on" in said
    assert "Traceback" not in said
    assert reviewed.process.returncode == 0
    assert servers
    assert psutil.wait_procs(servers, timeout=20)[1] == []


def test_a_dataset_deleted_under_the_open_app_is_one_sentence(built):
    connect().load_dataset(open_project(built).mixed_name).clone("spare", persistent=True)
    reviewed = start_review(built, "--dataset", "spare")
    connect().delete_dataset("spare")
    said, _ = reviewed.process.communicate(timeout=90)
    assert "The dataset 'spare' was deleted while the App was open" in said
    assert "augment build" in said
    assert "Traceback" not in said
    assert reviewed.process.returncode == EXIT_PROJECT


@pytest.mark.slow
def test_a_killed_database_ends_the_review_and_keeps_the_decisions(own_copy):
    command = [str(Path(sys.executable).with_name("augment")), "build", "--project", str(own_copy)]
    subprocess.run([*command, "--generator", "copy-paste"], check=True, capture_output=True)
    reviewed = start_review(own_copy)
    append_decisions(
        own_copy, [Decision(sample_id="x", action="reject", who="somebody", time=now())]
    )
    server = mongod._running(Path(os.environ[mongod.HOME]) / "mongo")
    assert server is not None
    server.kill()
    said, _ = reviewed.process.communicate(timeout=120)
    assert "stopped answering" in said
    assert "1 decisions so far are kept" in said
    assert "Traceback" not in said
    assert reviewed.process.returncode == EXIT_DATABASE
    assert len(decisions(own_copy)) == 1
