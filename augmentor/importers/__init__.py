"""Import a real folder: recognise its layout, check every file, split once, write it down.

`import_source` is the whole of it. Written into the project's `data/` (docs/formats.md): masks
first, then `splits.json`, `import_report.json`, and `records.jsonl` last, so that a killed import
leaves no records behind and is done again by the same command.
"""

import contextlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from augmentor.errors import ProjectError, SourceError, UsageError, disk_errors
from augmentor.importers.before import check_apart, claim, clear, known_sides, said_of_sides
from augmentor.importers.detect import choose, other_layout
from augmentor.importers.mvtec import OWN_SPLIT
from augmentor.importers.read import Progress, Reading, read_all
from augmentor.importers.report import build_report, refusal, report_before, report_done
from augmentor.importers.roi import check_roi, with_roi
from augmentor.importers.scan import (
    Tree,
    boxes_for_rectangles,
    printable,
    unusable,
    without_good,
    without_marks,
)
from augmentor.importers.similar import (
    GROUP_BY_SIMILAR,
    MOST_COMPARED,
    group_similar,
    similar_pairs,
)
from augmentor.protocols import (
    ANOMALYDIFFUSION,
    FEW_SHOT,
    RULES,
    assign_anomalydiffusion,
    check_protocol,
)
from augmentor.records_io import REPORT, SPLITS, file_facts, load_records, save_records
from augmentor.splits import assign, check_no_leak, splits_document
from generator.files import sha256_of, write_atomic, write_json
from generator.records import DefectExample, Split

VERSION = 4
"""Raised when the same folder would be read differently, so that it is read again."""

ROBOFLOW = re.compile(r"\.rf\.[0-9a-f]{32}\.\w+$")
"""How Roboflow ends the names of the copies that it makes of a photograph."""

__all__ = ["ImportOutcome", "import_source"]


@dataclass(frozen=True)
class ImportOutcome:
    """What an import led to.

    Attributes:
        records: one for each distinct usable image, with its side of the split.
        classes: defect classes in label order.
        layout: that was read, and `layout_reason`, why, in one sentence.
        report: content of `import_report.json`.
        already_done: nothing had changed since the last import, and nothing was done.
    """

    records: tuple[DefectExample, ...]
    classes: tuple[str, ...]
    layout: str
    layout_reason: str
    report: dict[str, Any]
    already_done: bool


def import_source(
    source: Path,
    data_dir: Path,
    *,
    layout: str = "auto",
    shots: int | None = None,
    seed: int = 0,
    on_bad: Literal["error", "skip"] = "error",
    group_by: str | None = None,
    val: float = 0.2,
    test: float = 0.2,
    mask_threshold: int | None = None,
    roi: Path | None = None,
    protocol: str = FEW_SHOT,
    on_progress: Progress | None = None,
) -> ImportOutcome:
    """Read a folder of real images into a project.

    Args:
        source: the folder.
        data_dir: the project's `data/`; created if missing.
        layout: `auto`, or a key of `detect.LAYOUTS`.
        shots: defect images a class to keep for training; the rest of the train side becomes
            `reserve`.
        seed: of the split.
        on_bad: `error` refuses the import if any file is bad; `skip` leaves those files out.
            Either way each is in the report.
        group_by: regular expression on the path below `source`; files whose first group (or whole
            match) agrees are never separated. Files that it doesn't match stand alone. Or the
            word `similar`: near-identical photographs are never separated (importers/similar.py).
        val, test: shares of each class.
        mask_threshold: mask values above it are defect, 0 to 254. None: `THRESHOLD`, and masks with
            areas of other greys are refused, until somebody says what those are.
        roi: where the part is (importers/roi.py): a picture for all images of its size, or a
            folder with one for each image. None: estimated.
        protocol: how it is split: `few-shot`, or one that others made (protocols.py), which has no
            use for `shots`, `test` and `group_by`.
        on_progress: called with (images done, images in all).

    Raises:
        SourceError: no such folder, nothing in it, unclear layout, bad files, bad arguments.
        UsageError: `group_by` is no regular expression.
        SplitError: shares or shots out of range, or the protocol does not go with the folder.
        DiskError: no space, or no right to write.
    """
    arguments = {
        "seed": seed, "val": val, "test": test, "shots": shots, "group_by": group_by,
    }  # fmt: skip
    check_protocol(protocol, shots=shots, group_by=group_by)
    if protocol != FEW_SHOT:
        arguments = {"seed": seed, "val": val, "protocol": protocol}
    pattern = _pattern(group_by)
    if mask_threshold is not None and not 0 <= mask_threshold <= 254:
        raise SourceError(f"--mask-threshold must be from 0 to 254, got {mask_threshold}.")
    assign([], seed=seed, val=val, test=test, shots=shots)  # refuse bad shares before the long part
    if printable(source.absolute()) != str(source.absolute()):
        raise SourceError(f"The name of {printable(source)} is no UTF-8; rename the folder.")
    check_apart(source, data_dir)
    tree = Tree(source, data_dir)
    settings: dict[str, Any] = {
        "shots": shots,
        "test": test,
        **arguments,
        "layout": layout,
        "on_bad": on_bad,
        "mask_threshold": mask_threshold,
    }
    if roi is not None:
        settings["roi"] = [[str(p), *file_facts(p).values()] for p in check_roi(roi)]
    inputs = _fingerprint(tree, settings)
    done = report_done(data_dir, inputs)
    if done is not None:
        # records whose masks or copies are gone are made again
        with contextlib.suppress(ProjectError):
            return _outcome(load_records(data_dir), done, already_done=True)
    before = report_before(data_dir)
    tree.classes_before = before.get("folder_classes", {})
    name, module, reason = choose(tree, layout)
    scan = boxes_for_rectangles(without_good(module.scan(tree)))
    scan.bad += unusable(tree)
    scan.warnings += without_marks(tree, scan)
    if tree.projects:
        names = ", ".join(tree.name(folder) for folder in tree.projects)
        scan.notes.append(f"Not read, since `augment` projects lie there: {names}.")
    with disk_errors(data_dir):
        claim(tree, data_dir)
        reading = read_all(
            scan,
            data_dir,
            mask_threshold,
            on_progress,
            skip_bad=on_bad == "skip",
            bits_before=before.get("bit_depth"),
        )
        head = {**settings, "inputs": inputs, "layout": name, "layout_reason": reason}
        if protocol != FEW_SHOT:
            scan.notes = [note for note in scan.notes if note != OWN_SPLIT]
        few = len(reading.records) <= MOST_COMPARED
        pairs = similar_pairs([reading.looks[r.id] for r in reading.records]) if few else None
        known = known_sides(data_dir, arguments, reading.notes)
        records = _split(reading, tree, arguments, pattern, pairs, known)
        reading.notes += said_of_sides(records, known)
        if roi is not None:
            records, without = with_roi(records, roi, tree.root, data_dir)
            reading.notes.append(
                f"The region of interest is {roi}; {without} images are not in it, for those the "
                "part is estimated."
            )
        report = build_report(tree, scan, reading, records, head, on_bad, pairs)
        if report["status"] != "done":
            kept = {key: before[key] for key in ("folder_classes", "bit_depth") if key in before}
            write_json(data_dir / REPORT, report | {"before": kept})
            other = "" if report["classes"] else other_layout(tree, layout)
            raise SourceError(refusal(report, data_dir / REPORT) + other)
        _write(data_dir, reading, records, arguments, report)
    return _outcome(records, report, already_done=False)


def _pattern(group_by: str | None) -> re.Pattern[str] | None:
    if group_by is None or group_by == GROUP_BY_SIMILAR:
        return None
    try:
        return re.compile(group_by)
    except re.error as fault:
        raise UsageError(
            f"--group-by {group_by!r} is not a regular expression ({fault}); write for example "
            "--group-by '^part[0-9]+'"
        ) from None


def _fingerprint(tree: Tree, settings: Mapping[str, Any]) -> str:
    """Hash of everything that an import follows from: file list with sizes and times, settings."""
    files = [[tree.name(path), *file_facts(path).values()] for path in tree.files]
    files += [[tree.name(path), *file_facts(path).values()] for path in tree.misnamed]
    return sha256_of([VERSION, str(tree.root), files, dict(settings)])


def _split(
    reading: Reading,
    tree: Tree,
    arguments: Mapping[str, Any],
    pattern: re.Pattern[str] | None,
    pairs: Sequence[tuple[int, int]] | None,
    known: Mapping[str, Split],
) -> list[DefectExample]:
    """Records with their group and side; those of `known` keep theirs."""
    if arguments.get("protocol") == ANOMALYDIFFUSION:
        return _published(reading, tree, arguments)
    # Copies of one photograph stay together whatever else does: turned, they look like no other.
    grouped = _by_original(reading)
    if pattern is not None:
        if grouped and not any(pattern.search(tree.name(r.source_path)) for r in grouped):
            raise SourceError(
                f"--group-by {pattern.pattern!r} matches no image, such as "
                f"{tree.name(grouped[0].source_path)!r}; it is searched for in the path below the "
                "source."
            )
        grouped = [_grouped(r, tree.name(r.source_path), pattern) for r in grouped]
    elif arguments["group_by"] == GROUP_BY_SIMILAR:
        if pairs is None:
            raise SourceError(
                f"--group-by {GROUP_BY_SIMILAR} compares at most {MOST_COMPARED} images, there are "
                f"{len(grouped)}; give a regular expression instead."
            )
        grouped = group_similar(grouped, pairs)
    if arguments["group_by"] is not None:
        groups = len({r.group for r in grouped} - {None})
        alone = sum(r.group is None for r in grouped)
        reading.notes.append(f"{groups} groups are kept whole; {alone} images stand alone.")
    numbers = {k: arguments[k] for k in ("seed", "val", "test", "shots")}
    sides = assign(grouped, **numbers, known=known)
    records = [r.model_copy(update={"split": sides[r.id]}) for r in grouped]
    check_no_leak(records)
    return records


def _by_original(reading: Reading) -> list[DefectExample]:
    """Records grouped by the photograph that Roboflow made them of, where it made several."""
    originals: dict[str, list[str]] = defaultdict(list)
    for record in reading.records:
        if ROBOFLOW.search(record.source_path.name):
            originals[ROBOFLOW.sub("", record.source_path.name)].append(record.id)
    groups = {i: name for name, ids in originals.items() if len(ids) > 1 for i in ids}
    if groups:
        reading.notes.append(
            f"{len(groups)} images are copies that Roboflow made of {len(set(groups.values()))} "
            "photographs; those of one stay on one side."
        )
    return [
        r.model_copy(update={"group": f"roboflow:{groups[r.id]}"}) if r.id in groups else r
        for r in reading.records
    ]


def _published(reading: Reading, tree: Tree, arguments: Mapping[str, Any]) -> list[DefectExample]:
    """Records with the side that the protocol `anomalydiffusion` gives them."""
    sides = assign_anomalydiffusion(
        reading.records, tree.images, seed=arguments["seed"], val=arguments["val"]
    )
    records = [r.model_copy(update={"split": sides[r.id]}) for r in reading.records]
    check_no_leak(records)
    reading.notes.append(f"Split by the protocol {ANOMALYDIFFUSION}: {RULES[ANOMALYDIFFUSION]}.")
    return records


def _grouped(record: DefectExample, name: str, pattern: re.Pattern[str]) -> DefectExample:
    match = pattern.search(name)
    if match is None:
        return record
    key = match.group(1) if pattern.groups else match.group(0)
    return record.model_copy(update={"group": key})


def _write(
    data_dir: Path,
    reading: Reading,
    records: list[DefectExample],
    arguments: Mapping[str, Any],
    report: dict[str, Any],
) -> None:
    """Everything but the normalised images, records last, in the place of what was there."""
    clear(data_dir, records)
    for path, mask in reading.masks.items():
        write_atomic(path, Image.fromarray(mask.astype("uint8") * 255).save)
    rule = RULES[arguments.get("protocol", FEW_SHOT)]
    write_json(data_dir / SPLITS, splits_document(records, arguments, reading.facts, rule))
    write_json(data_dir / REPORT, report)
    save_records(data_dir, records)


def _outcome(
    records: list[DefectExample], report: dict[str, Any], *, already_done: bool
) -> ImportOutcome:
    return ImportOutcome(
        records=tuple(records),
        classes=tuple(report["classes"]),
        layout=report["layout"],
        layout_reason=report["layout_reason"],
        report=report,
        already_done=already_done,
    )
