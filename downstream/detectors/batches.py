"""What the classifier and the localiser share: images as squares, balanced draws, the same light
augmentation in every arm."""

import numpy as np
import torch
from PIL import Image
from torch import nn

from downstream.dataset import GOOD, Item
from downstream.errors import ExportError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SHIFT = 0.06
"""Largest shift, as a share of the side."""


def read_square(item: Item, px: int) -> np.ndarray:
    """An image as uint8 (px, px, 3), RGB, resized without keeping its aspect.

    Raises:
        ExportError: it can't be read.
    """
    try:
        with Image.open(item.image) as image:
            small = image.convert("RGB").resize((px, px), Image.Resampling.BILINEAR)
    except (OSError, ImportError) as fault:  # ultralytics' Image.open asks for a HEIF reader
        raise ExportError(f"{item.image} can't be read as an image ({fault}).") from None
    return np.asarray(small)


def balanced_batch(by_class: list[np.ndarray], batch: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of one batch: a class by even chance, then one of its images by even chance."""
    classes = rng.integers(0, len(by_class), batch)
    return np.array([rng.choice(by_class[c]) for c in classes])


def defects_by_class(names: np.ndarray) -> list[np.ndarray]:
    """Indices of each defect class's images, by name; `names` (N,) are the images' classes."""
    return [np.flatnonzero(names == name) for name in sorted({*names.tolist()} - {GOOD})]


def share_of_clean(names: np.ndarray, real: np.ndarray) -> float:
    """The share of clean images among the real ones, 0 to 1: what is mixed in beside a real defect
    takes no clean image's place. Where no real image has a defect, among all.

    Args:
        names: (N,) the images' classes.
        real: (N,) bool.
    """
    held = names[real]
    if not (held != GOOD).any():
        held = names
    return float((held == GOOD).mean())


def real_part(by_class: list[np.ndarray], real: np.ndarray) -> list[np.ndarray]:
    """Of each class's indices the real images' (`real`: (N,) bool); of one without any, all."""
    return [own[real[own]] if real[own].any() else own for own in by_class]


def augment(
    images: torch.Tensor, rng: np.random.Generator, masks: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Flips, shift (edges mirrored), contrast and brightness of each image.

    Args:
        images: uint8 (N, 3, px, px).
        rng: draws alike whether there are masks or not.
        masks: uint8 (N, px, px), flipped and shifted as their images are.

    Returns:
        The images, normalised, and the masks.
    """
    pixels = images.float() / 255
    n, _, height, width = pixels.shape
    most = max(1, round(SHIFT * width))
    padded = nn.functional.pad(pixels, (most,) * 4, mode="reflect")
    if masks is not None:
        wide = nn.functional.pad(masks[:, None].float(), (most,) * 4, mode="reflect")
        moved = torch.empty_like(masks)
    out = torch.empty_like(pixels)
    for k in range(n):
        dx, dy = (int(v) for v in rng.integers(0, 2 * most + 1, 2))
        window = (slice(None), slice(dy, dy + height), slice(dx, dx + width))
        flipped = [axis for axis, flip in zip((1, 2), rng.random(2) < 0.5, strict=True) if flip]
        view = padded[k][window].flip(flipped) if flipped else padded[k][window]
        gain, offset = rng.uniform(0.8, 1.2), rng.uniform(-0.1, 0.1)
        mean = view.mean()
        out[k] = (view - mean) * gain + mean + offset
        if masks is not None:
            moved[k] = wide[k][window].flip(flipped)[0]
    return normalise(out.clamp_(0, 1)), None if masks is None else moved


def normalise(images: torch.Tensor) -> torch.Tensor:
    """Images in [0, 1] as the networks see them, channels last in memory."""
    mean = torch.tensor(MEAN, device=images.device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=images.device).view(1, 3, 1, 1)
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)
