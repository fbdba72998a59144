"""What the networks share that a loop of our own trains: the loop, and how they are kept."""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from downstream.detectors.outcome import OnStep, rate_at
from downstream.errors import RunError
from downstream.files import write_atomic, write_text

WEIGHT_DECAY = 0.01

WEIGHTS, MODEL = "weights.safetensors", "model.json"
"""Files that a network is kept in."""


def fit(
    model: nn.Module,
    loss_of_batch: Callable[[], torch.Tensor],
    *,
    steps: int,
    rate: float,
    rate_key: str,
    on_step: OnStep,
) -> list[tuple[int, float]]:
    """Take exactly `steps` steps of AdamW, whatever the arm; the rate follows the step alone.

    Args:
        model: is left in training mode.
        loss_of_batch: draws the next batch and gives its loss, a scalar.
        steps: how many.
        rate: the highest learning rate; see `rate_at`, which goes down to 0.
        rate_key: its name in the settings, for the error.
        on_step: told after every step.

    Returns:
        (step, loss) at about fifty steps.

    Raises:
        RunError: the loss stopped being a number.
    """
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=WEIGHT_DECAY)
    history = []
    model.train()
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * rate_at(step, steps, floor=0.0)
        loss = loss_of_batch()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise RunError(
                f"The loss stopped being a number at step {step + 1}; set a smaller "
                f"evaluate.{rate_key} and run: augment evaluate"
            )
        if (step + 1) % max(1, steps // 50) == 0 or step == 0:
            history.append((step + 1, value))
        on_step(step + 1, steps)
    return history


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within it torch's own generator starts from `seed`; afterwards it goes on as if nothing had
    been. Layers are initialised by no other generator."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        yield


def save_network(model: nn.Module, about: dict[str, Any], folder: Path) -> None:
    """Write `weights.safetensors` and `model.json`, from which `networks.py` rebuilds it."""
    state = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    write_atomic(folder / WEIGHTS, lambda path: save_file(state, path))
    write_text(folder / MODEL, json.dumps(about, indent=2, sort_keys=True, default=str))
