"""A small data set for planning and compositing: grey striped surfaces with pits inside, vertical
cracks from the top or bottom edge, and chips at the left or right edge; no image is square."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from generator.masks import DraftPlanner
from generator.planner_settings import PlannerSettings
from generator.records import Box, DefectExample, Draft, Instance, SampleRequest

CLASSES = ("pit", "crack", "chip")


def surface(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """(height, width, 3) uint8, three equal channels."""
    stripes = rng.normal(0, 4, (1, width)) + rng.normal(0, 3, (height, width))
    fall = np.linspace(-8, 8, height)[:, None]
    grey = np.clip(rng.uniform(110, 150) + stripes + fall, 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def defect(name: str, rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """(height, width) bool."""
    mask = np.zeros((height, width), np.uint8)
    if name == "pit":
        centre = int(rng.integers(30, width - 30)), int(rng.integers(30, height - 30))
        axes = int(rng.integers(5, 9)), int(rng.integers(5, 9))
        cv2.ellipse(mask, centre, axes, float(rng.uniform(0, 180)), 0, 360, 1, cv2.FILLED)
    elif name == "crack":
        x, length = int(rng.integers(40, width - 40)), int(rng.integers(40, 60))
        start, end = (0, length) if rng.random() < 0.5 else (height - 1, height - length)
        cv2.line(mask, (x, start), (x + 3, end), 1, 4)
    else:
        x = 0 if rng.random() < 0.5 else width - 1
        y = int(rng.integers(40, height - 40))
        cv2.ellipse(mask, (x, y), (14, 20), 0, 0, 360, 1, cv2.FILLED)
    return mask > 0


def write_example(
    folder: Path,
    name: str,
    image: np.ndarray,
    defects: Sequence[tuple[str, np.ndarray]] = (),
    *,
    label: str | None = None,
    grey: bool = True,
    boxes_only: bool = False,
) -> DefectExample:
    """Write an image and the masks of its defects and describe them."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.png"
    cv2.imwrite(str(path), image[..., 0] if grey else image[..., ::-1])
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    instances = []
    for k, (class_name, mask) in enumerate(defects):
        x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
        box: Box = (x, y, x + w, y + h)
        if boxes_only:
            instances.append(Instance(class_name=class_name, box_xyxy=box))
            continue
        mask_path = folder / f"{name}_{k}.png"
        cv2.imwrite(str(mask_path), mask[y : y + h, x : x + w].astype(np.uint8) * 255)
        instances.append(
            Instance(class_name=class_name, box_xyxy=box, mask_path=mask_path, mask_kind="exact")
        )
    return DefectExample(
        id=sha[:16],
        sha256=sha,
        image_path=path,
        source_path=path,
        width=image.shape[1],
        height=image.shape[0],
        grey=grey,
        label=label or (defects[0][0] if defects else "good"),
        instances=tuple(instances),
        split="train",
    )


def write_set(
    folder: Path, *, clean: int = 4, each: int = 4, seed: int = 0, boxes_only: bool = False
) -> list[DefectExample]:
    """`each` images a class and `clean` ones, of different sizes."""
    rng = np.random.default_rng(seed)
    found = []
    for k in range(clean):
        size = int(rng.integers(150, 260)), int(rng.integers(120, 200))
        found.append(write_example(folder, f"good_{k}", surface(rng, *size)))
    for class_name in CLASSES:
        for k in range(each):
            size = int(rng.integers(150, 260)), int(rng.integers(130, 200))
            image, mask = surface(rng, *size), defect(class_name, rng, *size)
            image[mask] = (image[mask] * 0.5).astype(np.uint8)
            found.append(
                write_example(
                    folder, f"{class_name}_{k}", image, [(class_name, mask)], boxes_only=boxes_only
                )
            )
    return found


@pytest.fixture(scope="session")
def train(tmp_path_factory: pytest.TempPathFactory) -> list[DefectExample]:
    """Four images a class and four clean ones."""
    return write_set(tmp_path_factory.mktemp("train"))


@pytest.fixture(scope="session")
def no_clean(tmp_path_factory: pytest.TempPathFactory) -> list[DefectExample]:
    """Boxes only, and no clean image."""
    return write_set(tmp_path_factory.mktemp("no_clean"), clean=0, boxes_only=True)


@pytest.fixture(scope="session")
def paster(train: list[DefectExample]) -> DraftPlanner:
    """A planner that offers real pixels with every draft."""
    return DraftPlanner(train, CLASSES, PlannerSettings(real_share=1.0, recombine=0))


@pytest.fixture(scope="session")
def pasted(paster: DraftPlanner) -> list[Draft]:
    """Six drafts a class."""
    return [
        paster.plan(SampleRequest(class_name=c, index=k, seed=100 * j + k))
        for j, c in enumerate(CLASSES)
        for k in range(6)
    ]


@pytest.fixture
def write() -> Callable[..., DefectExample]:
    """See `write_example`."""
    return write_example
