"""How many synthetic images of which class and generator a ratio asks for."""

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from augmentor.errors import RatioError
from augmentor.items import check_classes
from generator.records import GOOD, DefectExample

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
        lenders: real train images that can lend a defect of each class, as `lenders` finds them.
        real: those of them that go into the mix (none at ratio 1).
        clean: clean images of the train split; all of them stay.
        wanted: synthetic images for each (generator, class); pairs of 0 are left out.
        sourceless: classes that no real train image shows. Nothing can be made of them, so nothing
            is wanted of them.
    """

    ratio: float
    balance: Balance
    classes: tuple[str, ...]
    available: Mapping[str, int]
    lenders: Mapping[str, int]
    real: Mapping[str, int]
    clean: int
    wanted: Mapping[tuple[str, str], int]
    sourceless: tuple[str, ...]

    @property
    def synthetic(self) -> int:
        """Synthetic images wanted in all."""
        return sum(self.wanted.values())


def lenders(examples: Sequence[DefectExample], name: str) -> list[DefectExample]:
    """The images of a class: those that are labelled as it, or, where it is only ever the smaller
    defect on an image of another class, those that show it."""
    labelled = [example for example in examples if example.label == name]
    return labelled or [e for e in examples if any(i.class_name == name for i in e.instances)]


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
    lending = {name: len(lenders(real, name)) for name in classes}
    sourced = [name for name in classes if lending[name]]
    if balance == "class":
        per_class = _fill_up({name: kept[name] for name in sourced}, number)
    else:
        per_class = proportional({name: lending[name] for name in sourced}, number)
    return MixPlan(
        ratio=float(ratio),
        balance=balance,
        classes=tuple(classes),
        available=available,
        lenders=lending,
        real=kept,
        clean=counted[GOOD],
        wanted=_share_out(per_class, shares),
        sourceless=tuple(name for name in classes if not lending[name]),
    )


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
