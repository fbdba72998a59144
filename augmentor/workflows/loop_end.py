"""The loop's end: the best mix becomes the built dataset, test is looked at once, the page says
which round brought what."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from augmentor.decisions import Standing, now
from augmentor.errors import ProjectError
from augmentor.mix_plan import plan_mix
from augmentor.mixing import Mix
from augmentor.workflows.arms import ARMS, COPY_PASTE, without_pastes
from augmentor.workflows.build import with_mix, write_dataset
from augmentor.workflows.decisions import hand_decisions
from augmentor.workflows.evaluate import evaluate_project
from augmentor.workflows.generators import fill_pool
from augmentor.workflows.loop_offers import Bench
from augmentor.workflows.loop_state import FOLDER, Book, Offer, State, Test
from augmentor.workflows.project import Project
from augmentor.workflows.reporting import Reporter
from downstream.config import ExperimentConfig
from downstream.files import read_json
from downstream.loop_page import render_loop
from generator.files import sha256_of, write_json
from generator.records import SyntheticDefect

MIX, TEST, PAGE = "mix.json", "test.json", "report.html"
NOTHING = (
    "No mix was better on val than the real images alone, so there is nothing to evaluate, and "
    "test was not looked at."
)


@dataclass(frozen=True)
class Looped:
    """What a loop came to: its state, the report on test (None where nothing was gained on val),
    and the page."""

    state: State
    report: dict[str, Any] | None
    html: Path


def finish(
    project: Project,
    bench: Bench,
    book: Book,
    reporter: Reporter,
    *,
    config: ExperimentConfig,
    asked_steps: int | None,
) -> Looped:
    """Write the best mix down, make it the dataset, and evaluate it on test.

    Killed and called again it goes on; test is counted as looked at from when that begins.

    Args:
        project: whose mix it is.
        bench: of the loop.
        book: of the loop, which has stopped.
        reporter: told of the progress.
        config: of the trials; its task, seeds and jobs are those of the evaluation.
        asked_steps: optimiser steps, where the command named them.

    Raises:
        ProjectError: somebody rejected or relabelled a sample of the mix since the loop was begun.
        RunError: a training of the evaluation failed.
    """
    best, page = book.state.incumbent, book.folder / PAGE
    content = _mix(bench, book.state, best)
    write_json(book.folder / MIX, content)
    if not best.samples:
        book.put(finished=True, verdict=NOTHING)
        _render(project, book.state, content, None, page)
        return Looped(book.state, None, page)
    standing = hand_decisions(project)
    _refuse_other_decisions(standing, best)
    _build(project, bench, book.state, best, standing, reporter)
    mix = sha256_of(content["samples"])
    if not any((test.key, test.mix) == (book.state.key, mix) for test in book.state.tests):
        test = Test(key=book.state.key, mix=mix, time=now())
        book.put(tests=(*book.state.tests, test))
    evaluated = evaluate_project(
        project,
        reporter,
        arms=without_pastes(project, ARMS),
        tasks=config.tasks,
        seeds=len(config.seeds) if config.seeds == tuple(range(len(config.seeds))) else None,
        steps=asked_steps,
        jobs=config.jobs,
    )
    write_json(book.folder / TEST, evaluated.report)
    book.put(finished=True, verdict=evaluated.report["verdict"])
    _render(project, book.state, content, evaluated.report, page)
    return Looped(book.state, evaluated.report, page)


def read_again(project: Project, state: State) -> Looped | None:
    """What a finished loop came to, from its files; None where one of them is gone or damaged, and
    `finish` has to write them anew."""
    folder = project.folder / FOLDER
    page, report, mix = folder / PAGE, read_json(folder / TEST), read_json(folder / MIX)
    if (state.incumbent.samples and not report) or not mix:
        return None
    if not page.is_file():  # killed between the last two steps
        _render(project, state, mix, report or None, page)
    return Looped(state, report or None, page)


def _refuse_other_decisions(standing: Mapping[str, Standing], best: Offer) -> None:
    """What was decided while the loop ran was not in what val was asked about."""
    other = [
        sample_id
        for _, sample_id, class_name in best.samples
        if (held := standing.get(sample_id)) is not None
        and (held.verdict == "rejected" or held.class_name not in (None, class_name))
    ]
    if other:
        raise ProjectError(
            f"{len(other)} samples of the best mix, such as {other[0]}, were rejected or given "
            "another class since this loop was begun, so test was not looked at; begin anew "
            "without them, with the trainings that are still valid: augment loop --restart"
        )


def _mix(bench: Bench, state: State, best: Offer) -> dict[str, Any]:
    """The content of mix.json (docs/loop.md)."""
    real = Counter(record.label for record in bench.train)
    made = Counter(name for _, _, name in best.samples)
    classes = bench.project.config.classes
    return {
        "schema": 1,
        "loop": state.key,
        "arm": best.arm,
        "ratio": best.ratio,
        "generators": dict(sorted(Counter(g for g, _, _ in best.samples).items())),
        "per_class": {c: {"real": real[c], "synthetic": made[c]} for c in classes},
        "samples": [{"generator": g, "id": i, "class": c} for g, i, c in best.samples],
    }


def _build(
    project: Project,
    bench: Bench,
    state: State,
    best: Offer,
    standing: Mapping[str, Standing],
    reporter: Reporter,
) -> None:
    """Make the mix the project's dataset, by what `augment build` uses."""
    chosen: dict[str, list[SyntheticDefect]] = {}
    for sample in bench.samples(best):
        chosen.setdefault(sample.record.generator, []).append(sample.record)
    shares = {name: len(own) / len(best.samples) for name, own in chosen.items()}
    named = ",".join(f"{name}={share:.6f}" for name, share in shares.items())
    shown = with_mix(project, ratio=round(best.ratio, 6), generators=named)
    config = project.config
    none = plan_mix(bench.train, 0, classes=config.classes, shares={COPY_PASTE: 1.0})
    wanted = Counter((generator, name) for generator, _, name in best.samples)
    plan = replace(none, ratio=best.ratio, balance=config.mix.balance, wanted=wanted)
    mix = Mix(plan, config.mix.seed, {name: tuple(own) for name, own in chosen.items()}, {})
    assert math.isclose(mix.achieved_ratio, best.ratio)
    pools: Mapping[str, list[SyntheticDefect]] = {
        maker.name: fill_pool(project, maker, {}, standing, reporter)
        for maker in bench.makers
        if maker.name in chosen
    }
    key = sha256_of({"loop": state.key, "samples": best.samples})
    write_dataset(shown, bench.records, mix, pools, standing, key, reporter)


def _render(
    project: Project,
    state: State,
    mix: Mapping[str, Any],
    report: Mapping[str, Any] | None,
    page: Path,
) -> None:
    view = {
        "name": project.config.name,
        "state": state.model_dump(mode="json", by_alias=True),
        "mix": {key: mix[key] for key in ("arm", "ratio", "generators", "per_class")},
        "report": report,
    }
    render_loop(view, page)
