"""The names that people give folders and files: which mean clean, which name a class."""

import itertools
import re
from collections.abc import Iterable

from generator.records import GOOD


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


GOOD_WORDS = _words("good ok okay normal free clean pass passed perfect nondefective defectfree")
_NEGATIONS = _words("not no non un")
_NOTHING_WRONG = _words(
    "defect defects defective anomaly anomalies anomalous fault faults damage flaw flaws"
)
SPLIT_FOLDERS = _words("train training trainval val valid validation test testing")
IMAGE_FOLDERS = _words(
    "images image imgs img jpegimages jpgimages pictures photos raw jpg jpeg png bmp data dataset "
    "defect_images originals original input inputs source src"
)
MASK_FOLDERS = _words(
    "masks mask gt gts ground_truth groundtruth ground_truths label labels annotation annotations "
    "annots seg segs segmentation segmentations segmentationclass mask_images labelled "
    "labels_png targets target"
)
MASK_MARKS = _words(
    "mask masks gt label labels seg segm segmentation annotation anno truth groundtruth "
    "ground_truth bin binary defect gtmask maskgt"
)


def is_good(name: str) -> bool:
    """Whether a folder or class name means 'no defect': a word such as good, ok, normal, free,
    clean stands in it whole and isn't negated, or it says no, non or without a defect.

    >>> [is_good(n) for n in ("MT_Free", "defect-free", "no_defect", "OK", "not_ok", "freezing")]
    [True, True, True, True, False, False]
    """
    split = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = [w for w in re.split(r"[^a-z0-9]+", split.lower()) if w]
    for before, word in zip(["", *words], words, strict=False):
        if word in GOOD_WORDS and before not in _NEGATIONS:
            return True
        if word in _NOTHING_WRONG and before in (_NEGATIONS - {"not"}) | {"without"}:
            return True
    return "".join(words) in ("nodefect", "nodefects", "undamaged", "flawless", "nondefective")


def name_fault(name: object) -> str | None:
    """Why something that an annotation file gives as the name of a class can't be one, if so.

    >>> name_fault("hole"), name_fault(7)
    (None, None)
    >>> name_fault(" ")
    'is empty'
    """
    if isinstance(name, bool) or not isinstance(name, str | int | float):
        return f"is {name!r}, which is no text; put it in quotes"
    if not str(name).strip():
        return "is empty"
    if not str(name).isprintable():
        return f"is {name!r}, with a line break or another character that can't be printed"
    if str(name) != str(name).strip():
        return f"is {name!r}, with blanks around it"
    return None


def class_folder(folders: Iterable[str]) -> str | None:
    """The nearest folder that names a class: not `Imgs`, `train`, `masks` and the like."""
    for name in reversed(list(folders)):
        if name.lower() not in SPLIT_FOLDERS | IMAGE_FOLDERS | MASK_FOLDERS:
            return name
    return None


def class_names(folders: Iterable[str]) -> tuple[dict[str, str], list[str]]:
    """Class by folder name: `good` for the clean ones, else the name without the prefix that all
    class folders share up to a separator (`MT_Blowhole`, `MT_Free` give `Blowhole`, `good`).

    Returns:
        The map, and a sentence for the report on each thing that was decided.
    """
    names = sorted(set(folders))
    prefix = _shared_prefix(names)
    out = {n: GOOD if is_good(n) else n[len(prefix) :] for n in names}
    notes = []
    if prefix:
        notes.append(f"The prefix {prefix!r}, which all class folders share, was removed.")
    clean = [n for n in names if out[n] == GOOD and n != GOOD]
    if clean:
        notes.append(f"Read as clean, without defects: {', '.join(clean)}.")
    return out, notes


def _shared_prefix(names: list[str]) -> str:
    if len(names) < 2:
        return ""
    same = (len(set(letters)) == 1 for letters in zip(*names, strict=False))
    shared = names[0][: sum(itertools.takewhile(bool, same))]
    cut = max(shared.rfind(mark) for mark in "_- .") + 1
    return shared[:cut] if all(len(name) > cut for name in names) else ""
