"""What the loop remembers: `loop/state.json`, written whole after every trial.

The loop is a function of the project, the settings and the trials' results. A killed loop finds the
results in the state (and trainings that no trial had claimed yet in `loop/runs`) and goes on.
"""

import time
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from augmentor.errors import ProjectError
from generator.files import write_json

FOLDER = "loop"
STATE = "state.json"

Kind = Literal["start", "sweep", "more", "swap", "without"]
Chosen = tuple[str, str, str]
"""A sample: its generator, its id, and the class that it is labelled as."""


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Offer(_Line):
    """A training set that a round tries, or the one that it starts from."""

    arm: str = Field(description="its name, which no other offer of this loop has")
    kind: Kind
    what: str = Field(description="one sentence for people")
    ratio: float = Field(ge=0, lt=1, description="share of synthetic among its defect images")
    samples: tuple[Chosen, ...] = ()


START = Offer(arm="real", kind="start", what="the real images alone", ratio=0)


class TrialLine(_Line):
    """What came of an offer on val; `value` is None where a training failed."""

    arm: str
    value: float | None = None
    per_seed: tuple[float, ...] = ()
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    error: str = ""


class NeedLine(_Line):
    """One class on val, under the training set that a round starts from.

    `found`, `confused` and `missed` are numbers of defects, mean over the seeds; the other three
    say how many of those not found are in the lower, middle and upper third of the real training
    defects by size, contrast and distance to the part's edge.
    """

    class_name: str
    defects: int
    found: float
    confused: float
    missed: float
    size: tuple[float, float, float]
    contrast: tuple[float, float, float]
    place: tuple[float, float, float]


class Round(_Line):
    """Offers that are compared with one incumbent; round 0 is the sweep."""

    number: int = Field(ge=0)
    start: Offer
    start_value: float | None = None
    needs: tuple[NeedLine, ...] = ()
    offers: tuple[Offer, ...]
    trials: tuple[TrialLine, ...] = ()
    adopted: str = ""
    said: str = ""
    closed: bool = False


class Test(_Line):
    """One look at the test split: for which settings and which mix, and when it began."""

    key: str
    mix: str
    time: str


class State(_Line):
    """The whole loop."""

    schema_: int = Field(1, alias="schema")
    key: str = Field(description="hash of the data and of every setting that the result follows")
    task: str
    metric: str
    seeds: int
    rounds: tuple[Round, ...] = ()
    trained: tuple[str, ...] = Field((), description="keys of all trainings, in sorted order")
    seconds: float = Field(0.0, description="wall time so far, over all calls")
    stopped: str = Field("", description="why no more is tried; empty while the loop goes on")
    spent: bool = Field(False, description="whether it was the budget that stopped it")
    tests: tuple[Test, ...] = Field((), description="every look at test, of earlier loops too")
    finished: bool = False
    verdict: str = ""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    @property
    def incumbent(self) -> Offer:
        """The training set that is best so far."""
        for past in reversed(self.rounds):
            for offer in past.offers:
                if past.adopted == offer.arm:
                    return offer
        return START

    @property
    def looked_at_test(self) -> bool:
        """Whether test was looked at for these settings."""
        return any(test.key == self.key for test in self.tests)

    @property
    def current(self) -> Round | None:
        """The round under way, if there is one."""
        return self.rounds[-1] if self.rounds and not self.rounds[-1].closed else None

    def with_round(self, changed: Round) -> "State":
        """This state with its last round replaced, or with a new one behind it."""
        kept = tuple(r for r in self.rounds if r.number != changed.number)
        return self.model_copy(update={"rounds": (*kept, changed)})


def read_state(folder: Path) -> State | None:
    """The state of a loop, or None where none was begun.

    Raises:
        ProjectError: it can't be read.
    """
    path = folder / STATE
    try:
        return State.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as fault:
        first = " ".join(str(fault).split())[:200]
        raise ProjectError(
            f"{path} can't be read ({first}); begin anew: augment loop --restart"
        ) from None


class Book:
    """The state of a running loop: changed through `put`, which writes it down at once.

    Args:
        folder: of the loop.
        state: to begin with.
    """

    def __init__(self, folder: Path, state: State) -> None:
        self.folder = folder
        self.state = state
        self._before = state.seconds
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Wall time of this loop, over all calls."""
        return self._before + time.monotonic() - self._began

    def put(self, **changes: object) -> State:
        """Change fields of the state and write it."""
        self.state = self.state.model_copy(update={**changes, "seconds": round(self.seconds, 1)})
        write_json(self.folder / STATE, self.state.model_dump(mode="json", by_alias=True))
        return self.state

    def put_round(self, changed: Round) -> State:
        """Change the round under way, or begin one, and write it."""
        return self.put(rounds=self.state.with_round(changed).rounds)


class Budget:
    """How much may still be trained; asked before each training.

    Args:
        book: whose trainings and seconds count.
        hours: of wall time, over all calls; None: any.
        runs: trainings, those reused from earlier calls included; None: any.
    """

    def __init__(self, book: Book, hours: float | None, runs: int | None) -> None:
        self._book = book
        self.hours = hours
        self.runs = runs
        self.spent = ""

    def allows(self, under_way: frozenset[str] = frozenset()) -> bool:
        """Whether one more training may begin beside these; `spent` says why not."""
        trained = len(under_way | set(self._book.state.trained))
        if self.runs is not None and trained >= self.runs:
            self.spent = f"The budget of {self.runs} trainings is spent."
        elif self.hours is not None and self._book.seconds >= self.hours * 3600:
            self.spent = f"The budget of {self.hours:g} hours is spent."
        return not self.spent
