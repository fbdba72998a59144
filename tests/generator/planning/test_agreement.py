"""Rules on a composite's scores."""

import pytest

from generator.quality.agreement import MaskRules, judge

GOOD = {"fill": 0.9, "contrast": 5.0, "leak": 0.0, "seam": 0.2, "area_px": 120.0}


@pytest.mark.parametrize(
    ("scores", "rule", "sentence"),
    [
        ({"area_px": 2.0}, "nothing-appeared", "only 2 px changed visibly, at least 4 px must."),
        (
            {"contrast": 0.5},
            "nothing-appeared",
            "the change is 0.50 times the surface's noise, at least 1.20 is needed.",
        ),
        (
            {"leak": 0.8},
            "outside-mask",
            "80% of the change lies outside the mask, at most 50% may.",
        ),
        (
            {"fill": 0.1},
            "too-little-in-mask",
            "10% of the mask changed, at least 35% must.",
        ),
    ],
)
def test_each_rule_has_its_sentence(scores, rule, sentence):
    (found,) = judge(GOOD | scores, MaskRules(least_contrast=1.2, least_fill=0.35))
    assert (found.rule, found.sentence) == (rule, sentence)
    assert found.value == next(iter(scores.values()))


def test_every_rule_that_rejects_is_named():
    scores = {"area_px": 0.0, "contrast": 0.0, "leak": 0.7, "fill": 0.0}
    found = judge(GOOD | scores, MaskRules())
    assert [v.rule for v in found] == ["nothing-appeared", "outside-mask", "too-little-in-mask"]
    assert [v.threshold for v in found] == [4, 0.5, 0.35]
    assert judge(GOOD, MaskRules()) == []
    assert judge({}, MaskRules()) == []


def test_switched_off_rules_still_reject_what_has_nothing_to_label():
    off = MaskRules(enabled=False)
    assert judge(GOOD | {"area_px": 2.0, "fill": 0.0, "leak": 1.0}, off) == []
    (found,) = judge(GOOD | {"area_px": 0.0}, off)
    assert (found.rule, found.threshold) == ("nothing-appeared", 1)


def test_rules_are_strict():
    with pytest.raises(ValueError, match="least_fil"):
        MaskRules.model_validate({"least_fil": 0.1})
    with pytest.raises(ValueError, match="less than or equal to 1"):
        MaskRules(most_leak=2)
