"""What is measured on real shapes, and procedural ones like them."""

import cv2
import numpy as np
import pytest

from generator.placement import ground_of, site_of
from generator.shapes import (
    axis_distance,
    blend_outlines,
    grain_of,
    measure,
    orientation_of,
    principal_axis,
    procedural_mask,
)


def shape(write, folder, mask, name="a", at=(30, 40), size=(200, 150)):
    canvas = np.zeros((size[1], size[0]), bool)
    h, w = mask.shape
    canvas[at[1] : at[1] + h, at[0] : at[0] + w] = mask
    image = np.full((size[1], size[0], 3), 90, np.uint8)
    example = write(folder, name, image, [("a", canvas)])
    instance = example.instances[0]
    x1, y1, x2, y2 = instance.box_xyxy
    tight = canvas[y1:y2, x1:x2]
    site = site_of(instance.box_xyxy, tight, ground_of(np.ones_like(canvas)))
    return measure(example, instance, tight, site, image[y1:y2, x1:x2])


def bar(angle_deg, length=50, thickness=6):
    canvas = np.zeros((80, 80), np.uint8)
    t = np.deg2rad(angle_deg)
    step = np.array([np.cos(t), np.sin(t)]) * length / 2
    ends = [tuple(np.round(40 + s * step).astype(int).tolist()) for s in (-1, 1)]
    cv2.line(canvas, ends[0], ends[1], 1, thickness)
    x, y, w, h = cv2.boundingRect(canvas)
    return canvas[y : y + h, x : x + w] > 0


@pytest.mark.parametrize("angle", [0, 30, 90, 150])
def test_principal_axis(angle):
    found, elongation = principal_axis(bar(angle))
    assert axis_distance(found, np.deg2rad(angle)) < 0.06
    assert 5 < elongation < 12


def test_orientation_is_preferred_only_where_shapes_agree(tmp_path, write):
    alike = [shape(write, tmp_path, bar(90), f"s{k}") for k in range(3)]
    found = orientation_of(alike)
    assert found.preferred and axis_distance(found.angle, np.pi / 2) < 0.06
    # identical shapes have no spread at all, and 0 must not come out as -0
    assert found.spread >= 0 and not np.signbit(found.spread)
    apart = [shape(write, tmp_path, bar(a), f"t{a}") for a in (0, 45, 90, 135)]
    assert not orientation_of(apart).preferred
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (21, 21)) > 0
    assert not orientation_of([shape(write, tmp_path, disc, f"d{k}") for k in range(3)]).preferred


def test_procedural_shapes_are_of_the_kind_and_direction(tmp_path, write):
    stroke = shape(write, tmp_path, bar(70, 60, 5), "stroke")
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (31, 31)) > 0
    blob = shape(write, tmp_path, disc, "blob")
    band = shape(write, tmp_path, np.ones((30, 200), bool), "band", at=(0, 0))
    bite = shape(write, tmp_path, disc[:, 15:], "bite", at=(0, 40))
    assert [s.kind for s in (stroke, blob, band, bite)] == ["stroke", "blob", "band", "bite"]
    rng = np.random.default_rng(0)
    drawn: list[bytes] = []
    for model in (stroke, blob, band, bite):
        for _ in range(12):
            mask = procedural_mask(model, rng)
            assert mask.shape == model.mask.shape and mask.dtype == bool
            assert 0.2 < mask.sum() / model.mask.sum() < 3
            drawn.append(mask.tobytes())
            if model is stroke:
                angle, elongation = principal_axis(mask)
                assert axis_distance(angle, model.angle) < 0.35 and elongation > 3
            if model is band:
                assert mask[0].all(), "a band reaches its side"
            if model is bite:
                assert mask[:, 0].mean() > 0.3, "a bite is widest at its edge"
    assert len(set(drawn)) == len(drawn)


def test_grain_is_a_direction_inside_and_not_an_outline():
    rng = np.random.default_rng(0)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (41, 41)) > 0
    noise = rng.normal(120, 10, (41, 41, 1)).repeat(3, axis=2)
    streaks = rng.normal(120, 10, (41, 1, 1)).repeat(41, axis=1).repeat(3, axis=2)
    dark = np.where(disc, 40.0, 120.0)[..., None].repeat(3, axis=2)
    pixels = [np.clip(each, 0, 255).astype(np.uint8) for each in (noise, streaks, dark)]
    none, sure, outline = (grain_of(each, disc) for each in pixels)
    assert max(none, outline) < 0.3 < 0.9 < sure
    few = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (15, 15)) > 0
    assert grain_of(pixels[1][:15, :15], few) == 0


def test_blended_outlines_lie_between_the_two():
    small = np.zeros((40, 60), bool)
    small[10:30, 20:40] = True
    large = np.ones((40, 60), bool)
    between = blend_outlines(small, large, 0.5)
    assert small.sum() < between.sum() < large.sum()
    assert (small & ~between).sum() == 0
    thin = np.zeros((40, 60), bool)
    thin[20] = True
    other = np.zeros((40, 60), bool)
    other[2] = True
    assert blend_outlines(thin, other, 0.5) is thin
