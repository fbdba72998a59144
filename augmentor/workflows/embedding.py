"""Embeddings of a mixed dataset: what the App sorts by similarity, maps, and pairs up."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from augmentor import fiftyone_io
from augmentor.records_io import load_records
from augmentor.workflows.project import Project
from augmentor.workflows.reporting import Reporter
from augmentor.workflows.scoring import Scorer
from generator.files import sha256_of, write_atomic
from generator.pool import read_pools
from generator.quality.scoring import embeddings, scorer_key
from generator.records import DefectExample, SyntheticDefect

BLOCK = 64
"""Images embedded between two looks at whether to go on."""


def embed_dataset(project: Project, name: str, reporter: Reporter) -> bool:
    """Embed every image of a mixed dataset and show that in FiftyOne.

    Vectors are kept in the project, so that only what is new is embedded.

    Args:
        project: of the dataset.
        name: of the dataset.
        reporter: told of the progress.

    Returns:
        False where the project compares no samples with real defects, or nothing has changed
        since the last time; else True.

    Raises:
        DatabaseError: the database died, or the dataset is gone.
        ExampleError, PoolError: an image can't be read.
    """
    records = load_records(project.data)
    train = [record for record in records if record.split == "train"]
    scorer = Scorer(project, train, reporter)
    if not scorer.enabled:
        return False
    extractor, config = scorer.extractor, project.config
    key = scorer_key(train, config.classes, extractor, config.seed)
    held = fiftyone_io.sample_keys(name)
    real = [record for record in records if record.id in held]
    made = [pair for pair in _pool_pairs(project) if pair[1].id in held]
    ids = [record.id for record in real] + [record.id for _, record in made]
    # a window around the largest defect is seen, so a box that was corrected makes another vector
    real_names = {
        record.id: sha256_of([record.id, [i.box_xyxy for i in record.instances]]) for record in real
    }
    names = [real_names.get(one, one) for one in ids]
    state = sha256_of([key, sorted(names)])
    if fiftyone_io.dataset_info(name).get("embedded") == state:
        return False
    file = project.quality / f"embeddings-{key[:16]}.npz"
    known = _read(file)
    todo: list[tuple[Path, SyntheticDefect] | DefectExample] = [
        *(record for record in real if real_names[record.id] not in known),
        *(pair for pair in made if pair[1].id not in known),
    ]
    for first in range(0, len(todo), BLOCK):
        block = todo[first : first + BLOCK]
        examples = [one for one in block if isinstance(one, DefectExample)]
        pairs = [one for one in block if not isinstance(one, DefectExample)]
        found, each = embeddings(pairs, examples, extractor)
        known |= {real_names.get(one, one): v for one, v in zip(found, each, strict=True)}
        reporter.progress("Embedding images", min(first + BLOCK, len(todo)), len(todo))
    if todo:
        _write(file, known)
    vectors = np.stack([known[one] for one in names]) if ids else np.zeros((0, 1), np.float32)
    shown = fiftyone_io.Embedded(ids, vectors, extractor.name)
    fiftyone_io.show_embeddings(name, shown, _nearest(record for _, record in made))
    fiftyone_io.note(name, embedded=state)
    return True


def _pool_pairs(project: Project) -> list[tuple[Path, SyntheticDefect]]:
    """Every sample that a vector can be made of, with its pool."""
    pools = read_pools(project.pool(""))
    return [(pool, r) for pool, r in pools if r.boxes_xyxy or r.mask is None]


def _nearest(records: Iterable[SyntheticDefect]) -> dict[str, fiftyone_io.Nearest]:
    """What the filters found to be the nearest training image of each sample."""
    return {
        record.id: fiftyone_io.Nearest(record.nearest_id, record.scores["memorisation"])
        for record in records
        if record.nearest_id and "memorisation" in record.scores
    }


def _read(file: Path) -> dict[str, np.ndarray]:
    """The vectors that are known, by a sample's id, and by the hash of a real image's and its
    boxes."""
    if not file.is_file():
        return {}
    with np.load(file, allow_pickle=False) as content:
        return dict(zip(content["ids"].tolist(), content["vectors"], strict=True))


def _write(file: Path, known: dict[str, np.ndarray]) -> None:
    ids: Sequence[str] = sorted(known)
    vectors = np.stack([known[one] for one in ids])
    write_atomic(file, lambda path: np.savez(path, ids=np.array(ids), vectors=vectors))
