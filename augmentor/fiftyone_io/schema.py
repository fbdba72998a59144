"""The dataset's schema, and one item as a FiftyOne sample of it."""

import mimetypes
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from augmentor.items import Item, class_map
from generator.files import sha256_of
from generator.records import GOOD, DefectExample, SyntheticDefect

ID = "augment_id"
"""Field with our own id of the image: the key by which a second build finds it again."""

VERSION = "augment_version"
"""Field with the hash of what a sample was written from; where it is unchanged, nothing is."""

NOT_IN_MIX, REJECTED = "not-in-mix", "rejected"

OUR_TAGS = frozenset({"real", "synthetic", "train", "val", "test", "reserve", NOT_IN_MIX})
"""Tags that a build sets and takes away; every other one belongs to a person."""

SCHEMA_VERSION = 1

_STRINGS = (
    *("generator", "fingerprint", "background_id", "mask_source_id"),
    *("mask_kind", "verdict", "rule", "reason"),
)
_NUMBERS = ("index", "seed", "feather_px")
_LISTS = ("source_ids", "background_xyxy", "crop_xyxy")


def declare(fo: Any, dataset: Any, classes: Sequence[str], scores: Iterable[str]) -> None:
    """Declare every field that a build writes, so that the App offers filters for all of them.

    Args:
        fo: the module `fiftyone`.
        dataset: new or existing; declaring twice changes nothing.
        classes: defect classes in label order.
        scores: names of the scores that samples carry.
    """
    dataset.add_sample_field(ID, fo.StringField)
    dataset.add_sample_field(VERSION, fo.StringField)
    dataset.add_sample_field("source_path", fo.StringField)
    embedded = {"embedded_doc_type": fo.DynamicEmbeddedDocument}
    for field, label in (
        ("ground_truth", fo.Detections),
        ("segmentation", fo.Segmentation),
        ("defect", fo.Classification),
    ):
        dataset.add_sample_field(field, fo.EmbeddedDocumentField, embedded_doc_type=label)
    dataset.add_sample_field("ground_truth.detections.mask_kind", fo.StringField)
    dataset.add_sample_field("synthetic", fo.EmbeddedDocumentField, **embedded)
    for name in _STRINGS:
        dataset.add_sample_field(f"synthetic.{name}", fo.StringField)
    for name in _NUMBERS:
        dataset.add_sample_field(f"synthetic.{name}", fo.IntField)
    for name in _LISTS:
        dataset.add_sample_field(f"synthetic.{name}", fo.ListField)
    dataset.add_sample_field("synthetic.scores", fo.EmbeddedDocumentField, **embedded)
    for name in sorted(scores):
        dataset.add_sample_field(f"synthetic.scores.{name}", fo.FloatField)
    dataset.create_index(ID, unique=True)
    dataset.default_classes = list(classes)
    # 0 is named too: evaluations that know only of the defects pass over all background pixels
    dataset.default_mask_targets = {0: "background", **dict(enumerate(classes, 1))}
    dataset.save()


def version_of(
    record: DefectExample | SyntheticDefect, image_path: Path, classes: Sequence[str]
) -> str:
    """Hash of everything that a sample is written from, save for its tags.

    The files' contents are covered by the ids: a real image's is its hash, a synthetic one's
    names what made it.
    """
    content = record.model_dump(mode="json", exclude={"split"})
    return sha256_of([SCHEMA_VERSION, list(classes), str(image_path.absolute()), content])


def fields_of(fo: Any, item: Item, classes: Sequence[str]) -> dict[str, Any]:
    """Every field of an item's sample except its tags and its path."""
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
        "synthetic": _synthetic(fo, record) if isinstance(record, SyntheticDefect) else None,
    }


def _detections(fo: Any, item: Item) -> Any:
    found = []
    for label in item.labels:
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
            )
        )
    return fo.Detections(detections=found)


def _synthetic(fo: Any, record: SyntheticDefect) -> Any:
    values = record.model_dump(mode="json", include={*_STRINGS, *_NUMBERS, *_LISTS})
    scores = fo.DynamicEmbeddedDocument(**record.scores)
    return fo.DynamicEmbeddedDocument(**values, scores=scores)
