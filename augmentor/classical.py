"""Classical augmentation as a pool: changed copies of the real defect images, with their masks.

This is what a user would try first, so it is a baseline that stands in every report: Buslaev et
al., *Albumentations: Fast and Flexible Image Augmentations*, Information 11(2), 2020.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from augmentor.errors import SourceError, disk_errors
from augmentor.items import Label, label_of
from augmentor.offline import stay_offline
from augmentor.records_io import content_of
from generator.files import sha256_of
from generator.images import ExampleReader, write_png
from generator.placement import box_of
from generator.pool import MANIFEST, read_pool, write_pool_manifest
from generator.records import Box, DefectExample, Instance, SyntheticDefect

NAME = "classical"
RULES = 2
"""Raised whenever the same image and seed would give other pixels than before."""

DRAWS = 12
"""Draws that push a defect out of the frame are repeated; after so many, it is only turned."""

LEAST_OF_LABEL, LEAST_OF_ANY = 0.6, 0.25
"""Share of a defect's area that must stay in the frame: of all instances of the image's own
class together, and of any instance that stays at all."""

SAVE_EVERY = 25

Chain = Literal["full", "upright", "turns"]


def write_classical_pool(
    examples: Sequence[DefectExample], numbers: Mapping[str, int], pool: Path, *, seed: int
) -> list[SyntheticDefect]:
    """Make whatever the pool does not hold yet: flips, turns, small affine changes, light,
    noise and blur.

    Sample i of a class is a copy of that class's image number i, in an order that is shuffled
    anew for each round, so that every image is used equally often. Its pixels depend on the seed,
    the class and i alone. A run that was killed continues.

    Args:
        examples: defect images of the train split; clean ones are passed over.
        numbers: how many to make for each class.
        pool: folder of the pool.
        seed: of the project.

    Returns:
        One record a sample, by class in the order of `numbers`, then by running number. Every
        instance of the image's own class has one box (all its parts together); instances of other
        classes, and those whose box meets a larger one of the own class, are `carried_instances`,
        with their masks in the pool.

    Raises:
        SourceError: a class is asked for of which there is no image.
        ExampleError: an image can't be read.
        PoolError: the pool's manifest is damaged.
        DiskError: no space left, or no right to write.
    """
    by_class: dict[str, list[DefectExample]] = {}
    for example in sorted(examples, key=lambda e: e.id):
        if not example.is_clean:
            by_class.setdefault(example.label, []).append(example)
    held = {r.id: r for r in read_pool(pool)} if (pool / MANIFEST).is_file() else {}
    reader, warps = ExampleReader(), _Warps()
    records: list[SyntheticDefect] = []
    unsaved = 0
    with disk_errors(pool):
        for name, number in numbers.items():
            sources = by_class.get(name, [])
            if number and not sources:
                raise SourceError(
                    f"There is no train image of class {name!r} to copy; run `augment import` "
                    "again with more images of it."
                )
            for index in range(number):
                job = _Job.of(name, index, seed, sources)
                if job.id not in held:
                    held[job.id] = _make(job, pool, reader, warps)
                    unsaved += 1
                records.append(held[job.id])
                if unsaved >= SAVE_EVERY:
                    write_pool_manifest(pool, _in_order(held))
                    unsaved = 0
        write_pool_manifest(pool, _in_order(held))
    return records


@dataclass(frozen=True)
class _Job:
    """One sample to make."""

    example: DefectExample
    index: int
    seed: int
    id: str

    @classmethod
    def of(cls, name: str, index: int, seed: int, sources: Sequence[DefectExample]) -> "_Job":
        """Which image sample `index` of a class is made from, and with which seed."""
        turn, place = divmod(index, len(sources))
        shuffle = np.random.default_rng(_number(seed, name, turn, "order"))
        example = sources[int(shuffle.permutation(len(sources))[place])]
        own = _number(seed, name, index, "pixels")
        made_from = [NAME, RULES, name, index, own, content_of(example)]
        return cls(example, index, own, sha256_of(made_from)[:16])


@dataclass(frozen=True)
class _Copy:
    """A changed image with its instances: uint8 (H, W) or (H, W, 3), bool masks (H, W), and by
    number a box around each that is still in the frame."""

    image: np.ndarray
    masks: list[np.ndarray]
    boxes: dict[int, Box]


class _Warps:
    """The chains of changes; importing albumentations waits until they are needed.

    `full` changes shape and light; `upright` neither turns nor shears but by right angles, so that
    boxes stay as tight as they were; `turns` does nothing else to shapes.
    """

    def __init__(self) -> None:
        stay_offline()  # albumentations asks the registry for a newer version on import
        import albumentations as A

        turns = [A.HorizontalFlip(p=0.5), A.VerticalFlip(p=0.5), A.RandomRotate90(p=0.75)]
        place: dict[str, Any] = {
            "scale": (0.85, 1.18),
            "translate_percent": (-0.06, 0.06),
            "interpolation": cv2.INTER_LINEAR,
            "mask_interpolation": cv2.INTER_LINEAR,
            "border_mode": cv2.BORDER_REFLECT_101,
            "p": 0.7,
        }
        affine = A.Affine(rotate=(-12, 12), shear=(-4, 4), **place)
        light = [
            A.RandomBrightnessContrast(brightness_limit=0.12, contrast_limit=0.15, p=0.6),
            A.RandomGamma(gamma_limit=(85, 118), p=0.3),
            A.OneOf(
                [
                    A.GaussianBlur(sigma_limit=(0.3, 0.8), p=1.0),
                    A.Sharpen(alpha=(0.1, 0.3), lightness=(0.9, 1.0), p=1.0),
                ],
                p=0.25,
            ),
            A.GaussNoise(std_range=(0.004, 0.02), p=0.3),
        ]
        self._chains: dict[Chain, Any] = {
            "full": A.Compose([*turns, affine, *light]),
            "upright": A.Compose([*turns, A.Affine(**place), *light]),
            "turns": A.Compose([*turns, *light]),
        }

    def draw(
        self,
        image: np.ndarray,
        masks: list[np.ndarray],
        drawn: list[np.ndarray],
        seed: int,
        chain: Chain,
    ) -> _Copy:
        """One draw; all of its randomness comes from `seed`. Boxes go around what is `drawn`, which
        is more than a mask where that is a guess in a person's box."""
        change = self._chains[chain]
        change.set_random_seed(seed % 2**32)
        if not masks:
            return _Copy(change(image=image)["image"], [], {})
        areas = [area.astype(np.uint8) * 255 for area in (*masks, *drawn)]
        changed = change(image=image, masks=areas)
        found = [area > 127 for area in changed["masks"]]
        pairs = list(zip(found[: len(masks)], found[len(masks) :], strict=True))
        boxes = {k: box_of(mask | around) for k, (mask, around) in enumerate(pairs) if mask.any()}
        return _Copy(changed["image"], found[: len(masks)], boxes)


def _make(job: _Job, pool: Path, reader: ExampleReader, warps: _Warps) -> SyntheticDefect:
    example = job.example
    labels = [label_of(instance) for instance in example.instances]
    image = reader.image(example)
    image = np.ascontiguousarray(image[..., 0] if example.grey else image)
    copy = _draw(job, image, labels, warps)
    height, width = copy.image.shape[:2]
    boxes = copy.boxes
    own = _apart({k: box for k, box in boxes.items() if labels[k].class_name == example.label})
    # where only the box is known, so it stays; without a mask there is nothing to write
    kind = "none" if not own else min((labels[k].mask_kind for k in own), key=_KINDS.index)
    mask_name = None
    write_png(pool / f"images/{job.id}.png", copy.image)
    if kind != "none":
        mask_name = f"masks/{job.id}.png"
        union = np.any([copy.masks[k] for k in own], axis=0)
        write_png(pool / mask_name, union.astype(np.uint8) * 255)
    carried = tuple(
        _carry(labels[k], copy.masks[k], box, f"{job.id}_{k}", pool)
        for k, box in boxes.items()
        if k not in own
    )
    return SyntheticDefect(
        id=job.id,
        class_name=example.label,
        index=job.index,
        seed=job.seed,
        generator=NAME,
        fingerprint=sha256_of([NAME, RULES])[:16],
        image=f"images/{job.id}.png",
        mask=mask_name,
        width=width,
        height=height,
        grey=example.grey,
        boxes_xyxy=tuple(boxes[k] for k in own),
        mask_kind=kind,
        background_id=example.id,
        mask_source_id=example.id if own else None,
        source_ids=(example.id,),
        carried_instances=carried,
        feather_px=0,
        crop_xyxy=(0, 0, width, height),
        verdict="accepted",
    )


_KINDS = ("none", "approximate", "exact")
"""From the least certain: a union is as good as its worst part."""


def _draw(job: _Job, image: np.ndarray, labels: list[Label], warps: _Warps) -> _Copy:
    """Draw until the defects are still in the frame."""
    shape = image.shape[:2]
    masks = [_area(x, shape, x.mask) for x in labels]
    drawn = [_area(x, shape, x.mask if x.mask_kind == "exact" else None) for x in labels]
    guessed = any(label.mask_kind != "exact" for label in labels)
    for attempt in range(DRAWS):
        chain: Chain = "upright" if guessed else "full"
        copy = warps.draw(image, masks, drawn, job.seed + attempt, chain)
        if _is_faithful(labels, masks, copy.masks, job.example.label):
            return copy
    return warps.draw(image, masks, drawn, job.seed, "turns")


def _is_faithful(
    labels: list[Label], before: list[np.ndarray], after: list[np.ndarray], label: str
) -> bool:
    """True if the defect that the image is labelled with is still there, and no other was cut to
    a sliver. Areas are taken as shares of the image, which affine changes keep up to their scale.
    """
    shares = [(a.sum() / max(1, b.sum()), int(b.sum())) for b, a in zip(before, after, strict=True)]
    own = [s for s, x in zip(shares, labels, strict=True) if x.class_name == label]
    if own:
        kept = sum(share * area for share, area in own) / sum(area for _, area in own)
        if kept < LEAST_OF_LABEL:
            return False
    return all(share == 0 or share >= LEAST_OF_ANY for share, _ in shares)


def _area(label: Label, shape: tuple[int, ...], mask: np.ndarray | None) -> np.ndarray:
    """A box-sized mask on a whole image; all of the box where there is none."""
    x1, y1, x2, y2 = label.box_xyxy
    full = np.zeros(shape, bool)
    full[y1:y2, x1:x2] = True if mask is None else mask
    return full


def _apart(boxes: Mapping[int, Box]) -> list[int]:
    """The numbers of those boxes that don't meet, the larger first: of these one mask holds all,
    and yet each part of it lies in one box alone."""
    kept: list[int] = []
    for k in sorted(boxes, key=lambda k: -_size(boxes[k])):
        if not any(_meet(boxes[k], boxes[other]) for other in kept):
            kept.append(k)
    return sorted(kept)


def _size(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def _meet(a: Box, b: Box) -> bool:
    """Whether two boxes overlap or touch, if only at a corner."""
    return a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3]


def _carry(label: Label, mask: np.ndarray, box: Box, stem: str, pool: Path) -> Instance:
    """An instance beside those of the union's mask, in the copy's own pixels."""
    x1, y1, x2, y2 = box
    if label.mask is None:
        return Instance(class_name=label.class_name, box_xyxy=box)
    path = Path(f"carried/{stem}.png")
    write_png(pool / path, mask[y1:y2, x1:x2].astype(np.uint8) * 255)
    return Instance(
        class_name=label.class_name, box_xyxy=box, mask_path=path, mask_kind=label.mask_kind
    )


def _in_order(held: Mapping[str, SyntheticDefect]) -> list[SyntheticDefect]:
    return sorted(held.values(), key=lambda r: (r.class_name, r.index, r.id))


def _number(*parts: object) -> int:
    """A seed below 2**31 that follows from `parts`."""
    return int(sha256_of(list(parts))[:15], 16) % 2**31
