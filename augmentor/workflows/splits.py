"""Evaluate over several splits: each is a project of its own, imported, built and evaluated anew.

A split's folder is `evaluation/splits/<seed>`, so that whatever stands in it can be looked at by
the usual commands. Generators, filters and masks are fitted to each split's own training images:
what was fitted to the project's would have seen images that are in another split's test.
"""

import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from augmentor.errors import ProjectError, SplitError
from augmentor.protocols import FEW_SHOT
from augmentor.workflows.alone import alone
from augmentor.workflows.build import build_dataset
from augmentor.workflows.built import as_built
from augmentor.workflows.evaluate import Evaluated, evaluate_project, evaluation_config
from augmentor.workflows.importing import import_project
from augmentor.workflows.project import Project, save_project
from augmentor.workflows.reporting import Reporter
from downstream.config import ExperimentConfig
from downstream.errors import EmptySideError, RunError
from downstream.repeated_page import format_splits, render_splits
from downstream.repeated_report import summarise
from downstream.report_file import SPLITS_PAGE, SPLITS_REPORT, keep_earlier
from generator.errors import ExampleError, PlacementError, SamplingError, TrainingError
from generator.files import write_json

FOLDER = "splits"

OF_ONE_SPLIT = (
    *(RunError, SplitError, EmptySideError),
    *(ExampleError, PlacementError, SamplingError, TrainingError),
)
"""What can fail in one split and not in the next: that hangs on which images are where, or on a
training. All else would fail in every one."""


class Within:
    """Says of everything which split it is about."""

    def __init__(self, reporter: Reporter, place: str) -> None:
        self.reporter, self.place = reporter, place

    def say(self, text: str) -> None:
        """Pass a line on."""
        self.reporter.say(f"{self.place}: {text}")

    def warn(self, text: str) -> None:
        """Pass a warning on."""
        self.reporter.warn(f"{self.place}: {text}")

    def progress(self, task: str, done: int, total: int, note: str = "") -> None:
        """Pass the state of something long on."""
        self.reporter.progress(f"{self.place}: {task}", done, total, note)


@alone("evaluate --splits")
def evaluate_splits(
    project: Project,
    reporter: Reporter,
    splits: int,
    *,
    arms: Sequence[str] | None = None,
    ratios: Sequence[float] = (),
    tasks: Sequence[str] | None = None,
    steps: int | None = None,
    jobs: int | None = None,
    select: str | None = None,
) -> Evaluated:
    """Repeat import, build and evaluation over `splits` splits of the project's photographs.

    What is finished is not done again, so more splits can be asked for later. A split in which the
    build or a training fails is reported, and does not take the others down.

    Args:
        project: whose photographs, recipe, mix, filters and settings hold.
        reporter: told of the progress.
        splits: how many; their seeds follow that of the project's own split.
        arms, ratios, tasks, steps, jobs, select: as in `evaluate_project`.

    Raises:
        ProjectError: the images were split by a published protocol, a setting does not fit.
        RunError: every split failed, or, once all else is written, some.
    """
    split = project.config.split
    if split.protocol != FEW_SHOT:
        raise ProjectError(
            f"The protocol {split.protocol} has one split, so it can't be repeated; leave out "
            "--splits, and take more seeds: augment evaluate --seeds 5"
        )
    asked = {"tasks": tasks, "jobs": jobs, "select": select}
    config = evaluation_config(project, asked, arms, ratios, steps)
    reports: dict[int, dict[str, Any]] = {}
    failed: dict[int, str] = {}
    for number in range(1, splits + 1):
        seed = split.seed + number
        within = Within(reporter, f"Split {number} of {splits}")
        settings = config.model_copy(update={"seeds": (seed,)})
        try:
            own = _project_of(project, seed, settings, within)
            build_dataset(own, within)
            reports[seed] = evaluate_project(own, within).report
        except OF_ONE_SPLIT as fault:
            failed[seed] = str(fault)
            within.warn(f"left out, since {fault}")
    if not reports:
        raise RunError(f"No split could be evaluated; the first says: {failed[split.seed + 1]}")
    data, page = project.evaluation / SPLITS_REPORT, project.evaluation / SPLITS_PAGE
    report = summarise(project.config.name, reports, failed)
    keep_earlier(data, lambda before: _runs(before) <= _runs(report))
    write_json(data, report)
    render_splits(report, page)
    if failed:
        reporter.say(format_splits(report))
        raise RunError(
            f"{len(failed)} of {splits} splits failed; the report on the others is {page}, and the "
            "same command tries again."
        )
    return Evaluated(report, format_splits(report), data, page)


def _runs(report: Mapping[str, Any]) -> set[str]:
    return {key for keys in report["runs"].values() for key in keys}


def _project_of(
    project: Project, seed: int, evaluate: ExperimentConfig, reporter: Reporter
) -> Project:
    """The split's own project, with the settings of `project` as they are now."""
    folder = project.evaluation / FOLDER / str(seed)
    name = f"{project.config.name}-split{seed}"
    split = project.config.split.model_copy(update={"seed": seed})
    own = import_project(name, project.config.source, split, folder, reporter).project
    shutil.rmtree(own.recipes, ignore_errors=True)  # of an earlier call: none may live on
    if project.recipes.is_dir():
        shutil.copytree(project.recipes, own.recipes)
    classes = own.config.classes
    update = {"name": name, "split": split, "classes": classes, "evaluate": evaluate}
    # mixed as the dataset is that is asked about, not as augment.yaml says where options said other
    return save_project(folder, as_built(project).config.model_copy(update=update))
