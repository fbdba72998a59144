"""The line between `good` and the defects: where val puts it, and that the network keeps it."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from downstream.detectors.adjustment import SHIFTS, add_to_good, best_shift

CLASSES = ("dent", "scratch", "good")


def rows(shares: np.ndarray, targets: list[int]) -> list[dict]:
    pairs = zip(shares.tolist(), targets, strict=True)
    return [{"probabilities": p, "target": t} for p, t in pairs]


def planted(shift: float) -> list[dict]:
    """Four of each class, told apart without a fault once `good` gets `shift` or a little more."""
    logits = np.repeat(np.diag([2.0, 2.0, 2.0 - shift]), 4, axis=0)
    logits[:, 2] += np.where(np.arange(12) < 8, -shift, 0.0)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return rows(shares, [0] * 4 + [1] * 4 + [2] * 4)


@pytest.mark.parametrize("shift", [0.0, 3.0, -1.9])
def test_val_says_where_the_line_runs(shift: float) -> None:
    found, macro_f1 = best_shift(planted(shift), CLASSES)
    assert macro_f1 == 1.0
    # good is on top from 2 below on, and what is not good up to 2 above
    assert abs(found - shift) <= 2 + 0.25
    assert found == 0.0 or shift != 0.0
    plain = best_shift(planted(shift), CLASSES, (0.0,))[1]
    assert plain == 1.0 if abs(shift) < 2 else plain < 0.7


def test_of_equals_the_nearest_to_none_is_taken() -> None:
    assert best_shift(rows(np.array([[0.9, 0.1, 0.0]]), [0]), CLASSES)[0] == 0.0


def test_where_val_shows_one_side_alone_nothing_is_moved() -> None:
    sure = np.array([[0.1, 0.3, 0.6], [0.2, 0.2, 0.6], [0.05, 0.05, 0.9]])
    assert best_shift(rows(sure, [0, 1, 0]), CLASSES)[0] == 0.0
    assert best_shift(rows(sure[:, ::-1], [2, 2, 2]), CLASSES)[0] == 0.0
    assert best_shift(rows(sure, [0, 1, 2]), CLASSES)[0] < 0


def test_without_good_nothing_is_moved() -> None:
    shares = np.array([[0.4, 0.6], [0.3, 0.7]])
    assert best_shift(rows(shares, [0, 1]), CLASSES[:2])[0] == 0.0
    layer = nn.Linear(4, 2)
    before = layer.bias.detach().clone()
    add_to_good(layer, 3.0, CLASSES[:2])
    assert torch.equal(layer.bias, before)


def test_the_network_has_what_val_chose() -> None:
    torch.manual_seed(0)
    layer, features = nn.Linear(4, 3), torch.randn(5, 4)
    before = layer(features).softmax(dim=1)
    add_to_good(layer, 1.5, CLASSES)
    weighted = before * torch.tensor([1.0, 1.0, math.exp(1.5)])
    wanted = weighted / weighted.sum(dim=1, keepdim=True)
    assert torch.allclose(layer(features).softmax(dim=1), wanted, atol=1e-6)


def test_none_is_among_the_constants() -> None:
    assert 0.0 in SHIFTS
