"""`import_report.json`: counts, every file that was refused with its reason, and what was decided.

Keys: `schema`, `status` (`done` or `refused`), `inputs` (hash of files and settings), `layout`,
`layout_reason`, the settings, `classes`, `images` (by label), `instances` (by class), `splits`
(by label and side), `mask_kinds`, `bad_counts` (by kind), `bad` (path, kind, reason), `duplicates`
(left out, kept), `specks`, `near_duplicates`, `other_files` (by suffix), `folder_classes` (which
class each folder means), `bit_depth` (that deep images were scaled from), `notes`, `warnings`.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from augmentor.errors import SourceError
from augmentor.importers.read import Reading
from augmentor.importers.scan import BAD_KINDS, Bad, Scan, Tree
from augmentor.importers.similar import report_similar
from augmentor.records_io import RECORDS, REPORT
from augmentor.splits import split_warnings
from generator.records import GOOD, DefectExample

LABEL_FILES = frozenset({".json", ".xml", ".txt", ".csv"})


def build_report(
    tree: Tree,
    scan: Scan,
    reading: Reading,
    records: Sequence[DefectExample],
    head: Mapping[str, Any],
    on_bad: str,
    pairs: Sequence[tuple[int, int]] | None,
) -> dict[str, Any]:
    """Content of `import_report.json`; its `status` says whether the import may go on.

    Raises:
        SourceError: there is no usable defect image at all and no bad file to blame.
    """
    images = Counter(r.label for r in records)
    instances = Counter(i.class_name for r in records for i in r.instances)
    classes = _classes(scan, records)
    warnings = split_warnings(records, val=head["val"], test=head["test"], shots=head["shots"])
    others = tree.others(scan.read)
    warnings += [*scan.warnings, *reading.warnings, *_more_warnings(tree, classes)]
    warnings += _unread(tree, others)
    near, sentences = report_similar(records, pairs, tree)
    if not reading.bad and not classes:
        raise SourceError(
            f"{tree.root} holds no defect image: all {len(records)} are read as clean; check "
            "--layout, or the names of the class folders."
        )
    refused = bool(reading.bad) and (on_bad == "error" or not classes)
    splits: dict[str, Counter[str]] = defaultdict(Counter)
    for record in records:
        splits[record.label][record.split or "none"] += 1
    return {
        "schema": 1,
        "status": "refused" if refused else "done",
        "source": str(tree.root),
        **head,
        "classes": classes,
        "images": dict(images),
        "instances": dict(instances),
        "splits": {label: dict(sides) for label, sides in splits.items()},
        "mask_kinds": dict(Counter(i.mask_kind for r in records for i in r.instances)),
        "bad_counts": dict(Counter(b.kind for b in reading.bad)),
        "bad": [_line(b, tree) for b in sorted(reading.bad, key=lambda b: b.path)],
        "duplicates": [[tree.name(a), tree.name(b)] for a, b in reading.duplicates],
        "specks": reading.specks,
        "bit_depth": reading.bits,
        "near_duplicates": near,
        "other_files": dict(Counter(path.suffix.lower() for path in others)),
        "folder_classes": scan.folder_classes,
        "notes": [*scan.notes, *reading.notes, *_more_notes(reading, records)],
        "warnings": [*warnings, *sentences],
    }


def refusal(report: Mapping[str, Any], path: Path) -> str:
    """The one sentence for a refused import: counts by kind, first files, what to type next."""
    counts = ", ".join(
        f"{n} x {BAD_KINDS[kind]}" for kind, n in sorted(report["bad_counts"].items())
    )
    first = "; ".join(f"{b['path']}: {b['reason']}" for b in report["bad"][:3])
    if report["classes"]:
        more = "mend them, or run again with --on-bad skip to leave them out"
    else:
        more = "without them no defect image is left"
    total = len(report["bad"])
    files = "1 file" if total == 1 else f"{total} files"
    return (
        f"{files} in {report['source']} can't be used ({counts}), first {first}; all of them are "
        f"listed in {path}; {more}."
    )


def report_done(data_dir: Path, inputs: str) -> dict[str, Any] | None:
    """The report of a finished import of the same inputs, if there is one."""
    report = _report_of(data_dir) if (data_dir / RECORDS).exists() else {}
    same = report.get("inputs") == inputs and report.get("status") == "done"
    return report if same else None


def report_before(data_dir: Path) -> dict[str, Any]:
    """What the last import that was finished said; {} before the first one.

    One that was refused keeps it under `before`.
    """
    report = _report_of(data_dir)
    return report if report.get("status") == "done" else report.get("before", {})


def _report_of(data_dir: Path) -> dict[str, Any]:
    try:
        report = json.loads((data_dir / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return report if isinstance(report, dict) else {}


def _classes(scan: Scan, records: Sequence[DefectExample]) -> list[str]:
    """Defect classes that occur, in the source's own order where it has one, else by name."""
    present = {i.class_name for r in records for i in r.instances}
    present |= {r.label for r in records if r.label != GOOD}
    order = [name for name in scan.classes or () if name in present]
    return order + sorted(present - set(order))


def _more_warnings(tree: Tree, classes: Sequence[str]) -> list[str]:
    warnings = []
    if tree.hidden:
        names = ", ".join(sorted(tree.name(path) for path in tree.hidden)[:6])
        more = ", …" if len(tree.hidden) > 6 else ""
        warnings.append(f"Not read, since their names begin with a dot: {names}{more}.")
    alike: dict[str, list[str]] = defaultdict(list)
    for name in classes:
        alike[name.casefold()].append(name)
    for group in alike.values():
        if len(group) > 1:
            listed = " and ".join(repr(name) for name in sorted(group))
            warnings.append(
                f"Classes {listed} differ in case alone; name them alike if they are one class."
            )
    return warnings


def _unread(tree: Tree, others: Sequence[Path]) -> list[str]:
    """A warning of files that are named like photographs and that the layout does not read."""
    stems = {(image.parent, image.stem) for image in tree.images}
    beside = [p for p in others if (p.parent, p.stem) in stems and p.suffix.lower() in LABEL_FILES]
    if not beside:
        return []
    return [
        f"{len(beside)} files named like a photograph, such as {tree.name(beside[0])}, were not "
        "read; if they hold labels, choose another --layout or export them as COCO."
    ]


def _more_notes(reading: Reading, records: Sequence[DefectExample]) -> list[str]:
    notes = []
    if reading.duplicates:
        n = len(reading.duplicates)
        notes.append(f"{n} files repeat the content of another with the same label; one was kept.")
    if reading.specks:
        notes.append(f"{reading.specks} specks of masks under 9 px were left out.")
    if reading.rescaled:
        notes.append(
            f"The labels of {reading.rescaled} images were made for another size of them and were "
            "scaled to it."
        )
    approximate = sum(i.mask_kind == "approximate" for r in records for i in r.instances)
    if approximate:
        notes.append(f"{approximate} masks were proposed from boxes and are approximate.")
    if not any(r.is_clean for r in records):
        notes.append("There is no clean image: new defects are painted beside real ones.")
    normalised = sum(r.image_path != r.source_path for r in records)
    if normalised:
        notes.append(f"{normalised} images were normalised to upright 8-bit grey or RGB copies.")
    return notes


def _line(bad: Bad, tree: Tree) -> dict[str, str]:
    return {"path": tree.name(bad.path), "kind": bad.kind, "reason": bad.reason}
