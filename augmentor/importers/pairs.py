"""`pairs`: an image and its mask side by side, or in sibling folders.

`MT_<class>/Imgs/<id>.jpg` with `<id>.png` beside it; `images/a.png` with `masks/a_mask.png`; any
suffix or prefix, as long as a separator sets it off. Masks of one image may be numbered
(`a_mask_1.png`, `a_mask_2.png`), and are then one instance each. The class is the nearest folder
that names one; without any, everything is of the one class `defect`, and an empty mask means clean.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from augmentor.errors import ImageError
from augmentor.images import read_upright
from augmentor.importers.names import (
    IMAGE_FOLDERS,
    MASK_FOLDERS,
    MASK_MARKS,
    class_folder,
    class_folders,
    class_names,
    is_good,
)
from augmentor.importers.scan import Bad, Found, Scan, Tree
from generator.records import GOOD

NAME = "pairs"
ONLY_CLASS = "defect"

_MASK_FIRST = {".png": 0, ".gif": 1, ".bmp": 2, ".tif": 3, ".tiff": 3}
_NO_PROOF = frozenset({"defect", "label", "labels", "bin"})
"""Marks that photographs have, too: the files must also look like masks."""
_NUMBER = re.compile(r"[_\-. ]?\d+$")
Pairs = dict[Path, tuple[Path, ...]]


def recognise(tree: Tree, least_share: float = 0.5) -> str | None:
    """A share of the images that aren't in a clean folder has masks."""
    pairs, _ = find_pairs(tree, tree.images)
    defects = [i for i in pairs if not is_good(class_folder(tree.folders_of(i)) or "")]
    paired = [i for i in defects if pairs[i]]
    if not paired or len(paired) < least_share * len(defects):
        return None
    image = paired[0]
    return (
        f"{len(paired)} of {len(defects)} images have a mask of their own name, such as "
        f"{tree.name(pairs[image][0])} for {tree.name(image)}"
    )


def scan(tree: Tree) -> Scan:
    """Find images, masks and classes; see the top of this file."""
    pairs, orphans = find_pairs(tree, tree.images)
    return from_pairs(tree, pairs, orphans)


def from_pairs(tree: Tree, pairs: Pairs, orphans: Sequence[Path]) -> Scan:
    """A scan from images and their masks, classes by folder."""
    out = Scan()
    named = class_folders({image: tree.folders_of(image) for image in pairs})
    folders, out.warnings = named.of, named.warnings
    used = (name for name in folders.values() if name is not None)
    names, notes = class_names(used, tree.classes_before)
    out.notes, out.folder_classes = named.notes + notes, names
    numbered = 0
    if not names:
        out.notes.append(f"No folder names a class, so every defect is of class {ONLY_CLASS!r}.")
    for image, masks in pairs.items():
        folder = folders[image]
        label = names[folder] if folder is not None else None
        if label is None and names:
            out.bad.append(Bad(image, "no_class", "it lies in no class folder"))
        elif not masks and label != GOOD:
            out.bad.append(Bad(image, "no_mask", "no mask of its name was found"))
        else:
            one_each = tuple(mask for mask in masks if _is_numbered(image, mask))
            numbered += bool(one_each)
            out.found.append(Found(image, label, masks, one_each))
    if numbered:
        out.notes.append(
            f"Of {numbered} images the masks are numbered; each of them is one instance."
        )
    out.bad += [Bad(mask, "no_image", "no image of its name was found") for mask in orphans]
    return out


def find_pairs(tree: Tree, files: Sequence[Path]) -> tuple[Pairs, list[Path]]:
    """Sort image files into images and masks.

    Returns:
        Masks by image (empty where it has none), and masks without an image.
    """
    masks = {f for f in files if _in_mask_folder(tree, f)}
    masks |= _same_stem_masks([f for f in files if f not in masks])
    masks |= _suffixed_masks([f for f in files if f not in masks])
    images = [f for f in files if f not in masks]
    exact = {(_place(tree, image), image.stem): image for image in images}
    loose: dict[tuple[tuple[str, ...], str], list[Path]] = defaultdict(list)
    by_stem: dict[str, list[Path]] = defaultdict(list)
    for image in images:
        loose[_lower(_place(tree, image)), image.stem].append(image)
        by_stem[image.stem].append(image)
    taken: dict[Path, list[Path]] = {image: [] for image in images}
    orphans = []
    class_of = {file: class_folder(tree.folders_of(file)) for file in files}
    classes = {class_of[image] for image in images} - {None}
    for mask in sorted(masks):
        place = _place(tree, mask)
        for stem in _base_stems(mask.stem):
            near = exact.get((place, stem))
            # folders in another case, or masks in one folder for all, but of no other class
            alike = [loose[_lower(place), stem]]
            alike += [by_stem[stem]] if _in_mask_folder(tree, mask) else []
            if class_of[mask] in classes:
                alike = [[i for i in found if class_of[i] == class_of[mask]] for found in alike]
            near = near or next((found[0] for found in alike if len(found) == 1), None)
            if near is not None:
                taken[near].append(mask)
                break
        else:
            orphans.append(mask)
    pairs = {}
    for image, own in taken.items():
        # beside the mask of an image's very name, a longer name is that of another image
        same = any(mask.stem == image.stem for mask in own)
        pairs[image] = tuple(m for m in own if not same or m.stem == image.stem)
        orphans += [mask for mask in own if mask not in pairs[image]]
    return pairs, sorted(orphans)


def _is_numbered(image: Path, mask: Path) -> bool:
    """Whether a mask's name is its image's, maybe a mark, and a number."""
    rest = mask.stem.removeprefix(image.stem)
    return rest != mask.stem and _NUMBER.search(rest) is not None


def _in_mask_folder(tree: Tree, path: Path) -> bool:
    return any(name.lower() in MASK_FOLDERS for name in tree.folders_of(path))


def _place(tree: Tree, path: Path) -> tuple[str, ...]:
    """Folders of a file without those that only tell images from masks."""
    generic = MASK_FOLDERS | IMAGE_FOLDERS
    return tuple(n for n in tree.folders_of(path) if n.lower() not in generic)


def _lower(place: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name.lower() for name in place)


def _same_stem_masks(files: Sequence[Path]) -> set[Path]:
    """Of files that differ in their suffix alone, the one in the more mask-like format."""
    groups: dict[Path, list[Path]] = defaultdict(list)
    for file in files:
        groups[file.with_suffix("")].append(file)
    masks = {
        min(group, key=lambda f: (_MASK_FIRST.get(f.suffix.lower(), 9), f.suffix))
        for group in groups.values()
        if len(group) == 2
    }
    return masks if _look_like_masks(sorted(masks)) else set()


def _suffixed_masks(files: Sequence[Path]) -> set[Path]:
    """Files named after another one in their folder plus a mark, maybe with a number: a known
    mark, or one word that at least half of the folder's other files carry and whose files look
    like masks."""
    by_folder: dict[Path, list[Path]] = defaultdict(list)
    for file in files:
        by_folder[file.parent].append(file)
    masks, unsure = set(), defaultdict(set)
    for group in by_folder.values():
        stems = {file.stem for file in group}
        marks = {file: mark for file in group if (mark := _mark_of(file.stem, stems))}
        counts = Counter(marks.values())
        for file, mark in marks.items():
            common = mark.isalpha() and 2 * counts[mark] >= len(group) - counts[mark]
            if mark in MASK_MARKS - _NO_PROOF:
                masks.add(file)
            elif mark in _NO_PROOF or (common and counts[mark] > 1):
                unsure[mark].add(file)
    for files_of_mark in unsure.values():
        if _look_like_masks(sorted(files_of_mark)):
            masks |= files_of_mark
    return masks


def _mark_of(stem: str, stems: set[str]) -> str:
    """What a stem adds to one of the others, without its number; a known mark before others."""
    found = [_NUMBER.sub("", mark) for base, mark in _splits(stem) if base in stems]
    return next((mark for mark in found if mark in MASK_MARKS), found[0] if found else "")


def _look_like_masks(files: Sequence[Path]) -> bool:
    """Whether most of up to 8 of the files are black and white, or of few values: the same
    photograph in two formats, or a second view of a part, is no mask."""
    votes = []
    for path in files[:: max(1, len(files) // 8)]:
        try:
            values = read_upright(path)[0].max(axis=2)
        except ImageError:
            continue  # reported where it is read for good
        extreme = ((values < 16) | (values > 239)).mean()
        votes.append(extreme > 0.9 or len(np.unique(values)) <= 32)
    return not votes or 2 * sum(votes) > len(votes)


def _base_stems(stem: str) -> list[str]:
    """Stems that the image of a mask may have, likeliest first."""
    return [stem, *(base for base, _ in _splits(stem))]


def _splits(stem: str) -> list[tuple[str, str]]:
    """A stem without its last or first words, and what was taken off; shortest cut first."""
    cuts = [match.start() for match in re.finditer(r"[_\-. ]", stem)]
    out = [(stem[:cut], stem[cut + 1 :].lower()) for cut in reversed(cuts)]
    out += [(stem[cut + 1 :], stem[:cut].lower()) for cut in cuts]
    return [(base, mark) for base, mark in out if base]
