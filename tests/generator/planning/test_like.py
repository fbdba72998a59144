"""More like an earlier sample: the same shape's source, about the same place."""

import numpy as np
import pytest
from pydantic import ValidationError

from generator import sampling
from generator.masks import LIKE_RADIUS, DraftPlanner
from generator.planner_settings import PlannerSettings
from generator.records import Likeness, SampleRequest
from generator.sampling import sample_id


def centre(mask: np.ndarray) -> tuple[float, float]:
    """Centre of a mask's box, as shares of width and height."""
    rows, columns = np.nonzero(mask)
    height, width = mask.shape
    x = (columns.min() + columns.max() + 1) / 2 / width
    return float(x), float((rows.min() + rows.max() + 1) / 2 / height)


def test_shape_and_place_are_kept_and_the_rest_varies(paster, pasted):
    model = next(d for d in pasted if d.request.class_name == "pit")
    like = Likeness(mask_source_id=model.mask_source_id, centre_xy=centre(model.mask))
    drafts = [
        paster.plan(SampleRequest(class_name="pit", index=k, seed=k, like=like)) for k in range(12)
    ]
    assert {draft.mask_source_id for draft in drafts} == {model.mask_source_id}
    distances = [np.hypot(*np.subtract(centre(d.mask), like.centre_xy)) for d in drafts]
    assert np.median(distances) < LIKE_RADIUS
    assert max(distances) < 0.5
    assert len({draft.background.id for draft in drafts}) > 1
    again = paster.plan(SampleRequest(class_name="pit", index=3, seed=3, like=like))
    assert np.array_equal(again.mask, drafts[3].mask)


def test_a_procedural_shape_asks_for_one_of_its_kind(train):
    planner = DraftPlanner(train, ("pit", "crack", "chip"), PlannerSettings(real_share=0.0))
    model = planner.plan(SampleRequest(class_name="pit", index=0, seed=1))
    assert model.mask_source_id.startswith("procedural:")
    like = Likeness(mask_source_id=model.mask_source_id, centre_xy=(0.5, 0.5))
    draft = planner.plan(SampleRequest(class_name="pit", index=0, seed=2, like=like))
    assert draft.mask_source_id == model.mask_source_id


class Painter:
    fingerprint = "f"


def test_a_sample_that_was_blended_by_other_rules_is_another_one(paster, monkeypatch):
    request = SampleRequest(class_name="pit", index=0, seed=1)
    before = sample_id(Painter(), paster, request, 3)
    assert sample_id(Painter(), paster, request, 3) == before
    monkeypatch.setattr(sampling, "COMPOSITE_VERSION", sampling.COMPOSITE_VERSION + 1)
    assert sample_id(Painter(), paster, request, 3) != before


def test_a_likeness_is_part_of_the_id_and_an_origin_is_not(paster):
    plain = SampleRequest(class_name="pit", index=0, seed=1)
    like = Likeness(mask_source_id="x", centre_xy=(0.5, 0.5))
    ids = [
        sample_id(Painter(), paster, request, 3)
        for request in (
            plain,
            plain.model_copy(update={"origin": "y"}),
            plain.model_copy(update={"like": like}),
        )
    ]
    assert ids[0] == ids[1] != ids[2]


def test_a_centre_outside_the_picture_is_refused():
    with pytest.raises(ValidationError, match="between 0 and 1"):
        Likeness(mask_source_id="x", centre_xy=(0.5, 1.5))
