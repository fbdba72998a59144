"""Small folders to import, written on the fly, and what an import of one comes to."""

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


def run(tmp_path: Path, **kwargs: object) -> ImportOutcome:
    return import_source(tmp_path / "in", tmp_path / "data", **kwargs)  # type: ignore[arg-type]


def refused(tmp_path: Path, **kwargs: object) -> dict[str, tuple[str, str]]:
    """Kind and reasons of each bad file of an import that is refused for them."""
    with pytest.raises(SourceError, match="can't be used"):
        run(tmp_path, **kwargs)
    report = json.loads((tmp_path / "data/import_report.json").read_text())
    bad: dict[str, tuple[str, str]] = {}
    for entry in report["bad"]:
        before = bad.get(entry["path"], ("", ""))[1]
        bad[entry["path"]] = (entry["kind"], f"{before} {entry['reason']}".strip())
    return bad


def said(outcome: ImportOutcome) -> str:
    return " ".join(outcome.report["warnings"])
