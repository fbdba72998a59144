"""augment.yaml: written, read, documented."""

import importlib.util
import json
from pathlib import Path

import pytest

from augmentor.errors import ProjectError
from augmentor.workflows.alone import working_on
from augmentor.workflows.build import with_mix
from augmentor.workflows.built import as_built, build_again
from augmentor.workflows.project import (
    Project,
    ProjectConfig,
    SourceConfig,
    edit_project,
    open_project,
    save_project,
)

ROOT = Path(__file__).parents[2]
CONFIG = ProjectConfig(
    name="tiles", classes=("pit", "crack"), source=SourceConfig(path=Path("/photos"))
)


def test_what_was_saved_is_opened_from_any_folder_below(tmp_path, monkeypatch):
    saved = save_project(tmp_path, CONFIG)
    below = tmp_path / "data" / "masks"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert open_project() == open_project(tmp_path) == Project(tmp_path.resolve(), saved.config)
    assert "mix:" not in (tmp_path / "augment.yaml").read_text(), "defaults are not written"


def test_a_folder_that_was_mistyped_is_not_the_project_around_it(tmp_path):
    save_project(tmp_path, CONFIG)
    with pytest.raises(ProjectError, match=f"type: --project {tmp_path.resolve()}$"):
        open_project(tmp_path / "tyles")


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
        ({}, ""),
        ({"ratio": 0.8}, " --ratio 0.8"),
        ({"generators": "copy-paste"}, " --generator copy-paste"),
        (
            {"generators": "compact=3,copy-paste=1", "balance": "natural", "seed": 4},
            " --generator compact=0.75,copy-paste=0.25 --balance natural --seed 4",
        ),
    ],
)
def test_what_builds_a_dataset_anew_names_the_options_that_it_had(tmp_path, options, words):
    """A build without them is one at augment.yaml's ratio, of augment.yaml's generators."""
    project = Project(tmp_path, CONFIG)
    mix = with_mix(project, **options)
    kept = {"ratio", "balance", "seed"}
    summary = mix.config.mix.model_dump(include=kept) | {"generators": mix.shares}
    project.dataset.mkdir(parents=True)
    (project.dataset / "build.json").write_text(json.dumps({"key": "k", "summary": summary}))
    assert build_again(project) == f"augment build{words}"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ratio": 1.5}, "ratio"),
        ({"ratio": float("nan")}, "ratio"),
        ({"balance": "equal"}, "'class' or 'natural'"),
        ({"generators": "compact=lots"}, "no number above 0: 'lots'"),
        ({"generators": "compact=-1"}, "above 0"),
        ({"generators": "compact=inf"}, "above 0: 'inf'"),
        ({"generators": "compact=nan,copy-paste=1"}, "above 0: 'nan'"),
        ({"generators": "compact="}, "above 0: ''"),
        ({"generators": "compact=0.7,copy-paste"}, "some generators a share and others none"),
        ({"generators": "compact=0.9,compact=0.1"}, "or one twice"),
        ({"generators": "compact,"}, "names no generator"),
    ],
)
def test_options_out_of_bounds_are_refused(options, words):
    with pytest.raises(ProjectError, match=words):
        with_mix(Project(Path("/p"), CONFIG), **options)


def test_names_that_yaml_takes_for_something_else_stay_names(tmp_path):
    """ruamel writes YAML 1.2, in which `off` is a text, and PyYAML reads 1.1."""
    project = save_project(tmp_path, CONFIG)
    names = ["pit", "off", "no", "12:30", "1e3", "a: b", "Löcher"]
    edit_project(project, {"classes": names})
    assert list(open_project(tmp_path).config.classes) == names


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"mix: {ratio: 0.3}\nmix: {seed: 1}\n", r"the key 'mix' of line \d+ stands above it"),
        ("description: Löcher\n".encode("cp1252"), "can't be read as YAML in UTF-8"),
    ],
)
def test_a_file_that_says_two_things_or_is_no_utf_8_is_refused(tmp_path, text, words):
    save_project(tmp_path, CONFIG)
    path = tmp_path / "augment.yaml"
    path.write_bytes(path.read_bytes() + text)
    with pytest.raises(ProjectError, match=words):
        open_project(tmp_path)


@pytest.mark.parametrize("below", ["", "below"])
def test_a_file_in_the_place_of_a_project_is_named(tmp_path, below):
    path = tmp_path / "tiles.yaml"
    path.write_text("name: tiles\n")
    asked = pytest.raises(ProjectError, match=r"tiles\.yaml is a file; give the folder")
    with asked, working_on(path / below, "import"):
        pass
