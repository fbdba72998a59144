"""Sampling: requests -> drafts -> painted crops -> finished samples in a pool.

It works for every painter, diffusion model or baseline. A pool can be added to at any time, and a
run that is killed and started again leaves the same files as one that was left alone: a sample's
pixels come from its own seed, batches are cut at fixed places of the list of requests, and a
manifest line is written only when the files it speaks of are on disk.
"""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

from generator.assembly import build, pick_device
from generator.checkpoints import DATA, RECIPE, load_weights
from generator.compositing import COMPOSITE_VERSION
from generator.config import Recipe, load_yaml
from generator.errors import CheckpointError, PlacementError
from generator.files import locked, sha256_of, write_atomic
from generator.images import write_png
from generator.interface import Painter
from generator.painting import DiffusionPainter
from generator.pool import MANIFEST, forget_lost, read_pool
from generator.records import Box, Draft, SampleRequest, SyntheticDefect, Verdict
from generator.selection import Selector

PLAN_ATTEMPTS = 16
"""A plan that finds no place is tried again with a seed derived from the request's."""
BLOCK_BYTES = 512 * 2**20
"""Most memory for the pictures of the drafts that are painted together."""
DRAFT_BYTES = 10
"""Of a draft, a pixel: image, paste and context of three bytes each, and the mask."""
RULES = 3
"""Raised whenever the same weights and settings would paint other pixels than before."""


class Planner(Protocol):
    """Decides everything about a sample but its pixels.

    Attributes:
        fingerprint: hash of what plans depend on besides the request.
        most_px: pixels of the largest image that it plans on.
    """

    fingerprint: str
    most_px: int

    def plan(self, request: SampleRequest) -> Draft:
        """Raises PlacementError where no place was found."""
        ...


class Composite(Protocol):
    """A finished sample: what compositing makes of a draft and its painted crop."""

    @property
    def image(self) -> np.ndarray:
        """(H, W, 3) uint8."""
        ...

    @property
    def mask(self) -> np.ndarray:
        """(H, W) bool, what changed."""
        ...

    @property
    def boxes_xyxy(self) -> tuple[Box, ...]:
        """One box for each connected part of the mask."""
        ...

    @property
    def scores(self) -> dict[str, float]:
        """What the sample is judged by."""
        ...


class Compose(Protocol):
    """(draft, painted crop) -> Composite."""

    def __call__(self, draft: Draft, painted: np.ndarray, *, feather_px: int) -> Composite:
        """See `generator.compositing.composite`."""
        ...


Judge = Callable[[dict[str, float]], Sequence[Verdict]]
"""Scores -> every rule that rejects; empty for an accepted sample."""


def load_painter(folder: Path) -> DiffusionPainter:
    """The painter of a finished checkpoint.

    Raises:
        CheckpointError: the checkpoint is missing, unfinished or damaged.
        WeightsError: its weights are a pickle; the message says how to convert it.
    """
    weights, data, weights_hash = load_weights(folder)
    recipe = load_yaml(folder / RECIPE, Recipe, CheckpointError)
    try:
        parts = build(recipe, data["classes"], data["channels"], spread=data["spread"])
        parts.tuning.load(parts.backbone, parts.conditioning, weights)
    except KeyError as fault:
        raise CheckpointError(
            f"{folder / DATA} does not say {fault}; delete the folder and train it with: "
            "augment train."
        ) from None
    settings = {
        "rules": RULES,
        "weights": weights_hash,
        "base": data["base"],
        "recipe": recipe.model_dump(mode="json", exclude={"training", "precision"}),
        "classes": data["classes"],
        "spread": data["spread"],
    }
    # How they are computed changes rounding at most, and is no part of what they are.
    for how in ("batch_size", "compile"):
        settings["recipe"]["sampling"].pop(how)
    settings["recipe"]["backbone"].pop("weights", None)
    selector = None
    if recipe.sampling.best_of > 1:
        selector = Selector(pick_device())
        settings["selection"] = selector.fingerprint
    else:
        settings["recipe"]["sampling"].pop("best_of")
    return DiffusionPainter(
        *(recipe, parts, data["classes"], data["channels"], sha256_of(settings), selector)
    )


def make_request(
    painter_fingerprint: str, class_name: str, index: int, base_seed: int
) -> SampleRequest:
    """The request for sample number `index` of a class; its seed follows from the arguments."""
    digest = sha256_of([painter_fingerprint, class_name, index, base_seed])
    return SampleRequest(class_name=class_name, index=index, seed=int(digest[:15], 16))


def sample_id(painter: Painter, planner: Planner, request: SampleRequest, feather_px: int) -> str:
    """16 hex digits, the same wherever and whenever the sample is made."""
    made_from: list[object] = [
        COMPOSITE_VERSION,
        painter.fingerprint,
        planner.fingerprint,
        request.class_name,
        request.index,
        request.seed,
        feather_px,
    ]
    if request.like is not None:
        made_from.append(request.like.model_dump(mode="json", exclude_defaults=True))
    return sha256_of(made_from)[:16]


def sample_pool(
    painter: Painter,
    planner: Planner,
    requests: Sequence[SampleRequest],
    pool: Path,
    *,
    composite: Compose,
    judge: Judge,
    feather_px: int,
    on_sample: Callable[[SyntheticDefect], None] | None = None,
) -> list[SyntheticDefect]:
    """Make whatever of `requests` the pool does not hold yet.

    Args:
        painter: paints the defects.
        planner: decides where and in which shape.
        requests: what to make; blocks of `block_size` of them are painted together.
        pool: folder; made if need be. What it holds of other painters is left alone.
        composite: turns a draft and its painted crop into a finished sample.
        judge: accepts or rejects by the sample's scores.
        feather_px: width of the blend between defect and background, pixels.
        on_sample: called with each request's record, in order, also for those already there.

    Returns:
        One record a request, in their order.

    Raises:
        PlacementError: a request found no place in `PLAN_ATTEMPTS` attempts.
        PoolError: the manifest is damaged.
    """
    (pool / "images").mkdir(parents=True, exist_ok=True)
    (pool / "masks").mkdir(exist_ok=True)
    # a build and a review may fill one pool at the same time
    forget_lost(pool)
    with locked(pool.with_name(f".{pool.name}.lock")):
        held = {r.id: r for r in read_pool(pool)} if (pool / MANIFEST).exists() else {}
        records = []
        together = block_size(painter, planner)
        for first in range(0, len(requests), together):
            block = requests[first : first + together]
            ids = [sample_id(painter, planner, r, feather_px) for r in block]
            # A block of which something is missing is painted whole: rounding depends on company.
            drafts, painted = [], []
            if any(i not in held for i in ids):
                drafts = [plan_until_placed(planner, request) for request in block]
                painted = painter.paint(drafts)
            for k, (made_id, request) in enumerate(zip(ids, block, strict=True)):
                if made_id not in held:
                    finished = composite(drafts[k], painted[k], feather_px=feather_px)
                    record = _record(
                        made_id, painter, request, drafts[k], finished, judge, feather_px
                    )
                    record = _with_carried_masks(pool, record)
                    _write_sample(pool, record, finished)
                    held[made_id] = record
                records.append(held[made_id])
                if on_sample is not None:
                    on_sample(held[made_id])
    return records


def block_size(painter: Painter, planner: Planner) -> int:
    """How many samples are planned and painted together: `painter.batch_size`, or as many whole
    images as `BLOCK_BYTES` hold, but one at least.

    It rests on nothing but the painter and the examples, so that a run that goes on cuts the same
    blocks.
    """
    held = BLOCK_BYTES // (DRAFT_BYTES * planner.most_px)
    return max(1, min(painter.batch_size, held))


def plan_until_placed(planner: Planner, request: SampleRequest) -> Draft:
    """Plan a request; where no place is found, again with a seed derived from its own.

    Raises:
        PlacementError: none of `PLAN_ATTEMPTS` plans found a place.
    """
    reason = ""
    for attempt in range(PLAN_ATTEMPTS):
        seed = int(sha256_of([request.seed, attempt])[:15], 16) if attempt else request.seed
        try:
            return planner.plan(request.model_copy(update={"seed": seed}))
        except PlacementError as fault:
            reason = str(fault)
    raise PlacementError(
        f"No place was found for {request.class_name} number {request.index} in {PLAN_ATTEMPTS} "
        f"attempts; the last one said: {reason}"
    )


def _record(
    made_id: str,
    painter: Painter,
    request: SampleRequest,
    draft: Draft,
    finished: Composite,
    judge: Judge,
    feather_px: int,
) -> SyntheticDefect:
    whole = draft.background is None
    verdicts = tuple(judge(finished.scores))
    height, width = finished.image.shape[:2]
    grey = _is_grey(finished.image) if draft.background is None else draft.background.grey
    return SyntheticDefect(
        id=made_id,
        class_name=request.class_name,
        index=request.index,
        seed=request.seed,
        generator=painter.name,
        fingerprint=painter.fingerprint,
        image=f"images/{made_id}.png",
        mask=None if whole else f"masks/{made_id}.png",
        width=width,
        height=height,
        grey=grey,
        boxes_xyxy=() if whole else finished.boxes_xyxy,
        mask_kind="none" if whole else draft.mask_kind,
        background_id=None if draft.background is None else draft.background.id,
        background_xyxy=draft.background_xyxy,
        mask_source_id=None if whole else draft.mask_source_id,
        source_ids=draft.source_ids,
        carried_instances=draft.carried_instances,
        feather_px=feather_px,
        crop_xyxy=draft.crop_xyxy,
        scores=finished.scores,
        verdict="rejected" if verdicts else "accepted",
        rule=verdicts[0].rule if verdicts else "",
        reason=verdicts[0].sentence if verdicts else "",
        verdicts=verdicts,
        like=request.like,
        origin=request.origin,
    )


def _with_carried_masks(pool: Path, record: SyntheticDefect) -> SyntheticDefect:
    """The record with copies of the masks of carried defects, so that the pool needs no file that
    lies elsewhere: a project may be moved, and another one may lie where it was."""
    kept = []
    for number, instance in enumerate(record.carried_instances):
        source = instance.mask_path
        if source is not None:
            name = Path(f"carried/{record.id}_{number}.png")
            write_atomic(pool / name, partial(shutil.copyfile, source), durable=True)
            instance = instance.model_copy(update={"mask_path": name})
        kept.append(instance)
    return record.model_copy(update={"carried_instances": tuple(kept)})


def _write_sample(pool: Path, record: SyntheticDefect, finished: Composite) -> None:
    """Image and mask, each whole, and only then the line that vouches for them."""
    pixels = finished.image[..., :1] if record.grey else finished.image
    write_png(pool / record.image, pixels, durable=True)
    if record.mask is not None:
        write_png(pool / record.mask, finished.mask.astype(np.uint8) * 255, durable=True)
    line = json.dumps(record.model_dump(mode="json"), sort_keys=True) + "\n"
    with (pool / MANIFEST).open("a", encoding="utf-8") as stream:
        stream.write(line)
        stream.flush()
        os.fsync(stream.fileno())


def _is_grey(image: np.ndarray) -> bool:
    return bool((image == image[..., :1]).all())
