"""The whole way on a small sample dataset: import, build, export, evaluate."""

import json
import math
import shutil
from collections import Counter

import numpy as np
import pytest
import yaml
from helpers import augment, copy_project, tree_hashes
from PIL import Image

from augmentor.cli.errors import EXIT_DATA, EXIT_LEAK, EXIT_PROJECT, EXIT_SHORT
from augmentor.records_io import load_records
from augmentor.sample_data import write_sample_dataset


def manifest(folder):
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def built(imported, tmp_path_factory):
    """A project built once with copy-paste; tests only read it."""
    folder = tmp_path_factory.mktemp("built") / "project"
    copy_project(imported, folder, "spine-built")
    code, output = augment(
        "build", "--ratio", "0.5", "--generator", "copy-paste", "--project", folder, "--json"
    )
    assert code == 0, output
    return folder


def test_import_keeps_the_shots_and_puts_the_rest_aside(imported):
    counts = Counter((r.label, r.split) for r in load_records(imported / "data"))
    for name in ("pit", "scratch", "crack", "stain", "edge_chip"):
        assert counts[name, "train"] == 4
        assert sum(n for (label, _), n in counts.items() if label == name) == 8
        assert counts[name, "val"] >= 1
        assert counts[name, "test"] >= 1


def test_import_again_does_nothing(imported, photos):
    before = tree_hashes(imported)
    code, output = augment(
        "import", photos, "--name", "spine", "--shots", "4", "--project", imported
    )
    assert code == 0
    assert "Nothing to do" in output
    assert tree_hashes(imported) == before


def test_import_with_another_split_on_the_same_folder_is_refused(imported, photos):
    code, output = augment(
        "import", photos, "--name", "spine", "--shots", "5", "--project", imported
    )
    assert code == EXIT_PROJECT
    assert "already a project made with other arguments" in output


def test_ratio_is_the_share_of_synthetic_among_the_defect_images(built):
    lines = [line for line in manifest(built / "dataset") if line["split"] == "train"]
    defects = Counter(line["kind"] for line in lines if line["class"] != "good")
    assert defects == {"real": 20, "synthetic": 20}
    per_class = Counter(line["class"] for line in lines if line["kind"] == "synthetic")
    assert set(per_class.values()) == {4}


def test_val_and_test_hold_real_images_only_and_share_no_source(built):
    lines = manifest(built / "dataset")
    held_out = {line["id"] for line in lines if line["split"] != "train"}
    assert {line["kind"] for line in lines if line["split"] != "train"} == {"real"}
    sources = {s for line in lines for s in line["source_ids"]}
    assert sources
    assert not sources & held_out


def test_outside_the_feather_every_pixel_is_the_background(built):
    records = {r.id: r for r in load_records(built / "data")}
    pool = built / "pool" / "copy-paste"
    checked = 0
    for line in map(json.loads, (pool / "manifest.jsonl").read_text().splitlines()):
        background = np.asarray(
            Image.open(records[line["background_id"]].image_path).convert("RGB")
        )
        if line["background_xyxy"]:
            x1, y1, x2, y2 = line["background_xyxy"]
            background = background[y1:y2, x1:x2]
        made = np.asarray(Image.open(pool / line["image"]).convert("RGB"))
        x1, y1, x2, y2 = line["crop_xyxy"]
        outside = np.ones(made.shape[:2], bool)
        outside[y1:y2, x1:x2] = False
        assert np.array_equal(made[outside], background[outside])
        checked += int(outside.sum())
    assert checked > 10_000


def test_build_again_does_nothing(built):
    before = tree_hashes(built)
    code, output = augment(
        "build", "--ratio", "0.5", "--generator", "copy-paste", "--project", built
    )
    assert code == 0
    assert "Nothing to do" in output
    assert tree_hashes(built) == before


def test_a_planted_leak_is_refused(project):
    folder = project()
    arguments = ("build", "--generator", "copy-paste", "--project", folder)
    assert augment(*arguments, "--ratio", "0.2")[0] == 0
    held_out = next(r for r in load_records(folder / "data") if r.split == "test")
    path = folder / "pool" / "copy-paste" / "manifest.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[0]["source_ids"] = [held_out.id]
    lines[0]["mask_source_id"] = held_out.id
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, output = augment(*arguments, "--ratio", "0.5")
    assert code == EXIT_LEAK
    assert held_out.id in output
    assert "is in the test split" in output


def test_a_ratio_that_cannot_be_met_is_said_plainly(project):
    folder = project()
    config = yaml.safe_load((folder / "augment.yaml").read_text())
    config["filters"] = {"mask": {"least_fill": 1.0}}
    config["mix"] = {"attempts": 1.0}
    (folder / "augment.yaml").write_text(yaml.safe_dump(config))
    code, output = augment(
        "build", "--ratio", "0.5", "--generator", "copy-paste", "--project", folder
    )
    assert code == EXIT_SHORT
    assert "are missing" in output
    assert "too-little-in-mask" in output


def test_an_unknown_generator_names_those_that_exist(project):
    code, output = augment("build", "--generator", "copy-past", "--project", project())
    assert code == EXIT_PROJECT
    assert "copy-paste" in output


def test_a_corrupt_image_stops_the_import_and_is_named(photos, tmp_path):
    import shutil

    source = tmp_path / "photos"
    shutil.copytree(photos, source)
    victim = source / "test" / "pit" / "000.png"
    victim.write_bytes(victim.read_bytes()[:500])
    arguments = ("import", source, "--name", "spoilt", "--project", tmp_path / "p")
    code, output = augment(*arguments)
    assert code == EXIT_DATA
    assert "000.png" in output
    assert "--on-bad skip" in output
    assert not (tmp_path / "p" / "augment.yaml").exists()
    code, output = augment(*arguments, "--on-bad", "skip")
    assert code == 0, output
    assert len(load_records(tmp_path / "p" / "data")) == 5 * 8 + 14 - 1


@pytest.mark.parametrize("layout", ["yolo", "yolo-seg", "coco", "voc", "mvtec", "folders"])
def test_every_export_format_is_written(built, layout):
    code, output = augment("export", "--format", layout, "--project", built)
    assert code == 0, output
    folder = built / "exports" / layout
    images = [p for p in folder.rglob("*") if p.suffix in {".png", ".jpg"}]
    expected = len(manifest(built / "dataset"))
    below = [str(path.relative_to(folder)) for path in images]
    photographs = [p for p in below if "ground_truth" not in p and "Segmentation" not in p]
    assert len(photographs) == expected
    assert (folder / "manifest.jsonl").is_file()


def test_new_photographs_keep_the_others_sides_and_an_export_waits_for_the_build(
    built, photos, tmp_path
):
    folder = copy_project(built, tmp_path / "project", "more-photographs")
    sides = {r.id: r.split for r in load_records(folder / "data")}
    more = shutil.copytree(photos, tmp_path / "photos")
    write_sample_dataset(tmp_path / "new", seed=8, per_class=2, clean=5)
    for path in sorted((tmp_path / "new").rglob("*.*")):
        place = more / path.relative_to(tmp_path / "new")
        path.rename(place.with_name(f"new_{path.name}"))
    again = ("import", more, "--name", "more-photographs", "--shots", "4", "--project", folder)
    code, output = augment(*again)
    assert code == 0, output
    notes = json.loads((folder / "data/import_report.json").read_text())["notes"]
    assert "15 new images were split; those known before keep their side." in notes
    grown = {r.id: r.split for r in load_records(folder / "data")}
    assert len(grown) == len(sides) + 15
    assert sides.items() <= grown.items()
    code, output = augment("export", "--format", "yolo", "--project", folder)
    assert code == EXIT_PROJECT
    assert "changed since the mixed dataset was built; build it anew" in output


def test_evaluate_measures_every_arm_on_real_test_images(project):
    folder = project()
    config = yaml.safe_load((folder / "augment.yaml").read_text())
    config["evaluate"] = {
        "seeds": 1,
        "detection_steps": 3,
        "detection_px": 64,
        "detection_batch": 4,
        "classification_steps": 3,
        "classification_px": 32,
        "bootstrap_samples": 100,
    }
    (folder / "augment.yaml").write_text(yaml.safe_dump(config))
    code, output = augment(
        "build", "--ratio", "0.5", "--generator", "copy-paste", "--project", folder
    )
    assert code == 0, output
    code, output = augment("evaluate", "--project", folder)
    assert code == 0, output
    report = json.loads((folder / "evaluation" / "report.json").read_text())
    assert report["schema"] == 2
    assert (folder / "evaluation" / "report.html").stat().st_size > 1000
    export = manifest(folder / "evaluation" / "export")
    per_arm = Counter(
        arm for line in export if line["split"] == "train" for arm in line["arms"] or ["every"]
    )
    assert per_arm["classical"] == per_arm["copy-paste"] == per_arm["mixed"]
    assert per_arm["mixed"] - per_arm["real"] == 20
    assert math.isfinite(sum(per_arm.values()))
    for arm in ("real", "classical", "copy-paste", "mixed"):
        assert arm in output


def test_sample_adds_exactly_what_was_asked(project):
    folder = project()
    arguments = ("sample", "-n", "7", "--generator", "cutpaste", "--project", folder)
    assert augment(*arguments)[0] == 0
    lines = manifest(folder / "pool" / "cutpaste")
    assert len(lines) == 7
    assert augment(*arguments)[0] == 0
    assert len(manifest(folder / "pool" / "cutpaste")) == 14
    assert manifest(folder / "pool" / "cutpaste")[:7] == lines


def test_sample_of_an_unknown_class_names_the_known_ones(project):
    code, output = augment(
        "sample", "-n", "1", "--class", "dent", "--generator", "perlin", "--project", project()
    )
    assert code == EXIT_PROJECT
    assert "edge_chip" in output
