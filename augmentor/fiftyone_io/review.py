"""The decision log mirrored in FiftyOne: tags to filter by, fields to read, labels to see."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from augmentor.decisions import Standing
from augmentor.fiftyone_io.connection import connect, database_errors
from augmentor.fiftyone_io.register import load
from augmentor.fiftyone_io.schema import ACCEPTED, ID, REJECTED, declare_review
from generator.records import PROCEDURAL

_MIRRORED = frozenset({ACCEPTED, REJECTED})

_SOURCES = ("background_id", "mask_source_id", "nearest_id")


@dataclass(frozen=True)
class Chosen:
    """Samples that were selected in the App.

    Attributes:
        synthetic: our ids of the synthetic ones, in the dataset's order.
        passed_over: how many of the rest are real images, about which nothing is decided.
    """

    synthetic: tuple[str, ...]
    passed_over: int


def chosen_samples(name: str, sample_ids: Sequence[str]) -> Chosen:
    """Our ids of the samples with these FiftyOne ids.

    Raises:
        DatabaseError: the database died, or the dataset is gone.
    """
    fo = connect()
    with database_errors():
        view = load(fo, name).select(list(sample_ids))
        found = list(zip(*view.values([ID, "tags"]), strict=True))
    made = tuple(key for key, tags in found if key is not None and "synthetic" in tags)
    return Chosen(made, len(found) - len(made))


def mirror(
    name: str,
    standings: Mapping[str, Standing],
    only: Iterable[str] | None = None,
    made_as: Mapping[str, str] | None = None,
) -> int:
    """Make tags, `review` and labels say what the log says.

    Args:
        name: of the dataset.
        standings: what holds for each sample by its id; a sample that is not in it is undecided.
        only: ids of the samples to look at; None for all.
        made_as: the class that samples were made as, by id, where their labels were just written
            as people want them; of the others `review` says it, or the label.

    Returns:
        How many samples were changed.

    Raises:
        DatabaseError: the database died, or the dataset is gone.
    """
    fo = connect()
    with database_errors():
        dataset = load(fo, name)
        if not dataset.has_field("review"):  # built before there was a review
            declare_review(fo, dataset)
        view = dataset.match_tags("synthetic")
        if only is not None:
            view = dataset.match({ID: {"$in": list(only)}})
        rows = view.values(["id", ID, "tags", "review", "defect.label"])
        tags, reviews, labels = {}, {}, {}
        for sample_id, key, had, review, label in zip(*rows, strict=True):
            held = standings.get(key)
            before = (made_as or {}).get(key) or (review and review["made_as"]) or label
            wanted = (held and held.class_name) or before
            if wanted != label:
                labels[sample_id] = wanted
            now = _review(held, before if wanted != before else None)
            if now != _as_dict(review):
                reviews[sample_id] = fo.DynamicEmbeddedDocument(**now) if now else None
            kept = [tag for tag in had if tag not in _MIRRORED]
            if held and held.verdict:
                kept.append(held.verdict)
            if kept != had:
                tags[sample_id] = kept
        for field, values in (("tags", tags), ("review", reviews)):
            if values:
                dataset.set_values(field, values, key_field="id", progress=False)
        if labels:
            _relabel(dataset, labels)
    return len(set(tags) | set(reviews) | set(labels))


def with_sources(name: str, sample_ids: Sequence[str]) -> tuple[list[str], int]:
    """See `augmentor.workflows.deciding.with_sources`."""
    fo = connect()
    with database_errors():
        dataset = load(fo, name)
        paths = ["id", ID, *(f"synthetic.{path}" for path in _SOURCES)]
        made = dataset.select(list(sample_ids), ordered=True)
        rows = list(zip(*made.values(paths), strict=True))
        named = {key for row in rows for key in row[2:] if _is_image(key)}
        images = dataset.match({ID: {"$in": list(named)}})
        held = dict(zip(*images.values([ID, "id"]), strict=True))
    shown = [i for row in rows for i in (row[0], *(held[k] for k in row[2:] if k in held))]
    return list(dict.fromkeys(shown)), len(named - set(held))


def _is_image(key: str | None) -> bool:
    return bool(key) and not str(key).startswith(PROCEDURAL)


def _review(held: Standing | None, made_as: str | None) -> dict[str, str | None]:
    """Fields of `review`; none for a sample about which nobody decided anything."""
    if held is None:
        return {}
    return {
        "verdict": held.verdict,
        "reason": held.reason or None,
        "who": held.who,
        "time": held.time,
        "made_as": made_as,
    }


def _as_dict(review: Any) -> dict[str, str | None]:
    return {} if review is None else {name: review[name] for name in review.field_names}


def _relabel(dataset: Any, labels: Mapping[str, str]) -> None:
    """Give the generated defects of samples another class: label, boxes, class map.

    Field by field and for all samples at once, which is several times as fast as by samples.
    """
    numbers = {name: number for number, name in dataset.default_mask_targets.items()}
    # classes that came after the last build stand behind those known then, as import numbers them
    if later := sorted(set(labels.values()) - set(numbers)):
        numbers |= {name: n for n, name in enumerate(later, max(numbers.values(), default=0) + 1)}
        dataset.default_classes = [*dataset.default_classes, *later]
        dataset.default_mask_targets = {number: name for name, number in numbers.items()}
        dataset.save()
    ids = list(labels)
    view = dataset.select(ids, ordered=True)
    parts = [f"ground_truth.detections.{p}" for p in ("label", "origin", "bounding_box", "mask")]
    rows = zip(ids, *view.values([*parts, "segmentation.mask"]), strict=True)
    named, painted = [], {}
    for sample_id, had, origins, boxes, masks, class_map in rows:
        made = [origin == "synthetic" for origin in origins or []]
        name = labels[sample_id]
        named.append([name if own else old for own, old in zip(made, had or [], strict=True)])
        if class_map is None:
            continue
        painted[sample_id] = class_map.copy()
        for own, box, mask in zip(made, boxes or [], masks or [], strict=True):
            if own and mask is not None:
                _paint(painted[sample_id], box, mask, numbers[name])
    options: dict[str, Any] = {"key_field": "id", "progress": False}
    dataset.set_values("defect.label", dict(labels), **options)
    view.set_values("ground_truth.detections.label", named, progress=False)
    if painted:
        dataset.set_values("segmentation.mask", painted, **options)


def _paint(painted: np.ndarray, box: Sequence[float], mask: np.ndarray, number: int) -> None:
    """Set a detection's pixels in a class map (H, W), as `items.class_map` does.

    `box` is left, top, width and height as shares of the image.
    """
    height, width = painted.shape
    left, top = round(box[0] * width), round(box[1] * height)
    h, w = mask.shape
    painted[top : top + h, left : left + w][np.asarray(mask, bool)] = number
