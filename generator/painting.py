"""The painter that stands on a trained checkpoint: window -> canvas -> solve -> window."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from generator.assembly import Parts, pick_device, pick_precision
from generator.canvas import from_canvas, mask_canvas, scale, to_canvas, to_pixels, to_tensor
from generator.conditioning import Conditions
from generator.config import Recipe, SampleSettings
from generator.errors import CheckpointError
from generator.objectives import Predict, begin_index, solve
from generator.records import Draft


class DiffusionPainter:
    """Paints drafts with a trained network; see `generator.interface.Painter`."""

    def __init__(
        self,
        recipe: Recipe,
        parts: Parts,
        classes: Sequence[str],
        channels: int,
        fingerprint: str,
    ) -> None:
        """Move the network to the GPU where there is one, in the precision that is fastest."""
        self.name = recipe.name
        self.fingerprint = fingerprint
        self.batch_size = recipe.sampling.batch_size
        self.recipe = recipe
        self.classes = tuple(classes)
        self.channels = channels
        self.device = pick_device()
        self.precision = pick_precision(recipe, self.device)
        self.parts = parts
        parts.backbone.to(self.device, self.precision, memory_format=torch.channels_last)
        parts.backbone.eval().requires_grad_(False)

    def paint(self, drafts: Sequence[Draft]) -> list[np.ndarray]:
        """Paint each draft's crop; see `Painter.paint`.

        Raises:
            CheckpointError: a draft asks for a class that the checkpoint was not trained on, or
                for a part of an image where it only knows whole ones.
        """
        for draft in drafts:
            self._refuse_foreign(draft)
        # Drafts that start from noise and those that start from a paste take different numbers of
        # steps, and those on crops and on whole images have canvases of different sizes.
        groups: dict[tuple[bool, bool], list[int]] = {}
        for place, draft in enumerate(drafts):
            key = (self._starts_from_paste(draft), draft.background is None)
            groups.setdefault(key, []).append(place)
        painted: dict[int, np.ndarray] = {}
        for (from_paste, whole), places in groups.items():
            for first in range(0, len(places), self.batch_size):
                block = places[first : first + self.batch_size]
                members = [drafts[k] for k in block]
                canvases = self._paint_block(members, from_paste=from_paste, whole=whole)
                for k, draft, canvas in zip(block, members, canvases, strict=True):
                    painted[k] = self._finish(draft, canvas)
        return [painted[k] for k in range(len(drafts))]

    def _refuse_foreign(self, draft: Draft) -> None:
        if draft.request.class_name not in self.classes:
            raise CheckpointError(
                f"The checkpoint knows {', '.join(self.classes)}, not "
                f"{draft.request.class_name!r}; train again with: augment train {self.name}."
            )
        if draft.background is not None and not self.parts.conditioning.sees_background:
            raise CheckpointError(
                f"Recipe {self.name!r} paints whole images and can't paint into a background; "
                "train another recipe, for example: augment train compact."
            )

    def _starts_from_paste(self, draft: Draft) -> bool:
        return self.recipe.sampling.init == "paste" and draft.paste is not None

    def _paint_block(self, drafts: Sequence[Draft], *, from_paste: bool, whole: bool) -> np.ndarray:
        """(B, S, S, C) float32 canvases in [0, 255], not clipped."""
        size = self.recipe.crops.whole_image_px if whole else self.recipe.crops.size_px
        given = self._conditions(drafts, size, whole=whole)
        backbone, objective = self.parts.backbone, self.parts.objective
        shape = (1, self.channels, size, size)
        noise = torch.cat([_noise(d.request.seed, shape) for d in drafts]).to(self.device)
        noise = backbone.encode(noise)
        scheduler = objective.scheduler(self.recipe.sampling.solver, self.recipe.sampling.steps)
        begin, clean = 0, torch.zeros_like(noise)
        if from_paste:
            begin = begin_index(scheduler, self.recipe.sampling.strength)
            pasted = self._canvases([d.paste for d in drafts if d.paste is not None], drafts, size)
            clean = backbone.encode(given.standardise(pasted.to(self.device)))
        start = objective.noised(scheduler, begin, clean, noise)
        predict = guided(self.parts, given, self.recipe.sampling, self.precision)
        canvas = solve(predict, scheduler, start, begin)
        return to_pixels(given.restore(given.surround(backbone.decode(canvas))))

    def _conditions(self, drafts: Sequence[Draft], size: int, *, whole: bool) -> Conditions:
        masks = np.stack([_canvas_mask(d, size) for d in drafts])
        if whole:
            images = torch.zeros(len(drafts), self.channels, size, size)
        else:
            images = self._canvases([d.image for d in drafts], drafts, size)
        ids = [self.classes.index(d.request.class_name) for d in drafts]
        return self.parts.conditioning(
            images.to(self.device),
            torch.from_numpy(masks[:, None]).to(self.device),
            torch.tensor(ids, device=self.device),
        )

    def _canvases(self, images: Sequence[np.ndarray], drafts: Sequence[Draft], size: int) -> Tensor:
        windows = [_window(i, d)[..., : self.channels] for i, d in zip(images, drafts, strict=True)]
        return to_tensor(np.stack([to_canvas(w, size) for w in windows]))

    def _finish(self, draft: Draft, canvas: np.ndarray) -> np.ndarray:
        """A canvas back in its window, with the fine texture of its place."""
        x1, y1, x2, y2 = draft.crop_xyxy
        if draft.background is None:
            window = scale(canvas, (y2 - y1, x2 - x1))
        else:
            window = from_canvas(canvas, (y2 - y1, x2 - x1))
            if self.recipe.sampling.texture > 0:
                lender = draft.paste if self._starts_from_paste(draft) else draft.image
                assert lender is not None
                source = _window(lender, draft)[..., : self.channels].astype(np.float32)
                window = window + self.recipe.sampling.texture * fine_texture(
                    source, canvas.shape[0]
                )
        pixels = np.clip(np.rint(window), 0, 255).astype(np.uint8)
        return np.repeat(pixels, 3, axis=2) if self.channels == 1 else pixels


def guided(
    parts: Parts, given: Conditions, sampling: SampleSettings, precision: torch.dtype
) -> Predict:
    """The network under `given`, guided; both halves of the guidance go in one batch."""

    def packed(x: Tensor) -> Tensor:
        return x.to(precision)

    if sampling.guidance == 1:
        return parts.objective.preconditioned(
            lambda noisy, time: parts.backbone(packed(noisy), time, given)
        )
    other = parts.conditioning.against(given, sampling.guide_against)
    both = given.twice(other)

    def predict(noisy: Tensor, time: Tensor) -> Tensor:
        twice = packed(torch.cat([noisy, noisy]))
        toward, away = parts.backbone(twice, torch.cat([time, time]), both).float().chunk(2)
        return away + sampling.guidance * (toward - away)

    return parts.objective.preconditioned(predict)


def fine_texture(source: np.ndarray, size_px: int) -> np.ndarray:
    """What a window loses on a canvas of `size_px`: all zeros where it is not scaled down.

    A scaled-down crop is generated without it and would come out soft; the upper band of the
    Laplacian pyramid (Burt and Adelson, 1983) of real pixels at the same place gives it back.

    Args:
        source: (h, w, C) float32.
    """
    if max(source.shape[:2]) <= size_px:
        return np.zeros_like(source)
    return source - from_canvas(to_canvas(source, size_px), source.shape[:2])


def _noise(seed: int, shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _window(pixels: np.ndarray, draft: Draft) -> np.ndarray:
    x1, y1, x2, y2 = draft.crop_xyxy
    return pixels[y1:y2, x1:x2]


def _canvas_mask(draft: Draft, size: int) -> np.ndarray:
    """(size, size) float32, coverage by the draft's mask."""
    mask = _window(draft.mask, draft).astype(np.float32)
    if draft.background is None:
        return scale(mask, (size, size))
    return np.clip(mask_canvas(mask, size), 0, 1)
