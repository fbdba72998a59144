"""Variance-preserving diffusion: the network predicts the noise, or v."""

from typing import Any, Literal

import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from pydantic import Field
from torch import Tensor

from generator import registry
from generator.conditioning.conditions import Encoded
from generator.config import Choice, Recipe, StrictModel
from generator.objectives.objective import Draws, Network, Objective, Weighted, loss_weights
from generator.registry import register

# Of Stable Diffusion; used where the weights don't say on which schedule they were trained.
_STABLE_DIFFUSION = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
}
_SCHEDULE_KEYS = (
    *("beta_schedule", "beta_start", "beta_end", "num_train_timesteps"),
    *("prediction_type", "trained_betas", "rescale_betas_zero_snr"),
)


class _Diffusion(Objective):
    """A discrete schedule (Ho et al., DDPM, 2006.11239) and its solvers."""

    path: Any
    lambda_min_clipped = -float("inf")
    everywhere = False
    """Whether the loss also counts where the network does not paint."""

    @staticmethod
    def refuse(recipe: Recipe) -> str | None:
        """Its paths are curved, so a solver of straight ones would land elsewhere."""
        if recipe.training.validate_solver == "euler":
            return (
                "training.validate_solver 'euler' follows flow matching's straight paths and "
                f"objective {recipe.objective.kind!r} has curved ones; set it to 'ddim'"
            )
        if recipe.sampling.solver not in ("dpm++2m", "ddim"):
            return (
                f"sampling.solver {recipe.sampling.solver!r} follows flow matching's straight "
                f"paths and objective {recipe.objective.kind!r} has curved ones; set solver to "
                "'dpm++2m' or 'ddim'"
            )
        return None

    @property
    def _count(self) -> int:
        return int(self.path.config["num_train_timesteps"])

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Draws:
        """Noise, and evenly distributed times."""
        noise = torch.randn(shape, generator=generator)
        return {
            "noise": noise,
            "steps": torch.randint(0, self._count, (shape[0],), generator=generator),
        }

    def _prediction(self, network: Network, seen: Encoded, draws: Draws) -> tuple[Tensor, Tensor]:
        """What the network says and what it should say, both float32."""
        noise, steps = draws["noise"], draws["steps"]
        noisy = self.path.add_noise(seen.clean, noise, steps)
        said = network(noisy, steps.to(seen.clean) / self._count, seen.given).float()
        if self.path.config["prediction_type"] == "v_prediction":
            return said, self.path.get_velocity(seen.clean, noise, steps)
        return said, noise

    def signal_to_noise(self, steps: Tensor) -> Tensor:
        """(B,) alpha^2 / sigma^2 at these steps of the schedule."""
        kept: Tensor = self.path.alphas_cumprod.to(steps.device)[steps]
        return kept / (1 - kept)

    def loss(self, network: Network, seen: Encoded, draws: Draws) -> Tensor:
        """Weighted mean squared error; see `Objective.loss`."""
        said, wanted = self._prediction(network, seen, draws)
        counted = torch.ones_like(seen.hidden) if self.everywhere else seen.hidden
        weights = loss_weights(seen.masks, counted, self.settings.mask_weight)
        return (weights * (said - wanted) ** 2).mean(dim=(1, 2, 3))

    def scheduler(self, solver: str, steps: int) -> Any:
        """DPM-Solver++ (Lu et al., 2211.01095) of second order, or DDIM (Song et al., 2010.02502);
        steps from the very end of the schedule (Lin et al., 2305.08891, section 3.3)."""
        how: dict[str, Any] = {"timestep_spacing": "trailing", "steps_offset": 0}
        if solver == "ddim":
            scheduler: Any = DDIMScheduler.from_config(
                self.path.config, clip_sample=False, set_alpha_to_one=True, **how
            )
        else:
            scheduler = DPMSolverMultistepScheduler.from_config(
                self.path.config,
                lambda_min_clipped=self.lambda_min_clipped,
                final_sigmas_type="zero",
                **how,
            )
        scheduler.set_timesteps(steps)
        return scheduler

    def noised(self, scheduler: Any, step: int, clean: Tensor, noise: Tensor) -> Tensor:
        """See `Objective.noised`."""
        if step >= len(scheduler.timesteps):
            return clean
        if not hasattr(scheduler, "sigmas"):  # DDIM
            kept = self.path.alphas_cumprod[scheduler.timesteps[step]].to(clean)
        else:
            kept = 1 / (1 + scheduler.sigmas[step].to(clean) ** 2)
        return kept.sqrt() * clean + (1 - kept).sqrt() * noise


@register("objective", "v")
class VPrediction(_Diffusion):
    """Velocity on the cosine schedule (Salimans and Ho, 2202.00512, appendix D)."""

    # At the very end of the cosine schedule no signal is left and the solver would divide by it;
    # a lower bound on lambda keeps clear of that (diffusers' own advice).
    lambda_min_clipped = -5.1

    class Settings(Weighted):
        """See `Weighted`."""

        kind: Literal["v"] = "v"

    @staticmethod
    def refuse(recipe: Recipe) -> str | None:
        """As all of diffusion; and pretrained weights bring a schedule of their own."""
        if hasattr(recipe.backbone, "weights"):
            return (
                f"backbone {recipe.backbone.kind!r} was trained on a schedule of its own; choose "
                "objective 'noise', which follows it, with prediction 'v' if it predicts v"
            )
        return _Diffusion.refuse(recipe)

    def __init__(self, settings: Any, backbone: Any) -> None:
        """Build the schedule."""
        super().__init__(settings, backbone)
        self.path = DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")


class PriorSettings(StrictModel):
    """Pictures that the untouched network paints of the part without a defect, under
    `conditioning.clean`; half of what every step learns from (Ruiz et al., DreamBooth,
    2208.12242, equation 2)."""

    images: int = Field(200, ge=1, le=100_000, description="how many; the paper has about 1000")
    weight: float = Field(1.0, gt=0, le=100, description="of the loss on them")
    steps: int = Field(20, ge=1, le=1000, description="of DPM-Solver++ for each")
    guidance: float = Field(7.5, ge=1, le=20, description="that they are painted with")


class NoiseSettings(Choice):
    """`prediction` `weights` follows what the pretrained weights were trained to say."""

    prediction: Literal["weights", "epsilon", "v"] = Field(
        "weights", description="what the network says; `weights`: what it was trained to say"
    )
    min_snr_gamma: float | None = Field(
        None, gt=0, description="bound of min-SNR weighting, 5 in the paper; none: all alike"
    )
    offset_noise: float = Field(
        0.0, ge=0, le=1, description="share of noise that is the same all over a channel"
    )


@register("objective", "noise")
class NoisePrediction(_Diffusion):
    """The noise, or v, on the schedule of the pretrained weights (Ho et al., 2006.11239, equation
    14), with min-SNR weights (Hang et al., 2303.09556) and offset noise as options."""

    class Settings(NoiseSettings, Weighted):
        """See `NoiseSettings`."""

        kind: Literal["noise"] = "noise"
        prior: PriorSettings | None = Field(
            None,
            description="DreamBooth's prior preservation; none: what was known may be forgotten",
        )
        mask_weight: float = Field(
            0.0, ge=0, le=100, description="the loss counts 1 + mask_weight times under the mask"
        )

    @staticmethod
    def refuse(recipe: Recipe) -> str | None:
        """As all of diffusion; and the prior needs words for the part."""
        conditioning = registry.method("conditioning", recipe.conditioning.kind)
        if getattr(recipe.objective, "prior", None) and not conditioning.describes:
            return (
                "objective.prior has the untouched network paint the part by its description, "
                f"which conditioning {recipe.conditioning.kind!r} has not; choose conditioning "
                "'prompt' or leave objective.prior out"
            )
        return _Diffusion.refuse(recipe)

    def __init__(self, settings: Any, backbone: Any) -> None:
        """Build the schedule that the backbone's weights were trained on."""
        super().__init__(settings, backbone)
        self.prior = getattr(settings, "prior", None)
        # A pretrained network is given noise all over and says it all over; one of ours is shown
        # the surround as it is, and what it says there is not looked at.
        self.everywhere = getattr(backbone, "blends", False)
        given = getattr(backbone, "schedule", None) or _STABLE_DIFFUSION
        config = {key: given[key] for key in _SCHEDULE_KEYS if key in given}
        if settings.prediction != "weights":
            config["prediction_type"] = (
                "epsilon" if settings.prediction == "epsilon" else "v_prediction"
            )
        self.path = DDPMScheduler(**config)

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Draws:
        """Noise with its offset, and evenly distributed times."""
        draws = self._draw(shape, generator)
        if self.prior is not None:
            others = self._draw(shape, generator)
            draws |= {f"prior_{name}": value for name, value in others.items()}
        return draws

    def _draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Draws:
        draws = super().draw(shape, generator)
        if self.settings.offset_noise:
            offset = torch.randn(*shape[:2], 1, 1, generator=generator)
            draws["noise"] = draws["noise"] + self.settings.offset_noise * offset
        return draws

    def loss(self, network: Network, seen: Encoded, draws: Draws) -> Tensor:
        """Weighted mean squared error, and that on the prior; see `Objective.loss`."""
        own = self._loss(network, seen, draws)
        if self.prior is None:
            return own
        assert seen.prior is not None
        others = {name: draws[f"prior_{name}"] for name in ("noise", "steps")}
        return own + self.prior.weight * self._loss(network, seen.prior, others)

    def _loss(self, network: Network, seen: Encoded, draws: Draws) -> Tensor:
        return super().loss(network, seen, draws) * self.time_weights(draws["steps"])

    def time_weights(self, steps: Tensor) -> Tensor:
        """(B,) min-SNR weights of these steps: min(SNR, gamma) / SNR for the noise, and
        min(SNR, gamma) / (SNR + 1) for v (2303.09556, section 3.4); 1 without gamma."""
        gamma = self.settings.min_snr_gamma
        if gamma is None:
            return torch.ones(len(steps), device=steps.device)
        snr = self.signal_to_noise(steps)
        is_v = self.path.config["prediction_type"] == "v_prediction"
        return snr.clamp(max=gamma) / (snr + 1 if is_v else snr)
