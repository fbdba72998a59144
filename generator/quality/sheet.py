"""Contact sheets: real beside synthetic, with the masks' outlines, for the eye.

A sheet is sections of rows of pictures; it is written as one PNG or as one page that needs no
other file and no network.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from generator.files import write_atomic, write_text
from generator.records import Box, DefectExample, SyntheticDefect

Colour = tuple[int, int, int]

# Okabe and Ito's palette: told apart with every kind of colour vision.
REAL_COLOUR: Colour = (0, 114, 178)
SYNTHETIC_COLOUR: Colour = (230, 159, 0)
REJECTED_COLOUR: Colour = (204, 60, 100)
_TEXT: Colour = (40, 40, 40)
_MARGIN, _HEADING, _LINE = 8, 20, 13

MADE_BY = "augment sheet"
"""Stands in every sheet (`Software` of the PNG, `generator` of the page), so that no other file is
taken for one."""


@dataclass(frozen=True)
class Picture:
    """A tile and what stands below it.

    Attributes:
        pixels: (2 * side, side, 3) uint8, of `tile`.
        title: first line, such as an id.
        lines: short lines; the PNG cuts them to the tile's width.
        sentences: for the page, which has room for them.
    """

    pixels: np.ndarray
    title: str
    lines: tuple[str, ...] = ()
    sentences: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """Pictures of one kind."""

    title: str
    colour: Colour
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Section:
    """Rows that belong together, such as those of a class."""

    title: str
    rows: tuple[Row, ...]


def real_picture(example: DefectExample, class_name: str, side: int) -> Picture:
    """The largest defect of a class in a real image.

    Args:
        example: of the train split.
        class_name: whose instances are looked at.
        side: of the tile in px.
    """
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
    pixels = tile(image, mask if mask.any() else None, boxes[:1], REAL_COLOUR, side)
    return Picture(pixels, example.source_path.name)


def synthetic_picture(
    pool: Path,
    sample: SyntheticDefect,
    side: int,
    *,
    lines: Sequence[str] = (),
    sentences: Sequence[str] = (),
) -> Picture:
    """A sample's window with the outline of its mask.

    Args:
        pool: the folder that holds the sample's files.
        sample: a line of its manifest.
        side: of the tile in px.
        lines: short lines below its id.
        sentences: for the page.
    """
    mask = None
    if sample.mask is not None:
        mask = np.asarray(Image.open(pool / sample.mask)) > 127
    image = _read_rgb(pool / sample.image)
    colour = SYNTHETIC_COLOUR if sample.verdict == "accepted" else REJECTED_COLOUR
    where = sample.boxes_xyxy or [sample.crop_xyxy]
    pixels = tile(image, mask, where, colour, side)
    return Picture(pixels, sample.id, tuple(lines), tuple(sentences))


def tile(
    image: np.ndarray,
    mask: np.ndarray | None,
    boxes_xyxy: Sequence[Box],
    colour: Colour,
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
    if mask is not None:
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


@dataclass
class _Canvas:
    """What is to be drawn, before the size of the paper is known."""

    tiles: list[tuple[int, int, np.ndarray]] = field(default_factory=list)
    texts: list[tuple[int, int, str, Colour, int]] = field(default_factory=list)
    width: int = 0
    height: int = 0

    def text(self, x: int, y: int, text: str, colour: Colour = _TEXT, size: int = 13) -> None:
        self.texts.append((x, y, text, colour, size))
        self._grow(x + round(_font(size).getlength(text)), y + size + 2)

    def tile(self, x: int, y: int, pixels: np.ndarray) -> None:
        self.tiles.append((x, y, pixels))
        self._grow(x + pixels.shape[1], y + pixels.shape[0])

    def _grow(self, right: int, bottom: int) -> None:
        self.width, self.height = max(self.width, right), max(self.height, bottom)

    def save(self, path: Path) -> None:
        shape = self.height + _MARGIN, self.width + _MARGIN, 3
        pixels = np.full(shape, 255, np.uint8)
        for x, y, part in self.tiles:
            pixels[y : y + part.shape[0], x : x + part.shape[1]] = part
        picture = Image.fromarray(pixels)
        draw = ImageDraw.Draw(picture)
        for x, y, text, colour, size in self.texts:
            draw.text((x, y), text, fill=colour, font=_font(size))
        made_by = PngImagePlugin.PngInfo()
        made_by.add_text("Software", MADE_BY)
        write_atomic(path, lambda temporary: picture.save(temporary, pnginfo=made_by))


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
    canvas, cell = _Canvas(), side + _MARGIN
    middle = per_class * cell + 3 * _MARGIN
    canvas.text(_MARGIN, 6, "real (train split)", REAL_COLOUR)
    canvas.text(middle, 6, "synthetic", SYNTHETIC_COLOUR)
    for number, name in enumerate(real):
        top = 34 + number * (2 * side + 28)
        canvas.text(_MARGIN, top - 2, name)
        shown = [real_picture(example, name, side) for example in real[name][:per_class]]
        made = [synthetic_picture(*pair, side) for pair in synthetic.get(name, ())[:per_class]]
        for start, group in ((_MARGIN, shown), (middle, made)):
            for column, picture in enumerate(group):
                canvas.tile(start + column * cell, top + 18, picture.pixels)
    canvas.save(path)


def write_png_sections(path: Path, title: str, sections: Sequence[Section]) -> None:
    """Write sections below one another as one PNG.

    Args:
        path: of the PNG.
        title: on top.
        sections: what to show.
    """
    canvas, y = _Canvas(), 30
    canvas.text(_MARGIN, 6, title, size=15)
    for section in sections:
        canvas.text(_MARGIN, y, section.title, size=15)
        y += _HEADING
        for row in section.rows:
            canvas.text(_MARGIN, y, row.title, row.colour)
            y = _draw_row(canvas, row, y + _HEADING) + _MARGIN
        y += _MARGIN
    canvas.save(path)


def _draw_row(canvas: _Canvas, row: Row, y: int) -> int:
    """Draw a row's pictures with their lines; returns where the next thing may begin."""
    x, below = _MARGIN, y
    for picture in row.pictures:
        height, side = picture.pixels.shape[:2]
        canvas.tile(x, y, picture.pixels)
        for number, line in enumerate((picture.title, *picture.lines)):
            canvas.text(x, y + height + 2 + number * _LINE, _cut(line, side, 10), size=10)
        below = max(below, y + height + 2 + (1 + len(picture.lines)) * _LINE)
        x += side + _MARGIN
    return below


def write_page(path: Path, title: str, notes: Sequence[str], sections: Sequence[Section]) -> None:
    """Write sections as one self-contained HTML page, whole or not at all.

    Args:
        path: of the page.
        title: its heading.
        notes: sentences below it.
        sections: what to show.
    """
    environment = Environment(
        loader=PackageLoader("generator.quality", "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_url"] = _data_url
    environment.filters["css"] = lambda colour: "#{:02x}{:02x}{:02x}".format(*colour)
    template = environment.get_template("sheet.html.j2")
    write_text(path, template.render(title=title, notes=notes, sections=sections, made_by=MADE_BY))


def is_sheet(path: Path) -> bool:
    """Whether `path` is a PNG or a page that was written here."""
    try:
        if path.suffix.lower() == ".png":
            with Image.open(path) as picture:
                return bool(picture.info.get("Software") == MADE_BY)
        head = path.read_bytes()[:500]
    except OSError:
        return False
    return f'<meta name="generator" content="{MADE_BY}">'.encode() in head


def _data_url(pixels: np.ndarray) -> str:
    stream = io.BytesIO()
    # full colour resolution, or the thin outlines would smear
    Image.fromarray(pixels).save(stream, "JPEG", quality=92, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _cut(text: str, width: int, size: int) -> str:
    """As much of `text` as fits into `width` px."""
    if _font(size).getlength(text) <= width:
        return text
    while text and _font(size).getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"


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
