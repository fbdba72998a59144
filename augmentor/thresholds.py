"""Thresholds of the filters refitted to what people decided, judged on decisions held out.

A sample is rejected when any rule rejects it, so the thresholds are fitted together: coordinate
ascent on the balanced accuracy of `rejected`, from the thresholds of today. Where several do
equally well, the one nearest to today's stays. With few decisions such a fit finds chance; that
is why it is judged by cross-validation, and used only if it beats today's thresholds there.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from augmentor.filters import FilterConfig
from generator.files import sha256_of
from generator.records import SyntheticDefect

LEAST = 20
"""Least number of rejects, and of accepts, by hand: one more or less then moves a rate by 5 %."""

FOLDS = 5
MOST_TRIED = 200
"""Thresholds tried of each rule; of more scores than that, every second or third gap is tried."""

RESAMPLES = 2000


@dataclass(frozen=True)
class Bound:
    """A threshold in `FilterConfig`, and the score that it bounds from one side."""

    key: str
    score: str
    side: Literal["least", "most"]
    compared: bool

    def value(self, filters: FilterConfig) -> float:
        """The threshold as it is set."""
        value: Any = filters
        for part in self.key.split("."):
            value = getattr(value, part)
        return float(value)

    def judges(self, filters: FilterConfig) -> bool:
        """Whether its rule is on."""
        section, name, *_ = self.key.split(".")
        rules = getattr(filters, section)
        return bool(getattr(rules, name).enabled if self.compared else rules.enabled)


BOUNDS = (
    Bound("mask.least_area_px", "area_px", "least", False),
    Bound("mask.least_contrast", "contrast", "least", False),
    Bound("mask.most_leak", "leak", "most", False),
    Bound("mask.least_fill", "fill", "least", False),
    Bound("quality.class_agreement.least", "class_agreement", "least", True),
    Bound("quality.realism.most", "realism", "most", True),
    Bound("quality.memorisation.least", "memorisation", "least", True),
    Bound("quality.seam.most", "seam", "most", True),
)


@dataclass(frozen=True)
class Labelled:
    """A sample with its scores, about which a person decided."""

    record: SyntheticDefect
    rejected: bool


@dataclass(frozen=True)
class Quality:
    """How well rules agree with people, 0 to 1; `reject` is the class that is looked for."""

    balanced_accuracy: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Fit:
    """Thresholds fitted to decisions, and what they are worth.

    Attributes:
        filters: with the fitted thresholds.
        changes: key -> (threshold of today, fitted one), for those that differ.
        today: of today's thresholds, on all decisions; nothing was fitted for it.
        held_out: of fitted ones, each decision judged by a fit that did not see it.
        gain: held-out balanced accuracy minus today's.
        interval: 90 % bootstrap interval of the gain over decisions.
        better: whether the whole interval lies above 0.
    """

    filters: FilterConfig
    changes: dict[str, tuple[float, float]]
    today: Quality
    held_out: Quality
    gain: float
    interval: tuple[float, float]
    better: bool


def fit_thresholds(labelled: Sequence[Labelled], filters: FilterConfig, *, seed: int = 0) -> Fit:
    """Fit the thresholds of the rules that are on.

    Args:
        labelled: at least `LEAST` rejected and as many accepted samples.
        filters: of today; where the fit begins.
        seed: of the folds and of the bootstrap.

    Raises:
        ValueError: too few decisions of either kind.
    """
    truth = np.array([sample.rejected for sample in labelled])
    if min(truth.sum(), (~truth).sum()) < LEAST:
        raise ValueError(f"at least {LEAST} rejected and {LEAST} accepted samples are needed")
    bounds = [bound for bound in BOUNDS if bound.judges(filters)]
    table = _table(labelled, bounds, filters)
    start = np.array([_sign(bound) * bound.value(filters) for bound in bounds])
    allowed = [_allowed(bound, table[:, k], filters) for k, bound in enumerate(bounds)]

    held_out = np.zeros(len(truth), bool)
    folds = _folds(labelled, seed)
    for fold in range(FOLDS):
        inside = folds == fold
        fitted = _ascend(table[~inside], truth[~inside], start, allowed)
        held_out[inside] = _rejects(table[inside], fitted)
    final = _ascend(table, truth, start, allowed)
    now = _rejects(table, start)
    gain, low, high = _gain(truth, now, held_out, seed)
    changed = [k for k in range(len(bounds)) if final[k] != start[k]]
    values = {bounds[k].key: abs(float(final[k])) for k in changed}
    return Fit(
        filters=_with(filters, values),
        changes={key: (_bound(key).value(filters), value) for key, value in values.items()},
        today=_quality(truth, now),
        held_out=_quality(truth, held_out),
        gain=gain,
        interval=(low, high),
        better=low > 0,
    )


def _bound(key: str) -> Bound:
    return next(bound for bound in BOUNDS if bound.key == key)


def _sign(bound: Bound) -> int:
    """Scores are turned so that a value above its threshold rejects, for both sides alike."""
    return 1 if bound.side == "most" else -1


def _table(
    labelled: Sequence[Labelled], bounds: Sequence[Bound], filters: FilterConfig
) -> np.ndarray:
    """(samples, bounds) float64; -inf, which never rejects, where a rule has no score to judge."""
    rows = np.full((len(labelled), len(bounds)), -np.inf)
    for i, sample in enumerate(labelled):
        for k, bound in enumerate(bounds):
            if _has_score(sample.record, bound, filters):
                rows[i, k] = _sign(bound) * sample.record.scores[bound.score]
    return rows


def _has_score(record: SyntheticDefect, bound: Bound, filters: FilterConfig) -> bool:
    if bound.score.replace("_", "-") in filters.exempt.get(record.generator, ()):
        return False
    # compositing leaves a seam of its own, which was compared with nothing yet
    return bound.score in record.scores and (not bound.compared or bool(record.scored_by))


def _allowed(bound: Bound, column: np.ndarray, filters: FilterConfig) -> np.ndarray:
    """Turned thresholds worth trying: halfway between scores that occur, within the bounds of the
    configuration."""
    values = np.unique(column[np.isfinite(column)])
    tried = (values[1:] + values[:-1]) / 2
    tried = tried[:: max(1, len(tried) // MOST_TRIED)]
    if len(values):
        # beyond the extremes: a threshold at which everything passes
        tried = np.append(tried, values[-1] + max(1e-6, 0.05 * abs(values[-1])))
    rounded = sorted({float(f"{value:.4g}") for value in tried})
    return np.array([t for t in rounded if _fits(filters, bound, t * _sign(bound))])


def _fits(filters: FilterConfig, bound: Bound, value: float) -> bool:
    try:
        _with(filters, {bound.key: value})
    except ValidationError:
        return False
    return True


def _with(filters: FilterConfig, values: dict[str, float]) -> FilterConfig:
    content = filters.model_dump()
    for key, value in values.items():
        *sections, last = key.split(".")
        place = content
        for part in sections:
            place = place[part]
        place[last] = value
    return FilterConfig.model_validate(content)


def _folds(labelled: Sequence[Labelled], seed: int) -> np.ndarray:
    """A fold for each sample, both verdicts spread evenly. Samples whose shape came from the same
    real image share a fold, unless so many do that a fold would be little else."""
    sources = [_source(sample.record) for sample in labelled]
    if max(Counter(sources).values()) * FOLDS > len(labelled):
        sources = [sample.record.id for sample in labelled]
    groups: dict[str, list[int]] = {}
    for i, source in enumerate(sources):
        groups.setdefault(source, []).append(i)
    folds = np.zeros(len(labelled), int)
    filled = np.zeros((2, FOLDS), int)
    for source in sorted(groups, key=lambda g: (-len(groups[g]), sha256_of([seed, g]))):
        members = groups[source]
        rejected = sum(labelled[i].rejected for i in members)
        counts = np.array([len(members) - rejected, rejected])
        fold = int((filled * counts[:, None]).sum(axis=0).argmin())
        folds[members] = fold
        filled[:, fold] += counts
    return folds


def _source(record: SyntheticDefect) -> str:
    return record.lender or record.id


def _rejects(table: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    return np.asarray((table > thresholds).any(axis=1))


def _ascend(
    table: np.ndarray, truth: np.ndarray, start: np.ndarray, allowed: Sequence[np.ndarray]
) -> np.ndarray:
    """Change one threshold at a time for as long as the balanced accuracy grows; not at all where
    all decisions are alike, as when every reject was held out with its one source."""
    if truth.all() or not truth.any():
        return start
    best = start.copy()
    score = _balanced(truth, _rejects(table, best))
    while True:
        found = None
        for k, tried in enumerate(allowed):
            others = (np.delete(table, k, axis=1) > np.delete(best, k)).any(axis=1)
            for value in sorted(tried, key=lambda v: abs(v - start[k])):
                reached = _balanced(truth, others | (table[:, k] > value))
                if reached > score + 1e-9:
                    found, score = (k, value), reached
        if found is None:
            return best
        best[found[0]] = found[1]


def _balanced(truth: np.ndarray, said: np.ndarray) -> float:
    return float((said[truth].mean() + (~said[~truth]).mean()) / 2)


def _gain(
    truth: np.ndarray, now: np.ndarray, fitted: np.ndarray, seed: int
) -> tuple[float, float, float]:
    """Held-out gain with its 90 % interval: decisions are drawn anew, verdict by verdict."""
    rng = np.random.default_rng(seed)
    # each decision's part in the difference of the two balanced accuracies
    part = (fitted == truth).astype(float) - (now == truth)
    drawn = np.zeros(RESAMPLES)
    for kind in (truth, ~truth):
        own = part[kind]
        drawn += rng.choice(own, (RESAMPLES, len(own))).mean(axis=1) / 2
    gain = float((part[truth].mean() + part[~truth].mean()) / 2)
    low, high = np.quantile(drawn, (0.05, 0.95))
    return gain, float(low), float(high)


def _quality(truth: np.ndarray, said: np.ndarray) -> Quality:
    hits = float((truth & said).sum())
    precision = hits / said.sum() if said.any() else 0.0
    recall = hits / truth.sum()
    both = precision + recall
    f1 = 2 * precision * recall / both if both else 0.0
    return Quality(_balanced(truth, said), float(precision), float(recall), float(f1))
