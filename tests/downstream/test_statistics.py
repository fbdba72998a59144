"""The bootstrap finds what was planted, and nothing where nothing was."""

from collections.abc import Callable

import numpy as np
import pytest

from downstream.matching import average_precision, match
from downstream.metrics import classification_metrics, f1_at
from downstream.statistics import (
    Difference,
    classification_samples,
    corrected_verdict,
    detection_samples,
    difference,
    draw,
    holm,
    over_seeds,
)

Scene = Callable[..., tuple[list, list]]


def alone(images: int) -> list[str]:
    """Groups of one image each."""
    return list(map(str, range(images)))


def classify(rng: np.random.Generator, targets: np.ndarray, hit: float) -> np.ndarray:
    """Predictions that are right with a chance of `hit`, else any class."""
    return np.where(rng.random(len(targets)) < hit, targets, rng.integers(0, 3, len(targets)))


def gap(hits: tuple[float, float], seed: int, images: int = 120, seeds: int = 4) -> Difference:
    """The difference in macro F1 of two arms with planted hit rates."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 3, images)
    rows = draw(alone(images), seeds, 400, seed)
    weights = np.concatenate([np.ones((1, images), dtype=int), rows.images])
    arms = []
    for hit in hits:
        runs = [
            classification_samples(targets, classify(rng, targets, hit), 3, weights)["macro_f1"]
            for _ in range(seeds)
        ]
        arms.append(np.stack(runs))
    samples = [over_seeds(each[:, 1:], rows.seeds) for each in arms]
    found = difference(*samples, arms[0][:, 0] - arms[1][:, 0], 0.95)
    assert found is not None
    return found


def test_a_planted_effect_is_found() -> None:
    found = [gap((0.85, 0.55), seed) for seed in range(5)]
    assert all(each.verdict == "helps" and each.low > 0 for each in found)
    assert all(each.low < each.value < each.high and each.p < 0.05 for each in found)
    assert gap((0.55, 0.85), 0).verdict == "hurts"


def test_no_effect_is_not_found() -> None:
    verdicts = [gap((0.7, 0.7), seed).verdict for seed in range(40)]
    assert verdicts.count("no evidence") >= 34  # 95 % intervals: two wrong ones are expected


@pytest.mark.parametrize("seed", range(4))
def test_classification_samples_equal_torchmetrics(seed: int) -> None:
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 3, 30)
    guesses = rng.integers(0, 4, 30)  # class 3 is given, but never there
    weights = rng.multinomial(30, np.full(30, 1 / 30), size=3)
    ours = classification_samples(targets, guesses, 5, weights)
    for row, weight in enumerate(weights):
        chosen = np.repeat(np.arange(30), weight)
        theirs = classification_metrics(targets[chosen].tolist(), guesses[chosen].tolist(), 5)
        for name in ("accuracy", "macro_f1", "balanced_accuracy"):
            assert ours[name][row] == pytest.approx(theirs[name], abs=1e-6), name


def test_detection_samples_average_the_classes_that_are_there(scene: Scene) -> None:
    predictions, targets = scene(3)
    weights = np.stack(
        [np.ones(len(targets), dtype=int), draw(alone(len(targets)), 1, 100, 0).images[0]]
    )
    samples = detection_samples(predictions, targets, 4, weights, 0.4)
    assert np.isnan(samples["per_class"][:, 3]).all()
    matches = match(predictions, targets, 4)
    for row, weight in enumerate(weights):
        table = np.array([average_precision(m, weight) for m in matches[:3]])
        assert samples["map50"][row] == pytest.approx(np.nanmean(table[:, 0]))
        assert samples["map"][row] == pytest.approx(np.nanmean(table))
        repeated = np.repeat(np.arange(len(targets)), weight)
        f1 = f1_at([predictions[k] for k in repeated], [targets[k] for k in repeated], 4, 0.4)
        assert 0 < f1["f1"] < 1
        assert samples["f1"][row] == pytest.approx(f1["f1"])


def test_draws_repeat_and_keep_the_size() -> None:
    one, two = draw(alone(17), 3, 50, 9), draw(alone(17), 3, 50, 9)
    np.testing.assert_array_equal(one.images, two.images)
    assert (one.images.sum(axis=1) == 17).all()
    assert one.seeds.shape == (50, 3) and set(one.seeds.ravel()) == {0, 1, 2}


def test_images_of_one_group_are_drawn_together() -> None:
    images = draw(["a", "b", "a", "c", "c"], 1, 200, 0).images
    assert (images[:, 0] == images[:, 2]).all() and (images[:, 3] == images[:, 4]).all()
    assert (images[:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert len(np.unique(images, axis=0)) > 5


def test_photographs_of_one_part_are_one_piece_of_evidence() -> None:
    """Two arms that are equally good, and photographs of a part that agree: drawn one by one they
    give a verdict in some 40 of 100 experiments, drawn by part in few."""
    rng = np.random.default_rng(0)
    parts, copies, seeds = 40, 5, 3
    groups = [str(part) for part in range(parts) for _ in range(copies)]

    def verdict(names: list[str]) -> str:
        targets = np.repeat(rng.integers(0, 2, parts), copies)
        weights = np.concatenate(
            [np.ones((1, parts * copies), dtype=int), draw(names, 1, 200, 0).images]
        )
        arms = []
        for _ in range(2):
            ease = np.repeat(rng.normal(0.6, 1, parts), copies)
            each = [ease + rng.normal(0, 0.15, parts * copies) > 0 for _ in range(seeds)]
            guesses = [np.where(right, targets, 1 - targets) for right in each]
            arms.append(
                np.stack(
                    [classification_samples(targets, g, 2, weights)["accuracy"] for g in guesses]
                )
            )
        rows = draw([""], seeds, 200, 1).seeds
        drawn = [over_seeds(values[:, 1:], rows) for values in arms]
        found = difference(drawn[1], drawn[0], arms[1][:, 0] - arms[0][:, 0], 0.95)
        assert found is not None
        return found.verdict

    def claimed(names: list[str]) -> int:
        return sum(verdict(names) in ("helps", "hurts") for _ in range(100))

    assert claimed(groups) <= 10
    assert claimed(alone(parts * copies)) >= 25


def test_holm_by_hand() -> None:
    # Sorted: .01 x 4, .013 x 3, .03 x 2, .04 x 1, each at least as large as the one before.
    found = holm({"a": 0.04, "b": 0.01, "c": 0.03, "d": 0.013})
    assert found == pytest.approx({"b": 0.04, "d": 0.04, "c": 0.06, "a": 0.06})
    assert holm({"a": 0.9, "b": 0.8}) == {"b": 1.0, "a": 1.0}
    assert holm({}) == {}


def test_a_class_must_pass_the_correction() -> None:
    found = Difference(0.1, 0.01, 0.2, 0.03)
    assert corrected_verdict(found.verdict, 0.03, 0.95) == "helps"
    assert corrected_verdict(found.verdict, 0.06, 0.95) == "no evidence"
    assert corrected_verdict(Difference(-0.1, -0.2, -0.01, 0.01).verdict, 0.02, 0.95) == "hurts"


def test_nothing_to_compare() -> None:
    assert difference(np.full(9, np.nan), np.zeros(9), np.zeros(3), 0.95) is None
