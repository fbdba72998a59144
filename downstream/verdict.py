"""What an experiment says, in sentences: plainly so where nothing helps, or nothing was learned."""

from collections.abc import Mapping, Sequence
from typing import Any

from downstream.names import TITLES

LEARNED_MAP50 = 0.02
"""A detector under this has not learned to detect; arms are not compared then."""


def verdict_sentence(report: Mapping[str, Any]) -> str:
    """What the experiment says: a sentence or two a task, plainly where nothing helps."""
    sentences = []
    if report["failed"]:
        sentences.append(f"{len(report['failed'])} of {len(report['runs'])} runs failed.")
    for task, metric in report["primary"].items():
        gaps = report["differences"].get(task, {})
        if not gaps:
            continue
        if not _learned(report, task):
            sentences.append(
                f"Nothing can be said about {task}: no arm has learned it in "
                f"{report['settings'][f'{task}_steps']} steps, so train longer."
            )
            continue
        by_verdict: dict[str, list[str]] = {"helps": [], "hurts": [], "no evidence": []}
        for arm in report["arms"]:
            if metric in gaps.get(arm, {}):
                gap = gaps[arm][metric]
                by_verdict[gap["verdict"]].append(f"{arm} {signed(gap)}")
        sentences += _task_sentences(task, TITLES[metric], report["baseline"], by_verdict)
        worse = [
            f"{label} ({arm})"
            for arm, each in gaps.items()
            for label, gap in each["per_class"].items()
            if gap["verdict"] == "hurts"
        ]
        if worse:
            sentences.append(f"Classes that {task} got worse at: {', '.join(worse)}.")
    return " ".join(sentences) or "There is nothing to compare."


def _task_sentences(
    task: str, title: str, baseline: str, by_verdict: Mapping[str, Sequence[str]]
) -> list[str]:
    sentences = []
    for name, verb in (("helps", "is helped by"), ("hurts", "is hurt by")):
        if by_verdict[name]:
            listed = "; ".join(by_verdict[name])
            sentences.append(f"{task.capitalize()} {verb} {listed} ({title} against {baseline}).")
    open_ones = "; ".join(by_verdict["no evidence"])
    if open_ones and sentences:
        sentences.append(f"No evidence either way: {open_ones}.")
    elif open_ones:
        sentences.append(
            f"No arm helps {task}, as far as this can tell: {open_ones} ({title} against "
            f"{baseline}; every interval holds zero)."
        )
    return sentences


def _learned(report: Mapping[str, Any], task: str) -> bool:
    """Whether any arm is better than a detector that knows nothing: `LEARNED_MAP50` at least, or a
    balanced accuracy above chance by a tenth of what is left."""
    arms = report["results"][task].values()
    if task == "detection":
        return any(arm["metrics"]["map50"]["mean"] >= LEARNED_MAP50 for arm in arms)
    chance = 1 / max(len(arm["labels"]) for arm in arms)
    floor = chance + 0.1 * (1 - chance)
    return any(arm["metrics"]["balanced_accuracy"]["mean"] >= floor for arm in arms)


def signed(gap: Mapping[str, Any]) -> str:
    """A difference with its interval, such as `+0.050 [+0.010, +0.090]`."""
    return f"{gap['difference']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}]"
