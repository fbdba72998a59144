"""Objectives against closed forms: the solver must land where the exact network would lead."""

import pytest
import torch

from generator.conditioning.conditions import Conditions, Encoded
from generator.config import load_recipe
from generator.objectives.diffusion import VPrediction
from generator.objectives.flow import FlowMatching
from generator.objectives.objective import begin_index, loss_weights, solve

SHAPE = (3, 4, 6, 8)


def make(kind: str):
    if kind == "flow":
        return FlowMatching(FlowMatching.Settings(mask_weight=0), None)
    return VPrediction(VPrediction.Settings(mask_weight=0), None)


def seen(image: torch.Tensor) -> Encoded:
    """A batch of which everything is hidden and counts alike."""
    count, ones = len(image), torch.ones_like(image)
    nothing = torch.zeros(count, 0, *image.shape[2:])
    ids, level = torch.zeros(count, dtype=torch.long), torch.zeros(count, 1, 1, 1)
    given = Conditions(ids, nothing, ones[:, :1], torch.zeros_like(image), level, 1.0)
    return Encoded(image, ones, ones, given)


def loss_of(objective, predict, image: torch.Tensor, seed: int) -> torch.Tensor:
    # `predict` says what the solver is to hear, not what is left to the network to say.
    objective.preconditioned = lambda network: network
    draws = objective.draw(tuple(image.shape), generator(seed))
    return objective.loss(lambda noisy, time, given: predict(noisy, time), seen(image), draws)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def exact(objective, scheduler, image):
    """The prediction of a network that knows the one image there is."""

    def predict(noisy, time):
        if isinstance(objective, FlowMatching):
            return (noisy - image) / time[:, None, None, None]
        kept = objective.path.alphas_cumprod[(time * 1000).round().long()][:, None, None, None]
        noise = (noisy - kept.sqrt() * image) / (1 - kept).sqrt()
        return kept.sqrt() * noise - (1 - kept).sqrt() * image

    return predict


@pytest.mark.parametrize(
    ("kind", "solver"), [("flow", "dpm++2m"), ("flow", "euler"), ("v", "dpm++2m")]
)
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_the_solver_recovers_the_image_of_an_exact_network(kind, solver, strength):
    objective = make(kind)
    image = torch.rand(SHAPE, generator=generator()) * 2 - 1
    noise = torch.randn(SHAPE, generator=generator(1))
    scheduler = objective.scheduler(solver, 12)
    begin = begin_index(scheduler, strength)
    start = objective.noised(scheduler, begin, image, noise)
    out = solve(exact(objective, scheduler, image), scheduler, start, begin)
    assert (out - image).abs().max() < 0.02


@pytest.mark.parametrize("kind", ["flow", "v"])
def test_the_loss_of_an_exact_network_is_zero_and_of_a_blind_one_is_not(kind):
    objective = make(kind)
    image = torch.rand(SHAPE, generator=generator()) * 2 - 1
    scheduler = objective.scheduler("dpm++2m", 10)
    right = loss_of(objective, exact(objective, scheduler, image), image, 2)
    blind = loss_of(objective, lambda noisy, time: torch.zeros_like(noisy), image, 2)
    assert right.shape == (3,)
    assert right.max() < 1e-6
    assert blind.min() > 0.3
    again = loss_of(objective, lambda noisy, time: torch.zeros_like(noisy), image, 2)
    assert torch.equal(blind, again)


def test_flow_leaves_to_the_network_what_a_linear_guess_can_not_know():
    """For Gaussian images and noise the linear guess is exact: what is left has variance 1."""
    shape = (64, 4, 8, 8)
    image, noise = (torch.randn(shape, generator=generator(k)) for k in (4, 5))
    for share in (0.05, 0.5, 0.9):
        noisy, seen = (1 - share) * image + share * noise, {}

        def network(x, time, seen=seen):
            seen["variance"] = float(x.var())
            return torch.zeros_like(x)

        guess = make("flow").preconditioned(network)(noisy, torch.full((64,), share))
        rest = (noise - image - guess) * ((1 - share) ** 2 + share**2) ** 0.5
        assert abs(seen["variance"] - 1) < 0.05
        assert abs(float(rest.var()) - 1) < 0.05
        assert abs(float((rest * noisy).mean())) < 0.05


def test_flow_regresses_noise_minus_image():
    seen = {}

    def predict(noisy, time):
        seen.update(noisy=noisy, time=time)
        return torch.zeros_like(noisy)

    image = torch.rand(SHAPE, generator=generator())
    loss = loss_of(make("flow"), predict, image, 3)
    share = seen["time"][:, None, None, None]
    noise = (seen["noisy"] - (1 - share) * image) / share
    assert torch.allclose(loss, ((noise - image) ** 2).mean(dim=(1, 2, 3)), rtol=1e-3)


@pytest.mark.parametrize("solver", ["dpm++2m", "euler"])
def test_strength_is_the_share_of_noise_that_a_paste_starts_with(solver):
    objective = make("flow")
    scheduler = objective.scheduler(solver, 20)
    assert begin_index(scheduler, 1.0) == 0
    begin = begin_index(scheduler, 0.6)
    start = objective.noised(scheduler, begin, torch.zeros(SHAPE), torch.ones(SHAPE))
    assert 0.5 < float(start.mean()) <= 0.601


def test_loss_weights_count_the_mask_more_and_the_background_not_at_all():
    masks = torch.zeros(2, 1, 4, 6)
    masks[0, :, :2, :3] = 1
    masks[1] = 1
    hidden = masks.clone()
    hidden[0, :, :3, :4] = 1
    weights = loss_weights(masks, hidden, 4.0)
    assert (weights[0, 0, 3] == 0).all()
    assert torch.allclose(weights[0, 0, 0, 0] / weights[0, 0, 2, 3], torch.tensor(5.0))
    # The sum grows with the root of what is hidden: 36 of 24 pixels' weight against 120.
    sums = weights.sum(dim=(1, 2, 3))
    assert torch.allclose(sums[1] / sums[0], torch.tensor(120 / 36).sqrt())


def test_recipes_refuse_a_straight_solver_on_curved_paths():
    recipe = load_recipe("compact")
    euler = recipe.model_copy(
        update={"sampling": recipe.sampling.model_copy(update={"solver": "euler"})}
    )
    assert FlowMatching.refuse(euler) is None
    assert "curved" in str(VPrediction.refuse(euler))
