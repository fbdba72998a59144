"""Which samples look wrong: rules on the scores of `generator.quality.scoring`.

Every score is made so that real defects pass by construction (see `generator.quality.scoring`), so
the thresholds below are not tuned to any one part. Rules on the mask stand in
`generator.quality.agreement`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from generator.config import StrictModel
from generator.records import Verdict

RuleName = Literal["class-agreement", "realism", "memorisation", "seam"]


class ClassAgreementRule(StrictModel):
    """A classifier of real defects must not exclude the sample's class."""

    enabled: bool = Field(True, description="judge by this rule")
    least: float = Field(
        0.01,
        ge=0,
        le=1,
        description="least probability of the sample's own class, by a calibrated classifier that "
        "never saw the sample's sources",
    )


class RealismRule(StrictModel):
    """The sample must lie about as near to real defects of its class as they to each other."""

    enabled: bool = Field(True, description="judge by this rule")
    most: float = Field(
        1.0,
        gt=0,
        le=100,
        description="largest distance to the real ones of the class; 1 is what 95 % of those keep "
        "to each other",
    )


class MemorisationRule(StrictModel):
    """The sample must not be a copy of one training defect."""

    enabled: bool = Field(True, description="judge by this rule")
    least: float = Field(
        0.75,
        ge=0,
        le=100,
        description="least distance to the nearest training image; 1 is what 95 % of the real ones "
        "keep to another",
    )


class SeamRule(StrictModel):
    """The rim of the mask must not stand out more than real defects' rims do."""

    enabled: bool = Field(True, description="judge by this rule")
    most: float = Field(
        1.0,
        gt=0,
        le=100,
        description="largest step along the mask's rim; 1 is what 95 % of the real ones of the "
        "class keep",
    )


class QualityRules(StrictModel):
    """Each rule can be switched off, and its threshold set."""

    class_agreement: ClassAgreementRule = ClassAgreementRule()
    realism: RealismRule = RealismRule()
    memorisation: MemorisationRule = MemorisationRule()
    seam: SeamRule = SeamRule()


@dataclass(frozen=True)
class _Rule:
    """How a rule reads: `side` says which threshold it has, and `sentence` is filled with both."""

    name: RuleName
    key: str
    side: Literal["least", "most"]
    sentence: str

    def breaks(self, value: float, threshold: float) -> bool:
        # Written so that a value that is not a number breaks the rule.
        return not (value >= threshold if self.side == "least" else value <= threshold)


_RULES = (
    _Rule(
        "class-agreement",
        "class_agreement",
        "least",
        "the classifier gives its class a probability of {value:.3f}, at least {threshold:.3f} "
        "is needed.",
    ),
    _Rule(
        "realism",
        "realism",
        "most",
        "it is {value:.2f} times as far from real defects of its class as 95 % of those are from "
        "each other, at most {threshold:.2f} times is allowed.",
    ),
    _Rule(
        "memorisation",
        "memorisation",
        "least",
        "it is a near copy of the training image {nearest}: its distance is {value:.2f} times what "
        "95 % of the real ones keep to another, at least {threshold:.2f} times is needed.",
    ),
    _Rule(
        "seam",
        "seam",
        "most",
        "the step along its mask's rim is {value:.2f} times what 95 % of real defects of its "
        "class have, at most {threshold:.2f} times is allowed.",
    ),
)


def judge_quality(scores: Mapping[str, float | str], rules: QualityRules) -> list[Verdict]:
    """Every rule that rejects a sample, in the order in which `QualityRules` names them.

    Args:
        scores: of `generator.quality.scoring.score_samples`. A rule whose score is absent (a
            class without real masks has no seam to compare with) does not judge.
        rules: which rules judge, and their thresholds.

    Returns:
        The verdicts; empty for a sample that no rule rejects. A score that is not a number
        rejects.
    """
    found = []
    for rule in _RULES:
        settings = getattr(rules, rule.key)
        if not settings.enabled or rule.key not in scores:
            continue
        value, threshold = float(scores[rule.key]), float(getattr(settings, rule.side))
        if rule.breaks(value, threshold):
            sentence = rule.sentence.format(
                value=value, threshold=threshold, nearest=scores.get("nearest_id", "")
            )
            found.append(
                Verdict(rule=rule.name, value=value, threshold=threshold, sentence=sentence)
            )
    return found
