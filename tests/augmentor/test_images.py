"""Reading images and masks: every mode, depth and orientation; damage; limits."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from augmentor.errors import ImageError, SourceError
from augmentor.images import (
    MAX_PIXELS,
    deep_bits,
    is_deep,
    read_upright,
)

H, W = 6, 10


def ramp() -> np.ndarray:
    return np.arange(H * W, dtype=np.uint8).reshape(H, W) * 4


def rgb() -> np.ndarray:
    return np.stack([ramp(), 255 - ramp(), ramp() // 2], axis=2)


def test_a_grey_png_is_taken_as_it_is(tmp_path: Path) -> None:
    Image.fromarray(ramp()).save(tmp_path / "a.png")
    pixels, grey, changed = read_upright(tmp_path / "a.png")
    assert pixels.shape == (H, W, 3) and pixels.dtype == np.uint8
    assert (pixels == ramp()[..., None]).all()
    assert (grey, changed) == (True, False)


def test_a_colour_png_is_taken_as_it_is(tmp_path: Path) -> None:
    Image.fromarray(rgb()).save(tmp_path / "a.png")
    pixels, grey, changed = read_upright(tmp_path / "a.png")
    assert (pixels == rgb()).all()
    assert (grey, changed) == (False, False)


def test_three_equal_channels_are_grey(tmp_path: Path) -> None:
    Image.fromarray(np.repeat(ramp()[..., None], 3, 2)).save(tmp_path / "a.png")
    assert read_upright(tmp_path / "a.png")[1:] == (True, False)


def test_transparency_is_composited_on_black(tmp_path: Path) -> None:
    alpha = np.full((H, W), 255, np.uint8)
    alpha[:, 0] = 0
    Image.fromarray(np.dstack([rgb(), alpha])).save(tmp_path / "a.png")
    pixels, _, changed = read_upright(tmp_path / "a.png")
    assert changed
    assert (pixels[:, 0] == 0).all()
    assert (pixels[:, 1:] == rgb()[:, 1:]).all()


def test_a_palette_is_expanded(tmp_path: Path) -> None:
    image = Image.fromarray((ramp() // 64).astype(np.uint8), mode="P")
    image.putpalette([0, 0, 0, 200, 10, 20, 30, 210, 40, 50, 60, 220])
    image.save(tmp_path / "a.png")
    pixels, grey, changed = read_upright(tmp_path / "a.png")
    assert (grey, changed) == (False, True)
    assert pixels[H - 1, W - 1].tolist() == [50, 60, 220]


@pytest.mark.parametrize(("bits", "expected"), [(8, 8), (10, 10), (12, 12), (14, 14), (16, 16)])
def test_deep_grey_is_scaled_by_its_bit_depth(tmp_path: Path, bits: int, expected: int) -> None:
    full = 2**bits - 1
    deep = np.linspace(0, full, H * W).round().astype(np.uint16).reshape(H, W)
    Image.fromarray(deep).save(tmp_path / "a.png")
    assert is_deep(tmp_path / "a.png")
    assert deep_bits([tmp_path / "a.png"]) == {tmp_path / "a.png": expected}
    pixels, grey, changed = read_upright(tmp_path / "a.png")
    assert (grey, changed) == (True, True)
    want = np.round(deep / full * 255)
    assert np.abs(pixels[..., 0] - want).max() <= 1
    assert pixels.max() == 255


def test_a_set_of_deep_images_is_scaled_alike(tmp_path: Path) -> None:
    dark, bright = np.full((H, W), 500, np.uint16), np.full((H, W), 4000, np.uint16)
    Image.fromarray(dark).save(tmp_path / "dark.tif")
    Image.fromarray(bright).save(tmp_path / "bright.tif")
    bits = max(deep_bits([tmp_path / "dark.tif", tmp_path / "bright.tif"]).values())
    assert bits == 12
    assert read_upright(tmp_path / "dark.tif", bits)[0].max() == round(500 / 4095 * 255)


def test_deep_colour_keeps_its_channels_and_low_bits(tmp_path: Path) -> None:
    deep = (rgb().astype(np.uint16) * 16)[..., ::-1]  # 12 bit, BGR for OpenCV
    cv2.imwrite(str(tmp_path / "a.png"), deep)
    pixels, grey, _ = read_upright(tmp_path / "a.png")
    assert not grey
    assert np.abs(pixels.astype(int) - rgb()).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(tmp_path: Path, orientation: int) -> None:
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :8] = 255
    undo = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}[orientation]
    turn = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # Pillow's transpose by orientation
    stored = Image.fromarray(upright)
    if undo != 1:
        stored = stored.transpose(Image.Transpose(turn[undo]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.jpg", exif=exif, quality=100)
    pixels, _, changed = read_upright(tmp_path / "a.jpg")
    assert pixels.shape == (16, 32, 3)
    assert changed == (orientation != 1)
    assert pixels[:8, :8].mean() > 240 and pixels[8:, 8:].mean() < 15


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 90, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageError, match="is not a whole image"):
        read_upright(path)


def test_a_truncated_file_is_refused_though_a_library_made_pillow_lenient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("PIL.ImageFile.LOAD_TRUNCATED_IMAGES", True)
    path = tmp_path / "a.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 90), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(ImageError, match="is not a whole image"):
        read_upright(path)


def test_empty_and_foreign_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "b.png").write_text("hello")
    with pytest.raises(ImageError, match="is empty"):
        read_upright(tmp_path / "a.png")
    with pytest.raises(SourceError, match="is not a whole image"):
        read_upright(tmp_path / "b.png")
    with pytest.raises(ImageError, match=r"can't be read: No such file"):
        read_upright(tmp_path / "c.png")


def png_header(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc)

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(100_000, 10), (9_000, 9_000), (100_000, 100_000)])
def test_a_huge_image_is_refused_by_its_header(tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / "a.png").write_bytes(png_header(*size))
    with pytest.raises(ImageError, match="is too large") as caught:
        read_upright(tmp_path / "a.png")
    assert caught.value.kind == "too_large"
    assert f"{MAX_PIXELS:,} px" in str(caught.value)


def test_several_pictures_in_one_file_are_refused(tmp_path: Path) -> None:
    pages = [Image.fromarray(ramp()), Image.fromarray(255 - ramp())]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(ImageError, match="holds 2 pictures"):
        read_upright(tmp_path / "a.tif")


def test_floating_point_is_refused(tmp_path: Path) -> None:
    Image.fromarray(ramp().astype(np.float32) / 7).save(tmp_path / "a.tif")
    with pytest.raises(ImageError, match="floating-point"):
        read_upright(tmp_path / "a.tif")
