"""What a layout finds in a folder, before any image is decoded.

A layout is a module with `NAME`, `recognise(tree) -> str | None` (why the folder is of that
layout, in one sentence) and `scan(tree) -> Scan`. Nothing is dropped on the way: a file is found,
bad with its reason, or counted among the others.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from augmentor.errors import SourceError
from augmentor.images import IMAGE_SUFFIXES
from augmentor.importers.names import class_folder, is_good, oddly_good
from augmentor.records_io import PROJECT_FILE
from generator.records import GOOD

BAD_KINDS = {
    "unreadable": "unreadable image",
    "too_large": "image over the size limit",
    "unreadable_mask": "unreadable mask",
    "mask_size": "mask of another shape than its image",
    "mask_levels": "mask of several greys",
    "empty_mask": "empty mask under a defect class",
    "mask_under_clean": "mask with a defect under a clean image",
    "no_mask": "defect image without a mask",
    "mask_alone": "mask where a photograph is expected",
    "no_label": "image without a label",
    "no_image": "label without its image",
    "unknown_class": "label of an unknown class",
    "bad_label": "label that can't be read or lies outside its image",
    "conflict": "identical image with conflicting labels",
    "no_class": "image outside the class folders",
    "bad_name": "image whose name is no UTF-8",
}
"""Kinds of bad input, as counted in the import report, and what each is called."""


FOREIGN_SUFFIXES = frozenset(
    {
        *(".heic", ".heif", ".avif", ".jxl", ".jp2", ".j2k", ".pgm", ".ppm", ".pnm", ".tga"),
        *(".exr", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2"),
        *(".jfif", ".jpe", ".pbm"),
    }
)
"""Of photographs that are not read."""


@dataclass(frozen=True)
class Shape:
    """One labelled defect: a box, polygons or COCO run lengths, in pixels (or shares of the
    image's sides where `Found.normalised`)."""

    class_name: str
    box_xyxy: tuple[float, float, float, float] | None = None
    polygons: tuple[tuple[float, ...], ...] = ()
    rle: Any = None


@dataclass(frozen=True)
class Found:
    """One image and what its layout knows about it.

    Attributes:
        image: the file.
        label: `good` or a class, from the folder; None: follows from masks or shapes.
        masks: pixel masks, which together show all defects of the image.
        one_each: those of the masks that are of one instance each, whatever parts it has.
        shapes: from an annotation file; empty for an image that it declares clean; None where
            the layout has no shapes.
        size_wh: of the image, as the annotation says; shapes are scaled from that to the file's
            own size, where only the scale differs.
        normalised: shapes are in shares of width and height.
    """

    image: Path
    label: str | None = None
    masks: tuple[Path, ...] = ()
    one_each: tuple[Path, ...] = ()
    shapes: tuple[Shape, ...] | None = None
    size_wh: tuple[int, int] | None = None
    normalised: bool = False


@dataclass(frozen=True)
class Bad:
    """A file that can't be used, the heading it is counted under (`BAD_KINDS`) and why."""

    path: Path
    kind: str
    reason: str


@dataclass
class Scan:
    """Everything that a layout found; `warnings` are notes that a person should see at once.
    `classes` keeps the source's own order where it has one; `read` are the files that said
    something about the images, and `folder_classes` the class that each folder means."""

    found: list[Found] = field(default_factory=list)
    bad: list[Bad] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    classes: tuple[str, ...] | None = None
    read: set[Path] = field(default_factory=set)
    folder_classes: dict[str, str] = field(default_factory=dict)


class Tree:
    """The files under a folder, listed once.

    Attributes:
        root: the folder, absolute.
        files: all visible files, sorted by their path; without those whose name is no UTF-8, which
            nothing that is written about them could hold.
        misnamed: those of them that are images.
        dangling: links to files that are not there.
        images: those of them with an image's suffix.
        locked: folders that can't be listed.
        hidden: images, and folders with images somewhere in them, whose names begin with a dot;
            they are not read.
        projects: folders in it that are projects of ours; they are not looked into, since their
            pictures are made from other ones.
        cache: for what layouts have parsed, so that nothing is parsed twice.
        classes_before: the class that each folder meant in an earlier import of the project.
    """

    def __init__(self, root: Path, data_dir: Path | None = None) -> None:
        """List `root`; `data_dir`, which the import writes itself, is left out."""
        if not root.exists():
            raise SourceError(f"{root} does not exist; check the path you gave to augment import.")
        if not root.is_dir():
            raise SourceError(f"{root} is a file; give augment import the folder that holds it.")
        self.root = root.absolute()
        self.cache: dict[Path, Any] = {}
        self.classes_before: dict[str, str] = {}
        self.projects: list[Path] = []
        self.hidden: list[Path] = []
        self.locked: list[Path] = []
        walk = _walk(self, data_dir)
        found = sorted(walk, key=lambda path: path.as_posix())
        self.dangling = [path for path in found if not _holds(path.exists)]
        gone = set(self.dangling)
        found = [path for path in found if path not in gone]
        self.files = [path for path in found if printable(path) == str(path)]
        named = set(self.files)
        self.misnamed = [p for p in found if p not in named and p.suffix.lower() in IMAGE_SUFFIXES]
        self.images = [p for p in self.files if p.suffix.lower() in IMAGE_SUFFIXES]
        if not self.images and not self.misnamed:
            what = "holds no files" if not self.files else "holds no images"
            raise SourceError(
                f"{root} {what} ({', '.join(sorted(IMAGE_SUFFIXES))} are read); check the path "
                "you gave to augment import."
            )

    def folders_of(self, path: Path) -> tuple[str, ...]:
        """Names of the folders between the root and a file."""
        return path.relative_to(self.root).parts[:-1]

    def name(self, path: Path) -> str:
        """A file's path below the root, for sentences and reports."""
        return printable(path.relative_to(self.root) if path.is_relative_to(self.root) else path)

    def with_suffix(self, *suffixes: str) -> list[Path]:
        """Files with one of the suffixes."""
        return [p for p in self.files if p.suffix.lower() in suffixes]

    def others(self, read: Set[Path]) -> list[Path]:
        """Files that are no images and not among those that were read."""
        return [p for p in self.files if p.suffix.lower() not in IMAGE_SUFFIXES and p not in read]


def _walk(tree: Tree, data_dir: Path | None) -> Iterable[Path]:
    """Visible files under the root; linked folders are followed, each folder once. Projects below
    it, hidden images and folders that can't be listed are noted in the tree and left out, as is
    `data_dir`."""

    def note(fault: OSError) -> None:
        tree.locked.append(Path(fault.filename or tree.root))

    hidden = tree.hidden
    seen = {os.path.realpath(data_dir)} if data_dir else set()
    for folder, names, files in os.walk(tree.root, onerror=note, followlinks=True):
        # a folder before a link to it, whichever the disk lists first
        links = {name for name in names if _holds(Path(folder, name).is_symlink)}
        names.sort(key=lambda name: (name in links, name))
        real = os.path.realpath(folder)
        if PROJECT_FILE in files and Path(folder) != tree.root:
            tree.projects.append(Path(folder))
            names[:] = []
            continue
        if real in seen:
            names[:] = []
            continue
        seen.add(real)
        hidden += [Path(folder, name) for name in names if _hides_images(Path(folder, name))]
        hidden += [Path(folder, name) for name in files if _hides_images(Path(folder, name))]
        names[:] = [n for n in names if not _hidden(n)]
        yield from (Path(folder, name) for name in files if not _hidden(name))


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")


def _hides_images(path: Path) -> bool:
    """Whether a name that begins with a dot is an image's, or that of a folder that holds one;
    `._name` is what macOS keeps beside a file."""
    if not path.name.startswith(".") or path.name.startswith("._"):
        return False
    inside = (name for _, _, files in os.walk(path) for name in files)
    return any(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in (path.name, *inside))


def printable(path: Path) -> str:
    """A path as text, with a mark in the place of each byte of it that is no UTF-8."""
    return os.fsencode(path).decode("utf-8", "replace")


def unusable(tree: Tree) -> list[Bad]:
    """Files that can't be used, whatever the layout: for their names, as links to nothing, or as
    photographs in a format that is not read."""
    unnamed = "its name, or a folder's, is no UTF-8; rename it"
    foreign = "photographs of this format are not read; save it as PNG or JPEG"
    closed = "the folder can't be listed; see who may read it, or take it out"
    return [
        *(Bad(path, "unreadable", closed) for path in sorted(tree.locked)),
        *(Bad(path, "bad_name", unnamed) for path in tree.misnamed),
        *(Bad(path, "unreadable", _gone(path)) for path in tree.dangling),
        *(Bad(path, "unreadable", foreign) for path in tree.with_suffix(*FOREIGN_SUFFIXES)),
    ]


def _holds(question: Callable[[], bool]) -> bool:
    """What is asked of a path; False in a folder that may be listed and not entered."""
    try:
        return question()
    except OSError:
        return False


def _gone(path: Path) -> str:
    if _holds(path.is_symlink):
        return "it is a link to a file that is gone"
    return "it can't be looked at; see who may read its folder"


def without_good(scan: Scan) -> Scan:
    """The scan without the shapes of classes that mean `good` (names.py), which tools for labelling
    put around parts that are in order: what is in order has no place. Counted in a note."""
    dropped: Counter[str] = Counter()
    found = []
    for item in scan.found:
        good = [shape for shape in item.shapes or () if is_good(shape.class_name)]
        dropped.update(shape.class_name for shape in good)
        if good and item.shapes:
            shapes = tuple(shape for shape in item.shapes if shape not in good)
            item = replace(item, shapes=shapes)
        found.append(item)
    if not dropped:
        return scan
    names = ", ".join(f"{n} of {name!r}" for name, n in sorted(dropped.items()))
    note = f"Boxes of classes that mean 'no defect' were left out: {names}."
    warnings = oddly_good(dropped, "class")
    classes = scan.classes and tuple(name for name in scan.classes if not is_good(name))
    return replace(
        scan,
        found=found,
        notes=[*scan.notes, note],
        warnings=[*scan.warnings, *warnings],
        classes=classes,
    )


def boxes_for_rectangles(scan: Scan) -> Scan:
    """The scan with boxes in the place of outlines, where every outline is a rectangle, upright or
    turned: so tools write boxes, and they say nothing of a defect's shape. Said in a note."""
    outlined = [s for item in scan.found for s in item.shapes or () if s.polygons or s.rle]
    if not outlined or not all(map(_is_rectangle, outlined)):
        return scan
    found = [
        replace(item, shapes=tuple(map(_as_box, item.shapes))) if item.shapes else item
        for item in scan.found
    ]
    note = "Every outline has four corners of a rectangle, so they are read as boxes."
    return replace(scan, found=found, notes=[*scan.notes, note])


def _is_rectangle(shape: Shape) -> bool:
    """One outline of four corners whose diagonals halve each other, which shares of two different
    sides leave as it is."""
    if len(shape.polygons) != 1:
        return False
    points = list(zip(shape.polygons[0][::2], shape.polygons[0][1::2], strict=False))
    points = points[:-1] if len(points) == 5 and points[0] == points[-1] else points
    if len(points) != 4:
        return False
    size = max(max(axis) - min(axis) for axis in zip(*points, strict=True))
    a, b, c, d = points
    return all(abs(a[k] + c[k] - b[k] - d[k]) <= 1e-3 * size for k in (0, 1))


def _as_box(shape: Shape) -> Shape:
    if not shape.polygons:
        return shape
    (points,) = shape.polygons
    x, y = points[::2], points[1::2]
    return replace(shape, box_xyxy=(min(x), min(y), max(x), max(y)), polygons=())


def without_marks(tree: Tree, scan: Scan) -> list[str]:
    """A warning of images that an annotation file calls clean, in folders named as a class of it:
    tools for labelling list those that nobody has looked at yet in the same way."""
    classes = {name.casefold() for name in scan.classes or ()}
    bare = [item.image for item in scan.found if item.shapes == ()]
    odd = [i for i in bare if (class_folder(tree.folders_of(i)) or "").casefold() in classes]
    if not odd:
        return []
    return [
        f"{len(odd)} images in folders of defect classes have no label, such as "
        f"{tree.name(odd[0])}; they count as clean. If nobody has labelled them yet, label them, "
        "or take them out."
    ]


def unlabelled(tree: Tree, image: Path) -> Found | Bad:
    """An image that no annotation speaks of: clean if its folder says so, else bad."""
    folder = class_folder(tree.folders_of(image))
    if folder is not None and is_good(folder):
        return Found(image, GOOD)
    return Bad(image, "no_label", "no annotation speaks of it, and no folder says it is clean")


def add(scan: Scan, item: Found | Bad) -> None:
    """Put an item where it belongs."""
    if isinstance(item, Bad):
        scan.bad.append(item)
    else:
        scan.found.append(item)
