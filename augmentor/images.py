"""Reading photographs as people really store them (masks: importers/mask_files.py).

One convention comes out, whatever went in: upright, 8 bit, (H, W, 3) RGB. The rules, stated once:

- grey files become three equal channels; transparency is composited on black; palettes are
  expanded; CMYK is converted; EXIF orientation is applied;
- files of more than 8 bit are scaled by their bit depth, which is the smallest of 8, 10, 12, 14
  and 16 that holds the largest value, so 12-bit data in a 16-bit file comes out at full brightness;
  the importer finds it once for a whole set, so that all its images are scaled alike;
- no side over `MAX_SIDE` px and no image over `MAX_PIXELS` px is decoded;
- a file counts as readable only when every pixel of it was decoded.
"""

import io
import struct
import warnings
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageFile, ImageOps

from augmentor.errors import ImageError

MAX_SIDE = 32_766
MAX_PIXELS = 80_000_000
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif"})

_PLAIN_FORMATS = frozenset({"JPEG", "MPO", "PNG", "BMP"})
_GREY_MODES = frozenset({"1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "I;16N"})
_ORIENTATION = 0x0112


def read_upright(path: Path, bits: int | None = None) -> tuple[np.ndarray, bool, bool]:
    """Read an image by the rules at the top of this file.

    Args:
        path: of the image.
        bits: depth to scale by where the file has more than 8 bit; None: this file's own.

    Returns:
        The image, (H, W, 3) uint8 RGB; whether it is grey (three equal channels everywhere);
        whether the file differs from what any reader would take as it is (so that a normalised
        copy is needed).

    Raises:
        ImageError: unreadable, damaged, too large, of several pictures or of floating point.
    """
    return decode_upright(bytes_of(path), path, bits)


def decode_upright(
    data: bytes, path: Path, bits: int | None = None
) -> tuple[np.ndarray, bool, bool]:
    """Like `read_upright`, from a file's bytes; `path` is for messages."""
    with opened(data, path) as image:
        upright = image.getexif().get(_ORIENTATION, 1) == 1
        plain = upright and image.format in _PLAIN_FORMATS and image.mode in ("L", "RGB")
        deep = deep_pixels(image, data, path)
        if deep is not None:
            pixels = _scaled(deep, bits or _bits_for(int(deep.max())))
            turned = ImageOps.exif_transpose(as_image(pixels, image))
            pixels, grey_mode, plain = np.asarray(turned), pixels.ndim == 2, False
        else:
            grey_mode = image.mode in _GREY_MODES
            pixels = np.asarray(_flattened(ImageOps.exif_transpose(image)))
    if pixels.ndim == 2:
        return np.repeat(pixels[..., None], 3, axis=2), True, not plain
    grey = grey_mode or bool(
        (pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 1] == pixels[..., 2]).all()
    )
    return np.ascontiguousarray(pixels), grey, not plain


def stored_orientation(data: bytes, path: Path) -> int:
    """EXIF orientation of an image file, from its bytes: 1 is upright, 2 to 4 are mirrored or
    upside down, 5 to 8 lie on their side. `path` is for messages.

    Raises:
        ImageError: unreadable.
    """
    with opened(data, path) as image:
        stored = image.getexif().get(_ORIENTATION, 1)
    return stored if stored in range(1, 9) else 1


def deep_bits(paths: Sequence[Path]) -> dict[Path, int]:
    """Bit depth of each file with more than 8 bit: the smallest of 8, 10, 12, 14, 16 that holds its
    largest value. Unreadable files are passed over (they are reported where they are read for
    good)."""
    bits = {}
    for path in paths:
        try:
            data = bytes_of(path)
            with opened(data, path) as image:
                deep = deep_pixels(image, data, path)
        except ImageError:
            continue
        if deep is not None:
            bits[path] = _bits_for(int(deep.max()))
    return bits


def is_deep(path: Path) -> bool:
    """Whether the header promises more than 8 bit a channel; False for an unreadable file."""
    try:
        with path.open("rb") as stream:
            head = stream.read(32)
        if head.startswith(b"\x89PNG\r\n\x1a\n"):
            return head[24] == 16
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return _has_deep_header(image)
    except (
        OSError,
        SyntaxError,
        ValueError,
        IndexError,
        ImportError,
        Image.DecompressionBombError,
    ):
        return False


def bytes_of(path: Path) -> bytes:
    """A file's content; a file that can't be read is an `ImageError`."""
    try:
        return path.read_bytes()
    except OSError as fault:
        raise ImageError(f"{path} can't be read: {fault.strerror or fault}.") from None


def opened(data: bytes, path: Path) -> Image.Image:
    """Open and fully decode; every way in which Pillow fails becomes one sentence."""
    lenient = ImageFile.LOAD_TRUNCATED_IMAGES  # other libraries switch it on for the process
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data))
            _check_size(image.size, path)
            if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
                raise ImageError(
                    f"{path} holds {image.n_frames} pictures; save one file for each."  # type: ignore[attr-defined]
                )
            image.load()
            image.getexif()  # read when it is first asked for, and damaged it fails then
    except Image.DecompressionBombError:
        raise ImageError(_too_large(path, "far over that"), kind="too_large") from None
    # ImportError: ultralytics, once it is imported, makes Pillow look for a HEIF plugin first.
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        IndexError,
        KeyError,
        ImportError,
        struct.error,
    ) as fault:
        # Pillow's own sentence names the buffer in memory, another one at each import
        foreign = isinstance(fault, Image.UnidentifiedImageError | ImportError)
        reason = "of no format that is read here" if foreign else " ".join(str(fault).split())
        what = f"is not a whole image ({reason})" if data else "is empty"
        raise ImageError(f"{path} {what}.") from None
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = lenient
    return image


def _check_size(resolution_wh: tuple[int, int], path: Path) -> None:
    width, height = resolution_wh
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise ImageError(_too_large(path, f"{width} x {height} px"), kind="too_large")


def _too_large(path: Path, size: str) -> str:
    return (
        f"{path} is too large ({size}): at most {MAX_SIDE:,} px a side and {MAX_PIXELS:,} px in "
        "all; cut it into tiles or scale it down."
    )


def _has_deep_header(image: Image.Image) -> bool:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return True
    if image.format == "TIFF":
        depths = image.tag_v2.get(258, (8,))  # type: ignore[attr-defined]
        return max(depths if isinstance(depths, tuple) else (depths,)) > 8
    return False


def deep_pixels(image: Image.Image, data: bytes, path: Path) -> np.ndarray | None:
    """Pixels of a file with more than 8 bit, (H, W) or (H, W, 3) uint16; None for other files.

    Pillow keeps only the upper byte of 16-bit colour, so those are decoded by OpenCV.
    """
    png_deep = image.format == "PNG" and data[24:25] == b"\x10"
    if not (png_deep or _has_deep_header(image)):
        return None
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        pixels = np.asarray(image)
    else:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if decoded is None:
            raise ImageError(f"{path} has a depth or compression that can't be read.")
        pixels = decoded
        if pixels.ndim == 3 and pixels.shape[2] == 4:
            alpha = pixels[..., 3:].astype(np.float64) / 65535
            pixels = np.round(pixels[..., :3] * alpha).astype(np.uint16)
        if pixels.ndim == 3:
            pixels = pixels[..., ::-1] if pixels.shape[2] == 3 else pixels[..., 0]
    if pixels.dtype.kind == "f" or pixels.min() < 0 or pixels.max() > 65535:
        raise ImageError(
            f"{path} has floating-point, negative or 32-bit values; save it with 8 or 16 bit."
        )
    return np.ascontiguousarray(pixels.astype(np.uint16))


def _bits_for(largest: int) -> int:
    return next(bits for bits in (8, 10, 12, 14, 16) if largest < 2**bits)


def _scaled(pixels: np.ndarray, bits: int) -> np.ndarray:
    full = 2**bits - 1
    return np.clip((pixels.astype(np.uint32) * 255 + full // 2) // full, 0, 255).astype(np.uint8)


def as_image(pixels: np.ndarray, source: Image.Image) -> Image.Image:
    """An 8-bit image that carries the orientation of `source`."""
    image = Image.fromarray(pixels)
    orientation = source.getexif().get(_ORIENTATION)
    if orientation:
        image.getexif()[_ORIENTATION] = orientation
    return image


def _flattened(image: Image.Image) -> Image.Image:
    """Grey or RGB, transparency composited on black."""
    if image.mode in ("L", "RGB"):
        return image
    if image.mode == "1":
        return image.convert("L")
    if image.mode in ("LA", "RGBA", "PA", "La", "RGBa") or "transparency" in image.info:
        clear = image.convert("RGBA")
        black = Image.new("RGBA", clear.size, (0, 0, 0, 255))
        flat = Image.alpha_composite(black, clear).convert("RGB")
        return flat.getchannel(0) if image.mode in ("LA", "La") else flat
    return image.convert("RGB")
