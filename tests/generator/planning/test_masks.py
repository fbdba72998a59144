"""Drafts: the same from the same request, where the class occurs, on what is free."""

import cv2
import numpy as np
import pytest

from generator.backgrounds import Backgrounds
from generator.errors import ExampleError, PlacementError
from generator.images import ExampleReader
from generator.masks import DraftPlanner
from generator.planner_settings import PlannerSettings
from generator.records import DefectExample, Draft, Likeness, SampleRequest
from generator.warp import HALO_PX

CLASSES = ("pit", "crack", "chip")


def request(name, index=0, seed=None):
    return SampleRequest(class_name=name, index=index, seed=index if seed is None else seed)


def same(a: Draft, b: Draft) -> bool:
    return (
        a.background == b.background
        and a.crop_xyxy == b.crop_xyxy
        and a.source_ids == b.source_ids
        and np.array_equal(a.mask, b.mask)
        and np.array_equal(a.image, b.image)
        and ((a.paste is None and b.paste is None) or np.array_equal(a.paste, b.paste))
    )


def test_a_plan_is_the_same_whatever_was_planned_before(train):
    forward = DraftPlanner(train, CLASSES)
    requests = [request(c, k) for c in CLASSES for k in range(5)]
    first = [forward.plan(r) for r in requests]
    # another order of calls, of the listing, and a cache too small to keep anything
    small = PlannerSettings(cache_mb=1)
    backward = DraftPlanner(train[::-1], CLASSES, small)
    second = [backward.plan(r) for r in requests[::-1]][::-1]
    assert forward.fingerprint == backward.fingerprint
    assert all(same(a, b) for a, b in zip(first, second, strict=True))
    assert not same(first[0], first[1])


def test_fingerprint_follows_settings_examples_and_class_order(train):
    base = DraftPlanner(train, CLASSES).fingerprint
    others = {
        DraftPlanner(train, CLASSES, PlannerSettings(real_share=0.5)).fingerprint,
        DraftPlanner(train[1:], CLASSES).fingerprint,
        DraftPlanner(train, CLASSES[::-1]).fingerprint,
        DraftPlanner(train, CLASSES, working_size=32).fingerprint,
    }
    assert base not in others
    assert len(others) == 4


def test_fingerprint_follows_the_content_of_masks_and_regions_and_not_where_they_lie(
    tmp_path, train
):
    def fingerprint(folder, *, corrected=False, region=None):
        """Of the same examples, their files copied to a folder."""
        folder.mkdir()
        moved = []
        for example in train:
            instances = []
            for instance in example.instances:
                mask = cv2.imread(str(instance.mask_path), cv2.IMREAD_GRAYSCALE)
                if corrected and example is train[-1]:
                    mask[: len(mask) // 2, mask.shape[1] // 2] ^= 255
                path = folder / instance.mask_path.name
                cv2.imwrite(str(path), mask)
                instances.append(instance.model_copy(update={"mask_path": path}))
            roi = None
            if region is not None:
                roi = folder / f"roi_{example.id}.png"
                part = np.full((example.height, example.width), 255, np.uint8)
                part[:region] = 0
                cv2.imwrite(str(roi), part)
            moved.append(
                example.model_copy(update={"instances": tuple(instances), "roi_path": roi})
            )
        return DraftPlanner(moved, CLASSES).fingerprint

    base = fingerprint(tmp_path / "a")
    assert fingerprint(tmp_path / "b") == base
    marked = fingerprint(tmp_path / "c", region=10)
    assert fingerprint(tmp_path / "d", region=10) == marked
    others = {
        fingerprint(tmp_path / "e", corrected=True),
        marked,
        fingerprint(tmp_path / "f", region=11),
    }
    assert base not in others
    assert len(others) == 3


def test_a_mask_that_is_missing_is_named(train, tmp_path):
    (instance,) = train[-1].instances
    lost = instance.model_copy(update={"mask_path": tmp_path / "lost.png"})
    with pytest.raises(ExampleError, match=r"lost.png can't be read .No such file"):
        DraftPlanner([*train[:-1], train[-1].model_copy(update={"instances": (lost,)})], CLASSES)


def test_drafts_keep_their_contract(train):
    planner = DraftPlanner(train, CLASSES)
    clean = {e.id for e in train if e.is_clean}
    kinds = set()
    for k in range(45):
        draft = planner.plan(request(CLASSES[k % 3], k))
        height, width = draft.image.shape[:2]
        assert draft.image.dtype == np.uint8
        assert draft.mask.dtype == bool
        assert (
            draft.mask.shape == (height, width) == (draft.background.height, draft.background.width)
        )
        assert draft.background.id in clean
        x1, y1, x2, y2 = draft.crop_xyxy
        assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height
        outside = draft.mask.copy()
        outside[y1:y2, x1:x2] = False
        assert draft.mask.any() and not outside.any()
        assert draft.source_ids == tuple(sorted(set(draft.source_ids)))
        assert draft.background.id in draft.source_ids
        kinds.add(draft.mask_source_id.split(":")[0])
        if draft.mask_source_id.startswith("procedural:"):
            assert draft.paste is None
        else:
            assert draft.mask_source_id in draft.source_ids
        if draft.paste is not None:
            far = cv2.distanceTransform((~draft.mask).view(np.uint8), cv2.DIST_L2, 5) > HALO_PX + 1
            assert np.array_equal(draft.paste[far], draft.image[far])
            assert not np.array_equal(draft.paste[draft.mask], draft.image[draft.mask])
    assert "procedural" in kinds and len(kinds) > 3


def test_a_large_defect_keeps_its_own_shape_and_texture(train):
    """Chips are about 40 px long, pits under 20: only the pits may be invented."""
    planner = DraftPlanner(train, CLASSES, PlannerSettings(real_share=0, invented_most_px=25))
    for k in range(8):
        assert planner.plan(request("chip", k)).paste is not None
        assert planner.plan(request("pit", k)).paste is None


def test_grey_stays_grey(pasted):
    for draft in pasted:
        for picture in (draft.image, draft.paste, draft.context):
            assert np.array_equal(picture[..., 0], picture[..., 1])
            assert np.array_equal(picture[..., 0], picture[..., 2])


@pytest.mark.parametrize("real_share", [0.0, 1.0])
def test_a_class_at_the_edge_is_placed_at_that_kind_of_edge(train, real_share):
    planner = DraftPlanner(train, CLASSES, PlannerSettings(real_share=real_share))
    for k in range(20):
        crack, chip, pit = (planner.plan(request(c, k)).mask for c in ("crack", "chip", "pit"))
        # at most TOUCH_PX of surface between it and the side
        assert crack[:3].any() or crack[-3:].any()
        ys, xs = np.nonzero(crack)
        assert np.ptp(ys) > 2 * np.ptp(xs), "a class of vertical cracks lies down"
        assert chip[:, :3].any() or chip[:, -3:].any()
        rim = np.ones_like(pit)
        rim[2:-2, 2:-2] = False
        assert not (pit & rim).any(), "a class from the inside touches the edge"


def test_no_overlap_with_carried_instances(no_clean):
    """Without regions every background is a defect image with its defects."""
    planner = DraftPlanner(no_clean, CLASSES, PlannerSettings(least_region_px=5000))
    for k in range(24):
        draft = planner.plan(request(CLASSES[k % 3], k))
        assert draft.background_xyxy is None
        assert draft.carried_instances == draft.background.instances != ()
        for instance in draft.carried_instances:
            x1, y1, x2, y2 = instance.box_xyxy
            assert not draft.mask[max(y1 - 6, 0) : y2 + 6, max(x1 - 6, 0) : x2 + 6].any()


def test_without_clean_images_whole_photographs_are_painted_on(no_clean):
    planner = DraftPlanner(no_clean, CLASSES, PlannerSettings(least_region_px=64))
    whole = [planner.plan(request(CLASSES[k % 3], k)) for k in range(24)]
    framed = [d for d in whole if d.background_xyxy is None]
    assert len(framed) > 18
    for draft in framed:
        assert draft.image.shape[:2] == (draft.background.height, draft.background.width)
        assert draft.carried_instances == draft.background.instances
        assert draft.mask_kind in ("approximate", "exact")


def test_a_new_box_is_as_much_wider_than_its_mask_as_the_persons_box(tmp_path, write):
    rng, examples = np.random.default_rng(7), []
    for k in range(4):
        image = rng.normal(120, 4, (160, 220, 3)).clip(0, 255).astype(np.uint8)
        mask = np.zeros(image.shape[:2], bool)
        mask[60:90, 80:120] = k < 2
        image[mask] -= 40
        examples.append(write(tmp_path, f"i{k}", image, [("pit", mask)] if k < 2 else ()))
        if k < 2:
            (exact,) = examples[k].instances
            wide = np.zeros((40, 60), np.uint8)
            wide[4:34, 8:48] = 255
            cv2.imwrite(str(exact.mask_path), wide)
            guess = {"box_xyxy": (72, 56, 132, 96), "mask_kind": "approximate"}
            changed = {"instances": (exact.model_copy(update=guess),)}
            examples[k] = examples[k].model_copy(update=changed)
    still = {"flip": False, "most_rotation_deg": 0, "elastic": 0, "real_share": 1, "recombine": 0}
    same_size = PlannerSettings(least_scale=1, most_scale=1, **still)
    twice = PlannerSettings(least_scale=1, most_scale=2, **still)
    for k in range(6):
        draft = DraftPlanner(examples, ("pit",), same_size).plan(request("pit", k))
        assert draft.one_box and draft.beyond_px == pytest.approx((8, 4, 12, 6))
        larger = DraftPlanner(examples, ("pit",), twice).plan(request("pit", k))
        xs = np.nonzero(larger.mask)[1]
        scale = (xs.max() + 1 - xs.min()) / 40
        assert larger.beyond_px == pytest.approx(np.array((8, 4, 12, 6)) * scale, rel=0.1)


MORE = [(100, 20, 175, 90), (120, 110, 160, 140)]
SMALL = [(160, 40, 172, 50), (180, 60, 188, 74)]


def big(folder, write, more):
    """Textures that take a fifth of their image, known by boxes; images of the first class have
    more defects."""
    rng, examples = np.random.default_rng(4), []
    for k in range(12):
        image = rng.normal(90 + 10 * (k % 3), 5, (170, 230, 3)).clip(0, 255).astype(np.uint8)
        name = ("scale", "stain")[k % 2]
        places = [(10, 12, 90, 108), *(more if name == "scale" else ())]
        defects = []
        for x1, y1, x2, y2 in places:
            mask = np.zeros(image.shape[:2], bool)
            mask[y1:y2, x1:x2] = True
            image[mask] -= 12
            defects.append((name, mask))
        examples.append(write(folder, f"{name}{k}", image, defects, boxes_only=True))
    return examples


def seen(box, mask):
    x1, y1, x2, y2 = box
    return 1 - mask[y1:y2, x1:x2].mean()


def test_large_defects_cover_others_and_labels_keep_what_is_seen(tmp_path, write):
    planner = DraftPlanner(big(tmp_path, write, MORE), ("scale", "stain"))
    gone = cut = 0
    for k in range(40):
        draft = planner.plan(request(("scale", "stain")[k % 2], k))
        assert draft.one_box
        # laid on itself nothing would be seen of it
        assert draft.mask.mean() < 0.12 or draft.background.id != draft.mask_source_id
        left = list(draft.carried_instances)
        for before in draft.background.instances:
            share = seen(before.box_xyxy, draft.mask)
            now = next((i for i in left if i.box_xyxy == before.box_xyxy), None)
            if now is not None:
                left.remove(now)
                continue
            if share <= 0.15:
                gone += 1
                continue
            x1, y1, x2, y2 = before.box_xyxy
            ys, xs = np.nonzero(~draft.mask[y1:y2, x1:x2])
            tight = (x1 + xs.min(), y1 + ys.min(), x1 + xs.max() + 1, y1 + ys.max() + 1)
            now = next(i for i in left if i.box_xyxy == tight)
            assert now.class_name == before.class_name
            assert share >= 0.5 or before.class_name == draft.request.class_name
            left.remove(now)
            cut += 1
        assert not left
    assert gone > 2 and cut > 2


def test_a_defect_fades_in_where_nothing_but_its_box_is_known(tmp_path, write, train):
    """A texture as bright as its surface has no outline; a dark blot has one that GrabCut finds."""
    rng, examples = np.random.default_rng(5), []
    for k in range(6):
        image = rng.normal(120, 4, (150, 200, 3)).clip(0, 255).astype(np.uint8)
        mask = np.zeros((150, 200), bool)
        if k % 2:
            mask[20 + 12 * k : 80 + 12 * k, 10 + 20 * k : 90 + 20 * k] = True
            name = "crazing"
        else:
            cv2.ellipse(
                blot := np.zeros((150, 200), np.uint8),
                (50 + 18 * k, 70),
                (30, 18),
                20,
                0,
                360,
                1,
                -1,
            )
            mask, name = blot > 0, "blot"
            image[mask] = 30
        examples.append(write(tmp_path, f"{name}{k}", image, [(name, mask)], boxes_only=True))
    settings = PlannerSettings(real_share=1.0, recombine=0)
    planner = DraftPlanner(examples, ("crazing", "blot"), settings)
    for k in range(10):
        draft = planner.plan(request("crazing", k))
        depth = cv2.distanceTransform(draft.mask.view(np.uint8), cv2.DIST_L2, 3).max()
        assert draft.fade_px == pytest.approx(0.3 * depth) and depth > 5
        assert planner.plan(request("blot", k)).fade_px == 0
    exact = DraftPlanner(train, CLASSES, settings)
    assert {exact.plan(request(c, 0)).fade_px for c in CLASSES} == {0}


def test_a_defect_with_an_exact_mask_is_covered_whole_or_not_at_all(tmp_path, write):
    examples = []
    for example in big(tmp_path, write, SMALL):
        large, *small = example.instances
        for k, one in enumerate(small):
            x1, y1, x2, y2 = one.box_xyxy
            path = tmp_path / f"{example.id}_{k}.png"
            cv2.imwrite(str(path), np.full((y2 - y1, x2 - x1), 255, np.uint8))
            small[k] = one.model_copy(update={"mask_path": path, "mask_kind": "exact"})
        examples.append(example.model_copy(update={"instances": (large, *small)}))
    planner = DraftPlanner(examples, ("scale", "stain"))
    gone = 0
    for k in range(40):
        draft = planner.plan(request("scale", k))
        for before in draft.background.instances:
            if before.mask_kind == "exact":
                touched = seen(before.box_xyxy, draft.mask)
                assert touched == (1 if before in draft.carried_instances else 0)
                gone += touched == 0
    assert gone > 2


def test_two_boxes_of_one_class_do_not_lie_in_each_other(tmp_path, write):
    planner = DraftPlanner(big(tmp_path, write, MORE), ("scale", "stain"))
    for k in range(30):
        draft = planner.plan(request("scale", k))
        ys, xs = np.nonzero(draft.mask)
        new = np.zeros(draft.mask.shape, bool)
        new[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1] = True
        for instance in draft.carried_instances:
            x1, y1, x2, y2 = instance.box_xyxy
            shared = new[y1:y2, x1:x2].sum() / min((x2 - x1) * (y2 - y1), new.sum())
            touched = draft.mask[y1:y2, x1:x2].any()
            assert instance.class_name != "scale" or not touched or shared <= 0.5


def test_where_a_photograph_is_full_its_free_rectangle_is_painted_on(no_clean):
    reader, rng = ExampleReader(2**20), np.random.default_rng(0)
    surfaces = Backgrounds(no_clean, reader, clearance_px=6)
    assert all(surfaces.draw(rng, 64, "pit").region_xyxy is None for _ in range(20))
    late = [surfaces.draw(rng, 64, "pit", late=0.9) for _ in range(40)]
    regions = [surface for surface in late if surface.region_xyxy is not None]
    assert 5 < len(regions) < 35
    for surface in regions:
        x1, y1, x2, y2 = surface.region_xyxy
        assert surfaces.pixels(surface).shape[:2] == (y2 - y1, x2 - x1) == surface.size_wh[::-1]
        assert min(x2 - x1, y2 - y1) >= 64
        assert surface.carried == ()
        for instance in surface.example.instances:
            a, b, c, d = instance.box_xyxy
            assert c <= x1 or a >= x2 or d <= y1 or b >= y2


def test_without_clean_images_the_surface_is_of_the_class_or_like_the_defects_own(tmp_path, write):
    """Two classes occur on dark surfaces and two on bright ones."""
    rng, examples = np.random.default_rng(0), []
    for k in range(48):
        name = ("pit", "crack", "chip", "stain")[k % 4]
        level = 60 if name in ("pit", "crack") else 180
        image = rng.normal(level, 5, (120, 160, 3)).clip(0, 255).astype(np.uint8)
        mask = np.zeros((120, 160), bool)
        mask[20:30, 20:30] = True
        image[mask] = 0
        examples.append(write(tmp_path, f"{name}{k}", image, [(name, mask)]))

    def classes(candidates: int, late: float) -> set[str]:
        surfaces = Backgrounds(examples, ExampleReader(2**22), 6, candidates=candidates)
        drawn = [surfaces.draw(rng, 64, "pit", late, examples[0]).example for _ in range(40)]
        assert late < 0.25 or candidates == 1 or examples[0] not in drawn
        return {example.label for example in drawn}

    assert classes(16, late=0.0) == {"pit"}
    assert classes(16, late=0.3) == {"pit", "crack"}
    assert classes(16, late=0.6) == classes(1, late=0.0) == {"pit", "crack", "chip", "stain"}


def test_whole_image_mode_for_image_level_labels(tmp_path, write):
    image = np.full((40, 60, 3), 90, np.uint8)
    examples = [
        write(tmp_path, "a", image, label="rust"),
        write(tmp_path, "b", image + 1),
    ]
    draft = DraftPlanner(examples, ("rust",), working_size=48).plan(request("rust"))
    assert draft.background is None and draft.paste is None
    assert draft.image.shape == (48, 48, 3) and not draft.image.any()
    assert draft.mask.all() and draft.crop_xyxy == (0, 0, 48, 48)
    assert (draft.mask_kind, draft.source_ids, draft.mask_source_id) == ("none", (), None)


def test_roi_keeps_defects_on_the_part(tmp_path, train):
    import cv2

    placed = []
    for example in train:
        roi = np.zeros((example.height, example.width), np.uint8)
        roi[20:-15, 25:-30] = 255
        path = tmp_path / f"{example.id}.png"
        cv2.imwrite(str(path), roi)
        placed.append(example.model_copy(update={"roi_path": path}))
    planner = DraftPlanner(placed, CLASSES)
    for k in range(12):
        mask = planner.plan(request("pit", k)).mask
        assert not mask[:20].any() and not mask[-15:].any()
        assert not mask[:, :25].any() and not mask[:, -30:].any()


def test_refuses_other_splits_unknown_classes_and_classes_without_examples(train):
    test = train[0].model_copy(update={"split": "test"})
    with pytest.raises(ExampleError, match="belongs to the test split"):
        DraftPlanner([*train, test], CLASSES)
    with pytest.raises(ExampleError, match="no training example to plan from"):
        DraftPlanner([], CLASSES)
    with pytest.raises(ExampleError, match=r"Unknown class 'dent'; the classes are pit, crack"):
        DraftPlanner(train, CLASSES).plan(request("dent"))
    with pytest.raises(ExampleError, match="Class 'dent' has no training example"):
        DraftPlanner(train, (*CLASSES, "dent")).plan(request("dent"))


def test_nowhere_to_go_is_said(tmp_path, write):
    mask = np.ones((50, 70), bool)
    example = write(tmp_path, "full", np.full((50, 70, 3), 99, np.uint8), [("stain", mask)])
    with pytest.raises(PlacementError, match="No place for a 'stain' was found in 40 tries"):
        DraftPlanner([example], ("stain",)).plan(request("stain"))


def test_settings_are_bounded():
    with pytest.raises(ValueError, match="less than or equal to 1"):
        PlannerSettings(real_share=1.5)
    with pytest.raises(ValueError, match="must not exceed least_scale"):
        PlannerSettings(least_scale=0.2, least_fit_scale=0.5)


def test_missing_image_is_named(train, tmp_path):
    lost = [e.model_copy(update={"image_path": tmp_path / "lost.png"}) for e in train]
    with pytest.raises(ExampleError, match=r"lost.png is missing or is not an image"):
        DraftPlanner(lost, CLASSES).plan(request("pit"))


def test_specks_of_an_annotation_lend_no_shape(tmp_path, write, train):
    image = np.full((120, 170, 3), 120, np.uint8)
    defect, speck = np.zeros((120, 170), bool), np.zeros((120, 170), bool)
    defect[40:60, 50:80] = True
    speck[100:102, 20:22] = True
    spotted = write(tmp_path, "spotted", image, [("stain", defect), ("stain", speck)])
    also = write(tmp_path, "also", image + 1, [("stain", defect)])
    settings = PlannerSettings(real_share=1, recombine=0)
    planner = DraftPlanner([*train, spotted, also], ("stain",), settings)
    assert min(planner.plan(request("stain", k)).mask.sum() for k in range(20)) > 100


def test_the_share_beside_real_defects_of_the_class_is_kept(train):
    """Some on a real image of the class, with the defects that it has, the others on clean ones."""
    planner = DraftPlanner(train, CLASSES, PlannerSettings(own_share=0.5))
    beside = 0
    for k in range(40):
        name = CLASSES[k % 2]
        draft = planner.plan(request(name, k))
        if draft.background.is_clean:
            assert draft.carried_instances == ()
            continue
        beside += 1
        assert name in {i.class_name for i in draft.background.instances}
        assert draft.carried_instances == draft.background.instances
        assert draft.background_xyxy is None
        for instance in draft.carried_instances:
            x1, y1, x2, y2 = instance.box_xyxy
            taken = planner.reader.mask(draft.background, instance)
            assert not (draft.mask[y1:y2, x1:x2] & taken).any()
    assert 12 <= beside <= 28


def test_of_several_clean_images_the_one_most_alike_is_painted_on(tmp_path, write):
    """Cracks on dark tiles; clean tiles are dark, bright, and dark but rough."""
    rng = np.random.default_rng(3)

    def tile(level: float, roughness: float) -> np.ndarray:
        grey = rng.normal(level, roughness, (130, 170, 1)).clip(0, 255)
        return np.repeat(grey.astype(np.uint8), 3, axis=2)

    mask = np.zeros((130, 170), bool)
    mask[30:90, 60:64] = True
    cracked = [tile(60, 3) for _ in range(3)]
    for image in cracked:
        image[mask] = 255
    examples = [write(tmp_path, f"c{k}", c, [("crack", mask)]) for k, c in enumerate(cracked)]
    looks = {"dark": (60, 3), "bright": (190, 3), "rough": (60, 30)}
    names = {}
    for name, look in looks.items():
        for k in range(24):
            clean = write(tmp_path, f"{name}{k}", tile(*look))
            names[clean.id] = name
            examples.append(clean)

    def drawn(candidates: int, among: list[DefectExample]) -> set[str]:
        settings = PlannerSettings(background_candidates=candidates)
        planner = DraftPlanner(among, ("crack",), settings)
        return {names[planner.plan(request("crack", k)).background.id] for k in range(25)}

    assert drawn(1, examples) == {"dark", "bright", "rough"}
    assert drawn(18, examples) == {"dark"}
    few = examples[:3] + examples[3::24]
    assert drawn(18, few) == {"dark", "bright", "rough"}, "too few to choose among"


def test_running_numbers_deal_the_images_of_a_class_out_in_turn(train, write):
    # one more pit image, which holds five of them
    rng = np.random.default_rng(8)
    image = np.full((160, 240, 3), 130, np.uint8) + rng.integers(0, 4, (160, 240, 3), np.uint8)
    pits = []
    for k in range(5):
        mask = np.zeros((160, 240), np.uint8)
        cv2.circle(mask, (30 + 40 * k, 80), 6, 1, cv2.FILLED)
        image[mask > 0] = 60
        pits.append(("pit", mask > 0))
    many = write(train[0].image_path.parent / "many", "pits", image, pits)
    settings = PlannerSettings(real_share=1.0, recombine=0)
    planner = DraftPlanner([*train, many], CLASSES, settings)
    for name in CLASSES:
        drafts = [planner.plan(request(name, k)) for k in range(10 if name == "pit" else 8)]
        lenders = [draft.mask_source_id for draft in drafts]
        count = len(set(lenders))
        assert count == (5 if name == "pit" else 4)
        assert lenders[:count] == lenders[count:]


def test_defects_of_one_image_may_come_together(train, write):
    """Three pits in a row, the middle one lower: a sample has one of them, or all as they lie."""
    image = np.full((160, 240, 3), 130, np.uint8)
    image[:, ::3] += 2
    pits = []
    for x, y in ((60, 60), (100, 80), (140, 60)):
        mask = np.zeros((160, 240), np.uint8)
        cv2.circle(mask, (x, y), 6, 1, cv2.FILLED)
        pits.append(("hole", mask > 0))
    folder = train[0].image_path.parent / "groups"
    many, one = write(folder, "many", image, pits), write(folder, "one", image + 1, pits[:1])
    by_boxes = write(folder, "boxes", image + 2, pits, boxes_only=True)
    clean = [e for e in train if e.is_clean]

    def drafts(share: float, lender: DefectExample, like: Likeness | None = None) -> list[Draft]:
        settings = PlannerSettings(real_share=0.5, together_share=share)
        planner = DraftPlanner([*clean, lender], ("hole",), settings)
        asked = [request("hole", k).model_copy(update={"like": like}) for k in range(12)]
        return [planner.plan(each) for each in asked]

    def parts(found: list[Draft]) -> list[int]:
        return [cv2.connectedComponents(d.mask.view(np.uint8))[0] - 1 for d in found]

    together = drafts(1.0, many)
    assert parts(together) == [3] * 12
    assert all(d.mask_source_id == many.id and d.paste is not None for d in together)
    for draft in together:  # turned and scaled as one: an isosceles triangle as flat as theirs
        centres = cv2.connectedComponentsWithStats(draft.mask.view(np.uint8))[3][1:]
        short, middle, long = sorted(np.linalg.norm(centres - np.roll(centres, 1, axis=0), axis=1))
        assert middle / short < 1.15 and 1.6 < long / short < 2.0
    assert 1 < np.mean(parts(drafts(0.5, many))) < 3
    assert set(parts(drafts(0.0, many))) == {1}
    # more like a sample of several has several, and more like a sample of one has one
    like = Likeness(mask_source_id=many.id, centre_xy=(0.5, 0.5), several=True)
    assert parts(drafts(0.5, many, like)) == [3] * 12
    assert set(parts(drafts(0.5, many, like.model_copy(update={"several": False})))) == {1}
    # alone, or known by boxes, of which nobody knows what belongs to which
    for lender in (one, by_boxes):
        for alone, still in zip(drafts(0.0, lender), drafts(1.0, lender), strict=True):
            assert same(alone, still)


def test_a_speck_beside_a_defect_lends_no_shape_and_a_small_defect_does(train, write):
    folder = train[0].image_path.parent / "specks"
    image = np.full((160, 240, 3), 130, np.uint8)
    image[:, ::3] += 2

    def disc(x: int, radius: int) -> tuple[str, np.ndarray]:
        mask = np.zeros((160, 240), np.uint8)
        cv2.circle(mask, (x, 80), radius, 1, cv2.FILLED)
        return "hole", mask > 0

    both = write(folder, "both", image, [disc(60, 30), disc(180, 2)])
    large = write(folder, "large", image + 1, [disc(120, 28)])
    small = write(folder, "small", image + 2, [disc(120, 3)])
    planner = DraftPlanner(
        [e for e in train if e.is_clean] + [both, large, small],
        ("hole",),
        PlannerSettings(real_share=1.0, recombine=0, invented_most_px=0),
    )
    drafts = [planner.plan(request("hole", k)) for k in range(9)]
    areas = {
        e.id: [d.mask.sum() for d in drafts if d.mask_source_id == e.id] for e in planner.examples
    }
    assert [len(areas[e.id]) for e in (both, large, small)] == [3, 3, 3]
    assert max(areas[small.id]) < 100 < 500 < min(areas[both.id])


def test_severity_is_drawn_from_its_range_and_changes_nothing_else(train):
    usual, wide = (
        DraftPlanner(train, CLASSES, PlannerSettings(**settings))
        for settings in ({}, {"least_severity": 0.5, "most_severity": 3.0})
    )
    drawn = []
    for k in range(6):
        one, other = usual.plan(request("pit", k)), wide.plan(request("pit", k))
        assert one.severity == 1 and same(one, other)
    for seed in range(300):
        drawn.append(wide._severity(request("pit", seed=seed)))
    assert 0.5 <= min(drawn) < 0.52 and 2.9 < max(drawn) <= 3
    # even on a logarithmic scale: as many below the geometric mean as above it
    assert 0.4 < np.mean(np.array(drawn) < np.sqrt(1.5)) < 0.6
