"""One optimiser step: forward and backward in parts, whatever fits into memory."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import torch

from generator.assembly import Parts
from generator.conditioning.conditions import Encoded
from generator.errors import TrainingError
from generator.feed import rows_of, split
from generator.files import step_seed
from generator.objectives.objective import Draws
from generator.portions import release_memory
from generator.team import Team


@dataclass
class Stepper:
    """Makes optimiser steps; all randomness in one follows from (seed, step).

    Attributes:
        parts: what is trained.
        optimizer: over `parts.trained`.
        scaler: of gradients, for fp16; disabled otherwise.
        in_precision: makes the context that the network computes in.
        team: the processes that share a batch.
        seed: of the training.
        clip: largest norm of the gradient.
        at_once: examples in one forward pass; halved for good when memory runs out, which changes
            nothing but rounding, and what dropout drops: a batch's gradient is the sum over its
            parts.
    """

    parts: Parts
    optimizer: torch.optim.Optimizer
    scaler: Any
    in_precision: Callable[[], AbstractContextManager]
    team: Team
    seed: int
    clip: float
    at_once: int
    saving: bool = False

    def step(
        self, seen: Encoded, example_ids: tuple[str, ...], number: int, size: int
    ) -> tuple[float, float]:
        """One step on this process's rows of a batch of `size`.

        Returns:
            The mean loss of the whole batch, and the gradient's norm before clipping.

        Raises:
            TrainingError: the loss is no number, or memory runs out with one example at a time.
        """
        generator = torch.Generator().manual_seed(step_seed(self.seed, number))
        shape = (size, *seen.clean.shape[1:])
        rows = self.team.rows(size)
        draws = {
            name: value[rows].to(seen.clean.device)
            for name, value in self.parts.objective.draw(shape, generator).items()
        }
        forgotten = self.parts.conditioning.forget(size, generator)[rows]
        while True:
            self.optimizer.zero_grad(set_to_none=True)
            try:
                losses = self._backward(seen, draws, forgotten, number, size)
                break
            except torch.OutOfMemoryError:
                pass
            # Only here: as long as the error is handled, its traceback holds what was computed.
            self._make_room(number)
        loss = self.team.sum(float(losses.sum()) / size)
        self.team.sum_gradients(self.parts.trained.values())
        self.scaler.unscale_(self.optimizer)
        norm = float(torch.nn.utils.clip_grad_norm_(self.parts.trained.values(), self.clip))
        # Under fp16 a gradient that overflows is expected; the scaler skips the step then.
        if not math.isfinite(loss) or not (math.isfinite(norm) or self.scaler.is_enabled()):
            bad = [i for i, v in zip(example_ids, losses.tolist(), strict=True) if v - v != 0]
            raise TrainingError(
                f"The loss stopped being a number at step {number + 1} (examples "
                f"{', '.join(dict.fromkeys(bad or example_ids))}); nothing of that step was "
                "kept. Lower training.learning_rate in the recipe, then train again."
            )
        try:
            self.scaler.step(self.optimizer)
        except torch.OutOfMemoryError:
            # the moments of what moves for the first time come into being here
            raise TrainingError(
                f"Memory ran out in the optimiser at step {number + 1}, which keeps two numbers "
                "more for each weight that moves; take a recipe that moves fewer "
                "(docs/recipes.md counts them), or train on a machine with more memory."
            ) from None
        self.scaler.update()
        return loss, norm

    def _backward(
        self, seen: Encoded, draws: Draws, forgotten: torch.Tensor, number: int, size: int
    ) -> torch.Tensor:
        """Gradients of the batch's mean loss. Returns the (B,) losses of this process's rows."""
        conditioning, backbone = self.parts.conditioning, self.parts.backbone
        losses = []
        devices = [seen.clean.device] if seen.clean.is_cuda else []
        with torch.random.fork_rng(devices=devices):
            for part in split(len(seen.clean), self.at_once):
                # Dropout draws from the global generator.
                torch.manual_seed(step_seed(self.seed, number, self.team.rank, part.start))
                piece = rows_of(seen, part)
                given = conditioning.embed(conditioning.drop(piece.given, forgotten[part]))
                also = None if piece.also is None else conditioning.embed(piece.also)
                prior = piece.prior
                if prior is not None:
                    prior = replace(prior, given=conditioning.embed(prior.given))
                piece = replace(piece, given=given, also=also, prior=prior)
                with self.in_precision():
                    found = self.parts.objective.loss(
                        backbone, piece, {name: value[part] for name, value in draws.items()}
                    )
                self.scaler.scale(found.sum() / size).backward()
                losses.append(found.detach())
        return torch.cat(losses)

    def _make_room(self, number: int) -> None:
        """Halve what is in memory at once, then trade time for memory, then give up."""
        release_memory()
        if self.at_once > 1:
            self.at_once = math.ceil(self.at_once / 2)
            return
        save_memory = getattr(self.parts.backbone, "save_memory", None)
        if save_memory is None or self.saving:
            raise TrainingError(
                f"Memory ran out at step {number + 1} with one example at a time; lower "
                "crops.size_px in the recipe, or train on a machine with more memory."
            )
        save_memory()
        self.saving = True
