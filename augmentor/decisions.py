"""What people decided about samples: an append-only log in the project's folder.

`review/decisions.jsonl` holds one decision a line and is the truth; tags and fields in FiftyOne
mirror it. Sample ids follow from what made a sample, so decisions survive rebuilding, sampling
again and another machine. Nothing is ever taken out of the log: who changes their mind appends.
"""

import fcntl
import getpass
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shlex import quote
from typing import Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from augmentor.errors import DecisionError, disk_errors
from generator.records import Record

LOG = Path("review") / "decisions.jsonl"
"""Place of the log in a project's folder."""

Action = Literal["accept", "reject", "undo", "relabel"]
Verdict = Literal["accepted", "rejected"]

_VERDICTS: dict[Action, Verdict] = {"accept": "accepted", "reject": "rejected"}


class Decision(Record):
    """One line of the log.

    `class_name` is the new class of a relabelled sample, else empty. `time` is ISO 8601 with an
    offset; it is kept as UTC with microseconds, so that times compare as text.
    """

    sample_id: str = Field(min_length=1)
    action: Action
    reason: str = ""
    class_name: str = ""
    who: str = Field(min_length=1)
    time: str

    @field_validator("time")
    @classmethod
    def _utc(cls, text: str) -> str:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None or moment.year < 2:
            raise ValueError(f"expected a time with its offset from UTC, got {text!r}")
        return _text(moment)

    @model_validator(mode="after")
    def _check(self) -> "Decision":
        if (self.action == "relabel") != bool(self.class_name):
            raise ValueError(
                f"class_name goes with relabel and with nothing else, got {self.class_name!r} "
                f"with {self.action}"
            )
        return self


class Standing(Record):
    """What holds for one sample after all decisions.

    `verdict` is None and `class_name` is None where nobody decided about that. `reason`, `who`
    and `time` are those of the last decision that was not taken back.
    """

    sample_id: str
    verdict: Verdict | None = None
    reason: str = ""
    class_name: str | None = None
    who: str
    time: str


def now() -> str:
    """The time, as a decision carries it."""
    return _text(datetime.now(UTC))


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def this_person() -> str:
    """Name of the account that this process runs under, for `Decision.who`."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user without an entry anywhere
        return f"user {os.getuid()}"


def standing(decisions: Iterable[Decision]) -> dict[str, Standing]:
    """What holds for each sample: the later decision wins, whatever the order of the lines.

    `undo` takes back the sample's last decision that still stood, so that two of them take back
    two; without one it does nothing. Samples of which everything was taken back are left out.
    """
    return {name: _summed(stack) for name, stack in _stacks(decisions).items() if stack}


def without_verdict(decisions: Iterable[Decision], sample_id: str, who: str) -> list[Decision]:
    """What to append so that no verdict stands for a sample any more, and its class as it does.

    Args:
        decisions: of the log; those of other samples are passed over.
        sample_id: of the sample.
        who: takes the verdict back.
    """
    stack = _stacks(d for d in decisions if d.sample_id == sample_id).get(sample_id, [])
    first = next((i for i, d in enumerate(stack) if d.action in _VERDICTS), len(stack))
    renamed = [d for d in stack[first:] if d.action == "relabel"][-1:]
    undo = Decision(sample_id=sample_id, action="undo", who=who, time=now())
    began = datetime.now(UTC)
    # moments of their own, as two lines of one moment, person and action count as one
    return [
        d.model_copy(update={"time": _text(began + timedelta(microseconds=n))})
        for n, d in enumerate([undo] * len(stack[first:]) + renamed)
    ]


def _stacks(decisions: Iterable[Decision]) -> dict[str, list[Decision]]:
    """Each sample's decisions that still stand, the last one at the end."""
    stacks: dict[str, list[Decision]] = {}
    # sorted() is stable: decisions of one moment keep the log's order
    for decision in sorted(decisions, key=lambda d: d.time):
        stack = stacks.setdefault(decision.sample_id, [])
        if decision.action != "undo":
            stack.append(decision)
        elif stack:
            stack.pop()
    return stacks


def _summed(stack: Sequence[Decision]) -> Standing:
    verdicts = [_VERDICTS[d.action] for d in stack if d.action in _VERDICTS]
    names = [d.class_name for d in stack if d.action == "relabel"]
    last = stack[-1]
    return Standing(
        sample_id=last.sample_id,
        verdict=verdicts[-1] if verdicts else None,
        reason=last.reason,
        class_name=names[-1] if names else None,
        who=last.who,
        time=last.time,
    )


def append_decisions(project_folder: Path, decisions: Sequence[Decision]) -> None:
    """Add decisions to the log: all of them or none, on disk when this returns.

    Two processes at once wait for one another. What a killed one left after the last line's end
    is cut first.

    Raises:
        DiskError: the disk is full, or the folder may not be written to.
    """
    if decisions:
        with _locked(project_folder / LOG) as log:
            _append(log, project_folder / LOG, decisions)


def merge_decisions(project_folder: Path, decisions: Sequence[Decision]) -> int:
    """Add those decisions that the log doesn't hold yet; returns how many these were.

    Two lines are the same decision if sample, time, person and action agree.

    Raises:
        DecisionError: the log is damaged.
        DiskError: as `append_decisions`.
    """
    path = project_folder / LOG
    with _locked(path) as log:
        new = new_decisions(_parse(path, "augment decisions list"), decisions)
        if new:
            _append(log, path, new)
    return len(new)


def new_decisions(held: Iterable[Decision], incoming: Iterable[Decision]) -> list[Decision]:
    """Those of `incoming` that are none of `held`, each once, as `merge_decisions` compares."""
    keys = {_key(decision) for decision in held}
    return list({_key(d): d for d in incoming if _key(d) not in keys}.values())


def read_decisions(project_folder: Path) -> list[Decision]:
    """Every decision of a project in the order in which it was written; [] before the first.

    A last line that a killed process left unfinished is passed over.

    Raises:
        DecisionError: another line can't be read.
    """
    path = project_folder / LOG
    return _parse(path, "augment decisions list") if path.exists() else []


def read_decision_file(path: Path) -> list[Decision]:
    """Read decisions that `augment decisions export` wrote.

    Raises:
        DecisionError: there is no such file, or a line of it, the last one too, is no decision.
    """
    if not path.is_file():
        raise DecisionError(
            f"{path} does not exist; write one on the other machine: augment decisions export FILE"
        )
    return _parse(path, f"augment decisions import {quote(str(path))}", may_be_unfinished=False)


def _key(decision: Decision) -> tuple[str, str, str, str]:
    return decision.sample_id, decision.time, decision.who, decision.action


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """The log's file descriptor, made if need be, under a lock that ends with the process."""
    with disk_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            os.close(descriptor)


def _append(log: int, path: Path, decisions: Sequence[Decision]) -> None:
    text = "".join(json.dumps(d.model_dump(), sort_keys=True) + "\n" for d in decisions)
    end = _mend_end(log, path)
    try:
        rest = memoryview(text.encode())
        while rest:
            rest = rest[os.write(log, rest) :]
        os.fsync(log)
    except OSError:
        os.ftruncate(log, end)  # no half of it stays behind
        raise


def _mend_end(log: int, path: Path) -> int:
    """Make the log end with a whole line; returns its length.

    An editor may have left off the last line's end: a whole decision without it is kept.
    """
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole == len(content):
        return whole
    if _is_decision(content[whole:]):
        return len(content) + os.write(log, b"\n")
    os.ftruncate(log, whole)
    return whole


def _is_decision(line: bytes) -> bool:
    try:
        Decision.model_validate_json(line)
    except ValidationError:
        return False
    return True


def _parse(path: Path, then: str, *, may_be_unfinished: bool = True) -> list[Decision]:
    found = []
    lines = path.read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found.append(Decision.model_validate_json(line))
        except ValidationError as fault:
            if may_be_unfinished and not line.endswith(b"\n"):
                break  # the last line, which is being written or never was to its end
            first = fault.errors()[0]
            what = ": ".join([*map(str, first["loc"]), first["msg"]])
            raise DecisionError(
                f"{path}, line {number} is no decision ({what}); mend or delete that line, then: "
                f"{then}"
            ) from None
    return found
