"""augment.yaml: written, read, documented."""

import importlib.util
import json
from pathlib import Path

import pytest

from augmentor.errors import ProjectError
from augmentor.workflows.build import as_built, with_mix
from augmentor.workflows.project import (
    Project,
    ProjectConfig,
    SourceConfig,
    open_project,
    save_project,
)

ROOT = Path(__file__).parents[2]
CONFIG = ProjectConfig(
    name="tiles", classes=("pit", "crack"), source=SourceConfig(path=Path("/photos"))
)


def test_what_was_saved_is_opened_from_any_folder_below(tmp_path):
    saved = save_project(tmp_path, CONFIG)
    below = tmp_path / "data" / "masks"
    below.mkdir(parents=True)
    assert open_project(below) == Project(tmp_path.resolve(), saved.config)
    assert "mix:" not in (tmp_path / "augment.yaml").read_text(), "defaults are not written"


def test_every_key_is_documented():
    spec = importlib.util.spec_from_file_location("make", ROOT / "docs" / "make_configuration.py")
    assert spec and spec.loader
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    assert (ROOT / "docs" / "configuration.md").read_text() == make.document(), (
        "out of date; run: python docs/make_configuration.py"
    )
    undescribed = [row for row in make.rows(ProjectConfig) if row.endswith("|  |")]
    assert undescribed == []


def test_shares_are_read_and_scaled_to_one():
    project = with_mix(Project(Path("/p"), CONFIG), generators="compact=3,copy-paste=1")
    assert project.shares == {"compact": 0.75, "copy-paste": 0.25}
    assert Project(Path("/p"), CONFIG).shares == {"compact": 1.0}


def test_what_options_of_build_asked_for_is_known_of_the_dataset(tmp_path):
    """To `evaluate --splits` and to Rebuild mix."""
    project = Project(tmp_path, CONFIG)
    assert as_built(project) == project
    summary = {"ratio": 0.8, "balance": "natural", "generators": {"copy-paste": 1.0}, "short": []}
    project.dataset.mkdir(parents=True)
    (project.dataset / "build.json").write_text(json.dumps({"key": "k", "summary": summary}))
    found = as_built(project)
    assert found.shares == {"copy-paste": 1.0}
    assert (found.config.mix.ratio, found.config.mix.balance) == (0.8, "natural")
    assert found.config.mix.attempts == CONFIG.mix.attempts
    again = with_mix(found, ratio=0.3)
    assert (again.shares, again.config.mix.ratio) == ({"copy-paste": 1.0}, 0.3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ratio": 1.5}, "ratio"),
        ({"ratio": float("nan")}, "ratio"),
        ({"balance": "equal"}, "'class' or 'natural'"),
        ({"generators": "compact=lots"}, "no number: 'lots'"),
        ({"generators": "compact=-1"}, "above 0"),
    ],
)
def test_options_out_of_bounds_are_refused(options, words):
    with pytest.raises(ProjectError, match=words):
        with_mix(Project(Path("/p"), CONFIG), **options)
