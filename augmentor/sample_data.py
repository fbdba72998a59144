"""The built-in sample dataset: procedural brushed-metal parts, clean and with five defects.

It is for trying things out without data of one's own; no gain is claimed on it. Every image is a
function of (seed, kind, running number) alone, so the same arguments write the same bytes. The
tree is that of MVTec AD (Bergmann et al., CVPR 2019), which `augment import` recognises.
"""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from augmentor.errors import SourceError, disk_errors
from augmentor.sample_defects import Surface, chip, crack, pit, scratch, stain
from augmentor.sample_variety import vary
from generator.files import write_atomic, write_json

DRAWING = 1
"""Raised whenever the same arguments come to draw other pictures, so that no folder holds both."""
VARIED = 2
"""The same of pictures that are `varied`."""

SIDE_PX = (160, 320)
"""Least and largest width and height of an image."""

DEFECTS: dict[str, Callable[[Surface, np.random.Generator], np.ndarray]] = {
    "pit": pit,
    "scratch": scratch,
    "crack": crack,
    "stain": stain,
    "edge_chip": chip,
}


def write_sample_dataset(
    folder: Path, *, seed: int = 0, per_class: int = 20, clean: int = 60, varied: bool = False
) -> dict[str, int]:
    """Write the sample dataset as PNG files in the MVTec layout.

    Args:
        folder: where to; created if missing. An unfinished earlier run is completed.
        seed: of everything random; the same arguments write the same bytes.
        per_class: images of each defect class, at least 1.
        clean: images without a defect, at least 1; two thirds go to `train/good`.
        varied: as from many lines, see `sample_variety.py`; else all are of one metal.

    Returns:
        Number of images by class, `good` first.

    Raises:
        SourceError: a count below 1, or a folder that holds something else, or pictures that
            another version drew.
        DiskError: no space, or no right to write.
    """
    if per_class < 1 or clean < 1:
        raise SourceError(
            f"A sample dataset needs at least 1 image a class and 1 clean one, got "
            f"per_class={per_class}, clean={clean}."
        )
    drawing = VARIED if varied else DRAWING
    arguments = {"drawing": drawing, "seed": seed, "per_class": per_class, "clean": clean}
    _claim(folder, arguments | ({"varied": True} if varied else {}))
    with disk_errors(folder):
        in_train = clean - clean // 3
        for number in range(clean):
            image, _ = sample_image("good", number, seed, varied=varied)
            part = "train" if number < in_train else "test"
            _save(folder / part / "good" / f"{number:03d}.png", image)
        for name in DEFECTS:
            for number in range(per_class):
                image, mask = sample_image(name, number, seed, varied=varied)
                _save(folder / "test" / name / f"{number:03d}.png", image)
                truth = folder / "ground_truth" / name / f"{number:03d}_mask.png"
                _save(truth, mask.astype(np.uint8) * 255)
    return {"good": clean} | dict.fromkeys(DEFECTS, per_class)


def sample_image(
    kind: str, number: int, seed: int = 0, *, varied: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one image.

    Args:
        kind: `good` or a key of `DEFECTS`.
        number: running number within the kind.
        seed: of the dataset.
        varied: as in `write_sample_dataset`.

    Returns:
        Image, (H, W, 3) uint8 RGB, and mask, (H, W) bool, True on the defect; all False for
        `good`. H and W lie in `SIDE_PX` and mostly differ.
    """
    index = ["good", *DEFECTS].index(kind)
    # of their own, so that who learns from varied ones knows none of the others
    rng = np.random.default_rng([seed, index, number, *([1] if varied else [])])
    surface = _surface(rng, shows_edge=kind == "edge_chip" or bool(rng.random() < 0.4))
    mask = np.zeros(surface.shape, bool)
    if kind != "good":
        mask = DEFECTS[kind](surface, rng)
    image = _develop(surface, rng)
    return vary(image, mask, rng) if varied else (image, mask)


def _claim(folder: Path, arguments: dict[str, int]) -> None:
    """Refuse a folder with anything else in it; leave the arguments in `sample.json`."""
    marker = folder / "sample.json"
    if folder.exists() and not folder.is_dir():
        raise SourceError(f"{folder} is a file; name a folder that does not exist yet.")
    if marker.exists():
        if json.loads(marker.read_text(encoding="utf-8")) != arguments:
            raise SourceError(
                f"{folder} already holds a sample dataset made with other settings or by another "
                "version; name another folder or delete that one."
            )
    elif folder.exists() and any(folder.iterdir()):
        raise SourceError(f"{folder} is not empty; name a folder that does not exist yet.")
    with disk_errors(folder):
        write_json(marker, arguments)


def _save(path: Path, image: np.ndarray) -> None:
    if not path.exists():  # written whole or not at all, and always with the same bytes
        write_atomic(path, lambda temporary: Image.fromarray(image).save(temporary))


def _surface(rng: np.random.Generator, *, shows_edge: bool) -> Surface:
    """A brushed part under uneven light, on a dark backdrop where an edge is in view."""
    height, width = (int(rng.integers(SIDE_PX[0], SIDE_PX[1] + 1)) for _ in range(2))
    brush = _brushing(height, width, rng)
    grain = rng.normal(0, 1, (height, width)).astype(np.float32)
    reflect = 0.60 + 0.055 * brush + 0.012 * grain
    part = np.ones((height, width), np.float32)
    edge = None
    if shows_edge:
        edge = int(rng.integers(4))
        part = _part_alpha(height, width, edge, rng)
        # the bevel: a bright line just inside the edge, then a slight shade
        inside = cv2.distanceTransform((part > 0.5).astype(np.uint8), cv2.DIST_L2, 5)
        reflect = reflect + 0.16 * np.exp(-(((inside - 2.0) / 1.3) ** 2))
        reflect = reflect - 0.06 * np.exp(-(((inside - 6.0) / 3.0) ** 2))
    tint = np.array([1.0, 0.985, 0.965], np.float32) + rng.normal(0, 0.008, 3).astype(np.float32)
    colour = reflect[..., None].astype(np.float32) * tint
    backdrop = 0.07 + 0.012 * _smooth_noise(height, width, 9.0, rng)
    backdrop = backdrop[..., None] * np.array([0.9, 0.95, 1.05], np.float32)
    colour = colour * part[..., None] + backdrop * (1 - part[..., None])
    return Surface(colour=colour.astype(np.float32), part=part, backdrop=backdrop, edge=edge)


def _brushing(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Streaks along a nearly horizontal direction at three scales, zero mean, unit deviation."""
    pad = 48
    shape = (height + 2 * pad, width + 2 * pad)
    total = np.zeros(shape, np.float32)
    for length, thickness, weight in ((61, 0.6, 1.0), (121, 1.4, 0.7), (25, 0.01, 0.5)):
        noise = rng.normal(0, 1, shape).astype(np.float32)
        streaks = cv2.GaussianBlur(noise, (0, 0), sigmaX=length / 3, sigmaY=thickness)
        total += weight * streaks / streaks.std()
    angle = float(rng.normal(0, 2.5))
    turn = cv2.getRotationMatrix2D((shape[1] / 2, shape[0] / 2), angle, 1.0)
    turned = cv2.warpAffine(total, turn, shape[::-1], borderMode=cv2.BORDER_REFLECT_101)
    cut = turned[pad : pad + height, pad : pad + width]
    return (cut - cut.mean()) / cut.std()


def _part_alpha(height: int, width: int, edge: int, rng: np.random.Generator) -> np.ndarray:
    """1 on the part, 0 on the backdrop; `edge` 0 left, 1 right, 2 top, 3 bottom."""
    length = height if edge < 2 else width
    across = width if edge < 2 else height
    margin = across * rng.uniform(0.07, 0.16)
    along = np.arange(length, dtype=np.float32)
    wobble = 0.35 * cv2.GaussianBlur(rng.normal(0, 1, (1, length)), (0, 0), 6.0)[0] * 3
    line = margin + (along - length / 2) * np.tan(np.radians(rng.normal(0, 1.5))) + wobble
    alpha = np.clip(np.arange(across, dtype=np.float32)[None] - line[:, None] + 0.5, 0, 1)
    if edge in (1, 3):
        alpha = alpha[:, ::-1]
    return np.ascontiguousarray(alpha if edge < 2 else alpha.T, np.float32)


def _smooth_noise(height: int, width: int, sigma: float, rng: np.random.Generator) -> np.ndarray:
    noise = cv2.GaussianBlur(rng.normal(0, 1, (height, width)).astype(np.float32), (0, 0), sigma)
    return noise / max(float(noise.std()), 1e-6)


def _develop(surface: Surface, rng: np.random.Generator) -> np.ndarray:
    """Light, lens and sensor: gradient, highlight band, vignette, blur, noise; then 8 bit."""
    height, width = surface.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    u, v = x / width - 0.5, y / height - 0.5
    direction = rng.uniform(0, 2 * np.pi)
    light = 1 + rng.uniform(0.06, 0.22) * (u * np.cos(direction) + v * np.sin(direction))
    band = v - rng.uniform(-0.5, 0.5) - rng.normal(0, 0.1) * u
    light += rng.uniform(0.02, 0.10) * np.exp(-((band / 0.22) ** 2))
    light *= 1 - rng.uniform(0.15, 0.40) * (u**2 + v**2)
    picture = surface.colour * (light * rng.uniform(0.9, 1.06))[..., None]
    picture = cv2.GaussianBlur(picture, (0, 0), 0.55)
    picture = picture + rng.normal(0, 0.006, (height, width, 1)) * (0.5 + picture)
    return np.clip(np.round(picture * 255), 0, 255).astype(np.uint8)
