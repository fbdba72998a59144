"""Measurements in training: on fixed seeds, under the extractor's own name, and nothing else."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import resnet18

from generator.checkpoints import FEATURES, VALIDATION
from generator.config import load_recipe
from generator.files import read_lines, sha256_of_file
from generator.objectives.diffusion import VPrediction
from generator.training import train
from generator.validation import as_watched, numbers

QUICK = {"validate_every": 4, "validate_images": 3}


def put_extractor(folder: Path) -> None:
    """A ResNet-18's file as users bring it; its weights are random, and nothing is learnt here."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(resnet18(weights=None).state_dict(), folder / "resnet18.safetensors")


def test_scores_follow_the_training_and_change_nothing(
    tmp_path, tiny_examples, tiny_classes, tiny_recipe
):
    examples = tiny_examples()
    (tmp_path / "seen" / FEATURES).mkdir(parents=True)
    put_extractor(tmp_path / "seen" / FEATURES)
    train(tiny_recipe(training=QUICK), examples, tiny_classes, tmp_path / "seen", seed=3)
    train(tiny_recipe(), examples, tiny_classes, tmp_path / "unseen", seed=3)
    files = [tmp_path / name / "weights.safetensors" for name in ("seen", "unseen")]
    assert sha256_of_file(files[0]) == sha256_of_file(files[1])
    lines = read_lines(tmp_path / "seen" / VALIDATION)
    assert [line["step"] for line in lines] == [4, 8]
    assert not (tmp_path / "unseen" / VALIDATION).exists()
    scores = lines[-1]["scores"]
    assert set(scores) == {*tiny_classes, "all"}
    (key,) = [k for k in scores["pit"] if k.startswith("fid_")]
    extractor = key.removeprefix("fid_")
    assert extractor == "resnet18-imagenet"
    for name in ("pit", "scratch"):
        assert scores[name]["synthetic"] == 3
        assert scores[name]["real"] == 6
        assert scores[name][key] >= 0
        assert 0 <= scores[name][f"class_agreement_{extractor}"] <= 1
    flat = numbers(scores)
    assert flat["validation/pit/synthetic"] == 3.0
    assert not any("note" in name for name in flat)


def test_a_training_is_watched_with_a_solver_of_its_own(
    tmp_path, tiny_examples, tiny_classes, tiny_recipe, monkeypatch
):
    shipped = load_recipe("sd15-class-lora")
    watched = as_watched(shipped).sampling
    assert (watched.solver, watched.steps) == ("ddim", 50)
    assert (shipped.sampling.solver, shipped.sampling.steps) == ("dpm++2m", 20)
    assert watched.guidance == shipped.sampling.guidance
    assert as_watched(tiny_recipe()) == tiny_recipe()

    scheduler, asked = VPrediction.scheduler, []

    def noted(self, solver, steps):
        asked.append((solver, steps))
        return scheduler(self, solver, steps)

    monkeypatch.setattr(VPrediction, "scheduler", noted)
    recipe = tiny_recipe(
        objective={"kind": "v"}, training={"validate_solver": "ddim", "validate_steps": 3}
    )
    train(recipe, tiny_examples(), tiny_classes, tmp_path / "c", seed=3)
    assert asked and set(asked) == {("ddim", 3)}


@pytest.mark.parametrize(("objective", "solver"), [("flow", "ddim"), ("v", "euler")])
def test_a_solver_of_other_paths_is_refused(tiny_recipe, objective, solver):
    with pytest.raises(ValueError, match=f"training.validate_solver '{solver}' follows"):
        tiny_recipe(objective={"kind": objective}, training={"validate_solver": solver})
