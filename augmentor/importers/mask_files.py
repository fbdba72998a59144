"""Reading masks as people really store them, and telling what their values mean.

Of several channels the largest counts, transparency is dropped, more than 8 bit are scaled to 8,
and EXIF orientation is applied. A palette of greys is read by its colours, whatever their order. In
a palette of colours whose number 0 is black the numbers are those of classes, as in Pascal VOC,
whose cream border (number 255) is background; in others nobody knows what is background.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from PIL import Image, ImageOps

from augmentor.errors import ImageError, SourceError
from augmentor.images import as_image, bytes_of, deep_pixels, opened

ASPECT_TOLERANCE = 0.02
"""Largest relative difference of aspect ratio between a mask and its image."""
MOST_CLASSES = 32
"""Where masks hold several grey levels, those up to this one can be class numbers."""

THRESHOLD = 127
"""Mask values above it are defect, unless somebody says otherwise."""
LEAST_JPEG_GREY = 32
"""Lower ones are what JPEG leaves around white."""

LEAST_EXTREME = 0.95
"""Share of black and white from which on a picture is almost a mask by its looks."""

MaskEncoding = Literal["binary", "index"]
Likeness = Literal["surely", "almost", "no"]

_VOC_BORDER = (224, 224, 192)


def read_mask(
    path: Path,
    resolution_wh: tuple[int, int],
    threshold: int = THRESHOLD,
    encoding: MaskEncoding = "binary",
    *,
    given: bool = True,
) -> np.ndarray:
    """Read a mask at the size of its image, by the rules at the top of this file.

    Args:
        path: of the mask.
        resolution_wh: width and height of the image, pixels. A mask of another size is scaled
            (nearest pixel), if its aspect ratio differs by at most `ASPECT_TOLERANCE`.
        threshold: with `binary`, values above it are defect, so that the grey fringes that JPEG
            leaves fall on one side or the other; 0 to 254.
        encoding: `binary`, or `index` for masks whose values are class numbers.
        given: somebody chose the threshold; else a mask with areas of one grey at or below it is
            refused, since nobody has said that they are background.

    Returns:
        (H, W) uint8: 0 and 1 with `binary`, the stored values with `index`.

    Raises:
        ImageError: unreadable, of another aspect ratio (`kind` is then `mask_size`), or with greys
            that may be defects, too (`mask_levels`).
    """
    values = _mask_values(path)
    if encoding == "binary" and not given:
        _refuse_greys(path, values, threshold)
    height, width = values.shape
    want_w, want_h = resolution_wh
    if encoding == "binary":
        values = (values > threshold).astype(np.uint8)
    if (width, height) == (want_w, want_h):
        return values
    if not _same_shape((width, height), resolution_wh):
        turned = _same_shape((height, width), resolution_wh)
        why = (
            "it lies on its side, perhaps since the photograph is turned by its EXIF orientation "
            "and the mask was drawn without; turn the mask by 90 degrees"
            if turned
            else "not the same picture at another size"
        )
        raise ImageError(
            f"{path} is {width} x {height} px, its image {want_w} x {want_h} px: {why}.",
            kind="mask_size",
        )
    return cv2.resize(values, (want_w, want_h), interpolation=cv2.INTER_NEAREST)


def least_grey(path: Path) -> int:
    """The least value of a mask that is no noise of its file format."""
    return LEAST_JPEG_GREY if path.suffix.lower() in (".jpg", ".jpeg") else 1


def _refuse_greys(path: Path, values: np.ndarray, threshold: int) -> None:
    """Refuse a mask, (H, W) uint8, that marks areas by several greys of which some would be taken
    for background. Soft edges are none: no 3 x 3 px of them are alike."""
    low = (values > 0) & (values <= threshold)
    if not low.any() or values.max() <= threshold:
        return
    square = np.ones((3, 3), np.uint8)
    inside = low & (cv2.erode(values, square) == cv2.dilate(values, square))
    inside &= values >= least_grey(path)
    if least_grey(path) > 1:
        few = bool(4 * np.count_nonzero(inside) < np.count_nonzero(low))
    else:
        few = bool(len(np.unique(values)) > MOST_CLASSES)  # of a map of probabilities
    greys = np.unique(values[inside])
    if few or not len(greys):
        return
    shown = ", ".join(map(str, greys[:4])) + (", …" if len(greys) > 4 else "")
    raise ImageError(
        f"{path} marks areas by the value {shown} beside {values.max()}, and those up to "
        f"{threshold} would be background; if they are defects too, add --mask-threshold "
        f"{int(greys[0]) - 1}, else say so with --mask-threshold {threshold}.",
        kind="mask_levels",
    )


def mask_levels(path: Path) -> list[int]:
    """Values above 0 that a mask holds, ascending.

    Raises:
        ImageError: unreadable.
    """
    return [int(value) for value in np.unique(_mask_values(path)) if value]


def mask_encoding(paths: Sequence[Path], threshold: int = 127) -> MaskEncoding:
    """Tell class-number masks from black-and-white ones, by looking at a whole set.

    `index` if some mask of the set is not empty and none has a value above `threshold`; unreadable
    ones are passed over.

    Raises:
        SourceError: `index` it would be, but a mask has several values of which some are above
            `MOST_CLASSES`, as one with soft edges has that is drawn in grey instead of white.
    """
    unclear: tuple[Path, list[int]] | None = None
    filled = False
    for path in paths:
        try:
            levels = mask_levels(path)
        except ImageError:
            continue
        if levels and levels[-1] > threshold:
            return "binary"
        filled = filled or bool(levels)
        if len(levels) > 1 and levels[-1] > MOST_CLASSES and unclear is None:
            unclear = path, levels
    if unclear is not None:
        path, levels = unclear
        raise SourceError(
            f"No mask has a value above {threshold}, and {path} has {len(levels)} values up to "
            f"{levels[-1]}, too high for class numbers (1 to {MOST_CLASSES}): if it is grey on "
            f"black, say from which value on it is defect, --mask-threshold {levels[-1] // 2}."
        )
    return "index" if filled else "binary"


def like_a_mask(pixels: np.ndarray) -> Likeness:
    """Whether a picture, (H, W, 3) uint8, is a mask by its looks: `surely` with four grey levels at
    most, `almost` with black and white both there and nearly alone."""
    grey = pixels.max(axis=2)
    if len(np.unique(grey[::8, ::8])) <= 4 and len(np.unique(grey)) <= 4:
        return "surely"
    black, white = (grey == 0).mean(), (grey == 255).mean()
    return "almost" if min(black, white) > 0 and black + white > LEAST_EXTREME else "no"


def _same_shape(size_wh: tuple[int, int], other_wh: tuple[int, int]) -> bool:
    return abs(size_wh[0] * other_wh[1] / (size_wh[1] * other_wh[0]) - 1) <= ASPECT_TOLERANCE


def _mask_values(path: Path) -> np.ndarray:
    """A mask's stored values, (H, W) uint8, upright."""
    data = bytes_of(path)
    with opened(data, path) as image:
        deep = deep_pixels(image, data, path)
        if deep is not None:
            flat = deep.max(axis=2) if deep.ndim == 3 else deep
            # rounded up, so that what is marked stays marked
            small = flat if flat.max() < 256 else (flat.astype(np.uint32) + 256) // 257
            image = as_image(small.astype(np.uint8), image)
        elif image.mode in ("P", "PA"):
            image = as_image(_palette_values(image, path), image)
        turned = ImageOps.exif_transpose(image)
        if turned.mode in ("1", "CMYK", "YCbCr", "LAB", "HSV"):
            turned = turned.convert("L")
        elif turned.mode == "LA":
            turned = turned.getchannel(0)
        values = np.asarray(turned)
    return values if values.ndim == 2 else np.ascontiguousarray(values[..., :3].max(axis=2))


def _palette_values(image: Image.Image, path: Path) -> np.ndarray:
    """Greys, or class numbers, of an image with a palette, (H, W) uint8; see the top of this
    file."""
    numbers = np.asarray(image.getchannel("P"))
    stated = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(stated)] = stated
    if (colours == colours[:, :1]).all():
        return colours[numbers, 0]
    if colours[0].any():
        raise ImageError(
            f"{path} has a palette of colours whose number 0 is not black, so that nobody knows "
            "what is background; save it in grey, white on the defect."
        )
    return np.where((colours[numbers] == _VOC_BORDER).all(axis=2), 0, numbers).astype(np.uint8)
