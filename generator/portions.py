"""How many rows go through a network at once: as many as fit into memory."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

Item = TypeVar("Item")
Made = TypeVar("Made")


class Portions:
    """Cuts work into portions, and halves them for good when memory runs out.

    A row's result may differ in rounding with the number of rows beside it, and in nothing else.

    Attributes:
        at_once: rows in a portion.
    """

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once

    def over(
        self, items: Sequence[Item], work: Callable[[Sequence[Item]], Made]
    ) -> Iterator[tuple[Sequence[Item], Made]]:
        """`work` on all items in order, a portion at a time.

        A portion that does not fit is done again in halves; what was done before it is kept.

        Yields:
            Each portion, and what `work` made of it.

        Raises:
            torch.OutOfMemoryError: one item alone does not fit.
        """
        done = 0
        while done < len(items):
            portion = items[done : done + self.at_once]
            try:
                made = work(portion)
            except torch.OutOfMemoryError:
                if len(portion) == 1:
                    raise
            else:
                yield portion, made
                done += len(portion)
                continue
            # Only here: as long as the error is handled, its traceback holds what was computed.
            self.at_once = math.ceil(len(portion) / 2)
            release_memory()


def release_memory() -> None:
    """Give back what torch keeps for later, so that blocks of other sizes find room."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
