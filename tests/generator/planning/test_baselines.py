"""Baselines: pixels of the crop, from the draft alone, the same each time."""

import dataclasses

import numpy as np
import pytest

from generator.baselines import BASELINES, make_baseline, membrane, perlin
from generator.compositing import composite
from generator.errors import ExampleError, RecipeError
from generator.masks import DraftPlanner
from generator.planner_settings import PlannerSettings
from generator.pool import read_pool
from generator.sampling import make_request, sample_pool


@pytest.mark.parametrize("name", list(BASELINES))
def test_paints_the_crop_alike_in_any_company(pasted, name):
    painter = make_baseline(name)
    together = painter.paint(pasted)
    for draft, painted in zip(pasted, together, strict=True):
        x1, y1, x2, y2 = draft.crop_xyxy
        assert painted.shape == (y2 - y1, x2 - x1, 3) and painted.dtype == np.uint8
        assert np.array_equal(painted, make_baseline(name).paint([draft])[0])
        inside = draft.mask[y1:y2, x1:x2]
        below = draft.image[y1:y2, x1:x2]
        assert (painted[inside] != below[inside]).mean() > 0.5
        assert np.array_equal(painted[..., 0], painted[..., 1])
        assert composite(draft, painted).mask.any() or name == "cutpaste"


def test_names_and_fingerprints():
    assert list(BASELINES) == ["copy-paste", "plain-paste", "poisson-paste", "cutpaste", "perlin"]
    prints = {make_baseline(n, s).fingerprint for n in BASELINES for s in ("", "b")}
    assert len(prints) == 10
    assert make_baseline("perlin").fingerprint == make_baseline("perlin").fingerprint
    assert make_baseline("perlin").name == "perlin"
    with pytest.raises(
        RecipeError, match=r"Unknown baseline 'copypaste': did you mean 'copy-paste'"
    ):
        make_baseline("copypaste")


def test_seed_space_changes_what_is_random(pasted):
    a, b = (make_baseline("perlin", s).paint(pasted[:1])[0] for s in ("a", "b"))
    assert not np.array_equal(a, b)


@pytest.mark.parametrize("name", ["copy-paste", "poisson-paste"])
def test_without_real_pixels_the_error_says_what_to_set(pasted, name):
    draft = dataclasses.replace(pasted[0], paste=None, context=None)
    with pytest.raises(ExampleError, match="plan with real_share 1 and recombine 0"):
        make_baseline(name).paint([draft])


def test_whole_images_are_refused(pasted):
    with pytest.raises(ExampleError, match="only image-level labels are known"):
        make_baseline("perlin").paint([dataclasses.replace(pasted[0], background=None)])


def test_membrane_is_harmonic():
    """A linear function is harmonic: it is continued exactly."""
    y, x = np.mgrid[0:24, 0:37].astype(np.float32)
    plane = np.repeat((2 * x - y + 5)[..., None], 3, axis=2)
    inner = np.zeros((24, 37), bool)
    inner[6:17, 9:30] = True
    broken = plane.copy()
    broken[inner] = -999
    assert np.allclose(membrane(broken, inner), plane, atol=1e-2)
    coarse = membrane(broken, inner, most_unknowns=60)
    assert np.abs(coarse - plane).max() < 6
    assert not membrane(broken, np.ones_like(inner)).any()


def test_perlin_noise_is_smooth_and_centred():
    noise = perlin((70, 110), 16, np.random.default_rng(0))
    assert noise.shape == (70, 110)
    assert abs(noise.mean()) < 0.1 and 0.1 < noise.std() < 0.5
    assert np.abs(np.diff(noise, axis=0)).max() < 0.25


def test_a_pool_holds_the_masks_of_what_its_backgrounds_carried(train, tmp_path):
    examples = [example for example in train if not example.is_clean]
    settings = PlannerSettings(own_share=1, real_share=1, recombine=0)
    planner = DraftPlanner(examples, ("pit", "crack", "chip"), settings)
    painter = make_baseline("copy-paste")
    made = sample_pool(
        painter,
        planner,
        [make_request(painter.fingerprint, "pit", k, 0) for k in range(3)],
        tmp_path / "pool",
        composite=composite,
        judge=lambda scores: (),
        feather_px=3,
    )
    assert read_pool(tmp_path / "pool") == made
    of_id = {example.id: example for example in examples}
    assert all(record.carried_instances for record in made)
    for record in made:
        for kept in record.carried_instances:
            assert kept.mask_path is not None and not kept.mask_path.is_absolute()
            source = next(
                i for i in of_id[record.background_id].instances if i.box_xyxy == kept.box_xyxy
            )
            assert (
                tmp_path / "pool" / kept.mask_path
            ).read_bytes() == source.mask_path.read_bytes()
