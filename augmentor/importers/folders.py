"""`folders`: one folder a class, image-level labels alone."""

from augmentor.importers.names import class_folder, class_names
from augmentor.importers.scan import Bad, Found, Scan, Tree

NAME = "folders"


def recognise(tree: Tree) -> str | None:
    """Every image lies in a class folder, and there are at least two of those."""
    folders = {class_folder(tree.folders_of(image)) for image in tree.images}
    if None in folders or len(folders) < 2:
        return None
    names = sorted(str(name) for name in folders)
    shown = ", ".join(names[:6]) + (", …" if len(names) > 6 else "")
    return f"there are {len(names)} class folders ({shown}) and neither masks nor annotations"


def scan(tree: Tree) -> Scan:
    """Find images and classes; an image outside the class folders is bad."""
    out = Scan()
    folders = {image: class_folder(tree.folders_of(image)) for image in tree.images}
    names, out.notes = class_names(name for name in folders.values() if name is not None)
    for image, folder in folders.items():
        if folder is None:
            out.bad.append(Bad(image, "no_class", "it lies in no class folder"))
        else:
            out.found.append(Found(image, names[folder]))
    out.notes.append("There are image-level labels alone: no masks and no boxes.")
    return out
