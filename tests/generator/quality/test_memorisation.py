"""Copies of one training image are found, whatever their pose; other real defects are not."""

import cv2
import numpy as np
import pytest

from generator.quality.memorisation import Memorisation
from generator.quality.rules import QualityRules
from generator.quality.windows import real_windows

LEAST = QualityRules().memorisation.least


@pytest.fixture(scope="module")
def windows(examples):
    return real_windows(examples, ("pit", "stain", "crack", "scratch", "edge_chip"))


@pytest.fixture(scope="module")
def memorisation(windows):
    return Memorisation(windows, ("pit", "stain", "crack", "scratch", "edge_chip"))


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize("mirrored", [False, True])
def test_the_eight_symmetries_of_a_training_image_are_copies(
    windows, memorisation, turns, mirrored
):
    for window in (w for w in windows if w.class_name in ("pit", "crack")):
        image, mask = np.rot90(window.pixels, turns), np.rot90(window.mask, turns)
        if mirrored:
            image, mask = image[:, ::-1], mask[:, ::-1]
        image, mask = np.ascontiguousarray(image), np.ascontiguousarray(mask)
        found = memorisation.score(image, mask, window.class_name)
        assert found.ratio < 0.5 * LEAST
        assert found.example_id == window.example_id


def test_a_relit_copy_on_another_surface_is_a_copy(windows, memorisation):
    clean = [w.pixels for w in windows if w.class_name == "good"]
    stains = [w for w in windows if w.class_name == "stain"]
    close, right = [], []
    for k, window in enumerate(stains):
        surface = cv2.resize(clean[k % len(clean)], window.mask.shape[::-1])
        alpha = cv2.GaussianBlur(window.mask.astype(np.float32), (0, 0), 1)[..., None]
        lit = window.pixels * 0.85 + 12
        pasted = (alpha * lit + (1 - alpha) * surface).clip(0, 255).astype(np.uint8)
        found = memorisation.score(pasted, window.mask, "stain")
        close.append(found.ratio < LEAST)
        right.append(found.example_id == window.example_id)
    assert np.mean(right) == 1
    assert np.mean(close) >= 0.8


def test_other_real_defects_are_no_copies(memorisation, draw, tmp_path, classes):
    fresh = real_windows(draw(tmp_path, per_class=8, clean=0, seed=3), classes)
    ratios = [memorisation.score(w.pixels, w.mask, w.class_name).ratio for w in fresh]
    assert len(ratios) >= 40
    assert np.mean(np.array(ratios) < LEAST) <= 0.05


def test_what_cannot_be_measured_has_no_score(windows, memorisation):
    window = next(w for w in windows if w.class_name == "pit")
    assert memorisation.score(window.pixels, np.zeros_like(window.mask), "pit") is None
    assert memorisation.score(window.pixels, window.mask, "unheard") is None
    two = [w for w in windows if w.class_name == "pit"][:2]
    assert Memorisation(two, ["pit"]).score(window.pixels, window.mask, "pit") is None


def test_a_copy_of_a_defect_that_is_not_at_hand_is_found_by_its_lender(windows):
    pits = [w for w in windows if w.class_name == "pit"]
    few = Memorisation(pits[1:], ["pit"])
    plain = few.score(pits[0].pixels, pits[0].mask, "pit")
    found = few.score(pits[0].pixels, pits[0].mask, "pit", [pits[0]])
    assert plain.ratio > LEAST > found.ratio
    assert found.example_id == pits[0].example_id
    assert few.score(pits[0].pixels, pits[0].mask, "pit", [pits[1]]) == plain
