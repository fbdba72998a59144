"""Evaluate: the arms' training sets side by side, then detectors on each of them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from augmentor.allocator import keep_freed_memory
from augmentor.errors import UsageError
from augmentor.protocols import FEW_SHOT
from augmentor.workflows.alone import alone
from augmentor.workflows.arms import (
    ARMS,
    COPY_PASTE,
    MIXED,
    resolve_arms,
    without_pastes,
    write_arms_export,
)
from augmentor.workflows.build import remarks
from augmentor.workflows.built import built_summary
from augmentor.workflows.costs import read_costs, spent
from augmentor.workflows.project import Project
from augmentor.workflows.protocols import SETTINGS, protocol_notes, protocol_of
from augmentor.workflows.reporting import Reporter
from downstream.config import STARTS, ExperimentConfig
from downstream.experiment import run_experiment
from downstream.report import format_table
from generator.config import parse


@dataclass(frozen=True)
class Evaluated:
    """The report: as data, as a table for the terminal, and where both files are."""

    report: dict[str, Any]
    table: str
    json: Path
    html: Path


@alone("evaluate")
def evaluate_project(
    project: Project,
    reporter: Reporter,
    *,
    arms: Sequence[str] | None = None,
    ratios: Sequence[float] = (),
    tasks: Sequence[str] | None = None,
    seeds: int | None = None,
    steps: int | None = None,
    jobs: int | None = None,
    select: str | None = None,
    protocol: str | None = None,
) -> Evaluated:
    """Train detectors on each arm and report what was gained.

    Args:
        project: whose arms they are.
        reporter: told of the progress.
        arms: names as in `augmentor.workflows.arms`; None: those of augment.yaml, or the usual.
        ratios: for each, the arm `mixed@RATIO` besides.
        tasks, seeds, jobs, select: in place of those of augment.yaml.
        steps: optimiser steps of every task, in place of those of augment.yaml.
        protocol: whose settings hold where neither augment.yaml nor an argument says otherwise;
            None: that of the split.

    Raises:
        ProjectError: nothing was built yet, an arm is not known, or a setting does not fit.
        RunError: a training failed; the report holds the others.
    """
    keep_freed_memory()
    asked = {"tasks": tasks, "seeds": seeds, "jobs": jobs, "select": select}
    protocol = protocol_of(project, protocol)
    config = evaluation_config(project, asked, arms, ratios, steps, protocol)
    resolved = resolve_arms(project, config.arms or ARMS, reporter)
    reporter.say(f"Writing the arms' training sets: {', '.join(resolved)}")
    notes = [*protocol_notes(protocol, config.model_dump()), *_notes(project)]
    if not (arms or project.config.evaluate.arms or COPY_PASTE in resolved):
        notes.append(f"No defect's place is known, so there is no arm {COPY_PASTE}.")
    with spent(project, "write the arms"):
        export = write_arms_export(project, project.evaluation / "export", resolved, notes=notes)
    path = run_experiment(
        export,
        project.evaluation,
        config,
        on_progress=lambda task, done, total: reporter.progress(task, done, total),
        extras=report_extras(project),
    )
    report = json.loads(path.read_text())
    return Evaluated(report, format_table(report), path, path.with_suffix(".html"))


def evaluation_config(
    project: Project,
    asked: dict[str, Any],
    arms: Sequence[str] | None = None,
    ratios: Sequence[float] = (),
    steps: int | None = None,
    protocol: str = FEW_SHOT,
    command: str = "augment evaluate",
) -> ExperimentConfig:
    """What augment.yaml says of the evaluation, over a protocol's settings and under the options,
    those of them that are not None; `command` is whose options they are.

    Raises:
        ProjectError: a value does not fit; the sentence says which.
    """
    base = project.config.evaluate
    usual = arms or base.arms or without_pastes(project, ARMS)
    named = [*usual, *(f"{MIXED}@{ratio:g}" for ratio in ratios)]
    own = {name: getattr(base, name) for name in base.model_fields_set}
    given = {name: value for name, value in asked.items() if value is not None}
    update = {**given, "arms": tuple(dict.fromkeys(named))}
    if steps is not None:
        update |= {name: steps for name in ExperimentConfig.model_fields if name.endswith("_steps")}
    settings = {**base.model_dump(), **SETTINGS[protocol], **own, **update}
    settings = _in_project(settings, project.folder)
    return parse(settings, ExperimentConfig, command, UsageError)


def _in_project(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The settings with what lies in the project's folder named from anywhere: whoever types
    `--project`, or stands in a folder below, means the same weights."""
    found = dict(settings)
    for name, _ in STARTS.values():
        value = str(settings[name])
        is_path = len(Path(value).parts) > 1 or (folder / value / "result.json").is_file()
        if is_path and (folder / value).exists():
            found[name] = str((folder / value).absolute())
    given, weights = settings["weights_dir"], f"{Path(str(settings['detector'])).stem}.pt"
    places = [folder / given] if given is not None else []
    named = next((p for p in (*places, folder) if (p / weights).is_file()), None)
    if named or places:
        found["weights_dir"] = (named or places[0]).absolute()
    return found


def report_extras(project: Project) -> dict[str, Any]:
    """What a report shows besides: pictures of what was trained on, what the filters removed, and
    what came before the evaluation with its cost (`extras` in downstream/report.py)."""
    sheet = project.dataset / "sheet.png"
    removed = built_summary(project).get("rejections", {})
    return {
        "sheets": [("Real and synthetic, class by class", str(sheet))] if sheet.is_file() else [],
        "removed": [
            {"generator": name, "rule": rule, "number": number}
            for name, rules in removed.items()
            for rule, number in rules.items()
        ],
        "steps": read_costs(project),
    }


def _notes(project: Project) -> list[str]:
    """What the build had to say about the dataset."""
    return remarks(built_summary(project))
