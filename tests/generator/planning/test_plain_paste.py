"""Plain copy-paste: a cut-out with its own pixels, anywhere, and nothing else."""

from collections import Counter

import numpy as np
import pytest

from generator import plain_paste
from generator.baselines import PLAIN_PASTE, make_baseline
from generator.compositing import composite
from generator.images import ExampleReader
from generator.masks import DraftPlanner
from generator.placement import box_of
from generator.plain_paste import SCALES, PlainPlanner
from generator.planner_settings import PlannerSettings
from generator.records import SampleRequest

from .conftest import CLASSES

SETTINGS = PlannerSettings(real_share=1.0, recombine=0, background_candidates=1, most_severity=2)
EACH = 24


@pytest.fixture(scope="module")
def planner(train):
    return PlainPlanner(train, CLASSES, SETTINGS)


@pytest.fixture(scope="module")
def drafts(planner):
    return [
        planner.plan(SampleRequest(class_name=c, index=k, seed=100 * j + k))
        for j, c in enumerate(CLASSES)
        for k in range(EACH)
    ]


def test_nothing_changes_outside_the_mask_and_all_inside_is_the_defect(drafts):
    for draft in drafts:
        assert np.array_equal(draft.paste[~draft.mask], draft.image[~draft.mask])
        assert draft.fade_px == 0 and draft.context is draft.paste and draft.severity == 1


def test_a_paste_keeps_its_own_light(train, drafts):
    """Half as bright as its own surface, whatever the one that it lies on."""
    reader = ExampleReader(2**26)
    by_id = {e.id: e for e in train}
    for draft in drafts:
        source = by_id[draft.mask_source_id]
        mask = reader.mask(source, source.instances[0])
        x1, y1, x2, y2 = source.instances[0].box_xyxy
        own = reader.image(source)[y1:y2, x1:x2][mask].mean()
        assert draft.paste[draft.mask].mean() == pytest.approx(own, abs=6)


def test_it_lies_whole_at_any_place_and_in_a_size_of_the_paper(train, drafts):
    by_id = {e.id: e for e in train}
    places = []
    for draft in drafts:
        w = draft.mask.shape[1]
        x1, y1, x2, y2 = box_of(draft.mask)
        sx1, sy1, sx2, sy2 = by_id[draft.mask_source_id].instances[0].box_xyxy
        scale = max(x2 - x1, y2 - y1) / max(sx2 - sx1, sy2 - sy1)
        assert SCALES[0] - 0.15 < scale < SCALES[1] + 0.15
        if draft.request.class_name == "chip":  # a real one always lies at a side
            places.append(min(x1, w - x2) <= 2)
    assert sum(places) < EACH / 2


def test_a_defect_at_its_images_side_is_pasted_with_its_own_area(
    tmp_path, write, train, monkeypatch
):
    """Elsewhere there is no side that it would have to reach, and beyond its own no pixels."""
    monkeypatch.setattr(plain_paste, "SCALES", (1.0, 1.0))
    rng = np.random.default_rng(0)
    mask = np.zeros((120, 160), bool)
    mask[40:70, :16] = True
    grey = rng.normal(140, 5, mask.shape) - 60 * mask
    image = np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
    example = write(tmp_path, "side", image, [("pit", mask)])
    clean = [e for e in train if e.is_clean]
    planner = PlainPlanner([example, *clean], ("pit",), SETTINGS)
    for k in range(8):
        pasted = planner.plan(SampleRequest(class_name="pit", index=k, seed=k)).mask
        x1, y1, x2, y2 = box_of(pasted)
        assert (x2 - x1, y2 - y1) == (16, 30)
        # between two pixels a corner may be lost
        assert 30 * 16 - 4 <= pasted.sum() <= 30 * 16


def test_images_lend_in_turn(drafts):
    lenders = Counter(d.mask_source_id for d in drafts if d.request.class_name == "pit")
    assert len(lenders) == 4 and max(lenders.values()) <= EACH / 4 + 1


def test_a_defect_that_is_there_stays_as_it_is(no_clean):
    """Without a clean image pastes lie beside the defects of others."""
    planner = PlainPlanner(no_clean, CLASSES, SETTINGS)
    draft = planner.plan(SampleRequest(class_name="pit", index=0, seed=3))
    for instance in draft.carried_instances:
        x1, y1, x2, y2 = instance.box_xyxy
        assert not draft.mask[y1:y2, x1:x2].any()


def test_it_is_another_generator_than_copy_paste(train, planner, drafts):
    careful = DraftPlanner(train, CLASSES, SETTINGS)
    assert planner.fingerprint != careful.fingerprint
    painter = make_baseline(PLAIN_PASTE)
    assert painter.fingerprint != make_baseline("copy-paste").fingerprint
    (painted,) = painter.paint(drafts[:1])
    assert composite(drafts[0], painted).mask.any()
    assert np.array_equal(
        planner.plan(drafts[0].request).paste,
        PlainPlanner(train, CLASSES, SETTINGS).plan(drafts[0].request).paste,
    )
