"""Reading what a layout found: each image once, with its labels, into records and bad files."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from augmentor.errors import ImageError
from augmentor.images import decode_upright, deep_bits, is_deep, stored_orientation
from augmentor.importers.instances import Marks, MaskRule, Part, marks_of
from augmentor.importers.mask_files import (
    THRESHOLD,
    Likeness,
    like_a_mask,
    mask_encoding,
    mask_levels,
)
from augmentor.importers.scan import Bad, Found, Scan
from augmentor.importers.similar import Look, look_of
from augmentor.records_io import file_facts
from generator.files import write_atomic
from generator.records import GOOD, DefectExample, Instance

Progress = Callable[[int, int], None]


@dataclass
class Reading:
    """What became of a scan's images.

    Attributes:
        records: one a distinct content, without masks on disk yet.
        masks: box-sized masks to write, by their path.
        bad: files that can't be used.
        duplicates: (left out, kept) files of identical content and label.
        facts: size and time of each record's file, by id.
        looks: of each record's image, by id.
        notes: sentences for the report; `warnings`, those that a person should see at once.
        skip_bad: see `read_all`.
        specks: parts of masks that were left out for their size.
        rescaled: images whose annotation was made for another size of them.
        bits: depth that images of more than 8 bit were scaled by; None without any.
    """

    records: list[DefectExample] = field(default_factory=list)
    masks: dict[Path, np.ndarray] = field(default_factory=dict)
    bad: list[Bad] = field(default_factory=list)
    duplicates: list[tuple[Path, Path]] = field(default_factory=list)
    facts: dict[str, dict[str, int]] = field(default_factory=dict)
    looks: dict[str, Look] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    skip_bad: bool = True
    specks: int = 0
    rescaled: int = 0
    bits: int | None = None


@dataclass(frozen=True)
class _Kept:
    record: DefectExample
    marks: Marks
    like_a_mask: Likeness
    either_way: bool
    """Its labels fit, whether they were drawn before the photograph was turned as its EXIF says, or
    after."""


def read_all(
    scan: Scan,
    data_dir: Path,
    threshold: int | None,
    on_progress: Progress | None = None,
    *,
    skip_bad: bool = True,
    bits_before: int | None = None,
) -> Reading:
    """Read every image of a scan once, decoded to the last pixel, with its labels.

    Images that other readers would not take as they are get a normalised copy in
    `data_dir/images/`; masks stay in memory until the import is known to succeed.

    Args:
        scan: what the layout found.
        data_dir: the project's `data/`.
        threshold: of masks, 0 to 254; None: `THRESHOLD`, which nobody chose.
        on_progress: called with (done, total) after each image.
        skip_bad: False where one bad file refuses the import: then no more masks are proposed
            from boxes once there is one, since nobody will use them.
        bits_before: depth that an earlier import scaled deep images by: these are scaled by it
            again, since all that was made so far rests on how they came out.
    """
    out = Reading(bad=list(scan.bad), skip_bad=skip_bad)
    rule = mask_rule(scan.found, threshold, out.notes)
    own_bits = deep_bits([f.image for f in scan.found if is_deep(f.image)])
    out.bits = bits = bits_before or _depth(own_bits, out)
    if own_bits:
        out.notes.append(f"Images of more than 8 bit were scaled from {bits} bit.")
    too_deep = {path for path, own in own_bits.items() if own > (bits or own)}
    kept: dict[str, _Kept] = {}
    conflicts: set[str] = set()
    of_pixels: dict[bytes, str] = {}
    for done, found in enumerate(scan.found, start=1):
        try:
            if found.image in too_deep:
                raise ImageError(
                    f"it holds values of {own_bits[found.image]} bit, and those imported before "
                    f"were scaled from {bits}; save it like them"
                )
            _read_one(found, rule, bits, data_dir, kept, of_pixels, conflicts, out)
        except ImageError as fault:
            out.bad.append(Bad(found.image, fault.kind, str(fault)))
        if on_progress is not None:
            on_progress(done, len(scan.found))
    for sha in conflicts:
        first = kept.pop(sha).record
        reason = "the same content also has another label or mask"
        out.bad.append(Bad(first.source_path, "conflict", reason))
    conflicts |= _refuse_masks(kept, out)
    _tell_inverted(kept.values(), out)
    _tell_either_way(kept.values(), out)
    for item in kept.values():
        out.records.append(item.record)
        out.specks += item.marks.specks
        out.rescaled += item.marks.rescaled
    _drop_masks_of(conflicts, out)
    return out


def _depth(bits: Mapping[Path, int], out: Reading) -> int | None:
    """Bit depth to scale the images of more than 8 bit by, and what to say of it."""
    if not bits:
        return None
    most = max(bits.values())
    brightest = [path for path, own in bits.items() if own == most]
    others = max((own for own in bits.values() if own < most), default=most)
    if 2 * len(brightest) < len(bits):
        out.warnings.append(
            f"{len(brightest)} of {len(bits)} images of more than 8 bit hold values of {most} bit, "
            f"such as {_short(brightest[0])}, the others of {others} at most: all are scaled from "
            f"{most}, so that the others come out up to {2 ** (most - others)} times darker; if "
            "the files are not of one depth, save them alike."
        )
    return most


def _short(path: Path) -> str:
    return "/".join(path.parts[-2:])


def _refuse_masks(kept: dict[str, _Kept], out: Reading) -> set[str]:
    """Take images that are masks by their looks out of `kept`, unless all are; say which look
    almost so. Returns the hashes of those that were taken out."""
    surely = {sha for sha, item in kept.items() if item.like_a_mask == "surely"}
    if len(surely) == len(kept):
        return set()
    almost = [k.record.source_path for k in kept.values() if k.like_a_mask == "almost"]
    if almost and len(almost) + len(surely) < len(kept):
        out.warnings.append(
            f"{len(almost)} images, such as {_short(almost[0])}, are almost black and white alone; "
            "if they are masks, put them into a folder masks beside the images', or name them like "
            "their image with _mask after it."
        )
    reason = (
        "it holds four grey levels at most, as masks do, and no photograph; if it is a mask, put "
        "it into a folder masks beside the images', or name it like its image with _mask after it"
    )
    first = {kept.pop(sha).record.source_path for sha in surely}
    twins = [pair for pair in out.duplicates if pair[1] in first]
    out.duplicates = [pair for pair in out.duplicates if pair[1] not in first]
    for path in [*first, *(copy for copy, _ in twins)]:
        out.bad.append(Bad(path, "mask_alone", reason))
    return surely


def _tell_inverted(kept: Collection[_Kept], out: Reading) -> None:
    """Warn where masks mark most of their images, as those do that are black on white."""
    exact = [k for k in kept if any(part.kind == "exact" for part in k.marks.parts)]
    wide = [k for k in exact if 2 * k.marks.area_px > k.record.width * k.record.height]
    if 2 * len(wide) > len(exact):
        out.warnings.append(
            f"In {len(wide)} of {len(exact)} images more than half is marked as defect, such as "
            f"{_short(wide[0].record.source_path)}; if their masks are black on white, invert them."
        )


def _tell_either_way(kept: Collection[_Kept], out: Reading) -> None:
    """Warn of photographs whose labels could have been drawn before they were turned, or after."""
    turned = [item.record.source_path for item in kept if item.either_way]
    if turned:
        out.warnings.append(
            f"{len(turned)} labelled images, such as {_short(turned[0])}, are turned or mirrored "
            "by their EXIF orientation in a way that keeps their size, so that nothing tells "
            "whether their labels were drawn before or after; they are taken as drawn on the "
            "upright picture. After the first build, look at some of them with: augment review"
        )


def _fits_either_way(found: Found, data: bytes, size_wh: tuple[int, int]) -> bool:
    """See `_Kept.either_way`; `data` are the bytes of a file with an orientation or none."""
    orientation = stored_orientation(data, found.image)
    on_its_side = orientation >= 5
    size_tells = size_wh[0] != size_wh[1] and not found.normalised
    return orientation > 1 and not (on_its_side and size_tells)


def mask_rule(found: Sequence[Found], chosen: int | None, notes: list[str]) -> MaskRule:
    """Decide for a whole set how its masks are read, and say so in `notes`; `chosen` is the
    threshold, None where nobody chose one."""
    threshold, given = THRESHOLD if chosen is None else chosen, chosen is not None
    with_masks = [f for f in found if f.masks]
    files = [mask for f in with_masks if f.label != GOOD for mask in f.masks]
    encoding = mask_encoding(files, threshold)
    if not files:
        return MaskRule(threshold, given=given)
    if encoding == "binary":
        notes.append(f"Mask values above {threshold} are defect, the others background.")
        return MaskRule(threshold, given=given)
    notes.append(
        f"No mask has a value above {threshold}, so mask values are read as class numbers."
    )
    names = _index_names([f for f in with_masks if f.label != GOOD], notes)
    return MaskRule(threshold, encoding, names)


def _index_names(found: Sequence[Found], notes: list[str]) -> dict[tuple[str, int], str]:
    """Class of each (folder's class, mask value); the folder's is '' where none names one.

    Without folders of classes each value is a class, `class_<value>`, if there are several. Else a
    value alone in a mask is of that mask's folder. Where a mask has several, a value is of the
    mask's own folder if it also stands alone there, else of the folder where it most often stands
    alone, else it is a class of its own, `<folder>_<value>`.
    """
    alone: dict[int, Counter[str]] = defaultdict(Counter)
    together: set[tuple[str, int]] = set()
    for item in found:
        label = item.label or ""
        values: set[int] = set()
        for path in item.masks:
            try:
                values |= set(mask_levels(path))
            except ImageError:
                continue  # reported when the image is read
        if len(values) == 1:
            alone[values.pop()][label] += 1
        else:
            together |= {(label, value) for value in values}
    own = sorted({v for v in alone if alone[v][""]} | {v for label, v in together if not label})
    unnamed = {("", value): f"class_{value}" for value in own if len(own) > 1}
    if unnamed:
        notes.append(
            f"No folder names a class, so each mask value is one: {', '.join(unnamed.values())}."
        )
    names = {}
    for label, value in sorted(together):
        if not label:
            continue
        votes = alone[value]
        if label in votes:
            names[label, value] = label
        elif votes:
            names[label, value] = min(votes, key=lambda n: (-votes[n], n))
        else:
            names[label, value] = f"{label}_{value}"
    for (label, value), name in names.items():
        notes.append(f"In masks of {label!r} with several values, {value} is read as {name!r}.")
    return names | unnamed


def _read_one(
    found: Found,
    rule: MaskRule,
    bits: int | None,
    data_dir: Path,
    kept: dict[str, _Kept],
    of_pixels: dict[bytes, str],
    conflicts: set[str],
    out: Reading,
) -> None:
    try:
        data = found.image.read_bytes()
    except OSError as fault:
        raise ImageError(f"it can't be read: {fault.strerror}") from None
    sha = hashlib.sha256(data).hexdigest()
    if sha in kept:
        first = kept[sha].record
        marks = marks_of(found, (first.width, first.height), rule)
        if marks.key() == kept[sha].marks.key():
            out.duplicates.append((found.image, first.source_path))
        else:
            conflicts.add(sha)
            other = f"the same content as {first.source_path}, which has another label or mask"
            out.bad.append(Bad(found.image, "conflict", other))
        return
    pixels, grey, changed = decode_upright(data, found.image, bits)
    height, width = pixels.shape[:2]
    marks = marks_of(found, (width, height), rule)
    same = hashlib.sha256(str(pixels.shape).encode() + pixels.tobytes()).digest()
    twin = kept.get(of_pixels.setdefault(same, sha))
    if twin is not None:
        if marks.key() == twin.marks.key():
            out.duplicates.append((found.image, twin.record.source_path))
            return
        conflicts.add(twin.record.sha256)
        other = f"the same pixels as {twin.record.source_path}, which has another label or mask"
        raise ImageError(other, "conflict")
    image_id = sha[:16]
    image_path = found.image
    if changed:
        image_path = data_dir / "images" / f"{image_id}.png"
        saved = Image.fromarray(pixels[..., 0] if grey else pixels)
        write_atomic(image_path, lambda temporary: saved.save(temporary, compress_level=3))
    kept[sha] = _Kept(
        DefectExample(
            id=image_id,
            sha256=sha,
            image_path=image_path,
            source_path=found.image,
            width=width,
            height=height,
            grey=grey,
            label=marks.label,
            instances=_instances(marks.parts, pixels, data_dir / "masks" / image_id, out),
        ),
        marks,
        like_a_mask(pixels),
        either_way=changed and bool(marks.parts) and _fits_either_way(found, data, (width, height)),
    )
    out.facts[image_id] = file_facts(found.image)
    out.looks[image_id] = look_of(pixels)


def _instances(
    parts: Sequence[Part], pixels: np.ndarray, folder: Path, out: Reading
) -> tuple[Instance, ...]:
    """Instances of one image; a bare box gets a proposed mask, marked approximate."""
    instances = []
    for number, part in enumerate(parts):
        mask, kind = part.mask, part.kind
        if mask is None and (out.skip_bad or not out.bad):
            from generator.box_masks import propose_mask

            mask, kind = propose_mask(pixels, part.box_xyxy), "approximate"
        path = folder / f"{number}.png"
        if mask is not None:
            out.masks[path] = mask
        instances.append(
            Instance(
                class_name=part.class_name,
                box_xyxy=part.box_xyxy,
                mask_path=None if mask is None else path,
                mask_kind=kind,
            )
        )
    return tuple(instances)


def _drop_masks_of(shas: set[str], out: Reading) -> None:
    ids = {sha[:16] for sha in shas}
    out.masks = {path: mask for path, mask in out.masks.items() if path.parent.name not in ids}
