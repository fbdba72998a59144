"""The sample dataset: same seed, same bytes; masks say where the defect is."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from augmentor.errors import SourceError
from augmentor.importers import import_source
from augmentor.sample_data import (
    DEFECTS,
    DRAWING,
    SIDE_PX,
    VARIED,
    sample_image,
    write_sample_dataset,
)
from augmentor.sample_variety import vary


def digest(folder: Path) -> dict[str, str]:
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def test_same_arguments_write_the_same_bytes_and_an_interrupted_run_is_completed(
    tmp_path: Path,
) -> None:
    counts = write_sample_dataset(tmp_path / "a", seed=3, per_class=2, clean=6)
    assert counts == {"good": 6, **dict.fromkeys(DEFECTS, 2)}
    first = digest(tmp_path / "a")
    assert len(first) == 6 + 2 * 2 * len(DEFECTS) + 1
    write_sample_dataset(tmp_path / "b", seed=3, per_class=2, clean=6)
    assert digest(tmp_path / "b") == first
    for path in list((tmp_path / "b" / "test").rglob("*.png"))[::2]:
        path.unlink()
    write_sample_dataset(tmp_path / "b", seed=3, per_class=2, clean=6)
    assert digest(tmp_path / "b") == first


def test_it_is_imported_as_mvtec(tmp_path: Path) -> None:
    write_sample_dataset(tmp_path / "a", per_class=3, clean=6)
    outcome = import_source(tmp_path / "a", tmp_path / "data")
    assert outcome.layout == "mvtec"
    assert set(outcome.classes) == set(DEFECTS)
    assert outcome.report["images"] == {"good": 6, **dict.fromkeys(DEFECTS, 3)}
    assert len({(r.width, r.height) for r in outcome.records}) > 10


@pytest.mark.parametrize("kind", list(DEFECTS))
def test_a_defect_is_seen_inside_its_mask(kind: str) -> None:
    for number in range(4):
        image, mask = sample_image(kind, number, seed=1)
        height, width = mask.shape
        assert image.shape == (height, width, 3) and image.dtype == np.uint8
        assert SIDE_PX[0] <= min(mask.shape) and max(mask.shape) <= SIDE_PX[1]
        assert 12 <= mask.sum() < 0.25 * mask.size
        grey = image.mean(2)
        rows, columns = np.nonzero(mask)
        y1, y2 = max(rows.min() - 12, 0), rows.max() + 13
        x1, x2 = max(columns.min() - 12, 0), columns.max() + 13
        around = ~mask[y1:y2, x1:x2]
        near = grey[y1:y2, x1:x2][around]
        contrast = np.abs(grey[mask] - np.median(near)).mean()
        assert contrast > 1.1 * np.abs(near - np.median(near)).mean()


def test_clean_images_have_an_empty_mask_and_colour() -> None:
    image, mask = sample_image("good", 0)
    assert not mask.any()
    assert (image[..., 0] != image[..., 2]).any()


def test_varied_pictures_are_no_turned_copies_of_the_others() -> None:
    """Detectors that learned the varied ones are tested on the others."""

    def poses(mask: np.ndarray) -> set[bytes]:
        turned = [np.rot90(each, k) for each in (mask, mask[:, ::-1]) for k in range(4)]
        return {repr(each.shape).encode() + np.packbits(each).tobytes() for each in turned}

    plain = [sample_image(kind, number)[1] for kind in DEFECTS for number in range(4)]
    varied = [sample_image(kind, number, varied=True)[1] for kind in DEFECTS for number in range(4)]
    known = set().union(*map(poses, varied))
    assert len(known) > len(varied)
    assert not any(poses(mask) & known for mask in plain)


def test_other_pictures_have_another_drawing_number(tmp_path: Path) -> None:
    # where these values change, raise DRAWING, or VARIED, with them
    plain = {
        "good": (142.23, 15.47, 0), "pit": (152.99, 17.49, 199), "scratch": (130.56, 52.28, 296),
        "crack": (149.06, 17.3, 288), "stain": (146.41, 15.49, 1403),
        "edge_chip": (115.14, 43.79, 650),
    }  # fmt: skip
    varied = {
        "good": (165.31, 43.33, 0), "pit": (105.59, 8.61, 220), "scratch": (196.87, 19.63, 286),
        "crack": (137.29, 63.42, 239), "stain": (135.55, 17.26, 1628),
        "edge_chip": (93.14, 39.68, 505),
    }  # fmt: skip
    assert (DRAWING, VARIED) == (1, 2)
    for drawn in (plain, varied):
        for kind, (mean, deviation, area_px) in drawn.items():
            image, mask = sample_image(kind, 0, varied=drawn is varied)
            assert image.mean() == pytest.approx(mean, abs=0.05), kind
            assert image.std() == pytest.approx(deviation, abs=0.05), kind
            assert mask.sum() == pytest.approx(area_px, abs=3), kind
    write_sample_dataset(tmp_path / "a", per_class=1, clean=1)
    marker = tmp_path / "a" / "sample.json"
    marker.write_text(marker.read_text().replace('"drawing": 1', '"drawing": 0'))
    with pytest.raises(SourceError, match="by another version"):
        write_sample_dataset(tmp_path / "a", per_class=1, clean=1)


def test_a_foreign_folder_and_other_settings_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("keep me")
    with pytest.raises(SourceError, match="is not empty"):
        write_sample_dataset(tmp_path / "mine")
    write_sample_dataset(tmp_path / "a", per_class=1, clean=1)
    with pytest.raises(SourceError, match="made with other settings"):
        write_sample_dataset(tmp_path / "a", per_class=1, clean=1, seed=9)
    with pytest.raises(SourceError, match="at least 1"):
        write_sample_dataset(tmp_path / "b", per_class=0)


def test_masks_on_disk_are_black_and_white(tmp_path: Path) -> None:
    write_sample_dataset(tmp_path / "a", per_class=1, clean=1)
    for path in (tmp_path / "a" / "ground_truth").rglob("*_mask.png"):
        values = np.unique(np.asarray(Image.open(path)))
        assert values.tolist() == [0, 255], path


def test_another_look_keeps_the_defect_under_its_mask() -> None:
    """A picture that is its own mask stays so, whatever way it is turned and lit."""
    mask = np.zeros((60, 90), bool)
    mask[5:20, 10:50] = True
    white = np.repeat(np.where(mask, 255, 0)[..., None], 3, axis=2).astype(np.uint8)
    looks = [vary(white, mask, np.random.default_rng(seed)) for seed in range(40)]
    for image, own in looks:
        assert image.dtype == np.uint8 and image.shape[:2] == own.shape and own.sum() == mask.sum()
        grey = image.mean(axis=2)
        assert abs(np.corrcoef(grey.ravel(), own.ravel())[0, 1]) > 0.8
    assert {own.shape for _, own in looks} == {(60, 90), (90, 60)}
    assert {bool(image.mean() > 128) for image, _ in looks} == {True, False}


def test_varied_pictures_are_others_and_the_same_when_drawn_again(tmp_path: Path) -> None:
    for name, varied in (("one", False), ("varied", True), ("again", True)):
        write_sample_dataset(tmp_path / name, per_class=2, clean=2, varied=varied)
    one, varied, again = (digest(tmp_path / name) for name in ("one", "varied", "again"))
    assert varied == again and one.keys() == varied.keys()
    assert all(one[path] != varied[path] for path in one if path.startswith(("train", "test")))
    with pytest.raises(SourceError, match="made with other settings"):
        write_sample_dataset(tmp_path / "one", per_class=2, clean=2, varied=True)
