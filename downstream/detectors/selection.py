"""Which step's weights count: the last one's, or the best of ten checks on val.

Neither is given an image of test: what is chosen is fixed before test is predicted.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from downstream.detectors.outcome import ValChosen

CHECKS = 10
"""How often a network is looked at on val, evenly over its training."""

Predictions = dict[str, list[dict[str, Any]]]


class BestOnVal:
    """Keeps a copy of the weights of the best check, the earliest of equals.

    Args:
        model: as it is trained; left in training mode.
        steps: optimiser steps of the whole training.
        select: with `last` nothing is looked at.
        score: the primary metric of a network in evaluation mode, on val.
    """

    def __init__(
        self, model: nn.Module, steps: int, select: str, score: Callable[[nn.Module], float]
    ) -> None:
        self.model, self.steps, self.select, self.score = model, steps, select, score
        self.portion = math.ceil(steps / CHECKS)
        self.checks: list[tuple[int, float]] = []
        self.best: tuple[int, dict[str, torch.Tensor]] | None = None

    def after_step(self, done: int) -> None:
        """Look at val, if it is time: after every tenth of the steps and after the last."""
        if self.select == "last" or (done % self.portion and done != self.steps):
            return
        self.model.eval()
        value = self.score(self.model)
        self.model.train()
        if not self.checks or value > max(old for _, old in self.checks):
            self.best = (done, _copy(self.model))
        self.checks.append((done, value))

    def settle(
        self, predict: Callable[[nn.Module], Predictions]
    ) -> tuple[int, Predictions, ValChosen | None]:
        """Fix the weights, then predict.

        Args:
            predict: gives the predictions of a network on val and test.

        Returns:
            The step whose weights the model now has and which are measured, their predictions,
            and with `both`, where the last step counts, what the best check's weights predict.
        """
        self.model.eval()
        if self.select == "val" and self.best is not None:
            self.model.load_state_dict(self.best[1])
            return self.best[0], predict(self.model), None
        predictions = predict(self.model)
        if self.best is None:
            return self.steps, predictions, None
        last = _copy(self.model)
        self.model.load_state_dict(self.best[1])
        chosen = ValChosen(self.best[0], predict(self.model))
        self.model.load_state_dict(last)
        return self.steps, predictions, chosen


def _copy(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
