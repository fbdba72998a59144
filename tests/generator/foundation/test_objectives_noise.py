"""Noise and v prediction against the arithmetic of diffusers' training examples and the papers."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr

from generator.conditioning.conditions import Conditions, Encoded
from generator.objectives.diffusion import NoisePrediction

# stable-diffusion-v1-5's scheduler_config.json, with a key that no schedule is made from.
SCHEDULE = {
    "_class_name": "PNDMScheduler",
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "skip_prk_steps": True,
}
SHAPE = (5, 4, 6, 10)


def make(*, predicts: str = "epsilon", **settings) -> NoisePrediction:
    backbone = SimpleNamespace(schedule=SCHEDULE | {"prediction_type": predicts}, blends=True)
    return NoisePrediction(NoisePrediction.Settings(**settings), backbone)


def batch(hidden: float = 1.0) -> Encoded:
    torch.manual_seed(1)
    count, _, high, wide = SHAPE
    ones = torch.ones(count, 1, high, wide)
    nothing = torch.zeros(count, 0, high, wide)
    level = torch.zeros(count, 4, 1, 1)
    given = Conditions(torch.zeros(count, dtype=torch.long), nothing, ones, nothing, level, 1.0)
    return Encoded(torch.randn(SHAPE), torch.rand_like(ones), ones * hidden, given)


def network(noisy: torch.Tensor, time: torch.Tensor, given: Conditions) -> torch.Tensor:
    """Anything that depends on its inputs, each example for itself."""
    return torch.tanh(noisy.roll(1, dims=3)) + time[:, None, None, None]


def drawn(objective: NoisePrediction, seed: int = 2) -> dict[str, torch.Tensor]:
    return objective.draw(SHAPE, torch.Generator().manual_seed(seed))


def alphas() -> np.ndarray:
    """Cumulative products of 1 - beta, in double precision, written out."""
    roots = np.linspace(0.00085**0.5, 0.012**0.5, 1000)
    return np.cumprod(1 - roots**2)


@pytest.mark.parametrize(("predicts", "prediction"), [("epsilon", "weights"), ("epsilon", "v")])
def test_the_loss_is_that_of_the_training_examples(predicts, prediction):
    """train_text_to_image.py: add_noise, the UNet, mse_loss over everything."""
    objective, seen = make(predicts=predicts, prediction=prediction), batch()
    draws = drawn(objective)
    scheduler = DDPMScheduler.from_config(SCHEDULE)
    noise, steps = draws["noise"], draws["steps"]
    noisy = scheduler.add_noise(seen.clean, noise, steps)
    said = network(noisy, steps / 1000, seen.given)
    target = noise if prediction == "weights" else scheduler.get_velocity(seen.clean, noise, steps)
    wanted = F.mse_loss(said.float(), target.float(), reduction="mean")
    torch.testing.assert_close(objective.loss(network, seen, draws).mean(), wanted)


def test_weights_that_predict_v_are_followed():
    objective, seen = make(predicts="v_prediction"), batch()
    draws = drawn(objective)
    kept = torch.tensor(alphas()[draws["steps"].numpy()])[:, None, None, None]
    clean, noise = seen.clean.double(), draws["noise"].double()
    noisy = kept.sqrt() * clean + (1 - kept).sqrt() * noise
    velocity = kept.sqrt() * noise - (1 - kept).sqrt() * clean  # 2202.00512, appendix D
    said = network(noisy, draws["steps"].double() / 1000, seen.given)
    wanted = (said - velocity).square().mean(dim=(1, 2, 3))
    found = objective.loss(network, seen, draws)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction"])
def test_min_snr_weights_are_the_papers(predicts):
    objective = make(predicts=predicts, min_snr_gamma=5.0)
    steps = torch.arange(0, 1000, 37)
    ratio = alphas() / (1 - alphas())
    # 2303.09556: the loss on x0 counts min(SNR, gamma) times; on the noise it is SNR times as
    # large as on x0 (equation 4), on v SNR + 1 times (section 3.4).
    larger = ratio + (predicts == "v_prediction")
    wanted = torch.tensor((np.minimum(ratio, 5.0) / larger)[steps.numpy()])
    found = objective.time_weights(steps)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-3, atol=0)
    assert found.max() <= 1

    snr = compute_snr(DDPMScheduler.from_config(SCHEDULE), steps)
    clipped = torch.stack([snr, torch.full_like(snr, 5.0)], dim=1).min(dim=1)[0]
    example = clipped / (snr + 1 if predicts == "v_prediction" else snr)
    torch.testing.assert_close(found, example)


def test_min_snr_weighs_each_example_by_its_own_step():
    plain, weighted, seen = make(), make(min_snr_gamma=5.0), batch()
    draws = drawn(plain) | {"steps": torch.tensor([0, 50, 120, 500, 999])}
    weights = weighted.time_weights(draws["steps"])
    assert len(weights.unique()) > 3
    torch.testing.assert_close(
        weighted.loss(network, seen, draws), plain.loss(network, seen, draws) * weights
    )


def test_offset_noise_is_the_same_all_over_a_channel():
    without, with_offset = drawn(make()), drawn(make(offset_noise=0.1))
    assert torch.equal(without["steps"], with_offset["steps"])
    offset = with_offset["noise"] - without["noise"]
    flat = offset.flatten(2)
    torch.testing.assert_close(flat, flat[..., :1].expand_as(flat))
    many = make(offset_noise=0.1).draw((4000, 4, 1, 1), torch.Generator().manual_seed(3))["noise"]
    assert many.var().item() == pytest.approx(1 + 0.1**2, rel=0.05)
    assert flat[..., 0].std() > 0.03


def test_pretrained_networks_learn_the_surround_too():
    objective = make()
    draws = drawn(objective)
    nothing_hidden = objective.loss(network, batch(hidden=0.0), draws)
    assert torch.equal(nothing_hidden, objective.loss(network, batch(), draws))


def test_a_batch_can_be_cut_into_parts():
    objective, seen = make(min_snr_gamma=5.0, offset_noise=0.1, mask_weight=2.0), batch()
    draws = drawn(objective)
    whole = objective.loss(network, seen, draws)
    for part in (slice(0, 2), slice(2, 5)):
        few = seen.map(lambda value, part=part: value[part])
        own = {name: value[part] for name, value in draws.items()}
        torch.testing.assert_close(objective.loss(network, few, own), whole[part])
