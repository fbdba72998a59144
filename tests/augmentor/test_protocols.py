"""The published split on a tiny MVTec tree: which file goes where, known by its hash."""

import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers import augment
from PIL import Image

from augmentor.cli.errors import EXIT_USAGE
from augmentor.errors import SourceError, SplitError
from augmentor.importers import ImportOutcome, import_source
from augmentor.protocols import RULES
from augmentor.records_io import load_records

SIZE_HW = (40, 56)
COUNTS = {"crack": 7, "hole": 9, "print": 4, "lone": 2}
THIRD = {"crack": 2, "hole": 3, "print": 1, "lone": 0}


def write_product(root: Path, seed: int, counts: dict[str, int] = COUNTS) -> dict[str, str]:
    """A product with `train/good` (10), `test/good` (3) and defect types; path by content hash."""
    rng = np.random.default_rng(seed)
    paths: dict[str, str] = {}

    def image(path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(60, 200, (*SIZE_HW, 3), dtype=np.uint8)).save(path)
        paths[hashlib.sha256(path.read_bytes()).hexdigest()] = str(path.relative_to(root))

    for folder, number in (("train/good", 10), ("test/good", 3)):
        for k in range(number):
            image(root / folder / f"{k:03d}.png")
    for name, number in counts.items():
        # written from the last to the first: the order of the listing must not matter
        for k in reversed(range(number)):
            image(root / "test" / name / f"{k:03d}.png")
            mask = np.zeros(SIZE_HW, np.uint8)
            mask[8:20, 10:30] = 255
            target = root / "ground_truth" / name / f"{k:03d}_mask.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(target)
    return paths


def run(root: Path, data: Path, **more: object) -> ImportOutcome:
    return import_source(root, data, protocol="anomalydiffusion", **more)  # type: ignore[arg-type]


def sides(outcome: ImportOutcome, paths: dict[str, str]) -> dict[str, str]:
    """Side by path, the record found by its content."""
    return {paths[r.sha256]: str(r.split) for r in outcome.records}


def test_the_first_third_by_name_is_trained_on_and_the_rest_is_tested(tmp_path: Path) -> None:
    paths = write_product(tmp_path / "hazelnut", 0)
    found = sides(run(tmp_path / "hazelnut", tmp_path / "data"), paths)
    assert found.keys() == set(paths.values())
    tested = {path for path, side in found.items() if side == "test"}
    expected = {f"test/good/{k:03d}.png" for k in range(3)}
    for name, number in COUNTS.items():
        expected |= {f"test/{name}/{k:03d}.png" for k in range(THIRD[name], number)}
    assert tested == expected


def test_val_is_taken_out_of_the_training_side(tmp_path: Path) -> None:
    paths = write_product(tmp_path / "hazelnut", 0)
    found = sides(run(tmp_path / "hazelnut", tmp_path / "data"), paths)
    counted = Counter((path.split("/")[1], side) for path, side in found.items() if side != "test")
    assert counted == {
        ("good", "train"): 8, ("good", "val"): 2,
        ("crack", "train"): 1, ("crack", "val"): 1,
        ("hole", "train"): 2, ("hole", "val"): 1,
        ("print", "train"): 1,
    }  # fmt: skip
    other = sides(run(tmp_path / "hazelnut", tmp_path / "other", seed=5), paths)
    assert {p for p, s in other.items() if s == "test"} == {
        p for p, s in found.items() if s == "test"
    }
    assert other != found, "the seed chooses what val is"


def test_what_is_written_down(tmp_path: Path) -> None:
    write_product(tmp_path / "hazelnut", 0)
    outcome = run(tmp_path / "hazelnut", tmp_path / "data")
    document = json.loads((tmp_path / "data" / "splits.json").read_text())
    assert document["protocol"] == "anomalydiffusion"
    assert document["rule"] == RULES["anomalydiffusion"]
    assert "test" not in document, "no share of ours was applied"
    assert {f["sha256"]: f["split"] for f in document["files"]} == {
        r.sha256: r.split for r in outcome.records
    }
    notes = " ".join(outcome.report["notes"])
    assert "Split by the protocol anomalydiffusion" in notes
    assert "not kept as a split" not in notes
    assert any("'lone'" in w and "train" in w for w in outcome.report["warnings"])
    assert run(tmp_path / "hazelnut", tmp_path / "data").already_done
    assert not import_source(tmp_path / "hazelnut", tmp_path / "data").already_done


def test_a_file_that_is_left_out_moves_no_other_across_the_line(tmp_path: Path) -> None:
    paths = write_product(tmp_path / "hazelnut", 0)
    first = tmp_path / "hazelnut/test/hole/000.png"
    first.write_bytes(first.read_bytes()[:60])
    found = sides(run(tmp_path / "hazelnut", tmp_path / "data", on_bad="skip"), paths)
    assert "test/hole/000.png" not in found
    assert {p for p, s in found.items() if "hole" in p and s != "test"} == {
        "test/hole/001.png",
        "test/hole/002.png",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shots": 3}, "--shots has no place in it"),
        ({"group_by": "similar"}, "--group-by has no place in it"),
    ],
)
def test_arguments_that_would_change_it_are_refused(
    tmp_path: Path, arguments: dict[str, object], message: str
) -> None:
    write_product(tmp_path / "hazelnut", 0)
    with pytest.raises(SplitError, match=message):
        run(tmp_path / "hazelnut", tmp_path / "data", **arguments)


def test_another_layout_is_refused(tmp_path: Path) -> None:
    write_product(tmp_path / "product", 0)
    (tmp_path / "in").mkdir()
    for name in ("crack", "good"):
        (tmp_path / "product/test" / name).rename(tmp_path / "in" / name)
    with pytest.raises(SplitError, match=r"not in <product>/train or <product>/test.*--layout"):
        run(tmp_path / "in", tmp_path / "data")


def test_products_are_imported_one_at_a_time(tmp_path: Path) -> None:
    all_paths = {
        name: write_product(tmp_path / "mvtec" / name, seed, {"crack": 4 + seed})
        for seed, name in enumerate(("bottle", "cable"))
    }
    bottle = tmp_path / "mvtec" / "bottle"
    with pytest.raises(SourceError, match=rf"2 objects .*augment import {bottle} --name bottle"):
        run(tmp_path / "mvtec", tmp_path / "data")
    for name, paths in all_paths.items():
        found = sides(run(tmp_path / "mvtec" / name, tmp_path / name), paths)
        trained = {p for p, s in found.items() if "crack" in p and s != "test"}
        assert trained == {"test/crack/000.png"}


def test_the_command_makes_a_project_of_it(tmp_path: Path) -> None:
    paths = write_product(tmp_path / "hazelnut", 0)
    arguments = ("import", tmp_path / "hazelnut", "--name", "nut", "--project", tmp_path / "p")
    code, output = augment(*arguments, "--protocol", "anomalydiffusion")
    assert code == 0, output
    assert "protocol: anomalydiffusion" in (tmp_path / "p" / "augment.yaml").read_text()
    tested = {paths[r.sha256] for r in load_records(tmp_path / "p" / "data") if r.split == "test"}
    assert len(tested) == 3 + sum(COUNTS.values()) - sum(THIRD.values())
    code, output = augment(*arguments)
    assert code != 0 and "already a project made with other arguments" in output
    other = ("import", tmp_path / "hazelnut", "--name", "nut2", "--project", tmp_path / "q")
    code, output = augment(*other, "--protocol", "anomalydiffusion", "--shots", "2")
    assert code == EXIT_USAGE and "--shots has no place" in output
