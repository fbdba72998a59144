"""Each rule can be switched off and set; all that reject are named."""

import pytest
from pydantic import ValidationError

from generator.quality.rules import QualityRules, judge_quality

FINE = {
    "class_agreement": 0.9,
    "realism": 0.5,
    "memorisation": 1.5,
    "seam": 0.5,
    "nearest_id": "ab12",
}
BAD = {
    "class_agreement": 0.001,
    "realism": 2.5,
    "memorisation": 0.1,
    "seam": 3.0,
    "nearest_id": "ab12",
}


def test_a_sample_like_the_real_ones_passes():
    assert judge_quality(FINE, QualityRules()) == []


def test_every_rule_that_rejects_is_named_with_value_and_threshold():
    found = judge_quality(BAD, QualityRules())
    assert [(v.rule, v.value, v.threshold) for v in found] == [
        ("class-agreement", 0.001, 0.01),
        ("realism", 2.5, 1.0),
        ("memorisation", 0.1, 0.75),
        ("seam", 3.0, 1.0),
    ]
    assert "2.50 times as far from real defects" in found[1].sentence
    assert "near copy of the training image ab12" in found[2].sentence


@pytest.mark.parametrize("key", ["class_agreement", "realism", "memorisation", "seam"])
def test_a_rule_can_be_switched_off(key):
    rules = QualityRules.model_validate({key: {"enabled": False}})
    left = {v.rule for v in judge_quality(BAD, rules)}
    assert len(left) == 3 and key.replace("_", "-") not in left


def test_a_threshold_can_be_set_and_is_itself_allowed():
    rules = QualityRules.model_validate({"realism": {"most": 2.5}, "memorisation": {"least": 0.1}})
    assert [v.rule for v in judge_quality(BAD, rules)] == ["class-agreement", "seam"]


def test_what_was_not_measured_does_not_judge_but_no_number_rejects():
    assert judge_quality({}, QualityRules()) == []
    assert [v.rule for v in judge_quality({"seam": float("nan")}, QualityRules())] == ["seam"]


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValidationError, match="sharpness"):
        QualityRules.model_validate({"sharpness": {"enabled": True}})
