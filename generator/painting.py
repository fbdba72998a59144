"""The painter that stands on a trained checkpoint: window -> canvas -> solve -> window."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from generator.assembly import Parts, pick_device, pick_precision
from generator.canvas import from_canvas, scale, to_canvas, to_pixels, to_tensor
from generator.conditioning.conditions import Conditions, Encoded
from generator.config import Recipe, SampleSettings
from generator.errors import CheckpointError, SamplingError
from generator.files import step_seed
from generator.objectives.objective import Hold, Predict, begin_index, solve
from generator.portions import Portions
from generator.records import Draft
from generator.selection import Selector


class DiffusionPainter:
    """Paints drafts with a trained network; see `generator.interface.Painter`."""

    def __init__(
        self,
        recipe: Recipe,
        parts: Parts,
        classes: Sequence[str],
        channels: int,
        fingerprint: str,
        selector: Selector | None = None,
    ) -> None:
        """Move the network to the GPU where there is one, in the precision that is fastest.

        Args:
            recipe: of the checkpoint.
            parts: built of it, with the checkpoint's weights.
            classes: in the checkpoint's order.
            channels: of an image, 1 or 3.
            fingerprint: see `Painter`.
            selector: picks from `sampling.best_of` candidates; None where there is only one.
        """
        self.name = recipe.name
        self.fingerprint = fingerprint
        self.batch_size = recipe.sampling.batch_size
        self.recipe = recipe
        self.classes = tuple(classes)
        self.channels = channels
        self.device = pick_device()
        self.precision = pick_precision(recipe, self.device)
        self.parts = parts
        # `batch_size` stays what it is: pools are cut into blocks by it.
        self._portions = Portions(self.batch_size)
        self._selector = selector
        parts.tuning.fuse(parts.backbone)
        parts.backbone.settle(self.device, self.precision, training=False)
        parts.conditioning.to(self.device)
        for part in (parts.backbone, parts.conditioning):
            part.eval().requires_grad_(False)
        if recipe.sampling.compile and hasattr(parts.backbone, "compile_blocks"):
            parts.backbone.compile_blocks()

    def paint(self, drafts: Sequence[Draft]) -> list[np.ndarray]:
        """Paint each draft's crop; see `Painter.paint`.

        Raises:
            CheckpointError: a draft asks for a class that the checkpoint was not trained on, or
                for a part of an image where it only knows whole ones.
            SamplingError: memory runs out with one draft at a time.
        """
        for draft in drafts:
            self._refuse_foreign(draft)
        # Drafts that start from noise and those that start from a paste take different numbers of
        # steps, and those on crops and on whole images have canvases of different sizes.
        scheduler = self._scheduler()
        groups: dict[tuple[int | None, bool], list[int]] = {}
        for place, draft in enumerate(drafts):
            key = (self._begin(draft, scheduler), draft.background is None)
            groups.setdefault(key, []).append(place)
        painted: dict[int, np.ndarray] = {}
        for (begin, whole), places in groups.items():
            members = [drafts[k] for k in places]
            solved = self._best if self._selector is not None and not whole else self._solved
            canvases = solved(members, begin, whole)
            for k, draft, canvas in zip(places, members, canvases, strict=True):
                painted[k] = self._finish(draft, canvas)
        return [painted[k] for k in range(len(drafts))]

    def _refuse_foreign(self, draft: Draft) -> None:
        if draft.request.class_name not in self.classes:
            raise CheckpointError(
                f"The checkpoint knows {', '.join(self.classes)}, not "
                f"{draft.request.class_name!r}; train again with: augment train {self.name}."
            )
        able = self.parts.conditioning.sees_background or self.parts.backbone.blends
        if draft.background is not None and not able:
            raise CheckpointError(
                f"Recipe {self.name!r} paints whole images and can't paint into a background; "
                "train another recipe, for example: augment train compact."
            )

    def _starts_from_paste(self, draft: Draft) -> bool:
        return self.recipe.sampling.init == "paste" and draft.paste is not None

    def _scheduler(self) -> Any:
        sampling = self.recipe.sampling
        return self.parts.objective.scheduler(sampling.solver, sampling.steps)

    def _begin(self, draft: Draft, scheduler: Any) -> int | None:
        """The solver's step that a draft's partly noised paste enters at; None: there is none."""
        if not self._starts_from_paste(draft):
            return None
        sampling, (x1, y1, x2, y2) = self.recipe.sampling, draft.crop_xyxy
        shrunk = min(1.0, self.recipe.crops.size_px / max(x2 - x1, y2 - y1))
        strength = sampling.strength * shrunk**sampling.shrink_strength
        return begin_index(scheduler, strength)

    def _solved(
        self, drafts: Sequence[Draft], begin: int | None, whole: bool
    ) -> Iterator[np.ndarray]:
        """A (S, S, C) canvas a draft, in order; as many at once as fit into memory."""

        def work(few: Sequence[Draft]) -> np.ndarray:
            return self._paint_block(few, begin, whole=whole)

        try:
            for _, canvases in self._portions.over(drafts, work):
                yield from canvases
        except torch.OutOfMemoryError:
            raise SamplingError(
                f"Memory ran out with one sample of recipe {self.name!r} at a time; close other "
                "programs that use it, then type the same command again: it continues."
            ) from None

    def _best(
        self, drafts: Sequence[Draft], begin: int | None, whole: bool
    ) -> Iterator[np.ndarray]:
        """As `_solved`; of several candidates for each draft the one that changed most."""
        assert self._selector is not None
        size = self.recipe.crops.size_px
        before = to_pixels(self._canvases([d.image for d in drafts], drafts, size))
        masks = np.stack([_canvas_mask(d, size) for d in drafts])
        best: dict[int, tuple[float, np.ndarray]] = {}
        for number in range(self.recipe.sampling.best_of):
            tried = [_candidate(draft, number) for draft in drafts]
            for k, canvas in enumerate(self._solved(tried, begin, whole)):
                one = slice(k, k + 1)
                change = float(self._selector.change(canvas[None], before[one], masks[one])[0])
                if k not in best or change > best[k][0]:
                    best[k] = change, canvas
        yield from (best[k][1] for k in range(len(drafts)))

    @torch.no_grad()
    def _paint_block(
        self, drafts: Sequence[Draft], begin: int | None, *, whole: bool
    ) -> np.ndarray:
        """(B, S, S, C) float32 canvases in [0, 255], not clipped."""
        size = self.recipe.crops.whole_image_px if whole else self.recipe.crops.size_px
        backbone, objective = self.parts.backbone, self.parts.objective
        images, masks = self._inputs(drafts, size, whole=whole)
        ids = [self.classes.index(d.request.class_name) for d in drafts]
        class_ids = torch.tensor(ids, device=self.device)
        given = self.parts.conditioning(images, masks, class_ids, objective.paints)
        blind = not whole and not self.parts.conditioning.sees_background
        scene = backbone.prepare(images, masks, given, clean=blind)
        noise = torch.cat([backbone.noise(d.request.seed, size) for d in drafts]).to(self.device)
        scheduler, first = self._scheduler(), begin or 0
        clean = torch.zeros_like(noise)
        if begin is not None:
            pasted = self._canvases([d.paste for d in drafts if d.paste is not None], drafts, size)
            clean = backbone.prepare(pasted.to(self.device), masks, given).clean
        start = objective.noised(scheduler, first, clean, noise)
        hold = holding(objective, scheduler, scene, noise) if blind else None
        predict = guided(self.parts, scene.given, self.recipe.sampling, self.precision)
        canvas = solve(predict, scheduler, start, first, hold)
        return to_pixels(given.restore(given.surround(backbone.decode(canvas))))

    def _inputs(self, drafts: Sequence[Draft], size: int, *, whole: bool) -> tuple[Tensor, Tensor]:
        """Images (B, C, S, S) in [-1, 1] and masks (B, 1, S, S), on the device."""
        masks = np.stack([_canvas_mask(d, size) for d in drafts])
        if whole:
            images = torch.zeros(len(drafts), self.channels, size, size)
        else:
            images = self._canvases([d.image for d in drafts], drafts, size)
        return images.to(self.device), torch.from_numpy(masks[:, None]).to(self.device)

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
    """The network under `given`, guided; both halves of the guidance go in one batch.

    Args:
        parts: backbone, conditioning and objective.
        given: conditions as the backbone takes them, see `Encoded`.
        sampling: how strongly, and away from what.
        precision: of the weights; the noisy image is brought to it.
    """
    if sampling.guidance == 1:
        alone = parts.conditioning.embed(given)
        return parts.objective.preconditioned(
            lambda noisy, time: parts.backbone(noisy.to(precision), time, alone)
        )
    other = parts.conditioning.against(given, sampling.guide_against)
    both = parts.conditioning.embed(given.twice(other))

    def predict(noisy: Tensor, time: Tensor) -> Tensor:
        twice = torch.cat([noisy, noisy]).to(precision)
        toward, away = parts.backbone(twice, torch.cat([time, time]), both).float().chunk(2)
        return away + sampling.guidance * (toward - away)

    return parts.objective.preconditioned(predict)


def holding(objective: Any, scheduler: Any, scene: Encoded, noise: Tensor) -> Hold:
    """Puts the surround, with the noise of its time, back around what is painted, for networks
    that are not shown it (Avrahami et al., Blended Latent Diffusion, 2206.02779, section 4.1)."""
    painted = scene.hidden.bool()

    def hold(sample: Tensor, step: int) -> Tensor:
        return torch.where(painted, sample, objective.noised(scheduler, step, scene.clean, noise))

    return hold


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


def _window(pixels: np.ndarray, draft: Draft) -> np.ndarray:
    x1, y1, x2, y2 = draft.crop_xyxy
    return pixels[y1:y2, x1:x2]


def _candidate(draft: Draft, number: int) -> Draft:
    """The draft with a seed of its own for each candidate; the first keeps the request's."""
    if number == 0:
        return draft
    seed = step_seed(draft.request.seed, number)
    return replace(draft, request=draft.request.model_copy(update={"seed": seed}))


def _canvas_mask(draft: Draft, size: int) -> np.ndarray:
    """(size, size) float32, coverage by the draft's mask."""
    mask = _window(draft.mask, draft).astype(np.float32)
    if draft.background is None:
        return scale(mask, (size, size))
    return np.clip(to_canvas(mask, size), 0, 1)
