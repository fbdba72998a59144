"""Defects of test that one arm's detectors find and another's miss, for a person to look at.

They are picked after everything is measured, and nothing is chosen by them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from downstream.dataset import GOOD, Export, Item
from downstream.localisation import localisation_samples
from downstream.outcomes import defect_outcomes
from downstream.runs import Run, read_predictions

MOST = 8
"""As many examples of a kind are kept for the pictures; all are counted."""
APART = 0.5
"""One arm finds what the other misses where the shares of their seeds that find it are so far
apart; of localisation, where the mean pixel APs on the image are, by half of it."""
MISSED = 0.1
"""Localisation: under this pixel AP on its image, a defect counts as missed."""


def misses(
    export: Export,
    task: str,
    base: Sequence[Run],
    arm: Sequence[Run],
    results: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """What the runs of `arm` find on test and those of `base` don't, and the other way round.

    Args:
        export: what was tested on.
        task: what was trained.
        base, arm: done, of one arm each, by the same seeds in the same order.
        results: by key, what those runs wrote.

    Returns:
        `base`, `arm`: their names. `counts`: of all `defects` how many are `found_only` by `arm`,
        `lost` by it, missed by `neither` finding them. Under each of these three names up to
        `MOST` examples, the clearest first: `image` (path in the export), `id`, `class`, `box`
        (or null), `truths` (class and xyxy of each defect of the image), and of `base` and `arm`
        each `found` (0 to 1) and what the first seed said: `boxes`, `scores`, `classes` above its
        val-chosen threshold, `guess` and `share` of an image, or `map` (path beside report.json).
    """
    items = {item.id: item for item in export.items("test") if item.class_name != GOOD}
    defects: list[tuple[str, tuple[float, ...] | None, str]]
    if task == "localisation":
        defects = [(item.id, None, item.class_name) for item in items.values()]
        found = [_overlaps(runs, results, list(items)) for runs in (base, arm)]
        missed = MISSED
    else:
        told = [defect_outcomes(export, runs, results, "test") for runs in (base, arm)]
        defects = [(each.image_id, each.box, each.class_name) for each in told[0]]
        found = [np.array([each.found for each in side]) for side in told]
        missed = 0.0
    gain = found[1] - found[0]
    sure = (APART if task != "localisation" else APART / 2) - 1e-9
    kinds = {
        "found_only": np.flatnonzero(gain >= sure)[np.argsort(-gain[gain >= sure], kind="stable")],
        "lost": np.flatnonzero(gain <= -sure)[np.argsort(gain[gain <= -sure], kind="stable")],
        "neither": np.flatnonzero((found[0] <= missed) & (found[1] <= missed)),
    }
    said = [_Said(export, task, runs[0], results[runs[0].key]) for runs in (base, arm)]
    return {
        "base": base[0].arm,
        "arm": arm[0].arm,
        "counts": {"defects": len(defects), **{kind: len(at) for kind, at in kinds.items()}},
        **{
            kind: [
                {
                    **_example(export, items[defects[k][0]], defects[k]),
                    "base": {"found": float(found[0][k]), **said[0].of(defects[k][0])},
                    "arm": {"found": float(found[1][k]), **said[1].of(defects[k][0])},
                }
                for k in at[:MOST]
            ]
            for kind, at in kinds.items()
        },
    }


def _overlaps(
    runs: Sequence[Run], results: Mapping[str, Mapping[str, Any]], ids: Sequence[str]
) -> np.ndarray:
    """Mean pixel AP on each of these images by itself."""
    each = []
    for run in runs:
        rows = {row["id"]: row for row in read_predictions(run, "test")}
        own = [rows[name] for name in ids]
        alone = np.eye(len(own), dtype=int)
        each.append(localisation_samples(own, results[run.key]["labels"], alone)["pixel_ap"])
    return np.nan_to_num(np.mean(each, axis=0))


def _example(export: Export, item: Item, defect: tuple[str, Any, str]) -> dict[str, Any]:
    _, box, name = defect
    return {
        "image": item.image.relative_to(export.folder).as_posix(),
        "mask": item.mask.relative_to(export.folder).as_posix() if item.mask else None,
        "id": item.id,
        "class": name,
        "box": None if box is None else list(box),
        "truths": [[export.classes[truth[0]], *truth[1:]] for truth in item.boxes],
    }


class _Said:
    """What one run said of each image of test."""

    def __init__(self, export: Export, task: str, run: Run, result: Mapping[str, Any]) -> None:
        self.task, self.run, self.result, self.classes = task, run, result, export.classes
        self.rows = {row["id"]: row for row in read_predictions(run, "test")}

    def of(self, name: str) -> dict[str, Any]:
        """The part of its predictions that a picture shows."""
        row = self.rows[name]
        if self.task == "localisation":
            return {"map": f"runs/{self.run.folder.name}/maps-test/{name}.png"}
        if self.task == "classification":
            guess = int(np.argmax(row["probabilities"]))
            share = round(float(row["probabilities"][guess]), 3)
            return {"guess": self.result["labels"][guess], "share": share}
        kept = [k for k, s in enumerate(row["scores"]) if s >= self.result["threshold"]]
        return {
            "boxes": [[round(float(v), 1) for v in row["boxes"][k]] for k in kept],
            "scores": [round(float(row["scores"][k]), 3) for k in kept],
            "classes": [self.classes[int(row["classes"][k])] for k in kept],
        }
