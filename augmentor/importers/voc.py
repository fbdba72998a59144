"""`voc`: Pascal VOC, one XML file an image, boxes alone.

Everingham et al., *The PASCAL Visual Object Classes Challenge*, 2010. Pixels are counted from 1
and a box includes its last one; where any coordinate of the set is 0, they are counted from 0 and
the last one is excluded.
"""

import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Sequence, Set
from pathlib import Path

from augmentor.importers.names import IMAGE_FOLDERS, MASK_FOLDERS, SPLIT_FOLDERS, name_fault
from augmentor.importers.scan import Bad, Found, Scan, Shape, Tree, add, unlabelled

NAME = "voc"
_SEGMENTATION = frozenset({"segmentationclass", "segmentationobject"})
_BOX = ("xmin", "ymin", "xmax", "ymax")


def recognise(tree: Tree) -> str | None:
    """An XML file with an `annotation` at its root; the first 20 are looked at."""
    files = tree.with_suffix(".xml")
    for path in files[:20]:
        root = _parse(path)
        if not isinstance(root, str) and root.find("filename") is not None:
            return f"{len(files)} XML files are Pascal VOC annotations, such as {tree.name(path)}"
    return None


def scan(tree: Tree) -> Scan:
    """Find images, their XML files and the boxes in those."""
    out = Scan()
    images = [p for p in tree.images if not _SEGMENTATION & _lower(tree, p)]
    if len(images) < len(tree.images):
        out.notes.append(f"{len(tree.images) - len(images)} segmentation masks were not read.")
    by_stem: dict[str, list[Path]] = defaultdict(list)
    for image in images:
        by_stem[image.stem].append(image)
    raw: dict[Path, tuple[Path, ET.Element]] = {}
    spoken_of = set()
    out.read = set(tree.with_suffix(".xml"))
    places = {_place(tree, path) for path in out.read}
    for path in sorted(out.read):
        root = _parse(path)
        own = _image_of(tree, path, root, by_stem, places)
        if own is None:
            name = "" if isinstance(root, str) else f" ({root.findtext('filename') or 'unnamed'})"
            out.bad.append(Bad(path, "no_image", f"its image{name} was not found"))
            continue
        if own in spoken_of:
            out.bad.append(Bad(path, "conflict", f"another XML file speaks of {own.name} too"))
        elif isinstance(root, str):
            out.bad.append(Bad(own, "bad_label", f"{path.name} is not XML ({root})"))
        else:
            raw[own] = (path, root)
        spoken_of.add(own)
    from_zero = any(_has_zero(root) for _, root in raw.values())
    first = "0, the last one excluded" if from_zero else "1, the last one included"
    out.notes.append(f"Box coordinates are read as counted from {first}.")
    for image in images:
        if image in raw:
            add(out, _found(image, *raw[image], shift=0 if from_zero else 1))
        elif image not in spoken_of:
            add(out, unlabelled(tree, image))
    return out


def _parse(path: Path) -> ET.Element | str:
    """The root of an annotation, or what is wrong with the file."""
    try:
        root = ET.fromstring(path.read_bytes())
    except (ET.ParseError, OSError, ValueError, LookupError) as fault:
        return str(fault)
    return root if root.tag == "annotation" else f"its root is <{root.tag}>"


def _image_of(
    tree: Tree,
    path: Path,
    root: ET.Element | str,
    by_stem: dict[str, list[Path]],
    places: Set[tuple[str, ...]],
) -> Path | None:
    """The image of the XML file's own name, else the one it names; of several, the one in the
    matching folder. `places` are those of all XML files."""
    here, names = _place(tree, path), [path.stem]
    if not isinstance(root, str):
        stated = (root.findtext("filename") or "").strip().replace("\\", "/")
        names += [Path(stated).stem, Path(stated).name]
    for name in names:
        near = [p for p in by_stem.get(name, []) if _may_be(_place(tree, p), here, places)]
        if len(near) > 1:
            near = [p for p in near if _place(tree, p) == here]
        if len(near) == 1:
            return near[0]
    return None


def _may_be(
    place: tuple[str, ...], of_label: tuple[str, ...], places: Set[tuple[str, ...]]
) -> bool:
    """Whether an image can be that of an XML file: not from a folder that has its own ones."""
    return place in ((), of_label) or not of_label or place not in places


def _found(image: Path, path: Path, root: ET.Element, *, shift: int) -> Found | Bad:
    shapes = []
    for item in root.iter("object"):
        name = (item.findtext("name") or "").strip()
        box = item.find("bndbox")
        try:
            x1, y1, x2, y2 = _numbers(box)
        except (TypeError, ValueError):
            return Bad(image, "bad_label", f"{path.name} has a box that isn't four numbers")
        fault = name_fault(name)
        if fault:
            return Bad(image, "unknown_class", f"{path.name} has an object whose name {fault}")
        shapes.append(Shape(name, (x1 - shift, y1 - shift, x2, y2)))
    try:
        return Found(image, shapes=tuple(shapes), size_wh=_size(root))
    except (ValueError, OverflowError) as fault:
        return Bad(image, "bad_label", f"{path.name} states a size that can't be ({fault})")


def _numbers(box: ET.Element | None) -> Sequence[float]:
    if box is None:
        raise ValueError("no bndbox")
    return [float(box.findtext(key) or "missing") for key in _BOX]


def _has_zero(root: ET.Element) -> bool:
    for item in root.iter("bndbox"):
        try:
            if min(_numbers(item)[:2]) <= 0:
                return True
        except (TypeError, ValueError):
            continue  # reported where the boxes are read
    return False


def _size(root: ET.Element) -> tuple[int, int] | None:
    """Width and height as stated; None where they are missing or 0, as some tools leave them."""
    size = root.find("size")
    if size is None:
        return None
    width, height = (int(float(size.findtext(k) or 0)) for k in ("width", "height"))
    if min(width, height) < 0:
        raise ValueError(f"{width} x {height} px")
    return (width, height) if width and height else None


def _lower(tree: Tree, path: Path) -> set[str]:
    return {name.lower() for name in tree.folders_of(path)}


def _place(tree: Tree, path: Path) -> tuple[str, ...]:
    generic = (IMAGE_FOLDERS | MASK_FOLDERS) - SPLIT_FOLDERS
    return tuple(
        n.lower() for n in tree.folders_of(path) if n.lower() not in generic | {"xml", "xmls"}
    )
