"""From finished runs to report.json, to a table, and to a page.

`report.json`, schema 2:

- `schema`: 2
- `name`, `export`: of the export, and its folder
- `verdict`: a sentence or two: which arm helps which task, and by how much, or that none does
- `classes`, `tasks`, `arms`, `seeds`: what was compared; `baseline` is the arm that all others are
  compared with, or null
- `counts`: `train` by arm, `val`, `test`: `images`, `real`, `synthetic`, `by_generator`, `clean`,
  `by_class` (image-level), `instances` (boxes)
- `primary`: by task, the metric that the verdict is about
- `results`: by task, then arm:
  - `metrics`: by name `mean`, `std` over seeds (null for one seed), `per_seed`; on test; and the
    interval `low`, `high` of the mean
  - `val`: the same on val
  - `per_class`: by class, mean over seeds of AP50 (detection), F1, or pixel AP over the class's
    images and all good ones (localisation); null where test has none
  - `labels`, `seeds` (those that finished), `thresholds` (detection, by seed),
    `confusion_matrix` (classification, summed over seeds, rows are the truth), `defect_share`
    (localisation: the share of defect pixels on test, which is chance)
  - `val_chosen` (with `select: both`): `steps` by seed, `metrics` (on test) and `val` of the
    weights that val would have chosen
- `differences`: by task, then arm other than the baseline, then metric: `difference`, `low`,
  `high`, `p`, `verdict` (`helps`, `hurts`, `no evidence`, or `no verdict` below 3 seeds); under
  `per_class` the same and `p_holm`, corrected across classes. The primary metric of a synthetic
  arm has `p_holm`, too, corrected across the synthetic arms of all tasks
- `differences_to`: the same by baseline: `real`, and `copy-paste` where there is that arm
- `closure`: by task, then arm: `value`, `low`, `high` of (arm - real) / (full - real) in the
  primary metric, or null and a `reason`
- `power`: by task, or null: `spread` of a difference to the baseline from seed to seed, the error
  that the test `images` bring, the number of `comparisons` that
  are corrected for, the `smallest` difference that they can show, and the seeds `needed`
  by difference (null: the test images are too few)
- `levelled`: by task, then arm, where it is known: `levelled`, `before`, `after` (on val), `steps`
  at which they were taken, `by` (`checks` of one training, or `shorter runs`)
- `curves`: by task, then arm, then class: precision on test at recalls 0, 0.01 .. 1
- `misses`: by task, or null: see misses.py
- `hashes`: of what each split holds: `train` by arm, `val`, `test`
- `runs`: task, arm, seed, key, folder, `state` (`done`, `reused`, `failed`), steps, `history`
  (step, loss), `seconds` on the clock, `cpu_seconds`, `gpu_seconds` (in which it held a GPU)
- `failed`: sentences, one a failed run
- `settings`, `versions`, `machine`: all that was set, what it ran with, processors
- `seconds`: `total` of this call, `runs` summed over all runs, also those of earlier calls
- `costs`: of all runs of a task and an arm: `runs`, `seconds`, `cpu`, `gpu`
- `extras`: what whoever asked for the experiment knows besides: `sheets` (title, path of a
  picture), `removed` (generator, rule, number of samples), `steps` (name, seconds, ... of what came
  before)
- `headline`: the verdict in one sentence; `findings`: by task, sentences on copy-paste, the
  gap to all real data, power
- `notes`: what a reader must know: from scratch, few seeds, few images of a class, ...
"""

import math
import os
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from downstream.comparison import correct_over_arms
from downstream.config import BASELINE, LEAST_SEEDS, PRIMARY, ExperimentConfig, Task
from downstream.dataset import GOOD, Export
from downstream.evidence import costs, evidence, gpu_seconds, hashes
from downstream.findings import findings
from downstream.names import METRICS, PER_CLASS, is_synthetic
from downstream.page import render_html
from downstream.report_file import SCHEMA
from downstream.runs import Run, versions
from downstream.table import format_table
from downstream.verdict import headline, verdict_sentence

__all__ = ["build_report", "format_table", "render_html"]

WITHOUT_DOWNLOAD = " To have some without a download: augment weights pretrain FOLDER --task {task}"

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
    extras: Mapping[str, Any] | None = None,
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
        extras: what the experiment itself can't know: `sheets`, `removed`, `steps`; see above.
    """
    arms = list(config.arms or export.arms)
    baseline = BASELINE if BASELINE in arms else None
    done = [run for run in runs if run.key in results]
    summary: dict[str, Any] = {}
    told: dict[str, Any] = {}
    for task in config.tasks:
        summary[task] = {}
        for arm in arms:
            own = [results[run.key] for run in done if (run.task, run.arm) == (task, arm)]
            if own:
                summary[task][arm] = _summarise(task, own)
        told[task] = evidence(export, config, task, done, results)
        for arm, own in told[task].pop("intervals").items():
            for name, (low, high) in own.items():
                summary[task][arm]["metrics"][name] |= {"low": low, "high": high}
    bases = list(dict.fromkeys(base for each in told.values() for base in each["differences_to"]))
    differences_to: dict[str, dict[str, Any]] = {
        base: {task: told[task]["differences_to"].get(base, {}) for task in config.tasks}
        for base in bases
    }
    primary: dict[str, str] = {task: PRIMARY[task] for task in config.tasks}
    for found in differences_to.values():
        correct_over_arms(found, primary, config.confidence)
    report = {
        "schema": SCHEMA,
        "name": export.name,
        "export": str(export.folder),
        "classes": list(export.classes),
        "tasks": list(config.tasks),
        "arms": arms,
        "baseline": baseline,
        "seeds": list(config.seeds),
        "primary": primary,
        "counts": {
            "train": {arm: export.counts(export.items("train", arm)) for arm in arms},
            "val": export.counts(export.items("val")),
            "test": export.counts(export.items("test")),
        },
        "results": summary,
        "differences": differences_to.get(BASELINE, {task: {} for task in config.tasks}),
        "differences_to": differences_to,
        **{
            name: {task: told[task][name] for task in config.tasks}
            for name in ("closure", "power", "levelled", "curves", "misses")
        },
        "hashes": hashes(export, arms),
        "runs": [_run_line(run, results, failed, reused) for run in runs],
        "failed": [failed[run.key] for run in runs if run.key in failed],
        "settings": config.model_dump(mode="json"),
        "versions": versions(),
        "machine": {"system": platform.platform(), "cpus": os.cpu_count()},
        "seconds": {
            "total": round(seconds, 1),
            # arms of the same images share a training
            "runs": round(sum(results[key]["seconds"] for key in {run.key for run in done}), 1),
        },
        "costs": costs(runs, results),
        "extras": {"sheets": [], "removed": [], "steps": [], **(extras or {})},
    }
    report["notes"] = [*notes, *export.notes, *_notes(export, config, done, results)]
    report["verdict"] = verdict_sentence(report)
    report["headline"] = headline(report)
    report["findings"] = findings(report)
    return report


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
    elif task == "classification":
        matrices = [each["metrics"]["test"]["confusion_matrix"] for each in own]
        result["confusion_matrix"] = np.sum(matrices, axis=0).tolist()
    else:
        result["defect_share"] = own[0]["metrics"]["test"]["defect_share"]
    chosen = [each["val_chosen"] for each in own if "val_chosen" in each]
    if chosen:
        result["val_chosen"] = {
            "steps": [each["step"] for each in chosen],
            "metrics": {name: _spread(chosen, "test", name) for name in METRICS[task]},
            "val": {name: _spread(chosen, "val", name) for name in METRICS[task]},
        }
    return result


def _spread(own: Sequence[dict[str, Any]], split: str, name: str) -> dict[str, Any]:
    values = [each["metrics"][split][name] for each in own]
    if None in values:  # such as an image AUROC where the split has no good image
        return {"mean": None, "std": None, "per_seed": values}
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
    line |= {"state": state} | {name: result[name] for name in kept}
    return line | {"gpu_seconds": gpu_seconds(result)}


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
    elif seeds < LEAST_SEEDS:
        notes.append(
            f"{seeds} seeds: no verdict is given below {LEAST_SEEDS}. The intervals hold the "
            "chance of so few trainings and are therefore very wide."
        )
    elif seeds < 5:
        notes.append(
            f"{seeds} seeds: the intervals are wide, since so few trainings hardly show how much "
            "one differs from the next; five or more seeds narrow them."
        )
    # a bootstrap's p is 2 / (B + 1) at least, and Holm multiplies the least by how many there are
    decide = len(config.tasks) * sum(is_synthetic(arm) for arm in config.arms or export.arms)
    most = max(len(export.classes), decide)
    least = math.ceil(2 * (most + 1) / (1 - config.confidence))
    if config.bootstrap_samples < least:
        notes.append(
            f"{config.bootstrap_samples} resamples are too few to call one of {most} classes or "
            f"arms better or worse, however large the difference; set bootstrap_samples to {least}."
        )
    for task in config.tasks:
        own = [results[run.key] for run in done if run.task == task]
        if own and all(each["from_scratch"] for each in own):
            notes.append(
                f"{task.capitalize()}: trained from scratch ({own[0]['weights']}); gains shrink "
                "with pretrained weights." + WITHOUT_DOWNLOAD.format(task=task)
            )
        elif own:
            notes.append(
                f"{task.capitalize()}: every arm started from the same weights "
                f"({own[0]['weights']}); what these were trained on is not part of this report."
            )
    if "detection" in config.tasks:
        notes.append(
            f"Detectors took {config.detection_steps} steps of {config.detection_batch} images at "
            f"{config.detection_px} px in every arm, at most {config.detection_most_clean:.0%} of "
            "them without a defect, of the others every class as often as any; a short training "
            "flatters or wrongs an arm with more images, so look at the loss curves before a gain "
            "is claimed." + _last_word(config, "detection")
        )
    if "classification" in config.tasks:
        val = {item.class_name == GOOD for item in export.items("val")}
        adjusted = config.with_good and config.classification_adjust and len(val) == 2
        unsaid = sum(not item.has_one_label for item in export.items("train"))
        notes.append(
            f"Classifiers took {config.classification_steps} class-balanced steps of "
            f"{config.classification_batch} images, resized to a square of "
            f"{config.classification_px} px, in every arm."
            + (" Val chose where good ends and defects begin." if adjusted else "")
            + (
                " Synthetic images that show defects of several classes, so that no label of "
                f"theirs is right, were not given to classifiers: {unsaid}."
                if unsaid
                else ""
            )
            + _last_word(config, "classification")
        )
    if "localisation" in config.tasks:
        notes.append(
            f"Localisers (U-Net, focal loss) took {config.localisation_steps} steps of "
            f"{config.localisation_batch} images in every arm. Images are resized to a square of "
            f"{config.localisation_px} px, and all metrics are those of the pixels of that square; "
            "an image's score is the maximum of its map averaged over 21 x 21 px."
            + _last_word(config, "localisation")
        )
    for task in config.tasks:
        own_seeds = Counter(run.arm for run in done if run.task == task)
        if short := [f"{arm} {n}" for arm, n in own_seeds.items() if n < seeds]:
            notes.append(
                f"{task.capitalize()}: of {seeds} seeds fewer finished of {', '.join(short)}. "
                "Values are means of those that did, differences of those that both arms have."
            )
    test = export.counts(export.items("test"))
    counted = test["by_class"] if export.task == "classify" else test["instances"]
    assert isinstance(counted, dict)
    few = [f"{name} {counted[name]}" for name in export.classes if counted[name] < FEW]
    if few:
        notes.append(f"Few defects on test, so wide intervals: {', '.join(few)}.")
    return notes + [note for task in config.tasks if (note := _lost(export, config, task))]


def _lost(export: Export, config: ExperimentConfig, task: Task) -> str:
    """Of which classes real defects vanish at the size that a task is trained and measured at, as
    a sentence; nothing where none does."""
    px, lost = getattr(config, f"{task}_px"), Counter[str]()
    for item in export.all_items:
        wide, high = px / item.width, px / item.height
        if task == "detection":  # keeps the aspect; the others see squares
            wide = high = min(wide, high)
        for k, x1, y1, x2, y2 in item.boxes if item.kind == "real" else ():
            lost[export.classes[k]] += min((x2 - x1) * wide, (y2 - y1) * high) < 1
    named = ", ".join(f"{name} {lost[name]}" for name in export.classes if lost[name])
    return named and (
        f"{task.capitalize()}: at {px} px these real defects are narrower than a pixel, so that "
        f"little or nothing is left of them: {named}; raise evaluate.{task}_px in augment.yaml."
    )


def _last_word(config: ExperimentConfig, task: Task) -> str:
    share = config.finish_on_real(task)
    said = f" The last {share:.0%} of the steps drew real images alone"
    return f"{said}, of each class that an arm has any of." if share else ""
