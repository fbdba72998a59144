"""`folders`: one folder a class, image-level labels alone. Masks are refused by name: no one should
take them for photographs."""

from augmentor.importers.names import class_folders, class_names
from augmentor.importers.pairs import find_pairs
from augmentor.importers.scan import Bad, Found, Scan, Tree

NAME = "folders"


def recognise(tree: Tree) -> str | None:
    """Every image lies in a class folder, and there are at least two of those."""
    folders = set(class_folders({i: tree.folders_of(i) for i in tree.images}).of.values())
    if None in folders or len(folders) < 2:
        return None
    names = sorted(str(name) for name in folders)
    shown = ", ".join(names[:6]) + (", …" if len(names) > 6 else "")
    return f"there are {len(names)} class folders ({shown}) and neither masks nor annotations"


def scan(tree: Tree) -> Scan:
    """Find images and classes; a mask, or an image outside the class folders, is bad."""
    pairs, orphans = find_pairs(tree, tree.images)
    named = class_folders({image: tree.folders_of(image) for image in pairs})
    used = (name for name in named.of.values() if name is not None)
    names, notes = class_names(used, tree.classes_before)
    out = Scan(notes=named.notes + notes, warnings=named.warnings, folder_classes=names)
    for image, folder in named.of.items():
        if folder is None:
            out.bad.append(Bad(image, "no_class", "it lies in no class folder"))
        else:
            out.found.append(Found(image, names[folder]))
    reason = (
        "by its name it is a mask, which the layout folders has no use for; name it like its image "
        "and leave --layout out, or move it away"
    )
    masks = [*(mask for found in pairs.values() for mask in found), *orphans]
    out.bad += [Bad(mask, "mask_alone", reason) for mask in sorted(masks)]
    out.notes.append("There are image-level labels alone: no masks and no boxes.")
    return out
