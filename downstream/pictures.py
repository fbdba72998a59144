"""Small pictures for the page, as data that stands in it: what is there, and what was found.

What is there is drawn white on black and dashed, what was found solid and orange, so that the two
are told apart without colour.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from skimage.segmentation import find_boundaries

SIDE_PX = 240
"""Longer side of a picture."""
CONTEXT = 4.0
"""A picture shows a window around the defect, as many times as large as it."""
LEAST_PX = 96
"""The window's side is at least this in pixels of the photograph."""
FOUND = (230, 159, 0)

Window = tuple[int, int, int, int]


def example_picture(
    export: Path, out: Path, example: Mapping[str, Any], said: Mapping[str, Any]
) -> str | None:
    """One defect of test, and what one arm found there, as a `data:` address.

    Args:
        export: folder of the export.
        out: folder of the report, where maps lie.
        example: of misses.py.
        said: its `base` or `arm`.

    Returns:
        None where the photograph is not there any more.
    """
    try:
        with Image.open(export / example["image"]) as opened:
            image = opened.convert("RGB")
    except OSError:
        return None
    if said.get("map"):
        image = _with_map(image, out / said["map"])
    window = _window(image.size, example["box"])
    view = image.crop(window)
    scale = SIDE_PX / max(view.size)
    size = (max(1, round(view.width * scale)), max(1, round(view.height * scale)))
    view = view.resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(view)
    if said.get("map"):
        _draw_outline(view, export, example, window)
    else:
        for _, *box in example["truths"]:
            _dashed(draw, _placed(box, window, scale))
    boxes = zip(*(said.get(name, ()) for name in ("boxes", "scores", "classes")), strict=True)
    for box, score, name in boxes:
        _labelled(draw, _placed(box, window, scale), f"{name} {score:.2f}", view.size)
    return as_data(view)


def as_data(image: Image.Image) -> str:
    """A JPEG as a `data:` address."""
    stream = io.BytesIO()
    image.convert("RGB").save(stream, format="JPEG", quality=82, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


def file_as_data(path: Path, most_px: int = 1600) -> str | None:
    """A picture file, made smaller where it is wider than `most_px`; None where it is not there."""
    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except OSError:
        return None
    if image.width > most_px:
        height = max(1, round(image.height * most_px / image.width))
        image = image.resize((most_px, height), Image.Resampling.LANCZOS)
    return as_data(image)


def _window(size: tuple[int, int], box: Sequence[float] | None) -> Window:
    """The part of the photograph that is shown: a square where it has room, else all there is."""
    if box is None:
        return (0, 0, *size)
    x1, y1, x2, y2 = box
    side = max(CONTEXT * max(x2 - x1, y2 - y1), LEAST_PX)
    edges = []
    for middle, length in (((x1 + x2) / 2, size[0]), ((y1 + y2) / 2, size[1])):
        start = round(min(max(0.0, middle - side / 2), max(0.0, length - side)))
        edges.append((start, round(min(length, start + side))))
    return edges[0][0], edges[1][0], edges[0][1], edges[1][1]


def _placed(box: Sequence[float], window: Window, scale: float) -> tuple[float, ...]:
    left, top = window[:2]
    return tuple((v - (left, top)[k % 2]) * scale for k, v in enumerate(box))


def _dashed(draw: ImageDraw.ImageDraw, box: tuple[float, ...], dash: int = 6) -> None:
    x1, y1, x2, y2 = box
    draw.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline="black", width=3)
    for start in range(0, int(max(x2 - x1, y2 - y1)) + 1, 2 * dash):
        ends = min(x1 + start + dash, x2), min(y1 + start + dash, y2)
        for y in (y1, y2):
            if x1 + start < x2:
                draw.line((x1 + start, y, ends[0], y), fill="white", width=1)
        for x in (x1, x2):
            if y1 + start < y2:
                draw.line((x, y1 + start, x, ends[1]), fill="white", width=1)


def _labelled(
    draw: ImageDraw.ImageDraw, box: tuple[float, ...], text: str, size: tuple[int, int]
) -> None:
    x1, y1, x2, y2 = box
    if x2 < 0 or y2 < 0 or x1 > size[0] or y1 > size[1]:
        return
    if x2 < x1 or y2 < y1:  # an untrained head may say so
        return
    draw.rectangle(box, outline=FOUND, width=2)
    font = ImageFont.load_default(11)
    left, top = max(0.0, min(x1, size[0] - draw.textlength(text, font))), max(0.0, y1 - 14)
    draw.rectangle((left, top, left + draw.textlength(text, font) + 2, top + 13), fill=FOUND)
    draw.text((left + 1, top), text, fill="black", font=font)


def _with_map(image: Image.Image, path: Path) -> Image.Image:
    """The photograph in grey, and orange over it as the map of the localiser is sure (its square
    root, since even faint ones shall be seen)."""
    try:
        with Image.open(path) as opened:
            sure = np.asarray(opened.convert("L").resize(image.size), dtype=float)[..., None] / 255
    except OSError:
        return image
    grey = np.asarray(image.convert("L").convert("RGB"), dtype=float)
    cover = 0.7 * np.sqrt(sure)
    mixed = grey * (1 - cover) + cover * np.array(FOUND)
    return Image.fromarray(mixed.round().astype(np.uint8))


def _draw_outline(
    view: Image.Image, export: Path, example: Mapping[str, Any], window: Window
) -> None:
    if not example.get("mask"):
        return
    try:
        with Image.open(export / example["mask"]) as opened:
            part = opened.convert("L").crop(window).resize(view.size, Image.Resampling.NEAREST)
    except OSError:
        return
    inside = np.asarray(part) > 127
    pixels = np.array(view)
    pixels[find_boundaries(inside, mode="outer")] = 0
    pixels[find_boundaries(inside, mode="inner")] = 255
    view.paste(Image.fromarray(pixels))
