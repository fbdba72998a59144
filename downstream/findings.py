"""What a reader must know beside the verdict, in sentences: copy-paste, the ceiling, power."""

from collections.abc import Mapping
from typing import Any

from downstream.names import COPY_PASTE, FULL, TITLES, is_synthetic
from downstream.power import POWER
from downstream.verdict import signed


def findings(report: Mapping[str, Any]) -> dict[str, list[str]]:
    """By task, sentences: against copy-paste, how much of the gap to all real data is closed,
    whether the training has levelled off, how many seeds a difference would need."""
    return {
        task: [
            *_beside_copy_paste(report, task, metric),
            *_closed(report, task, metric),
            *_levelled(report, task),
            *_power(report, task, metric),
        ]
        for task, metric in report["primary"].items()
        if report["results"].get(task)
    }


def _beside_copy_paste(report: Mapping[str, Any], task: str, metric: str) -> list[str]:
    gaps = report["differences_to"].get(COPY_PASTE, {}).get(task, {})
    told = [
        f"{arm} {signed(gaps[arm][metric])}, {gaps[arm][metric]['verdict']}"
        for arm in report["arms"]
        if is_synthetic(arm) and metric in gaps.get(arm, {})
    ]
    if not told:
        return []
    return [f"{task.capitalize()} beside {COPY_PASTE} ({TITLES[metric]}): {'; '.join(told)}."]


def _closed(report: Mapping[str, Any], task: str, metric: str) -> list[str]:
    closed = {a: c for a, c in report["closure"].get(task, {}).items() if is_synthetic(a)}
    if not closed:
        return []
    known = [
        f"{arm} {each['value']:.0%} [{each['low']:.0%}, {each['high']:.0%}]"
        for arm, each in closed.items()
        if each["value"] is not None
    ]
    reasons = list(dict.fromkeys(each["reason"] for each in closed.values() if each["reason"]))
    title = f"Of the gap in {task} ({TITLES[metric]}) between real and {FULL}"
    return ([f"{title}, this much is closed: {'; '.join(known)}."] if known else []) + [
        f"{title}: {reason}." for reason in reasons
    ]


def _levelled(report: Mapping[str, Any], task: str) -> list[str]:
    found = report["levelled"].get(task, {})
    if FULL in report["results"][task] and FULL not in found:
        return [
            f"Whether {task} has levelled off in {FULL} isn't known; look at val on the way "
            "(--select both), or compare with a run of more steps."
        ]
    if found and all(each["levelled"] for each in found.values()):
        return [f"The training has levelled off on val in {', '.join(found)}."]
    return []


def _power(report: Mapping[str, Any], task: str, metric: str) -> list[str]:
    note = report["power"].get(task)
    if note is None:
        return []
    by_need: dict[int | None, list[str]] = {}
    for difference, seeds in note["needed"].items():
        by_need.setdefault(seeds, []).append(difference)
    needed = [
        f"{f'{seeds} seeds' if seeds else 'more test images'} for {' or '.join(differences)}"
        for seeds, differences in by_need.items()
    ]
    count = note.get("comparisons", 1)
    corrected = f", corrected for {count} comparisons" if count > 1 else ""
    return [
        f"To show a difference in {TITLES[metric]} with a chance of {POWER:.0%}{corrected}, {task} "
        "needs "
        f"{', '.join(needed)}: a difference spreads by {note['spread']:.3f} from seed to seed, and "
        f"these test images show none below {note['smallest']:.3f} with any number of seeds."
    ]
