"""`coco`: images and a JSON file with boxes, polygons or run lengths, compressed or not.

Lin et al., *Microsoft COCO*, ECCV 2014; polygons are decoded by pycocotools. Of an
annotation with an outline, the outline counts and its box is derived from that.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from augmentor.errors import SourceError
from augmentor.importers.names import folder_name, may_lie_in, name_fault
from augmentor.importers.scan import Bad, Found, Scan, Shape, Tree, add, unlabelled

NAME = "coco"
_KEYS = ("images", "annotations", "categories")


def recognise(tree: Tree) -> str | None:
    """A JSON file with `images`, `annotations` and `categories`."""
    files = _annotation_files(tree)
    if not files:
        return None
    names = ", ".join(tree.name(path) for path in files[:3])
    return f"{names} holds images, annotations and categories"


def scan(tree: Tree) -> Scan:
    """Find the images that the JSON files list, and what those say of each.

    Raises:
        SourceError: no such file.
    """
    out = Scan()
    files = _annotation_files(tree)
    if not files:
        raise SourceError(
            f"{tree.root} has no JSON file with images, annotations and categories; choose another "
            "--layout."
        )
    finder = _Finder(tree, (_load(tree, path) for path in files))
    labels: dict[Path, Found | Bad] = {}
    classes: dict[str, None] = {}
    for path in files:
        content = _load(tree, path)
        names, unnamed = _categories(path, content["categories"])
        classes.update(dict.fromkeys(names[key] for key in sorted(names, key=_in_order)))
        out.warnings += _of_one_name(path, names)
        of_image = _by_image(tree, path, content["annotations"])
        entries = _entries(out, path, content["images"])
        files_of_id = Counter(key for key, _ in entries)
        for (key, _), entry in entries.items():
            item = _read(tree, path, entry, of_image.pop(key, []), names, unnamed, finder)
            target = item.image if isinstance(item, Found) else item.path
            if files_of_id[key] > 1:
                reason = f"{path.name} gives the id {key} to {files_of_id[key]} images"
                item = Bad(target, "bad_label", reason)
            elif target in labels and labels[target] != item:
                item = Bad(target, "conflict", f"{path.name} labels it in another way")
            labels[target] = item
        left = sum(len(rest) for rest in of_image.values())
        if left:
            reason = f"{left} annotations are of images that it doesn't list"
            out.bad.append(Bad(path, "no_image", reason))
    out.classes, out.read = tuple(classes), set(files)
    for item in labels.values():
        add(out, item)
    for image in tree.images:
        if image not in labels:
            add(out, unlabelled(tree, image))
    if len(files) > 1:
        out.notes.append("The source's own split into annotation files was not kept.")
    return out


def _in_order(key: Any) -> tuple[bool, float, str]:
    """Numbers as numbers, before texts."""
    numeric = isinstance(key, int | float)
    return not numeric, float(key) if numeric else 0.0, str(key)


class _Finder:
    """Finds the file that a COCO `file_name` means."""

    def __init__(self, tree: Tree, documents: Iterable[Mapping[str, Any]]) -> None:
        entries = [entry for document in documents for entry in document["images"]]
        names = [e.get("file_name") for e in entries if isinstance(e, dict)]
        self.named = {folder_name(_path(name)) for name in names if isinstance(name, str)}
        self.files = set(tree.images)
        self.by_name: dict[str, list[Path]] = defaultdict(list)
        for path in tree.images:
            self.by_name[path.name].append(path)
        self.root = tree.root

    def find(self, json_path: Path, file_name: str) -> Path | str:
        """The path, or why there is none: beside the JSON file or under the root, in a folder
        `images` or of the JSON file's split, else the only file of that name."""
        relative = _path(file_name)
        for base in (json_path.parent, self.root, json_path.parent.parent):
            for folder in ("", "images", "data"):
                if (base / folder / relative) in self.files:
                    return base / folder / relative
        everywhere = self.by_name.get(relative.name, [])
        near = [p for p in everywhere if may_lie_in(self.root, p, relative, self.named)]
        if len(near) > 1:
            split = [p for p in near if p.parent.name.lower() in json_path.stem.lower()]
            near = split if len(split) == 1 else near
        if len(near) == 1:
            return near[0]
        if near:
            return f"could be any of {len(near)} files of that name"
        other = "" if not everywhere else ", only one of its name in another folder"
        return f"is not there{other}"


def _path(file_name: str) -> Path:
    return Path(file_name.replace("\\", "/"))


def _read(
    tree: Tree,
    path: Path,
    entry: Mapping[str, Any],
    annotations: list[dict[str, Any]],
    names: Mapping[Any, str],
    unnamed: Mapping[Any, str],
    finder: _Finder,
) -> Found | Bad:
    """One entry of `images` with its annotations."""
    file_name = entry["file_name"]
    image = finder.find(path, file_name)
    if isinstance(image, str):
        return Bad(
            path.parent / file_name, "no_image", f"{tree.name(path)} lists it and it {image}"
        )
    shapes = []
    for annotation in annotations:
        category = _key(annotation.get("category_id"))
        if category not in names:
            unknown = f"category {category} is not in {path.name}"
            return Bad(image, "unknown_class", unnamed.get(category, unknown))
        shape = _shape(annotation, names[category])
        if shape is None:
            return Bad(image, "bad_label", f"annotation {annotation.get('id')} has no usable shape")
        shapes.append(shape)
    size: Any = (entry.get("width"), entry.get("height"))
    known = all(isinstance(v, int) and v > 0 for v in size)
    return Found(image, shapes=tuple(shapes), size_wh=size if known else None)


def _shape(annotation: Mapping[str, Any], name: str) -> Shape | None:
    outline = annotation.get("segmentation")
    if isinstance(outline, dict):
        return Shape(name, rle=outline)
    try:
        if outline:
            polygons = tuple(tuple(float(v) for v in ring) for ring in outline)
            if any(len(ring) % 2 or len(ring) < 6 for ring in polygons):
                return None
            return Shape(name, polygons=polygons)
        x, y, w, h = (float(v) for v in annotation["bbox"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return Shape(name, (x, y, x + w, y + h))


def _annotation_files(tree: Tree) -> list[Path]:
    return [path for path in tree.with_suffix(".json") if _load(tree, path)]


def _load(tree: Tree, path: Path) -> dict[str, Any]:
    """Content of a COCO file, read once a tree; empty for any other JSON file.

    Raises:
        SourceError: it speaks of what a COCO file speaks of, but was cut off or damaged.
    """
    if path not in tree.cache:
        text = b""
        try:
            text = path.read_bytes()
            content = json.loads(text.decode("utf-8-sig"))
        except (OSError, ValueError, RecursionError) as fault:
            if any(b'"%s"' % key.encode() in text for key in _KEYS):
                raise SourceError(
                    f"{path} is no whole JSON ({fault}), though it speaks of images or annotations;"
                    " save it again, or take it out of the folder."
                ) from None
            content = None
        fits = isinstance(content, dict) and all(isinstance(content.get(k), list) for k in _KEYS)
        tree.cache[path] = content if fits else {}
    return tree.cache[path]


def _categories(path: Path, categories: Sequence[Any]) -> tuple[dict[Any, str], dict[Any, str]]:
    """Class by category, and, by category, why it means none."""
    names: dict[Any, str] = {}
    unnamed: dict[Any, str] = {}
    for item in categories:
        if not isinstance(item, dict) or "id" not in item:
            continue  # no annotation can mean it
        key, name = _key(item["id"]), item.get("name")
        fault = name_fault(name)
        if fault:
            unnamed[key] = f"category {key} in {path.name} means no class: its name {fault}"
        elif names.setdefault(key, str(name)) != str(name):
            unnamed[key] = f"category {key} is both {names[key]!r} and {name!r} in {path.name}"
    return {key: name for key, name in names.items() if key not in unnamed}, unnamed


def _of_one_name(path: Path, names: Mapping[Any, str]) -> list[str]:
    """Say which categories are one class, since they have one name."""
    of_name: dict[str, list[str]] = defaultdict(list)
    for key, name in names.items():
        of_name[name].append(str(key))
    return [
        f"Categories {', '.join(keys)} in {path.name} are all named {name!r} and are read as one "
        "class; name them apart if they are several."
        for name, keys in of_name.items()
        if len(keys) > 1
    ]


def _entries(
    out: Scan, path: Path, images: Sequence[Any]
) -> dict[tuple[Any, str], Mapping[str, Any]]:
    """Entries of `images` by id and file, each once; what names no file is bad."""
    entries: dict[tuple[Any, str], Mapping[str, Any]] = {}
    for number, entry in enumerate(images, start=1):
        name = entry.get("file_name") if isinstance(entry, dict) else None
        # JSON can hold halves of letters, which no file's name can
        if isinstance(name, str) and name and name.encode("utf-8", "replace").decode() == name:
            entries.setdefault((_key(entry.get("id")), name), entry)
        else:
            reason = f"image {number} of its list is no object with a file_name"
            out.bad.append(Bad(path, "no_image", reason))
    return entries


def _by_image(
    tree: Tree, path: Path, annotations: Sequence[Any]
) -> dict[Any, list[dict[str, Any]]]:
    """Annotations by the id of their image.

    Raises:
        SourceError: of one no one knows which image it would be of.
    """
    of_image = defaultdict(list)
    for number, annotation in enumerate(annotations, start=1):
        if not isinstance(annotation, dict):
            raise SourceError(
                f"{tree.name(path)}: annotation {number} of {len(annotations)} is no object "
                f"({str(annotation)[:40]!r}); mend the file, or an image might seem clean."
            )
        if not isinstance(annotation.get("image_id"), str | int | float):
            raise SourceError(
                f"{tree.name(path)}: annotation {number} of {len(annotations)} has no image_id; "
                "mend the file, or an image might seem clean."
            )
        of_image[_key(annotation["image_id"])].append(annotation)
    return of_image


def _key(value: Any) -> Any:
    """An id that can be looked up, whatever JSON gave; tools disagree whether 1 is "1"."""
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    return value if isinstance(value, str | int | float | None) else repr(value)
