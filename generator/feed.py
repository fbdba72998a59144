"""Examples as the network takes them: cut and encoded afresh for each step, or once and kept."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from generator.assembly import Parts
from generator.conditioning.conditions import Encoded
from generator.data import Batch, CropData
from generator.files import step_seed

ENCODE_AT_ONCE = 8
"""Crops that a VAE encodes at once while the bank is filled: speed hardly grows beyond."""
BANK_SHARE = 0.5
"""Most of the GPU's free memory that the bank may take; the rest is for gradients and what the
network keeps of a batch."""


class Feed:
    """Batches of a training, each a function of (seed, step).

    With `variants`, that many crops of every instance are cut, turned and encoded before the first
    step, and kept: on the device where they fit, else in the machine's memory. A step then picks
    rows and no frozen network runs in it.
    """

    def __init__(
        self,
        data: CropData,
        parts: Parts,
        *,
        seed: int,
        variants: int,
        device: torch.device,
        tell: Callable[[str], None] = lambda said: None,
    ) -> None:
        """Fill the bank, if there is to be one; `tell` hears of it, as it can take minutes."""
        self.data, self.parts, self.seed, self.device = data, parts, seed, device
        self.prior: Encoded | None = None
        """Pictures of the untouched network, of which every step takes as many as of the data."""
        self._bank: Encoded | None = None
        if variants:
            what = "images" if data.whole else "defects"
            tell(
                f"Encoding {variants} crops of each of {data.instance_count} {what} once; the "
                "first step comes after that."
            )
            self._fill(variants)

    def batch(self, step: int, size: int, rows: slice) -> tuple[Encoded, tuple[str, ...]]:
        """Rows `rows` of the batch of `size` examples for a step, and their examples' ids."""
        seen, ids = self._examples(step, size, rows)
        if self.prior is None:
            return seen, ids
        drawn = np.random.default_rng([self.seed, step, 3]).integers(
            len(self.prior.clean), size=size
        )
        at = torch.from_numpy(drawn[rows]).to(self.device)
        return replace(seen, prior=self.prior.map(lambda value: value[at])), ids

    def _examples(self, step: int, size: int, rows: slice) -> tuple[Encoded, tuple[str, ...]]:
        if self._bank is None:
            batch = self.data.batch(step, self.seed, size)
            part = Batch(
                batch.images[rows],
                batch.masks[rows],
                batch.class_ids[rows],
                batch.example_ids[rows],
            )
            return self.encode(part, step, rows.start or 0), part.example_ids
        picked = self._pick(step, size)[rows]
        at = torch.from_numpy(picked).to(self._bank.clean.device)
        ids = tuple(self._ids[k] for k in picked)
        return self._bank.map(lambda value: value[at].to(self.device)), ids

    @torch.no_grad()
    def encode(self, batch: Batch, step: int, first: int = 0) -> Encoded:
        """A batch through the frozen parts, on the device.

        Args:
            batch: rows of a batch.
            step: what it is made for; with each row's number it seeds what is drawn here.
            first: number of the first row.
        """
        conditioning, backbone = self.parts.conditioning, self.parts.backbone
        images, masks = batch.images.to(self.device), batch.masks.to(self.device)
        class_ids = batch.class_ids.to(self.device)
        seen: Encoded = backbone.prepare(images, masks, conditioning(images, masks, class_ids))
        if not self.parts.objective.two_views:
            return seen
        second = torch.cat(
            [self._second_mask(batch.masks[k : k + 1], step, first + k) for k in range(len(images))]
        ).to(self.device)
        view = conditioning(images, second, class_ids, prompt="object")
        other: Encoded = backbone.prepare(images, second, view)
        return replace(seen, also=other.given)

    def _second_mask(self, mask: Tensor, step: int, row: int) -> Tensor:
        # A generator for each row, so that processes that share a batch draw as one would.
        generator = torch.Generator().manual_seed(step_seed(self.seed, step, row, 2))
        masks: Tensor = self.parts.objective.second_masks(mask, generator)
        return masks

    def _fill(self, variants: int) -> None:
        encoded: list[Encoded] = []
        self._ids: list[str] = []
        classes: list[Tensor] = []
        for number, batch in enumerate(self.data.bank(self.seed, variants, ENCODE_AT_ONCE)):
            # Joined on the device they would be there twice.
            encoded.append(self.encode(batch, number).map(Tensor.cpu))
            self._ids += batch.example_ids
            classes.append(batch.class_ids)
        bank = Encoded.joined(encoded)
        fits = bytes_of(bank) <= bank_room(self.device)
        self._bank = bank.map(lambda value: value.to(self.device)) if fits else bank
        self._classes = torch.cat(classes).numpy()

    def _pick(self, step: int, size: int) -> np.ndarray:
        """Rows of the bank for a step: classes in turn at random, then any of their crops."""
        rng = np.random.default_rng([self.seed, step])
        picked = []
        wanted = self.data.draw_classes(rng, size)
        for class_id in wanted:
            members = np.flatnonzero(self._classes == class_id)
            picked.append(int(members[rng.integers(len(members))]))
        return np.array(picked)


def bank_room(device: torch.device) -> float:
    """Bytes that kept encodings may take of a device's memory."""
    if device.type != "cuda":
        return float("inf")
    free, _ = torch.cuda.mem_get_info(device)
    return BANK_SHARE * free


def bytes_of(value: Encoded) -> int:
    """Memory of all tensors of a batch."""
    sizes: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        sizes.append(tensor.nbytes)
        return tensor

    value.map(note)
    return sum(sizes)


def rows_of(value: Encoded, rows: slice) -> Encoded:
    """Some rows of a batch."""

    def cut(tensor: Tensor) -> Tensor:
        return tensor[rows]

    return value.map(cut)


def split(count: int, at_once: int) -> Sequence[slice]:
    """`count` rows in parts of at most `at_once`."""
    return [slice(k, min(k + at_once, count)) for k in range(0, count, at_once)]
