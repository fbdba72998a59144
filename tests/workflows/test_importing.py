"""What an import does where there is a project already, and what it refuses at once."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import augment
from PIL import Image

from augmentor.errors import DatabaseError, ProjectError, SourceError
from augmentor.fiftyone_io import connect, is_dataset_of, register_mix
from augmentor.records_io import load_records
from augmentor.workflows import demo, loop
from augmentor.workflows.build import build_dataset
from augmentor.workflows.built import built_summary
from augmentor.workflows.importing import Imported, import_project
from augmentor.workflows.project import SourceConfig, SplitConfig, open_project
from augmentor.workflows.reporting import Silent

H, W = 40, 64


def add_class(photos: Path, name: str, number: int = 4) -> None:
    """Photographs of one class with their masks beside them."""
    for k in range(number):
        rng = np.random.default_rng([k, *name.encode()])
        path = photos / name / f"{name}{k}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(60, 200, (H, W, 3), dtype=np.uint8)).save(path)
        mask = np.zeros((H, W), np.uint8)
        mask[5:17, 10:30] = 255 * (name != "good")
        Image.fromarray(mask).save(path.with_suffix(".png"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("pit", "hole", "good"):
        add_class(tmp_path / "photos", name)
    return tmp_path / "photos"


def imported(photos: Path, name: str, folder: Path | None = None, **source: object) -> Imported:
    home = folder or photos.parent / "project"
    config = SourceConfig(path=photos, **source)  # type: ignore[arg-type]
    return import_project(name, config, SplitConfig(), home, Silent())


def test_a_new_class_comes_after_the_known_ones(photos):
    project = imported(photos, "grown").project
    assert project.config.classes == ("hole", "pit")
    file = project.folder / "augment.yaml"
    file.write_text(file.read_text() + "# mine\n")
    add_class(photos, "dent")
    again = imported(photos, "grown").project
    assert again.config.classes == ("hole", "pit", "dent")
    assert open_project(project.folder).config == again.config
    assert "# mine" in file.read_text()
    assert {r.label for r in load_records(project.data)} == {"hole", "pit", "dent", "good"}
    assert connect().load_dataset("grown").default_classes == ["hole", "pit", "dent"]
    assert imported(photos, "grown").outcome.already_done


def test_two_projects_of_one_name_keep_their_datasets_apart(photos, tmp_path):
    first = imported(photos, "twice", tmp_path / "a").project
    with pytest.raises(DatabaseError, match=r"of the project in \S+/a; .*--name NAME"):
        imported(photos, "twice", tmp_path / "b")
    assert not (tmp_path / "b").exists(), "refused before anything is written"
    with pytest.raises(DatabaseError, match="'twice-mixed'"):
        register_mix("twice-mixed", [], [], ("pit",), {"project": str(first.folder)})
        build_dataset(
            replace(first, folder=shutil.copytree(first.folder, tmp_path / "c")), Silent()
        )
    assert not (tmp_path / "c" / "pool").exists()


def test_a_name_that_fiftyone_does_not_tell_from_another_is_refused_at_once(photos, tmp_path):
    imported(photos, "tile_1", tmp_path / "a")
    for name in ("tile-1", "Tile.1"):
        with pytest.raises(DatabaseError, match="'tile_1' already, which it does not tell"):
            imported(photos, name, tmp_path / "b")
        assert not (tmp_path / "b").exists()


def test_a_moved_project_takes_its_dataset_over(photos, tmp_path):
    imported(photos, "mover", tmp_path / "before")
    (tmp_path / "before").rename(tmp_path / "after")
    assert not is_dataset_of("mover", tmp_path / "after")
    assert imported(photos, "mover", tmp_path / "after").outcome.already_done
    assert is_dataset_of("mover", tmp_path / "after")


def test_a_second_demo_has_a_name_of_its_own(photos, tmp_path):
    names = []
    for place in ("one", "two", "three", "two"):
        home = tmp_path / place / "project"
        name = demo._name_of(home)
        names.append(imported(photos, name, home).project.config.name)
    assert names == ["sample", "sample-2", "sample-3", "sample-2"]


def test_photographs_that_moved_are_imported_from_where_they_are_now(photos, tmp_path):
    project = imported(photos, "elsewhere").project
    before = {r.id: r.split for r in load_records(project.data)}
    there = photos.rename(tmp_path / "archive")
    again = imported(there, "elsewhere", project.folder).project
    assert again.config.source.path == there == open_project(project.folder).config.source.path
    records = load_records(project.data)
    assert {r.id: r.split for r in records} == before
    assert all(r.source_path.is_relative_to(there) for r in records)
    roi = tmp_path / "roi.png"
    Image.fromarray(np.full((H, W), 255, np.uint8)).save(roi)
    again = imported(there, "elsewhere", project.folder, roi=roi).project
    assert again.config.source.roi == roi


def test_other_photographs_are_not_taken_for_those_that_moved(photos, tmp_path):
    project = imported(photos, "others").project
    add_class(tmp_path / "new", "dent")
    before = project.data.joinpath("records.jsonl").read_bytes()
    with pytest.raises(ProjectError, match="already a project made with other arguments"):
        imported(tmp_path / "new", "others", project.folder)
    assert project.data.joinpath("records.jsonl").read_bytes() == before


def test_what_an_import_prints_can_be_typed_and_notes_are_among_it(photos, tmp_path):
    shutil.copy(photos / "good" / "good0.jpg", photos / "good" / "again.jpg")
    folder = tmp_path / "my tiles"
    code, output = augment("import", photos, "--name", "blank", "--project", folder)
    assert code == 0, output
    assert f"Next: cd '{folder}' && augment build" in output
    assert "note: 1 files repeat the content of another" in output


def test_the_advice_to_skip_bad_files_can_be_followed_in_a_standing_project(photos):
    project = imported(photos, "skipping").project
    before = {r.id: r.split for r in load_records(project.data)}
    add_class(photos, "pit", 5)
    (photos / "pit" / "pit4.jpg").write_bytes(b"no picture")
    with pytest.raises(SourceError, match="run again with --on-bad skip"):
        imported(photos, "skipping")
    again = imported(photos, "skipping", on_bad="skip").project
    assert again.config.source.on_bad == "skip" == open_project(project.folder).config.source.on_bad
    assert {r.id: r.split for r in load_records(project.data)} == before


def test_a_loop_knows_its_data_by_content(photos, tmp_path):
    def key(folder: Path) -> str:
        project = open_project(folder)
        config, generators = loop._settings(project, loop.Asked())
        return loop._key(project, config, loop.Asked(), generators)

    imported(photos, "looped", tmp_path / "here")
    before = key(tmp_path / "here")
    there = (tmp_path / "here").rename(tmp_path / "there")
    assert key(there) == before
    mask = np.zeros((H, W), np.uint8)
    mask[5:17, 10:30] = 255
    mask[8:14, 14:26] = 0  # hollow, in the same box
    Image.fromarray(mask).save(photos / "pit" / "pit0.png")
    stamp = there.joinpath("data/registered.json").read_text()
    imported(photos, "looped", there)
    assert key(there) != before
    assert there.joinpath("data/registered.json").read_text() != stamp


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("records.jsonl", "half"),
        ("records.jsonl", ""),
        ("records.jsonl", "[1, 2]\n"),
        ("splits.json", "half"),
        ("splits.json", ""),
        ("splits.json", "[1, 2]"),
    ],
)
def test_a_damaged_record_of_the_data_is_one_sentence_and_import_mends_it(photos, file, content):
    name = photos.parent.name  # one of its own for each case
    project = imported(photos, name).project
    path, before = project.data / file, load_records(project.data)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content == "half" else content.encode())
    with pytest.raises(ProjectError, match=r"damaged.*; run augment import again\.$"):
        load_records(project.data)
    assert not imported(photos, name).outcome.already_done
    assert load_records(project.data) == before
    assert path.read_bytes() == whole


def test_a_damaged_note_of_what_was_registered_or_built_is_made_anew(photos):
    project = imported(photos, "noted").project
    for damaged in ("", "[1]", '{"dataset": '):
        (project.data / "registered.json").write_text(damaged)
        assert imported(photos, "noted").outcome.already_done
    project.dataset.mkdir()
    for damaged in ("", "[1]", '{"key": '):
        (project.dataset / "build.json").write_text(damaged)
        assert built_summary(project) == {}
