"""The study over repeated splits: which runs it reads, and what its table says of planted ones."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from splits import MEASURED, closures, read, spreads, table

from downstream.config import ExperimentConfig

NAMES = ("pixel_ap", "pixel_f1", "pixel_auroc", "pro", "image_auroc", "image_ap")


def planted(image_ap: np.ndarray, pixel_ap: np.ndarray) -> dict[int, dict]:
    """Metrics of an arm, by split: the same on both sides, and the same in every class."""
    found = {}
    for split, (image, pixel) in enumerate(zip(image_ap, pixel_ap, strict=True), start=1):
        one = {name: float(pixel) for name in NAMES} | {"image_ap": float(image)}
        one["pixel_ap_per_class"] = [float(pixel), float(pixel), None]
        found[split] = {"val": one, "test": one}
    return found


def cells(text: str, metric: str, side: str) -> list[str]:
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert len({len(row) for row in rows}) == 1
    (row,) = [row for row in rows if row[2:4] == [metric, side]]
    return row


def test_an_effect_is_found_and_none_is_not():
    rng = np.random.default_rng(0)
    base = rng.normal(0.6, 0.1, 6)
    noise = rng.normal(0, 0.02, 6)
    better, same = base + 0.06 + noise, base + 0.003 + noise - noise.mean()
    rows = {
        ("localisation", "real"): planted(base, base),
        ("localisation", "mixed"): planted(better, same),
    }
    found = table(rows, "real")
    gap = better - base
    half = stats.t.ppf(0.975, 5) * gap.std(ddof=1) / np.sqrt(6)
    image = cells(found, "image AP", "test")
    assert image[7] == f"{gap.mean():+.3f} [{gap.mean() - half:+.3f}, {gap.mean() + half:+.3f}]"
    assert float(image[10]) < 0.01
    assert float(image[11]) == pytest.approx(2 * float(image[10]), abs=0.001)
    assert float(cells(found, "pixel AP", "test")[11]) > 0.05
    # val decides nothing
    assert cells(found, "image AP", "val")[11] == ""


def test_the_share_of_the_gap_is_told_where_there_is_a_gap():
    rng = np.random.default_rng(0)
    base, gap = rng.normal(0.5, 0.1, 6), rng.normal(0.2, 0.02, 6)
    noise = rng.normal(0, 0.1, 6)
    rows = {
        ("localisation", "real"): planted(base, base),
        ("localisation", "mixed"): planted(base + gap / 2, base),
        # no gap in pixel AP
        ("localisation", "full"): planted(base + gap, base + noise - noise.mean()),
    }
    pixel, image = closures(rows)
    assert "pixel AP" in pixel and "not defined" in pixel
    assert "image AP, 6 splits" in image and "is 50% [50%, 50%]" in image
    del rows["localisation", "full"]
    assert closures(rows) == []


def test_a_narrower_spread_is_told_from_the_same_one():
    rng = np.random.default_rng(0)
    base, other = rng.normal(0.6, 0.1, 12), rng.normal(0.6, 0.1, 12)
    rows = {
        ("localisation", "real"): planted(base, base),
        ("localisation", "mixed"): planted(0.6 + (other - 0.6) / 10, other),
    }
    pixel, image = spreads(rows, "real")
    assert "pixel AP, 12 splits" in pixel and float(pixel.split()[-1].rstrip(").")) > 0.05
    assert "image AP, 12 splits" in image and float(image.split()[-1].rstrip(").")) < 0.001
    assert f"real spreads by {base.std(ddof=1):.3f}" in image


def test_runs_of_other_settings_and_seeds_are_left_out(tmp_path):
    settings = {**MEASURED, "jobs": 1}
    config = ExperimentConfig(**settings)
    own = config.training_settings("localisation", synthetic=True)
    others = {**own, "localisation_steps": 7}
    for number, (seed, used) in enumerate([(1, own), (2, own), (1, others)]):
        folder = tmp_path / "evaluation" / "runs" / f"run{number}"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"settings": used}, default=str))
        result = {"task": "localisation", "arm": "mixed", "seed": seed, "metrics": number}
        (folder / "result.json").write_text(json.dumps(result))
    assert read({1: tmp_path}, settings) == {("localisation", "mixed"): {1: 0}}
