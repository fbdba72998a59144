"""Evaluate: the arms' training sets side by side, then detectors on each of them."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from augmentor.classical import write_classical_pool
from augmentor.errors import ProjectError
from augmentor.exporters import write_training_export
from augmentor.items import PoolSample
from augmentor.mixing import check_sources
from augmentor.records_io import load_records
from augmentor.workflows.build import STAMP, pool_samples
from augmentor.workflows.generators import fill_pool, open_maker, read_samples
from augmentor.workflows.project import Project
from augmentor.workflows.reporting import Reporter
from downstream.config import ExperimentConfig
from downstream.experiment import run_experiment
from downstream.report import format_table
from generator.config import parse
from generator.files import read_lines
from generator.records import DefectExample

ARMS = ("real", "classical", "copy-paste", "mixed")
FULL = "full"


@dataclass(frozen=True)
class Evaluated:
    """The report: as data, as a table for the terminal, and where both files are."""

    report: dict[str, Any]
    table: str
    json: Path
    html: Path


def evaluate_project(
    project: Project,
    reporter: Reporter,
    *,
    arms: Sequence[str] | None = None,
    seeds: int | None = None,
    steps: int | None = None,
    jobs: int | None = None,
) -> Evaluated:
    """Train detectors on each arm of the built dataset and report what was gained.

    Every arm but `real` and `full` adds the same number of images of each class to the real ones:
    synthetic in `mixed`, albumentations' in `classical`, pasted real defects in `copy-paste`.

    Raises:
        ProjectError: nothing was built yet, or an arm is not known.
        RunError: a training failed; the report holds the others.
    """
    config = _config(project, arms, seeds, steps, jobs)
    assert config.arms is not None
    export = _write_arms(project, config.arms, reporter)
    path = run_experiment(
        export,
        project.evaluation,
        config,
        on_progress=lambda task, done, total: reporter.progress(task, done, total),
    )
    report = json.loads(path.read_text())
    return Evaluated(report, format_table(report), path, path.with_suffix(".html"))


def _config(
    project: Project,
    arms: Sequence[str] | None,
    seeds: int | None,
    steps: int | None,
    jobs: int | None,
) -> ExperimentConfig:
    base = project.config.evaluate
    update: dict[str, Any] = {"arms": tuple(arms or base.arms or ARMS)}
    unknown = set(update["arms"]) - {*ARMS, FULL}
    if unknown:
        raise ProjectError(
            f"There is no arm {sorted(unknown)[0]!r}; the arms are {', '.join((*ARMS, FULL))}."
        )
    if seeds is not None:
        update["seeds"] = seeds
    if steps is not None:
        update |= {"detection_steps": steps, "classification_steps": steps}
    if jobs is not None:
        update["jobs"] = jobs
    return parse({**base.model_dump(), **update}, ExperimentConfig, "evaluate", ProjectError)


def _write_arms(project: Project, arms: Sequence[str], reporter: Reporter) -> Path:
    """Write one export that holds every arm; each image says which arms train on it."""
    stamp = project.dataset / STAMP
    if not stamp.is_file():
        raise ProjectError("There is no mixed dataset yet; build it: augment build --ratio 0.5")
    lines = read_lines(project.dataset / "manifest.jsonl")
    records = load_records(project.data)
    train = [r for r in records if r.split == "train"]
    chosen = [
        (line["generator"], line["id"], line["class"])
        for line in lines
        if line["kind"] == "synthetic"
    ]
    mixed = read_samples(project, chosen)
    numbers = Counter(sample.class_name for sample in mixed)

    pools: dict[str, list[PoolSample]] = {"mixed": pool_samples(project, mixed)}
    if "classical" in arms:
        pools["classical"] = _classical(project, train, numbers)
    if "copy-paste" in arms:
        pools["copy-paste"] = _copy_paste(project, numbers, reporter)
    real = frozenset(r.id for r in train)
    in_mix = frozenset(line["id"] for line in lines if line["kind"] == "real")
    members = {
        "real": real,
        FULL: real | {r.id for r in records if r.split == "reserve"},
        **{name: real | {s.record.id for s in samples} for name, samples in pools.items()},
    }
    members["mixed"] = (real & in_mix) | {s.id for s in mixed}
    samples = list({s.record.id: s for pool in pools.values() for s in pool}.values())
    check_sources(samples, records)
    export = project.evaluation / "export"
    reporter.say(f"Writing the arms' training sets: {', '.join(arms)}")
    write_training_export(
        export,
        name=project.config.name,
        classes=project.config.classes,
        records=records if FULL in arms else [r for r in records if r.split != "reserve"],
        samples=samples,
        arms={name: members[name] for name in arms},
        notes=json.loads(stamp.read_text())["summary"]["short"],
    )
    return export


def _classical(
    project: Project, train: Sequence[DefectExample], numbers: Counter[str]
) -> list[PoolSample]:
    defects = [r for r in train if not r.is_clean]
    pool = project.pool("classical")
    made = write_classical_pool(defects, numbers, pool, seed=project.config.mix.seed)
    return [PoolSample(pool, record) for record in made]


def _copy_paste(project: Project, numbers: Counter[str], reporter: Reporter) -> list[PoolSample]:
    # as anybody would paste them: neither helped nor held back by rules on what they look like
    maker = replace(open_maker(project, "copy-paste", reporter), scorer=None)
    pool = fill_pool(project, maker, numbers, {}, reporter)
    # what a person asked for in the review has no part in it either
    accepted = [r for r in pool if r.verdict == "accepted" and not r.origin]
    taken = [
        record
        for name, number in numbers.items()
        for record in [r for r in accepted if r.class_name == name][:number]
    ]
    return pool_samples(project, taken)
