"""How evenly a class's synthetic images are spread over the real ones that lent them a defect.

Rules that reject, and places that some defects hardly fit, can leave a class to one or two of its
real images; a detector then learns those, however many samples there are.
"""

import math
from collections import Counter
from collections.abc import Sequence, Set

from generator.records import SyntheticDefect

EVENNESS = 1.5
"""How many times its equal share of a class's samples one real image may lend."""


def most_of_one(wanted: int, images: int) -> int:
    """Samples that one real image may lend, of `wanted` in all, where a class has `images`."""
    return max(1, math.ceil(EVENNESS * wanted / images)) if images else wanted


def count_even(lent: Counter[str | None], most: int) -> int:
    """How many samples can be taken with at most `most` of one real image.

    Args:
        lent: samples by the real image that lent their shape; None: those that none lent.
        most: as of `most_of_one`.
    """
    return sum(n if image is None else min(n, most) for image, n in lent.items())


def evenly(
    samples: Sequence[SyntheticDefect], most: int, keep: Set[str] = frozenset()
) -> list[SyntheticDefect]:
    """`samples` in their order, but those that come after `most` others of their real image last.

    Args:
        samples: of one class.
        most: as of `most_of_one`.
        keep: ids of samples that stay in their place whatever there is of their image.
    """
    lent: Counter[str | None] = Counter()
    first: list[SyntheticDefect] = []
    last: list[SyntheticDefect] = []
    for sample in samples:
        image = sample.lender
        over = image is not None and lent[image] >= most and sample.id not in keep
        (last if over else first).append(sample)
        lent[image] += 1
    return [*first, *last]


def most_lent(samples: Sequence[SyntheticDefect]) -> tuple[str, int]:
    """The real image that lent most of `samples`, and how many; an empty name and 0 for none."""
    lent = Counter(sample.lender for sample in samples if sample.lender is not None)
    return lent.most_common(1)[0] if lent else ("", 0)
