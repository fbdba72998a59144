"""`mvtec`: `train/good`, `test/<defect>`, `ground_truth/<defect>/*_mask.png`.

Bergmann et al., *MVTec AD*, CVPR 2019. Also the DS-MVTec tree of Defect Spectrum (Yang et al., ECCV
2024): `image/<defect>`, `mask/<defect>/*_mask.png` with class numbers as values, and coloured
copies of those in `rgb_mask` (spelt `rbg_mask` for some objects), which are not read.
"""

from pathlib import Path

from augmentor.errors import SourceError
from augmentor.importers.names import is_good
from augmentor.importers.pairs import Pairs, find_pairs, from_pairs
from augmentor.importers.scan import Scan, Tree

NAME = "mvtec"
OWN_SPLIT = "The source's own train/ and test/ folders were not kept as a split."
_COLOURED = ("rgb_mask", "rbg_mask")


def recognise(tree: Tree) -> str | None:
    """Folders `test` and `ground_truth` beside each other, or `image`, `mask` and a coloured
    mask's."""
    objects = _objects(tree)
    if not objects:
        return None
    root = objects[0]
    if _is_spectrum(root):
        return f"{root.name} holds image/, mask/ and {_coloured(root)}/ (Defect Spectrum)"
    return f"{root.name} holds test/ and ground_truth/"


def scan(tree: Tree) -> Scan:
    """Find images, masks and classes; see the top of this file.

    Raises:
        SourceError: no such tree, or one with several objects.
    """
    objects = _objects(tree)
    if not objects:
        raise SourceError(
            f"{tree.root} has no test/ beside a ground_truth/; choose another --layout."
        )
    if len(objects) > 1:
        names = ", ".join(tree.name(o) for o in objects[:6])
        raise SourceError(
            f"{tree.root} holds {len(objects)} objects ({names}{', …' if len(objects) > 6 else ''})"
            "; import one of them at a time, each into a project of its own: augment import "
            f"{objects[0]} --name {objects[0].name}"
        )
    root = objects[0]
    spectrum = _is_spectrum(root)
    scan = _scan_spectrum(tree, root) if spectrum else _scan_mvtec(tree, root)
    if not spectrum:
        scan.notes.append(OWN_SPLIT)
    outside = [p for p in tree.images if not p.is_relative_to(root)]
    if outside:
        scan.notes.append(f"{len(outside)} images outside {root.name} were not read.")
    return scan


def _scan_mvtec(tree: Tree, root: Path) -> Scan:
    images = [p for p in tree.images if _top(p, root) in ("train", "test", "validation")]
    masks = [p for p in tree.images if _top(p, root) == "ground_truth"]
    pairs: Pairs = dict.fromkeys(images, ())
    orphans: list[Path] = []
    by_key: dict[tuple[str, str], Path] = {}
    for image in images:
        by_key.setdefault((image.parent.name, image.stem), image)
        if _top(image, root) == "test":
            by_key[image.parent.name, image.stem] = image
    for mask in masks:
        kind, *rest = mask.relative_to(root / "ground_truth").parts
        # MVTec LOCO keeps a folder of masks for each image: ground_truth/<defect>/<image>/000.png
        stem = rest[0] if len(rest) > 1 else mask.stem
        own = by_key.get((kind, stem)) or by_key.get((kind, stem.removesuffix("_mask")))
        if own is None:
            orphans.append(mask)
        else:
            pairs[own] = (*pairs[own], mask)
    scan = from_pairs(tree, pairs, orphans)
    unread = len(tree.images) - len(images) - len(masks)
    if unread:
        scan.notes.append(f"{unread} images outside train/, test/ and ground_truth/ were not read.")
    return scan


def _scan_spectrum(tree: Tree, root: Path) -> Scan:
    files = [p for p in tree.images if _top(p, root) in ("image", "mask")]
    scan = from_pairs(tree, *find_pairs(tree, files))
    scan.notes.append(f"{_coloured(root)}/ holds coloured copies of the masks and was not read.")
    return scan


def _top(path: Path, root: Path) -> str:
    return path.relative_to(root).parts[0] if path.is_relative_to(root) else ""


def _coloured(root: Path) -> str:
    return next(name for name in _COLOURED if (root / name).is_dir())


def _is_spectrum(root: Path) -> bool:
    coloured = any((root / name).is_dir() for name in _COLOURED)
    return coloured and (root / "image").is_dir() and (root / "mask").is_dir()


def _is_mvtec(root: Path) -> bool:
    if not ((root / "test").is_dir() and (root / "ground_truth").is_dir()):
        return False
    return any(not is_good(p.name) for p in (root / "test").iterdir() if p.is_dir())


def _objects(tree: Tree) -> list[Path]:
    """The root, or else the folders in it, that are such a tree."""
    if _is_mvtec(tree.root) or _is_spectrum(tree.root):
        return [tree.root]
    below = sorted({tree.root / own[0] for p in tree.files if (own := tree.folders_of(p))})
    return [p for p in below if _is_mvtec(p) or _is_spectrum(p)]
