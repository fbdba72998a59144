"""Between an image's window and the square canvas that the network works on."""

import cv2
import numpy as np
import torch
from torch import Tensor


def to_canvas(window: np.ndarray, size_px: int) -> np.ndarray:
    """A window as the network sees it: mirrored out to a square, then scaled. Its mask goes the
    same way: a defect is mirrored with its picture, and no copy of what is to be painted may stay
    in sight beside the mask.

    Args:
        window: (h, w) or (h, w, C), uint8 or float32.

    Returns:
        (size_px, size_px) or (size_px, size_px, C), same dtype.
    """
    height, width = window.shape[:2]
    side = max(height, width)
    if height != width:
        pad = ((0, side - height), (0, side - width), *((0, 0),) * (window.ndim - 2))
        window = np.pad(window, pad, mode="symmetric")
    return scale(window, (size_px, size_px))


def from_canvas(canvas: np.ndarray, shape_hw: tuple[int, int]) -> np.ndarray:
    """The inverse of `to_canvas`, up to what scaling loses."""
    side = max(shape_hw)
    return scale(canvas, (side, side))[: shape_hw[0], : shape_hw[1]]


def scale(pixels: np.ndarray, shape_hw: tuple[int, int]) -> np.ndarray:
    """Resize, averaging along axes that shrink; the number of axes stays."""
    height, width = pixels.shape[:2]
    # OpenCV averages only if no axis grows, so what grows does so afterwards
    smaller = min(height, shape_hw[0]), min(width, shape_hw[1])
    out = pixels
    for shape, how in ((smaller, cv2.INTER_AREA), (shape_hw, cv2.INTER_CUBIC)):
        if out.shape[:2] != shape:
            out = cv2.resize(out, shape[::-1], interpolation=how)
    return out[..., None] if out.ndim < pixels.ndim else out


def to_tensor(pixels: np.ndarray) -> Tensor:
    """(B, H, W, C) pixels in [0, 255] -> (B, C, H, W) float32 in [-1, 1]."""
    scaled = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), dtype=np.float32)
    return torch.from_numpy(scaled) / 127.5 - 1


def to_pixels(images: Tensor) -> np.ndarray:
    """The inverse of `to_tensor`, as float32, not yet rounded or clipped."""
    return ((images.float().cpu() + 1) * 127.5).permute(0, 2, 3, 1).numpy()
