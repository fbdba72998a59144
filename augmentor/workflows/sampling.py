"""Sampling on request: exactly N more, also when the command was killed and is repeated."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from augmentor.errors import ProjectError
from augmentor.filters import count_rejections
from augmentor.workflows.alone import alone
from augmentor.workflows.generators import Maker, open_maker, pool_of, requests_for, sample
from augmentor.workflows.project import Project
from augmentor.workflows.reporting import Reporter
from downstream.files import read_json
from generator.files import write_json
from generator.records import SyntheticDefect


@dataclass(frozen=True)
class Added:
    """What a call of `add_samples` added: accepted and rejected by class, rejections by rule."""

    pool: Path
    counts: dict[str, tuple[int, int]]
    rejections: dict[str, int]


@alone("sample")
def add_samples(
    project: Project, generator: str, number: int, class_name: str | None, reporter: Reporter
) -> Added:
    """Add `number` samples to the pool of `generator`, of one class or of all in turn.

    What is still to be made is written down first, so that the same call after a kill makes what
    was missing, and not `number` more.
    """
    classes = project.config.classes
    if class_name is not None and class_name not in classes:
        raise ProjectError(
            f"There is no class {class_name!r}; the classes are {', '.join(classes)}."
        )
    maker = open_maker(project, generator, reporter)
    order = [class_name] if class_name else list(classes)
    ranges = _ranges(project, maker, order, number, reporter)
    made: list[SyntheticDefect] = []
    seen = 0

    def count(record: SyntheticDefect) -> None:
        nonlocal seen
        seen += 1
        reporter.progress(f"Sampling {maker.name}", seen, number)

    for name, numbers in ranges.items():
        made += sample(project, maker, requests_for(project, maker, name, numbers), count)
    _note(project, maker).unlink(missing_ok=True)
    by_verdict = Counter((record.class_name, record.verdict) for record in made)
    return Added(
        project.pool(maker.name),
        {c: (by_verdict[c, "accepted"], by_verdict[c, "rejected"]) for c in ranges},
        count_rejections(made),
    )


def _note(project: Project, maker: Maker) -> Path:
    return project.pool(maker.name) / "unfinished.json"


def _ranges(
    project: Project, maker: Maker, order: list[str], number: int, reporter: Reporter
) -> dict[str, range]:
    """Running numbers to make for each class: those of an unfinished call, or the next ones."""
    note = _note(project, maker)
    asked = {
        "generator": maker.painter.fingerprint,
        "masks": maker.planner.fingerprint,
        "number": number,
        "classes": order,
    }
    unfinished = read_json(note)
    if unfinished.get("asked") == asked:
        reporter.say("Continuing the unfinished call.")
        return {name: range(*ends) for name, ends in unfinished["ranges"].items()}
    used = dict.fromkeys(order, 0)
    for record in pool_of(project, maker):
        if record.class_name in used:
            used[record.class_name] = max(used[record.class_name], record.index + 1)
    shares = Counter(order[i % len(order)] for i in range(number))
    ranges = {name: range(used[name], used[name] + shares[name]) for name in order if shares[name]}
    write_json(
        note,
        {"asked": asked, "ranges": {name: [r.start, r.stop] for name, r in ranges.items()}},
    )
    return ranges
