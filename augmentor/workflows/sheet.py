"""A contact sheet for people without the App: real beside synthetic, and why some are left out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from shlex import quote
from typing import Literal

from augmentor.errors import ProjectError, UsageError
from augmentor.filters import HAND, apply_decisions
from augmentor.items import PoolSample
from augmentor.mix_plan import lenders
from augmentor.workflows.decisions import logged_decisions
from augmentor.workflows.generators import training_examples
from augmentor.workflows.judging import judged_samples
from augmentor.workflows.project import Project
from augmentor.workflows.reporting import Reporter
from generator.quality.sheet import (
    REAL_COLOUR,
    REJECTED_COLOUR,
    SYNTHETIC_COLOUR,
    Picture,
    Row,
    Section,
    is_sheet,
    real_picture,
    synthetic_picture,
    write_page,
    write_png_sections,
)
from generator.records import DefectExample, SyntheticDefect

Verdict = Literal["accepted", "rejected"]
SIDES = {".png": 128, ".html": 176, ".htm": 176}
"""Side of a tile in px, by the suffix of the file."""

_SHOWN = (
    ("class_agreement", "class {:.2f}"),
    ("realism", "realism {:.2f}"),
    ("memorisation", "copy {:.2f}"),
    ("seam", "seam {:.2f}"),
    ("contrast", "contrast {:.1f}"),
    ("fill", "filled {:.0%}"),
    ("leak", "outside {:.0%}"),
)


@dataclass(frozen=True)
class Sheet:
    """A written sheet: where, and how many samples there are and are shown by verdict."""

    path: Path
    samples: dict[str, int]
    shown: dict[str, int]


def write_contact_sheet(
    project: Project,
    to: Path,
    reporter: Reporter,
    *,
    class_name: str | None = None,
    generator: str | None = None,
    verdict: Verdict | None = None,
    number: int = 6,
) -> Sheet:
    """Write a PNG or a self-contained HTML page, by the suffix of `to`.

    Args:
        project: whose samples are shown.
        to: file to write.
        reporter: told when samples have to be compared with real defects first.
        class_name: only this class; None for all.
        generator: only this pool; None for all.
        verdict: only samples with this verdict; None for both.
        number: most pictures in a row.

    Raises:
        ProjectError: the suffix or the class is unknown, there is no pool, or `to` is somebody
            else's file.
        DecisionError: the log of decisions is damaged.
    """
    side = SIDES.get(to.suffix.lower())
    if side is None:
        raise UsageError(
            f"A sheet is a .png or a .html file, not {to.name!r}; for example: augment sheet --to "
            "sheet.html"
        )
    if to.exists() and not is_sheet(to):
        raise ProjectError(
            f"{to} exists and is no sheet that augment wrote; move it away, or name another file: "
            f"augment sheet --to NAME{to.suffix}"
        )
    classes = project.config.classes
    if class_name is not None and class_name not in classes:
        raise ProjectError(
            f"There is no class {class_name!r}; the classes are {', '.join(classes)}: augment "
            f"sheet --class {quote(classes[0])}"
        )
    examples = training_examples(project)
    samples = _decided(project, judged_samples(project, examples, reporter, generator))
    names = [class_name] if class_name else list(classes)
    wanted: tuple[Verdict, ...] = (verdict,) if verdict else ("accepted", "rejected")
    chosen = {
        (name, kind): [
            s for s in samples if s.record.class_name == name and s.record.verdict == kind
        ]
        for name in names
        for kind in wanted
    }
    sections = [_section(name, examples, chosen, wanted, number, side) for name in names]
    title = f"{project.config.name}: real and synthetic defects"
    if side == SIDES[".png"]:
        write_png_sections(to, title, sections)
    else:
        write_page(to, title, _notes(samples), sections)
    return Sheet(
        to,
        {kind: sum(len(chosen[name, kind]) for name in names) for kind in wanted},
        {kind: sum(min(len(chosen[name, kind]), number) for name in names) for kind in wanted},
    )


def _decided(project: Project, samples: Sequence[PoolSample]) -> list[PoolSample]:
    records = apply_decisions(
        [sample.record for sample in samples], logged_decisions(project), project.config.classes
    )
    return [PoolSample(s.pool, record) for s, record in zip(samples, records, strict=True)]


def _section(
    name: str,
    examples: Sequence[DefectExample],
    chosen: Mapping[tuple[str, Verdict], Sequence[PoolSample]],
    wanted: Sequence[Verdict],
    number: int,
    side: int,
) -> Section:
    real = lenders(examples, name)
    rows = [
        Row(
            f"real, train split: {min(len(real), number)} of {len(real)}",
            REAL_COLOUR,
            tuple(real_picture(example, name, side) for example in real[:number]),
        )
    ]
    for kind in wanted:
        held = chosen[name, kind]
        shown = _one_of_each_rule(held)[:number] if kind == "rejected" else held[:number]
        rows.append(
            Row(
                f"synthetic, {kind}: {len(shown)} of {len(held)}",
                SYNTHETIC_COLOUR if kind == "accepted" else REJECTED_COLOUR,
                tuple(_picture(sample, side) for sample in shown),
            )
        )
    return Section(name, tuple(rows))


def _one_of_each_rule(samples: Sequence[PoolSample]) -> list[PoolSample]:
    """The samples in turns of one a rule, so that a short row shows every reason."""
    by_rule: dict[str, list[PoolSample]] = {}
    for sample in samples:
        by_rule.setdefault(sample.record.rule, []).append(sample)
    turns = chain.from_iterable(zip_longest(*by_rule.values()))
    return [sample for sample in turns if sample is not None]


def _picture(sample: PoolSample, side: int) -> Picture:
    record = sample.record
    words = scores_in_words(record)
    lines = [record.generator, *(", ".join(words[k : k + 2]) for k in range(0, len(words), 2))]
    if record.verdict == "rejected":
        names = [HAND] if record.rule == HAND else []
        lines = [f"x {rule}" for rule in [*names, *(v.rule for v in record.verdicts)]] + lines
    sentences = [f"{v.rule}: {v.sentence}" for v in record.verdicts]
    if record.rule == HAND:
        sentences.insert(0, f"by hand: {record.reason}")
    elif record.verdict == "accepted" and sentences:
        sentences.insert(0, "accepted by hand, although:")
    return synthetic_picture(sample.pool, record, side, lines=lines, sentences=sentences)


def scores_in_words(record: SyntheticDefect) -> list[str]:
    """A sample's scores, short enough for a caption. The seam is shown only where it was compared
    with real defects' rims."""
    return [
        form.format(record.scores[name])
        for name, form in _SHOWN
        if name in record.scores and (name != "seam" or record.scored_by)
    ]


def _notes(samples: Sequence[PoolSample]) -> list[str]:
    notes = [
        "Each picture is plain above and outlined below; all real ones are of the train split."
    ]
    extractors = sorted({s.record.scored_by for s in samples} - {""})
    if extractors:
        notes.append(
            "class: probability of the sample's own class; realism: distance to real defects of "
            "the class, 1 is what 95 % of those keep to each other; copy: distance to the nearest "
            "training image, 1 is what 95 % of the real ones keep to another; seam: step along "
            "the mask's rim, 1 is what 95 % of the real ones keep. Compared by "
            f"{', '.join(extractors)}."
        )
    notes.append(
        "contrast: change in units of the surface's noise; filled: share of the mask that "
        "changed; outside: share of the change beyond the mask."
    )
    return notes
