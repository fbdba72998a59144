"""Which samples of the pools go into the mix that a plan asks for: records in, records out."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from augmentor.errors import LeakError
from augmentor.evenness import evenly, most_lent, most_of_one
from augmentor.items import PoolSample
from augmentor.mix_plan import MixPlan
from generator.records import GOOD, PROCEDURAL, DefectExample, SyntheticDefect


class MixRow(NamedTuple):
    """One row of the table of counts; `missing` is what was wanted and not in the pools."""

    name: str
    real: int
    synthetic: int
    total: int
    missing: int


class Lopsided(NamedTuple):
    """One real image (`image`, its id) lent `lent` of a generator's `total` samples of a class that
    has `images` real ones, where at most `most` would be even."""

    generator: str
    class_name: str
    image: str
    lent: int
    total: int
    images: int
    most: int


@dataclass(frozen=True)
class Mix:
    """What was chosen.

    Attributes:
        plan: what was asked for.
        seed: as given; recorded with the dataset.
        chosen: for each generator, its samples in order of class and running number.
        shortfall: missing samples for each (generator, class); pairs of 0 are left out.
    """

    plan: MixPlan
    seed: int
    chosen: Mapping[str, tuple[SyntheticDefect, ...]]
    shortfall: Mapping[tuple[str, str], int]

    @property
    def samples(self) -> tuple[SyntheticDefect, ...]:
        """All chosen samples."""
        return tuple(s for chosen in self.chosen.values() for s in chosen)

    @property
    def achieved_ratio(self) -> float:
        """Share of synthetic images that was reached; 0 where there is no defect image."""
        synthetic = len(self.samples)
        total = synthetic + sum(self.plan.real.values())
        return synthetic / total if total else 0.0

    @property
    def counts(self) -> list[MixRow]:
        """A row for each defect class, one for `good`, and a last one, `total`."""
        per_class = Counter(s.class_name for s in self.samples)
        missing: Counter[str] = Counter()
        for (_, name), number in self.shortfall.items():
            missing[name] += number
        rows = [
            MixRow(name, real, per_class[name], real + per_class[name], missing[name])
            for name, real in self.plan.real.items()
        ]
        rows.append(MixRow(GOOD, self.plan.clean, 0, self.plan.clean, 0))
        real, synthetic = sum(r.real for r in rows), sum(r.synthetic for r in rows)
        short = sum(r.missing for r in rows)
        return [*rows, MixRow("total", real, synthetic, real + synthetic, short)]


def select(
    plan: MixPlan,
    pools: Mapping[str, Sequence[SyntheticDefect]],
    *,
    seed: int,
    rejected_ids: frozenset[str] = frozenset(),
    preferred_ids: frozenset[str] = frozenset(),
) -> Mix:
    """Choose accepted samples for a plan: preferred ones, then the lowest running numbers, and
    what comes after a real image's largest share only where nothing else is left.

    The order doesn't depend on the seed, so a pool that grew keeps every earlier choice that was
    an even one.

    Args:
        plan: what is wanted.
        pools: manifest records of each generator; a missing pool counts as an empty one.
        seed: of the project; recorded in the mix.
        rejected_ids: samples that a person rejected in the review; never chosen.
        preferred_ids: samples that a person accepted; chosen before all others.
    """
    chosen: dict[str, tuple[SyntheticDefect, ...]] = {}
    shortfall: dict[tuple[str, str], int] = {}
    for generator in dict.fromkeys(generator for generator, _ in plan.wanted):
        usable = sorted(
            (s for s in pools.get(generator, ()) if _usable(s, rejected_ids)),
            # what a person asked for has no running number; it comes in when it is accepted
            key=lambda s: (s.id not in preferred_ids, bool(s.origin), s.index),
        )
        taken: list[SyntheticDefect] = []
        for name in plan.classes:
            wanted = plan.wanted.get((generator, name), 0)
            most = most_of_one(wanted, plan.lenders[name])
            of_class = [s for s in usable if s.class_name == name]
            even = {s.id for s in evenly(of_class, most, preferred_ids)[:wanted]}
            of_class = [s for s in of_class if s.id in even]
            taken.extend(of_class)
            if len(of_class) < wanted:
                shortfall[generator, name] = wanted - len(of_class)
        chosen[generator] = tuple(taken)
    return Mix(plan, seed, chosen, shortfall)


def uneven(mix: Mix) -> list[Lopsided]:
    """Where one real image lent more of a class's samples than its largest share."""
    found = []
    for generator, samples in mix.chosen.items():
        for name in mix.plan.classes:
            of_class = [s for s in samples if s.class_name == name]
            images = mix.plan.lenders[name]
            most = most_of_one(mix.plan.wanted.get((generator, name), 0), images)
            image, lent = most_lent(of_class)
            if lent > most:
                found.append(Lopsided(generator, name, image, lent, len(of_class), images, most))
    return found


def mixed_records(records: Iterable[DefectExample], plan: MixPlan) -> list[DefectExample]:
    """The real images of the mixed dataset: without `reserve`, and at ratio 1 without the real
    defect images of the train split. Val and test are never touched."""
    return [
        r
        for r in records
        if r.split != "reserve" and (plan.ratio < 1 or r.split != "train" or r.is_clean)
    ]


def check_sources(
    samples: Iterable[SyntheticDefect | PoolSample], records: Iterable[DefectExample]
) -> None:
    """Prove that every real image that had a part in a sample is in the train split.

    Raises:
        LeakError: one is in val, test or reserve, or is no image of this project.
    """
    splits = {record.id: record.split for record in records}
    for sample in samples:
        made = sample.record if isinstance(sample, PoolSample) else sample
        for source in _sources(made):
            split = splits.get(source)
            if split != "train":
                where = f"is in the {split} split" if split else "is no image of this project"
                raise LeakError(
                    f"Sample {made.id} of {made.generator!r} was made from image {source}, which "
                    f"{where}: delete pool/{made.generator} and run `augment build` again."
                )


def _sources(sample: SyntheticDefect) -> list[str]:
    """Every real image that the manifest names, in whatever role."""
    named = [*sample.source_ids, sample.background_id, sample.mask_source_id]
    real = [s for s in named if s is not None and not s.startswith(PROCEDURAL)]
    return list(dict.fromkeys(real))


def _usable(sample: SyntheticDefect, rejected_ids: frozenset[str]) -> bool:
    return sample.verdict == "accepted" and sample.id not in rejected_ids
