"""Verdict tags that a person set with the App's tag icon, past every operator of ours."""

from typing import Literal, NamedTuple

from augmentor.fiftyone_io.connection import connect, database_errors
from augmentor.fiftyone_io.schema import ID

Verdict = Literal["accepted", "rejected"]


class Tagged(NamedTuple):
    """A sample's verdict tags, and the verdict that the decision log last mirrored to it."""

    tags: frozenset[str]
    mirrored: Verdict | None


def verdict_tags(name: str) -> dict[str, Tagged]:
    """The verdict tags of every synthetic sample by our id; {} without a dataset of this name.

    Raises:
        DatabaseError: the database can't be started, or died.
    """
    fo = connect()
    with database_errors():
        if not fo.dataset_exists(name):
            return {}
        dataset = fo.load_dataset(name)
        if not dataset.has_field(ID):
            return {}
        made = dataset.match_tags("synthetic")
        known = dataset.has_field("review.verdict")
        keys, tags = made.values([ID, "tags"])
        mirrored = made.values("review.verdict") if known else [None] * len(keys)
    verdicts = frozenset({"accepted", "rejected"})
    return {
        key: Tagged(frozenset(had) & verdicts, verdict)
        for key, had, verdict in zip(keys, tags, mirrored, strict=True)
        if key is not None
    }
