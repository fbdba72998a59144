"""What synthetic defects are worth on real photographs: import, arms, detectors, verdict.

    python benchmarks/gain.py [magnetic-tile|neu-det] [--data DIR] [--home DIR] [--quick]

Twelve real images a class (ten on neu-det), near-identical photographs on one side of the split.
Every arm is trained with the same steps and seeds, and the aims are judged on test. Killed and
repeated, it continues. What the mix is made of was compared on val: benchmarks/levers.py.
The full study takes a night on two cores (magnetic-tile: 10 hours by the time of a step), `--quick`
an hour: localisation alone.
"""

import argparse
import json
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

BEFORE = """\
A throw-away study that this one has to beat (not this project's code; magnetic-tile, 12 images a
class, 60 % / 40 % split by class, yolo11n from scratch at 256 px, batch 16, one seed, test mAP50):

steps     real  + copy-paste (240)  + 3.8 M inpainting model (240)  all real (about 230)
  700    0.051               0.142                           0.151                 0.157
1,600    0.254               0.299                           0.256                 0.430

It kept no near-identical photographs together: of the test defects of such a split 55 % have one
among all real training images, 26 % among 12 a class (docs/experiments.md). That lifts its ceiling.
"""

RATIO = 0.8
PASTED = {"copy-paste": 1.0}
"""What `mixed` is made of: placed and filtered as the project does it, on backgrounds that look
like the defect's own, while the arm `copy-paste` is pasted on any."""

MIXES = ("mixed", f"compact+copy-paste@{RATIO}")
"""The arms of ours that val chooses among."""


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

FULL: dict[str, Any] = {
    "seeds": (0, 1, 2),
    "arms": ("real", "copy-paste", *MIXES, "full"),
    # as many as in `BEFORE`; with 3,000 this study alone would take magnetic-tile past a night
    "detection_steps": 1600,
    "detection_px": 256,
    # found on val of a split of its own (docs/experiments.md)
    "detection_lr": 1e-3,
    "detection_mosaic": 1.0,
    "classification_steps": 900,
    "classification_px": 128,
    "localisation_steps": 4000,
    "localisation_px": 128,
    "select": "both",
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


def main() -> None:
    """Run a study and print its table and its aims."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", nargs="?", choices=DATASETS, default="magnetic-tile")
    parser.add_argument("--data", type=Path, help="the photographs; default: ../shared/data/NAME")
    parser.add_argument("--home", type=Path, default=ROOT / "scratch" / "gain")
    parser.add_argument("--quick", action="store_true", help="an hour instead of a night")
    parser.add_argument("--tasks", help="comma-separated; default: all that the labels allow")
    parser.add_argument("--arms", help="comma-separated, instead of the study's own")
    parser.add_argument("--seeds", type=int, help="how many, instead of the study's three")
    parser.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="settings of `evaluate` instead of the study's own, e.g. detection_steps=1600",
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at once")
    given = parser.parse_args()
    data = given.data or USUAL_DATA / given.dataset
    if not data.is_dir():
        raise SystemExit(f"error: there is no {data}; name the photographs with: --data DIR")
    kind = "QUICK study (localisation alone, 128 px)" if given.quick else "study"
    print(describe(given.dataset, kind), flush=True)
    if given.dataset == "magnetic-tile":
        print(BEFORE, flush=True)
    began = time.monotonic()
    home = given.home / f"{given.dataset}{'-quick' if given.quick else ''}"
    settings: dict[str, Any] = {"tasks": DATASETS[given.dataset].tasks, "jobs": given.jobs}
    settings |= QUICK if given.quick else FULL
    settings = settings_of(settings, given.tasks, given.arms, given.set)
    if given.seeds:
        settings["seeds"] = tuple(range(given.seeds))
    print(json.dumps(settings), flush=True)
    report, table = study(given.dataset, data, home, settings)
    print("This study, everything measured here:\n")
    print(table)
    print(aims(report, DATASETS[given.dataset].aims))
    spent = report["seconds"]["runs"] / 3600
    print(f"\nthis call took {(time.monotonic() - began) / 60:.0f} min; all runs {spent:.1f} h")


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
    from augmentor.workflows.build import build_dataset
    from augmentor.workflows.evaluate import evaluate_project
    from augmentor.workflows.importing import import_project
    from augmentor.workflows.project import (
        FILE_NAME,
        MixConfig,
        SourceConfig,
        SplitConfig,
        open_project,
        save_project,
    )
    from downstream.config import ExperimentConfig
    from generator.planner_settings import PlannerSettings

    dataset, reporter = DATASETS[name], Lines()
    if not (home / FILE_NAME).is_file():
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


def aims(report: Mapping[str, Any], wanted: Mapping[str, float]) -> str:
    """For each task the arm that val prefers, what it closes of the gap on test, and the aim."""
    lines = ["The mix that val prefers, judged on test:"]
    for task, metric in report["primary"].items():
        arms = report["results"].get(task, {})
        mixes = [arm for arm in MIXES if arm in arms]
        if not mixes:
            lines.append(f"- {task}: no mix was measured")
            continue
        best = max(mixes, key=lambda arm: arms[arm]["val"][metric]["mean"])
        lines.append(f"- {task}: {best}, {closure(report, task, best)}; {aim(wanted.get(task))}")
        for baseline, gaps in (report.get("differences_to") or {}).items():
            gap = gaps.get(task, {}).get(best, {}).get(metric)
            if gap is not None:
                interval = f"{gap['difference']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}]"
                lines.append(f"  against {baseline}: {interval}, {gap['verdict']}")
    return "\n".join(lines)


def closure(report: Mapping[str, Any], task: str, arm: str) -> str:
    """The share of the gap between `real` and `full` that an arm closes, in words."""
    found = report.get("closure", {}).get(task, {}).get(arm)
    if not found or found.get("value") is None:
        why = (found or {}).get("reason", "it was not measured")
        return f"closure of the gap {why if why.startswith('not defined') else f'unknown: {why}'}"
    return f"closes {found['value']:.0%} [{found['low']:.0%}, {found['high']:.0%}] of the gap"


def aim(share: float | None) -> str:
    """The aim, in words."""
    return "no aim is set" if share is None else f"the aim is {share:.0%}"


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


if __name__ == "__main__":
    main()
