"""Training: validate, build, resume, loop, report, save.

Everything random in a step follows from (seed, step), and a state is written every few steps, so
a run that is killed and started again ends with the same bits as one that was left alone.

A folder belongs to the inputs that `checkpoint_key` hashes. What an unfinished run of the same
inputs left there is continued; a finished checkpoint of the same inputs is returned as it is; what
other inputs left there, finished or not, is replaced.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from generator import registry
from generator.assembly import base_hash
from generator.checkpoints import RECIPE, describe_data, is_done
from generator.config import Recipe, dump_recipe
from generator.files import sha256_of, sha256_of_file, write_text
from generator.records import DefectExample
from generator.run import Run
from generator.tuning.tuning import Stage

__all__ = ["checkpoint_key", "is_done", "train"]

RULES = 4
"""Raised whenever the same recipe and data would lead to other weights than before."""

_FOLLOWS = (
    *("tracker", "log_every", "sheet_every", "checkpoint_every", "keep_checkpoints"),
    *("validate_every", "validate_images", "validate_solver", "validate_steps"),
)
"""Settings of training that only watch it."""

OnStep = Callable[[int, int, float], None]


def checkpoint_key(
    recipe: Recipe, examples: Sequence[DefectExample], classes: Sequence[str], seed: int
) -> str:
    """Hash of everything that the trained weights follow from.

    Raises:
        WeightsError: the recipe names weights that are not on disk, or are pickled.
    """
    learnt = recipe.model_dump(mode="json", exclude={"sampling", "name"})
    for name in _FOLLOWS:
        learnt["training"].pop(name)
    # Where pretrained weights lie is no part of what they are.
    learnt["backbone"].pop("weights", None)
    learnt["conditioning"].pop("classifier", None)
    start = registry.method("conditioning", recipe.conditioning.kind).starts_from(
        recipe.conditioning
    )
    data = describe_data(examples, classes)
    said = {"rules": RULES, "recipe": learnt, "data": data, "seed": seed, "base": base_hash(recipe)}
    return sha256_of(said | {"start": sha256_of_file(start) if start else None})


def take_up(folder: Path, key: str, recipe: Recipe) -> bool:
    """Whether `folder` holds the finished checkpoint of `key` (see `checkpoint_key`); settings of
    sampling are no part of it, so those of `recipe` are written there: the newest ones count."""
    if not is_done(folder, key):
        return False
    write_text(folder / RECIPE, dump_recipe(recipe))
    return True


def train(
    recipe: Recipe,
    examples: Sequence[DefectExample],
    classes: Sequence[str],
    folder: Path,
    *,
    seed: int,
    on_step: OnStep | None = None,
    on_stage: Callable[[Stage, int], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Path:
    """Train a generator into `folder`, or continue, or return at once; see the module.

    Args:
        recipe: what to train and how.
        examples: the train split's examples, with defects and without.
        classes: defect classes; their order becomes the checkpoint's.
        folder: of the checkpoint.
        seed: of weights, crops, noise.
        on_step: called after each step with its number (from 1), how many there are, and the loss.
        on_stage: called when a stage begins, with it and the number of weights that move in it.
        on_note: called before the first step with each sentence on what the data led to, and
            where something had to be left out later.

    Returns:
        `folder`.

    Raises:
        ExampleError: an example can't be read or contradicts itself.
        RecipeError: the recipe does not go with the data.
        TrainingError: nothing to train on, or the loss stopped being a number.
        WeightsError: the recipe names weights that are not on disk, or are pickled.
    """
    key = checkpoint_key(recipe, examples, classes, seed)
    if take_up(folder, key, recipe):
        return folder
    with _determinism(recipe.training.deterministic):
        tell = on_note or (lambda said: None)
        run = Run.open(recipe, examples, classes, folder, key, seed, tell)
        settings, calendar, team = recipe.training, run.calendar, run.team
        size = settings.batch_size * settings.accumulation
        stage = None
        while run.step < calendar.steps:
            if calendar.stage(run.step) is not stage:
                stage = calendar.stage(run.step)
                moving = run.enter(stage)
                if on_stage is not None:
                    on_stage(stage, moving)
            for group in run.stepper.optimizer.param_groups:
                group["lr"] = calendar.rate(run.step) * group["share"]
            seen, ids = run.feed.batch(run.step, size, team.rows(size))
            loss, norm = run.stepper.step(seen, ids, run.step, size)
            run.step += 1
            run.follow()
            run.report(loss, norm)
            if on_step is not None:
                on_step(run.step, calendar.steps, loss)
        run.finish()
    return folder


@contextmanager
def _determinism(wanted: bool) -> Iterator[None]:
    if wanted:
        # CUDA's matrix products are deterministic only with this, read when they are first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(wanted or before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
