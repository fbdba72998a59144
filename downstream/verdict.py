"""What an experiment says, in sentences: plainly so where nothing helps, or nothing was learned."""

from collections.abc import Mapping, Sequence
from typing import Any

from downstream.config import BASELINE, LEAST_SEEDS
from downstream.names import FULL, TITLES, is_synthetic

LEARNED_MAP50 = 0.02
"""A detector under this has not learned to detect; arms are not compared then."""

LEARNED_SHARE = 0.1
"""A classifier whose balanced accuracy is not above chance by this share of what is left to 1 has
not learned to tell classes apart."""

LEARNED_PIXEL_AP = 0.05
"""A localiser whose pixel AP is not above chance, which is the share of defect pixels on test, by
this share of what is left to 1 has not learned to localise."""


def verdict_sentence(report: Mapping[str, Any]) -> str:
    """What the experiment says: a sentence or two a task, plainly where nothing helps."""
    sentences = []
    if report["failed"]:
        sentences.append(f"{len(report['failed'])} of {len(report['runs'])} runs failed.")
    for task, metric in report["primary"].items():
        gaps = report["differences"].get(task, {})
        if not gaps:
            continue
        if not learned(report, task):
            sentences.append(
                f"Nothing can be said about {task}: no arm has learned it in "
                f"{report['settings'][f'{task}_steps']} steps, so train longer."
            )
            continue
        by_verdict: dict[str, list[str]] = {
            name: [] for name in ("helps", "hurts", "no evidence", "no verdict")
        }
        told = {arm: gaps[arm][metric] for arm in _told_of(report, gaps, metric)}
        for arm, gap in told.items():
            by_verdict[gap["verdict"]].append(f"{arm} {signed(gap)}")
        beside = any(g["low"] is not None and not g["low"] <= 0 <= g["high"] for g in told.values())
        why = (
            "none is sure once corrected for how many there are"
            if beside
            else "every interval holds zero"
        )
        again = "type the same command again"
        then = again if report["failed"] else f"take more with --seeds {LEAST_SEEDS}"
        sentences += _task_sentences(
            task, TITLES[metric], report["baseline"], by_verdict, why, then
        )
        worse = [
            f"{label} ({arm})"
            for arm, each in gaps.items()
            if is_synthetic(arm)
            for label, gap in each["per_class"].items()
            if gap["verdict"] == "hurts"
        ]
        if worse:
            sentences.append(f"Classes that {task} got worse at: {', '.join(worse)}.")
        sentences += _rising(report, task)
        lower = _lower(gaps, metric)
        if lower:
            sentences.append(f"Lower, though within chance: {', '.join(lower)}.")
    return " ".join(sentences) or _nothing(report)


def headline(report: Mapping[str, Any]) -> str:
    """The verdict in one sentence, with every class that got worse."""
    parts: list[str] = []
    worse: list[str] = []
    for task, metric in report["primary"].items():
        gaps = report["differences"].get(task, {})
        if not gaps:
            continue
        if not learned(report, task):
            parts.append(f"{task} was not learned by any arm")
            continue
        told: dict[str, list[str]] = {}
        for arm in _told_of(report, gaps, metric):
            told.setdefault(gaps[arm][metric]["verdict"], []).append(arm)
        parts += in_short(task, told, f"{LEAST_SEEDS} seeds")
        worse += got_worse(task, gaps)
    if worse:
        parts.append(f"worse than before: {', '.join(worse)}")
    if not parts:
        parts.append(_nothing(report).rstrip("."))
    parts += _not_measured(report)
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _told_of(report: Mapping[str, Any], gaps: Mapping[str, Any], metric: str) -> list[str]:
    """The arms that a verdict is about: those with synthetic images, and where there is none, all
    others that were compared."""
    compared = [arm for arm in report["arms"] if metric in gaps.get(arm, {})]
    return [arm for arm in compared if is_synthetic(arm)] or compared


def _nothing(report: Mapping[str, Any]) -> str:
    """Why nothing was compared."""
    if BASELINE not in report["arms"]:
        return f"There is no arm {BASELINE} to compare with."
    return "There is nothing to compare."


def _not_measured(report: Mapping[str, Any]) -> list[str]:
    """The arms that a headline would else be silent about, since all their runs failed."""
    lacking = {
        task: [arm for arm in report["arms"] if arm not in report["results"].get(task, {})]
        for task in report["tasks"]
    }
    return [
        f"{' and '.join(arms)} failed and was not measured in {task}"
        for task, arms in lacking.items()
        if arms
    ]


def in_short(task: str, told: Mapping[str, Sequence[str]], least: str) -> list[str]:
    """What a headline says of a task, or nothing: `told` has the arms of each verdict, `least` is
    what a verdict rests on."""
    said = [
        f"{verb} {' and '.join(told[name])}"
        for name, verb in (("helps", "helped by"), ("hurts", "hurt by"))
        if name in told
    ]
    if said:
        return [f"{task} is {' and '.join(said)}"]
    if "no verdict" in told:
        return [f"there is no verdict on {task} below {least}"]
    return [f"nothing is shown to help {task}"] if told else []


def got_worse(task: str, gaps: Mapping[str, Any]) -> list[str]:
    """The classes that synthetic arms surely lose at, as a headline names them."""
    return [
        f"{label} ({task}, {arm})"
        for arm, each in gaps.items()
        if is_synthetic(arm)
        for label, gap in each["per_class"].items()
        if gap["verdict"] == "hurts"
    ]


def _rising(report: Mapping[str, Any], task: str) -> list[str]:
    """A warning where more steps would still lift an arm: short trainings flatter many images."""
    found = report["levelled"].get(task, {})
    rising = [arm for arm, each in found.items() if not each["levelled"]]
    if not rising:
        return []
    named = FULL if FULL in rising else rising[0]
    before, after = (found[named][name] for name in ("before", "after"))
    return [
        f"{task.capitalize()} has not levelled off: {', '.join(rising)} still rose on val "
        f"({named}: {before:.3f} at step {found[named]['steps'][0]}, {after:.3f} at "
        f"{found[named]['steps'][1]}), so train longer before a gain is claimed."
    ]


def _lower(gaps: Mapping[str, Any], metric: str) -> list[str]:
    """Classes that an arm which helps has a lower value of, without evidence."""
    return [
        f"{label} ({arm} {gap['difference']:+.3f})"
        for arm, each in gaps.items()
        if is_synthetic(arm) and each.get(metric, {}).get("verdict") == "helps"
        for label, gap in each["per_class"].items()
        if gap["verdict"] == "no evidence" and gap["difference"] < 0
    ]


def _task_sentences(
    task: str,
    title: str,
    baseline: str,
    by_verdict: Mapping[str, Sequence[str]],
    why: str,
    then: str,
) -> list[str]:
    sentences = []
    for name, verb in (("helps", "is helped by"), ("hurts", "is hurt by")):
        if by_verdict[name]:
            listed = "; ".join(by_verdict[name])
            sentences.append(f"{task.capitalize()} {verb} {listed} ({title} against {baseline}).")
    few = "; ".join(by_verdict["no verdict"])
    if few:
        sentences.append(
            f"No verdict on {task} below {LEAST_SEEDS} seeds: {few} ({title} against {baseline}); "
            f"{then}."
        )
    open_ones = "; ".join(by_verdict["no evidence"])
    if open_ones and sentences:
        sentences.append(f"No evidence either way: {open_ones}.")
    elif open_ones:
        sentences.append(
            f"No arm helps {task}, as far as this can tell: {open_ones} ({title} against "
            f"{baseline}; {why})."
        )
    return sentences


def beyond_chance(chance: float, share: float) -> float:
    """A score, 0 to 1, that is above chance by a share of what is left to 1."""
    return chance + share * (1 - chance)


def learned(report: Mapping[str, Any], task: str) -> bool:
    """Whether any arm is better than a detector that knows nothing: `LEARNED_MAP50` at least, a
    balanced accuracy above chance (of the classes that are on test) by a tenth of what is left, or
    a pixel AP above chance (the share of defect pixels) by `LEARNED_PIXEL_AP` of what is left."""
    arms = report["results"][task].values()
    if task == "detection":
        return any(arm["metrics"]["map50"]["mean"] >= LEARNED_MAP50 for arm in arms)
    if task == "localisation":
        chance = max(arm["defect_share"] for arm in arms)
        floor = beyond_chance(chance, LEARNED_PIXEL_AP)
        return any(arm["metrics"]["pixel_ap"]["mean"] >= floor for arm in arms)
    chance = 1 / max(sum(any(row) for row in arm["confusion_matrix"]) for arm in arms)
    floor = beyond_chance(chance, LEARNED_SHARE)
    return any(arm["metrics"]["balanced_accuracy"]["mean"] >= floor for arm in arms)


def signed(gap: Mapping[str, Any]) -> str:
    """A difference with its interval, where it has one, such as `+0.050 [+0.010, +0.090]`."""
    if gap["low"] is None:
        return f"{gap['difference']:+.3f}"
    return f"{gap['difference']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}]"
