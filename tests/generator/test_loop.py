"""The loop's ways to fit a machine must not change what is learnt."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from generator import stepping
from generator.backbones.compact import CompactBackbone
from generator.checkpoints import SHELF
from generator.config import dump_recipe
from generator.errors import RecipeError, TrainingError
from generator.feed import Feed
from generator.files import read_lines, sha256_of_file
from generator.sampling import load_painter
from generator.training import train

LAUNCHED = """
import os, sys
from pathlib import Path
from generator.config import load_recipe
from generator.records import DefectExample
from generator.training import train
home = Path(sys.argv[1])
examples = [DefectExample.model_validate_json(l) for l in (home / "examples.jsonl").open()]
train(load_recipe(str(home / "recipe.yaml")), examples, ["pit", "scratch"], home / "several",
      seed=3)
(home / f"process {os.environ['RANK']} of {os.environ['WORLD_SIZE']}").touch()
"""


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "weights.safetensors")


def assert_close(one: Path, other: Path) -> None:
    """Equal up to rounding, which Adam enlarges where a gradient is nearly nothing: a tenth of
    what a single step at the learning rate of 1e-3 moves a weight."""
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    worst = max(float((a[name] - b[name]).abs().max()) for name in a)
    assert worst < 1e-4, worst


def test_a_batch_in_parts_learns_what_the_whole_batch_does(
    tmp_path, tiny_examples, tiny_classes, tiny_recipe
):
    examples = tiny_examples()
    whole = tiny_recipe(training={"batch_size": 6, "accumulation": 1}, precision="fp32")
    parts = tiny_recipe(training={"batch_size": 2, "accumulation": 3}, precision="fp32")
    for name, recipe in (("whole", whole), ("parts", parts)):
        train(recipe, examples, tiny_classes, tmp_path / name, seed=3)
    assert_close(tmp_path / "whole", tmp_path / "parts")


def test_out_of_memory_halves_what_is_computed_at_once_and_loses_no_step(
    tmp_path, tiny_examples, tiny_classes, tiny_recipe, monkeypatch
):
    examples, recipe = tiny_examples(), tiny_recipe(precision="fp32")
    train(recipe, examples, tiny_classes, tmp_path / "roomy", seed=3)
    forward, sizes = CompactBackbone.forward, []

    def cramped(self, noisy, time, given):
        if torch.is_grad_enabled():
            if len(noisy) > 1:
                raise torch.OutOfMemoryError("no room")
            sizes.append(len(noisy))
        return forward(self, noisy, time, given)

    monkeypatch.setattr(CompactBackbone, "forward", cramped)
    steps = []
    train(
        recipe,
        examples,
        tiny_classes,
        tmp_path / "cramped",
        seed=3,
        on_step=lambda step, total, loss: steps.append(step),
    )
    assert steps == list(range(1, 9))
    assert len(sizes) == 8 * 4
    assert_close(tmp_path / "roomy", tmp_path / "cramped")


def test_when_one_example_is_too_much_the_step_is_named(
    tmp_path, tiny_examples, tiny_classes, tiny_recipe, monkeypatch
):
    def full(self, noisy, time, given):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(CompactBackbone, "forward", full)
    with pytest.raises(TrainingError, match=r"Memory ran out at step 1 .*crops\.size_px"):
        train(tiny_recipe(), tiny_examples(), tiny_classes, tmp_path / "c", seed=3)
    assert not (tmp_path / "c" / "weights.safetensors").exists()


def test_kept_encodings_hold_every_instance_as_often_as_was_asked_and_resume(
    tmp_path, tiny_examples, tiny_classes, tiny_recipe, monkeypatch
):
    examples, recipe = tiny_examples(), tiny_recipe(training={"variants": 3})
    seen = []
    fill = Feed._fill

    def watched(self, variants):
        fill(self, variants)
        seen.append(self)

    monkeypatch.setattr(Feed, "_fill", watched)
    told: list[str] = []
    train(recipe, examples, tiny_classes, tmp_path / "whole", seed=3, on_note=told.append)
    assert any("Encoding 3 crops of each of 6 defects" in said for said in told)
    (feed,) = seen
    defects = [k for k in feed._ids if k in {e.id for e in examples if not e.is_clean}]
    assert {k: defects.count(k) for k in defects} == {e.id: 3 for e in examples if not e.is_clean}
    # A quarter of what batches draw is the clean surface, and so of the bank.
    assert len(feed._ids) == round(len(defects) / 0.75)
    encoded, ids = feed.batch(0, 4, slice(0, 4))
    part, some = feed.batch(0, 4, slice(1, 3))
    assert torch.equal(encoded.clean[1:3], part.clean) and ids[1:3] == some

    class Stop(Exception):
        pass

    def stop(step, total, loss):
        if step == 5:
            raise Stop

    with pytest.raises(Stop):
        train(recipe, examples, tiny_classes, tmp_path / "cut", seed=3, on_step=stop)
    train(recipe, examples, tiny_classes, tmp_path / "cut", seed=3)
    assert sha256_of_file(tmp_path / "cut" / "weights.safetensors") == sha256_of_file(
        tmp_path / "whole" / "weights.safetensors"
    )


def test_half_precision_with_a_scaler_resumes_to_the_same_bits(
    tmp_path, tiny_examples, tiny_classes, tiny_recipe
):
    examples, recipe = tiny_examples(), tiny_recipe(precision="fp16")

    class Stop(Exception):
        pass

    def stop(step, total, loss):
        if step == 4:
            raise Stop

    train(recipe, examples, tiny_classes, tmp_path / "whole", seed=3)
    with pytest.raises(Stop):
        train(recipe, examples, tiny_classes, tmp_path / "cut", seed=3, on_step=stop)
    state = load_file(tmp_path / "cut" / "state" / "state.safetensors")
    assert "scaler.scale" in state
    train(recipe, examples, tiny_classes, tmp_path / "cut", seed=3)
    assert sha256_of_file(tmp_path / "cut" / "weights.safetensors") == sha256_of_file(
        tmp_path / "whole" / "weights.safetensors"
    )


def test_kept_checkpoints_are_the_newest_and_can_be_sampled_from(
    tmp_path, tiny_examples, tiny_classes, tiny_recipe
):
    recipe = tiny_recipe(training={"checkpoint_every": 2, "keep_checkpoints": 2})
    train(recipe, tiny_examples(), tiny_classes, tmp_path / "c", seed=3)
    kept = sorted((tmp_path / "c" / SHELF).iterdir())
    assert [path.name for path in kept] == ["step-000004", "step-000006"]
    painters = [load_painter(path) for path in (*kept, tmp_path / "c")]
    assert len({painter.fingerprint for painter in painters}) == 3


def test_two_processes_learn_what_one_does(tmp_path, tiny_examples, tiny_classes, tiny_recipe):
    examples, recipe = tiny_examples(), tiny_recipe(precision="fp32")
    train(recipe, examples, tiny_classes, tmp_path / "one", seed=3)
    # With a tracker, whose end takes the connection between the processes down.
    watched = tiny_recipe(precision="fp32", training={"tracker": "tensorboard"})
    (tmp_path / "recipe.yaml").write_text(dump_recipe(watched))
    (tmp_path / "examples.jsonl").write_text("".join(e.model_dump_json() + "\n" for e in examples))
    (tmp_path / "script.py").write_text(LAUNCHED)
    launch = [
        # Not --cpu, with which Accelerate starts one process unless there is MPI. Without a GPU
        # these two share the CPU by gloo.
        *(sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"),
        *(
            "--num_processes",
            "2",
            "--num_machines",
            "1",
            "--mixed_precision",
            "no",
            "--dynamo_backend",
            "no",
        ),
        *("--main_process_port", "0"),
    ]
    done = subprocess.run(
        [*launch, str(tmp_path / "script.py"), str(tmp_path)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())},
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert sorted(path.name for path in tmp_path.glob("process *")) == [
        "process 0 of 2",
        "process 1 of 2",
    ]
    assert_close(tmp_path / "one", tmp_path / "several")
    losses = [
        [line["loss"] for line in read_lines(tmp_path / name / "metrics.jsonl")]
        for name in ("one", "several")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_batch_that_processes_can_not_share_is_refused(monkeypatch):
    team = stepping.Team("none", Path("unused"), {})
    team.count = 3
    with pytest.raises(RecipeError, match=r"A batch of 4 .* multiple of 3"):
        team.rows(4)


def test_tensorboard_follows_a_training(tmp_path, tiny_examples, tiny_classes, tiny_recipe):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recipe = tiny_recipe(training={"tracker": "tensorboard"})
    train(recipe, tiny_examples(), tiny_classes, tmp_path / "c", seed=3)
    (events,) = (tmp_path / "c" / "tracking").rglob("events.out.tfevents.*.0")
    reader = EventAccumulator(str(events.parent))
    reader.Reload()
    lines = read_lines(tmp_path / "c" / "metrics.jsonl")
    shown = [(event.step, event.value) for event in reader.Scalars("loss")]
    assert [step for step, _ in shown] == [line["step"] for line in lines]
    assert [loss for _, loss in shown] == pytest.approx([line["loss"] for line in lines], rel=1e-5)


def test_a_tracker_that_is_not_installed_is_named(
    tmp_path, tiny_examples, tiny_classes, tiny_recipe, monkeypatch
):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    recipe = tiny_recipe(training={"tracker": "wandb"})
    with pytest.raises(RecipeError, match=r"'wandb' needs .* pip install wandb"):
        train(recipe, tiny_examples(), tiny_classes, tmp_path / "c", seed=3)


def test_too_little_memory_to_look_ends_no_training(
    tmp_path, tiny_examples, tiny_classes, tiny_recipe, monkeypatch
):
    def full(*_):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr("generator.run.write_sheet", full)
    told = []
    train(tiny_recipe(), tiny_examples(), tiny_classes, tmp_path / "c", seed=3, on_note=told.append)
    assert (tmp_path / "c" / "done.json").exists()
    assert any("too little memory to look at step" in said for said in told)


def test_memory_that_runs_out_in_the_optimiser_is_said(
    tmp_path, tiny_examples, tiny_classes, tiny_recipe, monkeypatch
):
    def full(*_, **__):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(torch.optim.AdamW, "step", full)
    with pytest.raises(TrainingError, match="Memory ran out in the optimiser at step 1"):
        train(tiny_recipe(), tiny_examples(), tiny_classes, tmp_path / "c", seed=3)
