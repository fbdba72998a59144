"""What synthetic defects are worth on real photographs: import, arms, detectors, verdict.

    python benchmarks/gain.py [magnetic-tile|neu-det] [--splits 4] [--first 37] [--tasks A,B]
        [--arms A,B] [--set KEY=VALUE ...] [--data DIR] [--home DIR] [--jobs N] [--table]
    python benchmarks/gain.py magnetic-tile --quick

Twelve real images a class (ten on neu-det), near-identical photographs on one side of the split.
The split is what is repeated, each with a training seed of its own, since which few images one has
moves a score more than an arm does; within a split every arm has the same steps. All networks
start from one that has learned drawn defects (`augment weights pretrain`), as from scratch they
learn little in these steps by which arms could be told apart (docs/experiments.md); what that
start is worth itself is measured beside it, `real` and `copy-paste` from scratch. The table is
printed after every split. Killed and repeated, it continues; `--table` prints what is finished.
`--quick` is localisation alone on one split, from scratch, three seeds.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from splits import DECIDES, SHARED, closures, percent, read, table
from study import (
    DATASETS,
    QUICK,
    RATIO,
    ROOT,
    USUAL_DATA,
    describe,
    settings_of,
    study,
)

from downstream.config import BASELINE, PRIMARY, STARTS
from downstream.files import read_json
from downstream.names import FULL, PER_CLASS, TITLES
from downstream.repeated import Gap, Rows, pairs, share_of_gap
from downstream.statistics import holm

BEFORE = """\
A throw-away study that this one has to beat (not this project's code; magnetic-tile, 12 images a
class, 60 % / 40 % split by class, yolo11n from scratch at 256 px, batch 16, one seed, test mAP50):

steps     real  + copy-paste (240)  + 3.8 M inpainting model (240)  all real (about 230)
  700    0.051               0.142                           0.151                 0.157
1,600    0.254               0.299                           0.256                 0.430

It kept no near-identical photographs together: of the test defects of such a split 55 % have one
among all real training images, 26 % among 12 a class (docs/experiments.md). That lifts its ceiling.
"""

FIRST = 37
"""Nothing was ever chosen by this split of magnetic-tile or a later one, nor did any settle a
hypothesis before."""

DIFFUSION = f"compact+copy-paste@{RATIO}"
MIXES = ("mixed", DIFFUSION)
"""The arms of ours that val chooses among."""

BASELINES = (BASELINE, "plain-paste", "copy-paste")

DRAWN = f"{BASELINE}, from drawn defects"
"""Its name where it stands beside the same arm from scratch."""

FROM_SCRATCH = (BASELINE, "copy-paste")
"""Arms that are trained from scratch as well in these tasks: what anybody has without a generator,
and without drawn defects."""

NIGHT: dict[str, Any] = {
    "arms": ("real", "plain-paste", "copy-paste", *MIXES, "full"),
    "detection_steps": 1600,
    "detection_px": 256,
    # found on val of a split of its own (docs/experiments.md)
    "detection_lr": 1e-3,
    "detection_mosaic": 1.0,
    "classification_steps": 900,
    "classification_px": 128,
    "localisation_steps": 4000,
    "localisation_px": 128,
    "select": "both",
}


def main() -> None:
    """Run a study and print its table and its aims."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", nargs="?", choices=DATASETS, default="magnetic-tile")
    parser.add_argument("--data", type=Path, help="the photographs; default: ../shared/data/NAME")
    parser.add_argument("--home", type=Path, default=ROOT / "scratch" / "gain")
    parser.add_argument("--quick", action="store_true", help="an hour instead of a night")
    parser.add_argument("--splits", type=int, default=4, help="how many")
    parser.add_argument("--first", type=int, default=FIRST, help="seed of the first one")
    parser.add_argument("--tasks", help="comma-separated; default: all that the labels allow")
    parser.add_argument("--arms", help="comma-separated, instead of the study's own")
    parser.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="settings of `evaluate` instead of the study's own, e.g. detection_steps=3200",
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at once")
    parser.add_argument("--table", action="store_true", help="only print what is finished")
    given = parser.parse_args()
    if given.quick and given.table:
        parser.error("--table is of the study over splits; type it without --quick")
    data = given.data or USUAL_DATA / given.dataset
    if not given.table and not data.is_dir():
        raise SystemExit(f"error: there is no {data}; name the photographs with: --data DIR")
    kind = "QUICK study (localisation alone, 128 px)" if given.quick else "study"
    print(describe(given.dataset, kind), flush=True)
    if given.dataset == "magnetic-tile":
        print(BEFORE, flush=True)
    began = time.monotonic()
    usual = {"tasks": DATASETS[given.dataset].tasks} | (QUICK if given.quick else NIGHT)
    settings = settings_of(usual, given.tasks, given.arms, given.set) | {"jobs": given.jobs}
    if given.quick:
        quick(given.dataset, data, given.home / f"{given.dataset}-quick", settings)
    else:
        seeds = range(given.first, given.first + given.splits)
        homes = {split: given.home / f"{given.dataset}-{split}" for split in seeds}
        repeated(given.dataset, data, homes, settings, given.home / "drawn", only=given.table)
    print(f"\nthis call took {(time.monotonic() - began) / 60:.0f} min")


def quick(dataset: str, data: Path, home: Path, settings: Mapping[str, Any]) -> None:
    """One split, the seeds of `settings`: the report's own table."""
    print(json.dumps(settings), flush=True)
    report, found = study(dataset, data, home, settings)
    print(f"This study, everything measured here:\n\n{found}")
    print(f"all runs took {report['seconds']['runs'] / 3600:.1f} h")


def repeated(
    dataset: str,
    data: Path,
    homes: Mapping[int, Path],
    settings: dict[str, Any],
    drawn: Path,
    *,
    only: bool,
) -> None:
    """Split after split, with the table of all that is finished after each.

    Args:
        dataset: a key of `DATASETS`.
        data: its photographs.
        homes: each split's project, by its seed.
        settings: of `evaluate`.
        drawn: what each task starts from is made here, unless `settings` names it.
        only: train nothing, print what is finished.
    """
    scratch = scratch_settings(settings)
    for task, (setting, _) in STARTS.items():
        if task in settings["tasks"] and setting not in settings:
            start = base(drawn, task, only=only)
            settings = settings | ({setting: str(start)} if start else {})
    print(json.dumps(settings | {"seeds": "that of the split"}), flush=True)
    aims = DATASETS[dataset].aims
    for split, home in homes.items() if not only else ():
        study(dataset, data, home, settings | {"seeds": (split,)}, split)
        if scratch["tasks"]:
            study(dataset, data, beside(home), scratch | {"seeds": (split,)}, split)
        found = told(homes, settings, aims, scratch)
        print(f"\nSplit {split} is finished.\n{found}", flush=True)
    if only:
        print(told(homes, settings, aims, scratch))


def scratch_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of what is trained from scratch beside `settings`; its tasks may be none."""
    # where a start was named, that one is meant and no other
    tasks = [task for task in settings["tasks"] if STARTS[task][0] not in settings]
    arms = [arm for arm in FROM_SCRATCH if arm in settings["arms"]]
    if BASELINE not in arms:  # all is told beside it, and without arms the usual ones were trained
        tasks = []
    return {**settings, "tasks": tuple(tasks), "arms": tuple(arms)}


def beside(home: Path) -> Path:
    """Where the same split is trained from scratch: a project of its own, so that no report is
    written over."""
    return home.with_name(f"{home.name}-scratch")


def base(folder: Path, task: str, *, only: bool) -> Path | None:
    """What has learned drawn defects for `task`; where there is none, and not `only`, it is made as
    anybody would make it."""
    from augmentor.workflows.pretraining import pretrained_run

    made = pretrained_run(folder, task)
    if made or only:
        return made
    pretrain = [sys.executable, "-m", "augmentor", "weights", "pretrain", str(folder)]
    subprocess.run([*pretrain, "--task", task], check=True)
    return base(folder, task, only=True)


def told(
    homes: Mapping[int, Path],
    settings: Mapping[str, Any],
    aims: Mapping[str, float],
    scratch: Mapping[str, Any],
) -> str:
    """Everything that is finished, as Markdown: each arm's means, the aims, what the start is
    worth, and then closures and a table against each baseline."""
    rows = read(homes, settings)
    classes = labels(homes.values())
    parts = ["Everything measured here:\n", overview(rows, settings["arms"], classes), ""]
    parts += [judged(rows, aims, classes), ""]
    if scratch["tasks"]:
        without = read({split: beside(home) for split, home in homes.items()}, scratch)
        parts += [started(rows, without, classes), ""]
    parts += [*closures(rows), *rising(homes.values(), settings["tasks"])]
    for baseline in BASELINES:
        if any(arm == baseline for _, arm in rows):
            parts += [f"\nAgainst `{baseline}`:\n", table(rows, baseline)]
    return "\n".join(parts)


def rising(homes: Iterable[Path], tasks: Sequence[str]) -> list[str]:
    """A line for each task in which the arm of all real data still rose on val at its end."""
    reports = [read_json(home / "evaluation" / "report.json") for home in homes]
    lines = []
    for task in tasks:
        ends = [own["levelled"].get(task, {}).get(FULL) for own in reports if "levelled" in own]
        known = [end for end in ends if end]
        still = sum(not end["levelled"] for end in known)
        if still:
            lines.append(
                f"- {task}: {FULL} still rose on val at its end in {still} of {len(known)} splits, "
                "so a share of the gap may be too high."
            )
    return lines


def labels(homes: Iterable[Path]) -> dict[str, list[str]]:
    """The classes of each task, in the order of their metrics."""
    paths = (
        path for home in homes for path in (home / "evaluation" / "runs").glob("*/result.json")
    )
    return {found["task"]: found["labels"] for found in map(read_json, paths)}


def overview(rows: Rows, arms: Sequence[str], classes: Mapping[str, Sequence[str]]) -> str:
    """A Markdown table of each arm's mean on test, and of its classes', over the splits in which
    all arms of the task are finished."""
    head = ["task", "on test", "splits", *arms]
    lines = [head, ["---"] * len(head)]
    for task in dict.fromkeys(task for task, _ in rows):
        own = {arm: rows[task, arm] for arm in arms if (task, arm) in rows}
        shared = sorted(set.intersection(*(set(splits) for splits in own.values())))
        names = [(name, None) for name in DECIDES[task]]
        names += [(name, k) for k, name in enumerate(classes.get(task, ()))]
        for name, k in names:
            cells = [task, TITLES[name] if k is None else name, str(len(shared))]
            for arm in arms:
                found = [own[arm][split]["test"] for split in shared] if arm in own else []
                each = [m[name] if k is None else m[PER_CLASS[task]][k] for m in found]
                known = [value for value in each if value is not None]
                cells.append(f"{np.mean(known):.3f}" if known else "")
            lines.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def judged(
    rows: Rows, wanted: Mapping[str, float], classes: Mapping[str, Sequence[str]] | None = None
) -> str:
    """For each task the mix that val prefers, what it closes of the gap on test, the aim, what it
    has above each baseline, and the classes that are worse with it."""
    lines = ["The mix that val prefers, judged on test:"]
    for task in dict.fromkeys(task for task, _ in rows):
        metric = PRIMARY[task]
        arms = [arm for arm in MIXES if (task, arm) in rows]
        if not arms:
            lines.append(f"- {task}: no mix was measured")
            continue
        best = preferred(rows, task, arms, metric)
        aim = f"the aim is {wanted[task]:.0%}" if task in wanted else "no aim is set"
        lines.append(f"- {task} ({metric}): {best}, {closed(rows, task, best, metric)}; {aim}")
        asked = ((FULL, BASELINE), *((best, baseline) for baseline in BASELINES))
        told = {f"{arm} against {against}": (arm, against) for arm, against in asked}
        lines += [f"  {name}: {each}" for name, each in compared(rows, task, metric, told).items()]
        if task in (classes or {}):
            lines.append(f"  {worse(rows, task, best, classes[task])}")
    return "\n".join(lines)


def closed(rows: Rows, task: str, arm: str, metric: str) -> str:
    """What is said of the share of the gap that `arm` closes on test."""
    found = share_of_gap(rows, task, arm, metric)
    share = percent(found)
    return f"closes {share}" if share else f"closure of the gap: {found['reason']}"


def compared(
    rows: Rows, task: str, metric: str, asked: Mapping[str, tuple[str, str]]
) -> dict[str, str]:
    """What is said of each pair of arms, by its name; p are Holm's over all of them."""
    gaps: dict[str, Gap] = {}
    for name, (arm, against) in asked.items():
        both = {key: rows[key] for key in ((task, arm), (task, against)) if key in rows}
        for pair in pairs(both, against, lambda metrics, own: metrics[own], lambda _: [metric]):
            if pair.side == "test":
                gaps[name] = pair.gap(SHARED)
    return spoken(gaps)


def started(rows: Rows, scratch: Rows, classes: Mapping[str, Sequence[str]]) -> str:
    """What starting from drawn defects is worth on test, with `real` and with the mix that val
    prefers: a table of means, the differences to arms from scratch, and the share that is closed of
    the gap between `real` from scratch and all real data from drawn defects."""
    known = dict(rows) | {(task, from_scratch(arm)): own for (task, arm), own in scratch.items()}
    untaught = from_scratch(BASELINE)
    tasks = [task for task in STARTS if (task, untaught) in known]
    lines = ["What starting from drawn defects is worth:"]
    if not tasks:
        return f"{lines[0]} nothing was trained from scratch yet"
    mixes = {
        task: preferred(rows, task, own, PRIMARY[task])
        for task in tasks
        if (own := [arm for arm in MIXES if (task, arm) in rows])
    }
    names = [*map(from_scratch, FROM_SCRATCH), BASELINE, *dict.fromkeys(mixes.values()), FULL]
    shown = {(task, arm): known[task, arm] for task, arm in known if task in tasks}
    lines += ["", overview(shown, names, classes), ""]
    for task in tasks:
        metric = PRIMARY[task]
        best = [mixes[task]] if task in mixes else []
        asked = [(BASELINE, untaught)]
        asked += [(mix, from_scratch(arm)) for mix in best for arm in FROM_SCRATCH]
        named = {f"{arm} against {against}": (arm, against) for arm, against in asked}
        told = compared(known, task, metric, named)
        lines.append(f"- {task} ({metric}):")
        lines += [f"  {name}: {each}" for name, each in told.items()]
        outer = dict(known)
        outer[task, BASELINE] = known[task, untaught]
        outer[task, DRAWN] = rows.get((task, BASELINE), {})
        for arm in (DRAWN, *best):
            share = closed(outer, task, arm, metric)
            lines.append(f"  the gap from {untaught} to {FULL}: {arm}, {share}")
    return "\n".join(lines)


def from_scratch(arm: str) -> str:
    """The name in a table of an arm that is trained from scratch."""
    return f"{arm}, from scratch"


def worse(rows: Rows, task: str, arm: str, classes: Sequence[str]) -> str:
    """The classes that `arm` finds less well than `real` does on test; p are Holm's over all."""

    def of_class(metrics: Mapping[str, Any], name: str) -> float | None:
        return metrics[PER_CLASS[task]][classes.index(name)]

    both = {key: rows[key] for key in ((task, BASELINE), (task, arm)) if key in rows}
    found = pairs(both, BASELINE, of_class, lambda _: classes)
    gaps = {pair.metric: pair.gap(SHARED) for pair in found if pair.side == "test"}
    told = [f"{name} {each}" for name, each in spoken(gaps).items() if gaps[name].difference < 0]
    return f"worse than {BASELINE} on average: {'; '.join(told) or 'no class'}"


def spoken(gaps: Mapping[str, Gap]) -> dict[str, str]:
    """Each difference with its interval, what p make of it that are corrected over all of them, and
    what it rests on."""
    p = holm({name: gap.p for name, gap in gaps.items()})

    def one(gap: Gap, p: float) -> str:
        if gap.splits < 2:
            return f"{gap.difference:+.3f}, no verdict (one split)"
        interval = f"{gap.difference:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]"
        return f"{interval}, p Holm {p:.3f}, {gap.verdict(p, 0.95)} ({gap.splits} splits)"

    return {name: one(gap, p[name]) for name, gap in gaps.items()}


def preferred(rows: Rows, task: str, arms: Sequence[str], metric: str) -> str:
    """The arm with the highest mean on val, over the splits that have all of them."""
    shared = set.intersection(*(set(rows[task, arm]) for arm in arms))
    return max(
        arms,
        key=lambda arm: np.mean([rows[task, arm][split]["val"][metric] for split in shared] or [0]),
    )


if __name__ == "__main__":
    main()
