"""`coco`: images and a JSON file with boxes, polygons or run lengths, compressed or not.

Lin et al., *Microsoft COCO*, ECCV 2014; run lengths and polygons are decoded by pycocotools. Of an
annotation with an outline, the outline counts and its box is derived from that.
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from augmentor.errors import SourceError
from augmentor.importers.scan import Bad, Found, Scan, Shape, Tree, add, unlabelled

NAME = "coco"


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
    finder = _Finder(tree)
    labels: dict[Path, Found | Bad] = {}
    classes: dict[str, None] = {}
    for path in files:
        content = _load(tree, path)
        by_id = {c["id"]: str(c["name"]) for c in content["categories"] if _is_category(c)}
        classes.update(dict.fromkeys(by_id[key] for key in sorted(by_id, key=str)))
        of_image = defaultdict(list)
        for annotation in content["annotations"]:
            if isinstance(annotation, dict):
                of_image[annotation.get("image_id")].append(annotation)
        for entry in content["images"]:
            item = _read(tree, path, entry, of_image.pop(entry.get("id"), []), by_id, finder)
            target = item.image if isinstance(item, Found) else item.path
            if target in labels and labels[target] != item:
                item = Bad(target, "conflict", f"{path.name} labels it in another way")
            labels[target] = item
        left = sum(len(rest) for rest in of_image.values())
        if left:
            reason = f"{left} annotations are of images that it doesn't list"
            out.bad.append(Bad(path, "no_image", reason))
    out.classes = tuple(classes)
    for item in labels.values():
        add(out, item)
    for image in tree.images:
        if image not in labels:
            add(out, unlabelled(tree, image))
    if len(files) > 1:
        out.notes.append("The source's own split into annotation files was not kept.")
    return out


class _Finder:
    """Finds the file that a COCO `file_name` means."""

    def __init__(self, tree: Tree) -> None:
        self.files = set(tree.images)
        self.by_name: dict[str, list[Path]] = defaultdict(list)
        for path in tree.images:
            self.by_name[path.name].append(path)
        self.root = tree.root

    def find(self, json_path: Path, file_name: str) -> Path | str:
        """The path, or why there is none: beside the JSON file or under the root, in a folder
        `images` or of the JSON file's split, else the only file of that name."""
        relative = Path(file_name.replace("\\", "/"))
        for base in (json_path.parent, self.root, json_path.parent.parent):
            for folder in ("", "images", "data"):
                if (base / folder / relative) in self.files:
                    return base / folder / relative
        near = self.by_name.get(relative.name, [])
        if len(near) > 1:
            split = [p for p in near if p.parent.name.lower() in json_path.stem.lower()]
            near = split if len(split) == 1 else near
        if len(near) == 1:
            return near[0]
        return "is not there" if not near else f"could be any of {len(near)} files of that name"


def _read(
    tree: Tree,
    path: Path,
    entry: Any,
    annotations: list[dict[str, Any]],
    names: Mapping[Any, str],
    finder: _Finder,
) -> Found | Bad:
    """One entry of `images` with its annotations."""
    file_name = str(entry.get("file_name", ""))
    image = finder.find(path, file_name)
    if isinstance(image, str):
        return Bad(
            path.parent / file_name, "no_image", f"{tree.name(path)} lists it and it {image}"
        )
    shapes = []
    for annotation in annotations:
        if annotation.get("category_id") not in names:
            unknown = annotation.get("category_id")
            return Bad(image, "unknown_class", f"category {unknown} is not in {path.name}")
        shape = _shape(annotation, names[annotation["category_id"]])
        if shape is None:
            return Bad(image, "bad_label", f"annotation {annotation.get('id')} has no usable shape")
        shapes.append(shape)
    size = (entry.get("width"), entry.get("height"))
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
    except (KeyError, TypeError, ValueError):
        return None
    return Shape(name, (x, y, x + w, y + h))


def _annotation_files(tree: Tree) -> list[Path]:
    return [path for path in tree.with_suffix(".json") if _load(tree, path)]


def _load(tree: Tree, path: Path) -> dict[str, Any]:
    """Content of a COCO file, read once a tree; empty for any other JSON file."""
    if path not in tree.cache:
        try:
            content = json.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError):
            content = None
        keys = ("images", "annotations", "categories")
        fits = isinstance(content, dict) and all(isinstance(content.get(k), list) for k in keys)
        tree.cache[path] = content if fits else {}
    return tree.cache[path]


def _is_category(item: Any) -> bool:
    return isinstance(item, dict) and "id" in item and "name" in item
