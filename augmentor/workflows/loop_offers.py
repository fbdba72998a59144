"""What the loop tries: the sweep's training sets, and those that each later round makes up.

A round after the sweep offers three things. `more` adds samples of the kinds that val shows the
incumbent not to find: pools are filled beyond what is in use, every sample is measured, and those
that match the needed histogram best are taken. `swap` takes the same samples and drops as many that
are there most beyond need. `without` leaves a cluster out: samples of one generator and class that
look alike to the project's feature extractor.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from functools import cached_property

import numpy as np
from sklearn.cluster import KMeans

from augmentor.decisions import Standing
from augmentor.items import PoolSample
from augmentor.records_io import load_records
from augmentor.workflows.arm_names import CLASSICAL
from augmentor.workflows.arms import Arm, resolve_arms
from augmentor.workflows.build import pool_samples
from augmentor.workflows.decisions import logged_decisions
from augmentor.workflows.generators import Maker, fill_pool, open_maker, read_samples
from augmentor.workflows.loop_needs import Kinds, need_lines
from augmentor.workflows.loop_rules import (
    Cell,
    apportion,
    least_needed,
    matching,
    needs_of,
    over_represented,
)
from augmentor.workflows.loop_state import Chosen, NeedLine, Offer, Round
from augmentor.workflows.project import Project
from augmentor.workflows.reporting import Reporter
from augmentor.workflows.scoring import Scorer
from downstream.outcomes import DefectOutcome
from generator.quality.scoring import embeddings
from generator.records import SyntheticDefect

STEP_SHARE = 0.25
"""Samples that a round adds or swaps, as a share of those in the mix."""

FIRST_RATIO = 0.3
"""The ratio that a round's samples come to where the sweep found no mix better than none."""

OVERSAMPLE = 4
"""Samples to choose from, for each one that is wanted."""

LEAVE_OUT = 3
"""Clusters that a round tries to do without."""

CLUSTER_SIZE, MOST_CLUSTERS = 4, 3
"""Samples of a generator and class fall into clusters of about the former, at most the latter."""


class Bench:
    """Makes the training sets that are tried; what several rounds need is opened once.

    Args:
        project: whose mix is improved.
        generators: of the sweep, as in an arm's name: one, or several joined by `+`.
        reporter: told of the progress.
    """

    def __init__(self, project: Project, generators: Sequence[str], reporter: Reporter) -> None:
        self.project = project
        self.generators = tuple(generators)
        self.reporter = reporter
        self.records = load_records(project.data)
        self.train = [record for record in self.records if record.split == "train"]
        self.defects = sum(not record.is_clean for record in self.train)
        self._cells: dict[str, Cell] = {}

    def arm(self, offer: Offer) -> Arm:
        """What an offer trains on."""
        return Arm(frozenset(record.id for record in self.train), tuple(self.samples(offer)))

    def samples(self, offer: Offer) -> list[PoolSample]:
        """An offer's samples, read from their pools."""
        return pool_samples(self.project, read_samples(self.project, offer.samples))

    def sweep(self, ratios: Sequence[float]) -> tuple[Offer, ...]:
        """Every generator at every ratio, the smaller ratios first."""
        names = [f"{name}@{ratio:g}" for ratio in ratios for name in self.generators]
        arms = resolve_arms(self.project, names, self.reporter, as_baselines=False)
        return tuple(
            Offer(
                arm=name,
                kind="sweep",
                what=f"{len(arm.samples)} samples of {name.rpartition('@')[0]}",
                ratio=len(arm.samples) / (len(arm.samples) + self.defects),
                samples=tuple(_chosen(s.record) for s in arm.samples),
            )
            for name, arm in arms.items()
        )

    def round(
        self, start: Offer, outcomes: Sequence[DefectOutcome], past: Sequence[Round]
    ) -> tuple[tuple[NeedLine, ...], tuple[Offer, ...]]:
        """The needs that an incumbent leaves on val, and what to try about them.

        Args:
            start: the incumbent.
            outcomes: what its detectors made of each defect of val.
            past: all rounds so far; what they tried is not tried again.
        """
        number = len(past)
        kinds = {k: self._kinds.of_outcome(outcome) for k, outcome in enumerate(outcomes)}
        lines = need_lines(outcomes, kinds, self.project.config.classes)
        needs = needs_of((kinds[k], 1 - outcome.found) for k, outcome in enumerate(outcomes))
        held = self.samples(start)
        in_mix = [(sample.record.id, self._cell(sample)) for sample in held]
        offers = self._requests(number, start, in_mix, needs, past)
        known = {frozenset(offer.samples) for one in past for offer in one.offers}
        left_out = self._without(number, start, held, in_mix, needs)
        offers += [offer for offer in left_out if frozenset(offer.samples) not in known][:LEAVE_OUT]
        return lines, tuple(offers)

    def _requests(
        self,
        number: int,
        start: Offer,
        in_mix: Sequence[tuple[str, Cell]],
        needs: Mapping[Cell, float],
        past: Sequence[Round],
    ) -> list[Offer]:
        """`more` and `swap`; nothing where val needs nothing that could be made."""
        able = {record.label for record in self.train if not record.is_clean}
        count = math.ceil(STEP_SHARE * len(start.samples))
        if not start.samples:
            count = round(FIRST_RATIO / (1 - FIRST_RATIO) * self.defects)
        wanted = apportion(needs, max(count, len(able)), able)
        if not wanted:
            return []
        used = {*start.samples, *(s for one in past for s in _asked_for(one))}
        pool = self._pool(wanted, used)
        picked = matching(wanted, [(made.id, self._cells[made.id]) for made in pool.values()])
        if not picked:
            return []
        new = tuple(_chosen(pool[one]) for one in picked)
        said = f"samples of the kinds that val needs ({_by_class(new)})"
        offers = [self._offer(f"r{number}-more", "more", f"{len(new)} more {said}", start, new)]
        gone = set(least_needed(in_mix, needs, len(new)))
        if gone and len(gone) < len(in_mix):
            what = f"{len(new)} {said} in place of {len(gone)} that it needs least"
            offers.append(self._offer(f"r{number}-swap", "swap", what, start, new, gone))
        return offers

    def _without(
        self,
        number: int,
        start: Offer,
        held: Sequence[PoolSample],
        in_mix: Sequence[tuple[str, Cell]],
        needs: Mapping[Cell, float],
    ) -> list[Offer]:
        """The incumbent without one cluster, for each cluster, most beyond need first."""
        clusters = self._clusters(held)
        return [
            self._offer(
                f"r{number}-without-{name}",
                "without",
                f"without {len(clusters[name])} samples of {name}",
                start,
                gone=set(clusters[name]),
            )
            for name in over_represented(clusters, in_mix, needs)
            if len(clusters[name]) < len(held)
        ]

    def _offer(
        self,
        arm: str,
        kind: str,
        what: str,
        start: Offer,
        new: Sequence[Chosen] = (),
        gone: Set[str] = frozenset(),
    ) -> Offer:
        samples = (*(s for s in start.samples if s[1] not in gone), *new)
        ratio = len(samples) / (len(samples) + self.defects)
        return Offer.model_validate(
            {"arm": arm, "kind": kind, "what": what, "ratio": ratio, "samples": samples}
        )

    def _pool(self, wanted: Mapping[Cell, int], used: set[Chosen]) -> dict[str, SyntheticDefect]:
        """Accepted samples to choose from, none of `used`, by id, in order of preference."""
        per_class: Counter[str] = Counter()
        for cell, count in wanted.items():
            per_class[cell.class_name] += count
        found = []
        for place, maker in enumerate(self.makers):
            busy = Counter(name for generator, _, name in used if generator == maker.name)
            share = {c: math.ceil(n / len(self.makers)) for c, n in per_class.items()}
            target = {c: busy[c] + OVERSAMPLE * n for c, n in share.items()}
            made = fill_pool(self.project, maker, target, self._standing, self.reporter)
            found += [
                (record.index, place, record)
                for record in made
                if record.verdict == "accepted"
                and not record.origin
                and record.class_name in per_class
                and _chosen(record) not in used
            ]
        found.sort(key=lambda three: three[:2])
        for _, _, record in found:
            self._cell(PoolSample(self.project.pool(record.generator), record))
        return {record.id: record for _, _, record in found}

    def _clusters(self, held: Sequence[PoolSample]) -> dict[str, list[str]]:
        """Ids by cluster: generator, class, and what looks alike where there are enough."""
        vectors = self._vectors(held)
        groups: dict[str, list[str]] = {}
        for _, record in held:
            groups.setdefault(f"{record.generator}/{record.class_name}", []).append(record.id)
        clusters: dict[str, list[str]] = {}
        for name, ids in groups.items():
            parts = min(MOST_CLUSTERS, len(ids) // CLUSTER_SIZE)
            if parts < 2 or any(one not in vectors for one in ids):
                clusters[name] = ids
                continue
            means = KMeans(n_clusters=parts, random_state=0, n_init=4)
            labels = means.fit_predict(np.stack([vectors[one] for one in ids]))
            for one, label in zip(ids, labels, strict=True):
                clusters.setdefault(f"{name}/{label}", []).append(one)
        return clusters

    def _vectors(self, held: Sequence[PoolSample]) -> dict[str, np.ndarray]:
        """The project's embeddings; none where it compares no samples with real defects."""
        scorer = Scorer(self.project, self.train, self.reporter)
        shown = [(s.pool, s.record) for s in held if s.record.boxes_xyxy or s.record.mask is None]
        if not scorer.enabled or not shown:
            return {}
        return dict(zip(*embeddings(shown, [], scorer.extractor), strict=True))

    def _cell(self, sample: PoolSample) -> Cell:
        name = sample.record.id
        if name not in self._cells:
            self._cells[name] = self._kinds.of_sample(sample)
        return self._cells[name]

    @cached_property
    def _kinds(self) -> Kinds:
        return Kinds(self.records)

    @cached_property
    def _standing(self) -> dict[str, Standing]:
        return logged_decisions(self.project)

    @cached_property
    def makers(self) -> list[Maker]:
        """Every generator of the sweep that can make what is asked for, opened."""
        parts = dict.fromkeys(part for name in self.generators for part in name.split("+"))
        return [open_maker(self.project, p, self.reporter) for p in parts if p != CLASSICAL]


def _asked_for(past: Round) -> list[Chosen]:
    """What a round tried for val's needs, adopted or not."""
    before = set(past.start.samples)
    return [
        sample
        for offer in past.offers
        if offer.kind in ("more", "swap")
        for sample in offer.samples
        if sample not in before
    ]


def _chosen(record: SyntheticDefect) -> Chosen:
    return record.generator, record.id, record.class_name


def _by_class(samples: Sequence[Chosen]) -> str:
    counted = Counter(name for _, _, name in samples)
    return ", ".join(f"{number} {name}" for name, number in sorted(counted.items()))
