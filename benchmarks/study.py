"""What the studies beside this file share: which photographs, what is mixed from them, and how one
split of them is imported, built and evaluated.
"""

import os
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
USUAL_DATA = ROOT.parent / "shared" / "data"

RATIO = 0.8
PASTED = {"copy-paste": 1.0}
"""What `mixed` is made of: placed and filtered as the project does it, on backgrounds that look
like the defect's own, while the arm `copy-paste` is pasted on any."""


@dataclass(frozen=True)
class Dataset:
    """A study's photographs, what `mixed` is made of, and the aims: gap closure on test by task."""

    shots: int
    layout: str
    tasks: tuple[str, ...]
    generators: Mapping[str, float] = field(default_factory=lambda: PASTED)
    aims: Mapping[str, float] = field(default_factory=dict)


DATASETS = {
    "magnetic-tile": Dataset(
        12,
        "pairs",
        ("detection", "classification", "localisation"),
        aims={"detection": 0.8, "classification": 0.5, "localisation": 0.8},
    ),
    # pasted plainly most are rejected for their rims (docs/experiments.md)
    "neu-det": Dataset(10, "voc", ("detection", "classification"), {"poisson-paste": 1.0}),
}

QUICK: dict[str, Any] = {
    "seeds": (0, 1, 2),
    "arms": ("real", "copy-paste", "mixed", "full"),
    # the one task that learns anything worth comparing in the time; it does not level off either
    "tasks": ("localisation",),
    "localisation_steps": 2400,
    "localisation_px": 128,
    "select": "both",
}


def settings_of(
    usual: Mapping[str, Any], tasks: str | None, arms: str | None, changes: Sequence[str]
) -> dict[str, Any]:
    """A study's settings of `evaluate`, with what the command line says otherwise."""
    lists = {"tasks": tasks, "arms": arms}
    named = {key: tuple(value.split(",")) for key, value in lists.items() if value}
    return {**usual, **named, **options(changes)}


def options(words: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE of the command line, values read as YAML."""
    return {key: yaml.safe_load(value) for key, _, value in (w.partition("=") for w in words)}


def study(
    name: str,
    data: Path,
    home: Path,
    settings: Mapping[str, Any],
    split_seed: int = 0,
    masks: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], str]:
    """Import, build, evaluate; what is finished is not done again. `settings` are those of
    `evaluate`, `masks` those of `masks` that differ from the defaults."""
    from augmentor.records_io import PROJECT_FILE
    from augmentor.workflows.build import build_dataset
    from augmentor.workflows.evaluate import evaluate_project
    from augmentor.workflows.importing import import_project
    from augmentor.workflows.project import (
        MixConfig,
        SourceConfig,
        SplitConfig,
        open_project,
        save_project,
    )
    from downstream.config import ExperimentConfig
    from generator.planner_settings import PlannerSettings

    dataset, reporter = DATASETS[name], Lines()
    if not (home / PROJECT_FILE).is_file():
        source = SourceConfig(path=data.absolute(), layout=dataset.layout, on_bad="skip")
        split = SplitConfig(seed=split_seed, shots=dataset.shots, group_by="similar")
        import_project(home.name, source, split, home, reporter)
    project = open_project(home)
    mix = MixConfig(ratio=RATIO, generators=dict(dataset.generators))
    update = {"evaluate": ExperimentConfig(**settings), "mix": mix}
    update["masks"] = PlannerSettings(**(masks or {}))
    project = save_project(home, project.config.model_copy(update=update))
    build_dataset(project, reporter)
    found = evaluate_project(project, reporter)
    return found.report, found.table


class Lines:
    """Says what happens, with the time, and progress once a minute."""

    def __init__(self) -> None:
        self._told = 0.0

    def say(self, text: str) -> None:
        """Print a line."""
        print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)

    warn = say

    def progress(self, task: str, done: int, total: int, note: str = "") -> None:
        """Print at most one line a minute."""
        if time.monotonic() - self._told > 60:
            self._told = time.monotonic()
            self.say(f"{task}: {done} of {total} {note}")


def describe(name: str, kind: str) -> str:
    """What is run, where, and at which commit."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    load = os.getloadavg()[0]
    return (
        f"{kind} on {name}, commit {commit or 'unknown'}, {time.strftime('%d %B %Y')}\n"
        f"{platform.machine()}, {os.cpu_count()} cores, load {load:.1f} at the start\n"
    )
