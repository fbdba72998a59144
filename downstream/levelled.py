"""Has a training levelled off, or would more steps still lift it?

A short training flatters every arm with more images, so a gain is worth little while the arm of all
real data still rises. What is looked at is val: either the checks of one training, where `select`
asks for them, or finished runs that differ from these in nothing but a smaller number of steps.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from downstream.config import PRIMARY
from downstream.files import read_json
from downstream.runs import Run

LATE = 2 / 3
"""The checks up to this share of the steps are compared with the last one."""
LEAST_GAIN, LEAST_SHARE = 0.01, 0.05
"""A training still rises when it gained more than both: in units of the metric, and as a share of
what it has in the end."""


def levelled(
    task: str, runs: Sequence[Run], results: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any] | None:
    """Whether the training of one arm has levelled off.

    Args:
        task: what was trained.
        runs: of one arm, one a seed, all done.
        results: by key, what those runs wrote; `checks`, where there are any, are (step, score).

    Returns:
        `levelled`; `before` and `after`, the mean scores on val that are compared; `steps`, when
        they were taken; `by`: `checks`, or `shorter runs`. None where there is neither.
    """
    found = _by_checks([results[run.key] for run in runs]) or _by_shorter(task, runs, results)
    if found is None:
        return None
    gain = found["after"] - found["before"]
    rises = gain > max(LEAST_GAIN, LEAST_SHARE * abs(found["after"]))
    return {"levelled": not rises, **found}


def _by_checks(own: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    tables = [np.array(each.get("checks") or []) for each in own]
    if not tables or any(len(table) < 3 for table in tables):
        return None
    before, steps = [], []
    for table in tables:
        early = table[table[:, 0] <= LATE * table[-1, 0]]
        best = int(early[:, 1].argmax())
        before.append(early[best, 1])
        steps.append(early[best, 0])
    return {
        "by": "checks",
        "before": float(np.mean(before)),
        "after": float(np.mean([table[-1, 1] for table in tables])),
        "steps": [int(np.mean(steps)), int(tables[0][-1, 0])],
    }


def _by_shorter(
    task: str, runs: Sequence[Run], results: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any] | None:
    """Against the longest of the shorter trainings that every seed has."""
    name, metric = f"{task}_steps", PRIMARY[task]
    shorter: list[dict[int, float]] = []
    for run in runs:
        found: dict[int, float] = {}
        own = _but_steps(run.inputs, run, name)
        for folder in sorted(run.folder.parent.glob(f"{task}-seed{run.seed}-*")):
            inputs, result = read_json(folder / "config.json"), read_json(folder / "result.json")
            steps = inputs.get("settings", {}).get(name)
            if result and steps and _but_steps(inputs, run, name) == own:
                found[steps] = result["metrics"]["val"][metric]
        shorter.append(found)
    now = runs[0].inputs.get("settings", {}).get(name)
    common = set.intersection(*(set(found) for found in shorter)) if shorter else set()
    common = {steps for steps in common if now and steps <= LATE * now}
    if not common:
        return None
    steps = max(common)
    return {
        "by": "shorter runs",
        "before": float(np.mean([found[steps] for found in shorter])),
        "after": float(np.mean([results[run.key]["metrics"]["val"][metric] for run in runs])),
        "steps": [steps, now],
    }


def _but_steps(inputs: Mapping[str, Any], run: Run, name: str) -> str:
    """What a run depends on besides its steps, of all that config.json says."""
    kept = {key: value for key, value in inputs.items() if key in run.inputs}
    kept["settings"] = {k: v for k, v in inputs.get("settings", {}).items() if k != name}
    return json.dumps(kept, sort_keys=True, default=str)
