"""Trainings on another machine: the same pixels, the same results, each picture carried once."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_export import write_export

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from elsewhere import FILES, RESULTS, jobs_of, run, shrink, table_of, unpack

from downstream.config import ExperimentConfig
from downstream.dataset import read_export
from downstream.detectors.batches import read_square
from downstream.detectors.squares import read_mask_square
from downstream.experiment import run_experiment

PX = 32
SETTINGS = {"localisation_steps": 2, "localisation_px": PX, "localisation_batch": 4}


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    return write_export(tmp_path_factory.mktemp("export") / "one", task="segment", real=12)


@pytest.fixture(scope="module")
def bundle(export, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    (folder / FILES).mkdir()
    for name, seed in (("split-4", 4), ("split-5", 5)):
        shrink(export, folder, name, px=PX, square=True, seed=seed)
    return folder


def test_trainings_see_the_same_pixels_and_masks(export, bundle, tmp_path):
    before = read_export(export)
    after = read_export(unpack(bundle, "split-4", tmp_path / "split-4"))
    assert after.arms == before.arms and after.classes == before.classes
    assert len(after.all_items) == len(before.all_items) > 30
    for split in ("train", "val", "test"):
        for old, new in zip(before.items(split), after.items(split), strict=True):
            assert (old.id, old.arms, old.class_name) == (new.id, new.arms, new.class_name)
            assert (new.width, new.height) == (PX, PX) != (old.width, old.height)
            assert np.array_equal(read_square(old, PX), read_square(new, PX))
            assert np.array_equal(read_mask_square(old, PX), read_mask_square(new, PX))


def test_a_picture_of_several_splits_is_carried_once(export, bundle):
    once = len({json.loads(line)["sha256"] for line in (export / "manifest.jsonl").open()})
    masks = len(list((export / "masks").rglob("*.png")))
    assert once < len(list((bundle / FILES).iterdir())) <= once + masks


def test_for_detection_the_aspect_is_kept_and_boxes_follow(export, tmp_path):
    (tmp_path / FILES).mkdir()
    shrink(export, tmp_path, "one", px=48, square=False, seed=0)
    after = read_export(unpack(tmp_path, "one", tmp_path / "out"))
    for old, new in zip(read_export(export).items("train"), after.items("train"), strict=True):
        with Image.open(new.image) as image:
            assert image.size == (new.width, new.height)
        assert max(new.width, new.height) == 48
        assert new.width / new.height == pytest.approx(old.width / old.height, abs=0.03)
        for (_, *was), (_, *now) in zip(old.boxes, new.boxes, strict=True):
            sizes = np.array([old.width, old.height] * 2), np.array([new.width, new.height] * 2)
            assert np.allclose(np.array(was) / sizes[0], np.array(now) / sizes[1], atol=1e-4)
        assert old.label.read_text() == new.label.read_text()


def test_results_are_those_of_the_export_and_nothing_is_trained_twice(export, bundle, tmp_path):
    jobs = jobs_of(bundle, tmp_path, ["localisation"], SETTINGS, splits=["split-5"])
    assert [job.name for job in jobs] == [
        "split-5, localisation real seed 5",
        "split-5, localisation mixed seed 5",
    ]
    assert run(jobs, tmp_path, workers=1, minutes=5) == 0
    lines = [json.loads(line) for line in (tmp_path / RESULTS).open()]
    config = ExperimentConfig(tasks=("localisation",), seeds=(5,), jobs=1, **SETTINGS)
    run_experiment(export, tmp_path / "here", config)
    here = [json.loads(p.read_text()) for p in (tmp_path / "here").glob("runs/*/result.json")]
    assert {one["arm"]: one["metrics"] for one in lines} == {
        one["arm"]: one["metrics"] for one in here
    }
    results = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("result.json")}
    with (tmp_path / RESULTS).open("a") as stream:
        stream.write('{"key": "cut off by a ki')
    assert run(jobs, tmp_path, workers=1, minutes=5) == 0
    assert len((tmp_path / RESULTS).read_text().splitlines()) == 2
    assert {p: p.stat().st_mtime_ns for p in results} == results
    assert "| localisation | mixed | image AP | test | 1 |" in table_of(tmp_path, "real")
    with (tmp_path / RESULTS).open("a") as stream:
        stream.write(json.dumps(lines[0] | {"key": "of other settings"}) + "\n")
    with pytest.raises(SystemExit, match=r"several trainings of split-5, localisation real"):
        table_of(tmp_path, "real")


def test_time_is_kept_and_what_was_not_begun_is_said(bundle, tmp_path, capsys):
    jobs = jobs_of(bundle, tmp_path, ["localisation"], SETTINGS)
    assert len(jobs) == 4
    assert run(jobs, tmp_path, workers=1, minutes=0) == 0
    assert "0 of 4 trainings are finished, 4 not begun" in capsys.readouterr().out
