"""Rules first, people last."""

import pytest

from augmentor.decisions import Standing
from augmentor.errors import DecisionError
from augmentor.filters import (
    FilterConfig,
    apply_decisions,
    apply_rules,
    count_decisions,
    count_rejections,
)
from generator.records import SyntheticDefect

CLASSES = ("pit", "scratch")
GOOD = {"fill": 0.9, "contrast": 5.0, "leak": 0.0, "seam": 7.5, "area_px": 120.0}
FINE = {
    "class_agreement": 0.9,
    "realism": 0.8,
    "memorisation": 1.4,
    "seam": 0.7,
    "nearest_id": "real-7",
}


def sample(name="s", generator="compact", scores=GOOD, **fields):
    whole = {
        "id": name,
        "class_name": "pit",
        "index": 0,
        "seed": 1,
        "generator": generator,
        "fingerprint": "f",
        "image": f"images/{name}.png",
        "mask": f"masks/{name}.png",
        "width": 40,
        "height": 30,
        "grey": True,
        "boxes_xyxy": ((3, 4, 9, 8),),
        "mask_kind": "exact",
        "background_id": "b",
        "mask_source_id": "m",
        "source_ids": ("b", "m"),
        "feather_px": 3,
        "crop_xyxy": (0, 0, 30, 30),
        "scores": scores,
        "verdict": "accepted",
    }
    return SyntheticDefect(**(whole | fields))


def by_hand(name="s", **fields):
    return {name: Standing(sample_id=name, who="ann", time="2026-11-21T09:00:00+00:00", **fields)}


def test_a_sample_within_every_bound_is_accepted_and_carries_both_kinds_of_scores():
    (judged,) = apply_rules([sample()], FilterConfig(), {"s": FINE}, "own-1a2b3c4d")
    assert (judged.verdict, judged.rule, judged.verdicts) == ("accepted", "", ())
    assert judged.scores == {**GOOD, "class_agreement": 0.9, "realism": 0.8, "memorisation": 1.4,
                             "seam": 0.7}  # fmt: skip
    assert (judged.nearest_id, judged.scored_by) == ("real-7", "own-1a2b3c4d")


def test_every_rule_that_rejects_is_kept_with_value_and_threshold():
    scores = {"s": FINE | {"realism": 3.0, "memorisation": 0.2}}
    (judged,) = apply_rules([sample(scores=GOOD | {"fill": 0.1})], FilterConfig(), scores)
    assert judged.verdict == "rejected"
    assert judged.rule == "too-little-in-mask"
    assert [(v.rule, v.value, v.threshold) for v in judged.verdicts] == [
        ("too-little-in-mask", 0.1, 0.35),
        ("realism", 3.0, 1.0),
        ("memorisation", 0.2, FilterConfig().quality.memorisation.least),
    ]


def test_the_raw_seam_of_compositing_is_not_taken_for_the_compared_one():
    (judged,) = apply_rules([sample()], FilterConfig())
    assert judged.scores["seam"] > 1
    assert judged.verdict == "accepted"
    assert judged.scored_by == ""


def test_a_generator_that_copies_on_purpose_is_not_blamed_for_copying():
    copies = {"s": FINE | {"memorisation": 0.0, "realism": 2.0}}
    (pasted,) = apply_rules([sample(generator="copy-paste")], FilterConfig(), copies)
    assert [v.rule for v in pasted.verdicts] == ["realism"]
    strict = FilterConfig(exempt={"copy-paste": ()})
    blamed, other = apply_rules(
        [sample(generator="copy-paste"), sample(generator="plain-paste")], strict, copies
    )
    assert [v.rule for v in blamed.verdicts] == ["realism", "memorisation"]
    assert [v.rule for v in other.verdicts] == ["realism"]


def test_a_rule_that_is_off_does_not_judge():
    off = FilterConfig.model_validate({"quality": {"realism": {"enabled": False}}})
    (judged,) = apply_rules([sample()], off, {"s": FINE | {"realism": 9.0}})
    assert judged.verdict == "accepted"
    assert judged.scores["realism"] == 9.0
    assert off.compares
    rules = ("class_agreement", "realism", "memorisation", "seam")
    none = {"quality": {rule: {"enabled": False} for rule in rules}}
    assert not FilterConfig.model_validate(none).compares


def test_a_person_outranks_the_rules_in_both_directions():
    bad = apply_rules([sample(scores=GOOD | {"fill": 0.1})], FilterConfig())
    (kept,) = apply_decisions(bad, by_hand(verdict="accepted"), CLASSES)
    assert (kept.verdict, kept.rule, kept.reason) == ("accepted", "", "")
    assert [v.rule for v in kept.verdicts] == ["too-little-in-mask"]
    good = apply_rules([sample()], FilterConfig())
    (left,) = apply_decisions(good, by_hand(verdict="rejected", reason="on the edge"), CLASSES)
    assert (left.verdict, left.rule, left.reason) == ("rejected", "hand", "on the edge (ann)")


def test_what_has_nothing_to_label_is_accepted_by_nobody():
    empty = sample(scores=GOOD | {"area_px": 0.0, "fill": 0.0}, boxes_xyxy=())
    judged = apply_rules([empty], FilterConfig())
    (still,) = apply_decisions(judged, by_hand(verdict="accepted"), CLASSES)
    assert (still.verdict, still.rule) == ("rejected", "nothing-appeared")


def test_a_relabelled_sample_is_used_under_its_new_class_unless_rejected_by_hand():
    judged = apply_rules([sample(scores=GOOD | {"fill": 0.1})], FilterConfig())
    (moved,) = apply_decisions(judged, by_hand(class_name="scratch"), CLASSES)
    assert (moved.class_name, moved.verdict) == ("scratch", "accepted")
    both = by_hand(class_name="scratch", verdict="rejected")
    (left,) = apply_decisions(judged, both, CLASSES)
    assert (left.class_name, left.verdict) == ("scratch", "rejected")
    with pytest.raises(DecisionError, match=r"'dent', which is no class .* add undo s$"):
        apply_decisions(judged, by_hand(class_name="dent"), CLASSES)


def test_counts_tell_rules_from_people():
    records = apply_rules(
        [sample("a", scores=GOOD | {"fill": 0.1}), sample("b"), sample("c")], FilterConfig()
    )
    decided = by_hand("b", verdict="rejected") | by_hand("c", class_name="scratch")
    decided |= by_hand("elsewhere", verdict="accepted")
    after = apply_decisions(records, decided, CLASSES)
    assert count_rejections(after) == {"too-little-in-mask": 1}
    assert count_decisions(after, decided) == {
        "rejected": 1,
        "accepted": 0,
        "relabelled": 1,
        "elsewhere": 1,
    }
