"""How many synthetic images of which class go into the mix, and which: records in, records out."""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar

from augmentor.errors import LeakError, RatioError
from augmentor.evenness import evenly, most_lent, most_of_one
from augmentor.items import PoolSample, check_classes
from generator.records import GOOD, DefectExample, SyntheticDefect

__all__ = [
    "Balance",
    "Lopsided",
    "Mix",
    "MixPlan",
    "MixRow",
    "PoolSample",
    "check_sources",
    "mixed_records",
    "plan_mix",
    "proportional",
    "select",
    "uneven",
]

K = TypeVar("K", bound=Hashable)
Balance = Literal["class", "natural"]


@dataclass(frozen=True)
class MixPlan:
    """What a ratio asks for.

    Attributes:
        ratio: share of synthetic images among the defect images of the mixed training split.
        balance: how the synthetic images are spread over the classes.
        classes: defect classes, in label order.
        available: real defect images of each class in the train split.
        real: those of them that go into the mix (none at ratio 1).
        clean: clean images of the train split; all of them stay.
        wanted: synthetic images for each (generator, class); pairs of 0 are left out.
        sourceless: classes without a single real train image. Nothing can be made of them, so
            nothing is wanted of them.
    """

    ratio: float
    balance: Balance
    classes: tuple[str, ...]
    available: Mapping[str, int]
    real: Mapping[str, int]
    clean: int
    wanted: Mapping[tuple[str, str], int]
    sourceless: tuple[str, ...]

    @property
    def synthetic(self) -> int:
        """Synthetic images wanted in all."""
        return sum(self.wanted.values())


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


def plan_mix(
    real: Sequence[DefectExample],
    ratio: float,
    *,
    classes: Sequence[str],
    balance: Balance = "class",
    shares: Mapping[str, float],
) -> MixPlan:
    """Work out how many synthetic images to want of each generator and class.

    At ratio r, n real defect images call for r / (1 - r) * n synthetic ones. Ratio 0 is real
    only; ratio 1 is synthetic only: as many synthetic images as there are real defect images,
    which are left out, while the clean images stay.

    Args:
        real: the train split, clean images included.
        ratio: in [0, 1].
        classes: defect classes, in label order.
        balance: `class` fills up the smallest classes first, so that real and synthetic together
            come as near to equal numbers as they can; `natural` keeps the real proportions.
        shares: what part each generator contributes; they add up to 1.

    Raises:
        RatioError: the ratio is out of range or no number, the shares don't add up to 1, or there
            is no real defect image to relate the ratio to.
        SourceError: an image has a label that is not in `classes`.
    """
    if not (isinstance(ratio, int | float) and 0 <= ratio <= 1):
        raise RatioError(
            f"The ratio must be between 0 (real only) and 1 (synthetic only), got {ratio}: "
            "type for example `--ratio 0.5`."
        )
    _check_shares(shares)
    check_classes((record.label for record in real), classes)
    counted = Counter(record.label for record in real)
    available = {name: counted[name] for name in classes}
    defects = sum(available.values())
    if ratio > 0 and not defects:
        raise RatioError(
            "The train split holds no defect image, so no ratio can be reached; import some "
            "with `augment import`."
        )
    kept = {name: 0 if ratio == 1 else number for name, number in available.items()}
    number = defects if ratio == 1 else _round(ratio / (1 - ratio) * defects)
    sourced = [name for name in classes if available[name]]
    if balance == "class":
        per_class = _fill_up({name: kept[name] for name in sourced}, number)
    else:
        per_class = proportional({name: available[name] for name in sourced}, number)
    return MixPlan(
        ratio=float(ratio),
        balance=balance,
        classes=tuple(classes),
        available=available,
        real=kept,
        clean=counted[GOOD],
        wanted=_share_out(per_class, shares),
        sourceless=tuple(name for name in classes if not available[name]),
    )


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
            most = most_of_one(wanted, plan.available[name])
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
            images = mix.plan.available[name]
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
    real = [s for s in named if s is not None and not s.startswith("procedural:")]
    return list(dict.fromkeys(real))


def _usable(sample: SyntheticDefect, rejected_ids: frozenset[str]) -> bool:
    return sample.verdict == "accepted" and sample.id not in rejected_ids


def _check_shares(shares: Mapping[str, float]) -> None:
    faulty = any(not 0 <= share <= 1 for share in shares.values())
    if faulty or not math.isclose(sum(shares.values()), 1, abs_tol=1e-6):
        listed = ", ".join(f"{name} {share}" for name, share in shares.items()) or "none"
        raise RatioError(
            f"The shares of the generators must be between 0 and 1 and add up to 1, got {listed}."
        )


def _round(number: float) -> int:
    """Round half up, with room for what floating point takes: Python rounds 2.5 to 2."""
    return math.floor(number + 0.5 + 1e-9)


def _fill_up(levels: Mapping[str, int], number: int) -> dict[str, int]:
    """Pour `number` images onto classes of unequal `levels`, always onto the lowest one.

    The water level is found from below: the k lowest classes are raised to a common height if
    that stays under the next. What can't be divided goes to the earlier classes.
    """
    poured = dict.fromkeys(levels, 0)
    if not number:
        return poured
    order = sorted(levels, key=lambda name: levels[name])
    for k in range(1, len(order) + 1):
        height, rest = divmod(number + sum(levels[name] for name in order[:k]), k)
        if k == len(order) or height < levels[order[k]] or (height, rest) == (levels[order[k]], 0):
            wet = set(order[:k])
            break
    for name in levels:
        if name in wet:
            poured[name] = height - levels[name] + (rest > 0)
            rest -= rest > 0
    return poured


def proportional(weights: Mapping[K, float], number: int) -> dict[K, int]:
    """Divide `number` in proportion to `weights` by largest remainders; ties go to the first."""
    total = sum(weights.values())
    if not total:
        return dict.fromkeys(weights, 0)
    exact = {name: number * weight / total for name, weight in weights.items()}
    parts = {name: math.floor(share) for name, share in exact.items()}
    by_remainder = sorted(exact, key=lambda name: parts[name] - exact[name])
    for name in by_remainder[: number - sum(parts.values())]:
        parts[name] += 1
    return parts


def _share_out(
    per_class: Mapping[str, int], shares: Mapping[str, float]
) -> dict[tuple[str, str], int]:
    """Divide each class's number among the generators.

    What rounding takes from a generator in one class is given back to it in the next, so that
    the totals keep to the shares as well, even where every class wants only one or two.
    """
    owed = dict.fromkeys(shares, 0.0)
    wanted: dict[tuple[str, str], int] = {}
    for name, number in per_class.items():
        for generator, share in shares.items():
            owed[generator] += number * share
        given = dict.fromkeys(shares, 0)
        for _ in range(number):
            neediest = max(shares, key=lambda generator: round(owed[generator], 9))
            given[neediest] += 1
            owed[neediest] -= 1
        for generator, part in given.items():
            if part:
                wanted[generator, name] = part
    return wanted
