"""The gain over several splits: other shots, other test parts and another seed each time.

    python benchmarks/splits.py [magnetic-tile|neu-det] [--splits 6] [--first 1] [--tasks A,B]
        [--arms real,B] [--set KEY=VALUE ...] [--masks KEY=VALUE ...] [--data DIR] [--home DIR]
        [--jobs N] [--table]

Which few images a class one happens to have, and which parts are in test, moves a detector's score
as much as the seed of its training, and one split says nothing of either. Here the split is what is
repeated, as `augment evaluate --splits` does it (downstream/repeated.py has the statistics), but
whole splits run side by side, and Holm's correction runs over the metrics of `DECIDES`. Killed and
repeated, it continues; `--table` prints what is finished.
"""

import argparse
import json
import os
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from study import DATASETS, QUICK, ROOT, USUAL_DATA, describe, options, settings_of, study

from augmentor.workflows.project import SplitConfig
from downstream.config import BASELINE, PRIMARY
from downstream.repeated import LEAST_SPLITS, Pair, Rows, pairs, share_of_gap

DECIDES = {task: (metric,) for task, metric in PRIMARY.items()} | {
    "localisation": ("pixel_ap", "image_ap")
}
"""Of localisation it was written down before any was measured (docs/experiments.md)."""

MACRO = "class_mean"
"""The mean of pixel AP by class, as no class's size weighs in it."""

MEASURED: dict[str, Any] = QUICK | {"arms": ("real", "mixed")}

SHARED = SplitConfig().test / (1 - SplitConfig().val - SplitConfig().test)
"""Test images to training images, on which Nadeau and Bengio's correction rests."""


def main() -> None:
    """Run the splits and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", nargs="?", choices=DATASETS, default="magnetic-tile")
    parser.add_argument("--data", type=Path, help="the photographs; default: ../shared/data/NAME")
    parser.add_argument("--home", type=Path, default=ROOT / "scratch" / "splits")
    parser.add_argument("--splits", type=int, default=6, help="how many")
    parser.add_argument("--first", type=int, default=1, help="seed of the first one")
    parser.add_argument("--tasks", help="comma-separated")
    parser.add_argument("--arms", help="comma-separated, the baseline first")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="of `evaluate`")
    parser.add_argument("--masks", nargs="+", default=[], metavar="KEY=VALUE", help="of `masks`")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="splits at once")
    parser.add_argument("--table", action="store_true", help="only print what is finished")
    given = parser.parse_args()
    data = given.data or USUAL_DATA / given.dataset
    settings = settings_of(MEASURED, given.tasks, given.arms, given.set) | {"jobs": 1}
    seeds = range(given.first, given.first + given.splits)
    homes = {split: given.home / f"{given.dataset}-{split}" for split in seeds}
    masks = options(given.masks)
    began = time.monotonic()
    if not given.table:
        if not data.is_dir():
            raise SystemExit(f"error: there is no {data}; name the photographs with: --data DIR")
        print(describe(given.dataset, "repeated splits"), flush=True)
        print(json.dumps(settings | {"seeds": "that of the split"}), flush=True)
        with ProcessPoolExecutor(given.jobs) as pool:
            waiting = [
                pool.submit(
                    study, given.dataset, data, home, settings | {"seeds": (split,)}, split, masks
                )
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
    found: dict[tuple[str, str], dict[int, Any]] = {}
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
    for pair in measured_pairs(rows, baseline):
        gap = pair.gap(SHARED)
        title = "class mean of pixel AP" if pair.metric == MACRO else TITLES[pair.metric]
        if pair.side == "test" and pair.metric in DECIDES[pair.task]:
            p_values[str(len(lines))] = gap.p
        cells = [pair.task, pair.arm, title, pair.side, str(gap.splits)]
        cells += [f"{np.mean(pair.base):.3f}", f"{np.mean(pair.own):.3f}"]
        cells += [f"{gap.difference:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]"]
        cells += [" ".join(f"{each:+.3f}" for each in gap.by_split)]
        cells += [f"[{gap.new_low:+.3f}, {gap.new_high:+.3f}]", f"{gap.p:.3f}"]
        lines.append([*cells, ""])
    for number, p in holm(p_values).items():
        lines[int(number)][-1] = f"{p:.3f}"
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *lines])


def closures(rows: Rows) -> list[str]:
    """A line for each metric that decides: the share of the gap from `real` to `full` on test that
    an arm closes."""
    from downstream.names import FULL, TITLES

    lines = []
    for task, arm in sorted(rows):
        for metric in DECIDES[task] if arm not in (BASELINE, FULL) else ():
            found = share_of_gap(rows, task, arm, metric)
            if found["splits"] < LEAST_SPLITS:
                continue
            lines.append(
                f"- {task}, {TITLES[metric]}, {found['splits']} splits: the share of the gap to "
                f"all real data that {arm} closes is {percent(found) or found['reason']}."
            )
    return lines


def percent(share: Mapping[str, Any]) -> str:
    """A share of a gap (`share_of_gap`) with its interval; empty where it is not defined."""
    if share["value"] is None:
        return ""
    return f"{share['value']:.0%} [{share['low']:.0%}, {share['high']:.0%}]"


def spreads(rows: Rows, baseline: str) -> list[str]:
    """A line for each metric that decides: by how much an arm and the baseline spread over the
    splits on test, and whether they differ in it.

    The test is Pitman's and Morgan's (1939) for paired samples: two variances are the same where
    sums and differences of the pairs are uncorrelated.
    """
    from downstream.names import TITLES

    lines = []
    for pair in measured_pairs(rows, baseline):
        few = len(pair.own) < LEAST_SPLITS
        if pair.side != "test" or pair.metric not in DECIDES[pair.task] or few:
            continue
        x, y = np.array(pair.own), np.array(pair.base)
        lines.append(
            f"- {pair.task}, {TITLES[pair.metric]}, {len(x)} splits: {baseline} spreads by "
            f"{y.std(ddof=1):.3f}, {pair.arm} by {x.std(ddof=1):.3f} (standard deviation; "
            f"Pitman-Morgan p {stats.pearsonr(x + y, x - y).pvalue:.3f})."
        )
    return lines


def measured_pairs(rows: Rows, baseline: str) -> list[Pair]:
    """Every metric of the table, arm by arm beside the baseline."""
    from downstream.names import METRICS, PER_CLASS

    def names(task: str) -> list[str]:
        usual = [name for name in METRICS[task] if name != "f1"]
        return [*usual, *([MACRO] if task == "localisation" else [])]

    def value(metrics: Mapping[str, Any], name: str) -> float:
        if name == MACRO:
            each = metrics[PER_CLASS["localisation"]]
            return float(np.mean([one for one in each if one is not None]))
        return float(metrics[name])

    return pairs(rows, baseline, value, names)


def _plain(settings: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(settings, default=str))


if __name__ == "__main__":
    main()
