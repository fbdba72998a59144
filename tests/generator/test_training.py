"""Training: resumable to the bit, honest about bad numbers, never a pickle."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from generator.checkpoints import State, load_state, save_state, state_path
from generator.config import dump_recipe
from generator.data import CropData
from generator.errors import ExampleError, RecipeError, TrainingError
from generator.files import sha256_of_file
from generator.training import checkpoint_key, is_done, train

KILLED = """
import json, os, signal, sys
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


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): sha256_of_file(p) for p in files}


def test_a_killed_run_ends_with_the_files_of_an_undisturbed_one(
    tmp_path, tiny_examples, tiny_classes, tiny_recipe
):
    recipe, examples = tiny_recipe(), tiny_examples()
    seen = []
    train(
        recipe,
        examples,
        tiny_classes,
        tmp_path / "whole",
        seed=3,
        on_step=lambda step, total, loss: seen.append((step, total)),
    )
    assert seen == [(k, 8) for k in range(1, 9)]
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe))
    (tmp_path / "examples.jsonl").write_text("".join(e.model_dump_json() + "\n" for e in examples))
    # Between two states, with metrics lines of steps that the state does not hold.
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), "5"],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert state_path(tmp_path / "killed").exists()
    assert not (tmp_path / "killed" / "done.json").exists()
    resumed = []
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
    assert set(hashes(tmp_path / "whole")) == {
        "recipe.yaml",
        "weights.safetensors",
        "data.json",
        "metrics.jsonl",
        "done.json",
        "samples/step-000008.png",
    }


def test_done_is_returned_at_once_and_other_inputs_replace_it(
    tmp_path, tiny_examples, tiny_classes, tiny_recipe
):
    examples, folder = tiny_examples(), tmp_path / "c"
    recipe = tiny_recipe(training={"steps": 2})
    train(recipe, examples, tiny_classes, folder, seed=0)
    key = checkpoint_key(recipe, examples, tiny_classes, 0)
    assert is_done(folder, key)
    data = json.loads((folder / "data.json").read_text())
    assert data["classes"] == ["pit", "scratch"]
    assert [e["sha256"] for e in data["examples"]] == [e.sha256 for e in examples]
    steps = []
    note = lambda step, total, loss: steps.append(step)  # noqa: E731
    other_sampling = tiny_recipe(training={"steps": 2}, sampling={"guidance": 3.0})
    train(other_sampling, examples, tiny_classes, folder, seed=0, on_step=note)
    assert steps == []
    assert "guidance: 3.0" in (folder / "recipe.yaml").read_text()
    first = load_file(folder / "weights.safetensors")
    train(recipe, examples, tiny_classes, folder, seed=1, on_step=note)
    assert steps == [1, 2]
    assert not is_done(folder, key)
    second = load_file(folder / "weights.safetensors")
    assert any(not torch.equal(first[name], second[name]) for name in first)
    # A damaged file is not taken for a finished checkpoint.
    weights = folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert not is_done(folder, checkpoint_key(recipe, examples, tiny_classes, 1))


def test_the_key_hangs_on_everything_that_is_learnt(tiny_examples, tiny_classes, tiny_recipe):
    examples, recipe = tiny_examples(), tiny_recipe()
    key = checkpoint_key(recipe, examples, tiny_classes, 0)
    assert key == checkpoint_key(recipe, examples, tiny_classes, 0)
    assert key != checkpoint_key(recipe, examples, tiny_classes, 1)
    assert key != checkpoint_key(recipe, examples[1:], tiny_classes, 0)
    assert key != checkpoint_key(recipe, examples, tiny_classes[::-1], 0)
    assert key != checkpoint_key(tiny_recipe(training={"steps": 9}), examples, tiny_classes, 0)
    mask = examples[0].instances[0].mask_path
    mask.write_bytes(mask.read_bytes() + b" ")
    assert key != checkpoint_key(recipe, examples, tiny_classes, 0)
    mask.unlink()
    with pytest.raises(ExampleError, match=r"_mask\.png can't be read \(No such file"):
        checkpoint_key(recipe, examples, tiny_classes, 0)


def test_a_loss_that_is_no_number_names_step_and_examples_and_is_never_written(
    tmp_path, tiny_examples, tiny_classes, tiny_recipe, monkeypatch
):
    examples = tiny_examples()
    whole = CropData.batch
    drawn = []

    def poisoned(self, step, seed, batch_size):
        batch = whole(self, step, seed, batch_size)
        if step == 4:
            batch.images[2, 0, 3, 5] = float("nan")
            drawn.append(batch.example_ids[2])
        return batch

    monkeypatch.setattr(CropData, "batch", poisoned)
    recipe = tiny_recipe()
    with pytest.raises(TrainingError, match="at step 5 ") as caught:
        train(recipe, examples, tiny_classes, tmp_path / "c", seed=0)
    assert f"(examples {drawn[0]})" in str(caught.value)
    assert not (tmp_path / "c" / "weights.safetensors").exists()
    assert not (tmp_path / "c" / "done.json").exists()
    state = load_state(tmp_path / "c", checkpoint_key(recipe, examples, tiny_classes, 0))
    assert state.step == 3
    assert all(value.isfinite().all() for value in state.tensors.values())


def test_a_state_of_other_inputs_is_not_resumed(tmp_path):
    weight = torch.nn.Parameter(torch.arange(24.0).reshape(1, 2, 3, 4))
    weight.data = weight.data.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW([weight], lr=0.1, fused=True)
    (weight**2).sum().backward()
    optimizer.step()
    average = {"w": weight.detach().clone()}
    save_state(tmp_path, State.of("mine", 7, {"w": weight}, average, optimizer, {}))
    assert load_state(tmp_path, "other") is None
    state = load_state(tmp_path, "mine")
    assert state.step == 7
    fresh = torch.nn.Parameter(torch.zeros(1, 2, 3, 4).to(memory_format=torch.channels_last))
    again = torch.optim.AdamW([fresh], lr=0.1, fused=True)
    state.restore({"w": fresh}, {"w": torch.zeros_like(fresh)}, again)
    for parameter, chosen in ((weight, optimizer), (fresh, again)):
        parameter.grad = torch.ones_like(parameter)
        chosen.step()
    assert torch.equal(weight, fresh)


def test_recipes_that_do_not_go_with_the_data(tmp_path, tiny_examples, tiny_classes, tiny_recipe):
    blind = {
        "conditioning": {"kind": "class"},
        "objective": {"mask_weight": 0},
        "sampling": {"init": "noise"},
    }
    recipe = tiny_recipe(**blind)
    with pytest.raises(RecipeError, match="can only learn whole images"):
        train(recipe, tiny_examples(), tiny_classes, tmp_path / "c", seed=0)
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("conditioning", ["class_mask_background", "class"])
def test_whole_images_train_with_either_conditioning(
    tmp_path, tiny_examples, tiny_classes, tiny_recipe, conditioning
):
    recipe = tiny_recipe(
        conditioning={"kind": conditioning},
        objective={"kind": "v", "mask_weight": 0},
        sampling={"init": "noise"},
        training={"steps": 2},
    )
    examples = tiny_examples(instances=False, grey=False, clean=1)
    train(recipe, examples, tiny_classes, tmp_path / "c", seed=0)
    data = json.loads((tmp_path / "c" / "data.json").read_text())
    assert (data["whole_images"], data["channels"]) == (True, 3)


def test_the_loss_falls(tmp_path, tiny_examples, tiny_classes, tiny_recipe):
    recipe = tiny_recipe(
        training={"steps": 60, "batch_size": 8, "sheet_every": 60, "learning_rate": 2e-3}
    )
    losses = []
    train(
        recipe,
        tiny_examples(),
        tiny_classes,
        tmp_path / "c",
        seed=0,
        on_step=lambda step, total, loss: losses.append(loss),
    )
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    lines = [json.loads(x) for x in (tmp_path / "c" / "metrics.jsonl").open()]
    assert [x["step"] for x in lines] == list(range(2, 61, 2))
    assert lines[-1]["loss"] == pytest.approx(losses[-1])
