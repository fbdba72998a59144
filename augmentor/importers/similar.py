"""Near-identical photographs: the same part under another exposure, the next frame of a video.

Found by a difference hash, and confirmed by the correlation of miniatures without their coarse
light and shade, since on smooth surfaces hashes agree by chance. A warning, not a verdict; with
`--group-by similar` such photographs (and those that they resemble in turn) are kept on one side.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from augmentor.importers.scan import Tree
from generator.records import DefectExample

GROUP_BY_SIMILAR = "similar"
NEAR_BITS = 16
LEAST_CORRELATION = 0.9
MOST_COMPARED = 20_000
"""Above this many images near-identical ones are not looked for (and the report says so)."""


class Look(NamedTuple):
    """What an image looks like: hash, (32,) uint8 packed bits; miniature, (1024,) float16,
    high-passed, of norm 1."""

    bits: np.ndarray
    miniature: np.ndarray


def look_of(pixels: np.ndarray) -> Look:
    """Difference hash (signs of the horizontal steps of a 17 x 16 miniature) and a 32 x 32
    miniature of an image, (H, W, 3) uint8."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (17, 16), interpolation=cv2.INTER_AREA).astype(np.int16)
    tiny = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    fine = tiny - cv2.GaussianBlur(tiny, (0, 0), 6.0)
    fine -= fine.mean()
    fine /= max(float(np.linalg.norm(fine)), 1e-6)
    return Look(np.packbits(small[:, 1:] > small[:, :-1]), fine.ravel().astype(np.float16))


def similar_pairs(looks: Sequence[Look]) -> list[tuple[int, int]]:
    """Positions of near-identical images: at most `NEAR_BITS` of 256 hash bits differ, and the
    miniatures correlate by at least `LEAST_CORRELATION`."""
    if len(looks) < 2:
        return []
    bits = np.stack([look.bits for look in looks])
    small = np.stack([look.miniature for look in looks])
    pairs = []
    for k in range(len(looks) - 1):
        distance = np.bitwise_count(bits[k + 1 :] ^ bits[k]).sum(1)
        near = np.flatnonzero(distance <= NEAR_BITS) + k + 1
        alike = small[near].astype(np.float32) @ small[k].astype(np.float32)
        pairs += [(k, int(other)) for other in near[alike >= LEAST_CORRELATION]]
    return pairs


def group_similar(
    records: Sequence[DefectExample], pairs: Sequence[tuple[int, int]]
) -> list[DefectExample]:
    """Records with `group` set to `similar:<least id>` where they resemble others, or were of one
    group already, directly or through a chain."""
    last: dict[str, int] = {}
    together = list(pairs)
    for number, record in enumerate(records):
        if record.group is not None:
            together.append((last.get(record.group, number), number))
            last[record.group] = number
    if not together:
        return list(records)
    ends = np.array(together)
    graph = sparse.coo_matrix((np.ones(len(ends)), ends.T), shape=(len(records),) * 2)
    count, label = csgraph.connected_components(graph, directed=False)
    sizes = np.bincount(label, minlength=count)
    least: dict[int, str] = {}
    for record, group in zip(records, label, strict=True):
        least[group] = min(least.get(group, record.id), record.id)
    named = {group: f"similar:{least[group]}" for group in least if sizes[group] > 1}
    return [
        record.model_copy(update={"group": named.get(group)})
        for record, group in zip(records, label, strict=True)
    ]


def report_similar(
    records: Sequence[DefectExample], pairs: Sequence[tuple[int, int]] | None, tree: Tree
) -> tuple[dict[str, Any], list[str]]:
    """What the import report says: pairs on different sides (train and reserve count as one).

    Args:
        records: with sides, in the order that `pairs` speaks of.
        pairs: from `similar_pairs`; None where nothing was compared.
        tree: the source, for names.

    Returns:
        The report's entry, and warnings.
    """
    if pairs is None:
        sentence = f"Near-identical photographs were not looked for among {len(records)} images."
        return {"checked": False}, [sentence]
    side: Mapping[str, int] = {"val": 1, "test": 2}
    sides = [side.get(record.split or "", 0) for record in records]
    apart = [(a, b) for a, b in pairs if sides[a] != sides[b]]
    names = [[tree.name(records[k].source_path) for k in pair] for pair in apart[:20]]
    entry = {"checked": True, "pairs": len(pairs), "apart": len(apart), "examples": names}
    if not apart:
        return entry, []
    return entry, [
        f"{len(apart)} pairs of near-identical photographs stand on different sides of the split, "
        f"such as {names[0][0]} and {names[0][1]}; if they show the same part, a test would "
        f"flatter: import into another project with --group-by {GROUP_BY_SIMILAR} or --group-by "
        "REGEX: augment import SOURCE --name OTHER --project OTHER."
    ]
