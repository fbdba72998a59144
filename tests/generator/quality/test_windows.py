"""Folds keep groups whole; real defects and samples are cut alike."""

from collections import Counter

import cv2
import numpy as np
import pytest

from generator.errors import PoolError
from generator.quality.windows import (
    FOLDS,
    NEVER_HELD_OUT,
    assign_folds,
    defect_window,
    read_sample,
    real_windows,
)
from generator.records import SyntheticDefect


def test_every_class_has_a_part_of_every_fold(examples):
    folds = assign_folds(examples, seed=0)
    counts = Counter((e.label, folds[e.id]) for e in examples)
    assert {label for label, _ in counts} == {e.label for e in examples}
    for label in {e.label for e in examples if not e.is_clean}:
        assert [counts[label, k] for k in range(FOLDS)] == [2, 2, 2]


def test_a_group_is_never_torn_and_a_lonely_one_never_held_out(examples):
    pits = [e.model_copy(update={"group": "tray 7"}) for e in examples if e.label == "pit"]
    rest = [e for e in examples if e.label == "stain"]
    folds = assign_folds([*pits, *rest], seed=0)
    assert {folds[e.id] for e in pits} == {NEVER_HELD_OUT}
    assert {folds[e.id] for e in rest} == {0, 1, 2}


def test_folds_do_not_depend_on_the_order_of_a_listing(examples):
    assert assign_folds(examples, 3) == assign_folds(examples[::-1], 3)
    assert assign_folds(examples, 3) != assign_folds(examples, 4)


def test_windows_hold_their_defect_and_clean_ones_hold_none(examples, classes):
    windows = real_windows(examples, classes)
    assert Counter(w.class_name for w in windows)["good"] == 8
    for window in windows:
        assert window.pixels.shape[:2] == window.mask.shape
        assert window.mask.any() == (window.class_name != "good")
    by_id = {e.id: e for e in examples}
    for window in windows[:10]:
        sizes = [
            (cv2.imread(str(i.mask_path), 0) > 127).sum()
            for i in by_id[window.example_id].instances
        ]
        assert window.mask.sum() in sizes


def test_a_place_that_nobody_knows_makes_the_whole_image_the_window(examples):
    bare = [e.model_copy(update={"instances": ()}) for e in examples if e.label == "pit"]
    windows = real_windows(bare, ["pit"])
    assert {w.pixels.shape for w in windows} == {(e.height, e.width, 3) for e in bare}
    assert all(w.mask.all() for w in windows)


def _sample(example, box, mask="masks/1.png"):
    return SyntheticDefect(
        id="1", class_name=example.label, index=0, seed=0, generator="g", fingerprint="f",
        image="images/1.png", mask=mask, width=example.width, height=example.height, grey=False,
        boxes_xyxy=(box,), mask_kind="exact", background_id=None, mask_source_id=None,
        source_ids=(), feather_px=3, crop_xyxy=box, verdict="accepted",
    )  # fmt: skip


def test_a_sample_equal_to_a_real_image_gives_the_same_window(examples, tmp_path):
    example = next(e for e in examples if e.label == "scratch")
    instance = example.instances[0]
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    image = cv2.imread(str(example.image_path))
    cv2.imwrite(str(tmp_path / "images/1.png"), image)
    cv2.imwrite(str(tmp_path / "masks/1.png"), np.full(image.shape[:2], 255, np.uint8))
    shown, mask, box = read_sample(tmp_path, _sample(example, instance.box_xyxy))
    real = next(w for w in real_windows([example], ["scratch"]) if w.class_name == "scratch")
    assert box == instance.box_xyxy and mask.all()
    assert np.array_equal(defect_window(shown, box), real.pixels)


def test_a_sample_without_its_file_says_what_to_type(examples, tmp_path):
    with pytest.raises(PoolError, match=r"images/1\.png is missing.*augment build$"):
        read_sample(tmp_path, _sample(examples[0], (0, 0, 9, 5)))
