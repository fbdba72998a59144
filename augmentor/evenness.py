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


def lender(sample: SyntheticDefect) -> str | None:
    """The real image whose defect a sample's is shaped after; None where none lent its shape."""
    source = sample.mask_source_id
    return None if source is None or source.startswith("procedural:") else source


def count_even(samples: Sequence[SyntheticDefect], most: int) -> int:
    """How many of `samples` can be taken with at most `most` of one real image."""
    lent = Counter(map(lender, samples))
    free = lent.pop(None, 0)
    return free + sum(min(number, most) for number in lent.values())


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
        source = lender(sample)
        over = source is not None and lent[source] >= most and sample.id not in keep
        (last if over else first).append(sample)
        lent[source] += 1
    return [*first, *last]


def most_lent(samples: Sequence[SyntheticDefect]) -> tuple[str, int]:
    """The real image that lent most of `samples`, and how many; an empty name and 0 for none."""
    lent = Counter(source for source in map(lender, samples) if source is not None)
    return lent.most_common(1)[0] if lent else ("", 0)
