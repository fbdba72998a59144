"""Localisation metrics against torchmetrics, scikit-learn and a plain reading of their papers."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score
from torchmetrics.functional.classification import (
    binary_auroc,
    binary_average_precision,
    binary_precision_recall_curve,
)

from downstream.localisation import (
    PRO_LIMIT,
    THRESHOLDS,
    count_pixels,
    localisation_metrics,
    localisation_samples,
)
from downstream.statistics import draw

CLASSES = ("dot", "bar", "ring")
PIXEL = ("pixel_ap", "pixel_f1", "pixel_auroc", "pro")
IMAGE = ("image_auroc", "image_ap")

Scene = tuple[list[dict[str, Any]], list[np.ndarray], list[np.ndarray]]


def scene(seed: int, images: int = 10, good: int = 4) -> Scene:
    """Rows, maps and masks of 31 x 44 px: rectangles, two of them touching at a corner, and maps
    that find some of them; there is no ring."""
    rng = np.random.default_rng(seed)
    rows, maps, masks = [], [], []
    for k in range(images):
        mask = np.zeros((31, 44), bool)
        if k >= good:
            for _ in range(rng.integers(1, 4)):
                x, y = rng.integers(0, 36), rng.integers(0, 24)
                mask[y : y + rng.integers(1, 7), x : x + rng.integers(1, 8)] = True
            mask[3:5, 3:5], mask[5:7, 5:7] = True, True
        logits = rng.normal(-4, 2, mask.shape) + mask * rng.uniform(0, 6)
        scores = (1 / (1 + np.exp(-logits))).astype(np.float32)
        name = "good" if k < good else CLASSES[k % 2]
        score = float(scores.max()) if k % 3 else 0.5  # some are equal
        rows.append({"class": name, "score": score, **count_pixels(scores, mask)})
        maps.append(scores)
        masks.append(mask)
    return rows, maps, masks


def naive_pro(maps: list[np.ndarray], masks: list[np.ndarray], thresholds: np.ndarray) -> float:
    """PRO as Bergmann et al. write it, threshold by threshold and region by region."""
    points = {(0.0, 0.0)}
    labelled = [ndimage.label(mask, structure=np.ones((3, 3))) for mask in masks]
    regions = [[labels == k + 1 for k in range(number)] for labels, number in labelled]
    for threshold in thresholds:
        overlaps, false, sound = [], 0, 0
        for scores, mask, own in zip(maps, masks, regions, strict=True):
            claimed = scores >= threshold
            overlaps += [claimed[region].mean() for region in own]
            false += int((claimed & ~mask).sum())
            sound += int((~mask).sum())
        points.add((false / sound, float(np.mean(overlaps))))
    x, y = np.array(sorted(points)).T
    at = np.linspace(0, PRO_LIMIT, 60_001)
    return float(np.interp(at, x, y).mean())


@pytest.mark.parametrize("seed", range(3))
def test_pixel_metrics_equal_torchmetrics_on_the_pixels_themselves(seed: int) -> None:
    rows, maps, masks = scene(seed)
    pixels, truth = np.concatenate(maps).ravel(), np.concatenate(masks).ravel()
    given = (torch.from_numpy(pixels), torch.from_numpy(truth).int())
    bins = torch.from_numpy(THRESHOLDS)
    ours = localisation_metrics(rows, CLASSES)
    assert ours["pixel_ap"] == pytest.approx(
        float(binary_average_precision(*given, thresholds=bins)), abs=1e-6
    )
    assert ours["pixel_auroc"] == pytest.approx(
        float(binary_auroc(*given, thresholds=bins)), abs=1e-6
    )
    precision, recall, _ = binary_precision_recall_curve(*given, thresholds=bins)
    f1 = torch.nan_to_num(2 * precision * recall / (precision + recall)).max()
    assert ours["pixel_f1"] == pytest.approx(float(f1), abs=1e-6)
    # and a thousand bins lose next to nothing against every single score
    assert ours["pixel_ap"] == pytest.approx(average_precision_score(truth, pixels), abs=3e-3)
    assert ours["pixel_auroc"] == pytest.approx(roc_auc_score(truth, pixels), abs=1e-3)
    assert ours["defect_share"] == pytest.approx(truth.mean())
    defect = [row["class"] != "good" for row in rows]
    scores = [row["score"] for row in rows]
    assert ours["image_auroc"] == pytest.approx(roc_auc_score(defect, scores))
    assert ours["image_ap"] == pytest.approx(average_precision_score(defect, scores))


@pytest.mark.parametrize("seed", range(3))
def test_pro_equals_a_naive_implementation(seed: int) -> None:
    rows, maps, masks = scene(seed, images=6, good=2)
    ours = localisation_metrics(rows, CLASSES)["pro"]
    assert ours == pytest.approx(naive_pro(maps, masks, THRESHOLDS), abs=1e-4)
    exact = np.unique(np.concatenate([each.ravel() for each in maps]))[::11]
    assert ours == pytest.approx(naive_pro(maps, masks, exact), abs=2e-3)
    assert 0.1 < ours < 0.95


def test_a_perfect_and_a_blind_map() -> None:
    rows, _, masks = scene(0)
    perfect, blind = [], []
    for row, mask in zip(rows, masks, strict=True):
        score = {"class": row["class"], "score": float(mask.any())}
        perfect.append({**score, **count_pixels(mask.astype(np.float32), mask)})
        flat = np.full(mask.shape, 0.3, np.float32)
        blind.append({**score, "score": 0.3, **count_pixels(flat, mask)})
    best, worst = (localisation_metrics(each, CLASSES) for each in (perfect, blind))
    assert [best[name] for name in (*PIXEL, *IMAGE)] == pytest.approx([1.0] * 6)
    assert worst["pixel_ap"] == pytest.approx(worst["defect_share"])
    assert worst["pixel_auroc"] == pytest.approx(0.5) and worst["image_auroc"] == 0.5
    assert worst["pro"] == pytest.approx(0.15)  # the line from (0, 0) to (1, 1), up to 0.3


def test_a_small_region_weighs_as_much_as_a_large_one_in_pro() -> None:
    mask = np.zeros((20, 50), bool)
    mask[2:18, 2:22] = True
    mask[5:7, 40:42] = True
    scores = np.where(mask, np.float32(0.9), np.float32(0.1))
    scores[5:7, 40:42] = 0.1  # the small one is missed
    row = {"class": "dot", "score": 0.9, **count_pixels(scores, mask)}
    found = localisation_metrics([row], CLASSES)
    limit = PRO_LIMIT / 1.0  # the missed one comes with the whole background, at FPR 1
    assert found["pro"] == pytest.approx(0.5 + 0.5 * limit / 2)
    assert found["pixel_ap"] > 0.95 and found["image_auroc"] is None and found["image_ap"] is None


def test_corner_neighbours_are_one_region() -> None:
    mask = np.zeros((6, 9), bool)
    mask[1, 1], mask[2, 2], mask[4, 7] = True, True, True
    counted = count_pixels(np.full(mask.shape, 0.5, np.float32), mask)
    assert [sum(n for _, n in region) for region in counted["regions"]] == [2, 1]
    assert sum(n for _, n in counted["negatives"]) == 6 * 9 - 3


@pytest.mark.parametrize("seed", range(3))
def test_samples_equal_the_metrics_of_repeated_images(seed: int) -> None:
    """Weights of one give the split itself, others the split with images as often as they say."""
    rows, _, _ = scene(seed)
    weights = np.concatenate(
        [np.ones((1, 10), int), draw(list(map(str, range(10))), 1, 6, seed).images]
    )
    ours = localisation_samples(rows, CLASSES, weights)
    for k, weight in enumerate(weights):
        theirs = localisation_metrics([rows[i] for i in np.repeat(range(10), weight)], CLASSES)
        for name in (*PIXEL, *IMAGE):
            value = np.nan if theirs[name] is None else theirs[name]
            assert ours[name][k] == pytest.approx(value, abs=1e-6, nan_ok=True), name
        each = [np.nan if v is None else v for v in theirs["pixel_ap_per_class"]]
        np.testing.assert_allclose(ours["per_class"][k], each, atol=1e-6)
    assert np.isnan(ours["per_class"][:, 2]).all()


def test_a_class_is_measured_on_its_images_and_the_good_ones() -> None:
    rows, _, _ = scene(5)
    whole = localisation_metrics(rows, CLASSES)["pixel_ap_per_class"]
    for k, name in enumerate(CLASSES[:2]):
        own = [row for row in rows if row["class"] in (name, "good")]
        assert whole[k] == pytest.approx(localisation_metrics(own, CLASSES)["pixel_ap"])
    assert whole[2] is None and whole[0] != whole[1]


def test_a_resample_without_a_defect_or_without_a_good_image() -> None:
    rows, _, _ = scene(1)
    only_good = np.array([[3, 3, 2, 2, 0, 0, 0, 0, 0, 0]])
    found = localisation_samples(rows, CLASSES, only_good)
    assert all(np.isnan(found[name][0]) for name in (*PIXEL, *IMAGE))
    only_bad = np.array([[0, 0, 0, 0, 5, 1, 1, 1, 1, 1]])
    found = localisation_samples(rows, CLASSES, only_bad)
    assert all(np.isnan(found[name][0]) for name in IMAGE)
    assert all(0 < found[name][0] < 1 for name in PIXEL)
