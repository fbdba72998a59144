"""Protocols: how a project's images are split, by name. docs/protocols.md says why and what for.

`few-shot` is ours (splits.py). `anomalydiffusion` is the split of the code that came with Hu et
al., *AnomalyDiffusion: Few-Shot Anomaly Image Generation with Diffusion Model*, AAAI 2024, which
later work on anomaly generation keeps to: per product of MVTec AD, and per defect type, the first
third of the images in the order of their names is trained on, and the rest is tested together
with all of test/good.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from augmentor.errors import SplitError
from augmentor.splits import RULE
from generator.files import sha256_of
from generator.records import DefectExample, Split

Protocol = Literal["few-shot", "anomalydiffusion"]

FEW_SHOT: Protocol = "few-shot"
ANOMALYDIFFUSION: Protocol = "anomalydiffusion"

RULES: dict[str, str] = {
    FEW_SHOT: RULE,
    ANOMALYDIFFUSION: (
        "train: the first floor(n / 3) of the n files in each test/<defect>, by name, and "
        "train/good; val: a share of each of those, by sha256(seed, content); test: all else in "
        "test/"
    ),
}
"""By protocol, what `splits.json` says of how the sides were chosen."""


def check_protocol(protocol: str, *, shots: int | None, group_by: str | None) -> None:
    """Refuse arguments that would change a split that others made.

    Raises:
        SplitError: the protocol is unknown, or doesn't go with the other arguments.
    """
    if protocol not in RULES:
        raise SplitError(
            f"There is no protocol {protocol!r}; type --protocol {' or --protocol '.join(RULES)}."
        )
    option = "--shots" if shots is not None else "--group-by" if group_by is not None else None
    if protocol != FEW_SHOT and option is not None:
        raise SplitError(
            f"The protocol {protocol} says which image is trained on, so {option} has no place in "
            f"it; leave it out, or type --protocol {FEW_SHOT}."
        )


def assign_anomalydiffusion(
    records: Sequence[DefectExample], images: Iterable[Path], *, seed: int, val: float
) -> dict[str, Split]:
    """Give every record of an MVTec tree its side.

    What is counted is files, usable or not, so that a file that was left out moves no other one
    across the line. Val is taken out of the training side alone: `val` of each defect type's
    third and of train/good, to the nearest image, and at least one where there are two.
    A `validation` folder, which MVTec LOCO has, is val.

    Args:
        records: of one product, each at <product>/<train or test>/<type>/<file>.
        images: every image file of the source.
        seed: of the choice of val.
        val: share of the training side, 0 to below 1.

    Returns:
        Side by id, for every record.

    Raises:
        SplitError: a record lies elsewhere, or the share is out of range.
    """
    if not 0 <= val < 1:
        raise SplitError(f"val is a share from 0 to below 1, got {val}; try --val 0.2.")
    clean = {r.source_path.parent for r in records if r.is_clean}
    first_third = _first_thirds(images, clean)
    sides: dict[str, Split] = {}
    trained: dict[Path, list[DefectExample]] = defaultdict(list)
    for record in records:
        side = record.source_path.parent.parent.name
        if side not in ("train", "test", "validation"):
            raise SplitError(
                f"{record.source_path} is not in <product>/train or <product>/test, as the "
                f"protocol {ANOMALYDIFFUSION} needs it; type --layout mvtec with a product of "
                f"MVTec AD, or --protocol {FEW_SHOT}."
            )
        if side == "validation":
            sides[record.id] = "val"
        elif side == "train" or record.source_path in first_third:
            trained[record.source_path.parent].append(record)
        else:
            sides[record.id] = "test"
    for of_type in trained.values():
        of_type.sort(key=lambda record: sha256_of([seed, record.sha256]))
        number = _of_val(len(of_type), val)
        sides |= {r.id: "val" if k < number else "train" for k, r in enumerate(of_type)}
    return sides


def _first_thirds(images: Iterable[Path], clean: set[Path]) -> set[Path]:
    """The first floor(n / 3) files of every folder, by name; none of clean ones."""
    folders: dict[Path, list[Path]] = defaultdict(list)
    for image in images:
        folders[image.parent].append(image)
    return {
        image
        for folder, files in folders.items()
        if folder not in clean
        for image in sorted(files, key=lambda file: file.name)[: len(files) // 3]
    }


def _of_val(number: int, share: float) -> int:
    if number < 2 or not share:
        return 0
    return min(number - 1, max(1, math.floor(number * share + 0.5)))
