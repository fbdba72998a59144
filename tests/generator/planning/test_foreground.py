"""The part before its backdrop; a surface that fills the frame is all part."""

import cv2
import numpy as np
import pytest

from generator.foreground import estimate_foreground


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
