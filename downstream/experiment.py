"""Arms x seeds x tasks, each a run of its own: what is done is not done again, what fails is
reported and takes nothing else down."""

import json
import multiprocessing
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from downstream.config import BASELINE, ExperimentConfig, Task
from downstream.dataset import Export, Item, read_export
from downstream.detectors.outcome import OnStep
from downstream.errors import RunError, SettingsError
from downstream.files import write_json
from downstream.report import build_report, render_html
from downstream.report_file import keep_earlier
from downstream.report_file import read_report as read_report
from downstream.runs import Run, count_other_looks, execute, plan_runs, read_result

OnProgress = Callable[[str, int, int], None]
"""Called with (what is going on, steps done, steps in all); the steps are those of all runs that
this call still has to do."""

MayTrain = Callable[[frozenset[str]], bool]
"""Asked before each training, with the keys of all runs that are done or under way: may one more
begin?"""

GRACE_S = 10.0


def run_experiment(
    export: Path,
    out: Path,
    config: ExperimentConfig,
    *,
    on_progress: OnProgress | None = None,
    extras: Mapping[str, Any] | None = None,
) -> Path:
    """Train and measure every arm with every seed on every task, and write the report.

    A run whose result is already in `out/runs` under the same key (same images, labels, settings,
    seed and library versions) is reused, so a killed experiment is continued by calling it again.
    `out/report.json` and `out/report.html` are written whatever happened to single runs; earlier
    ones that hold runs which these don't are kept in `out/reports`.

    Args:
        export: a training export (docs/formats.md).
        out: where runs and report go.
        config: what is compared, and how long.
        on_progress: see `OnProgress`.
        extras: what the report shall hold besides; see `extras` in report.py.

    Returns:
        The path of report.json.

    Raises:
        ExportError, LeakError: the export is refused.
        SettingsError, WeightsError: the settings don't go with it.
        RunError: a run failed; the report names it and holds the results of all others.
    """
    started = time.monotonic()
    if config.measure == "val":
        raise SettingsError(
            "A report is about the test split, and measure is val; take it out of `evaluate` in "
            "augment.yaml (only augment loop chooses on val)."
        )
    data = read_export(export)
    config, notes = fit_to_export(config, data)
    runs = plan_runs(data, out, config)
    results, failed, reused = do_runs(runs, data, config, on_progress=on_progress)
    if looks := count_other_looks(out, runs):
        notes.append(
            f"{looks} other training{'s' if looks > 1 else ''} beside these (other arms, images or "
            "settings) had test measured too: the more looks, the less a gain in one is worth."
        )
    report = build_report(
        data, config, runs, results, failed, reused, notes, time.monotonic() - started, extras
    )
    path, keys = out / "report.json", {run.key for run in runs}
    keep_earlier(path, lambda before: {run["key"] for run in before["runs"]} <= keys)
    write_json(path, report)
    render_html(report, out / "report.html")
    if failed:
        names = ", ".join(run.name for run in runs if run.key in failed)
        first = next(iter(failed.values()))
        raise RunError(
            f"{len(failed)} of {len(runs)} runs failed ({names}): {first}; the report of the "
            f"others is {path}, and the same command does only the failed ones again."
        )
    return path


def do_runs(
    runs: list[Run],
    export: Export,
    config: ExperimentConfig,
    *,
    on_progress: OnProgress | None = None,
    may_train: MayTrain | None = None,
) -> tuple[dict[str, dict[str, Any]], dict[str, str], set[str]]:
    """Do those of `runs` that were not done before, in turn or `config.jobs` at once.

    Args:
        runs: of `plan_runs`.
        export: that they were planned for.
        config: with its arms resolved.
        on_progress: see `OnProgress`.
        may_train: see `MayTrain`; where it says no, the runs that are left are not begun.

    Returns:
        By key the results and, of those that failed, a sentence; and the keys of the results
        that were there before. A run that was not begun is in none of them.
    """
    results = {run.key: result for run in runs if (result := read_result(run)) is not None}
    reused = set(results)
    todo = list({run.key: run for run in runs if run.key not in results}.values())
    progress = _Progress(todo, config, on_progress)
    failed: dict[str, str] = {}
    begun = set(reused)

    def may_begin(run: Run) -> bool:
        if may_train is not None and not may_train(frozenset(begun)):
            return False
        begun.add(run.key)
        return True

    do = _in_turn if config.jobs == 1 or len(todo) == 1 else _side_by_side
    do(todo, export, config, progress, results, failed, may_begin)
    return results, failed, reused


def fit_to_export(config: ExperimentConfig, export: Export) -> tuple[ExperimentConfig, list[str]]:
    """Take the export's arms where none are named; leave out what its labels can't carry."""
    notes: list[str] = []
    arms = config.arms or export.arms
    unknown = [arm for arm in arms if arm not in export.arms]
    if unknown:
        raise SettingsError(
            f"{export.folder} has no arm {unknown[0]!r}; it has {', '.join(export.arms)}."
        )
    tasks: list[Task] = list(config.tasks)
    if export.task == "classify" and "detection" in tasks:
        tasks.remove("detection")
        notes.append("The labels are image-level alone, so detection was not evaluated.")
        if not tasks:
            raise SettingsError(
                f"{export.folder} has image-level labels alone, so nothing can be detected; set "
                "`evaluate.tasks` to classification, or type --tasks classification (augment "
                "evaluate), --task classification (augment loop)."
            )
    if export.task != "segment" and "localisation" in tasks:
        tasks.remove("localisation")
        notes.append("Not every defect has an exact mask, so localisation was not evaluated.")
        if not tasks:
            raise SettingsError(
                f"{export.folder} has no exact mask of every defect, so localisation can't be "
                "measured; set tasks to classification, or to detection where there are boxes."
            )
    if len(export.told_apart(config.with_good)) < 2 and "classification" in tasks:
        tasks.remove("classification")
        notes.append("There is one class alone, so classification was not evaluated.")
        if not tasks:
            raise SettingsError(
                f"{export.folder} has one class alone, so there is nothing to tell apart; set "
                "tasks to detection, or with_good to true where there are images without a defect."
            )
    sides = {split: export.items(split) for split in config.splits}
    if "localisation" in tasks:
        full = [side for side, items in sides.items() if not _shows_sound_pixels(items)]
        if full:
            tasks.remove("localisation")
            notes.append(
                f"Defects fill every photograph of {full[0]}, so that no place can be right or "
                "wrong there: localisation was not evaluated."
            )
    if "classification" in tasks:
        told = set(export.told_apart(config.with_good))
        alone = [s for s, items in sides.items() if len(told & {i.class_name for i in items}) < 2]
        if alone:
            tasks.remove("classification")
            notes.append(
                f"The photographs of {alone[0]} show one class alone, so classification was not "
                "evaluated."
            )
    if not tasks:
        raise SettingsError(f"Nothing is left to evaluate: {' '.join(notes)}")
    if BASELINE not in arms:
        notes.append(f"There is no arm {BASELINE!r}, so there is nothing to compare with.")
    ordered = tuple(sorted(arms, key=lambda arm: arm != BASELINE))
    return config.model_copy(update={"arms": ordered, "tasks": tuple(tasks)}), notes


def _shows_sound_pixels(items: Sequence[Item]) -> bool:
    """Whether any pixel is sound; of a mask that can't be read the training says so."""
    for item in items:
        if item.mask is None:
            return True
        try:
            with Image.open(item.mask) as mask:
                if mask.convert("L").getextrema()[0] == 0:
                    return True
        except OSError:
            return True
    return False


class _Progress:
    """Adds up the steps of all runs."""

    def __init__(self, todo: list[Run], config: ExperimentConfig, tell: OnProgress | None) -> None:
        steps = {
            "detection": config.detection_steps,
            "classification": config.classification_steps,
            "localisation": config.localisation_steps,
        }
        self.steps = {run.key: steps[run.task] for run in todo}
        self.done = dict.fromkeys(self.steps, 0)
        self.total = sum(self.steps.values())
        self.tell = tell

    def step(self, run: Run, done: int) -> None:
        self.done[run.key] = done
        if self.tell is not None:
            self.tell(run.name, sum(self.done.values()), self.total)

    def of(self, run: Run) -> OnStep:
        return lambda done, total: self.step(run, done)

    def end(self, run: Run) -> None:
        self.step(run, self.steps[run.key])


def _in_turn(
    todo: list[Run],
    export: Export,
    config: ExperimentConfig,
    progress: _Progress,
    results: dict[str, dict[str, Any]],
    failed: dict[str, str],
    may_begin: Callable[[Run], bool] = lambda run: True,
) -> None:
    for run in todo:
        if not may_begin(run):
            return
        try:
            results[run.key] = execute(run, export, config, progress.of(run))
        except RunError as fault:
            failed[run.key] = str(fault)
        progress.end(run)


def _side_by_side(
    todo: list[Run],
    export: Export,
    config: ExperimentConfig,
    progress: _Progress,
    results: dict[str, dict[str, Any]],
    failed: dict[str, str],
    may_begin: Callable[[Run], bool] = lambda run: True,
) -> None:
    """Up to `config.jobs` processes, one a run, so that one that is killed fails alone."""
    context = multiprocessing.get_context("spawn")
    steps: Any = context.Queue()
    waiting = list(todo)
    by_key = {run.key: run for run in todo}
    alive: dict[str, Any] = {}
    with _ended(alive):
        while waiting or alive:
            while waiting and len(alive) < config.jobs:
                if not may_begin(waiting[0]):
                    waiting.clear()
                    break
                run = waiting.pop(0)
                alive[run.key] = context.Process(
                    target=_child, args=(run, export, config, steps), daemon=False
                )
                alive[run.key].start()
            _drain(steps, by_key, progress)
            for key in [key for key, process in alive.items() if not process.is_alive()]:
                process, run = alive.pop(key), by_key[key]
                process.join()
                result = read_result(run)
                if result is not None:
                    results[key] = result
                else:
                    failed[key] = _why(run, process.exitcode)
                progress.end(run)


def _child(run: Run, export: Export, config: ExperimentConfig, steps: Any) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        execute(run, export, config, lambda done, total: steps.put((run.key, done)))
    except RunError:
        raise SystemExit(1) from None  # the parent reads failed.json


def _end_with_parent() -> None:
    """A parent that is killed can't end its trainings, and whoever starts it again would have two
    of them write into one folder; so each looks to it itself."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _drain(steps: Any, by_key: dict[str, Run], progress: _Progress) -> None:
    until = time.monotonic() + 0.2
    while (left := until - time.monotonic()) > 0:
        try:
            key, done = steps.get(timeout=left)
        except queue.Empty:
            return
        progress.step(by_key[key], done)


def _why(run: Run, code: int | None) -> str:
    try:
        error = json.loads((run.folder / "failed.json").read_text(encoding="utf-8"))["error"]
    except (OSError, ValueError, KeyError):
        error = f"its process ended with code {code} (killed, or out of memory?)"
    return f"{run.name} failed: {error} (see {run.folder / 'log.txt'})"


@contextmanager
def _ended(alive: dict[str, Any]) -> Iterator[None]:
    """Whatever happens, no training is left running behind."""
    try:
        yield
    finally:
        for process in alive.values():
            process.terminate()
        for process in alive.values():
            process.join(GRACE_S)
            if process.is_alive():
                process.kill()
