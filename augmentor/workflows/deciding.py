"""What a person decides about samples in the App: into the log first, then into FiftyOne."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from augmentor import fiftyone_io
from augmentor.decisions import (
    Action,
    Decision,
    append_decisions,
    now,
    read_decisions,
    standing,
    this_person,
)
from augmentor.errors import ProjectError
from augmentor.workflows import queue
from augmentor.workflows.project import Project, open_project

REVIEWER = "AUGMENT_REVIEWER"
"""Environment variable with the name that decisions in the App are signed with."""


@dataclass(frozen=True)
class Decided:
    """What a decision led to.

    Attributes:
        samples: how many samples it is about.
        passed_over: how many selected images are real ones, about which nothing is decided.
    """

    samples: int
    passed_over: int = 0


def reviewer() -> str:
    """Who decides in this process."""
    return os.environ.get(REVIEWER) or this_person()


def project_of(name: str) -> Project:
    """The project that the mixed dataset `name` was built from.

    Raises:
        ProjectError: the dataset says of none, or the folder has moved.
        DatabaseError: the database died, or the dataset is gone.
    """
    folder = fiftyone_io.dataset_info(name).get("project")
    if not folder:
        raise ProjectError(
            f"The dataset {name!r} does not say which project it is of; close the App, go into "
            "the project's folder and type: augment review"
        )
    return open_project(Path(folder))


def decide(
    name: str,
    sample_ids: Sequence[str],
    action: Action,
    *,
    reason: str = "",
    class_name: str = "",
) -> Decided:
    """Decide about samples: the log first, then its mirror in FiftyOne.

    Args:
        name: of the dataset.
        sample_ids: FiftyOne's ids of the selected samples.
        action: what to do with them; `undo` takes back the last decision about each.
        reason: why, for people.
        class_name: new class, for `relabel`.

    Raises:
        ProjectError: the class is none of the project's.
        DatabaseError: the database died or the dataset is gone; what reached the log is kept.
    """
    project = project_of(name)
    if action == "relabel" and class_name not in project.config.classes:
        raise ProjectError(
            f"There is no class {class_name!r}; the classes are "
            f"{', '.join(project.config.classes)}."
        )
    chosen = fiftyone_io.chosen_samples(name, sample_ids)
    _record(name, project, chosen.synthetic, action, reason, class_name)
    return Decided(len(chosen.synthetic), chosen.passed_over)


def undo_last(name: str) -> Decided:
    """Take back the last thing that this reviewer decided and that still stands, for all the
    samples that it was about.

    Raises:
        DatabaseError: as `decide`.
    """
    project, who = project_of(name), reviewer()
    tops = standing(read_decisions(project.folder)).values()
    mine = [held for held in tops if held.who == who]
    last = max((held.time for held in mine), default="")
    samples = [held.sample_id for held in mine if held.time == last]
    _record(name, project, samples, "undo", "", "")
    return Decided(len(samples))


def _record(
    name: str,
    project: Project,
    samples: Sequence[str],
    action: Action,
    reason: str,
    class_name: str,
) -> None:
    """One moment for all, by which `undo_last` finds them together."""
    who, time = reviewer(), now()
    append_decisions(
        project.folder,
        [
            Decision(
                sample_id=sample,
                action=action,
                reason=reason,
                class_name=class_name,
                who=who,
                time=time,
            )
            for sample in samples
        ],
    )
    fiftyone_io.mirror(name, standing(read_decisions(project.folder)), samples)


def with_sources(name: str, sample_ids: Sequence[str]) -> tuple[list[str], int]:
    """Each sample followed by the real images behind it: its background, the source of its mask,
    and the training image that it is nearest to.

    Returns:
        FiftyOne's ids in that order, each once, and how many of the images are not in the dataset.
    """
    return fiftyone_io.with_sources(name, sample_ids)


RECENT = 20
"""How many judgements the running acceptance rate looks back."""


@dataclass(frozen=True)
class Summary:
    """What the panel shows.

    Attributes:
        overview: where the samples stand.
        accepted: samples that stand accepted by hand.
        judged: samples that stand accepted or rejected by hand.
        recent: how many of those are the last ones, at most `RECENT`.
        recent_accepted: those of the last ones that were accepted.
        progress: of the work in the background.
    """

    overview: fiftyone_io.Overview
    accepted: int
    judged: int
    recent: int
    recent_accepted: int
    progress: queue.Progress


def summary(name: str) -> Summary:
    """Count what was decided and what is being made.

    Raises:
        DatabaseError: the database died, or the dataset is gone.
        ProjectError: as `project_of`.
    """
    project = project_of(name)
    judged = [h for h in standing(read_decisions(project.folder)).values() if h.verdict]
    judged.sort(key=lambda held: held.time)
    recent = judged[-RECENT:]
    overview, progress = fiftyone_io.overview(name), queue.read_progress(project.folder)
    return Summary(
        overview=overview,
        accepted=sum(held.verdict == "accepted" for held in judged),
        judged=len(judged),
        recent=len(recent),
        recent_accepted=sum(held.verdict == "accepted" for held in recent),
        progress=progress,
    )
