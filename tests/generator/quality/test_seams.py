"""What was cut out hard steps within a pixel; what a lens saw does not."""

import cv2
import numpy as np
import pytest

from generator.quality.seams import Seams, rim_sharpness
from generator.quality.windows import Window, real_windows


def _disc(blur: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mask = np.zeros((90, 120), np.uint8)
    cv2.circle(mask, (60, 45), 20, 1, cv2.FILLED)
    grey = 150 - 80 * cv2.GaussianBlur(mask.astype(np.float32), (0, 0), blur)
    grey = grey + rng.normal(0, 1.5, grey.shape)
    return np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2), mask > 0


def test_sharper_rims_score_higher():
    values = [rim_sharpness(*_disc(blur)) for blur in (0.3, 1.0, 2.0)]
    assert values[0] > 2 * values[1] > 2 * values[2] > 0


def test_a_mask_without_a_rim_has_no_sharpness():
    image, mask = _disc(1.0)
    assert rim_sharpness(image, np.zeros_like(mask)) == 0
    assert rim_sharpness(image, np.ones_like(mask)) == 0


def test_the_unit_is_what_real_rims_keep():
    real = [Window(str(k), str(k), "pit", *_disc(1.2, k), fold=k % 3) for k in range(30)]
    seams = Seams(real, ["pit", "dent"])
    kept = [seams.score(*_disc(1.2, 100 + k), "pit") <= 1 for k in range(40)]
    assert np.mean(kept) >= 0.85
    assert seams.score(*_disc(0.3), "pit") > 2
    assert seams.score(*_disc(0.3), "dent") is None


@pytest.mark.parametrize("name", ["pit", "stain"])
def test_a_hard_cut_on_a_real_surface_is_told_from_real_defects(examples, classes, name):
    windows = real_windows(examples, classes)
    seams = Seams(windows, classes)
    clean = [w.pixels for w in windows if w.class_name == "good"]
    excess = []
    for k, window in enumerate(w for w in windows if w.class_name == name):
        surface = cv2.resize(clean[k % len(clean)], window.mask.shape[::-1])
        cut = surface.copy()
        cut[window.mask] = surface[::-1, ::-1][window.mask] // 2
        excess.append(seams.score(cut, window.mask, name) > 1)
    assert np.mean(excess) >= 0.5
