"""A network that has seen defects before it sees yours: trained on drawn ones, once a task."""

from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote
from typing import Any, get_args

from augmentor.errors import ProjectError, UsageError
from augmentor.exporters import write_training_export
from augmentor.importers import import_source
from augmentor.records_io import PROJECT_FILE
from augmentor.sample_data import VARIED, write_sample_dataset
from augmentor.workflows.alone import working_on
from augmentor.workflows.project import Project, edit_project
from augmentor.workflows.reporting import Reporter
from downstream.config import PRIMARY, STARTS, ExperimentConfig, Task
from downstream.dataset import read_export
from downstream.files import read_json, write_json
from downstream.names import TITLES
from downstream.runs import beginning, execute, plan_runs, read_result
from generator.config import parse

ABOUT = "pretrained-{task}.json"
"""In the folder: what was asked for last, and what came of it."""

ARM = "drawn"
HELD_OUT = 0.05

PX: dict[Task, int] = {"detection": 192, "classification": 128, "localisation": 192}
"""Of the pictures, 160 to 320 px; what is learnt of them holds at other sizes, too."""

STEPS: dict[Task, int] = {"detection": 6400, "classification": 2400, "localisation": 4800}
"""Of detection until it was at rest (docs/experiments.md); of the others no other was tried."""


@dataclass(frozen=True)
class Pretrained:
    """What came of it.

    Attributes:
        run: folder of the network, for `evaluate.<setting>`.
        setting: `detector`, `classifier` or `localiser`.
        images: how many it learned from.
        metric, score: mAP50, macro F1 or pixel AP on drawn images that it did not see.
        seconds: that the training took, whenever it was.
    """

    run: Path
    setting: str
    images: int
    metric: str
    score: float
    seconds: float

    @property
    def title(self) -> str:
        """The metric, in words."""
        return TITLES[self.metric]

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return asdict(self) | {"run": str(self.run)}


def pretrain(
    folder: Path,
    reporter: Reporter,
    *,
    task: Task,
    detector: str | None,
    per_class: int,
    steps: int | None,
) -> Pretrained:
    """Draw defects on surfaces of many kinds and train a network on them alone.

    Killed and repeated it draws on; what is finished is not done again. The tasks share the
    pictures.

    Args:
        folder: for pictures, export and run.
        reporter: is told.
        task: what the network is for.
        detector: as `evaluate.detector`, or `classifier` or `localiser`, as the task may be; the
            usual one where None.
        per_class: pictures of each of the five kinds of defects, and as many without one.
        steps: optimiser steps; those of `STEPS` where None.

    Raises:
        UsageError: there is no such network for the task.
        SourceError: the folder holds something else, or what another version drew.
        WeightsError: there is no such network.
        RunError: the training failed.
        BusyError: another one is at work in the folder.
    """
    folder = folder.resolve()
    setting, usual = STARTS[task]
    own = {setting: detector or usual, f"{task}_steps": steps or STEPS[task]}
    asked = {**own, "per_class": per_class, "drawing": VARIED}
    known, made_before = read_json(folder / ABOUT.format(task=task)), pretrained_run(folder, task)
    if made_before and known.get("asked") == asked:
        return Pretrained(**known["made"], run=made_before)
    # before hours of drawing
    beginning(_settings(task, asked), task)
    # pictures and export are one for all tasks
    with working_on(folder, "weights pretrain"):
        return _pretrain(folder, reporter, task, setting, asked, per_class)


def _settings(task: Task, asked: dict[str, Any]) -> ExperimentConfig:
    """Those of the training.

    Raises:
        UsageError: there is no such network for the task.
    """
    setting, steps = STARTS[task][0], f"{task}_steps"
    settings = {
        "tasks": (task,),
        "arms": (ARM,),
        "seeds": (0,),
        "measure": "val",
        "detection_mosaic": 1.0,
        f"{task}_px": PX[task],
        **{name: asked[name] for name in (setting, steps)},
    }
    return parse(settings, ExperimentConfig, "augment weights pretrain", UsageError)


def _pretrain(
    folder: Path,
    reporter: Reporter,
    task: Task,
    setting: str,
    asked: dict[str, Any],
    per_class: int,
) -> Pretrained:
    reporter.say(f"Drawing {6 * per_class} pictures")
    photos = folder / "photos"
    write_sample_dataset(photos, per_class=per_class, clean=per_class, varied=True)
    drawn = import_source(
        photos,
        folder / "data",
        layout="mvtec",
        val=HELD_OUT,
        test=HELD_OUT,
        on_progress=lambda done, total: reporter.progress("Reading images", done, total),
    )
    learnt = {record.id for record in drawn.records if record.split == "train"}
    export = write_training_export(
        folder / "export",
        name=ARM,
        classes=drawn.classes,
        records=drawn.records,
        arms={ARM: learnt},
    )
    config = _settings(task, asked)
    whole = read_export(export, config.measure)
    (run,) = plan_runs(whole, folder, config)
    result = read_result(run) or execute(
        run,
        whole,
        config,
        lambda done, total: reporter.progress(f"Training {asked[setting]}", done, total),
    )
    made = {
        "setting": setting,
        "images": len(learnt),
        "metric": PRIMARY[task],
        "score": result["metrics"]["val"][PRIMARY[task]],
        "seconds": result["seconds"],
    }
    # relative, as a folder may be moved
    where = run.folder.relative_to(folder).as_posix()
    write_json(folder / ABOUT.format(task=task), {"asked": asked, "run": where, "made": made})
    return Pretrained(**made, run=run.folder)


def pretrained_run(folder: Path, task: Task) -> Path | None:
    """The run that `pretrain` finished last in `folder` for `task`; None where there is none."""
    named = read_json(folder / ABOUT.format(task=task)).get("run")
    run = folder.resolve() / named if named else None
    return run if run and (run / "result.json").is_file() else None


def use_pretrained(project: Project, folder: Path) -> dict[str, Path]:
    """Let the project's trainings start from what `pretrain` made: the settings of augment.yaml.

    Args:
        project: whose augment.yaml is edited.
        folder: that `pretrain` was given; what it holds of the tasks is used.

    Returns:
        The settings of `evaluate` that were written, with the run that each names now.

    Raises:
        ProjectError: nothing that `pretrain` has finished is there, or the project wants none.
    """
    if not project.config.evaluate.pretrained:
        raise ProjectError(
            f"evaluate.pretrained is false in {project.folder / PROJECT_FILE}, so that all is "
            "trained from scratch; take that line out and type the same again."
        )
    found = {STARTS[task][0]: pretrained_run(folder, task) for task in get_args(Task)}
    starts = {setting: run for setting, run in found.items() if run}
    if not starts:
        raise ProjectError(
            f"{folder} holds nothing to start from; make it with: augment weights pretrain "
            f"{quote(str(folder))}"
        )
    edit_project(project, {f"evaluate.{setting}": str(run) for setting, run in starts.items()})
    return starts
