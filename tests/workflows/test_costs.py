"""What steps have cost, and what else a report is told about a project."""

import json
import time
from pathlib import Path

import pytest

from augmentor.workflows.costs import LEAST_S, Meter, read_costs, spent
from augmentor.workflows.evaluate import report_extras
from augmentor.workflows.project import Project, open_project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "augment.yaml").write_text(
        "name: plates\nclasses: [dot]\nsource: {path: /nowhere}\n"
    )
    return open_project(tmp_path)


def work(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(1000))


def test_costs_add_up_and_what_found_its_work_done_leaves_no_line(project: Project) -> None:
    assert read_costs(project) == []
    for name, seconds in (("train x", LEAST_S + 0.1), ("train x", 0.01), ("train x", LEAST_S)):
        with spent(project, name):
            work(seconds)
    with pytest.raises(ValueError, match="broke"), spent(project, "sample x"):
        time.sleep(LEAST_S)
        raise ValueError("broke")
    trained, sampled = read_costs(project)
    assert (trained["name"], trained["times"], sampled["name"]) == ("train x", 2, "sample x")
    assert 2.0 <= trained["seconds"] < 30 and trained["gpu_seconds"] == 0.0
    assert 0 < trained["cpu_seconds"] <= trained["seconds"] + 0.2
    assert sampled["cpu_seconds"] < 0.5 <= sampled["seconds"]  # slept, and failed


def test_many_short_parts_cost_as_much_as_a_long_one(project: Project) -> None:
    meter = Meter(project, "sample copy-paste")
    for _ in range(12):
        with meter.running():
            time.sleep(LEAST_S / 10)
    (step,) = read_costs(project)
    assert (step["name"], step["times"]) == ("sample copy-paste", 1)
    assert LEAST_S <= step["seconds"] < 30


def test_a_report_is_told_of_sheet_and_rejections(project: Project) -> None:
    assert report_extras(project) == {"sheets": [], "removed": [], "steps": []}
    project.dataset.mkdir()
    rejections = {"compact": {"realism": 3, "copy": 1}, "copy-paste": {}}
    stamp = {"key": "k", "summary": {"rejections": rejections, "short": []}}
    (project.dataset / "build.json").write_text(json.dumps(stamp))
    (project.dataset / "sheet.png").write_bytes(b"")
    told = report_extras(project)
    assert told["removed"] == [
        {"generator": "compact", "rule": "realism", "number": 3},
        {"generator": "compact", "rule": "copy", "number": 1},
    ]
    assert [path for _, path in told["sheets"]] == [str(project.dataset / "sheet.png")]
