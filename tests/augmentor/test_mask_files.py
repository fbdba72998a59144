"""Masks: every mode, palette and scale, and what their values mean."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from augmentor.errors import ImageError, SourceError
from augmentor.importers.mask_files import mask_encoding, mask_levels, read_mask

H, W = 6, 10


def ramp() -> np.ndarray:
    return np.arange(H * W, dtype=np.uint8).reshape(H, W) * 4


def test_jpeg_fringes_fall_on_one_side_of_the_threshold(tmp_path: Path) -> None:
    values = np.array([[0, 3, 120, 127, 128, 200, 252, 255, 0, 0]] * H, np.uint8)
    Image.fromarray(values).save(tmp_path / "m.png")
    assert read_mask(tmp_path / "m.png", (W, H))[0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 0, 0]
    low = read_mask(tmp_path / "m.png", (W, H), threshold=100)
    assert low[0].tolist() == [0, 0, 1, 1, 1, 1, 1, 1, 0, 0]


def test_a_mask_of_half_the_size_is_scaled_and_one_of_another_shape_refused(tmp_path: Path) -> None:
    small = np.zeros((3, 5), np.uint8)
    small[1, 2] = 255
    Image.fromarray(small).save(tmp_path / "m.png")
    mask = read_mask(tmp_path / "m.png", (10, 6))
    assert mask.shape == (6, 10) and mask.sum() == 4 and mask[2:4, 4:6].all()
    with pytest.raises(ImageError, match="5 x 3 px, its image 6 x 10 px") as caught:
        read_mask(tmp_path / "m.png", (6, 10))
    assert caught.value.kind == "mask_size"


def test_masks_in_colour_bilevel_and_with_alpha(tmp_path: Path) -> None:
    truth = ramp() > 100
    grey = truth.astype(np.uint8) * 255
    red = np.dstack([grey, grey * 0, grey * 0])
    Image.fromarray(red).save(tmp_path / "red.png")
    Image.fromarray(truth).save(tmp_path / "bilevel.png")
    Image.fromarray(np.dstack([grey] * 3 + [np.full_like(grey, 9)])).save(tmp_path / "alpha.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    for name in ("red", "bilevel", "alpha", "deep"):
        assert (read_mask(tmp_path / f"{name}.png", (W, H)) == truth).all(), name


def test_class_number_masks_are_told_from_black_and_white(tmp_path: Path) -> None:
    values = (ramp() // 100).astype(np.uint8)  # 0, 1, 2
    Image.fromarray(values).save(tmp_path / "index.png")
    Image.fromarray(values * 0).save(tmp_path / "empty.png")
    Image.fromarray(values * 100).save(tmp_path / "binary.png")
    index, empty, binary = (tmp_path / f"{n}.png" for n in ("index", "empty", "binary"))
    assert mask_encoding([empty, index]) == "index"
    assert mask_encoding([empty, index, binary]) == "binary"
    assert mask_encoding([empty]) == "binary"
    assert (read_mask(index, (W, H), encoding="index") == values).all()


def palette(path: Path, numbers: np.ndarray, colours: list[tuple[int, int, int]]) -> Path:
    image = Image.fromarray(numbers.astype(np.uint8), mode="P")
    image.putpalette([value for colour in colours for value in colour])
    image.save(path)
    return path


BLACK, WHITE, RED, CREAM = (0, 0, 0), (255, 255, 255), (255, 0, 0), (224, 224, 192)


@pytest.mark.parametrize("suffix", [".png", ".gif"])
def test_a_palette_of_greys_is_read_by_its_colours(tmp_path: Path, suffix: str) -> None:
    truth = ramp() > 100
    for name, numbers, colours in (
        ("plain", truth, [BLACK, WHITE]),
        ("white-first", ~truth, [WHITE, BLACK]),
        ("padded", ~truth, [WHITE, BLACK, *[BLACK] * 254]),
        ("ramp", truth * 255, [(k, k, k) for k in range(256)]),
    ):
        path = palette(tmp_path / f"{name}{suffix}", numbers, colours)
        assert (read_mask(path, (W, H)) == truth).all(), name


def test_a_palette_of_colours_holds_class_numbers(tmp_path: Path) -> None:
    numbers = ramp() // 100  # 0, 1, 2
    path = palette(tmp_path / "m.png", numbers, [BLACK, RED, WHITE])
    assert mask_encoding([path]) == "index"
    assert (read_mask(path, (W, H), encoding="index") == numbers).all()
    only_white = palette(tmp_path / "w.png", 2 * (numbers == 2), [BLACK, RED, WHITE])
    assert mask_levels(only_white) == [2], "read like the others of its set"


def test_the_cream_border_of_pascal_voc_is_background(tmp_path: Path) -> None:
    colours = [BLACK, (128, 0, 0), *[(0, 64, k % 200) for k in range(253)], CREAM]
    numbers = np.zeros((H, W), np.uint8)
    numbers[1:5, 2:8], numbers[2:4, 3:7] = 255, 1
    path = palette(tmp_path / "m.png", numbers, colours)
    assert mask_levels(path) == [1] and mask_encoding([path]) == "index"


def test_a_palette_of_colours_without_black_first_is_refused(tmp_path: Path) -> None:
    for k, colours in enumerate(([WHITE, RED], [RED, BLACK])):
        path = palette(tmp_path / f"{k}.png", ramp() > 100, colours)
        with pytest.raises(ImageError, match=r"number 0 is not black.*save it in grey"):
            read_mask(path, (W, H))


def test_faint_masks_with_soft_edges_hold_no_class_numbers(tmp_path: Path) -> None:
    hard, soft = np.zeros((H, W), np.uint8), np.zeros((H, W), np.uint8)
    hard[2:4, 3:7] = 100
    soft[2:4, 3:7], soft[1, 3:7] = 100, 43
    for name, values in (("hard", hard), ("soft", soft)):
        Image.fromarray(values).save(tmp_path / f"{name}.png")
    paths = [tmp_path / "hard.png", tmp_path / "soft.png"]
    assert mask_encoding(paths[:1]) == "index", "one value is of one class, whichever it is"
    with pytest.raises(SourceError, match=r"soft\.png has 2 values up to 100.*--mask-threshold 50"):
        mask_encoding(paths)
    assert mask_encoding(paths, 50) == "binary"


def test_what_is_marked_in_a_deep_mask_stays_marked(tmp_path: Path) -> None:
    values = np.zeros((H, W), np.uint16)
    values[0, :3] = 1, 300, 1000
    Image.fromarray(values).save(tmp_path / "m.png")
    assert mask_levels(tmp_path / "m.png") == [1, 2, 4]


def test_a_mask_on_its_side_is_told_so(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((W, H), np.uint8)).save(tmp_path / "m.png")
    with pytest.raises(ImageError, match=r"lies on its side.*turn the mask by 90 degrees"):
        read_mask(tmp_path / "m.png", (W, H))
