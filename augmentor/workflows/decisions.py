"""Decisions of people: from the App's tags and from files into the project's log, and back."""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from augmentor.decisions import (
    Action,
    Decision,
    Standing,
    append_decisions,
    merge_decisions,
    new_decisions,
    now,
    read_decision_file,
    read_decisions,
    standing,
    this_person,
    without_verdict,
)
from augmentor.errors import DecisionError
from augmentor.fiftyone_io import is_free, mirror
from augmentor.fiftyone_io.tags import Tagged, verdict_tags
from augmentor.workflows.project import Project
from generator.files import write_lines
from generator.pool import read_pools

APP_TAG = "app tag"
"""Who decided, where somebody used the App's own tag icon: it doesn't say who."""


@dataclass(frozen=True)
class Taken:
    """What an import of decisions led to.

    Attributes:
        new: decisions that the log did not hold yet.
        known: decisions that it held already.
        unknown: samples among them that are in no pool of this project; their decisions are kept.
    """

    new: int
    known: int
    unknown: int


def hand_decisions(project: Project) -> dict[str, Standing]:
    """What holds by hand for each sample, after the App's tags were taken over.

    Raises:
        DecisionError: the log is damaged.
        DatabaseError: FiftyOne's database can't be started, or died.
    """
    take_over_tags(project)
    return logged_decisions(project)


def logged_decisions(project: Project) -> dict[str, Standing]:
    """What holds by hand for each sample by the log alone, for whoever only shows it: it needs no
    database. A tag that was set in the App since the last build or review is not in it.

    Raises:
        DecisionError: the log is damaged.
    """
    return standing(read_decisions(project.folder))


def take_over_tags(project: Project) -> int:
    """Write into the log what people did with the App's tag icon: `rejected` or `accepted` set,
    or taken away again; returns how many decisions these were.

    A tag that the log itself put there is none of them, and a tag that vanished with its sample
    or its dataset takes nothing back. In another project's dataset nothing is looked for.
    """
    if not is_free(project.mixed_name, project.folder):
        return 0
    log = read_decisions(project.folder)
    held = standing(log)
    meant = {
        sample_id: action
        for sample_id, tagged in verdict_tags(project.mixed_name).items()
        if (action := _meant(tagged, held.get(sample_id)))
    }
    found = []
    for sample_id, action in meant.items():
        if action == "undo":
            found += without_verdict(log, sample_id, APP_TAG)
        else:
            found.append(Decision(sample_id=sample_id, action=action, who=APP_TAG, time=now()))
    append_decisions(project.folder, found)
    if meant:
        # or an `undo` by command would leave the tag there, to be taken over once more
        mirror(project.mixed_name, standing(read_decisions(project.folder)), list(meant))
    return len(meant)


def _meant(tagged: Tagged, held: Standing | None) -> Action | None:
    """The decision that a sample's tags stand for, if they were changed by hand; `undo` stands for
    no verdict at all, whatever there was before the one whose tag was taken away."""
    verdict = held.verdict if held else None
    mirrored = {tagged.mirrored} if tagged.mirrored else set()
    added, gone = tagged.tags - mirrored, mirrored - tagged.tags
    # with both tags set by hand, the careful reading counts
    if "rejected" in added:
        return "reject" if verdict != "rejected" else None
    if "accepted" in added:
        return "accept" if verdict != "accepted" else None
    return "undo" if gone and verdict == tagged.mirrored else None


def decide(
    project: Project, action: Action, ids: Sequence[str], *, reason: str = "", class_name: str = ""
) -> None:
    """Add a decision on each of these samples to the log, after what was decided by the App's tags
    before.

    Raises:
        DecisionError: an id is in no pool, or the class doesn't exist.
        DatabaseError: FiftyOne's database can't be started, or died.
    """
    if (action == "relabel") != bool(class_name):
        raise DecisionError(
            "A new class goes with relabel, and with nothing else; for example: augment decisions "
            f"add relabel {ids[0]} --class {quote(project.config.classes[0])}"
        )
    known = sample_ids(project)
    unknown = [sample_id for sample_id in ids if sample_id not in known]
    if unknown:
        raise DecisionError(
            f"No pool of this project holds a sample {unknown[0]!r}; a contact sheet shows the "
            "ids: augment sheet"
        )
    take_over_tags(project)
    who, when = this_person(), now()
    made = [
        Decision(
            sample_id=sample_id,
            action=action,
            reason=reason,
            class_name=class_name,
            who=who,
            time=when,
        )
        for sample_id in dict.fromkeys(ids)
    ]
    _refuse_unknown_classes(made, project, "augment decisions add relabel ID --class CLASS")
    append_decisions(project.folder, made)


def export_decisions(project: Project, file: Path) -> int:
    """Write every decision to a JSON-lines file; returns how many.

    Raises:
        DecisionError: there is none yet, or `file` holds something that would be lost.
    """
    take_over_tags(project)
    decisions = read_decisions(project.folder)
    if not decisions:
        raise DecisionError(
            "Nobody decided anything about this project's samples yet; look at them: augment review"
        )
    _refuse_loss(file, decisions)
    write_lines(file, (decision.model_dump() for decision in decisions))
    return len(decisions)


def _refuse_loss(file: Path, decisions: Sequence[Decision]) -> None:
    """Refuse to write over anything but decisions that the log holds as well."""
    if file.is_dir():
        raise DecisionError(f"{file} is a folder; name a file: augment decisions export FILE")
    if not file.exists():
        return
    try:
        unknown = new_decisions(decisions, read_decision_file(file))
    except DecisionError:
        raise DecisionError(
            f"{file} exists and holds something else than decisions; move it away, or name "
            "another file: augment decisions export FILE"
        ) from None
    if unknown:
        raise DecisionError(
            f"{file} holds {len(unknown)} decisions that this project has not; import them first: "
            f"augment decisions import {quote(str(file))}"
        )


def import_decisions(project: Project, file: Path) -> Taken:
    """Merge the decisions of a file into the log, after what was decided by the App's tags here.

    Raises:
        DecisionError: the file is missing or damaged, or relabels to a class that doesn't exist;
            nothing is taken over then.
        DatabaseError: FiftyOne's database can't be started, or died.
    """
    incoming = read_decision_file(file)
    _refuse_unknown_classes(incoming, project, f"augment decisions import {quote(str(file))}")
    take_over_tags(project)
    new = merge_decisions(project.folder, incoming)
    unknown = {decision.sample_id for decision in incoming} - sample_ids(project)
    return Taken(new, len(incoming) - new, len(unknown))


def sample_ids(project: Project) -> set[str]:
    """Ids of all samples in the project's pools, old checkpoints' included."""
    return {record.id for _, record in read_pools(project.pool(""))}


def classes_as_made(project: Project, ids: Set[str]) -> dict[str, str]:
    """The class that each of these samples was made as, whatever people called it since."""
    pools = read_pools(project.pool("")) if ids else ()
    return {record.id: record.class_name for _, record in pools if record.id in ids}


def _refuse_unknown_classes(decisions: Sequence[Decision], project: Project, then: str) -> None:
    classes = project.config.classes
    for decision in decisions:
        if decision.action == "relabel" and decision.class_name not in classes:
            raise DecisionError(
                f"Sample {decision.sample_id} is relabelled to {decision.class_name!r}, which is "
                f"no class of this project ({', '.join(classes)}); mend it, then: {then}"
            )
