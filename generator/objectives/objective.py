"""What is common to all objectives: random draws, weights under the mask, the walk back."""

from collections.abc import Callable
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from generator.conditioning.conditions import Conditions, Encoded, Prompt
from generator.config import Choice

Predict = Callable[[Tensor, Tensor], Tensor]
"""(noisy (B, C, H, W), time (B,) in [0, 1]) -> prediction (B, C, H, W)."""

Network = Callable[[Tensor, Tensor, Conditions], Tensor]
"""`Predict` whose conditions are still open."""

Draws = dict[str, Tensor]
"""Everything random in a step, drawn for the whole batch, one row an example, so that the batch
can be cut into parts, or spread over processes, without another result."""

Hold = Callable[[Tensor, int], Tensor]
"""(sample, step number that comes next) -> the sample with what is known put back."""


class Weighted(Choice):
    """Settings of an objective whose error counts more under the mask."""

    mask_weight: float = Field(
        4.0, ge=0, le=100, description="the loss counts 1 + mask_weight times under the mask"
    )


class Objective:
    """A path from image to noise, the loss on it, and the solver that walks back."""

    two_views = False
    """Whether `Encoded.also` is needed."""

    prior: Any = None
    """How many pictures of the untouched network are kept in mind (`images`); None for none."""

    paints: Prompt = "defect"
    """Under which of a conditioning's descriptions defects are painted."""

    def __init__(self, settings: Any, backbone: Any) -> None:
        """Keep the settings; `backbone` says on which noise schedule its weights were trained."""
        self.settings = settings

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Draws:
        """Noise and times for a batch of `shape` (B, c, h, w), on the CPU."""
        raise NotImplementedError

    def loss(self, network: Network, seen: Encoded, draws: Draws) -> Tensor:
        """(B,) float32, one value an example.

        Args:
            network: the network; conditions are passed along, `tokens` included.
            seen: the batch.
            draws: of `draw`, on the same device.
        """
        raise NotImplementedError

    def second_masks(self, masks: Tensor, generator: torch.Generator) -> Tensor:
        """Masks (B, 1, H, W) of the second view, for objectives with `two_views`."""
        raise NotImplementedError

    def preconditioned(self, network: Predict) -> Predict:
        """The network as the solver and the loss call it; as it is unless overridden."""
        return network

    def scheduler(self, solver: str, steps: int) -> Any:
        """A diffusers scheduler over `steps` steps of this objective's paths."""
        raise NotImplementedError

    def noised(self, scheduler: Any, step: int, clean: Tensor, noise: Tensor) -> Tensor:
        """`clean` with the noise that step number `step` starts from; all of it after the last."""
        raise NotImplementedError


def loss_weights(masks: Tensor, hidden: Tensor, mask_weight: float) -> Tensor:
    """0 where nothing is hidden, 1 in the margin, and 1 + `mask_weight` under the mask.

    Left so, a pit of a hundred pixels would count a hundredth of a stain that fills the crop;
    scaled to equal sums, each of its pixels a hundred times as much. Dividing by the root of the
    mean splits the difference.

    Args:
        masks: (B, C, H, W) float in [0, 1].
        hidden: as `masks`, 0 or 1.
        mask_weight: at least 0.
    """
    weights = hidden * (1 + mask_weight * masks)
    return weights / weights.mean(dim=(1, 2, 3), keepdim=True).clamp(min=1e-3).sqrt()


def begin_index(scheduler: Any, strength: float) -> int:
    """First step whose time is at most `strength`; 0 starts from pure noise."""
    times = scheduler.timesteps.float() / 1000
    below = (times <= strength + 1e-3).nonzero()
    return int(below[0]) if len(below) else len(times) - 1


@torch.no_grad()
def solve(
    predict: Predict, scheduler: Any, start: Tensor, begin: int, hold: Hold | None = None
) -> Tensor:
    """Walk from `start`, as it is before step `begin`, to the image.

    Args:
        predict: the network under its conditions.
        scheduler: of `Objective.scheduler`.
        start: (B, C, H, W) float32.
        begin: number of the first step.
        hold: puts what is known back after every step; see `Conditioning.sees_background`.
    """
    # Solvers that refer to earlier steps by number need to be told where they begin.
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(begin)
    sample = start
    for number, time in enumerate(scheduler.timesteps[begin:], begin):
        times = torch.full((len(sample),), float(time) / 1000, device=sample.device)
        sample = scheduler.step(predict(sample, times).float(), time, sample).prev_sample
        if hold is not None:
            sample = hold(sample, number + 1)
    return sample
