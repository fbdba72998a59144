"""What the loop decides by: pure rules over trials and over what val needs."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from augmentor.mix_plan import proportional
from augmentor.workflows.loop_state import Round, TrialLine
from downstream.verdict import LEARNED_MAP50, LEARNED_PIXEL_AP, LEARNED_SHARE, beyond_chance

MARGIN = 0.01
"""After the sweep, a change whose interval holds zero is adopted only from this gain on val on."""

QUIET_ROUNDS = 2
"""Rounds in a row without a gain that val can tell from zero, after which the loop stops."""


class Cell(NamedTuple):
    """A kind of defect: its class, and the third (0 to 2) of the real training defects that it lies
    in by size, by contrast and by distance to the part's edge."""

    class_name: str
    size: int
    contrast: int
    place: int


def winner(trials: Sequence[TrialLine], ratios: Mapping[str, float], margin: float) -> str:
    """The arm to go on with, or an empty string for the incumbent.

    An arm can win only if it is above the incumbent on val by more than nothing and its interval is
    not below zero; with a margin, also only if its interval is above zero or its gain reaches the
    margin. The best value wins; of equal ones the smaller ratio, then the earlier trial.
    """

    def may_win(trial: TrialLine) -> bool:
        if trial.difference is None or trial.low is None or trial.high is None:
            return False
        if trial.difference <= 0 or trial.high < 0:
            return False
        return trial.low > 0 or trial.difference >= margin

    able = [t for t in trials if t.value is not None and may_win(t)]
    best = min(able, key=lambda t: (-(t.value or 0.0), ratios[t.arm]), default=None)
    return best.arm if best else ""


def is_quiet(past: Round) -> bool:
    """Whether no trial of a round has a gain that its val interval tells from zero."""
    return not any(trial.low is not None and trial.low > 0 for trial in past.trials)


def is_learned(past: Round, metric: str, classes: int) -> bool:
    """Whether any training set of a round was learned at all; below that chance would choose.

    Args:
        past: a round.
        metric: of val: mAP50, macro F1 or pixel AP.
        classes: that a classifier tells apart; by chance its macro F1 is 1 / classes at most.
    """
    values = [past.start_value, *(trial.value for trial in past.trials)]
    known = [value for value in values if value is not None]
    floors = {
        "map50": LEARNED_MAP50,
        "macro_f1": beyond_chance(1 / classes, LEARNED_SHARE),
        "pixel_ap": LEARNED_PIXEL_AP,
    }
    return not known or max(known) >= floors[metric]


def reason_to_stop(rounds: Sequence[Round]) -> str:
    """Why the loop should stop after these closed rounds (the sweep is the first), or nothing."""
    last = rounds[1:][-QUIET_ROUNDS:]
    if len(last) == QUIET_ROUNDS and all(is_quiet(past) for past in last):
        return (
            f"In {QUIET_ROUNDS} rounds in a row the interval of every gain on val held zero, so "
            "val can't tell whether more would be gained."
        )
    return ""


def blind_spots(rounds: Sequence[Round]) -> str:
    """A sentence on the classes of which the last look at val found no defect at all, as such a
    training can hardly tell one mix from another; empty where there is none."""
    last = [past.needs for past in rounds if past.needs][-1:]
    blind = [line.class_name for needs in last for line in needs if line.defects and not line.found]
    if not blind:
        return ""
    return (
        f"Nothing on val was found of {', '.join(blind)}, so the trainings may be too short to "
        "tell mixes apart: the same command with --restart --steps N trains longer."
    )


def needs_of(defects: Iterable[tuple[Cell, float]]) -> dict[Cell, float]:
    """How much each kind of defect is needed.

    Args:
        defects: of val: the kind, and the share of the seeds that did not find it.

    Returns:
        The sum of those shares by kind; kinds that are always found are left out. In sorted order.
    """
    needs: Counter[Cell] = Counter()
    for cell, lost in defects:
        if lost > 0:
            needs[cell] += lost  # type: ignore[assignment]  # a Counter of floats
    return dict(sorted(needs.items()))


def apportion(needs: Mapping[Cell, float], number: int, classes: Iterable[str]) -> dict[Cell, int]:
    """Divide `number` samples over the kinds in proportion to the needs; kinds of a class that
    nothing can be made of are left out."""
    able = set(classes)
    asked = {cell: need for cell, need in needs.items() if cell.class_name in able}
    return {cell: n for cell, n in proportional(asked, number).items() if n}


def matching(wanted: Mapping[Cell, int], pool: Sequence[tuple[str, Cell]]) -> list[str]:
    """Choose samples whose kinds come nearest to what is wanted.

    The kind that is wanted most chooses first, among samples of its own class, the one that is
    fewest thirds away; of equal ones the earlier in the pool. A class runs short where the pool
    does.

    Args:
        wanted: number of samples of each kind.
        pool: id and kind of each sample, in order of preference.
    """
    free = dict(pool)
    chosen = []
    for cell, number in sorted(wanted.items(), key=lambda item: (-item[1], item[0])):
        for _ in range(number):
            own = [name for name, kind in free.items() if kind.class_name == cell.class_name]
            if not own:
                break
            best = min(own, key=lambda name: _distance(free[name], cell))
            chosen.append(best)
            del free[best]
    return chosen


def least_needed(
    samples: Sequence[tuple[str, Cell]], needs: Mapping[Cell, float], number: int
) -> list[str]:
    """The samples of a mix that are there most beyond need: by their kind's share of the mix less
    its share of the needs; of equal ones the later."""
    excess = _excess(samples, needs)
    order = sorted(range(len(samples)), key=lambda k: (-excess[samples[k][0]], -k))
    return [samples[k][0] for k in order[:number]]


def over_represented(
    clusters: Mapping[str, Sequence[str]],
    samples: Sequence[tuple[str, Cell]],
    needs: Mapping[Cell, float],
) -> list[str]:
    """Names of the clusters, those first whose members are most beyond need; large before small."""
    excess = _excess(samples, needs)
    return sorted(
        clusters,
        key=lambda name: (
            -round(sum(excess[i] for i in clusters[name]) / len(clusters[name]), 9),
            -len(clusters[name]),
            name,
        ),
    )


def _excess(samples: Sequence[tuple[str, Cell]], needs: Mapping[Cell, float]) -> dict[str, float]:
    """By sample, its kind's share of the mix less its share of the needs."""
    counted = Counter(kind for _, kind in samples)
    total = sum(needs.values()) or 1.0
    return {
        name: counted[kind] / len(samples) - needs.get(kind, 0.0) / total for name, kind in samples
    }


def _distance(one: Cell, other: Cell) -> int:
    return sum(abs(a - b) for a, b in zip(one[1:], other[1:], strict=True))
