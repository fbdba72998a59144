"""The user's region of interest: where on an image the part is, instead of an estimate.

One picture serves a fixed camera, whose images all have its size; a folder holds one for each
image, at the same place below it (`test/pit/000.png` for `test/pit/000.jpg`), or directly in it
where no two images have the same name. White is the part.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from augmentor.errors import SourceError
from augmentor.importers.mask_files import read_mask
from generator.files import sha256_of, sha256_of_file, write_atomic
from generator.records import DefectExample


def check_roi(roi: Path) -> list[Path]:
    """The pictures of a region of interest.

    Raises:
        SourceError: there is no such file or folder, or nothing in it.
    """
    found = sorted(p for p in roi.rglob("*") if p.is_file()) if roi.is_dir() else [roi]
    if not roi.exists() or not found:
        raise SourceError(
            f"--roi {roi} is neither a picture nor a folder of pictures; draw one in which the "
            "part is white, or leave --roi out."
        )
    return found


def with_roi(
    records: Sequence[DefectExample], roi: Path, source: Path, data_dir: Path
) -> tuple[list[DefectExample], int]:
    """Give each record its region of interest, written to `data_dir/roi/` as a clean mask.

    Args:
        records: of the import.
        roi: a picture for all images of its size, or a folder with one for each image.
        source: the imported folder, which the places of the images are relative to.
        data_dir: the project's `data/`.

    Returns:
        The records, and how many of them no picture fits: those keep the estimate.

    Raises:
        SourceError: a picture can't be read, or marks nothing.
    """
    pictures = check_roi(roi)
    by_place = {p.relative_to(roi).with_suffix(""): p for p in pictures} if roi.is_dir() else {}
    single_size = None if roi.is_dir() else _size(roi)
    names = Counter(record.source_path.stem for record in records)
    fitted, without = [], 0
    for record in records:
        size = (record.width, record.height)
        path = by_place.get(record.source_path.relative_to(source).with_suffix(""))
        if path is None and names[record.source_path.stem] == 1:
            path = by_place.get(Path(record.source_path.stem))
        if path is None and single_size == size:
            path = roi
        if path is None:
            without += 1
            fitted.append(record)
            continue
        target = data_dir / "roi" / f"{sha256_of([sha256_of_file(path), size])[:16]}.png"
        if not target.exists():
            part = np.asarray(read_mask(path, size)) > 0
            if not part.any():
                raise SourceError(f"{path} marks nothing; draw the part in white.")
            write_atomic(target, Image.fromarray(part.astype(np.uint8) * 255).save)
        fitted.append(record.model_copy(update={"roi_path": target}))
    if without == len(fitted) and fitted:
        raise SourceError(
            f"--roi {roi} fits no image: a picture must have the images' size, a folder one "
            f"picture for each image, named like it, such as {fitted[0].source_path.stem}.png."
        )
    return fitted, without


def _size(picture: Path) -> tuple[int, int]:
    try:
        with Image.open(picture) as image:
            return image.size
    except (OSError, ImportError) as fault:
        raise SourceError(f"{picture} is not a picture ({' '.join(str(fault).split())}).") from None
