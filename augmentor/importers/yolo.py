"""`yolo`: `images/` and `labels/` with one text file an image, boxes or polygons, and `data.yaml`.

A line is `class cx cy w h` or `class x1 y1 x2 y2 x3 y3 ...`, in shares of width and height. An
empty file says that the image is clean; a missing one says nothing, and the image is bad.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from augmentor.errors import SourceError
from augmentor.importers.names import folder_name, may_lie_in, name_fault
from augmentor.importers.scan import Bad, Found, Scan, Shape, Tree, add, unlabelled

NAME = "yolo"
_NAME_FILES = frozenset({"classes.txt", "obj.names", "names.txt", "labels.txt", "data.names"})


def recognise(tree: Tree) -> str | None:
    """Text files of the images' names whose lines are YOLO labels; the first 50 are looked at."""
    labels = _label_files(tree)
    if not labels:
        return None
    sample = [_parse(path) for path in sorted(labels.values())[:50]]
    if not any(isinstance(lines, list) and lines for lines in sample):
        return None
    if 2 * sum(isinstance(lines, str) for lines in sample) > len(sample):
        return None
    _, files = _class_names(tree)
    where = f", and {', '.join(map(tree.name, files))} names the classes" if files else ""
    return f"{len(labels)} of {len(tree.images)} images have a text file of YOLO labels{where}"


def scan(tree: Tree) -> Scan:
    """Find images, their text files and the shapes in those."""
    out = Scan()
    labels = _label_files(tree)
    names, files = _class_names(tree)
    parsed = {image: _parse(path) for image, path in labels.items()}
    if not files:
        highest = max((k for p in parsed.values() if isinstance(p, list) for k, _ in p), default=-1)
        names = {k: f"class_{k}" for k in range(highest + 1)}
        out.notes.append("No data.yaml or classes.txt names the classes; they are numbered.")
    out.classes = tuple(names.values())
    out.read = {*labels.values(), *files}
    for image in tree.images:
        lines = parsed.get(image)
        if lines is None:
            add(out, unlabelled(tree, image))
        elif isinstance(lines, str):
            out.bad.append(Bad(image, "bad_label", f"{labels[image].name}: {lines}"))
        else:
            add(out, _found(image, labels[image], lines, names))
    known, folders = set(labels.values()), {image.parent for image in tree.images}
    for path in tree.with_suffix(".txt"):
        if path in known or path.name.lower() in _NAME_FILES:
            continue
        lines = _parse(path) if path.parent in folders else ""
        if "labels" in tree.folders_of(path) or (lines and isinstance(lines, list)):
            out.bad.append(Bad(path, "no_image", "no image of its name was found"))
    if len({image.parent for image in labels}) > 1:
        out.notes.append("The source's own train, val and test folders were not kept as a split.")
    return out


def _found(
    image: Path, path: Path, lines: list[tuple[int, list[float]]], names: dict[int, str]
) -> Found | Bad:
    shapes = []
    for number, values in lines:
        if number not in names:
            known = f"there are {len(names)} classes"
            return Bad(image, "unknown_class", f"{path.name} has class {number}, {known}")
        if len(values) == 4:
            cx, cy, w, h = values
            box = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
            shapes.append(Shape(names[number], box))
        else:
            shapes.append(Shape(names[number], polygons=(tuple(values),)))
    return Found(image, shapes=tuple(shapes), normalised=True)


def _parse(path: Path) -> list[tuple[int, list[float]]] | str:
    """Class number and coordinates of each line, or what is wrong with the file."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as fault:
        return f"can't be read ({fault})"
    out = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        try:
            label, values = float(words[0]), [float(word) for word in words[1:]]
        except ValueError:
            return f"line {number} is not made of numbers"
        polygon = len(values) >= 6 and len(values) % 2 == 0
        if not label.is_integer():
            return f"line {number} has the class {words[0]}, no whole number"
        if not (len(values) == 4 or polygon):
            return f"line {number} has {len(words)} numbers, neither a box nor a polygon"
        out.append((int(label), values))
    return out


def _label_files(tree: Tree) -> dict[Path, Path]:
    """Text file by image: in `labels/` where the image is in `images/`, beside it, or the only
    one of its name."""
    texts = {p for p in tree.with_suffix(".txt") if p.name.lower() not in _NAME_FILES}
    by_stem = defaultdict(list)
    for path in texts:
        by_stem[path.stem].append(path)
    named = {folder_name(path) for path in texts}
    images_of = Counter(image.stem for image in tree.images)
    out = {}
    for image in tree.images:
        for path in (_parallel(image), image.with_suffix(".txt")):
            if path in texts:
                out[image] = path
                break
        else:
            # in another named folder it would be that of an image there which is gone
            near = [
                path
                for path in by_stem.get(image.stem, [])
                if may_lie_in(tree.root, image, path.relative_to(tree.root), named)
            ]
            if len(near) == 1 and images_of[image.stem] == 1:
                out[image] = near[0]
    return out


def _parallel(image: Path) -> Path:
    """`.../images/a/b.jpg` to `.../labels/a/b.txt`, the last `images` folder counting."""
    parts = list(image.parts)
    for k in range(len(parts) - 2, -1, -1):
        if parts[k].lower() in ("images", "imgs", "jpegimages"):
            parts[k] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _class_names(tree: Tree) -> tuple[dict[int, str], tuple[Path, ...]]:
    """Class by number, in that order, and the files that say so; both empty without one.

    Raises:
        SourceError: a file that should say so can't be read, or says what can't be.
    """
    read = [(path, _names_of_yaml(tree, path)) for path in tree.with_suffix(".yaml", ".yml")]
    stated = [(path, names) for path, names in read if names]
    for path in tree.files:
        if path.name.lower() in _NAME_FILES:
            lines = [line.strip() for line in _text(tree, path).rstrip().splitlines()]
            stated.append((path, _checked(tree, path, dict(enumerate(lines)))))
    names: dict[int, str] = {}
    said_by: dict[int, Path] = {}
    for path, own in stated:
        # tools write one a folder, as far as its own labels go: the longer one goes on
        for number, name in own.items():
            if names.setdefault(number, name) != name:
                raise SourceError(
                    f"{tree.name(said_by[number])} and {tree.name(path)} name the classes "
                    f"differently: {number} is {names[number]!r} and {name!r}; take the one that "
                    "isn't meant out of the folder, or import the folders one by one."
                )
            said_by.setdefault(number, path)
    return dict(sorted(names.items())), tuple(path for path, _ in stated)


def _names_of_yaml(tree: Tree, path: Path) -> dict[int, str] | None:
    """What `names` of a YAML file says; None for one that has no `names`."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as fault:
        if b"names" in path.read_bytes():
            raise _unreadable(tree, path, fault) from None
        return None
    names = content.get("names") if isinstance(content, dict) else None
    if names is None:
        return None
    if isinstance(names, list):
        return _checked(tree, path, dict(enumerate(names)))
    if not isinstance(names, dict) or not all(str(key).isdecimal() for key in names):
        raise SourceError(
            f"{tree.name(path)}: names must be a list, or a map from class numbers, got {names!r}."
        )
    numbered: dict[int, Any] = {}
    for key, name in names.items():
        if int(key) in numbered:
            raise SourceError(f"{tree.name(path)} names class {int(key)} twice; keep one of them.")
        numbered[int(key)] = name
    return _checked(tree, path, dict(sorted(numbered.items())))


def _checked(tree: Tree, path: Path, names: Mapping[int, Any]) -> dict[int, str]:
    """Names of classes as text, where each can be one and no two are alike."""
    numbers: dict[str, int] = {}
    for number, name in names.items():
        fault = name_fault(name)
        if fault:
            raise SourceError(f"{tree.name(path)}: the name of class {number} {fault}.")
        first = numbers.setdefault(str(name), number)
        if first != number:
            raise SourceError(
                f"{tree.name(path)} gives classes {first} and {number} the same name, {name!r}; "
                "name them differently, or give their labels one number."
            )
    return {number: str(name) for number, name in names.items()}


def _text(tree: Tree, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as fault:
        raise _unreadable(tree, path, fault) from None


def _unreadable(tree: Tree, path: Path, fault: Exception) -> SourceError:
    reason = " ".join(str(fault).split())
    return SourceError(
        f"{tree.name(path)} can't be read ({reason}), so the classes have no names; mend it."
    )
