"""Folders, masks and photographs as they come: other names, few masks, other depths, twins."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from augmentor.errors import SourceError
from augmentor.importers import ImportOutcome, import_source

H, W = 40, 64


def photograph(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(60, 200, (H, W), dtype=np.uint8)


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def mask_of(*boxes: tuple[int, int, int, int], value: int = 255) -> np.ndarray:
    mask = np.zeros((H, W), np.uint8)
    for x1, y1, x2, y2 in boxes:
        mask[y1:y2, x1:x2] = value
    return mask


BOX, OTHER = (10, 5, 30, 17), (40, 20, 60, 36)


def run(tmp_path: Path, **kwargs: object) -> ImportOutcome:
    return import_source(tmp_path / "in", tmp_path / "data", **kwargs)  # type: ignore[arg-type]


def refused(tmp_path: Path, **kwargs: object) -> dict[str, tuple[str, str]]:
    """Kind and reason of each bad file of an import that is refused for them."""
    with pytest.raises(SourceError, match="can't be used"):
        run(tmp_path, **kwargs)
    report = json.loads((tmp_path / "data/import_report.json").read_text())
    return {entry["path"]: (entry["kind"], entry["reason"]) for entry in report["bad"]}


def clean(root: Path, count: int = 3) -> None:
    for k in range(count):
        save(root / f"good/{k}.png", photograph(100 + k))


def test_a_mask_of_ones_beside_masks_of_white_is_told_what_to_do(tmp_path: Path) -> None:
    clean(tmp_path / "in")
    for k in range(4):
        save(tmp_path / f"in/hole/{k}.png", photograph(k))
        save(tmp_path / f"in/hole/{k}_mask.png", mask_of(BOX, value=255 if k else 1))
    kind, reason = refused(tmp_path)["hole/0.png"]
    assert kind == "empty_mask"
    assert "its highest value is 1" in reason and "save it with 255 on the defect" in reason


def test_a_mask_of_which_scaling_leaves_nothing_is_told_so(tmp_path: Path) -> None:
    large = np.zeros((H * 10, W * 10), np.uint8)
    large[1:3, 1:3] = 255
    for k in range(3):
        save(tmp_path / f"in/hole/{k}.png", photograph(k))
        save(tmp_path / f"in/hole/{k}_mask.png", mask_of(BOX) if k else large)
    assert "save it at that size" in refused(tmp_path)["hole/0.png"][1]


def test_the_report_names_no_address_in_memory(tmp_path: Path) -> None:
    clean(tmp_path / "in")
    for k in range(3):
        save(tmp_path / f"in/hole/{k}.png", photograph(k))
    (tmp_path / "in/hole/9.png").write_text("<html>404</html>")
    reason = refused(tmp_path)["hole/9.png"][1]
    assert "is not a whole image (of no format that is read here)" in reason
