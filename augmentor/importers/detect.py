"""Which layout a folder has, and why."""

import json
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

from augmentor.errors import SourceError
from augmentor.importers import coco, folders, mvtec, pairs, voc, yolo
from augmentor.importers.names import class_folder, is_good
from augmentor.importers.scan import Tree

LAYOUTS: dict[str, ModuleType] = {m.NAME: m for m in (pairs, mvtec, voc, coco, yolo, folders)}


def choose(tree: Tree, layout: str) -> tuple[str, ModuleType, str]:
    """The layout to read a folder by.

    Args:
        tree: the folder.
        layout: `auto`, or a key of `LAYOUTS`.

    Returns:
        Name, module, and why, in one sentence.

    Raises:
        SourceError: an unknown name; with `auto`, no layout fits or several do, or all images
            lie in folders that mean clean.
    """
    known = ", ".join(LAYOUTS)
    if layout != "auto":
        if layout not in LAYOUTS:
            raise SourceError(f"--layout {layout!r} is unknown; choose auto, {known}.")
        return layout, LAYOUTS[layout], f"--layout {layout} was given"
    reasons = {name: module.recognise(tree) for name, module in LAYOUTS.items()}
    fits = {name: reason for name, reason in reasons.items() if reason}
    if not set(fits) - {"folders"}:
        _refuse_other_tools(tree)
    if "mvtec" in fits:
        fits.pop("pairs", None)  # its masks are paired by name too
    if len(fits) > 1:
        fits.pop("folders", None)  # class folders may hold labels of any kind
    if not set(fits) - {"folders"}:
        # masks of a few images are masks as well; which images have none is then said by name
        few = pairs.recognise(tree, least_share=0)
        orphans = [] if fits else pairs.find_pairs(tree, tree.images)[1]
        if orphans:
            few = few or f"{tree.name(orphans[0])} is a mask by its name"
        fits = {pairs.NAME: few} if few else fits
    clean = [i for i in tree.images if is_good(class_folder(tree.folders_of(i)) or "")]
    if not fits and clean and len(clean) == len(tree.images):
        raise SourceError(
            f"{tree.root} holds no defect image: all {len(clean)} lie in folders that mean "
            "clean; put images of a defect beside them, in a folder named after the defect."
        )
    if not fits:
        raise SourceError(
            f"{tree.root} is of no layout that is known here; name the nearest with --layout "
            f"({known}) to see what is missing, or see the README for what each looks like."
        )
    if len(fits) > 1:
        options = "; ".join(f"{name}, since {reason}" for name, reason in fits.items())
        raise SourceError(
            f"{tree.root} could be of {len(fits)} layouts ({options}); choose one with "
            f"--layout {' or '.join(fits)}."
        )
    name, reason = next(iter(fits.items()))
    return name, LAYOUTS[name], str(reason)


def other_layout(tree: Tree, given: str) -> str:
    """What to add where a given layout found nothing and the folder looks like another one."""
    if given == "auto":
        return ""
    try:
        name, _, reason = choose(tree, "auto")
    except SourceError:
        return ""
    return "" if name == given else f" Or leave --layout out: it looks like {name}, since {reason}."


def _refuse_other_tools(tree: Tree) -> None:
    """Refuse labels that are not read, before folders alone are taken for all that is known.

    Raises:
        SourceError: there are some of LabelMe or of CVAT's own kind.
    """
    found = next((p for p in tree.with_suffix(".json")[:20] if _is_labelme(p)), None)
    tool, how = "LabelMe", "turn them into COCO, for example with its labelme2coco.py"
    if found is None:
        found = next((p for p in tree.with_suffix(".xml")[:20] if _is_cvat(p)), None)
        tool, how = "CVAT", "export them from there as COCO 1.0"
    if found is not None:
        raise SourceError(
            f"{tree.name(found)} holds labels of {tool}, which are not read: {how}, and import "
            "that; or go by the folders alone with --layout folders."
        )


def _is_labelme(path: Path) -> bool:
    try:
        content = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and {"shapes", "imagePath"} <= content.keys()


def _is_cvat(path: Path) -> bool:
    try:
        root = ElementTree.fromstring(path.read_bytes())
    except (ElementTree.ParseError, OSError, ValueError, LookupError):
        return False
    return root.tag == "annotations" and root.find("image") is not None
