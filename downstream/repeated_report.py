"""What several splits' reports say together (repeated.py), as data and in sentences.

`splits.json`, schema 1:

- `schema`, `name`, `tasks`, `arms`, `classes`, `baseline`, `primary` (by task), `settings`
- `splits`: seeds of those that are finished; `runs`: by seed, the keys of its runs; `failed`: by
  seed, a sentence
- `shared`: test images to the baseline's training images, on which the wider interval rests
- `results`: by task, arm and side (`val`, `test`): by metric its value on each split, or null
- `differences`: by task, arm other than the baseline, and side: by metric `difference`, `low`,
  `high`, `new_low`, `new_high` (for new photographs), `p`, `by_split`, `splits` (their number);
  what decides has `p_holm` and `verdict` besides. On test under `per_class` the same, corrected
  across classes
- `beside`: by task, then synthetic arm: what decides, on test, against copy-paste instead of the
  baseline, corrected over all of them; empty without that arm
- `closure`: by task, then arm: `value`, `low`, `high` of (arm - real) / (full - real) on test, or
  null and a `reason`
- `unlearned`, `rising`: by task, the splits in which no arm has learned it, and those in which an
  arm still rose on val at its end
- `headline`, `verdict`, `notes`: sentences
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from downstream.config import PRIMARY
from downstream.names import COPY_PASTE, FULL, METRICS, PER_CLASS, TITLES, is_synthetic
from downstream.repeated import LEAST_SPLITS, SIDES, Gap, Pair, Rows, pairs, rows_of, share_of_gap
from downstream.statistics import holm
from downstream.verdict import got_worse, in_short, learned, signed

SCHEMA = 1


def summarise(
    name: str,
    reports: Mapping[int, Mapping[str, Any]],
    failed: Mapping[int, str],
) -> dict[str, Any]:
    """What several splits' reports say together: the content of splits.json, see above.

    Args:
        name: of the project.
        reports: by the split's seed, of the same arms, tasks and settings; at least one.
        failed: by seed, a sentence on each split that has no report.
    """
    first = reports[min(reports)]
    rows, confidence = rows_of(reports), float(first["settings"]["confidence"])
    baseline = first["baseline"]
    shared = _shared(reports.values(), baseline)
    found = [
        (pair, pair.gap(shared, confidence))
        for pair in pairs(rows, baseline, lambda of, key: of.get(key), METRICS.__getitem__)
    ]
    decides = {
        f"{pair.task} {pair.arm}": gap.p
        for pair, gap in found
        if _decides(pair) and is_synthetic(pair.arm)
    }
    corrected = holm(decides)
    differences: dict[str, Any] = {}
    for pair, gap in found:
        each = differences.setdefault(pair.task, {}).setdefault(pair.arm, {})
        line = _line(gap)
        if _decides(pair):
            p = corrected.get(f"{pair.task} {pair.arm}", gap.p)
            line |= {"p_holm": p, "verdict": gap.verdict(p, confidence)}
        each.setdefault(pair.side, {})[pair.metric] = line
    beside = _beside(rows, shared, confidence)
    unlearned = {
        task: [split for split, own in sorted(reports.items()) if not learned(own, task)]
        for task in differences
    }
    for task, arms in differences.items():
        for arm, each in arms.items():
            each["per_class"] = _per_class(rows, task, arm, baseline, shared, confidence)
        if len(unlearned[task]) == len(reports):
            _without_verdict(arms, beside.get(task, {}))
    report = {
        "schema": SCHEMA,
        "name": name,
        **{key: first[key] for key in ("tasks", "arms", "classes", "baseline", "primary")},
        "settings": {key: v for key, v in first["settings"].items() if key != "seeds"},
        "splits": sorted(reports),
        "runs": {
            str(split): sorted(run["key"] for run in own["runs"])
            for split, own in sorted(reports.items())
        },
        "failed": {str(split): sentence for split, sentence in sorted(failed.items())},
        "shared": shared,
        "results": {
            task: {
                arm: {
                    side: {
                        metric: [
                            own[split][side][metric] if split in own else None
                            for split in sorted(reports)
                        ]
                        for metric in METRICS[task]
                    }
                    for side in SIDES
                }
                for (of, arm), own in rows.items()
                if of == task
            }
            for task in first["tasks"]
        },
        "differences": differences,
        "beside": beside,
        "unlearned": unlearned,
        "rising": {
            task: [split for split, own in sorted(reports.items()) if _rises(own, task)]
            for task in differences
        },
        "closure": {
            task: {
                arm: share_of_gap(rows, task, arm, PRIMARY[task], confidence)
                for arm in arms
                if is_synthetic(arm) and (task, FULL) in rows
            }
            for task, arms in differences.items()
        },
    }
    return report | {
        "headline": headline(report),
        "verdict": verdict_sentence(report),
        "notes": _notes(report),
    }


def _without_verdict(arms: Mapping[str, Any], beside: Mapping[str, Any]) -> None:
    """Take every verdict on a task back: what no arm has learned tells nothing of any."""
    of_arms = [line for each in arms.values() for side in each.values() for line in side.values()]
    for line in [*of_arms, *beside.values()]:
        if "verdict" in line:
            line["verdict"] = "no verdict"


def headline(report: Mapping[str, Any]) -> str:
    """The verdict in one sentence, with every class that got worse."""
    parts: list[str] = []
    worse: list[str] = []
    for task in report["tasks"]:
        if report["unlearned"].get(task) == report["splits"]:
            parts.append(f"{task} was not learned by any arm")
            continue
        told: dict[str, list[str]] = {}
        gaps = report["differences"].get(task, {})
        for arm, each in gaps.items():
            line = each.get("test", {}).get(report["primary"][task])
            if line and is_synthetic(arm):
                told.setdefault(line["verdict"], []).append(arm)
        parts += in_short(task, told, f"{LEAST_SPLITS} splits")
        worse += got_worse(task, gaps)
    if worse:
        parts.append(f"worse than before: {', '.join(worse)}")
    text = "; ".join(parts) or "there is nothing to compare"
    splits = len(report["splits"])
    return f"Over {splits} split{'s' * (splits != 1)}, {text}."


def verdict_sentence(report: Mapping[str, Any]) -> str:
    """A sentence for each task and synthetic arm: its mean, its gain, and how sure that is."""
    sentences = []
    for task, metric in report["primary"].items():
        for arm, each in report["differences"].get(task, {}).items():
            line = each.get("test", {}).get(metric)
            if not line or not is_synthetic(arm):
                continue
            text = f"{task.capitalize()}, {arm}: {TITLES[metric]} {signed(line)}"
            text += f" against {report['baseline']}, {line['verdict']}"
            sure = line["verdict"] in ("helps", "hurts")
            ends = line["new_low"], line["new_high"]  # None without end
            if sure and (None in ends or ends[0] <= 0 <= ends[1]):
                text += " on these photographs; of new ones of the same line it is not sure"
            sentences.append(f"{text}.")
        for key, what in (
            ("unlearned", "was not learned by any arm"),
            ("rising", "had not levelled off"),
        ):
            splits = report[key].get(task)
            if splits:
                sentences.append(
                    f"{task.capitalize()} {what} in {len(splits)} of {len(report['splits'])} "
                    "splits, so train longer before a gain is claimed."
                )
    return " ".join(sentences) or "There is nothing to compare."


def _shared(reports: Iterable[Mapping[str, Any]], baseline: str | None) -> float:
    """Test images to the baseline's training images, or where there is none to those of the arm
    with the fewest; mean of the splits."""
    ratios = []
    for report in reports:
        trained = {arm: counts["images"] for arm, counts in report["counts"]["train"].items()}
        ratios.append(
            report["counts"]["test"]["images"] / trained.get(baseline, min(trained.values()))
        )
    return sum(ratios) / len(ratios)


def _rises(report: Mapping[str, Any], task: str) -> bool:
    found = report["levelled"].get(task, {}).values()
    return any(not each["levelled"] for each in found)


def _decides(pair: Pair) -> bool:
    return pair.side == "test" and pair.metric == PRIMARY[pair.task]


def _line(gap: Gap) -> dict[str, Any]:
    ends = {name: getattr(gap, name) for name in ("low", "high", "new_low", "new_high")}
    known = {name: end if math.isfinite(end) else None for name, end in ends.items()}
    return {**asdict(gap), **known, "by_split": list(gap.by_split), "splits": gap.splits}


def _per_class(
    rows: Rows, task: str, arm: str, baseline: str, shared: float, confidence: float
) -> dict[str, Any]:
    """The gain of each class on test, Holm's correction over the classes."""
    key = PER_CLASS[task]
    labels = dict.fromkeys(
        label for own in rows[task, arm].values() for label in own["test"].get(key, {})
    )
    two = {(task, name): rows[task, name] for name in (baseline, arm)}
    gaps = {
        pair.metric: pair.gap(shared, confidence)
        for pair in pairs(
            two, baseline, lambda of, label: of.get(key, {}).get(label), lambda _: list(labels)
        )
        if pair.side == "test"
    }
    return _corrected(gaps, confidence)


def _corrected(gaps: Mapping[str, Gap], confidence: float) -> dict[str, Any]:
    """The lines of some gaps, Holm's correction over all of them."""
    corrected = holm({name: gap.p for name, gap in gaps.items()})
    return {
        name: _line(gap)
        | {"p_holm": corrected[name], "verdict": gap.verdict(corrected[name], confidence)}
        for name, gap in gaps.items()
    }


def _beside(rows: Rows, shared: float, confidence: float) -> dict[str, Any]:
    """What the other synthetic arms have above copy-paste, which anything generated must beat."""
    gaps = {
        f"{pair.task} {pair.arm}": pair.gap(shared, confidence)
        for pair in pairs(rows, COPY_PASTE, lambda of, key: of.get(key), lambda t: [PRIMARY[t]])
        if pair.side == "test" and is_synthetic(pair.arm)
    }
    found: dict[str, Any] = {}
    for name, line in _corrected(gaps, confidence).items():
        task, _, arm = name.partition(" ")
        found.setdefault(task, {})[arm] = line
    return found


def beside_sentences(report: Mapping[str, Any], task: str) -> list[str]:
    """A sentence for each arm of a task that stands beside copy-paste."""
    metric = TITLES[report["primary"][task]]
    return [
        f"Against {COPY_PASTE} {arm} has {signed(line)} ({metric}): {line['verdict']}."
        for arm, line in report["beside"].get(task, {}).items()
    ]


def _notes(report: Mapping[str, Any]) -> list[str]:
    splits = len(report["splits"])
    notes = [
        f"Each of the {splits} splits has training images, shots, val, test and a training seed "
        "of its own; generators and filters were fitted anew on each. What a person decided in the "
        "review of the project itself is not part of it.",
        "Intervals and verdicts are about these photographs, however they may be split. The wider "
        "interval is for new photographs of the same line (Nadeau and Bengio 2003), since any two "
        "splits share some of these.",
        "Holm's correction runs over all tasks and synthetic arms, and within an arm over its "
        "classes.",
    ]
    if splits < LEAST_SPLITS:
        notes.append(f"Below {LEAST_SPLITS} splits there is no verdict; take more with --splits.")
    return notes + [f"Split {split} is left out: {why}" for split, why in report["failed"].items()]
