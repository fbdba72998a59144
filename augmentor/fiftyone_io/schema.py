"""The dataset's schema, and one item as a FiftyOne sample of it."""

import mimetypes
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from augmentor.items import Item, class_map
from augmentor.records_io import content_of
from generator.files import sha256_of
from generator.records import GOOD, DefectExample, SyntheticDefect

ID = "augment_id"
"""Field with our own id of the image: the key by which a second build finds it again."""

VERSION = "augment_version"
"""Field with the hash of what a sample was written from; where it is unchanged, nothing is."""

DETAILS = "augment_details"
"""Field with the hash of `synthetic` and `scores`, which change without the labels."""

RANK = "review_rank"
"""Field with a synthetic sample's place in the order of review."""

RUNS, VIEWS, SIDEBAR = "brain_runs", "views", "sidebar"
"""Under these the names of our brain runs and saved views, and how we arranged the sidebar, are
noted with a dataset; all else is a person's."""

NOT_IN_MIX, NEW, ACCEPTED, REJECTED = "not-in-mix", "new", "accepted", "rejected"

OUR_TAGS = frozenset({"real", "synthetic", "train", "val", "test", "reserve", NOT_IN_MIX, NEW})
"""Tags that a build sets and takes away; every other one belongs to a person."""

SCHEMA_VERSION = 2

_STRINGS = (
    *("generator", "fingerprint", "background_id", "mask_source_id"),
    *("mask_kind", "verdict", "rule", "reason", "nearest_id", "scored_by", "origin"),
)
_NUMBERS = ("index", "seed", "feather_px")
_TEXTS = ("rules", "reasons", "source_ids")
_BOXES = ("background_xyxy", "crop_xyxy")
REVIEW = ("verdict", "reason", "who", "time", "made_as")
"""Fields of `review`, the mirror of the decision log; `made_as` is the class before a person
relabelled the sample."""

NEIGHBOURS = {
    "neighbour": "the training image that a synthetic sample is closest to",
    "duplicate": "the synthetic sample that another one is closest to",
    "leak": "the training image that a val or test image is closest to",
}
"""Fields with the closest image, as seen by the extractor whose name stands beside it."""


class Shown(NamedTuple):
    """How the App shows a score: its name there, what it means, and which end of it is worse
    (1 the high one, -1 the low one, 0 neither)."""

    name: str
    description: str
    worse: int


SCORES = {
    "area_px": Shown("changed_area_px", "size of what changed, pixels", 0),
    "contrast": Shown(
        "contrast_to_noise", "mean change in the mask, in units of the surface's noise", -1
    ),
    "fill": Shown("share_of_mask_changed", "share of the proposed mask that changed, 0 to 1", -1),
    "leak": Shown("share_outside_mask", "share of the change outside the mask, 0 to 1", 1),
    "seam": Shown("seam_step", "step at the mask's rim, compared with what is usual there", 1),
    "class_agreement": Shown("class_agreement", "probability of the sample's class, 0 to 1", -1),
    "realism": Shown(
        "distance_to_real", "distance to real defects of the class; 1 is their own bound", 1
    ),
    "memorisation": Shown(
        "distance_to_nearest_real",
        "distance to the nearest training image; 0 is a copy, 1 usual between two of them",
        -1,
    ),
}
"""How the App shows the scores of a manifest; others go by their own name."""


def shown(score: str) -> Shown:
    """How the App shows a score of this name."""
    return SCORES.get(score, Shown(score, "", 0))


def noted(dataset: Any) -> dict[str, Any]:
    """What we noted with a dataset: {} where somebody else made it."""
    return dict(dataset.info.get("augmentor") or {})


def declare(fo: Any, dataset: Any, classes: Sequence[str], scores: Iterable[str]) -> None:
    """Declare every field that a build writes, so that the App offers filters for all of them.

    Args:
        fo: the module `fiftyone`.
        dataset: new or existing; declaring twice changes nothing.
        classes: defect classes in label order.
        scores: names of the scores that samples carry.
    """
    for name in (ID, VERSION, DETAILS, "source_path"):
        dataset.add_sample_field(name, fo.StringField)
    for field, label in (
        ("ground_truth", fo.Detections),
        ("segmentation", fo.Segmentation),
        ("defect", fo.Classification),
    ):
        dataset.add_sample_field(field, fo.EmbeddedDocumentField, embedded_doc_type=label)
    for name in ("mask_kind", "origin"):
        dataset.add_sample_field(f"ground_truth.detections.{name}", fo.StringField)
    _declare_synthetic(fo, dataset, scores)
    declare_review(fo, dataset)
    dataset.create_index(ID, unique=True)
    dataset.default_classes = list(classes)
    # 0 is named too: evaluations that know only of the defects pass over all background pixels
    dataset.default_mask_targets = {0: "background", **dict(enumerate(classes, 1))}
    dataset.save()


def _declare_synthetic(fo: Any, dataset: Any, scores: Iterable[str]) -> None:
    """What made a sample, and its scores."""
    embedded = {"embedded_doc_type": fo.DynamicEmbeddedDocument}
    dataset.add_sample_field("synthetic", fo.EmbeddedDocumentField, **embedded)
    for name in _STRINGS:
        dataset.add_sample_field(f"synthetic.{name}", fo.StringField)
    for name in _NUMBERS:
        dataset.add_sample_field(f"synthetic.{name}", fo.IntField)
    for kind, names in ((fo.StringField, _TEXTS), (fo.IntField, _BOXES)):
        for name in names:
            path = f"synthetic.{name}"
            # datasets of schema 1 have lists of anything, whose type can't be changed any more
            if not dataset.has_field(path):
                dataset.add_sample_field(path, fo.ListField, subfield=kind)
    if dataset.has_field("synthetic.scores"):
        dataset.delete_sample_field("synthetic.scores")
    dataset.add_sample_field("scores", fo.EmbeddedDocumentField, **embedded)
    for name in sorted(scores):
        path = f"scores.{shown(name).name}"
        dataset.add_sample_field(path, fo.FloatField, description=shown(name).description or None)


def declare_review(fo: Any, dataset: Any) -> None:
    """Declare what people decided, and what helps them to; see `declare`."""
    embedded = {"embedded_doc_type": fo.DynamicEmbeddedDocument}
    dataset.add_sample_field("review", fo.EmbeddedDocumentField, **embedded)
    for name in REVIEW:
        dataset.add_sample_field(f"review.{name}", fo.StringField)
    dataset.add_sample_field(
        RANK, fo.IntField, description="1 for the worst: the place by the worst of the scores"
    )
    for name, description in NEIGHBOURS.items():
        dataset.add_sample_field(
            name, fo.EmbeddedDocumentField, description=description, **embedded
        )
        dataset.add_sample_field(
            f"{name}.pair", fo.IntField, description="1 for the closest; shared by both images"
        )
        dataset.add_sample_field(
            f"{name}.distance",
            fo.FloatField,
            description="0 is a copy, 1 as far as two training images usually are",
        )
        for text in ("nearest", "extractor"):
            dataset.add_sample_field(f"{name}.{text}", fo.StringField)


def version_of(
    record: DefectExample | SyntheticDefect, image_path: Path, classes: Sequence[str]
) -> str:
    """Hash of everything that a sample's labels and image are written from.

    The files' contents are covered: images by the ids (a real one's is its hash, a synthetic one's
    names what made it), a real image's masks by their hashes. What is known about a sample besides,
    its scores and verdicts, is no part of it, so that a changed threshold leaves labels alone that
    a person corrected.
    """
    content: Any
    if isinstance(record, DefectExample):
        content = [{**content_of(record), "split": None}, str(record.source_path)]
    else:
        content = record.model_dump(mode="json", exclude=_ABOUT)
    return sha256_of([SCHEMA_VERSION, list(classes), str(image_path.absolute()), content])


_ABOUT = {*("scores", "verdict", "rule", "reason", "verdicts", "nearest_id", "scored_by", "origin")}


def details_version_of(record: DefectExample | SyntheticDefect) -> str:
    """Hash of everything that `detail_fields` are written from."""
    return sha256_of([SCHEMA_VERSION, record.model_dump(mode="json", exclude={"split"})])


def label_fields(fo: Any, item: Item, classes: Sequence[str]) -> dict[str, Any]:
    """The fields that show what is in an item's image and where."""
    painted = class_map(item, classes)
    placed = bool(item.labels) or item.label == GOOD
    record = item.record
    return {
        ID: item.id,
        VERSION: version_of(item.record, item.image_path, classes),
        "source_path": str(record.source_path) if isinstance(record, DefectExample) else None,
        "metadata": fo.ImageMetadata(
            size_bytes=item.image_path.stat().st_size,
            mime_type=mimetypes.guess_type(item.image_path.name)[0],
            width=item.width,
            height=item.height,
            num_channels=1 if item.grey else 3,
        ),
        "defect": fo.Classification(label=item.label),
        # an image whose defect has no known place has no detections, rather than none
        "ground_truth": _detections(fo, item) if placed else None,
        "segmentation": None if painted is None else fo.Segmentation(mask=painted),
    }


def detail_fields(fo: Any, record: DefectExample | SyntheticDefect) -> dict[str, Any]:
    """The fields with what is known about a sample: what made it, its scores and verdicts."""
    version = {DETAILS: details_version_of(record)}
    if isinstance(record, DefectExample):
        return {**version, "synthetic": None, "scores": None}
    values = record.model_dump(mode="json", include={*_STRINGS, *_NUMBERS, *_TEXTS, *_BOXES})
    values["rules"] = [verdict.rule for verdict in record.verdicts]
    values["reasons"] = [verdict.sentence for verdict in record.verdicts]
    scores = {shown(name).name: value for name, value in record.scores.items()}
    return {
        **version,
        "synthetic": fo.DynamicEmbeddedDocument(**values),
        "scores": fo.DynamicEmbeddedDocument(**scores),
    }


def fields_of(fo: Any, item: Item, classes: Sequence[str]) -> dict[str, Any]:
    """Every field of an item's sample that a build writes, except its tags and its path."""
    return {**label_fields(fo, item, classes), **detail_fields(fo, item.record)}


def _detections(fo: Any, item: Item) -> Any:
    found = []
    for number, label in enumerate(item.labels):
        x1, y1, x2, y2 = label.box_xyxy
        box = [
            *(x1 / item.width, y1 / item.height),
            *((x2 - x1) / item.width, (y2 - y1) / item.height),
        ]
        found.append(
            fo.Detection(
                label=label.class_name,
                bounding_box=box,
                mask=None if label.mask is None else np.ascontiguousarray(label.mask),
                mask_kind=label.mask_kind,
                origin="synthetic" if number < _made_in(item) else "real",
            )
        )
    return fo.Detections(detections=found)


def _made_in(item: Item) -> int:
    """How many of an item's labels were generated; they come before those that it carries."""
    if not isinstance(item.record, SyntheticDefect):
        return 0
    return len(item.labels) - len(item.record.carried_instances)
