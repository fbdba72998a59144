"""Masks from boxes: never empty, always the same, close to the truth where there is contrast."""

import cv2
import numpy as np
import pytest

from generator.box_masks import propose_mask, rounded_box
from generator.errors import ExampleError


def picture(contrast: int) -> tuple[np.ndarray, np.ndarray, tuple[int, int, int, int]]:
    rng = np.random.default_rng(3)
    mask = np.zeros((140, 200), np.uint8)
    cv2.ellipse(mask, (120, 60), (40, 14), 30, 0, 360, 1, cv2.FILLED)
    image = rng.normal(120, 6, (140, 200)) + contrast * mask.astype(float)
    image = np.repeat(np.clip(image, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    x, y, w, h = cv2.boundingRect(mask)
    return image, mask[y : y + h, x : x + w] > 0, (x, y, x + w, y + h)


@pytest.mark.parametrize("contrast", [-70, 80])
def test_finds_a_defect_that_stands_out(contrast):
    image, truth, box = picture(contrast)
    found = propose_mask(image, box)
    assert found.shape == truth.shape and found.dtype == bool
    assert (found & truth).sum() / (found | truth).sum() > 0.85


def test_no_contrast_gives_a_shape_that_spans_the_box():
    image, truth, box = picture(0)
    found = propose_mask(image, box)
    assert np.array_equal(found, rounded_box(truth.shape[1], truth.shape[0]))
    assert found.any(axis=0).all() and found.any(axis=1).all()
    assert 0.7 < found.mean() < 0.95


@pytest.mark.parametrize("box", [(0, 0, 200, 140), (5, 5, 6, 6), (0, 130, 200, 132), (7, 3, 9, 90)])
def test_never_empty(box):
    image, _, _ = picture(50)
    found = propose_mask(image, box)
    assert found.shape == (box[3] - box[1], box[2] - box[0])
    assert found.any()


def test_same_input_same_mask_whatever_the_global_seed():
    image, _, box = picture(30)
    cv2.setRNGSeed(1)
    first = propose_mask(image, box)
    cv2.setRNGSeed(99)
    cv2.randu(np.zeros((5, 5), np.uint8), 0, 255)
    assert np.array_equal(first, propose_mask(image, box))


def test_a_box_outside_the_image_is_refused():
    image, _, _ = picture(50)
    with pytest.raises(ExampleError, match=r"image of 200 x 140 px, got \(190, 10, 210, 20\)"):
        propose_mask(image, (190, 10, 210, 20))
