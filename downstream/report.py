"""From finished runs to report.json, to a table, and to a page.

`report.json`, schema 1:

- `schema`: 1
- `name`, `export`: of the export, and its folder
- `verdict`: a sentence or two: which arm helps which task, and by how much, or that none does
- `classes`, `tasks`, `arms`, `seeds`: what was compared; `baseline` is the arm that all others are
  compared with, or null
- `counts`: `train` by arm, `val`, `test`: `images`, `real`, `synthetic`, `by_generator`, `clean`,
  `by_class` (image-level), `instances` (boxes)
- `primary`: by task, the metric that the verdict is about
- `results`: by task, then arm:
  - `metrics`: by name `mean`, `std` over seeds (null for one seed), `per_seed`; on test
  - `val`: the same on val
  - `per_class`: by class, mean over seeds of AP50 (detection) or F1; null where test has none
  - `labels`, `seeds` (those that finished), `thresholds` (detection, by seed),
    `confusion_matrix` (classification, summed over seeds, rows are the truth)
- `differences`: by task, then arm other than the baseline, then metric: `difference`, `low`,
  `high`, `p`, `verdict`; under `per_class` the same and `p_holm`, corrected across classes
- `runs`: task, arm, seed, key, folder, `state` (`done`, `reused`, `failed`), seconds, steps,
  `history` (step, loss)
- `failed`: sentences, one a failed run
- `settings`, `versions`, `machine`: all that was set, what it ran with, processors
- `seconds`: `total` of this call, `runs` summed over all runs, also those of earlier calls
- `notes`: what a reader must know: from scratch, few seeds, few images of a class, ...
"""

import os
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from downstream.comparison import compare
from downstream.config import BASELINE, PRIMARY, ExperimentConfig
from downstream.dataset import Export
from downstream.names import METRICS, PER_CLASS, PER_CLASS_TITLES, TITLES
from downstream.page import render_html
from downstream.runs import Run, versions
from downstream.verdict import signed, verdict_sentence

__all__ = ["build_report", "format_table", "render_html"]

FEW = 10
"""A class with fewer test instances than this is named in the notes."""

Results = Mapping[str, dict[str, Any]]


def build_report(
    export: Export,
    config: ExperimentConfig,
    runs: Sequence[Run],
    results: Results,
    failed: Mapping[str, str],
    reused: set[str],
    notes: Sequence[str],
    seconds: float,
) -> dict[str, Any]:
    """Gather runs into a report.

    Args:
        export: what was trained on.
        config: with its arms resolved.
        runs: all runs of the experiment, done or not.
        results: by key, the results of those that are done.
        failed: by key, a sentence for those that failed.
        reused: keys of the runs that were done before.
        notes: sentences to begin the notes with.
        seconds: how long this call took.
    """
    arms = list(config.arms or export.arms)
    baseline = BASELINE if BASELINE in arms else None
    done = [run for run in runs if run.key in results]
    summary: dict[str, Any] = {}
    differences: dict[str, Any] = {}
    for task in config.tasks:
        summary[task] = {}
        for arm in arms:
            own = [results[run.key] for run in done if (run.task, run.arm) == (task, arm)]
            if own:
                summary[task][arm] = _summarise(task, own)
        differences[task] = compare(export, config, task, done, results, baseline)
    report = {
        "schema": 1,
        "name": export.name,
        "export": str(export.folder),
        "classes": list(export.classes),
        "tasks": list(config.tasks),
        "arms": arms,
        "baseline": baseline,
        "seeds": list(config.seeds),
        "primary": {task: PRIMARY[task] for task in config.tasks},
        "counts": {
            "train": {arm: export.counts(export.items("train", arm)) for arm in arms},
            "val": export.counts(export.items("val")),
            "test": export.counts(export.items("test")),
        },
        "results": summary,
        "differences": differences,
        "runs": [_run_line(run, results, failed, reused) for run in runs],
        "failed": [failed[run.key] for run in runs if run.key in failed],
        "settings": config.model_dump(mode="json"),
        "versions": versions(),
        "machine": {"system": platform.platform(), "cpus": os.cpu_count()},
        "seconds": {
            "total": round(seconds, 1),
            "runs": round(sum(results[run.key]["seconds"] for run in done), 1),
        },
    }
    report["notes"] = [*notes, *export.notes, *_notes(export, config, done, results)]
    report["verdict"] = verdict_sentence(report)
    return report


def format_table(report: Mapping[str, Any]) -> str:
    """The results as markdown that also reads well in a terminal."""
    parts = [str(report["verdict"]), ""]
    for task in report["tasks"]:
        arms = report["results"].get(task, {})
        if not arms:
            parts += [f"**{task}**: no run finished.", ""]
            continue
        names = METRICS[task]
        primary = report["primary"][task]
        head = ["arm", "real", "synthetic", *(TITLES[m] for m in names)]
        head += [f"{TITLES[primary]} against real", "verdict"]
        order = [arm for arm in report["arms"] if arm in arms]
        rows = [_table_row(report, task, arm, names, primary) for arm in order]
        seeds = len(report["seeds"])
        parts += [f"**{task}** on test, mean of {seeds} seed{'s' * (seeds != 1)}", ""]
        parts += [_markdown(head, rows), ""]
        kind = PER_CLASS_TITLES[task]
        labels = arms[order[0]]["labels"]
        rows = [[arm, *(_number(arms[arm]["per_class"][c]) for c in labels)] for arm in order]
        parts += [_markdown([f"{kind} by class", *labels], rows), ""]
    if report["notes"]:
        parts += [*(f"- {note}" for note in report["notes"]), ""]
    return "\n".join(parts).rstrip() + "\n"


def _table_row(
    report: Mapping[str, Any], task: str, arm: str, names: Sequence[str], primary: str
) -> list[str]:
    counts, each = report["counts"]["train"][arm], report["results"][task][arm]
    row = [arm, str(counts["real"]), str(counts["synthetic"])]
    row += [_number(each["metrics"][name]["mean"]) for name in names]
    gap = report["differences"].get(task, {}).get(arm, {}).get(primary)
    return [*row, *((signed(gap), gap["verdict"]) if gap else ("", ""))]


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[k]) for row in [head, *rows]) for k in range(len(head))]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in lines
    )


def _summarise(task: str, own: Sequence[dict[str, Any]]) -> dict[str, Any]:
    labels = own[0]["labels"]
    result: dict[str, Any] = {
        "seeds": [each["seed"] for each in own],
        "metrics": {name: _spread(own, "test", name) for name in METRICS[task]},
        "val": {name: _spread(own, "val", name) for name in METRICS[task]},
        "per_class": {
            label: _mean_or_none([e["metrics"]["test"][PER_CLASS[task]][k] for e in own])
            for k, label in enumerate(labels)
        },
        "labels": labels,
    }
    if task == "detection":
        result["thresholds"] = [each["threshold"] for each in own]
    else:
        matrices = [each["metrics"]["test"]["confusion_matrix"] for each in own]
        result["confusion_matrix"] = np.sum(matrices, axis=0).tolist()
    return result


def _spread(own: Sequence[dict[str, Any]], split: str, name: str) -> dict[str, Any]:
    values = [each["metrics"][split][name] for each in own]
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "std": std, "per_seed": values}


def _mean_or_none(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _run_line(
    run: Run, results: Results, failed: Mapping[str, str], reused: set[str]
) -> dict[str, Any]:
    line: dict[str, Any] = {"task": run.task, "arm": run.arm, "seed": run.seed, "key": run.key}
    line["folder"] = f"runs/{run.folder.name}"
    if run.key not in results:
        return line | {"state": "failed", "error": failed.get(run.key, "not done")}
    result = results[run.key]
    kept = ("seconds", "cpu_seconds", "steps", "selected_step", "weights", "device", "history")
    state = "reused" if run.key in reused else "done"
    return line | {"state": state} | {name: result[name] for name in kept}


def _notes(
    export: Export, config: ExperimentConfig, done: Sequence[Run], results: Results
) -> list[str]:
    notes = []
    seeds = len(config.seeds)
    if seeds == 1:
        notes.append(
            "One seed alone: the intervals hold the chance of the test images and not that of the "
            "training, so they are far too narrow."
        )
    elif seeds < 5:
        notes.append(
            f"{seeds} seeds: the intervals are weak, since so few trainings hardly show how much "
            "one differs from the next; five or more seeds are better."
        )
    for task in config.tasks:
        own = [results[run.key] for run in done if run.task == task]
        if own and all(each["from_scratch"] for each in own):
            notes.append(
                f"{task.capitalize()}: trained from scratch ({own[0]['weights']}); gains shrink "
                "with pretrained weights."
            )
    if "detection" in config.tasks:
        notes.append(
            f"Detectors took {config.detection_steps} steps of {config.detection_batch} images at "
            f"{config.detection_px} px in every arm, at most {config.detection_most_clean:.0%} of "
            "them without a defect; a short training flatters every arm with more "
            "images, so look at the loss curves before a gain is claimed."
        )
    if "classification" in config.tasks:
        notes.append(
            f"Classifiers took {config.classification_steps} class-balanced steps of "
            f"{config.classification_batch} images, resized to a square of "
            f"{config.classification_px} px, in every arm."
        )
    test = export.counts(export.items("test"))
    counted = test["by_class"] if export.task == "classify" else test["instances"]
    assert isinstance(counted, dict)
    few = [f"{name} {counted[name]}" for name in export.classes if counted[name] < FEW]
    if few:
        notes.append(f"Few defects on test, so wide intervals: {', '.join(few)}.")
    return notes


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"
