"""augment report: where the page is, and two evaluations side by side."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import augment

from augmentor.workflows import reports

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "augment.yaml").write_text(
        "name: plates\nclasses: [dot]\nsource: {path: /nowhere}\n"
    )
    return tmp_path


def test_open_prints_the_page_where_there_is_no_screen(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, output = augment("report", "open", "--project", project)
    assert code == 3 and "There is no report in" in output and "augment evaluate" in output
    page = project / "evaluation" / "report.html"
    page.parent.mkdir()
    page.write_text("<!DOCTYPE html>")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    code, output = augment("report", "open", "--project", project)
    assert code == 0 and str(page) in output and "No browser" in output
    (page.parent / "splits.html").write_text("<!DOCTYPE html>")
    os.utime(page, (0, 0))
    code, output = augment("report", "open", "--project", project)
    assert code == 0 and "splits.html" in output
    splits = page.parent / "splits.json"
    splits.write_text('{"schema": 1, "splits": [1, 2]}')
    code, output = augment("report", "compare", splits, splits)
    assert code != 0 and "reports of one split are compared" in " ".join(output.split())


def test_list_shows_earlier_ones_too(project: Path) -> None:
    code, output = augment("report", "list", "--project", project)
    assert code == 3 and "There is no report in" in output and "augment evaluate" in output
    for place, name, said in (
        ("reports/2026-11-27T10-00-00", "report", "Nothing helps."),
        ("reports/2026-11-27T11-00-00", "splits", "Mixed helps."),
        (".", "report", "Mixed hurts."),
    ):
        folder = project / "evaluation" / place
        folder.mkdir(parents=True, exist_ok=True)
        report = {"arms": ["real", "mixed"], "headline": said}
        report |= {"splits": [1, 2]} if name == "splits" else {}
        (folder / f"{name}.json").write_text(json.dumps(report))
        minutes = 60 * len(list(project.rglob("*.json")))
        os.utime(folder / f"{name}.json", (minutes, minutes))
    code, output = augment("report", "list", "--project", project)
    assert code == 0
    assert [output.index(said) for said in ("Mixed hurts", "Mixed helps", "Nothing helps")] == (
        sorted(output.index(said) for said in ("Mixed hurts", "Mixed helps", "Nothing helps"))
    )
    assert "1970-01-01 00:03 UTC, real, mixed\n" in output
    assert "1970-01-01 00:02 UTC, real, mixed over 2 splits\n" in output
    code, output = augment("report", "list", "--project", project, "--json")
    pages = [Path(report["page"]) for report in json.loads(output[output.index("{") :])["reports"]]
    assert [page.name for page in pages] == ["report.html", "splits.html", "report.html"]


def test_open_tells_the_browser_where_there_is_a_screen(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real command stands for the browser, as `webbrowser` starts one."""
    page = project / "evaluation" / "report.html"
    page.parent.mkdir()
    page.write_text("<!DOCTYPE html>")
    told = tmp_path / "told.txt"
    script = tmp_path / "browser.sh"
    script.write_text(f'#!/bin/sh\necho "$1" > {told}\n')
    script.chmod(0o755)
    code = subprocess.run(
        [sys.executable, "-m", "augmentor", "report", "open", "--project", str(project), "--json"],
        env={"PATH": "/bin", "DISPLAY": ":9", "BROWSER": f"{script} %s", "HOME": str(tmp_path)},
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(code.stdout) == {"report": str(page), "opened": True}
    assert told.read_text().strip() == page.as_uri()


def test_compare_says_what_is_missing(project: Path) -> None:
    code, output = augment("report", "compare", project, project)
    assert code == 4 and "There is no report in" in output and "augment evaluate" in output


def test_gain_text_is_empty_without_a_gain() -> None:
    gap = {"difference": 0.05, "low": 0.01, "high": 0.09, "verdict": "helps"}
    assert reports.gain_text(gap) == "+0.050 [+0.010, +0.090] helps"
    assert reports.gain_text(None) == ""
