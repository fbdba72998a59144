"""Rule 3 and rule 4: nothing changes outside the feather, and the label says what is there."""

import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from generator.baselines import make_baseline
from generator.compositing import _stressed, _without_crumbs, boxes_of, composite
from generator.masks import DraftPlanner
from generator.quality.agreement import MaskRules, judge
from generator.records import SampleRequest

CLASSES = ("pit", "crack", "chip")


def crop(draft, picture):
    x1, y1, x2, y2 = draft.crop_xyxy
    return np.ascontiguousarray(picture[y1:y2, x1:x2])


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def test_outside_the_feather_every_pixel_is_the_background(train):
    """Whatever is painted: noise all over the crop, on many random drafts."""
    planner = DraftPlanner(train, CLASSES)
    rng = np.random.default_rng(0)
    for k in range(40):
        draft = planner.plan(SampleRequest(class_name=CLASSES[k % 3], index=k, seed=k))
        painted = rng.integers(0, 256, crop(draft, draft.image).shape, dtype=np.uint8)
        feather = int(rng.integers(0, 6))
        before = draft.image.copy()
        made = composite(draft, painted, feather_px=feather)
        # scipy's exact distance, independent of the one that is used
        far = ndimage.distance_transform_edt(~draft.mask) > feather
        assert np.array_equal(made.image[far], draft.image[far])
        assert np.array_equal(draft.image, before)
        assert not (made.mask & ~draft.mask).any()
        assert np.array_equal(made.image[..., 0], made.image[..., 2]), "grey must stay grey"


def test_copy_paste_comes_back_as_the_mask(pasted):
    painter = make_baseline("copy-paste")
    found = []
    for draft in pasted:
        made = composite(draft, painter.paint([draft])[0])
        found.append(iou(made.mask, draft.mask))
        assert judge(made.scores, MaskRules()) == []
        assert made.scores["fill"] > 0.6
        assert made.scores["leak"] == 0
        assert made.scores["area_px"] == made.mask.sum()
    assert np.mean(found) > 0.9
    assert min(found) > 0.7


def test_nothing_painted_is_rejected(pasted):
    for draft in pasted:
        made = composite(draft, crop(draft, draft.image))
        assert np.array_equal(made.image, draft.image)
        assert not made.mask.any() and made.boxes_xyxy == ()
        first = judge(made.scores, MaskRules())[0]
        assert first.rule == "nothing-appeared"
        assert first.sentence == "only 0 px changed visibly, at least 4 px must."


def test_a_smooth_offset_of_the_painter_is_no_defect(pasted):
    for draft in pasted:
        below = crop(draft, draft.image).astype(float)
        tilt = np.linspace(4, 12, below.shape[1])[None, :, None]
        painted = np.clip(below + tilt, 0, 255).round().astype(np.uint8)
        assert judge(composite(draft, painted).scores, MaskRules())[0].rule == "nothing-appeared"


def test_half_a_defect_gives_half_a_mask(paster):
    draft = next(
        d
        for d in (paster.plan(SampleRequest(class_name="chip", index=0, seed=s)) for s in range(40))
        if d.mask.sum() > 400
    )
    below = crop(draft, draft.image)
    painted = below.copy()
    wanted = crop(draft, draft.mask)
    rows = np.flatnonzero(wanted.any(axis=1))
    half = wanted.copy()
    half[: int(rows.mean())] = False
    painted[half] = painted[half] // 3
    made = composite(draft, painted)
    assert 0.3 < made.scores["fill"] < 0.75
    assert iou(crop(draft, made.mask), half) > 0.7
    (verdict,) = judge(made.scores, MaskRules(least_fill=0.9))
    assert verdict.rule == "too-little-in-mask"
    assert (verdict.value, verdict.threshold) == (made.scores["fill"], 0.9)
    assert "of the mask changed, at least 90% must." in verdict.sentence


def test_a_defect_that_left_its_mask_is_rejected(pasted):
    draft = pasted[0]
    away = ndimage.distance_transform_edt(~crop(draft, draft.mask))
    painted = crop(draft, draft.image).copy()
    painted[(away > 8) & (away < 14)] = 10
    painted[away == 0] = 40
    made = composite(draft, painted)
    assert made.scores["leak"] > 0.5
    assert judge(made.scores, MaskRules())[0].rule == "outside-mask"


def test_a_class_known_by_boxes_gets_one_box_whatever_parts_changed(pasted):
    draft = max(pasted, key=lambda d: d.mask.sum())
    below = crop(draft, draft.image)
    wanted = crop(draft, draft.mask)
    rows = np.flatnonzero(wanted.any(axis=1))
    low, high = np.quantile(rows, (0.35, 0.65)).astype(int)
    ends = wanted.copy()
    ends[low:high] = False
    painted = below.copy()
    painted[ends] //= 3
    parts = composite(draft, painted)
    assert len(parts.boxes_xyxy) == 2
    whole = composite(dataclasses.replace(draft, one_box=True), painted)
    assert np.array_equal(whole.mask, parts.mask)
    ys, xs = np.nonzero(whole.mask)
    tight = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
    assert whole.boxes_xyxy == (tight,)
    height, width = whole.mask.shape
    beyond = (3.0, 2.0, 4.0, 1e6)
    wider = composite(dataclasses.replace(draft, one_box=True, beyond_px=beyond), painted)
    x1, y1, x2, _ = tight
    assert wider.boxes_xyxy == ((max(x1 - 3, 0), max(y1 - 2, 0), min(x2 + 4, width), height),)


def test_without_an_outline_a_defect_fades_in_inside_its_mask(paster):
    drafts = (
        paster.plan(SampleRequest(class_name=c, index=0, seed=s))
        for s in range(20)
        for c in ("pit", "chip")
    )
    for draft in drafts:
        below, wanted = crop(draft, draft.image).astype(int), crop(draft, draft.mask)
        # the image's side is no rim, so a defect that touches it is not faded there
        depth = ndimage.distance_transform_edt(np.pad(wanted, 1, "edge"))[1:-1, 1:-1]
        painted = np.where(wanted[..., None], np.maximum(below - 60, 0), below).astype(np.uint8)
        made = composite(dataclasses.replace(draft, fade_px=4.0), painted)
        change = below - crop(draft, made.image).astype(int)
        assert not change[~wanted].any()
        full = below - painted.astype(int)
        share = np.minimum(depth / 5, 1)[..., None]
        inner = slice(2, -2), slice(2, -2)  # where the crop cuts the mask depths differ
        assert np.abs(change - full * share)[inner].max() <= 2


def test_a_severe_defect_stands_out_more_and_is_no_worse_a_seam(pasted):
    painter = make_baseline("copy-paste")
    for draft in pasted:
        painted = painter.paint([draft])[0]
        usual = composite(draft, painted)
        severe = composite(dataclasses.replace(draft, severity=2.0), painted)
        faint = composite(dataclasses.replace(draft, severity=0.5), painted)
        here = usual.mask
        levels = [
            float(np.abs(made.image.astype(float) - draft.image)[here].mean())
            for made in (faint, usual, severe)
        ]
        assert levels == sorted(levels) and levels[2] > 1.3 * levels[1] > 1.3 * levels[0]
        assert severe.scores["seam"] == usual.scores["seam"]
        far = ndimage.distance_transform_edt(~draft.mask) > 3
        assert np.array_equal(severe.image[far], draft.image[far])


def test_what_leaves_the_mask_counts_the_same_however_severe(pasted):
    draft = pasted[0]
    painted = crop(draft, draft.image).astype(int)
    painted[crop(draft, draft.mask)] += 40
    painted[:4, :4] += 60
    painted = np.clip(painted, 0, 255).astype(np.uint8)
    leaks = {
        composite(dataclasses.replace(draft, severity=severity), painted).scores["leak"]
        for severity in (0.4, 1.0, 2.5)
    }
    assert len(leaks) == 1 and leaks.pop() > 0.02


@pytest.mark.parametrize("side", [64, 128, 256, 512])
def test_other_grain_is_no_defect_at_any_size(pasted, side):
    """A crop repainted with grain of the same kind, where nothing but grain is to be seen."""
    for seed in range(3):
        rng = np.random.default_rng([seed, side])
        below, other = (
            np.repeat(np.rint(rng.normal(128, 12, (side, side, 1))), 3, axis=2).astype(np.uint8)
            for _ in range(2)
        )
        ys, xs = np.ogrid[:side, :side]
        mask = np.hypot(ys - side / 2, xs - side / 2) < 0.35 * side
        draft = dataclasses.replace(
            pasted[0], image=below, mask=mask, crop_xyxy=(0, 0, side, side), severity=1.0
        )
        made = composite(draft, np.where(mask[..., None], other, below))
        assert made.scores["contrast"] < 1.0
        assert judge(made.scores, MaskRules())


def test_severity_multiplies_what_is_smooth_and_no_grain():
    rng = np.random.default_rng(0)
    wanted = np.zeros((80, 80), dtype=bool)
    wanted[20:60, 20:60] = True
    grain = rng.normal(0, 5, (80, 80, 3)).astype(np.float32)
    found = _stressed(grain - 20, wanted, 3.0)
    assert found[wanted].mean() == pytest.approx(3 * (grain - 20)[wanted].mean(), rel=0.02)
    assert found[wanted].std() < 1.5 * grain[wanted].std()
    assert np.array_equal(found[~wanted], (grain - 20)[~wanted])


def test_one_box_a_part_and_none_for_crumbs():
    mask = np.zeros((60, 90), bool)
    mask[5:25, 10:40] = True
    mask[40:50, 60:80] = True
    mask[55, 2] = True
    assert boxes_of(mask) == ((10, 5, 40, 25), (60, 40, 80, 50))
    clean = _without_crumbs(mask)
    assert not clean[55, 2]
    assert clean.sum() == mask.sum() - 1
    assert boxes_of(clean) == boxes_of(mask)


def test_a_gap_of_a_few_pixels_parts_no_defect():
    mask = np.zeros((60, 90), bool)
    mask[10:20, 10:40] = mask[10:20, 44:47] = True
    assert boxes_of(mask) == ((10, 10, 47, 20),)
    mask[:, 46] = False
    mask[10:20, 47:50] = mask[10:20, 55:58] = True
    assert boxes_of(mask) == ((10, 10, 50, 20), (55, 10, 58, 20))


def test_whole_image_mode_passes_the_picture_through(pasted):
    draft = dataclasses.replace(
        pasted[0],
        background=None,
        image=np.zeros((32, 48, 3), np.uint8),
        mask=np.ones((32, 48), bool),
        crop_xyxy=(0, 0, 48, 32),
        mask_kind="none",
    )
    painted = np.random.default_rng(1).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    made = composite(draft, painted)
    assert np.array_equal(made.image, painted)
    assert made.mask.shape == (32, 48) and not made.mask.any()
    assert made.boxes_xyxy == () and made.scores == {}
    assert judge(made.scores, MaskRules()) == []
    # where every photograph is grey, a tint would tell the new ones
    grey = composite(dataclasses.replace(draft, grey=True), painted).image
    assert (grey == grey[..., :1]).all()
    assert np.abs(grey[..., 0] - painted.mean(axis=2)).max() <= 0.5


def test_a_crop_of_the_wrong_size_is_refused(pasted):
    with pytest.raises(ValueError, match=r"uint8 of shape \(3, 5, 3\), the draft's crop is uint8"):
        composite(pasted[0], np.zeros((3, 5, 3), np.uint8))
