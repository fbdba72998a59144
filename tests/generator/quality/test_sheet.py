"""Contact sheets: what is drawn where, on images that are not square."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from generator.quality.sheet import (
    REAL_COLOUR,
    REJECTED_COLOUR,
    SYNTHETIC_COLOUR,
    Picture,
    Row,
    Section,
    synthetic_picture,
    tile,
    write_page,
    write_png_sections,
)
from generator.records import SyntheticDefect

SIDE = 96


def painted(pixels, colour):
    return (pixels == np.array(colour)).all(axis=-1)


def test_a_tile_is_plain_above_and_outlined_below():
    image = np.full((90, 150, 3), 120, np.uint8)
    mask = np.zeros((90, 150), bool)
    mask[30:50, 60:100] = True
    pixels = tile(image, mask, [(60, 30, 100, 50)], REAL_COLOUR, SIDE)
    assert pixels.shape == (2 * SIDE, SIDE, 3)
    assert not painted(pixels[:SIDE], REAL_COLOUR).any()
    ys, xs = np.nonzero(painted(pixels[SIDE:], REAL_COLOUR))
    # the window is 64 px high and 60 px wide, so 1.5 times enlarged; the outline is the mask's
    assert (xs.max() - xs.min() + 1) == pytest.approx(40 * SIDE / 64, abs=2)
    assert (ys.max() - ys.min() + 1) == pytest.approx(20 * SIDE / 64, abs=2)


def test_an_empty_mask_is_shown_without_an_outline():
    image = np.full((40, 70, 3), 120, np.uint8)
    empty = tile(image, np.zeros((40, 70), bool), [(5, 5, 30, 30)], REAL_COLOUR, SIDE)
    boxed = tile(image, None, [(5, 5, 30, 30)], REAL_COLOUR, SIDE)
    assert not painted(empty, REAL_COLOUR).any()
    assert painted(boxed, REAL_COLOUR).any()


@pytest.mark.parametrize(
    ("verdict", "colour"), [("accepted", SYNTHETIC_COLOUR), ("rejected", REJECTED_COLOUR)]
)
def test_the_outline_tells_the_verdict(tmp_path, verdict, colour):
    mask = np.zeros((60, 100), np.uint8)
    mask[10:20, 30:60] = 255
    Image.fromarray(np.full((60, 100), 90, np.uint8)).save(tmp_path / "i.png")
    Image.fromarray(mask).save(tmp_path / "m.png")
    sample = SyntheticDefect(
        id="0a1b",
        class_name="pit",
        index=0,
        seed=0,
        generator="g",
        fingerprint="f",
        image="i.png",
        mask="m.png",
        width=100,
        height=60,
        grey=True,
        boxes_xyxy=((30, 10, 60, 20),),
        mask_kind="exact",
        background_id=None,
        mask_source_id=None,
        source_ids=(),
        feather_px=3,
        crop_xyxy=(0, 0, 60, 60),
        verdict=verdict,
    )
    picture = synthetic_picture(tmp_path, sample, SIDE, lines=("seam 0.2",))
    assert painted(picture.pixels, colour).any()
    assert (picture.title, picture.lines) == ("0a1b", ("seam 0.2",))


@pytest.fixture
def sections():
    def picture(green, title, **more):
        # a colour that no text has on its edges
        pixels = np.full((2 * SIDE, SIDE, 3), (7, green, 7), np.uint8)
        return Picture(pixels, title, **more)

    odd = picture(99, "0a1b", lines=("x realism",), sentences=("realism: it is <2> times as far.",))
    rows = (
        Row("real: 3", REAL_COLOUR, tuple(picture(20 + k, f"{k}.png") for k in range(3))),
        Row("rejected: 1", REJECTED_COLOUR, (odd,)),
        Row("accepted: 0", SYNTHETIC_COLOUR, ()),
    )
    return [Section("pit & <hole>", rows), Section("scratch", rows[:1])]


def test_a_png_holds_every_tile_whole(sections, tmp_path):
    write_png_sections(tmp_path / "s.png", "title", sections)
    pixels = np.asarray(Image.open(tmp_path / "s.png"))
    for green, times in ((20, 2), (22, 2), (99, 1)):
        assert painted(pixels, (7, green, 7)).sum() == times * 2 * SIDE * SIDE


def test_a_page_needs_no_other_file_and_no_network(sections, tmp_path):
    write_page(tmp_path / "s.html", "title", ["a note"], sections)
    page = (tmp_path / "s.html").read_text()
    assert "http" not in page
    assert not re.search(r"<(script|link|iframe)", page)
    sources = re.findall(r'src="([^"]+)"', page)
    assert len(sources) == 3 + 1 + 3
    for source in sources:
        head, data = source.split(",")
        assert head == "data:image/jpeg;base64"
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == (SIDE, 2 * SIDE)
    assert "pit &amp; &lt;hole&gt;" in page
    assert "it is &lt;2&gt; times as far." in page
    assert "#cc3c64" in page
