"""What stands behind a verdict: every number of one task of a report that needs predictions."""

from collections.abc import Mapping, Sequence
from typing import Any

from downstream.comparison import Measured, closures, differences, intervals, seed_power
from downstream.config import BASELINE, PRIMARY, ExperimentConfig
from downstream.curves import precision_at_recalls
from downstream.dataset import Export, Item
from downstream.files import sha256_of
from downstream.levelled import levelled
from downstream.misses import misses
from downstream.names import COPY_PASTE, FULL, is_synthetic
from downstream.runs import Run

Results = Mapping[str, dict[str, Any]]


def evidence(
    export: Export, config: ExperimentConfig, task: str, done: Sequence[Run], results: Results
) -> dict[str, Any]:
    """Differences, intervals, closures, power, levelling, curves and misses of one task.

    Args:
        export: that was trained and tested on.
        config: with its arms resolved.
        task: of which these are.
        done: finished runs, of any task.
        results: by key, what they wrote.

    Returns:
        `intervals`, `differences_to` (by baseline), `closure`, `power`, `levelled`, `curves`,
        `misses`: see report.py.
    """
    measured = Measured(export, config, task, done, results)
    metric = PRIMARY[task]
    own = {arm: list(by_seed.values()) for arm, by_seed in measured.by_arm.items()}
    have_base = BASELINE in own
    found = {arm: levelled(task, runs, results) for arm, runs in own.items()}
    corrected = {(run.task, run.arm) for run in done if is_synthetic(run.arm)}
    return {
        "intervals": intervals(measured),
        "differences_to": {
            base: differences(measured, base) for base in (BASELINE, COPY_PASTE) if base in own
        },
        "closure": closures(measured, metric, BASELINE, FULL) if have_base else {},
        "power": seed_power(measured, metric, BASELINE, len(corrected) or 1) if have_base else None,
        "levelled": {arm: each for arm, each in found.items() if each is not None},
        "curves": {
            arm: precision_at_recalls(export, task, runs, measured.labels(arm))
            for arm, runs in own.items()
        },
        "misses": _misses(measured, task, metric),
    }


def _misses(measured: Measured, task: str, metric: str) -> dict[str, Any] | None:
    """Of the arm that is best on val among those with synthetic images, beside the baseline."""
    best: tuple[float, str] | None = None
    for arm in measured.by_arm:
        seeds = measured.seeds(arm, BASELINE)
        if not is_synthetic(arm) or not seeds:
            continue
        keys = [measured.by_arm[arm][seed].key for seed in seeds]
        value = sum(measured.results[key]["metrics"]["val"][metric] for key in keys) / len(keys)
        if best is None or value > best[0]:
            best = (value, arm)
    if best is None:
        return None
    seeds = measured.seeds(best[1], BASELINE)
    before = [measured.by_arm[BASELINE][seed] for seed in seeds]
    after = [measured.by_arm[best[1]][seed] for seed in seeds]
    return misses(measured.export, task, before, after, measured.results)


def hashes(export: Export, arms: Sequence[str]) -> dict[str, Any]:
    """SHA-256 of what each split holds, pixels and labels, whatever the files are called: `train`
    by arm, `val`, `test`. Two experiments with one `test` were tested on the same images."""
    return {
        "train": {arm: _hash(export.items("train", arm)) for arm in arms},
        "val": _hash(export.items("val")),
        "test": _hash(export.items("test")),
    }


def _hash(items: Sequence[Item]) -> str:
    return sha256_of(sorted([i.sha256, i.class_name, i.label_sha256, i.mask_sha256] for i in items))


def costs(runs: Sequence[Run], results: Results) -> list[dict[str, Any]]:
    """Seconds, CPU seconds and GPU seconds by task and arm, all seeds together.

    A GPU second is one in which the run held the GPU, however busy it was.
    """
    lines: dict[tuple[str, str], dict[str, Any]] = {}
    for run in runs:
        if run.key not in results:
            continue
        result = results[run.key]
        line = lines.setdefault(
            (run.task, run.arm),
            {"task": run.task, "arm": run.arm, "runs": 0, "seconds": 0.0, "cpu": 0.0, "gpu": 0.0},
        )
        line["runs"] += 1
        line["seconds"] = round(line["seconds"] + result["seconds"], 1)
        line["cpu"] = round(line["cpu"] + result["cpu_seconds"], 1)
        line["gpu"] = round(line["gpu"] + gpu_seconds(result), 1)
    return list(lines.values())


def gpu_seconds(result: Mapping[str, Any]) -> float:
    """How long a run held a GPU: 0 on a CPU."""
    return float(result["seconds"]) if str(result["device"]).startswith("cuda") else 0.0
