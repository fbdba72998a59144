"""Rejection rules over samples: records in, records with a verdict and its reasons out.

Rules judge first, people last: a decision by hand outranks every rule, in both directions.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from augmentor.decisions import Standing
from augmentor.errors import DecisionError
from generator.config import StrictModel
from generator.quality.agreement import MaskRules, judge
from generator.quality.rules import QualityRules, RuleName, judge_quality
from generator.records import SyntheticDefect, Verdict

HAND = "hand"
"""Stands for a person where else the name of a rule does."""

Scores = Mapping[str, float | str]
"""Scores of `generator.quality.scoring` of one sample."""


_EXEMPT: dict[str, tuple[RuleName, ...]] = {
    "copy-paste": ("memorisation",),
    "plain-paste": ("memorisation",),
    "poisson-paste": ("memorisation",),
    "cutpaste": ("class-agreement", "realism", "memorisation", "seam"),
    "perlin": ("class-agreement", "realism", "memorisation", "seam"),
}


class FilterConfig(StrictModel):
    """Which samples are rejected without anybody looking at them."""

    mask: MaskRules = MaskRules()
    quality: QualityRules = QualityRules()
    weights: Path | None = Field(
        None,
        description="safetensors of an ImageNet resnet18 to compare samples with; default: those "
        "in the torch hub cache, else a small network trained on the train split",
    )
    exempt: dict[str, tuple[RuleName, ...]] = Field(
        _EXEMPT,
        description="rules that pass over a generator's samples: pasted defects are copies on "
        "purpose, and cutpaste and perlin imitate no class; what is said of one generator leaves "
        "the others as they are, and [] has it judged by every rule",
    )

    @field_validator("exempt", mode="after")
    @classmethod
    def _beside_the_usual(
        cls, given: dict[str, tuple[RuleName, ...]]
    ) -> dict[str, tuple[RuleName, ...]]:
        return _EXEMPT | given

    @property
    def compares(self) -> bool:
        """Whether a rule is on that needs samples to be compared with real defects."""
        return any(getattr(self.quality, name).enabled for name in QualityRules.model_fields)


def apply_rules(
    records: Iterable[SyntheticDefect],
    filters: FilterConfig,
    scores: Mapping[str, Scores] | None = None,
    scored_by: str = "",
) -> list[SyntheticDefect]:
    """Judge each sample by its scores anew, so that a changed threshold needs no new sampling.

    Args:
        records: as a pool holds them, with the scores of compositing.
        filters: which rules judge, and their thresholds.
        scores: by sample id, of `generator.quality.scoring.score_samples`; a sample without any
            is judged by its mask alone.
        scored_by: name of the feature extractor behind `scores`.

    Returns:
        The records in their order, with verdict, every rejecting rule, and the scores of both
        kinds together; `seam` is then the one that was compared with real defects' rims.
    """
    known = scores or {}
    return [_judged(r, filters, known.get(r.id, {}), scored_by) for r in records]


def _judged(
    record: SyntheticDefect, filters: FilterConfig, scores: Scores, scored_by: str
) -> SyntheticDefect:
    verdicts = judge(record.scores, filters.mask)
    verdicts += [
        verdict
        for verdict in judge_quality(scores, filters.quality)
        if verdict.rule not in filters.exempt.get(record.generator, ())
    ]
    numbers = {name: value for name, value in scores.items() if not isinstance(value, str)}
    found = {
        "scores": {**record.scores, **numbers},
        "nearest_id": str(scores.get("nearest_id", "")),
        "scored_by": scored_by if scores else "",
        **_outcome(verdicts),
    }
    return record.model_copy(update=found)


def _outcome(verdicts: Sequence[Verdict]) -> dict[str, object]:
    return {
        "verdict": "rejected" if verdicts else "accepted",
        "rule": verdicts[0].rule if verdicts else "",
        "reason": verdicts[0].sentence if verdicts else "",
        "verdicts": tuple(verdicts),
    }


def apply_decisions(
    records: Iterable[SyntheticDefect],
    standing: Mapping[str, Standing],
    classes: Sequence[str],
) -> list[SyntheticDefect]:
    """Let what people decided outrank the rules.

    Who relabels a sample has looked at it and named what is there: unless it is rejected by hand,
    it counts as accepted. `verdicts` stays, so that one can see which rules were overruled. A
    sample without a single changed pixel is not accepted by anybody: it has nothing to label.

    Args:
        records: judged by the rules.
        standing: of `augmentor.decisions.standing`.
        classes: defect classes of the project.

    Raises:
        DecisionError: a sample was relabelled to a class that doesn't exist.
    """
    return [
        _decided(record, standing[record.id], classes) if record.id in standing else record
        for record in records
    ]


def _decided(record: SyntheticDefect, decided: Standing, classes: Sequence[str]) -> SyntheticDefect:
    if decided.class_name is not None and decided.class_name not in classes:
        raise DecisionError(
            f"{decided.who} relabelled sample {record.id} to {decided.class_name!r}, which is no "
            f"class of this project ({', '.join(classes)}); take it back: augment decisions add "
            f"undo {record.id}"
        )
    update: dict[str, object] = {"class_name": decided.class_name or record.class_name}
    if decided.verdict == "rejected":
        reason = f"{decided.reason or 'no reason given'} ({decided.who})"
        update |= {"verdict": "rejected", "rule": HAND, "reason": reason}
    elif is_labelled(record):
        update |= {"verdict": "accepted", "rule": "", "reason": ""}
    return record.model_copy(update=update)


def is_labelled(record: SyntheticDefect) -> bool:
    """Whether there is anything in a sample that a label could stand on."""
    return record.mask is None or bool(record.boxes_xyxy)


def count_rejections(records: Sequence[SyntheticDefect]) -> dict[str, int]:
    """How many samples each rule was the first to reject, the most frequent first; those that a
    person rejected are not among them."""
    rejected = (r.rule for r in records if r.verdict == "rejected" and r.rule != HAND)
    return dict(Counter(rejected).most_common())


def count_decisions(
    records: Iterable[SyntheticDefect], standing: Mapping[str, Standing]
) -> dict[Literal["rejected", "accepted", "relabelled", "elsewhere"], int]:
    """How many samples stand as decided by hand; `elsewhere` are decided samples that are not
    among `records`."""
    here = [standing[r.id] for r in records if r.id in standing]
    return {
        "rejected": sum(s.verdict == "rejected" for s in here),
        "accepted": sum(s.verdict == "accepted" for s in here),
        "relabelled": sum(s.class_name is not None and s.verdict != "rejected" for s in here),
        "elsewhere": len(standing) - len(here),
    }
