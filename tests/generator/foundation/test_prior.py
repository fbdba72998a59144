"""Prior preservation: the loss by hand, whose pictures they are, and a training that is cut."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from tiny import tiny_stable_diffusion

from generator.assembly import build
from generator.checkpoints import load_weights
from generator.conditioning.conditions import Conditions, Encoded
from generator.config import Recipe, load_recipe
from generator.errors import CheckpointError
from generator.objectives.diffusion import NoisePrediction
from generator.painting import DiffusionPainter
from generator.prior import PRIOR, Prior
from generator.training import train

SCHEDULE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def batch(seed: int, count: int = 3) -> Encoded:
    clean = torch.randn(count, 4, 4, 6, generator=torch.Generator().manual_seed(seed))
    ones, nothing = torch.ones(count, 1, 4, 6), torch.zeros(count, 0, 4, 6)
    ids, level = torch.zeros(count, dtype=torch.long), torch.zeros(count, 4, 1, 1)
    return Encoded(clean, ones, ones, Conditions(ids, nothing, ones, nothing, level, 1.0))


def network(noisy, time, given):
    return noisy.tanh() + time[:, None, None, None]


def test_half_of_a_step_is_the_prior():
    backbone = SimpleNamespace(schedule=SCHEDULE, blends=True)
    with_prior = NoisePrediction(
        NoisePrediction.Settings(prior={"weight": 0.3}, min_snr_gamma=5.0), backbone
    )
    without = NoisePrediction(NoisePrediction.Settings(min_snr_gamma=5.0), backbone)
    seen, others = batch(0), batch(1)
    draws = with_prior.draw(tuple(seen.clean.shape), torch.Generator().manual_seed(2))
    assert not torch.equal(draws["noise"], draws["prior_noise"])
    found = with_prior.loss(network, replace(seen, prior=others), draws)
    prior = {name: draws[f"prior_{name}"] for name in ("noise", "steps")}
    wanted = without.loss(network, seen, draws) + 0.3 * without.loss(network, others, prior)
    torch.testing.assert_close(found, wanted)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_stable_diffusion(tmp_path_factory.mktemp("text-to-image"))


def dreambooth(folder, **prior) -> Recipe:
    content = load_recipe("sd15-text-full").model_dump(mode="json")
    content["backbone"]["weights"] = str(folder)
    content["objective"]["prior"] = {"images": 10, "steps": 2} | prior
    content["crops"] |= {"size_px": 64, "least_px": 32, "whole_image_px": 64}
    content["precision"] = "fp32"
    content["training"] |= {
        "steps": 4,
        "learning_rate": 1e-3,
        "accumulation": 2,
        "variants": 2,
        "checkpoint_every": 2,
        "keep_checkpoints": 0,
        "sheet_every": 100,
    }
    content["sampling"] |= {"steps": 2, "guidance": 1.0}
    return Recipe.model_validate(content)


class Cut(BaseException):
    pass


def stop(step, steps, loss):
    if step == 3:
        raise Cut


def test_the_pictures_are_the_untouched_networks_and_survive_a_kill(
    folder, tmp_path, tiny_examples, tiny_classes, monkeypatch
):
    recipe, examples = dreambooth(folder), tiny_examples(grey=False)
    train(recipe, examples, tiny_classes, tmp_path / "whole", seed=0)

    painted = []
    latents = Prior._latents

    def once(self, numbers):
        if painted:
            raise Cut
        painted.append(list(numbers))
        return latents(self, numbers)

    cut = tmp_path / "cut"
    stale = cut / PRIOR / "another-00000.safetensors"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"of another training")
    monkeypatch.setattr(Prior, "_latents", once)
    with pytest.raises(Cut):
        train(recipe, examples, tiny_classes, cut, seed=0)
    assert [p.name[-13:] for p in (cut / PRIOR).iterdir()] == ["0.safetensors"]
    monkeypatch.setattr(Prior, "_latents", latents)
    with pytest.raises(Cut):
        train(recipe, examples, tiny_classes, cut, seed=0, on_step=stop)
    train(recipe, examples, tiny_classes, cut, seed=0)

    files = sorted((tmp_path / "whole" / PRIOR).iterdir())
    assert [p.name for p in files] == sorted(p.name for p in (cut / PRIOR).iterdir())
    kept = torch.cat([load_file(p)["latents"] for p in files])
    assert kept.shape == (10, 4, 8, 8)
    assert all(p.read_bytes() == (cut / PRIOR / p.name).read_bytes() for p in files)
    assert load_weights(tmp_path / "whole")[2] == load_weights(cut)[2]
    # Without a prior the weights are others, and nothing of it stays behind.
    bare = recipe.model_dump(mode="json")
    bare["objective"]["prior"] = None
    train(Recipe.model_validate(bare), examples, tiny_classes, cut, seed=0)
    assert load_weights(tmp_path / "whole")[2] != load_weights(cut)[2]
    assert not (cut / PRIOR).exists()


def test_the_pictures_follow_from_the_weights_before_training(folder, tmp_path, tiny_classes):
    recipe = dreambooth(folder, images=2)
    parts = build(recipe, tiny_classes, 3)
    DiffusionPainter(recipe, parts, tiny_classes, 3, "")  # settles the parts
    prior = Prior(recipe, parts, tmp_path, "k" * 64, 0, 64, torch.device("cpu"))
    prior.paint(untouched=True)
    found = prior.read()
    assert found.clean.shape == (2, 4, 8, 8) and found.clean.std() > 0.1
    assert not torch.equal(found.clean[0], found.clean[1])
    assert found.given.class_ids.tolist() == [len(tiny_classes)] * 2  # clean
    assert (found.hidden == 1).all() and (found.masks == 0).all()
    next((tmp_path / PRIOR).iterdir()).unlink()
    with pytest.raises(CheckpointError, match="is missing, and the network that painted it"):
        prior.paint(untouched=False)


def test_a_prior_needs_words(folder):
    content = dreambooth(folder).model_dump(mode="json")
    content["conditioning"] = {"kind": "class_embedding"}
    with pytest.raises(ValueError, match=r"conditioning 'prompt' or leave objective\.prior"):
        Recipe.model_validate(content)
