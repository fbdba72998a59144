"""Exports and random scenes for the tests of the detectors."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_export import write_export


@pytest.fixture
def make_export(tmp_path: Path) -> Callable[..., Path]:
    """Writes an export below the test's own folder; see `write_export`."""
    return lambda **more: write_export(tmp_path / "export", **more)


@pytest.fixture(scope="session")
def any_export() -> Callable[..., Path]:
    """Writes an export wherever it is asked to; see `write_export`."""
    return write_export


@pytest.fixture(scope="session")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One export that several tests only read."""
    return write_export(tmp_path_factory.mktemp("blobs") / "export")


@pytest.fixture(scope="session")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The like with exact masks and more real images, that several tests only read."""
    folder = tmp_path_factory.mktemp("masked") / "export"
    return write_export(folder, task="segment", real=12)


def random_scene(seed: int, images: int = 24, classes: int = 3):
    """Random truths and detections around them, some wrong, on images of 200 x 120 px."""
    rng = np.random.default_rng(seed)
    predictions, targets = [], []
    for _ in range(images):
        real, boxes, scores, labels = [], [], [], []
        for _ in range(rng.integers(0, 4)):
            x, y = rng.uniform(0, 150), rng.uniform(0, 80)
            w, h, c = rng.uniform(10, 50), rng.uniform(8, 40), int(rng.integers(0, classes))
            real.append((c, x, y, x + w, y + h))
            for _ in range(rng.integers(0, 3)):
                dx, dy, dw, dh = rng.normal(0, 2.5, 4)
                boxes.append([x + dx, y + dy, x + w + dw, y + h + dh])
                scores.append(float(rng.uniform(0.2, 1)))
                labels.append(c if rng.random() < 0.85 else int(rng.integers(0, classes)))
        for _ in range(rng.integers(0, 4)):
            x, y = rng.uniform(0, 150), rng.uniform(0, 80)
            boxes.append([x, y, x + 30, y + 20])
            scores.append(float(rng.uniform(0, 0.7)))
            labels.append(int(rng.integers(0, classes)))
        predictions.append({"boxes": boxes, "scores": scores, "classes": labels})
        targets.append(real)
    return predictions, targets


@pytest.fixture
def scene() -> Callable[..., tuple[list, list]]:
    """Random detections and truths, by seed; see `random_scene`."""
    return random_scene
