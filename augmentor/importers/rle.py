"""COCO's run lengths, compressed or not, into masks.

The compressed ones as in `maskApi.c` of pycocotools: 5 bits a letter, the sixth says that the
number goes on, and from the fourth run on it is the difference to the run before the last.
Decoded here, since pycocotools doesn't check that the runs cover the image.
"""

from typing import Any

import numpy as np

from augmentor.errors import ImageError


def rle_mask(rle: Any, resolution_wh: tuple[int, int]) -> np.ndarray:
    """(H, W) bool mask of `{"size": [H, W], "counts": runs}`, column by column, background first.

    Raises:
        ImageError: `rle` is damaged, or of another size than `resolution_wh`.
    """
    width, height = resolution_wh
    try:
        stated = tuple(int(side) for side in rle["size"])
        counts = rle["counts"]
        runs = _unpacked(counts) if isinstance(counts, str) else [int(run) for run in counts]
        if len(stated) != 2 or min(runs, default=0) < 0:
            raise ValueError("sizes or runs that can't be")
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as fault:
        raise ImageError(f"its run lengths can't be read ({fault})", "bad_label") from None
    if stated != (height, width):
        raise ImageError(
            f"its run lengths are for {stated[1]} x {stated[0]} px, not {width} x {height} px",
            "bad_label",
        )
    if sum(runs) != height * width:
        raise ImageError(
            f"its run lengths cover {sum(runs)} px, not {width} x {height} px", "bad_label"
        )
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(width, height).T


def _unpacked(text: str) -> list[int]:
    runs: list[int] = []
    at = 0
    while at < len(text):
        number, shift, goes_on = 0, 0, True
        while goes_on:
            letter = ord(text[at]) - 48
            if not 0 <= letter < 64:
                raise ValueError(f"{text[at]!r} is no letter of theirs")
            number |= (letter & 31) << shift
            at, shift, goes_on = at + 1, shift + 5, letter >= 32
        if letter & 16:
            number -= 1 << shift
        runs.append(number + runs[-2] if len(runs) > 2 else number)
    return runs
