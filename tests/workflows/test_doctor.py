"""augment doctor, on the machine that runs the tests and on projects that something befell."""

import json
import shutil
from pathlib import Path

import pytest
from helpers import augment, copy_project

from augmentor.workflows import doctor
from augmentor.workflows.project import edit_project, open_project


@pytest.fixture
def copied(imported: Path, tmp_path: Path) -> Path:
    return copy_project(imported, tmp_path / "copied", "copied")


def about_project(folder: Path, monkeypatch: pytest.MonkeyPatch) -> doctor.Check:
    """What is said of the project; the machine's own checks take seconds, and are left out."""
    monkeypatch.setattr(doctor, "_GROUPS", ())
    (check,) = doctor.examine(folder)
    return check


def test_a_sound_machine_and_project(copied):
    code, output = augment("doctor", "--project", copied, "--json")
    checks = json.loads(output)["checks"]
    assert {check["subject"] for check in checks} >= {"python", "torch", "mongod", "project"}
    assert code == 0, output
    said = next(check for check in checks if check["subject"] == "project")
    assert said["mark"] == "ok"
    assert said["finding"] == "copied: 54 images, 28 train, 13 val, 13 test"


def test_outside_a_project_nothing_is_said_of_one(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "_GROUPS", ())
    monkeypatch.chdir(tmp_path)
    assert doctor.examine() == []


def test_the_project_that_one_stands_in_is_found(copied, monkeypatch):
    monkeypatch.setattr(doctor, "_GROUPS", ())
    monkeypatch.chdir(copied / "data")
    assert [check.mark for check in doctor.examine()] == ["ok"]


def test_settings_that_cannot_be_read(copied, monkeypatch):
    with (copied / "augment.yaml").open("a") as settings:
        settings.write("rato: 0.5\n")
    check = about_project(copied, monkeypatch)
    assert check.mark == "FAIL"
    assert "rato" in check.finding


def test_an_image_that_is_gone(copied, monkeypatch):
    record = next((copied / "data" / "masks").rglob("*.png"))
    record.unlink()
    check = about_project(copied, monkeypatch)
    assert check.mark == "FAIL"
    assert f"{record.name} was there when the data was imported and is gone" in check.finding


def test_weights_to_start_from_that_are_gone(copied, tmp_path, monkeypatch):
    run = tmp_path / "drawn" / "runs" / "classification-seed0"
    run.mkdir(parents=True)
    edit_project(open_project(copied), {"evaluate.classifier": str(run)})
    shutil.rmtree(tmp_path / "drawn")
    check = about_project(copied, monkeypatch)
    assert check.mark == "FAIL"
    assert str(run) in check.finding


def test_nothing_is_read_with_a_torch_that_does_not_work(copied, monkeypatch):
    broken = [doctor.Check("torch", "FAIL", "segmentation fault")]
    monkeypatch.setattr(doctor, "_GROUPS", (lambda: iter(broken),))
    assert doctor.examine(copied) == broken
