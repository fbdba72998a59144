"""Speed and memory of the compact generator on this machine, as a table.

    python benchmarks/compact.py [--data DIR] [--steps 30] [--samples 32] [--full]

Arms: `compact` as its recipe says; the same in float32; the same UNet on raw pixels instead of the
space-to-depth grid. Each runs in a process of its own, so that the peak of memory is its own.
`--full` trains the compact recipe to the end and measures that instead of projecting it.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ARMS: dict[str, dict[str, dict[str, object] | str]] = {
    "compact": {},
    "compact in float32": {"precision": "fp32"},
    "raw pixels, float32": {"precision": "fp32", "backbone": {"patch": 1}},
}


def main() -> None:
    """Run every arm and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="a folder that `augment import` reads")
    parser.add_argument("--shots", type=int, default=12, help="defect images a class")
    parser.add_argument("--steps", type=int, default=30, help="training steps timed an arm")
    parser.add_argument("--samples", type=int, default=32, help="samples timed an arm")
    parser.add_argument("--full", action="store_true", help="train the compact recipe to the end")
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.arm:
        print(json.dumps(measure(given)))
        return
    with tempfile.TemporaryDirectory() as home:
        print(describe_machine())
        print(f"{'arm':<22}{'steps/s':>9}{'training':>12}{'samples/s':>11}{'peak RSS':>11}")
        for arm in ARMS:
            if arm != "compact" and given.full:
                continue
            command = [sys.executable, __file__, *sys.argv[1:], "--arm", arm, "--home", home]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            print(row(arm, json.loads(done.stdout.splitlines()[-1])), flush=True)


def row(arm: str, seen: dict[str, float]) -> str:
    """A line of the table."""
    mark = "" if seen["measured"] else "~"
    training = f"{mark}{seen['training_s'] / 60:.1f} min"
    return (
        f"{arm:<22}{seen['steps_per_s']:>9.2f}{training:>12}"
        f"{seen['samples_per_s']:>11.1f}{seen['peak_gib']:>7.2f} GiB"
    )


def describe_machine() -> str:
    """One line on what the figures were measured on."""
    import os

    import torch

    load = os.getloadavg()[0]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return (
        f"{device}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"load {load:.1f} at the start ('~': projected from the steps timed)"
    )


def measure(given: argparse.Namespace) -> dict[str, float]:
    """Time one arm: training steps, then samples from plan to file."""
    from generator.compositing import composite
    from generator.config import Recipe, load_recipe
    from generator.masks import DraftPlanner
    from generator.sampling import load_painter, make_request, sample_pool
    from generator.training import train

    examples, classes = read_examples(given)
    base = load_recipe("compact")
    content = base.model_dump()
    for key, value in ARMS[given.arm].items():
        content[key] = content[key] | value if isinstance(value, dict) else value
    if not given.full:
        # No state and no sheet within the steps that are timed; the one sheet at the end is not.
        content["training"] |= {"steps": given.steps, "checkpoint_every": given.steps}
        content["training"] |= {"sheet_every": given.steps}
    recipe = Recipe.model_validate(content)
    folder = given.home / given.arm.replace(" ", "-")
    moments: list[float] = []
    started = time.perf_counter()
    train(
        recipe,
        examples,
        classes,
        folder,
        seed=0,
        on_step=lambda *_: moments.append(time.perf_counter()),
    )
    whole_s = time.perf_counter() - started
    # The first steps warm up; the last one is followed by the sheet before it is reported.
    timed = moments[3:-1]
    steps_per_s = (len(timed) - 1) / (timed[-1] - timed[0])
    painter = load_painter(folder)
    planner = DraftPlanner(examples, classes)
    asked = [
        make_request(painter.fingerprint, classes[k % len(classes)], k, 0)
        for k in range(given.samples + painter.batch_size)
    ]
    how = {"composite": composite, "judge": lambda scores: (), "feather_px": 3}
    pool = given.home / f"{folder.name}-pool"
    # The first block opens backgrounds and shapes, which a pool of hundreds pays only once.
    sample_pool(painter, planner, asked[: painter.batch_size], pool, **how)
    started = time.perf_counter()
    made = sample_pool(painter, planner, asked[painter.batch_size :], pool, **how)
    return {
        "steps_per_s": steps_per_s,
        "training_s": whole_s if given.full else base.training.steps / steps_per_s,
        "measured": given.full,
        "samples_per_s": len(made) / (time.perf_counter() - started),
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def read_examples(given: argparse.Namespace):  # type: ignore[no-untyped-def]
    """Training examples and classes, of `--data` or of the built-in sample dataset."""
    from augmentor.importers import import_source
    from augmentor.sample_data import write_sample_dataset

    source = given.data
    if source is None:
        source = given.home / "sample"
        write_sample_dataset(source)
    data = given.home / "data"
    # An image with an empty mask is no reason to measure nothing.
    read = import_source(source, data, shots=given.shots, on_bad="skip")
    return [r for r in read.records if r.split == "train"], list(read.classes)


if __name__ == "__main__":
    main()
