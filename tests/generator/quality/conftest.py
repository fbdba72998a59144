"""Real examples drawn by the built-in sample dataset, and an extractor that needs no training."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from learnt_once import learn

from augmentor.sample_data import DEFECTS, sample_image
from generator.canvas import to_canvas
from generator.quality import own_features
from generator.records import DefectExample, Instance

CLASSES = tuple(sorted(DEFECTS))


@pytest.fixture(autouse=True)
def learnt_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here the learning itself is what is tested."""
    monkeypatch.setattr(own_features, "_train", learn)


def draw_examples(
    folder: Path, *, per_class: int, clean: int, seed: int = 0, classes: Sequence[str] = CLASSES
) -> list[DefectExample]:
    """Images of the sample dataset with one instance for each connected part of their mask."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds = [(name, k) for name in classes for k in range(per_class)]
    found = []
    for name, number in [*kinds, *(("good", k) for k in range(clean))]:
        image, mask = sample_image(name, number, seed)
        path = folder / f"{name}_{number}.png"
        cv2.imwrite(str(path), image[..., ::-1])
        count, parts, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8))
        instances = []
        for part in (p for p in range(1, count) if stats[p, 4] > 12):
            x, y, w, h = (int(v) for v in stats[part, :4])
            at = folder / f"{name}_{number}_{part}.png"
            cv2.imwrite(str(at), (parts == part)[y : y + h, x : x + w].astype(np.uint8) * 255)
            instances.append(
                Instance(
                    class_name=name,
                    box_xyxy=(x, y, x + w, y + h),
                    mask_path=at,
                    mask_kind="exact",
                )
            )
        sha = hashlib.sha256(path.read_bytes()).hexdigest()
        found.append(
            DefectExample(
                id=sha[:16],
                sha256=sha,
                image_path=path,
                source_path=path,
                width=image.shape[1],
                height=image.shape[0],
                grey=False,
                label=name,
                instances=tuple(instances),
                split="train",
            )
        )
    return found


class Miniature:
    """An extractor for tests of the arithmetic: 4 x 4 miniatures, as rows of length 1."""

    name = "miniature"
    fingerprint = "miniature-1"
    dimensions = 16

    def embed(self, images: Sequence[np.ndarray], batch_size: int = 64) -> np.ndarray:
        rows = [to_canvas(i, 4).mean(axis=2).ravel().astype(np.float32) + 1 for i in images]
        array = np.array(rows, np.float32).reshape(-1, self.dimensions)
        return array / np.linalg.norm(array, axis=1, keepdims=True)

    def without(self, fold: int) -> "Miniature":
        return self


@pytest.fixture(scope="session")
def examples(tmp_path_factory: pytest.TempPathFactory) -> list[DefectExample]:
    """Six images a class and eight clean ones."""
    return draw_examples(tmp_path_factory.mktemp("real"), per_class=6, clean=8)


@pytest.fixture
def classes() -> tuple[str, ...]:
    """Defect classes of `examples`."""
    return CLASSES


@pytest.fixture
def miniature() -> Miniature:
    """See `Miniature`."""
    return Miniature()


@pytest.fixture
def draw() -> Callable[..., list[DefectExample]]:
    """See `draw_examples`."""
    return draw_examples
