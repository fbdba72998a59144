"""Every foundation recipe that we ship: trains, is killed and continues, overfits, and samples.

The pipelines are built from configs with random weights and saved in the hub's layout; what reads,
trains and samples them is what reads, trains and samples the real ones.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import tiny_dit, tiny_inpainting, tiny_stable_diffusion

from generator.assembly import build
from generator.checkpoints import load_weights
from generator.config import Recipe, load_recipe, recipe_names
from generator.data import CropData
from generator.files import read_lines, sha256_of_file
from generator.masks import DraftPlanner
from generator.planner_settings import PlannerSettings
from generator.preview import preview_grid
from generator.sampling import load_painter, make_request
from generator.training import train

FOUNDATION = [n for n in recipe_names() if hasattr(load_recipe(n).backbone, "weights")]
BUILDERS = {"dit": tiny_dit, "inpainting": tiny_inpainting, "v1-5": tiny_stable_diffusion}


class Cut(BaseException):
    """Ends a training as SIGKILL would: nothing in the loop cleans up behind it. Real kills of a
    process are in test_training.py and test_stages.py."""


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """Folder of pipelines that fit a recipe, by what its own weights are called."""
    home = tmp_path_factory.mktemp("pipelines")
    made: dict[str, Path] = {}

    def of(recipe: Recipe) -> Path:
        named = recipe.backbone.weights.lower()
        kind = next(word for word in BUILDERS if word in named)
        if kind not in made:
            made[kind] = BUILDERS[kind](home / kind)
        return made[kind]

    return of


def shrunk(name: str, folder: Path, **training: Any) -> Recipe:
    """The shipped recipe on a small canvas and for a few steps; stages keep their order."""
    content = load_recipe(name).model_dump(mode="json")
    content["backbone"]["weights"] = str(folder)
    content["crops"] |= {"size_px": 64, "least_px": 32, "whole_image_px": 64}
    content["precision"] = "fp32"
    content["training"] |= {
        "steps": 8,
        "epochs": None,
        "schedule": "constant",
        "milestones": {},
        "warmup_steps": 0,
        "batch_size": 2,
        "accumulation": 2,
        "variants": min(content["training"]["variants"], 2),
        "checkpoint_every": 3,
        "log_every": 1,
        "sheet_every": 100,
        "validate_every": 0,
        "validate_steps": 4,
        "tracker": "none",
    } | training
    content["sampling"] |= {"steps": 4, "batch_size": 3}
    for key, start in (("up_and_mid_from", 2), ("all_from", 5), ("controlnet_from", 4)):
        if key in content["tuning"]:
            content["tuning"][key] = start
    return Recipe.model_validate(content)


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): sha256_of_file(p) for p in files}


def test_all_nine_are_here():
    assert len(FOUNDATION) == 8  # and the compact one


@pytest.mark.parametrize("name", FOUNDATION)
def test_a_killed_training_ends_with_the_files_of_an_undisturbed_one(
    name, weights, tmp_path, tiny_examples, tiny_classes
):
    """Weights, average, optimiser and randomness: all of it shows in what comes after."""
    examples = tiny_examples(grey=False)
    recipe = shrunk(name, weights(load_recipe(name)))
    stages: list[tuple[str, int]] = []
    train(
        recipe,
        examples,
        tiny_classes,
        tmp_path / "whole",
        seed=3,
        on_stage=lambda stage, moving: stages.append((stage.name, moving)),
    )
    assert all(moving > 0 for _, moving in stages)

    def cut(step: int, total: int, loss: float) -> None:
        if step == 5:
            raise Cut

    with pytest.raises(Cut):
        train(recipe, examples, tiny_classes, tmp_path / "killed", seed=3, on_step=cut)
    resumed: list[int] = []
    train(
        recipe,
        examples,
        tiny_classes,
        tmp_path / "killed",
        seed=3,
        on_step=lambda step, total, loss: resumed.append(step),
    )
    assert resumed == [4, 5, 6, 7, 8]
    assert hashes(tmp_path / "killed") == hashes(tmp_path / "whole")
    assert np.isfinite(
        [line["loss"] for line in read_lines(tmp_path / "whole/metrics.jsonl")]
    ).all()


@pytest.mark.parametrize("name", FOUNDATION)
def test_drafts_are_painted_inside_their_masks_by_what_was_saved(
    name, weights, tmp_path, tiny_examples, tiny_classes
):
    examples = tiny_examples(grey=False)
    recipe = shrunk(name, weights(load_recipe(name)))
    train(recipe, examples, tiny_classes, tmp_path / "c", seed=3)
    painter = load_painter(tmp_path / "c")
    planner = DraftPlanner(examples, tiny_classes, PlannerSettings(least_px=32))
    requests = [
        make_request(painter.fingerprint, class_name, k, 0)
        for class_name in tiny_classes
        for k in range(2)
    ]
    drafts = [planner.plan(request) for request in requests]
    painted = painter.paint(drafts)
    for draft, pixels in zip(drafts, painted, strict=True):
        x1, y1, x2, y2 = draft.crop_xyxy
        assert pixels.shape == (y2 - y1, x2 - x1, 3) and pixels.dtype == np.uint8
        inside = draft.mask[y1:y2, x1:x2]
        below = draft.image[y1:y2, x1:x2]
        assert np.abs(pixels[inside].astype(int) - below[inside]).mean() > 1
    alone = painter.paint(drafts[2:3])[0]
    assert np.abs(alone.astype(int) - painted[2]).max() <= 2
    again = load_painter(tmp_path / "c").paint(drafts)
    assert all(np.array_equal(a, b) for a, b in zip(again, painted, strict=True))


@pytest.mark.parametrize("name", FOUNDATION)
def test_what_is_saved_is_what_was_trained(name, weights, tmp_path, tiny_examples, tiny_classes):
    recipe = shrunk(name, weights(load_recipe(name)))
    train(recipe, tiny_examples(grey=False), tiny_classes, tmp_path / "c", seed=3)
    saved, data, _ = load_weights(tmp_path / "c")
    parts = build(recipe, tiny_classes, 3, seed=3)
    assert set(saved) == set(parts.trained)
    frozen = {n for n, p in parts.backbone.named_parameters() if not p.requires_grad}
    assert frozen and not frozen & set(saved)
    assert len(data["base"]) == 64


@pytest.mark.slow
@pytest.mark.parametrize("name", FOUNDATION)
def test_one_example_is_learnt_by_heart(name, weights, tmp_path, tiny_examples):
    """The loss falls, and what is sampled under the mask comes nearer to the example.

    In the network's grid: a VAE with random weights does not give back what it was shown.
    """
    examples = [next(e for e in tiny_examples(grey=False) if e.label == "pit")]
    recipe = shrunk(name, weights(load_recipe(name)), steps=250, learning_rate=5e-3, variants=1)
    plain = recipe.sampling.model_copy(update={"guidance": 1.0, "steps": 12})
    recipe = recipe.model_copy(update={"sampling": plain})
    data = CropData(examples, ("pit",), recipe.crops, 3)
    batch = data.class_crops(0, 6, 3)

    def psnr(parts) -> float:
        """Decibels under the mask, six samples of the example; the peak is the grid's range."""
        given = parts.conditioning(batch.images, batch.masks, batch.class_ids)
        with torch.no_grad():
            seen = parts.backbone.prepare(batch.images, batch.masks, given)
        grid = preview_grid(recipe, parts, data, batch, 5, torch.device("cpu"))
        wrong = ((grid - seen.clean) ** 2 * seen.hidden).sum() / (seen.hidden.expand_as(grid).sum())
        peak = seen.clean.max() - seen.clean.min()
        return float(10 * torch.log10(peak**2 / wrong))

    before = psnr(build(recipe, ("pit",), 3, seed=3))
    train(recipe, examples, ("pit",), tmp_path / "c", seed=3)
    losses = [line["loss"] for line in read_lines(tmp_path / "c" / "metrics.jsonl")]
    after = psnr(load_painter(tmp_path / "c").parts)
    print(
        f"{name}: loss {np.mean(losses[:20]):.3f} to {np.mean(losses[-50:]):.3f}, "
        f"{before:.1f} to {after:.1f} dB"
    )
    assert np.mean(losses[-50:]) < 0.9 * np.mean(losses[:20])
    assert after > before + 0.3
