"""What the filters remove, and thresholds refitted to what people decided."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from augmentor.decisions import Standing
from augmentor.items import PoolSample
from augmentor.thresholds import BOUNDS, LEAST, Fit, Labelled, fit_thresholds
from augmentor.workflows.decisions import hand_decisions, logged_decisions
from augmentor.workflows.generators import training_examples
from augmentor.workflows.judging import judged_samples
from augmentor.workflows.project import Project, ProjectConfig, edit_project
from augmentor.workflows.reporting import Reporter
from generator.files import write_json
from generator.quality.sheet import (
    REJECTED_COLOUR,
    Row,
    Section,
    synthetic_picture,
    write_png_sections,
)

RULES = {
    "nothing-appeared": ("mask.least_area_px", "mask.least_contrast"),
    "outside-mask": ("mask.most_leak",),
    "too-little-in-mask": ("mask.least_fill",),
    "class-agreement": ("quality.class_agreement.least",),
    "realism": ("quality.realism.most",),
    "memorisation": ("quality.memorisation.least",),
    "seam": ("quality.seam.most",),
}
"""Every rule, in the order in which they judge, with the keys of its thresholds."""

SIDE = 112
EXAMPLES = 8


def report_filters(
    project: Project, reporter: Reporter, *, generator: str | None = None
) -> dict[str, Any]:
    """Count what each rule removes, alone and together with others, and show examples.

    Written to `quality/filters.json` and `quality/filters.png` too. Decisions by hand change no
    count; `accepted_by_hand` and `rejected_by_hand` say how each rule fares beside them.

    Args:
        project: whose pools are judged, by the rules of today.
        reporter: told when samples have to be compared with real defects first.
        generator: only its pool; None for all.

    Raises:
        ProjectError: there is no pool.
    """
    examples = training_examples(project)
    samples = judged_samples(project, examples, reporter, generator)
    standing = logged_decisions(project)
    sheet = project.quality / "filters.png"
    report = {
        "samples": len(samples),
        "rejected": sum(s.record.verdict == "rejected" for s in samples),
        "generators": dict(Counter(s.record.generator for s in samples)),
        "scored_by": sorted({s.record.scored_by for s in samples} - {""}),
        "rules": {
            rule: _rule_row(rule, keys, samples, standing, project.config)
            for rule, keys in RULES.items()
        },
        "overlap": {rule: _overlap(rule, samples) for rule in RULES},
        "sheet": str(sheet),
    }
    write_png_sections(
        sheet, f"{project.config.name}: rejected, and by which rule", _sections(samples)
    )
    write_json(project.quality / "filters.json", report)
    return report


def _rules_of(sample: PoolSample) -> frozenset[str]:
    return frozenset(verdict.rule for verdict in sample.record.verdicts)


def _rule_row(
    rule: str,
    keys: Sequence[str],
    samples: Sequence[PoolSample],
    standing: Mapping[str, Standing],
    config: ProjectConfig,
) -> dict[str, Any]:
    bounds = [bound for bound in BOUNDS if bound.key in keys]
    hit = [s for s in samples if rule in _rules_of(s)]
    by_hand = Counter(standing[s.record.id].verdict for s in hit if s.record.id in standing)
    per_class = Counter(s.record.class_name for s in hit)
    return {
        "enabled": all(bound.judges(config.filters) for bound in bounds),
        "thresholds": {f"filters.{b.key}": b.value(config.filters) for b in bounds},
        "rejected": len(hit),
        "alone": sum(_rules_of(s) == {rule} for s in hit),
        "per_class": {name: per_class[name] for name in config.classes},
        "accepted_by_hand": by_hand["accepted"],
        "rejected_by_hand": by_hand["rejected"],
    }


def _overlap(rule: str, samples: Sequence[PoolSample]) -> dict[str, int]:
    """How many of a rule's rejects each rule rejects; on the diagonal all of its own."""
    together = Counter(other for s in samples if rule in _rules_of(s) for other in _rules_of(s))
    return {other: together[other] for other in RULES}


def _sections(samples: Sequence[PoolSample]) -> list[Section]:
    """A row of examples for each rule that rejects anything, spread over how far they are off."""
    sections = []
    for rule in RULES:
        hit = [
            (verdict.value, sample, verdict.threshold)
            for sample in samples
            for verdict in sample.record.verdicts
            if verdict.rule == rule
        ]
        hit.sort(key=lambda found: (found[0], found[1].record.id))
        step = max(1, len(hit) // EXAMPLES)
        pictures = tuple(
            synthetic_picture(
                sample.pool,
                sample.record,
                SIDE,
                lines=(
                    f"{sample.record.class_name}, {sample.record.generator}",
                    f"{value:.3g}, threshold {threshold:.3g}",
                ),
            )
            for value, sample, threshold in hit[::step][:EXAMPLES]
        )
        if pictures:
            row = Row(f"{len(pictures)} of {len(hit)}", REJECTED_COLOUR, pictures)
            sections.append(Section(rule, (row,)))
    return sections


@dataclass(frozen=True)
class Fitted:
    """What a fit led to.

    Attributes:
        rejected, accepted: decisions by hand that could be learnt from.
        fit: None where there are too few.
        applied: whether augment.yaml was changed.
    """

    rejected: int
    accepted: int
    fit: Fit | None
    applied: bool

    def as_json(self) -> dict[str, Any]:
        """Everything but the whole configuration."""
        found = {"rejected": self.rejected, "accepted": self.accepted, "applied": self.applied}
        if self.fit is None:
            return {**found, "fit": None}
        return {**found, "fit": {k: v for k, v in asdict(self.fit).items() if k != "filters"}}


def fit_filters(project: Project, reporter: Reporter, *, apply: bool = False) -> Fitted:
    """Fit the thresholds of the rules that are on to decisions by hand.

    Only samples that are still in a pool can be learnt from, and none that was relabelled: its
    scores compare it with the class that it was made as.

    Args:
        project: whose decisions are learnt from.
        reporter: told when samples have to be compared with real defects first.
        apply: write the thresholds into augment.yaml, if they agree better with the decisions
            that were held out than those of today do.

    Raises:
        ProjectError: there is no pool, or augment.yaml can't be changed.
    """
    standing = hand_decisions(project)
    samples = judged_samples(project, training_examples(project), reporter)
    labelled = [
        Labelled(s.record, held.verdict == "rejected")
        for s in samples
        if (held := standing.get(s.record.id)) and held.verdict and held.class_name is None
    ]
    rejected = sum(sample.rejected for sample in labelled)
    accepted = len(labelled) - rejected
    if min(rejected, accepted) < LEAST:
        return Fitted(rejected, accepted, None, False)
    fit = fit_thresholds(labelled, project.config.filters, seed=project.config.seed)
    applied = apply and fit.better and bool(fit.changes)
    if applied:
        edit_project(project, {f"filters.{key}": new for key, (_, new) in fit.changes.items()})
    return Fitted(rejected, accepted, fit, applied)
