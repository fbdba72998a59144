"""Speed and memory of the foundation recipes on this machine, as a table.

    python benchmarks/foundation.py [--recipe NAME ...] [--steps N] [--compile] [--json]

On a CUDA GPU: the published architectures at full size with random weights (no download; 25 GB of
disk for the time of the run). Elsewhere, or with `--tiny`: the tests' tiny pipelines, which show
that everything runs and nothing about the speed of the real ones. Both go the product's own way:
`Run` trains, `load_painter` opens what was saved, `DiffusionPainter` paints drafts. Beside them
stands plain diffusers: the arithmetic of its training example, and its pipeline.
"""

import argparse
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from foundation_meter import (
    HEAD,
    Row,
    forget,
    heading,
    line,
    matmul_tflops,
    peak_gib,
    reset_peak,
    sample_gflop,
    speed,
    train_gflop,
)
from foundation_models import pipeline_kind, write_pipeline
from foundation_plain import sampler, training_step

from augmentor.importers import import_source
from augmentor.sample_data import write_sample_dataset
from generator.assembly import pick_device, pick_precision
from generator.config import Recipe, load_recipe, recipe_names
from generator.masks import DraftPlanner
from generator.run import Run
from generator.sampling import load_painter, make_request, plan_until_placed

NEVER = 10**6


@dataclass(frozen=True)
class Case:
    """A recipe on this machine; see `read_arguments` for the numbers."""

    recipe: Recipe
    weights: Path
    folder: Path
    examples: list[Any]
    classes: list[str]
    full: bool
    steps: int
    batches: tuple[int, ...]
    at_once: int


def main() -> None:
    """Run every recipe and print the table."""
    given = read_arguments()
    quieten()
    full = torch.cuda.is_available() and not given.tiny
    device = pick_device()
    if device.type == "cpu":
        torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        # Hashes of weights that are gone tomorrow are not for the user's cache.
        os.environ["XDG_CACHE_HOME"] = str(home / "cache")
        measured = matmul_tflops() if full else None
        seen: list[Row] = []
        if not given.json:
            print(heading(full, device, measured))
            print(HEAD)
        examples, classes = read_examples(home)
        for recipe in given.recipe or foundation():
            for row in measure(case_of(given, recipe, home, full, examples, classes)):
                seen.append(row)
                if not given.json:
                    print(line(row, measured), flush=True)
        if given.json:
            content = {"machine": heading(full, device, measured), "tflops": measured}
            print(json.dumps(content | {"rows": [asdict(row) for row in seen]}))


def read_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", action="append", help="of configs/; all foundation recipes")
    parser.add_argument("--steps", type=int, help="rounds timed; 30 at full size, else 4")
    parser.add_argument("--batches", help="of training; 1,4,16,32 at full size, else 1,4")
    parser.add_argument("--at-once", type=int, help="images sampled at once; 16, else 2")
    parser.add_argument("--compile", action="store_true", help="training.compile, sampling.compile")
    parser.add_argument("--tiny", action="store_true", help="tiny pipelines also on a GPU")
    parser.add_argument("--json", action="store_true", help="one object instead of the table")
    return parser.parse_args()


def quieten() -> None:
    """No progress bars of libraries between the rows."""
    for logs in (diffusers.utils.logging, transformers.utils.logging):
        logs.set_verbosity_error()
        logs.disable_progress_bar()


def foundation() -> list[str]:
    """Recipes that start from pretrained weights."""
    return [name for name in recipe_names() if hasattr(load_recipe(name).backbone, "weights")]


def read_examples(home: Path) -> tuple[list[Any], list[str]]:
    """The train split of the built-in sample dataset."""
    write_sample_dataset(home / "sample", per_class=6, clean=12)
    read = import_source(home / "sample", home / "data")
    return [r for r in read.records if r.split == "train"], list(read.classes)


def case_of(
    given: argparse.Namespace, name: str, home: Path, full: bool, examples: Any, classes: Any
) -> Case:
    """A recipe as it is but for its length, and its canvas where pipelines are tiny; the weights
    are written at the first use."""
    kind = pipeline_kind(load_recipe(name))
    weights = home / kind
    if not weights.exists():
        write_pipeline(kind, weights, full=full)
    at_once = given.at_once or (16 if full else 2)
    content = load_recipe(name).model_dump(mode="json")
    content["backbone"]["weights"] = str(weights)
    if not full:
        content["crops"] |= {"size_px": 64, "whole_image_px": 64, "least_px": 32}
    content["training"] |= {"epochs": None, "steps": NEVER, "batch_size": 1, "accumulation": 1}
    content["training"] |= {"schedule": "constant", "milestones": {}, "variants": 2}
    content["training"] |= {"checkpoint_every": NEVER, "sheet_every": NEVER, "validate_every": 0}
    content["training"]["compile"] = content["sampling"]["compile"] = given.compile
    content["sampling"] |= {"steps": 20, "best_of": 1, "batch_size": at_once}
    text = given.batches or ("1,4,16,32" if full else "1,4")
    return Case(
        recipe=Recipe.model_validate(content),
        weights=weights,
        folder=home / "checkpoint",
        examples=examples,
        classes=classes,
        full=full,
        steps=given.steps or (30 if full else 4),
        batches=tuple(int(batch) for batch in text.split(",")),
        at_once=at_once,
    )


def measure(case: Case) -> Iterator[Row]:
    """A recipe's rows: each stage of its training at each batch, then sampling."""
    try:
        yield from training_rows(case)
        forget()
        yield sampling_row(case)
    finally:
        shutil.rmtree(case.folder, ignore_errors=True)
        forget()


def training_rows(case: Case) -> Iterator[Row]:
    """Steps of the product's loop. The first row's peak includes opening and encoding."""
    device = pick_device()
    precision = pick_precision(case.recipe, device)
    plain: dict[int, float] = {}
    for batch in case.batches:
        if step := training_step(case.recipe, case.weights, batch, device, precision):
            plain[batch] = speed(step, case.steps, batch)
            del step
            forget()
    reset_peak()
    run = Run.open(case.recipe, case.examples, case.classes, case.folder, "benchmark", 0)
    for stage in run.calendar.stages:
        run.enter(stage)
        for batch in case.batches:
            run.stepper.at_once = batch
            rate = speed(lambda batch=batch: one_step(run, batch), case.steps, batch)
            if run.stepper.at_once < batch:
                raise SystemExit(f"A batch of {batch} does not fit; lower --batches.")
            gflop = train_gflop(case.recipe, stage.name) if case.full else None
            yield Row(
                *(case.recipe.name, f"train {stage.name}", batch, rate, peak_gib(), gflop),
                plain.get(batch),
            )
            reset_peak()
    run.finish()


def one_step(run: Run, batch: int) -> None:
    """As `generator.training.train` does it, without writing anything."""
    seen, ids = run.feed.batch(run.step, batch, run.team.rows(batch))
    run.stepper.step(seen, ids, run.step, batch)
    run.step += 1
    run.follow()


def sampling_row(case: Case) -> Row:
    """From drafts to painted crops, by what the training saved."""
    recipe, device = case.recipe, pick_device()
    plain = sampler(recipe, case.weights, case.at_once, device, pick_precision(recipe, device))
    rounds = max(case.steps // 2, 2)
    other = speed(plain, rounds, case.at_once, warm=1)
    del plain
    forget()
    reset_peak()
    painter = load_painter(case.folder)
    planner = DraftPlanner(case.examples, case.classes)
    asked = [
        make_request(painter.fingerprint, case.classes[k % len(case.classes)], k, 0)
        for k in range(case.at_once)
    ]
    drafts = [plan_until_placed(planner, request) for request in asked]
    rate = speed(lambda: painter.paint(drafts), rounds, case.at_once, warm=1)
    return Row(
        recipe=recipe.name,
        work=f"sample {recipe.crops.size_px} px, {recipe.sampling.steps} steps",
        batch=case.at_once,
        images_per_s=rate,
        peak_gib=peak_gib(),
        gflop=sample_gflop(recipe) if case.full else None,
        plain_images_per_s=other,
    )


if __name__ == "__main__":
    main()
