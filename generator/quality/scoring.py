"""Scores of samples, and the file beside a pool that keeps them.

`scores.jsonl` has one line a sample: its id, the scorer's key and the scores. Lines of another
scorer (other real examples, another extractor) are dropped when new ones are written.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from json import JSONDecodeError
from pathlib import Path

import numpy as np

from generator.checkpoints import describe_data
from generator.errors import PoolError
from generator.files import read_lines, sha256_of, write_lines
from generator.images import ExampleReader
from generator.quality.class_agreement import ClassAgreement
from generator.quality.features import Extractor
from generator.quality.memorisation import Memorisation
from generator.quality.realism import Realism
from generator.quality.seams import Seams
from generator.quality.windows import (
    MOST_OF_CLASS,
    Window,
    assign_folds,
    count_of_class,
    defect_window,
    read_sample,
    real_windows,
    windows_of,
)
from generator.records import Box, DefectExample, SyntheticDefect

SCORES = "scores.jsonl"
VERSION = 2
"""Raised whenever the same sample would get other scores than before."""

BLOCK = 64
"""Samples that are embedded together."""

Scores = dict[str, float | str]


def scorer_key(
    examples: Sequence[DefectExample], classes: Sequence[str], extractor: Extractor, seed: int = 0
) -> str:
    """Hash of everything besides the sample that its scores follow from; 16 hex digits."""
    ordered = sorted(examples, key=lambda e: e.id)
    real = [describe_data(ordered, classes), [e.group for e in ordered]]
    return sha256_of([VERSION, real, extractor.fingerprint, seed])[:16]


class Scorer:
    """Everything that scores are measured against, measured once; then it scores any sample."""

    def __init__(
        self,
        examples: Sequence[DefectExample],
        classes: Sequence[str],
        extractor: Extractor,
        *,
        seed: int = 0,
    ) -> None:
        """Measure the real defects of the train split; arguments as `score_samples`."""
        windows = real_windows(examples, classes, seed)
        self._folds = assign_folds(examples, seed)
        self._reader = ExampleReader()
        self._defective = {e.id: e for e in examples if not e.is_clean}
        self._crowded = {c for c in classes if count_of_class(examples, c) > MOST_OF_CLASS}
        self.agreement = ClassAgreement(windows, classes, extractor)
        self.realism = Realism(windows, classes, extractor)
        self.memorisation = Memorisation(windows, classes)
        self.seams = Seams(windows, classes)

    def score(
        self,
        shown: Iterable[tuple[np.ndarray, np.ndarray, Box]],
        class_names: Sequence[str],
        lenders: Sequence[str | None],
    ) -> list[Scores]:
        """Score defects.

        Args:
            shown: (H, W, 3) uint8 image, (H, W) bool mask and box of each; taken one by one.
            class_names: of each.
            lenders: id of the real image whose defect each was made from, if there is one.
                Another one that it was only painted into showed its judges no such defect.

        Returns:
            Scores as `score_samples` has them.
        """
        cut = [_cut(*three) for three in shown]
        windows, masks = [window for window, _ in cut], [mask for _, mask in cut]
        folds = [
            frozenset({self._folds[lender]} if lender in self._defective else ())
            for lender in lenders
        ]
        columns = {
            "class_agreement": self.agreement.scores(windows, class_names, folds),
            "realism": self.realism.scores(windows, class_names),
            "seam": [
                self.seams.score(*three) for three in zip(windows, masks, class_names, strict=True)
            ],
        }
        found: list[Scores] = []
        for k, three in enumerate(zip(windows, masks, class_names, strict=True)):
            scores: Scores = {}
            for key, values in columns.items():
                if (value := values[k]) is not None:
                    scores[key] = round(value, 6)
            lent = self._lent(lenders[k], class_names[k])
            if (nearest := self.memorisation.score(*three, lent)) is not None:
                scores["memorisation"] = round(nearest.ratio, 6)
                scores["nearest_id"] = nearest.example_id
            found.append(scores)
        return found

    def _lent(self, lender: str | None, class_name: str) -> list[Window]:
        """What a sample may be a copy of and its class's windows may lack."""
        if lender not in self._defective or class_name not in self._crowded:
            return []
        return windows_of(self._defective[lender], class_name, self._folds, self._reader)


def score_samples(
    pairs: Sequence[tuple[Path, SyntheticDefect]],
    examples: Sequence[DefectExample],
    classes: Sequence[str],
    extractor: Extractor,
    *,
    seed: int = 0,
    on_sample: Callable[[int, int], None] | None = None,
) -> dict[str, Scores]:
    """Score samples against the real defects of the train split.

    Args:
        pairs: pool and record of each sample.
        examples: the train split, with defects and without.
        classes: defect classes.
        extractor: of `generator.quality.features.open_extractor`, with the same `seed`.
        seed: of folds and clean windows.
        on_sample: called with how many samples are scored, and how many there are.

    Returns:
        By sample id: `class_agreement`, probability of its class (0 to 1); `realism`, distance
        to real ones (1: the bound that 95 % of those keep); `memorisation`, distance to the
        nearest training image (below 1: nearer than 95 % of the real ones are to another), and
        that image's `nearest_id`; `seam`, sharpness of the mask's rim (1: as `realism`). This
        `seam` takes the place of the score of that name in the pool's manifest. A score that the
        real examples are too few for is absent.

    Raises:
        ExampleError: an example can't be read.
        PoolError: a sample can't be read.
    """
    if not pairs:
        return {}
    scorer = Scorer(examples, classes, extractor, seed=seed)
    found: dict[str, Scores] = {}
    for first in range(0, len(pairs), BLOCK):
        block = pairs[first : first + BLOCK]
        scores = scorer.score(
            (read_sample(*pair) for pair in block),
            [sample.class_name for _, sample in block],
            [sample.lender for _, sample in block],
        )
        found |= {sample.id: s for (_, sample), s in zip(block, scores, strict=True)}
        if on_sample is not None:
            on_sample(len(found), len(pairs))
    return found


def embeddings(
    pairs: Sequence[tuple[Path, SyntheticDefect]],
    examples: Sequence[DefectExample],
    extractor: Extractor,
    batch_size: int = 64,
) -> tuple[list[str], np.ndarray]:
    """One vector for each real image and each sample, to sort and map them by.

    A defect image is represented by the window around its largest defect, a sample by the window
    around what it shows, a clean image (and one whose defects have no place) by all of it.

    Args:
        pairs: pool and record of each sample.
        examples: real images.
        extractor: of the project.
        batch_size: images in memory at once.

    Returns:
        The ids, real ones first, and (N, D) float32 with rows of length 1.

    Raises:
        ExampleError: an example can't be read.
        PoolError: a sample can't be read.
    """
    reader = ExampleReader()
    parts = [np.zeros((0, extractor.dimensions), np.float32)]
    for first in range(0, len(examples), batch_size):
        block = examples[first : first + batch_size]
        parts.append(extractor.embed([_real_picture(reader, e) for e in block], batch_size))
    for first in range(0, len(pairs), batch_size):
        cut = [_cut(*read_sample(*pair))[0] for pair in pairs[first : first + batch_size]]
        parts.append(extractor.embed(cut, batch_size))
    return [e.id for e in examples] + [s.id for _, s in pairs], np.concatenate(parts)


def _cut(image: np.ndarray, mask: np.ndarray, box_xyxy: Box) -> tuple[np.ndarray, np.ndarray]:
    """Window and mask of a defect; copies, so that the whole image can be forgotten."""
    return defect_window(image, box_xyxy).copy(), defect_window(mask, box_xyxy).copy()


def _real_picture(reader: ExampleReader, example: DefectExample) -> np.ndarray:
    image = reader.image(example)
    if not example.instances:
        return image
    boxes = [i.box_xyxy for i in example.instances]
    return defect_window(image, max(boxes, key=lambda b: (b[2] - b[0]) * (b[3] - b[1])))


def read_scores(pool: Path, key: str) -> dict[str, Scores]:
    """The scores that the scorer `key` left beside a pool, by sample id; empty without any.

    Raises:
        PoolError: the file is damaged.
    """
    path = pool / SCORES
    if not path.is_file():
        return {}
    try:
        return {line["id"]: line["scores"] for line in read_lines(path) if line["scorer"] == key}
    except (JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        raise PoolError(
            f"{path} is damaged; delete it and the samples are scored again: augment build"
        ) from None


def write_scores(pool: Path, key: str, scores: Mapping[str, Scores]) -> None:
    """Add scores to the file beside a pool, whole or not at all; see the module."""
    merged = read_scores(pool, key) | dict(scores)
    lines = [{"id": i, "scorer": key, "scores": merged[i]} for i in sorted(merged)]
    write_lines(pool / SCORES, lines)
