"""`augment evaluate --splits`: import to detectors anew on each split, with the real database."""

import json
from pathlib import Path

import pytest
import yaml
from helpers import augment

from augmentor.cli.errors import EXIT_PROJECT, EXIT_USAGE
from augmentor.records_io import load_records
from augmentor.workflows import splits as workflow
from augmentor.workflows.project import open_project
from augmentor.workflows.reporting import Silent
from downstream.errors import EmptySideError, RunError
from generator.errors import TrainingError

SETTINGS = {
    "tasks": ["classification"],
    "arms": ["real", "mixed"],
    "classification_steps": 2,
    "classification_px": 32,
    "bootstrap_samples": 100,
}


@pytest.fixture(scope="module")
def repeated(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that was evaluated over two splits."""
    folder = tmp_path_factory.mktemp("repeated") / "project"
    named = ("--name", "repeated", "--shots", "4", "--project", folder)
    code, output = augment("import", photos, *named)
    assert code == 0, output
    off = ("class_agreement", "realism", "memorisation", "seam")  # all that is learnt from pictures
    config = yaml.safe_load((folder / "augment.yaml").read_text())
    config |= {
        "evaluate": SETTINGS,
        "mix": {"generators": {"poisson-paste": 1.0}},
        "filters": {"quality": {rule: {"enabled": False} for rule in off}},
    }
    (folder / "augment.yaml").write_text(yaml.safe_dump(config))
    code, output = augment("evaluate", "--splits", "2", "--project", folder)
    assert code == 0, output
    assert "Over 2 splits, " in output
    return folder


def sides(folder: Path, side: str) -> set[str]:
    return {record.id for record in load_records(folder / "data") if record.split == side}


def test_each_split_has_photographs_shots_and_a_seed_of_its_own(repeated: Path) -> None:
    report = json.loads((repeated / "evaluation/splits.json").read_text())
    assert report["splits"] == [1, 2]
    own = [repeated / "evaluation/splits" / str(seed) for seed in report["splits"]]
    assert len({frozenset(sides(folder, "test")) for folder in [repeated, *own]}) == 3
    for seed, folder in enumerate(own, start=1):
        config = open_project(folder).config
        assert config.split.seed == seed and config.evaluate.seeds == (seed,)
        assert config.split.shots == open_project(repeated).config.split.shots == 4
        # what was made comes from what this split trains on, and from nothing else
        (manifest,) = folder.glob("pool/*/manifest.jsonl")
        trained = sides(folder, "train")
        lines = [json.loads(line) for line in manifest.read_text().splitlines()]
        assert lines and all({*line["source_ids"]} <= trained for line in lines)
    assert "Over 2 splits" in (repeated / "evaluation/splits.html").read_text()


def test_the_report_is_of_what_stands_in_the_splits(repeated: Path) -> None:
    report = json.loads((repeated / "evaluation/splits.json").read_text())
    gaps = []
    for seed in report["splits"]:
        own = json.loads(
            (repeated / f"evaluation/splits/{seed}/evaluation/report.json").read_text()
        )
        found = own["results"]["classification"]
        gaps.append(
            found["mixed"]["metrics"]["macro_f1"]["mean"]
            - found["real"]["metrics"]["macro_f1"]["mean"]
        )
    line = report["differences"]["classification"]["mixed"]["test"]["macro_f1"]
    assert line["by_split"] == pytest.approx(gaps)


def test_asked_again_nothing_is_trained_and_more_splits_go_on(repeated: Path) -> None:
    runs = "evaluation/splits/*/evaluation/runs/*/result.json"
    before = {path: path.stat().st_mtime_ns for path in repeated.glob(runs)}
    assert len(before) == 4
    code, output = augment("evaluate", "--splits", "3", "--project", repeated, "--json")
    assert code == 0, output
    after = {path: path.stat().st_mtime_ns for path in repeated.glob(runs)}
    assert len(after) == 6 and before.items() <= after.items()
    report = json.loads((repeated / "evaluation/splits.json").read_text())
    line = report["differences"]["classification"]["mixed"]["test"]["macro_f1"]
    assert report["splits"] == [1, 2, 3]
    assert line["splits"] == 3 and line["low"] is not None, "enough for an interval"


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        ("evaluate_project", RunError),
        ("build_dataset", TrainingError),
        ("evaluate_project", EmptySideError),
    ],
)
def test_a_split_that_fails_is_reported_and_takes_no_other_down(
    repeated: Path, monkeypatch: pytest.MonkeyPatch, step: str, kind: type[Exception]
) -> None:
    usual = getattr(workflow, step)

    def fails(project, reporter):
        if project.config.split.seed == 1:
            raise kind("the loss stopped being a number")
        return usual(project, reporter)

    monkeypatch.setattr(workflow, step, fails)
    told: list[str] = []
    reporter = Silent()
    monkeypatch.setattr(reporter, "say", told.append)
    with pytest.raises(RunError, match=r"1 of 2 splits failed; the report on the others is .*html"):
        workflow.evaluate_splits(open_project(repeated), reporter, 2)
    assert "Over 1 split" in told[-1]
    report = json.loads((repeated / "evaluation/splits.json").read_text())
    assert report["splits"] == [2] and "stopped being" in report["failed"]["1"]
    kept = (repeated / "evaluation/reports").glob("*/splits.json")
    assert [1, 2, 3] in [json.loads(path.read_text())["splits"] for path in kept]


def test_what_does_not_go_together_is_refused(repeated: Path) -> None:
    code, output = augment("evaluate", "--splits", "3", "--seeds", "2", "--project", repeated)
    said = " ".join(output.replace("│", "").split())  # of a box
    assert code == EXIT_USAGE and "leave out --seeds" in said


def test_a_published_protocol_has_one_split(repeated: Path, tmp_path: Path) -> None:
    config = yaml.safe_load((repeated / "augment.yaml").read_text())
    config["split"] = {"protocol": "anomalydiffusion"}
    (tmp_path / "augment.yaml").write_text(yaml.safe_dump(config))
    code, output = augment("evaluate", "--splits", "3", "--project", tmp_path)
    assert code == EXIT_PROJECT and "has one split" in output
