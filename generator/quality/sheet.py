"""Contact sheets: real beside synthetic, with the masks' outlines, for the eye."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from generator.files import write_atomic
from generator.records import Box, DefectExample, SyntheticDefect

# Okabe and Ito's palette: told apart with every kind of colour vision.
REAL_COLOUR = (0, 114, 178)
SYNTHETIC_COLOUR = (230, 159, 0)
_TEXT = (40, 40, 40)
_MARGIN = 8


def tile(
    image: np.ndarray,
    mask: np.ndarray | None,
    boxes_xyxy: Sequence[Box],
    colour: tuple[int, int, int],
    side: int,
) -> np.ndarray:
    """A square tile: the window around the defects above itself with their outline.

    Args:
        image: (H, W, 3) uint8.
        mask: (H, W) bool, outlined; None outlines the boxes instead.
        boxes_xyxy: where to look; empty shows the whole image.
        colour: RGB of the outline.
        side: of the tile in px.

    Returns:
        (2 * side, side, 3) uint8: plain above, outlined below.
    """
    left, top, right, bottom = _window(boxes_xyxy, image.shape[1], image.shape[0])
    scale = side / max(right - left, bottom - top)
    size = (max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    plain = cv2.resize(image[top:bottom, left:right], size, interpolation=how)
    outlined = plain.copy()
    if mask is not None and mask.any():
        part = mask[top:bottom, left:right].astype(np.uint8)
        scaled = cv2.resize(part, size, interpolation=cv2.INTER_NEAREST)
        contours, _ = cv2.findContours(scaled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(outlined, contours, -1, colour, 1)
    else:
        for x1, y1, x2, y2 in boxes_xyxy:
            corner = (round((x1 - left) * scale), round((y1 - top) * scale))
            other = (round((x2 - left) * scale) - 1, round((y2 - top) * scale) - 1)
            cv2.rectangle(outlined, corner, other, colour, 1)
    sheet = np.full((2 * side, side, 3), 255, np.uint8)
    sheet[: size[1], : size[0]] = plain
    sheet[side : side + size[1], : size[0]] = outlined
    return sheet


def write_sheet(
    path: Path,
    real: Mapping[str, Sequence[DefectExample]],
    synthetic: Mapping[str, Sequence[tuple[Path, SyntheticDefect]]],
    *,
    per_class: int = 6,
    side: int = 112,
) -> None:
    """Write a PNG with a row for each class: real at the left, synthetic at the right.

    Args:
        path: of the PNG.
        real: real examples of each class.
        synthetic: for each class, samples with the pool that each lies in.
        per_class: tiles of each kind in a row.
        side: of a tile in px.
    """
    cell = side + _MARGIN
    half = per_class * cell
    row = 2 * side + 28
    canvas = np.full((34 + row * len(real), 2 * half + 4 * _MARGIN, 3), 255, np.uint8)
    captions: list[tuple[int, int, str, tuple[int, int, int]]] = [
        (_MARGIN, 6, "real (train split)", REAL_COLOUR),
        (half + 3 * _MARGIN, 6, "synthetic", SYNTHETIC_COLOUR),
    ]
    for number, name in enumerate(real):
        top = 34 + number * row
        captions.append((_MARGIN, top - 2, name, _TEXT))
        tiles = [_real_tile(example, name, side) for example in real[name][:per_class]]
        made = [_synthetic_tile(*pair, side) for pair in synthetic.get(name, ())[:per_class]]
        for start, group in ((_MARGIN, tiles), (half + 3 * _MARGIN, made)):
            for column, pixels in enumerate(group):
                x = start + column * cell
                canvas[top + 18 : top + 18 + 2 * side, x : x + side] = pixels
    picture = Image.fromarray(canvas)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(13)
    for x, y, text, colour in captions:
        draw.text((x, y), text, fill=colour, font=font)
    write_atomic(path, picture.save)


def _real_tile(example: DefectExample, class_name: str, side: int) -> np.ndarray:
    image = _read_rgb(example.image_path)
    mask = np.zeros(image.shape[:2], bool)
    boxes = []
    for instance in example.instances:
        if instance.class_name == class_name:
            boxes.append(instance.box_xyxy)
            if instance.mask_path is not None:
                x1, y1, x2, y2 = instance.box_xyxy
                mask[y1:y2, x1:x2] |= np.asarray(Image.open(instance.mask_path)) > 127
    # Several instances far apart would shrink to dots: look at the largest.
    boxes.sort(key=lambda b: (b[2] - b[0]) * (b[3] - b[1]), reverse=True)
    return tile(image, mask if mask.any() else None, boxes[:1], REAL_COLOUR, side)


def _synthetic_tile(pool: Path, sample: SyntheticDefect, side: int) -> np.ndarray:
    mask = None
    if sample.mask is not None:
        mask = np.asarray(Image.open(pool / sample.mask)) > 127
    image = _read_rgb(pool / sample.image)
    return tile(image, mask, [sample.crop_xyxy], SYNTHETIC_COLOUR, side)


def _read_rgb(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def _window(boxes_xyxy: Sequence[Box], width: int, height: int) -> Box:
    """The boxes' common box, grown by a quarter to each side and to at least 64 px."""
    if not boxes_xyxy:
        return 0, 0, width, height
    spans = []
    for low, high, length in (
        (min(b[0] for b in boxes_xyxy), max(b[2] for b in boxes_xyxy), width),
        (min(b[1] for b in boxes_xyxy), max(b[3] for b in boxes_xyxy), height),
    ):
        grow = max((high - low) // 4, (64 - (high - low) + 1) // 2, 0)
        spans.append((max(low - grow, 0), min(high + grow, length)))
    (left, right), (top, bottom) = spans
    return left, top, right, bottom
