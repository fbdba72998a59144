"""Trainings in stages, on tiny weights: what moves when, and that a kill leaves no trace."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file
from tiny import tiny_stable_diffusion
from torch import Tensor

from generator.checkpoints import state_path
from generator.config import Recipe, dump_recipe, load_recipe
from generator.files import sha256_of_file
from generator.training import train
from generator.tuning.tuning import Stage

KILLED = """
import os, signal, sys
from pathlib import Path
from generator.config import load_recipe
from generator.records import DefectExample
from generator.training import train
home, at = Path(sys.argv[1]), int(sys.argv[2])
examples = [DefectExample.model_validate_json(l) for l in (home / "examples.jsonl").open()]

def on_step(step, total, loss):
    if step == at:
        os.kill(os.getpid(), signal.SIGKILL)

train(load_recipe(str(home / "recipe.yaml")), examples, ["pit", "scratch"], home / "killed",
      seed=3, on_step=on_step)
"""
PHASES = {"kind": "phases", "rank": 2, "up_and_mid_from": 2, "all_from": 4}
CONTROLNET = {"kind": "controlnet", "rank": 2, "controlnet_from": 3}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_stable_diffusion(tmp_path_factory.mktemp("weights"))


def small(weights: Path, tuning: dict, **training: object) -> Recipe:
    """The recipe in phases on tiny weights: six instances and batches of four make two steps an
    epoch; every epoch leaves a checkpoint."""
    content = load_recipe("sd15-class-phases").model_dump(mode="json")
    content["tuning"] = tuning
    if tuning["kind"] == "controlnet":
        content["backbone"] = {"kind": "stable_diffusion_controlnet"}
    content["backbone"]["weights"] = str(weights)
    content["precision"] = "fp32"
    content["crops"] |= {"size_px": 32, "whole_image_px": 32}
    content["training"] |= {
        "epochs": 6,
        "batch_size": 2,
        "accumulation": 2,
        "variants": 1,
        "warmup_steps": 0,
        "learning_rate": 1e-3,
        "checkpoint_every": 1,
        "keep_checkpoints": 9,
        "log_every": 1,
        "sheet_every": 9,
        "validate_every": 0,
        "validate_steps": 2,
        **training,
    }
    content["sampling"]["steps"] = 2
    return Recipe.model_validate(content)


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """Beginnings of the names of the weights that differ; adapters apart."""
    names = [name for name in before if not torch.equal(before[name], after[name])]
    return {
        "adapters" if ".lora_" in n else ".".join(n.split(".")[: 2 if n[:4] == "unet" else 1])
        for n in names
    }


def kept(folder: Path, epoch: int) -> dict[str, Tensor]:
    return load_file(folder / "checkpoints" / f"step-{2 * epoch:06d}" / "weights.safetensors")


def test_phases_move_what_they_say(tmp_path, weights, tiny_examples, tiny_classes):
    stages: list[tuple[Stage, int]] = []
    recipe = small(weights, PHASES, ema_decay=0)
    folder = train(
        *(recipe, tiny_examples(grey=False), tiny_classes, tmp_path / "c"),
        seed=3,
        on_stage=lambda stage, count: stages.append((stage, count)),
    )
    assert [stage.name for stage, _ in stages] == ["adapters", "up and mid blocks", "whole UNet"]
    small_count, upper_count, all_count = (count for _, count in stages)
    assert 0 < small_count < upper_count < all_count
    ours = {"adapters", "conditioning"}
    assert moved(kept(folder, 1), kept(folder, 2)) == ours
    upper = {"unet.up_blocks", "unet.mid_block"}
    assert moved(kept(folder, 2), kept(folder, 4)) == ours | upper
    last = load_file(folder / "weights.safetensors")
    lower = {"unet.down_blocks", "unet.conv_in", "unet.time_embedding"}
    outer = {"unet.conv_norm_out", "unet.conv_out"}
    assert moved(kept(folder, 4), last) == ours | upper | lower | outer
    # What had not moved yet is as it was pretrained, under the names that adapters give.
    pretrained = UNet2DConditionModel.from_pretrained(weights, subfolder="unet").state_dict()
    early = {n.replace(".base_layer.", "."): v for n, v in kept(folder, 2).items()}
    assert all(torch.equal(early[f"unet.{name}"], value) for name, value in pretrained.items())


def test_the_base_rests_while_the_controlnet_learns(tmp_path, weights, tiny_examples, tiny_classes):
    recipe = small(weights, CONTROLNET, ema_decay=0)
    examples = tiny_examples(grey=False)
    folder = train(recipe, examples, tiny_classes, tmp_path / "c", seed=3)
    assert moved(kept(folder, 1), kept(folder, 3)) == {"adapters", "conditioning"}
    last = load_file(folder / "weights.safetensors")
    assert moved(kept(folder, 3), last) == {"controlnet"}
    assert {p.name for p in (folder / "controlnet").iterdir()} == {
        "config.json",
        "diffusion_pytorch_model.safetensors",
    }


def test_a_run_killed_while_it_exports_exports_when_it_is_repeated(
    tmp_path, weights, tiny_examples, tiny_classes, monkeypatch
):
    recipe = small(weights, {"kind": "lora", "rank": 2}, epochs=1)
    again = (recipe, tiny_examples(grey=False), tiny_classes, tmp_path / "c")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as during, pytest.raises(KeyboardInterrupt):
        during.setattr("generator.tuning.lora.export_adapters", killed)
        train(*again, seed=3)
    train(*again, seed=3)
    assert (tmp_path / "c" / "lora" / "pytorch_lora_weights.safetensors").exists()


def test_what_another_training_exported_does_not_stay(
    tmp_path, weights, tiny_examples, tiny_classes
):
    (tmp_path / "c" / "lora").mkdir(parents=True)
    (tmp_path / "c" / "lora" / "pytorch_lora_weights.safetensors").touch()
    recipe = small(weights, {"kind": "full"}, epochs=1)
    train(recipe, tiny_examples(grey=False), tiny_classes, tmp_path / "c", seed=3)
    assert not (tmp_path / "c" / "lora").exists()


@pytest.mark.slow
@pytest.mark.parametrize("tuning", [PHASES, CONTROLNET], ids=lambda tuning: tuning["kind"])
def test_a_run_killed_between_stages_ends_as_an_undisturbed_one(
    tmp_path: Path, weights: Path, tiny_examples: Callable, tiny_classes: tuple, tuning: dict
) -> None:
    # States after steps 4 and 8; stages begin at steps 4 and 8, or at 6.
    recipe = small(weights, tuning, checkpoint_every=2, ema_decay=0.9, keep_checkpoints=1)
    examples = tiny_examples(grey=False)
    states: dict[str, dict[str, Tensor]] = {}

    def watch(folder: Path) -> Callable[[int, int, float], None]:
        def on_step(step: int, total: int, loss: float) -> None:
            if step == total:
                states[folder.name] = load_file(state_path(folder))

        return on_step

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train(recipe, examples, tiny_classes, whole, seed=3, on_step=watch(whole))
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe))
    (tmp_path / "examples.jsonl").write_text("".join(e.model_dump_json() + "\n" for e in examples))
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), "7"],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    resumed = []
    watched = watch(killed)
    train(
        *(recipe, examples, tiny_classes, killed),
        seed=3,
        on_step=lambda *now: (resumed.append(now[0]), watched(*now)),
    )
    assert resumed == [5, 6, 7, 8, 9, 10, 11, 12]
    # Weights, their average and the optimiser's moments, as they were after step 8.
    first, second = states["whole"], states["killed"]
    assert {name.split(".")[0] for name in first} == {"weight", "average", "optimizer"}
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert tree(killed) == tree(whole)


def tree(folder: Path) -> dict[str, str]:
    """Hash of every file in a checkpoint."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): sha256_of_file(path) for path in files}
