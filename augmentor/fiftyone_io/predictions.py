"""What detectors found, in FiftyOne beside what is there: by arm, and what one arm gained."""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from augmentor.errors import DatabaseError
from augmentor.fiftyone_io.connection import connect, database_errors, make_durable
from augmentor.fiftyone_io.register import load, save_own_view
from augmentor.fiftyone_io.schema import ID

IOU = 0.5
"""A defect counts as found where a detection of its class overlaps it by at least this."""

GAIN = "gain"
FOUND, LOST = f"{GAIN}.found_only_with_synthetic", f"{GAIN}.lost_with_synthetic"
FOUND_VIEW, LOST_VIEW = "found only with synthetic", "lost with synthetic"


class Found(NamedTuple):
    """A detection: class, corners x1, y1, x2, y2 in pixels of the image, score 0 to 1."""

    label: str
    box_xyxy: tuple[float, float, float, float]
    score: float


class Guess(NamedTuple):
    """What a classifier says of an image: the likeliest class and its probability."""

    label: str
    confidence: float


@dataclass(frozen=True)
class Predicted:
    """What the detectors of one arm say about val and test.

    Attributes:
        arm: its name.
        about: where it comes from, for the fields' description.
        threshold: the score, chosen on val, from which on a detection counts.
        found: detections by our id of the image, of any score; {} without a detector.
        guesses: by our id of the image; {} without a classifier.
        maps: by our id of the image, the file of its anomaly map, 8 bit; {} without a localiser.
    """

    arm: str
    about: str
    threshold: float = 0.0
    found: Mapping[str, Sequence[Found]] = field(default_factory=dict)
    guesses: Mapping[str, Guess] = field(default_factory=dict)
    maps: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Gain:
    """Defects of test that one arm found and the other did not, at each one's own threshold."""

    arm: str
    baseline: str
    found: int
    lost: int


def field_of(arm: str) -> str:
    """An arm's name as a part of a field's name: `mixed@0.5` is `mixed_0_5`."""
    return re.sub(r"\W+", "_", arm)


def show_predictions(
    name: str, predicted: Sequence[Predicted], compared: tuple[str, str] | None
) -> Gain | None:
    """Write predictions into a mixed dataset, and have FiftyOne compare them with the truth.

    For an arm: `pred_<arm>` (Detections at or above the arm's threshold), the evaluation
    `eval_<arm>` with its counts `eval_<arm>_tp`, `_fp` and `_fn`, `class_<arm>` (Classification)
    and `map_<arm>` (Heatmap). For the two arms compared, on test:
    `gain.found_only_with_synthetic` and `gain.lost_with_synthetic`, and a saved view of the images
    of each. Calling again writes it anew; other arms stay.

    Args:
        name: of the dataset.
        predicted: of each arm.
        compared: baseline and the arm that is held against it; None compares nothing.

    Returns:
        The gain on test; None where nothing was compared.

    Raises:
        DatabaseError: the database died, the dataset is gone, or it has none of the images.
    """
    fo = connect()
    with database_errors():
        dataset = load(fo, name)
        held_out = dataset.match_tags(["val", "test"])
        ids = dict(zip(*held_out.values([ID, "id"]), strict=True))
        named = {key for each in predicted for key in (*each.found, *each.guesses, *each.maps)}
        if named and not named & set(ids):
            raise DatabaseError(
                f"FiftyOne's dataset {name!r} has none of the images that were evaluated; build "
                "it again: augment build"
            )
        for each in predicted:
            if each.found:
                _detections(fo, dataset, held_out, ids, each)
            if each.guesses:
                _guesses(fo, dataset, ids, each)
            if each.maps:
                _maps(fo, dataset, ids, each)
        gain = _gain(fo, dataset, *compared) if compared else None
        dataset.save()
        make_durable()
    return gain


def _detections(fo: Any, dataset: Any, view: Any, ids: Mapping[str, str], each: Predicted) -> None:
    key = f"eval_{field_of(each.arm)}"
    path = f"pred_{field_of(each.arm)}"
    if dataset.has_evaluation(key):
        dataset.delete_evaluation(key)
    about = f"{each.about}; detections at score {each.threshold:.3f} or more, chosen on val"
    _declare(fo, dataset, path, fo.Detections, about)
    sizes = dict(zip(*view.values(["id", "metadata.width"]), strict=True))
    heights = dict(zip(*view.values(["id", "metadata.height"]), strict=True))
    values = {
        ids[image]: fo.Detections(
            detections=[
                _detection(fo, one, sizes[ids[image]], heights[ids[image]])
                for one in found
                if one.score >= each.threshold
            ]
        )
        for image, found in each.found.items()
        if image in ids
    }
    dataset.set_values(path, values, key_field="id", progress=False)
    # an image whose defects have no known place has no truth to be compared with
    placed = view.select(list(values)).exists("ground_truth")
    with _quiet():
        placed.evaluate_detections(
            path, gt_field="ground_truth", eval_key=key, iou=IOU, classwise=True, progress=False
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """FiftyOne says on standard output what it does, where `--json` prints."""
    logger = logging.getLogger("fiftyone")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


def _detection(fo: Any, one: Found, width: int, height: int) -> Any:
    """With the box clipped to the image: FiftyOne's evaluation breaks on one that leaves it."""
    x1, x2 = (min(max(x / width, 0.0), 1.0) for x in (one.box_xyxy[0], one.box_xyxy[2]))
    y1, y2 = (min(max(y / height, 0.0), 1.0) for y in (one.box_xyxy[1], one.box_xyxy[3]))
    box = [x1, y1, x2 - x1, y2 - y1]
    return fo.Detection(label=one.label, bounding_box=box, confidence=one.score)


def _guesses(fo: Any, dataset: Any, ids: Mapping[str, str], each: Predicted) -> None:
    path = f"class_{field_of(each.arm)}"
    _declare(fo, dataset, path, fo.Classification, each.about)
    values = {
        ids[image]: fo.Classification(label=guess.label, confidence=guess.confidence)
        for image, guess in each.guesses.items()
        if image in ids
    }
    dataset.set_values(path, values, key_field="id", progress=False)


def _maps(fo: Any, dataset: Any, ids: Mapping[str, str], each: Predicted) -> None:
    path = f"map_{field_of(each.arm)}"
    _declare(fo, dataset, path, fo.Heatmap, each.about)
    values = {
        ids[image]: fo.Heatmap(map_path=str(file.absolute()), range=[0, 255])
        for image, file in each.maps.items()
        if image in ids
    }
    dataset.set_values(path, values, key_field="id", progress=False)


def _declare(fo: Any, dataset: Any, path: str, kind: Any, about: str) -> None:
    """The field, empty, with what it is from; what an earlier call wrote is taken away."""
    if dataset.has_field(path):
        dataset.delete_sample_field(path)
    dataset.add_sample_field(
        path, fo.EmbeddedDocumentField, embedded_doc_type=kind, description=about
    )


def _gain(fo: Any, dataset: Any, baseline: str, arm: str) -> Gain | None:
    """Hold one arm against the other, defect by defect, on test."""
    keys = [f"eval_{field_of(each)}" for each in (baseline, arm)]
    if not all(dataset.has_evaluation(key) for key in keys):
        return None
    _declare(fo, dataset, GAIN, fo.DynamicEmbeddedDocument, f"{arm} against {baseline}, on test")
    for path, words in ((FOUND, f"found by {arm} alone"), (LOST, f"found by {baseline} alone")):
        dataset.add_sample_field(path, fo.IntField, description=f"test defects {words}")
    test = dataset.match_tags("test").exists("ground_truth")
    hits = [test.values(f"ground_truth.detections.{key}") for key in keys]
    found, lost = {}, {}
    for sample_id, before, after in zip(test.values("id"), *hits, strict=True):
        pairs = list(zip(before or [], after or [], strict=True))
        found[sample_id] = sum(b != "tp" and a == "tp" for b, a in pairs)
        lost[sample_id] = sum(b == "tp" and a != "tp" for b, a in pairs)
    for path, values, title in ((FOUND, found, FOUND_VIEW), (LOST, lost, LOST_VIEW)):
        dataset.set_values(path, values, key_field="id", progress=False)
        view = test.match(fo.ViewField(path) > 0).sort_by(path, reverse=True)
        about = f"{dataset.get_field(path).description}, the most of them first"
        save_own_view(dataset, title, view, description=about)
    dataset.save()
    return Gain(arm, baseline, sum(found.values()), sum(lost.values()))
