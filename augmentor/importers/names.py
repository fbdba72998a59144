"""The names that people give folders and files: which mean clean, which name a class."""

import itertools
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

from generator.records import GOOD


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


GOOD_WORDS = _words("good ok okay normal free clean pass passed perfect nondefective defectfree")
_ONLY_LAST = _words("free pass")
"""Good words that say so at the end alone, or before 'of', 'from' or a number: `MT_Free` is good,
`free_edge` isn't."""
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


_PLACE = re.compile(
    r"((cam|camera|kamera|batch|lot|charge|shift|day|week|kw|run|session|station)[-_. ]?)?"
    r"\d([-_. \d]|[tw](?=\d))*",
    re.IGNORECASE,
)


def is_place(name: str) -> bool:
    """Whether a folder's name says when, where or in which lot photographs were taken: a date, a
    number, a camera and the like with its number.

    >>> [is_place(n) for n in ("2024-05-01", "cam1", "Batch_07", "3", "line1", "hole 2")]
    [True, True, True, True, False, False]
    """
    return _PLACE.fullmatch(name) is not None


def is_good(name: str) -> bool:
    """Whether a folder or class name means 'no defect': a word such as good, ok, normal, free,
    clean stands in it whole and isn't negated, or it says no, non or without a defect.

    >>> [is_good(n) for n in ("MT_Free", "defect-free", "no_defect", "OK", "not_ok", "free_edge")]
    [True, True, True, True, False, False]
    """
    words = _words_of(name)
    for before, word, after in zip(["", *words], words, [*words[1:], ""], strict=False):
        last = after in ("", "of", "from") or after.isdecimal()
        if word in GOOD_WORDS and before not in _NEGATIONS and (last or word not in _ONLY_LAST):
            return True
        if word in _NOTHING_WRONG and before in (_NEGATIONS - {"not"}) | {"without"}:
            return True
    return "".join(words) in ("nodefect", "nodefects", "undamaged", "flawless", "nondefective")


def _words_of(name: str) -> list[str]:
    split = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return [word for word in re.split(r"[^a-z0-9]+", split.lower()) if word]


def oddly_good(names: Iterable[str], what: str = "folder") -> list[str]:
    """A warning for each name, of a `what`, that means 'no defect' but goes on after the word that
    says so."""
    neutral = GOOD_WORDS | _NOTHING_WRONG | {"of", "from"}
    odd = []
    for name in sorted(set(names)):
        words = [word for word in _words_of(name) if not word.isdecimal()]
        if is_good(name) and words and words[-1] not in neutral and words[0] not in _NEGATIONS:
            odd.append(name)
    return [
        f"The {what} {name!r} is read as clean, without defects; rename it if it isn't."
        for name in odd
    ]


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
    """The nearest folder that names a class: not `Imgs`, `train`, `masks` and the like, and no
    place or date (`is_place`) where another one does."""
    named = _named(folders)
    return next((n for n in reversed(named) if not is_place(n)), named[-1] if named else None)


def may_lie_in(root: Path, path: Path, stated: Path, named: Set[str]) -> bool:
    """Whether a file can be the one that an annotation states, which is not where it says: their
    folders are of one name, or one of the two names no line, lot or class, or no annotation speaks
    of the file's folder, so that it can be the stated one under a new name.

    Args:
        root: of the source.
        path: of the file.
        stated: by the annotation.
        named: folders that annotations speak of, `folder_name` of each.

    >>> may_lie_in(Path("/p"), Path("/p/images/5.png"), Path("D:/lineB/5.png"), {"lineb"})
    True
    >>> may_lie_in(Path("/p"), Path("/p/lineA/5.png"), Path("lineB/5.png"), {"linea", "lineb"})
    False
    """
    generic = SPLIT_FOLDERS | IMAGE_FOLDERS | MASK_FOLDERS
    here = "" if path.parent == root else folder_name(path)
    there = folder_name(stated)
    return (
        here == there
        or not here
        or not there
        or bool({here, there} & generic)
        or (here not in named)
    )


def folder_name(path: Path) -> str:
    """The name of a file's folder, in lower case."""
    return path.parent.name.lower()


@dataclass
class ClassFolders:
    """Which folder names each image's class (None: no one does), and what to say about it."""

    of: dict[Path, str | None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def class_folders(folders_of: Mapping[Path, Sequence[str]]) -> ClassFolders:
    """For each image the folder that names its class, as in `class_folder`, where the folders that
    all of them share (`dataset_a/0`, `dataset_a/1`) name none if what is below does.

    Args:
        folders_of: names of the folders from the source down to each image.
    """
    out = ClassFolders()
    named = {image: _named(folders) for image, folders in folders_of.items()}
    shared = len(_shared_start([names for names in named.values() if names]))
    below: set[str] = set()
    above: set[str] = set()
    for image, names in named.items():
        own = names[shared:] or names[-1:]
        known = [k for k, name in enumerate(own) if not is_place(name)]
        number = bool(own) and own[-1].isdecimal() and len(own[-1]) < 4
        if known or number or not own:
            at = known[-1] if known else len(own) - 1
            out.of[image] = own[at] if own else None
            below.update(own[at + 1 :])
            above.update(name for name in own[:at] if not is_place(name))
        else:
            out.of[image] = class_folder(names)
            below.update(own if out.of[image] not in own else ())
    if below:
        out.notes.append(
            f"The folders {_listed(below)} name no class but a date, place or number: the folders "
            "above them do."
        )
    if above:
        out.warnings.append(
            f"Classes are read from the nearest folders; the folders above them, {_listed(above)}, "
            "were not read as classes: if those are the classes, move the others out."
        )
    numbers = {name for name in out.of.values() if name is not None and is_place(name)}
    if numbers:
        out.warnings.append(f"Read as classes, since nothing else names one: {_listed(numbers)}.")
    out.warnings += oddly_good(name for name in out.of.values() if name is not None)
    return out


def _named(folders: Iterable[str]) -> list[str]:
    generic = SPLIT_FOLDERS | IMAGE_FOLDERS | MASK_FOLDERS
    return [name for name in folders if name.lower() not in generic]


def _shared_start(paths: Sequence[Sequence[str]]) -> list[str]:
    columns = itertools.takewhile(lambda names: len(set(names)) == 1, zip(*paths, strict=False))
    return [names[0] for names in columns]


def _listed(names: Iterable[str]) -> str:
    shown = sorted(names)
    return ", ".join(shown[:6]) + (", …" if len(shown) > 6 else "")


def class_names(
    folders: Iterable[str], before: Mapping[str, str] | None = None
) -> tuple[dict[str, str], list[str]]:
    """Class by folder name: `good` for the clean ones, else the name without the prefix that all
    class folders share up to a separator (`MT_Blowhole`, `MT_Free` give `Blowhole`, `good`).

    Args:
        folders: names of folders that name classes.
        before: the map of an earlier import. What a folder meant it means again, and the prefix
            that was removed then is removed from new ones that have it.

    Returns:
        The map, and a sentence for the report on each thing that was decided.
    """
    names, before = sorted(set(folders)), before or {}
    known = {n: name for n, name in before.items() if name != GOOD and n.endswith(name)}
    prefix = _shared_prefix(names)
    if known:
        prefix = next((n.removesuffix(name) for n, name in sorted(known.items())), "")
    # what one system writes as one letter with two dots, another writes as letter and dots
    plain = {n: unicodedata.normalize("NFC", n.removeprefix(prefix) or n) for n in names}
    out = {n: before.get(n, GOOD if is_good(n) else plain[n]) for n in names}
    notes = []
    if prefix:
        share = "which all class folders share" if not known else "as before"
        notes.append(f"The prefix {prefix!r}, {share}, was removed.")
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
