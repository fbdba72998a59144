"""Where a classifier draws the line between a good part and a defect.

Every batch holds all classes alike, so a network is taught that one part in six is good, where on a
line nearly all are; and the more defects it has seen on clean surfaces, the more it takes that to
heart. Logit adjustment (Menon et al. 2021, "Long-tail learning via logit adjustment", section 4)
mends it afterwards with a constant for each class; here it is one number, the constant of `good`,
and val chooses it, as it chooses a detector's threshold.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from downstream.dataset import GOOD
from downstream.metrics import classification_metrics

SHIFTS = tuple(float(shift) for shift in np.linspace(-3.0, 7.0, 41))
"""The constants that are tried, in nats: `good` counts from a twentieth to a thousandfold."""


def best_shift(
    rows: Sequence[dict[str, Any]], classes: Sequence[str], tried: Sequence[float] = SHIFTS
) -> tuple[float, float]:
    """The constant of `good` with the highest macro F1, of equals the one nearest to 0.

    Args:
        rows: predictions, as in `Outcome`.
        classes: in the order of the network's outputs. Without `good` there is nothing to choose,
            nor where `rows` are all good or all not, which any line tells apart.
        tried: the constants.

    Returns:
        The constant, added to the logit of `good`, and the macro F1 that it leads to.
    """
    targets = [row["target"] for row in rows]
    shares = np.array([row["probabilities"] for row in rows])
    sides = {classes[target] == GOOD for target in targets}
    shifts = sorted(tried, key=abs) if len(sides) == 2 else [0.0]
    found = []
    for shift in shifts:
        weights = np.where(np.array(classes) == GOOD, np.exp(shift), 1.0)
        guesses = (shares * weights).argmax(axis=1).tolist()
        found.append(classification_metrics(targets, guesses, len(classes))["macro_f1"])
    best = int(np.argmax(found))
    return shifts[best], float(found[best])


@torch.no_grad()
def add_to_good(layer: nn.Linear, shift: float, classes: Sequence[str]) -> None:
    """Add a constant to the logit of `good` in the last layer, so that whoever runs the network
    has it too: the predictions, an exported model, ONNX."""
    if GOOD in classes:
        layer.bias[list(classes).index(GOOD)] += shift
