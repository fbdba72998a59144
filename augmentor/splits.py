"""The one split of a project: deterministic, stratified, grouped, by content.

Rule, in full. A unit is a group (`DefectExample.group`) or, without one, a single image; identical
content is one unit by construction (an id is a content hash). Units are ordered by the hash of
(seed, unit), never by file name or listing order, and belong to the class that most of their
images count for: of several classes that an image shows that which the fewest images show, so that
a rare one that only comes with others is on every side, too. Each class, the clean one included,
fills test, then val, then train, to the nearest unit of its share; a class of three units or more
has at least one on every side that is asked for; of two units one is trained on and one tested; a
single one is trained on. With `shots`, each defect class keeps K images of its train side, one of
each unit in that same order, then a second of each, and so on; K = 5 is a subset of K = 12. The
rest is put aside as `reserve`, which is only ever trained on too, so a group may reach from train
into reserve and nowhere else.

Photographs that were split before keep their side, and new ones fill up the shares; a group that
new ones join together from several sides goes whole to the first of test, val and train.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from augmentor.errors import LeakError, SplitError
from generator.files import sha256_of
from generator.records import GOOD, DefectExample, Split

RULE = "sha256(seed, group or content), stratified by class, groups kept whole"


def assign(
    records: Sequence[DefectExample],
    *,
    seed: int,
    val: float,
    test: float,
    shots: int | None = None,
    known: Mapping[str, Split] | None = None,
) -> dict[str, Split]:
    """Give every record its side, by the rule at the top of this file.

    Args:
        records: with unique ids, in any order; only id, sha256, group and classes count.
        seed: of the order.
        val, test: shares of the images of each class, 0 to 1, together below 1.
        shots: defect images a class kept for training, at least 1; None: all.
        known: sides that an earlier split with the same arguments gave, by id.

    Returns:
        Side by id, for every record.

    Raises:
        SplitError: shares or shots out of range.
    """
    _check_arguments(val, test, shots)
    known = known or {}
    units: dict[str, list[DefectExample]] = defaultdict(list)
    for record in records:
        units[_unit(record)].append(record)
    counted = counted_for(records)
    by_class: dict[str, list[str]] = defaultdict(list)
    ordered = sorted(units, key=lambda name: sha256_of([seed, name]))
    for name in ordered:
        by_class[_majority([counted[record.id] for record in units[name]])].append(name)
    sides: dict[str, Split] = {}
    for names in by_class.values():
        sizes = [len(units[name]) for name in names]
        before = [_side_before(units[name], known) for name in names]
        for name, side in zip(names, _fill(sizes, before, val, test), strict=True):
            sides.update({record.id: side for record in units[name]})
    if shots is not None:
        kept = frozenset(name for name, side in known.items() if side == "train")
        for label in set(counted.values()) - {GOOD}:
            own = [[r for r in units[n] if counted[r.id] == label] for n in ordered]
            sides.update(_put_aside(own, sides, kept, shots))
    return sides


def counted_for(records: Sequence[DefectExample]) -> dict[str, str]:
    """The class that each image counts for where it is split, by id: of those that it shows that
    which the fewest images show, then the first by name."""
    shown = {record.id: shown_classes(record) for record in records}
    images = Counter(name for names in shown.values() for name in names)
    return {key: min(names, key=lambda n: (images[n], n)) for key, names in shown.items()}


def shown_classes(record: DefectExample) -> set[str]:
    """The classes of an image's defects, or its label where it has none."""
    return {instance.class_name for instance in record.instances} or {record.label}


def shot_order(records: Sequence[DefectExample], label: str, *, seed: int) -> list[str]:
    """Ids of the images in `train` and `reserve` that count for a class, in the order in which
    shots are kept.

    Its first K are what `shots=K` keeps, so that fewer of them are always a part of more.

    Args:
        records: of all sides.
        label: a defect class.
        seed: of the split.
    """
    units: dict[str, list[DefectExample]] = defaultdict(list)
    for record in records:
        units[_unit(record)].append(record)
    counted = counted_for(records)
    ordered = sorted(units, key=lambda name: sha256_of([seed, name]))
    own = [[r for r in units[name] if counted[r.id] == label] for name in ordered]
    sides = {r.id: "train" if r.split == "reserve" else r.split for r in records}
    kept = frozenset(r.id for r in records if r.split == "train")
    return _ranked(own, sides, kept)


def check_no_leak(records: Iterable[DefectExample]) -> None:
    """Refuse records of which one content or one group stands on two sides.

    Raises:
        LeakError: with the files and their sides; also for a record without a side.
    """
    seen: dict[tuple[str, str], DefectExample] = {}
    for record in records:
        if record.split is None:
            raise LeakError(f"{record.source_path} has no side; run: augment import")
        keys = [("content", record.sha256)]
        if record.group is not None:
            keys.append(("group", record.group))
        for kind, value in keys:
            first = seen.setdefault((kind, value), record)
            both_trained = kind == "group" and {first.split, record.split} == {"train", "reserve"}
            if first.split != record.split and not both_trained:
                what = "the same content" if kind == "content" else f"the same group ({value})"
                raise LeakError(
                    f"{first.source_path} ({first.split}) and {record.source_path} "
                    f"({record.split}) are {what} on two sides of the split; run augment import "
                    "again."
                )


def split_warnings(
    records: Sequence[DefectExample], *, val: float, test: float, shots: int | None = None
) -> list[str]:
    """Sentences on classes that no image of a side shows, or that have other than K shots."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    trained: Counter[str] = Counter()
    counted = counted_for(records)
    for record in records:
        for name in shown_classes(record):
            counts[name][record.split or "none"] += 1
        trained[counted[record.id]] += record.split == "train"
    wanted = ["train", *(["val"] if val > 0 else []), *(["test"] if test > 0 else [])]
    sentences = []
    for label, sides in sorted(counts.items()):
        missing = [side for side in wanted if not sides[side]]
        if missing:
            n = sum(sides.values())
            sentences.append(
                f"Class {label!r} ({n} image{'s' if n != 1 else ''}) has none in "
                f"{' and '.join(missing)}."
            )
        if shots is not None and label != GOOD and 0 < trained[label] != shots:
            sentences.append(
                f"Class {label!r} trains on {trained[label]} images instead of {shots}."
            )
    return sentences


def splits_document(
    records: Iterable[DefectExample],
    arguments: Mapping[str, Any],
    files: Mapping[str, Any],
    rule: str = RULE,
) -> dict[str, Any]:
    """Content of `splits.json`: seed, rule, and the hash and side of every file.

    Args:
        records: with sides.
        arguments: those that the sides follow from, such as seed, val, test, shots, group_by.
        files: by id, more about a record's file (size and time), kept beside its hash.
        rule: how the sides follow from them, in words.
    """
    return {
        "schema": 1,
        "rule": rule,
        **arguments,
        "files": [
            {
                "id": record.id,
                "sha256": record.sha256,
                "path": str(record.source_path),
                "group": record.group,
                "label": record.label,
                "split": record.split,
                **files.get(record.id, {}),
            }
            for record in records
        ],
    }


def _check_arguments(val: float, test: float, shots: int | None) -> None:
    if not (0 <= val < 1 and 0 <= test < 1 and val + test < 1):
        raise SplitError(
            f"val and test are shares from 0 to 1 that leave something to train on, got "
            f"val={val}, test={test}; try --val 0.2 --test 0.2."
        )
    if shots is not None and shots < 1:
        raise SplitError(f"--shots must be at least 1, got {shots}; leave it out to keep all.")


def _unit(record: DefectExample) -> str:
    return f"group:{record.group}" if record.group is not None else f"content:{record.sha256}"


def _majority(classes: Sequence[str]) -> str:
    """The commonest class of a unit's images; of equals a defect before good, then the first by
    name."""
    counts = Counter(classes)
    return min(counts, key=lambda label: (-counts[label], label == GOOD, label))


def _side_before(unit: Sequence[DefectExample], known: Mapping[str, Split]) -> Split | None:
    """The side that a unit had; of several the one that was trained on least, so that nothing is
    trained on beside what it was tested on."""
    sides = {known[record.id] for record in unit if record.id in known}
    order: tuple[Split, ...] = ("test", "val", "train")
    return next((side for side in order if side in sides), "train" if sides else None)


def _fill(
    sizes: Sequence[int], before: Sequence[Split | None], val: float, test: float
) -> list[Split]:
    """Sides for units of the given sizes, in order; those that had one keep it."""
    total = sum(sizes)
    free = [unit for unit, side in enumerate(before) if side is None]
    sides: list[Split] = [side or "train" for side in before]
    wanted: list[tuple[Split, float]] = [("test", test), ("val", val)]
    wanted = [(side, share) for side, share in wanted if share > 0]
    if len(sizes) == 1:
        return sides
    if len(sizes) == 2:
        wanted = wanted[:1]
    for position, (side, share) in enumerate(wanted):
        target = share * total
        filled = sum(size for size, had in zip(sizes, before, strict=True) if had == side)
        # one unit each for the sides still to come, and for train
        to_come = {"train", *(later for later, _ in wanted[position + 1 :])}
        keep = len(to_come - set(before))
        for unit in list(free):
            if len(free) <= keep or filled + sizes[unit] / 2 > target:
                continue
            sides[unit], filled = side, filled + sizes[unit]
            free.remove(unit)
        if not filled and len(free) > keep:
            smallest = min(free, key=lambda unit: sizes[unit])
            sides[smallest] = side
            free.remove(smallest)
    return sides


def _put_aside(
    units: Iterable[Sequence[DefectExample]],
    sides: Mapping[str, Split],
    kept: frozenset[str],
    shots: int,
) -> dict[str, Split]:
    """Images of a class's train side beyond `shots`."""
    return dict.fromkeys(_ranked(units, sides, kept)[shots:], "reserve")


def _ranked(
    units: Iterable[Sequence[DefectExample]],
    sides: Mapping[str, str | None],
    kept: frozenset[str],
) -> list[str]:
    """Images of the train side, those in `kept` first, counted in rounds over the units (of one
    class each), so that few shots show as many different parts as they can."""
    ranked = []
    for place, unit in enumerate(units):
        trained = [r for r in unit if sides[r.id] == "train"]
        trained.sort(key=lambda record: record.id)
        ranked += [(r.id not in kept, turn, place, r.id) for turn, r in enumerate(trained)]
    return [record_id for *_, record_id in sorted(ranked)]
