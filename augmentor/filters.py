"""Rejection rules over a pool: records in, records with a verdict and its reason out."""

from collections import Counter
from collections.abc import Iterable, Sequence

from generator.quality.agreement import MaskRules, judge
from generator.records import SyntheticDefect


def apply_rules(records: Iterable[SyntheticDefect], rules: MaskRules) -> list[SyntheticDefect]:
    """Judge each sample by its scores anew, so that a changed threshold needs no new sampling."""
    judged = []
    for record in records:
        rule, reason = judge(record.scores, rules)
        found = {"verdict": "rejected" if rule else "accepted", "rule": rule, "reason": reason}
        judged.append(record.model_copy(update=found))
    return judged


def count_rejections(records: Sequence[SyntheticDefect]) -> dict[str, int]:
    """How many samples each rule rejected, the most frequent first."""
    return dict(Counter(r.rule for r in records if r.verdict == "rejected").most_common())
