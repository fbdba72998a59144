"""What is minimised, and the solver that inverts it.

Times run from 0 (the image) to 1 (pure noise), whatever a scheduler calls them.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from diffusers import (
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
)
from pydantic import Field
from torch import Tensor

from generator.config import Choice, Recipe
from generator.registry import register

Predict = Callable[[Tensor, Tensor], Tensor]
"""(noisy (B, C, H, W), time (B,) in [0, 1]) -> prediction (B, C, H, W)."""


class _Weighted(Choice):
    mask_weight: float = Field(
        4.0, ge=0, le=100, description="the loss counts 1 + mask_weight times under the mask"
    )


@register("objective", "flow")
class FlowMatching:
    """Straight paths from image to noise (Lipman et al., 2210.02747; Liu et al., 2209.03003), with
    logit-normal times (Esser et al., 2403.03206, equation 19)."""

    class Settings(_Weighted):
        """Mean and width of the times before the logistic function."""

        kind: Literal["flow"] = "flow"
        time_mean: float = 0.0
        time_std: float = Field(1.0, gt=0)

    @staticmethod
    def refuse(recipe: Recipe) -> str | None:
        """Both solvers know straight paths."""
        return None

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    def preconditioned(self, network: Predict) -> Predict:
        """Leave to the network only what a linear guess can't know, at unit scale.

        For images and noise of deviation 1, with D = (1 - t)^2 + t^2, the noisy image has variance
        D, the best linear guess of the velocity is (2t - 1) / D times it, and 1 / D is the variance
        of the rest (Karras et al., 2206.00364, section 5, carried over to straight paths).
        """

        def predict(noisy: Tensor, time: Tensor) -> Tensor:
            share = time[:, None, None, None]
            variance = (1 - share) ** 2 + share**2
            rest = network(noisy / variance.sqrt(), time).float()
            return (2 * share - 1) / variance * noisy + rest / variance.sqrt()

        return predict

    def loss(
        self, predict: Predict, clean: Tensor, weights: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Weighted mean squared error of the velocity, one value an example.

        Args:
            predict: the network under its conditions.
            clean: (B, C, H, W) float32, encoded images.
            weights: (B, C, H, W) float32, see `loss_weights`.
            generator: a CPU generator; all of the step's noise comes from it.
        """
        noise = torch.randn(clean.shape, generator=generator).to(clean)
        normal = torch.randn(len(clean), generator=generator).to(clean)
        time = torch.sigmoid(self.settings.time_mean + self.settings.time_std * normal)
        share = time[:, None, None, None]
        velocity = predict((1 - share) * clean + share * noise, time)
        error = (velocity.float() - (noise - clean)) ** 2
        return (weights * error).mean(dim=(1, 2, 3))

    def scheduler(self, solver: str, steps: int) -> Any:
        """A diffusers scheduler over `steps` steps of this objective's paths."""
        if solver == "euler":
            scheduler: Any = FlowMatchEulerDiscreteScheduler()
            scheduler.set_timesteps(steps)
            return scheduler
        scheduler = DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, final_sigmas_type="zero"
        )
        scheduler.set_timesteps(steps)
        return scheduler

    def noised(self, scheduler: Any, step: int, clean: Tensor, noise: Tensor) -> Tensor:
        """`clean` with the noise that step number `step` starts from."""
        share = scheduler.sigmas[step].to(clean)
        return (1 - share) * clean + share * noise


@register("objective", "v")
class VPrediction:
    """Velocity on the cosine schedule (Salimans and Ho, 2202.00512, appendix D)."""

    class Settings(_Weighted):
        """See `_Weighted`."""

        kind: Literal["v"] = "v"

    @staticmethod
    def refuse(recipe: Recipe) -> str | None:
        """Its paths are curved, so a solver of straight ones would land elsewhere."""
        if recipe.sampling.solver != "dpm++2m":
            return (
                f"sampling.solver {recipe.sampling.solver!r} follows flow matching's straight "
                "paths and objective 'v' has curved ones; set solver to 'dpm++2m'"
            )
        return None

    def __init__(self, settings: Any) -> None:
        self.settings = settings
        self.path: Any = DDPMScheduler(
            beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction"
        )

    def preconditioned(self, network: Predict) -> Predict:
        """As it is: on this schedule v and the noisy image have variance 1 at every time."""
        return network

    def loss(
        self, predict: Predict, clean: Tensor, weights: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Weighted mean squared error of v, one value an example; see `FlowMatching.loss`."""
        count = self.path.config["num_train_timesteps"]
        noise = torch.randn(clean.shape, generator=generator).to(clean)
        steps = torch.randint(0, count, (len(clean),), generator=generator).to(clean.device)
        noisy = self.path.add_noise(clean, noise, steps)
        velocity = predict(noisy, steps.to(clean) / count)
        error = (velocity.float() - self.path.get_velocity(clean, noise, steps)) ** 2
        return (weights * error).mean(dim=(1, 2, 3))

    def scheduler(self, solver: str, steps: int) -> Any:
        """See `FlowMatching.scheduler`."""
        # At the very end of the cosine schedule no signal is left and the solver would divide
        # by it; a lower bound on lambda keeps clear of that (diffusers' own advice).
        scheduler: Any = DPMSolverMultistepScheduler.from_config(
            self.path.config, lambda_min_clipped=-5.1, final_sigmas_type="zero"
        )
        scheduler.set_timesteps(steps)
        return scheduler

    def noised(self, scheduler: Any, step: int, clean: Tensor, noise: Tensor) -> Tensor:
        """See `FlowMatching.noised`."""
        sigma = scheduler.sigmas[step].to(clean)
        return (clean + sigma * noise) / (1 + sigma**2) ** 0.5


def loss_weights(masks: Tensor, hidden: Tensor, mask_weight: float) -> Tensor:
    """0 where nothing is hidden, 1 in the margin, and 1 + `mask_weight` under the mask.

    Left so, a pit of a hundred pixels would count a hundredth of a stain that fills the crop;
    scaled to equal sums, each of its pixels a hundred times as much. Dividing by the root of the
    mean splits the difference.

    Args:
        masks: (B, 1, H, W) float in [0, 1].
        hidden: (B, 1, H, W) float, 0 or 1.
    """
    weights = hidden * (1 + mask_weight * masks)
    return weights / weights.mean(dim=(1, 2, 3), keepdim=True).clamp(min=1e-3).sqrt()


def begin_index(scheduler: Any, strength: float) -> int:
    """First step whose time is at most `strength`; 0 starts from pure noise."""
    times = scheduler.timesteps.float() / 1000
    below = (times <= strength + 1e-3).nonzero()
    return int(below[0]) if len(below) else len(times) - 1


@torch.no_grad()
def solve(predict: Predict, scheduler: Any, start: Tensor, begin: int) -> Tensor:
    """Walk from `start`, as it is before step `begin`, to the image."""
    scheduler.set_begin_index(begin)
    sample = start
    for time in scheduler.timesteps[begin:]:
        times = torch.full((len(sample),), float(time) / 1000, device=sample.device)
        sample = scheduler.step(predict(sample, times).float(), time, sample).prev_sample
    return sample
