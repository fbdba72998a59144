"""The whole way on the built-in sample dataset, with settings short enough to watch."""

from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

from augmentor import fiftyone_io
from augmentor.records_io import PROJECT_FILE
from augmentor.sample_data import write_sample_dataset
from augmentor.workflows.build import Built, build_dataset
from augmentor.workflows.evaluate import Evaluated, evaluate_project
from augmentor.workflows.importing import Imported, import_project
from augmentor.workflows.project import (
    Project,
    SourceConfig,
    SplitConfig,
    mixed_name,
    open_project,
    save_project,
)
from augmentor.workflows.reporting import Reporter
from downstream.config import ExperimentConfig
from generator.planner_settings import PlannerSettings

NAME = "sample"
RECIPE = "compact-quick"
SHOTS = 12
EVALUATION = ExperimentConfig(
    arms=("real", "copy-paste", "mixed"),
    seeds=(0, 1, 2),
    detection_steps=200,
    detection_px=160,
    classification_steps=120,
    classification_px=64,
    jobs=2,
)
"""Just long enough that the detectors learn the sample defects; too short for a claim. Fewer than
three seeds get no verdict."""


@dataclass(frozen=True)
class Walked:
    """What each step of the demo led to."""

    photos: dict[str, int]
    imported: Imported
    built: Built
    evaluated: Evaluated


def walk(folder: Path, seed: int, reporter: Reporter) -> Walked:
    """Sample dataset, import, build at ratio 0.5, short evaluation.

    Killed and repeated, it continues, since each step does.
    """
    photos, home = folder / "photos", folder / "project"
    reporter.say(f"1 of 4  sample dataset   (augment demo {photos})")
    counts = write_sample_dataset(photos, seed=seed)

    name = _name_of(home)
    reporter.say(f"2 of 4  import   (augment import photos --name {name} --shots {SHOTS})")
    source = SourceConfig(path=photos)
    imported = import_project(name, source, SplitConfig(shots=SHOTS), home, reporter)

    project = _with_short_settings(imported.project)
    reporter.say("3 of 4  build   (augment build --ratio 0.5)")
    built = build_dataset(project, reporter)

    reporter.say("4 of 4  evaluate   (augment evaluate)")
    return Walked(counts, imported, built, evaluate_project(project, reporter))


def _name_of(home: Path) -> str:
    """The demo's own name, or `sample`, numbered where another demo has that in FiftyOne."""
    if (home / PROJECT_FILE).is_file():
        return open_project(home).config.name
    numbered = (f"{NAME}-{number}" for number in count(2))
    return next(name for name in chain([NAME], numbered) if _is_free(name, home))


def _is_free(name: str, home: Path) -> bool:
    return all(fiftyone_io.is_free(one, home) for one in (name, mixed_name(name)))


def _with_short_settings(project: Project) -> Project:
    # a network trained so briefly needs a real defect's texture to start from
    masks = PlannerSettings(real_share=1.0, recombine=0.0)
    update = {"recipe": RECIPE, "evaluate": EVALUATION, "masks": masks}
    return save_project(project.folder, project.config.model_copy(update=update))
