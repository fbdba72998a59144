"""The part before its backdrop; a surface that fills the frame is all part."""

import cv2
import numpy as np
import pytest

from generator.foreground import estimate_foreground
from generator.images import ExampleReader


@pytest.mark.parametrize(("backdrop", "part"), [(15, 140), (240, 110)])
def test_a_part_on_a_uniform_backdrop(backdrop, part):
    rng = np.random.default_rng(0)
    truth = np.zeros((220, 340), np.uint8)
    cv2.ellipse(truth, (170, 110), (110, 70), 10, 0, 360, 1, cv2.FILLED)
    grey = np.where(truth > 0, part + rng.normal(0, 12, truth.shape), backdrop)
    grey = np.clip(grey + rng.normal(0, 2, truth.shape), 0, 255).astype(np.uint8)
    found = estimate_foreground(np.repeat(grey[..., None], 3, axis=2))
    truth = truth > 0
    assert found.shape == truth.shape and found.dtype == bool
    assert (found & truth).sum() / (found | truth).sum() > 0.95


def test_an_even_strip_behind_a_sharp_edge_is_backdrop():
    rng = np.random.default_rng(1)
    grey = rng.normal(140, 6, (160, 300))
    grey[:, :14] = 12
    grey[148:] = 12
    found = estimate_foreground(np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2))
    assert not found[:, :11].any() and not found[151:].any()
    assert found[:145, 17:].all()


def test_a_surface_with_uneven_light_or_soft_rims_is_all_part():
    rng = np.random.default_rng(1)
    y, x = np.mgrid[0:160, 0:300]
    vignette = 200 - 0.006 * ((x - 150) ** 2 + 2 * (y - 80) ** 2) + rng.normal(0, 5, (160, 300))
    rims = rng.normal(140, 6, (160, 300))
    rims *= np.clip(0.1 + x / 60, 0, 1) * np.clip(0.1 + (299 - x) / 60, 0, 1)
    flat = np.full((160, 300), 90.0)
    for grey in (vignette, rims, flat):
        image = np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
        assert estimate_foreground(image).all()


def test_a_hole_in_the_part_belongs_to_it():
    image = np.full((120, 200, 3), 10, np.uint8)
    image[30:90, 40:160] = 150
    image[50:70, 90:110] = 10
    assert estimate_foreground(image)[60, 100]


def ellipse(width, height, axes):
    """(height, width) bool, at the centre."""
    mask = np.zeros((height, width), np.uint8)
    cv2.ellipse(mask, (width // 2, height // 2), axes, 10, 0, 360, 1, cv2.FILLED)
    return mask > 0


@pytest.mark.parametrize("boxes_only", [False, True])
@pytest.mark.parametrize("change", [-60, 60])
def test_a_large_stain_is_no_part_and_the_surface_around_it_no_backdrop(
    tmp_path, write, change, boxes_only
):
    rng = np.random.default_rng(2)
    stain = ellipse(260, 200, (46, 36))
    assert 0.09 < stain.mean() < 0.11
    grey = rng.normal(140, 4, stain.shape) + change * stain
    image = np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
    assert not estimate_foreground(image).all()  # one photograph alone can't tell them apart
    example = write(tmp_path, "stain", image, [("pit", stain)], boxes_only=boxes_only)
    assert ExampleReader().foreground(example).all()


@pytest.mark.parametrize("boxes_only", [False, True])
def test_a_part_on_a_backdrop_is_found_with_its_defect(tmp_path, write, boxes_only):
    rng = np.random.default_rng(3)
    part = ellipse(340, 220, (110, 70))
    bite = np.zeros_like(part)
    bite[80:140, 30:100] = True
    grey = np.where(part & ~bite, 150 + rng.normal(0, 8, part.shape), 12)
    image = np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
    bite &= part
    example = write(tmp_path, "bite", image, [("chip", bite)], boxes_only=boxes_only)
    found = ExampleReader().foreground(example)
    assert (found & part).sum() / (found | part).sum() > 0.93
    assert boxes_only or found[bite].all()
