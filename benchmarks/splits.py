"""The gain over several splits: other shots, other test parts and another seed each time.

    python benchmarks/splits.py [magnetic-tile|neu-det] [--splits 6] [--tasks A,B] [--arms real,B]
        [--set KEY=VALUE ...] [--data DIR] [--home DIR] [--jobs N] [--table]

Which few images a class one happens to have, and which parts are in test, moves a detector's score
as much as the seed of its training, and one split says nothing of either. Here the split is what is
repeated: interval and p are Student's over the splits' paired differences, and Holm's correction
runs over the metrics of `DECIDES`. That interval is about these photographs, however they may be
split; as any two splits share some of them, it says too much of new photographs from the same line,
for which the wider interval of Nadeau and Bengio (2003) stands beside it. Killed and repeated, it
continues; `--table` prints what is finished.
"""

import argparse
import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from gain import DATASETS, QUICK, ROOT, USUAL_DATA, describe, settings_of, study
from scipy import stats

from augmentor.workflows.project import SplitConfig
from downstream.config import PRIMARY

DECIDES = {task: (metric,) for task, metric in PRIMARY.items()} | {
    "localisation": ("pixel_ap", "image_ap")
}
"""Of localisation it was written down before any was measured (docs/experiments.md)."""

MACRO = "class_mean"
"""The mean of pixel AP by class, as no class's size weighs in it."""

MEASURED: dict[str, Any] = QUICK | {"arms": ("real", "mixed")}

SHARED = SplitConfig().test / (1 - SplitConfig().val - SplitConfig().test)
"""Test images to training images, on which Nadeau and Bengio's correction rests."""

Rows = dict[tuple[str, str], dict[int, dict[str, Any]]]
"""By task and arm: the metrics of each split, both sides."""


def main() -> None:
    """Run the splits and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", nargs="?", choices=DATASETS, default="magnetic-tile")
    parser.add_argument("--data", type=Path, help="the photographs; default: ../shared/data/NAME")
    parser.add_argument("--home", type=Path, default=ROOT / "scratch" / "splits")
    parser.add_argument("--splits", type=int, default=6, help="how many; their seeds start at 1")
    parser.add_argument("--tasks", help="comma-separated")
    parser.add_argument("--arms", help="comma-separated, the baseline first")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="of `evaluate`")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="splits at once")
    parser.add_argument("--table", action="store_true", help="only print what is finished")
    given = parser.parse_args()
    data = given.data or USUAL_DATA / given.dataset
    settings = settings_of(MEASURED, given.tasks, given.arms, given.set) | {"jobs": 1}
    homes = {split: given.home / f"{given.dataset}-{split}" for split in range(1, given.splits + 1)}
    began = time.monotonic()
    if not given.table:
        if not data.is_dir():
            raise SystemExit(f"error: there is no {data}; name the photographs with: --data DIR")
        print(describe(given.dataset, "repeated splits"), flush=True)
        print(json.dumps(settings | {"seeds": "that of the split"}), flush=True)
        with ProcessPoolExecutor(given.jobs) as pool:
            waiting = [
                pool.submit(study, given.dataset, data, home, settings | {"seeds": (split,)}, split)
                for split, home in homes.items()
            ]
            for split, each in zip(homes, waiting, strict=True):
                each.result()
                print(f"split {split} is finished", flush=True)
    rows = read(homes, settings)
    print(table(rows, settings["arms"][0]))
    print("\n".join([*closures(rows), *spreads(rows, settings["arms"][0])]))
    if not given.table:
        print(f"\nthis call took {(time.monotonic() - began) / 60:.0f} min")


def read(homes: Mapping[int, Path], settings: Mapping[str, Any]) -> Rows:
    """The metrics of every finished run that has these settings and is of one of their arms."""
    from downstream.config import ExperimentConfig
    from downstream.files import read_json

    config = ExperimentConfig(**settings)
    found: Rows = {}
    for split, home in homes.items():
        for path in sorted((home / "evaluation" / "runs").glob("*/result.json")):
            result, about = read_json(path), read_json(path.with_name("config.json"))
            task, arm = result["task"], result["arm"]
            wanted = [
                _plain(config.training_settings(task, synthetic=synthetic))
                for synthetic in (False, True)
            ]
            ours = arm in settings["arms"] and result["seed"] == split
            if ours and about["settings"] in wanted:
                found.setdefault((task, arm), {})[split] = result["metrics"]
    return found


def table(rows: Rows, baseline: str) -> str:
    """A Markdown table: each arm's mean on val and on test, and its difference to the baseline."""
    from downstream.names import TITLES
    from downstream.statistics import holm

    lines: list[list[str]] = []
    p_values: dict[str, float] = {}  # by the line's number
    head = ["task", "arm", "metric", "on", "n", baseline, "the arm", "difference", "by split"]
    head += ["new photographs", "p", "p Holm"]
    for (task, arm), metric, side, base, own in _pairs(rows, baseline):
        gaps = [a - b for a, b in zip(own, base, strict=True)]
        mean, half, wide, p = student(gaps)
        title = "class mean of pixel AP" if metric == MACRO else TITLES[metric]
        if side == "test" and metric in DECIDES[task]:
            p_values[str(len(lines))] = p
        cells = [task, arm, title, side, str(len(own)), f"{np.mean(base):.3f}"]
        cells += [f"{np.mean(own):.3f}", f"{mean:+.3f} [{mean - half:+.3f}, {mean + half:+.3f}]"]
        cells += [" ".join(f"{gap:+.3f}" for gap in gaps)]
        cells += [f"[{mean - wide:+.3f}, {mean + wide:+.3f}]", f"{p:.3f}"]
        lines.append([*cells, ""])
    for number, p in holm(p_values).items():
        lines[int(number)][-1] = f"{p:.3f}"
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *lines])


def closures(rows: Rows) -> list[str]:
    """A line for each metric that decides: the share of the gap from `real` to `full` on test that
    an arm closes, over the splits that have all three, with Fieller's interval."""
    from downstream.closure import fieller
    from downstream.names import FULL, TITLES
    from downstream.statistics import LEAST_SEEDS

    lines = []
    for task, arm in sorted(rows):
        trio = [rows.get((task, name), {}) for name in ("real", FULL, arm)]
        splits = sorted(set.intersection(*(set(of) for of in trio)))
        if arm in ("real", FULL) or len(splits) < LEAST_SEEDS:
            continue
        for metric in DECIDES[task]:
            real, full, own = (
                np.array([of[split]["test"][metric] for split in splits]) for of in trio
            )
            bounds = fieller(own - real, full - real, 0.95)
            share = "not defined, as full is not surely above real"
            if bounds is not None:
                ratio = (own - real).mean() / (full - real).mean()
                share = f"{ratio:.0%} [{bounds[0]:.0%}, {bounds[1]:.0%}]"
            lines.append(
                f"- {task}, {TITLES[metric]}, {len(splits)} splits: the share of the gap to all "
                f"real data that {arm} closes is {share}."
            )
    return lines


def spreads(rows: Rows, baseline: str) -> list[str]:
    """A line for each metric that decides: by how much an arm and the baseline spread over the
    splits on test, and whether they differ in it.

    The test is Pitman's and Morgan's (1939) for paired samples: two variances are the same where
    sums and differences of the pairs are uncorrelated.
    """
    from downstream.names import TITLES
    from downstream.statistics import LEAST_SEEDS

    lines = []
    for (task, arm), metric, side, base, own in _pairs(rows, baseline):
        if side != "test" or metric not in DECIDES[task] or len(own) < LEAST_SEEDS:
            continue
        x, y = np.array(own), np.array(base)
        lines.append(
            f"- {task}, {TITLES[metric]}, {len(own)} splits: {baseline} spreads by "
            f"{y.std(ddof=1):.3f}, {arm} by {x.std(ddof=1):.3f} (standard deviation; "
            f"Pitman-Morgan p {stats.pearsonr(x + y, x - y).pvalue:.3f})."
        )
    return lines


def _pairs(
    rows: Rows, baseline: str
) -> Iterator[tuple[tuple[str, str], str, str, list[float], list[float]]]:
    from downstream.names import METRICS, PER_CLASS

    for (task, arm), splits in sorted(rows.items()):
        base = rows.get((task, baseline), {})
        both = sorted(splits.keys() & base.keys())
        if arm == baseline or not both:
            continue
        names = [name for name in METRICS[task] if name != "f1"]
        for metric in [*names, *([MACRO] if task == "localisation" else [])]:
            for side in ("val", "test"):
                values = [
                    [_value(of[split][side], metric, PER_CLASS[task]) for split in both]
                    for of in (base, splits)
                ]
                yield (task, arm), metric, side, values[0], values[1]


def _value(metrics: Mapping[str, Any], name: str, per_class: str) -> float:
    if name == MACRO:
        return float(np.mean([value for value in metrics[per_class] if value is not None]))
    return float(metrics[name])


def student(gaps: Sequence[float]) -> tuple[float, float, float, float]:
    """Mean of paired differences, half their 95 % interval, the same for new photographs, and p.

    The second interval takes the splits' mean to vary by (1/n + test/train) times the differences'
    variance (Nadeau and Bengio 2003, "Inference for the Generalization Error", section 4).
    """
    n = len(gaps)
    if n < 2:
        return float(np.mean(gaps)), math.inf, math.inf, 1.0
    found = stats.ttest_1samp(gaps, 0.0)
    mean, half = float(np.mean(gaps)), float(found.confidence_interval(0.95).high - np.mean(gaps))
    return mean, half, half * math.sqrt(1 + n * SHARED), float(found.pvalue)


def _plain(settings: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(settings, default=str))


if __name__ == "__main__":
    main()
