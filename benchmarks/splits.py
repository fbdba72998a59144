"""The gain over several splits: other shots, other test parts and another seed each time.

    python benchmarks/splits.py [magnetic-tile|neu-det] [--splits 6] [--tasks A,B] [--arms real,B]
        [--set KEY=VALUE ...] [--data DIR] [--home DIR] [--jobs N] [--table]

Which few images a class one happens to have, and which parts are in test, moves a detector's score
as much as the seed of its training, and one split says nothing of either. Here the split is what is
repeated: interval and p are Student's over the splits' paired differences, Holm's correction runs
over the metrics of `DECIDES`. Test sets of two splits overlap, as both are drawn from the same
photographs, so the interval is about these photographs and not about another plant's. Killed and
repeated, it continues; `--table` prints what is finished.
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

from gain import DATASETS, QUICK, ROOT, USUAL_DATA, describe, settings_of, study

DECIDES = {
    "detection": ("map50",),
    "classification": ("macro_f1",),
    "localisation": ("pixel_ap", "image_ap"),
}
"""What was to decide before any of it was measured (docs/experiments.md)."""

MEASURED: dict[str, Any] = QUICK | {"arms": ("real", "mixed")}

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
        print(
            describe(given.dataset, "repeated splits"), json.dumps(settings), sep="\n", flush=True
        )
        with ProcessPoolExecutor(given.jobs) as pool:
            waiting = [
                pool.submit(study, given.dataset, data, home, settings | {"seeds": (split,)}, split)
                for split, home in homes.items()
            ]
            for split, each in zip(homes, waiting, strict=True):
                each.result()
                print(f"split {split} is finished", flush=True)
    print(table(read(homes, settings), settings["arms"][0]))
    if not given.table:
        print(f"\nthis call took {(time.monotonic() - began) / 60:.0f} min")


def read(homes: Mapping[int, Path], settings: Mapping[str, Any]) -> Rows:
    """The metrics of every finished run that has these settings."""
    from downstream.config import ExperimentConfig
    from downstream.files import read_json

    found: Rows = {}
    for split, home in homes.items():
        for path in sorted((home / "evaluation" / "runs").glob("*/result.json")):
            result, about = read_json(path), read_json(path.with_name("config.json"))
            config = ExperimentConfig(**settings)
            task, arm = result["task"], result["arm"]
            wanted = config.training_settings(task, synthetic=arm != "real")
            if result["seed"] == split and about["settings"] == _plain(wanted):
                found.setdefault((task, arm), {})[split] = result["metrics"]
    return found


def table(rows: Rows, baseline: str) -> str:
    """A Markdown table: each arm's mean on val and on test, and its difference to the baseline."""
    from downstream.names import TITLES
    from downstream.statistics import holm

    lines: list[str] = []
    p_values: dict[str, float] = {}
    places: dict[str, int] = {}
    head = ["task", "arm", "metric", "on", "n", baseline, "the arm", "difference", "by split", "p"]
    for (task, arm), metric, side, base, own in _pairs(rows, baseline):
        mean, low, high, p = student([a - b for a, b in zip(own, base, strict=True)])
        title = "class mean of pixel AP" if metric == MACRO else TITLES[metric]
        decides = side == "test" and metric in DECIDES[task]
        if decides:
            p_values[f"{task} {arm} {metric}"] = p
            places[f"{task} {arm} {metric}"] = len(lines)
        lines.append(
            f"| {task} | {arm} | {title} | {side} | {len(own)} | {_mean(base):.3f} | "
            f"{_mean(own):.3f} | {mean:+.3f} [{low:+.3f}, {high:+.3f}] | "
            f"{' '.join(f'{a - b:+.3f}' for a, b in zip(own, base, strict=True))} | {p:.3f} |"
        )
    for name, adjusted in holm(p_values).items():
        lines[places[name]] += f" {adjusted:.3f} |"
    lines = [line if index in places.values() else f"{line} |" for index, line in enumerate(lines)]
    return "\n".join([f"| {' | '.join(head)} | p Holm |", "| --- " * 11 + "|", *lines])


MACRO = "class_mean"


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
        return _mean([value for value in metrics[per_class] if value is not None])
    return float(metrics[name])


def student(gaps: Sequence[float]) -> tuple[float, float, float, float]:
    """Mean, 95 % interval and p of paired differences; no interval of fewer than two."""
    from scipy import stats

    if len(gaps) < 2:
        return _mean(gaps), -math.inf, math.inf, 1.0
    found = stats.ttest_1samp(gaps, 0.0)
    interval = found.confidence_interval(0.95)
    return _mean(gaps), float(interval.low), float(interval.high), float(found.pvalue)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _plain(settings: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(settings, default=str))


if __name__ == "__main__":
    main()
