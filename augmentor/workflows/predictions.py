"""Predictions: what an evaluation's detectors say, brought back into the FiftyOne dataset."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from augmentor import fiftyone_io
from augmentor.errors import ProjectError
from augmentor.fiftyone_io.predictions import Found, Gain, Guess, Predicted
from augmentor.workflows.arms import MIXED, REAL
from augmentor.workflows.built import build_again
from augmentor.workflows.project import Project
from augmentor.workflows.reporting import Reporter
from downstream.report_file import read_report
from downstream.runs import Run, read_predictions, read_result


@dataclass(frozen=True)
class Brought:
    """What was brought in: arms, the seed, the dataset, and what one arm gained on test."""

    arms: tuple[str, ...]
    seed: int
    dataset: str
    gain: Gain | None


def bring_predictions(
    project: Project, reporter: Reporter, *, arms: Sequence[str] | None = None, seed: int = 0
) -> Brought:
    """Write the predictions of arms on val and test into the mixed dataset; see `show_predictions`.

    Compared are `real` (or else the first arm) and `mixed` (or else the first other one).

    Args:
        project: which was evaluated.
        reporter: told of the progress.
        arms: of the last evaluation; None: all that have a finished training.
        seed: of the trainings.

    Raises:
        ProjectError: nothing was built or evaluated yet, or not that arm or seed.
        DatabaseError: the dataset is another project's, or the database can't be started, or died.
    """
    report = _report(project, arms, seed)
    everything = tuple(dict.fromkeys(arms or report["arms"]))
    if not fiftyone_io.dataset_exists(project.mixed_name):
        raise ProjectError(
            f"FiftyOne has no dataset {project.mixed_name!r}; build it: {build_again(project)}"
        )
    fiftyone_io.check_name(project.mixed_name, project.folder)
    found = {arm: _predicted(project.evaluation, report, arm, seed) for arm in everything}
    missing = [arm for arm, own in found.items() if own is None]
    again = f"augment evaluate --arms {','.join(report['arms'])}"
    if missing and (arms or len(missing) == len(found)):
        raise ProjectError(
            f"No training of the arm {missing[0]!r} with seed {seed} is finished; type: {again}"
        )
    if missing:
        reporter.say(
            f"Left out, as no training with seed {seed} is finished: {', '.join(missing)} (type "
            f"`{again}` for them)"
        )
    predicted = [own for own in found.values() if own is not None]
    arms = tuple(own.arm for own in predicted)
    reporter.say(f"Writing predictions into FiftyOne ({project.mixed_name}): {', '.join(arms)}")
    gain = fiftyone_io.show_predictions(project.mixed_name, predicted, _compared(arms))
    return Brought(arms, seed, project.mixed_name, gain)


def _report(project: Project, arms: Sequence[str] | None, seed: int) -> dict[str, Any]:
    path = project.evaluation / "report.json"
    if not path.is_file():
        raise ProjectError("Nothing was evaluated yet; type: augment evaluate")
    report = read_report(path)
    unknown = [arm for arm in arms or () if arm not in report["arms"]]
    if unknown:
        raise ProjectError(
            f"The last evaluation has no arm {unknown[0]!r}, it has {', '.join(report['arms'])}; "
            f"type: augment evaluate --arms {','.join([*report['arms'], unknown[0]])}"
        )
    if seed not in report["seeds"]:
        raise ProjectError(
            f"The last evaluation has no seed {seed}, it has "
            f"{', '.join(map(str, report['seeds']))}; choose one of them with --seed."
        )
    return report


def _compared(arms: Sequence[str]) -> tuple[str, str] | None:
    baseline = REAL if REAL in arms else arms[0]
    others = [arm for arm in arms if arm != baseline]
    if not others:
        return None
    return baseline, MIXED if MIXED in others else others[0]


def _predicted(evaluation: Path, report: dict[str, Any], arm: str, seed: int) -> Predicted | None:
    """What the runs of an arm and a seed say; None where all of them failed or are unfinished."""
    found: dict[str, list[Found]] = {}
    guesses: dict[str, Guess] = {}
    maps: dict[str, Path] = {}
    threshold, about = 0.0, []
    for line in report["runs"]:
        if (line["arm"], line["seed"]) != (arm, seed):
            continue
        run = Run(line["task"], arm, seed, line["key"], evaluation / line["folder"], {})
        result = read_result(run)
        if result is None:
            continue
        about.append(f"{run.task} run {run.key[:10]}")
        if run.task == "localisation":
            maps = {path.stem: path for path in (run.folder / "maps-test").glob("*.png")}
            continue
        rows = [row for split in _SPLITS for row in read_predictions(run, split)]
        if run.task == "detection":
            threshold = float(result["threshold"])
            found = {row["id"]: _found(row, result["labels"]) for row in rows}
        else:
            guesses = {row["id"]: _guess(row, result["labels"]) for row in rows}
    if not about:
        return None
    said = f"arm {arm}, seed {seed}, {' and '.join(about)}"
    return Predicted(arm, said, threshold, found, guesses, maps)


_SPLITS: tuple[Any, ...] = ("val", "test")


def _found(row: dict[str, Any], labels: Sequence[str]) -> list[Found]:
    return [
        Found(labels[index], (box[0], box[1], box[2], box[3]), score)
        for index, box, score in zip(row["classes"], row["boxes"], row["scores"], strict=True)
    ]


def _guess(row: dict[str, Any], labels: Sequence[str]) -> Guess:
    probabilities = row["probabilities"]
    best = max(range(len(labels)), key=probabilities.__getitem__)
    return Guess(labels[best], float(probabilities[best]))
