"""Flow matching: straight paths from image to noise."""

from typing import Any, Literal

import torch
from diffusers import DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler
from pydantic import Field
from torch import Tensor

from generator.conditioning.conditions import Encoded
from generator.config import Recipe
from generator.objectives.objective import (
    Draws,
    Network,
    Objective,
    Predict,
    Weighted,
    loss_weights,
)
from generator.registry import register


@register("objective", "flow")
class FlowMatching(Objective):
    """Straight paths from image to noise (Lipman et al., 2210.02747; Liu et al., 2209.03003), with
    logit-normal times (Esser et al., 2403.03206, equation 19)."""

    class Settings(Weighted):
        """Mean and width of the times before the logistic function."""

        kind: Literal["flow"] = "flow"
        time_mean: float = 0.0
        time_std: float = Field(1.0, gt=0)

    @staticmethod
    def refuse(recipe: Recipe) -> str | None:
        """A pretrained network knows other paths, and DDIM solves no straight ones."""
        if recipe.training.validate_solver == "ddim":
            return (
                "training.validate_solver 'ddim' follows curved paths and objective 'flow' has "
                "straight ones; leave it out"
            )
        if recipe.sampling.solver == "ddim":
            return (
                "sampling.solver 'ddim' follows curved paths and objective 'flow' has straight "
                "ones; set solver to 'dpm++2m' or 'euler'"
            )
        if hasattr(recipe.backbone, "weights"):
            return (
                f"backbone {recipe.backbone.kind!r} was trained on a noise schedule, which "
                "objective 'flow' does not have; choose objective 'noise'"
            )
        return None

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Draws:
        """Noise, and logit-normal times."""
        noise = torch.randn(shape, generator=generator)
        normal = torch.randn(shape[0], generator=generator)
        time = torch.sigmoid(self.settings.time_mean + self.settings.time_std * normal)
        return {"noise": noise, "time": time}

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

    def loss(self, network: Network, seen: Encoded, draws: Draws) -> Tensor:
        """Weighted mean squared error of the velocity; see `Objective.loss`."""
        predict = self.preconditioned(lambda noisy, time: network(noisy, time, seen.given))
        noise, time = draws["noise"], draws["time"]
        share = time[:, None, None, None]
        velocity = predict((1 - share) * seen.clean + share * noise, time)
        error = (velocity.float() - (noise - seen.clean)) ** 2
        weights = loss_weights(seen.masks, seen.hidden, self.settings.mask_weight)
        return (weights * error).mean(dim=(1, 2, 3))

    def scheduler(self, solver: str, steps: int) -> Any:
        """See `Objective.scheduler`."""
        if solver == "euler":
            scheduler: Any = FlowMatchEulerDiscreteScheduler()
        else:
            scheduler = DPMSolverMultistepScheduler(
                prediction_type="flow_prediction", use_flow_sigmas=True, final_sigmas_type="zero"
            )
        scheduler.set_timesteps(steps)
        return scheduler

    def noised(self, scheduler: Any, step: int, clean: Tensor, noise: Tensor) -> Tensor:
        """See `Objective.noised`."""
        share = scheduler.sigmas[step].to(clean)
        return (1 - share) * clean + share * noise
