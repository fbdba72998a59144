"""Numbers of a mixed dataset, for the panel."""

from collections import Counter
from dataclasses import dataclass
from typing import Literal, get_args

from augmentor.fiftyone_io.connection import connect, database_errors
from augmentor.fiftyone_io.register import load
from augmentor.fiftyone_io.schema import NEW, NOT_IN_MIX

State = Literal["to review", "accepted", "rejected by hand", "rejected by filter"]
STATES: tuple[State, ...] = get_args(State)


@dataclass(frozen=True)
class Overview:
    """Where the synthetic samples of a dataset stand.

    Attributes:
        counts: samples by class and state.
        in_mix: samples of the mix by class.
        new: samples made on request since the last build.
        scores: for each score, its values by state.
        scored_by: names of the extractors that samples were compared with real defects by.
    """

    counts: dict[str, dict[State, int]]
    in_mix: dict[str, int]
    new: int
    scores: dict[str, dict[State, list[float]]]
    scored_by: tuple[str, ...]


def overview(name: str) -> Overview:
    """Count the synthetic samples of a dataset.

    Raises:
        DatabaseError: the database died, or the dataset is gone.
    """
    fo = connect()
    with database_errors():
        dataset = load(fo, name)
        made = dataset.match_tags("synthetic")
        labels, tags, rules, verdicts, made_as = made.values(
            ["defect.label", "tags", "synthetic.rules", "review.verdict", "review.made_as"]
        )
        paths = [p for p in dataset.get_field_schema(flat=True) if p.startswith("scores.")]
        values = dict(zip(paths, made.values(paths), strict=True)) if paths else {}
    states = [_state(*one) for one in zip(verdicts, rules, made_as, strict=True)]
    counted = Counter(zip(labels, states, strict=True))
    classes = sorted(set(labels))
    return Overview(
        counts={c: {state: counted[c, state] for state in STATES} for c in classes},
        in_mix=dict(
            Counter(c for c, had in zip(labels, tags, strict=True) if NOT_IN_MIX not in had)
        ),
        new=sum(NEW in had for had in tags),
        scored_by=tuple(sorted(filter(None, made.distinct("synthetic.scored_by")))),
        scores={
            path.removeprefix("scores."): {
                state: [
                    float(v)
                    for v, s in zip(column, states, strict=True)
                    if s == state and v is not None
                ]
                for state in STATES
            }
            for path, column in values.items()
        },
    )


def _state(verdict: str | None, rules: list[str] | None, made_as: str | None) -> State:
    if verdict == "rejected":
        return "rejected by hand"
    if verdict == "accepted" or made_as:  # whoever gives a sample another class wants it
        return "accepted"
    return "rejected by filter" if rules else "to review"
