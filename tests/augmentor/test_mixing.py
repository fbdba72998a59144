import math

import pytest

from augmentor.errors import LeakError, RatioError, SourceError
from augmentor.mix_plan import MixPlan, plan_mix
from augmentor.mixing import check_sources, mixed_records, select, uneven
from generator.records import GOOD, DefectExample, Instance, SyntheticDefect

CLASSES = ("pit", "scratch", "stain")


def real(number: int, label: str, split: str = "train") -> DefectExample:
    return DefectExample(
        id=f"{number:016x}",
        sha256=f"{number:064x}",
        image_path=f"{number}.png",
        source_path=f"{number}.png",
        width=30,
        height=20,
        grey=True,
        label=label,
        split=split,
    )


def train_split(**numbers: int) -> list[DefectExample]:
    labels = [label for label, number in numbers.items() for _ in range(number)]
    return [real(k, label) for k, label in enumerate(labels)]


def synthetic(index: int, name: str, generator: str = "compact", **changes) -> SyntheticDefect:
    values = {
        "id": f"{generator}-{name}-{index}",
        "class_name": name,
        "index": index,
        "seed": index,
        "generator": generator,
        "fingerprint": "f",
        "image": "i.png",
        "mask": "m.png",
        "width": 30,
        "height": 20,
        "grey": True,
        "boxes_xyxy": ((1, 2, 5, 8),),
        "mask_kind": "exact",
        "background_id": f"{0:016x}",
        "mask_source_id": "procedural:ellipse",
        "source_ids": (f"{0:016x}",),
        "feather_px": 2,
        "crop_xyxy": (0, 0, 20, 20),
        "verdict": "accepted",
    }
    return SyntheticDefect(**(values | changes))


def plan(ratio: float, balance: str = "class", shares=None, **numbers: int) -> MixPlan:
    return plan_mix(
        train_split(**numbers),
        ratio,
        classes=CLASSES,
        balance=balance,
        shares=shares or {"compact": 1.0},
    )


def per_class(made: MixPlan) -> dict[str, int]:
    return {c: sum(n for (_, k), n in made.wanted.items() if k == c) for c in CLASSES}


@pytest.mark.parametrize(
    ("ratio", "expected"), [(0, 0), (0.5, 30), (0.8, 120), (0.25, 10), (1, 30), (1 / 3, 15)]
)
def test_ratio_is_the_share_of_synthetic_among_the_defect_images(ratio, expected):
    made = plan(ratio, pit=10, scratch=10, stain=10, good=50)
    assert made.synthetic == expected
    assert made.clean == 50
    if 0 < ratio < 1:
        assert made.synthetic / (made.synthetic + 30) == pytest.approx(ratio)
    assert sum(made.real.values()) == (0 if ratio == 1 else 30)
    assert made.available == {"pit": 10, "scratch": 10, "stain": 10}


def test_halves_are_rounded_up_and_not_to_even():
    assert plan(1 / 3, pit=5).synthetic == 3  # 2.5


@pytest.mark.parametrize("ratio", [-0.01, 1.5, math.nan, math.inf, -math.inf])
def test_a_ratio_out_of_range_is_refused_in_one_sentence(ratio):
    with pytest.raises(RatioError, match=rf"between 0 .* and 1 .*got {ratio}.*--ratio 0\.5"):
        plan(ratio, pit=3)


def test_no_real_defect_to_relate_to():
    with pytest.raises(RatioError, match="holds no defect image"):
        plan(0.5, good=10)
    assert plan(0, good=10).synthetic == 0


@pytest.mark.parametrize(
    "shares", [{}, {"compact": 0.5}, {"a": 0.8, "b": 0.8}, {"a": 1.5, "b": -0.5}, {"a": math.nan}]
)
def test_shares_must_add_up_to_one(shares):
    with pytest.raises(RatioError, match="add up to 1"):
        plan_mix(train_split(pit=3), 0.5, classes=CLASSES, shares=shares)


def test_unknown_labels_are_refused():
    with pytest.raises(SourceError, match=r"'dent'.*pit, scratch, stain"):
        plan_mix(train_split(dent=3), 0.5, classes=CLASSES, shares={"compact": 1})


@pytest.mark.parametrize(
    ("numbers", "ratio", "expected"),
    [
        ((10, 20, 30), 0.5, (30, 20, 10)),  # 60 more make everyone 40
        ((10, 20, 30), 1 / 6, (11, 1, 0)),  # 12 more: 21, 21, 30
        ((10, 20, 90), 0.2, (20, 10, 0)),  # 30 more make the first two 30 and leave the last
        ((5, 5, 5), 0.4, (4, 3, 3)),  # 10 can't be divided by 3
        ((12, 12, 12), 0.5, (12, 12, 12)),
    ],
)
def test_balance_class_fills_up_the_smallest_first(numbers, ratio, expected):
    made = plan(ratio, **dict(zip(CLASSES, numbers, strict=True)))
    assert tuple(per_class(made).values()) == expected


def test_balance_class_is_as_equal_as_brute_force_makes_it():
    for numbers in [(1, 7, 3), (4, 4, 9), (2, 30, 2)]:
        for ratio in (0.1, 0.3, 0.6):
            made = plan(ratio, **dict(zip(CLASSES, numbers, strict=True)))
            levels = list(numbers)
            for _ in range(made.synthetic):
                levels[levels.index(min(levels))] += 1
            poured = per_class(made)
            final = [n + poured[c] for n, c in zip(numbers, CLASSES, strict=True)]
            assert sorted(final) == sorted(levels)


def test_balance_natural_keeps_the_proportions():
    made = plan(0.5, "natural", pit=10, scratch=20, stain=30)
    assert per_class(made) == {"pit": 10, "scratch": 20, "stain": 30}
    small = plan(0.25, "natural", pit=1, scratch=2, stain=3)  # 2 images for 6
    assert per_class(small) == {"pit": 0, "scratch": 1, "stain": 1}


def test_synthetic_only_is_equal_over_the_classes_and_leaves_real_defects_out():
    made = plan(1, pit=2, scratch=4, stain=24, good=5)
    assert per_class(made) == {"pit": 10, "scratch": 10, "stain": 10}
    records = [*train_split(pit=2, good=1), real(90, "pit", "test"), real(91, "pit", "reserve")]
    assert [r.label for r in mixed_records(records, made)] == [GOOD, "pit"]
    assert len(mixed_records(records, plan(0.5, pit=2))) == 4


def test_a_class_without_a_real_image_is_named_and_not_wanted():
    made = plan(0.5, pit=4, stain=6)
    assert made.sourceless == ("scratch",)
    assert per_class(made) == {"pit": 6, "scratch": 0, "stain": 4}


def test_a_class_that_is_only_ever_the_smaller_defect_is_wanted():
    small = Instance(class_name="scratch", box_xyxy=(1, 2, 5, 8))
    large = Instance(class_name="pit", box_xyxy=(8, 2, 25, 18))
    both = [real(90 + k, "pit").model_copy(update={"instances": (large, small)}) for k in range(2)]
    records = [*both, *train_split(pit=2, stain=6, good=3)]
    made = plan_mix(records, 0.5, classes=CLASSES, shares={"compact": 1.0})
    assert (made.sourceless, made.available["scratch"]) == ((), 0)
    assert made.lenders == {"pit": 4, "scratch": 2, "stain": 6}
    assert per_class(made) == {"pit": 3, "scratch": 7, "stain": 0}
    natural = plan_mix(records, 0.5, classes=CLASSES, shares={"compact": 1.0}, balance="natural")
    assert per_class(natural) == {"pit": 3, "scratch": 2, "stain": 5}
    pool = [synthetic(k, "scratch", mask_source_id=both[0].id) for k in range(8)]
    (one,) = uneven(select(made, {"compact": pool}, seed=0))
    assert (one.image, one.lent, one.images) == (both[0].id, 7, 2)


def test_shares_hold_in_total_even_when_every_class_wants_few():
    classes = [f"c{k}" for k in range(10)]
    records = [real(10 * k + j, c) for k, c in enumerate(classes) for j in range(1)]
    made = plan_mix(
        records, 0.5, classes=classes, shares={"compact": 0.7, "copy-paste": 0.2, "perlin": 0.1}
    )
    totals = {g: sum(n for (k, _), n in made.wanted.items() if k == g) for g in
              ("compact", "copy-paste", "perlin")}  # fmt: skip
    assert totals == {"compact": 7, "copy-paste": 2, "perlin": 1}


def test_select_takes_accepted_samples_by_index_and_says_what_is_missing():
    made = plan(0.5, pit=3, scratch=3, good=4)
    pool = [synthetic(k, "pit") for k in reversed(range(6))]
    pool[4] = synthetic(1, "pit", verdict="rejected", rule="faint", reason="too faint")
    pool += [synthetic(k, "scratch") for k in range(2)]
    mix = select(made, {"compact": pool}, seed=7, rejected_ids=frozenset({"compact-pit-2"}))
    assert [s.id for s in mix.chosen["compact"]] == [
        *("compact-pit-0", "compact-pit-3", "compact-pit-4"),
        *("compact-scratch-0", "compact-scratch-1"),
    ]
    assert mix.shortfall == {("compact", "scratch"): 1}
    assert mix.seed == 7
    assert mix.achieved_ratio == pytest.approx(5 / 11)
    assert [tuple(row) for row in mix.counts] == [
        ("pit", 3, 3, 6, 0),
        ("scratch", 3, 2, 5, 1),
        ("stain", 0, 0, 0, 0),
        ("good", 4, 0, 4, 0),
        ("total", 10, 5, 15, 1),
    ]


def test_samples_that_a_person_accepted_are_chosen_before_all_others():
    pool = [synthetic(k, "pit") for k in range(4)]
    liked = frozenset({"compact-pit-3"})
    mix = select(plan(0.5, pit=2), {"compact": pool}, seed=0, preferred_ids=liked)
    assert [s.id for s in mix.samples] == ["compact-pit-3", "compact-pit-0"]


def test_a_missing_pool_is_all_shortfall():
    mix = select(plan(0.5, pit=3), {}, seed=0)
    assert mix.shortfall == {("compact", "pit"): 3}
    assert mix.samples == ()


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"source_ids": (f"{0:016x}", f"{1:016x}")}, "is in the val split"),
        ({"background_id": f"{2:016x}"}, "is in the test split"),
        ({"mask_source_id": f"{3:016x}"}, "is in the reserve split"),
        ({"source_ids": ("feedfacefeedface",)}, "is no image of this project"),
    ],
)
def test_a_planted_leak_is_refused(change, where):
    records = [real(0, "pit"), real(1, "pit", "val"), real(2, GOOD, "test")]
    records.append(real(3, "pit", "reserve"))
    check_sources([synthetic(0, "pit")], records)
    with pytest.raises(LeakError, match=rf"compact-pit-1.*{where}.*delete pool/compact"):
        check_sources([synthetic(0, "pit"), synthetic(1, "pit", **change)], records)


def lent(index: int, image: int, **changes) -> SyntheticDefect:
    return synthetic(index, "pit", mask_source_id=f"{image:016x}", **changes)


def test_one_real_image_lends_no_more_than_its_largest_share_while_others_can():
    made = plan(0.5, "natural", pit=4, scratch=4)
    # of four wanted, two of one image at most: image 0 lent the first four that were accepted
    pool = [*(lent(k, 0) for k in range(4)), lent(4, 1), lent(5, 2)]
    mix = select(made, {"compact": pool}, seed=0)
    assert [s.index for s in mix.samples] == [0, 1, 4, 5]
    assert uneven(mix) == []
    # a pool that grew keeps that
    assert select(made, {"compact": [*pool, lent(6, 3)]}, seed=0).samples == mix.samples


def test_a_class_is_filled_up_from_one_image_where_no_other_is_left_and_that_is_said():
    made = plan(0.5, "natural", pit=4, scratch=4)
    mix = select(made, {"compact": [lent(k, k == 5) for k in range(6)]}, seed=0)
    assert [s.index for s in mix.samples] == [0, 1, 2, 5]
    (found,) = uneven(mix)
    assert (found.class_name, found.image, found.lent) == ("pit", f"{0:016x}", 3)
    assert (found.total, found.images, found.most) == (4, 4, 2)


def test_what_a_person_accepted_stays_whatever_there_is_of_its_image():
    made = plan(0.5, "natural", pit=4, scratch=4)
    liked = frozenset(f"compact-pit-{k}" for k in (3, 4, 5))
    pool = [lent(k, 0) for k in range(6)] + [lent(6, 1)]
    mix = select(made, {"compact": pool}, seed=0, preferred_ids=liked)
    assert {s.index for s in mix.samples} == {3, 4, 5, 6}


def test_shapes_that_no_image_lent_are_not_bounded():
    made = plan(0.5, "natural", pit=4, scratch=4)
    mix = select(made, {"compact": [synthetic(k, "pit") for k in range(6)]}, seed=0)
    assert [s.index for s in mix.samples] == [0, 1, 2, 3]
    assert uneven(mix) == []
