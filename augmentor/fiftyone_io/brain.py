"""Embeddings in FiftyOne: sort by similarity, the 2-D map, and who is whose neighbour."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from augmentor.fiftyone_io.connection import connect, database_errors
from augmentor.fiftyone_io.register import load
from augmentor.fiftyone_io.schema import ID, RUNS, noted

CLOSE = 0.1
"""Two images nearer than this share of what is usual between two training images are suspected
of showing the same."""

_BLOCK = 1024


@dataclass(frozen=True)
class Embedded:
    """One vector for each image, made by one extractor.

    Attributes:
        ids: our ids of the images.
        vectors: (N, D) float32, rows of length 1.
        extractor: name of what made them.
    """

    ids: Sequence[str]
    vectors: np.ndarray
    extractor: str


@dataclass(frozen=True)
class Nearest:
    """The closest of some images; `distance` is 1 where it is as usual for training images."""

    id: str
    distance: float


def show_embeddings(name: str, embedded: Embedded, known: Mapping[str, Nearest]) -> None:
    """Bring embeddings into the App: `similar_*` to sort by, `map_*` for the scatter panel, and
    the fields of `schema.NEIGHBOURS`.

    Args:
        name: of the dataset.
        embedded: vectors of its images; an image without one is left out.
        known: for synthetic samples, the training image that the filters found to be the
            closest; else the closest by `embedded` is taken.

    Raises:
        DatabaseError: the database died, or the dataset is gone.
    """
    fo = connect()
    with database_errors():
        dataset = load(fo, name)
        held = dict(zip(*dataset.values([ID, "id"]), strict=True))
        rows = [row for row, key in enumerate(embedded.ids) if key in held]
        if len(rows) < 2:
            return
        keys, vectors = [embedded.ids[row] for row in rows], embedded.vectors[rows]
        view = dataset.select([held[key] for key in keys], ordered=True)
        _runs(dataset, view, vectors, embedded.extractor)
        tags = dict(zip(*dataset.values([ID, "tags"]), strict=True))
        _neighbours(fo, dataset, held, keys, vectors, tags, known, embedded.extractor)


def _runs(dataset: Any, view: Any, vectors: np.ndarray, extractor: str) -> None:
    """The brain runs; the extractor's name stands in their keys."""
    import fiftyone.brain as fob

    name = re.sub(r"\W+", "_", extractor)
    similar, shown = made = [f"similar_{name}", f"map_{name}"]
    # those of people, whatever they are called, are theirs
    ours = {*made, *noted(dataset).get(RUNS, ())}
    for key in dataset.list_brain_runs():
        if key in ours:
            dataset.delete_brain_run(key)
    dataset.info["augmentor"] = {**noted(dataset), RUNS: made}
    dataset.save()
    quiet: dict[str, Any] = {"embeddings": vectors, "progress": False}
    fob.compute_similarity(view, brain_key=similar, backend="sklearn", metric="cosine", **quiet)
    fob.compute_visualization(view, brain_key=shown, method="pca", num_dims=2, **quiet)


def _neighbours(
    fo: Any,
    dataset: Any,
    held: Mapping[str, str],
    keys: Sequence[str],
    vectors: np.ndarray,
    tags: Mapping[str, Sequence[str]],
    known: Mapping[str, Nearest],
    extractor: str,
) -> None:
    def rows(*wanted: str) -> list[int]:
        return [row for row, key in enumerate(keys) if set(wanted) <= set(tags[key])]

    train, made = rows("real", "train"), rows("synthetic")
    usual = _usual(vectors[train])
    for field, of, among in (
        ("neighbour", made, train),
        ("duplicate", made, made),
        ("leak", rows("real", "val") + rows("real", "test"), train),
    ):
        found = _closest(keys, vectors, of, among, usual)
        if field != "neighbour":
            found = {key: near for key, near in found.items() if near.distance < CLOSE}
        else:
            found |= {key: known[key] for key in found if known.get(key, _NOBODY).id in held}
        values = {
            held[key]: fo.DynamicEmbeddedDocument(**content, extractor=extractor)
            for key, content in _paired(found).items()
        }
        values |= {i: None for i in dataset.exists(f"{field}.pair").values("id") if i not in values}
        if values:
            dataset.set_values(field, values, key_field="id", progress=False)


_NOBODY = Nearest("", 0.0)


def _usual(vectors: np.ndarray) -> float:
    """Median distance of an image to the nearest other one; 1 where there is no other."""
    if len(vectors) < 2:
        return 1.0
    rows = np.arange(len(vectors))
    return max(float(np.median(_distances(vectors, rows, rows)[1])), 1e-6)


def _closest(
    keys: Sequence[str],
    vectors: np.ndarray,
    of: Sequence[int],
    among: Sequence[int],
    usual: float,
) -> dict[str, Nearest]:
    """For each image of `of`, the closest other one of `among`."""
    if not of or not among or (list(of) == list(among) and len(of) < 2):
        return {}
    nearest, distances = _distances(vectors, np.array(of), np.array(among))
    return {
        keys[row]: Nearest(keys[other], float(distance) / usual)
        for row, other, distance in zip(of, nearest, distances, strict=True)
    }


def _distances(
    vectors: np.ndarray, of: np.ndarray, among: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Row of the nearest of `among` that is another one, and its Euclidean distance, for each
    row of `of`."""
    nearest, distances = [], []
    for start in range(0, len(of), _BLOCK):
        block = of[start : start + _BLOCK]
        product = vectors[block] @ vectors[among].T
        product[block[:, None] == among[None, :]] = -np.inf
        best = product.argmax(axis=1)
        nearest.append(among[best])
        # rounding can lift a product of two unit vectors above 1
        squared = 2 - 2 * np.minimum(product[np.arange(len(block)), best], 1)
        distances.append(np.sqrt(squared))
    return np.concatenate(nearest), np.concatenate(distances)


def _paired(found: Mapping[str, Nearest]) -> dict[str, dict[str, Any]]:
    """Number the pairs, the closest first; images that are nearest to the same one share its
    number, and the one that they are nearest to stands first among them, at distance 0."""
    numbers: dict[str, int] = {}
    count = 0
    for key, nearest in sorted(found.items(), key=lambda pair: (pair[1].distance, pair[0])):
        number = numbers.get(nearest.id) or numbers.get(key)
        if number is None:
            number = count = count + 1
        for one in (nearest.id, key):
            numbers.setdefault(one, number)
    return {
        key: {
            "pair": number,
            "distance": found[key].distance if key in found else 0.0,
            "nearest": found[key].id if key in found else key,
        }
        for key, number in numbers.items()
    }
