"""Our matching against torchmetrics, and metrics against hand-made cases."""

from collections.abc import Callable

import numpy as np
import pytest

from downstream.matching import average_precision, f1_by_threshold, match
from downstream.metrics import (
    choose_threshold,
    classification_metrics,
    detection_metrics,
    f1_at,
)

Scene = Callable[..., tuple[list, list]]


@pytest.mark.parametrize("seed", range(6))
def test_own_ap_equals_torchmetrics(scene: Scene, seed: int) -> None:
    predictions, targets = scene(seed)
    theirs = detection_metrics(predictions, targets, 3)
    ones = np.ones(len(targets), dtype=int)
    ours = np.array([average_precision(m, ones) for m in match(predictions, targets, 3)])
    np.testing.assert_allclose(ours[:, 0], theirs["ap50_per_class"], atol=1e-6)
    np.testing.assert_allclose(ours.mean(axis=1), theirs["ap_per_class"], atol=1e-6)
    assert ours[:, 0].mean() == pytest.approx(theirs["map50"], abs=1e-6)
    assert ours.mean() == pytest.approx(theirs["map"], abs=1e-6)
    assert 0.1 < theirs["map50"] < 0.99


def test_weights_are_repeated_images(scene: Scene) -> None:
    predictions, targets = scene(11)
    rng = np.random.default_rng(0)
    weights = rng.multinomial(len(targets), np.full(len(targets), 1 / len(targets)))
    chosen = np.repeat(np.arange(len(targets)), weights)
    theirs = detection_metrics([predictions[i] for i in chosen], [targets[i] for i in chosen], 3)
    ours = np.array([average_precision(m, weights) for m in match(predictions, targets, 3)])
    # A copy's detections tie with the original's, and ties are ranked one after another there
    # and as one block here: the curve may differ by a fraction of a step.
    np.testing.assert_allclose(ours[:, 0], theirs["ap50_per_class"], atol=0.02)


def test_nothing_found_and_absent_class() -> None:
    empty = {"boxes": [], "scores": [], "classes": []}
    found = detection_metrics([empty, empty], [[(1, 0, 0, 9, 5)], []], 3)
    assert found["map50"] == 0
    assert found["ap50_per_class"] == [None, 0.0, None]
    ours = [
        average_precision(m, np.ones(2)) for m in match([empty] * 2, [[(1, 0, 0, 9, 5)], []], 3)
    ]
    assert np.isnan(ours[0]).all() and (ours[1] == 0).all()


def test_f1_and_its_threshold_by_hand() -> None:
    truth = [[(0, 0, 0, 20, 10)], [(0, 5, 5, 25, 15)], []]
    predictions = [
        {"boxes": [[0, 0, 20, 10], [50, 50, 60, 60]], "scores": [0.8, 0.3], "classes": [0, 0]},
        {"boxes": [[5, 5, 25, 15]], "scores": [0.6], "classes": [0]},
        {"boxes": [[1, 1, 9, 9]], "scores": [0.4], "classes": [0]},
    ]
    assert f1_at(predictions, truth, 1, 0.5) == {"f1": 1.0, "per_class": [1.0]}
    assert f1_at(predictions, truth, 1, 0.7)["f1"] == pytest.approx(2 * 1 / (1 + 2))
    assert f1_at(predictions, truth, 1, 0.1)["f1"] == pytest.approx(2 * 2 / (4 + 2))
    assert choose_threshold(predictions, truth, 1) == pytest.approx(0.5, abs=0.01)
    rows = f1_by_threshold(match(predictions, truth, 1), np.array([0.6, 0.601]))
    assert rows[0].tolist() == pytest.approx([1.0, 2 / 3])


def test_classification_by_hand() -> None:
    result = classification_metrics([0, 0, 0, 1, 1], [0, 0, 1, 1, 0], 3)
    assert result["accuracy"] == pytest.approx(0.6)
    assert result["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert result["macro_f1"] == pytest.approx((4 / 6 + 2 / 4) / 2)
    assert result["f1_per_class"] == [pytest.approx(4 / 6), pytest.approx(0.5), None]
    assert result["confusion_matrix"] == [[2, 1, 0], [1, 1, 0], [0, 0, 0]]
