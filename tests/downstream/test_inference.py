"""Intervals, corrections and power against scipy, statsmodels and simulated experiments."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import DescrStatsW

from downstream.closure import fieller, gap_closure
from downstream.power import power, power_note, seeds_needed, smallest_shown
from downstream.statistics import (
    Difference,
    classification_samples,
    difference,
    draw,
    holm,
    over_seeds,
)


def alone(images: int) -> list[str]:
    """Groups of one image each."""
    return list(map(str, range(images)))


def experiment(
    rng: np.random.Generator,
    effects: tuple[float, ...],
    *,
    seeds: int,
    noise: float,
    images: int = 60,
    samples: int = 200,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Accuracy of several arms on one test split, as a bootstrap sees it.

    Some images are harder than others for everybody, each training is better or worse than the
    next by `noise`, and what is right on which image is chance.

    Returns:
        Of each arm the resamples (B,) and the seeds' own values (S,).
    """
    ease = rng.normal(0.5, 0.15, images)
    rows = draw(alone(images), seeds, samples, int(rng.integers(2**31)))
    weights = np.concatenate([np.ones((1, images), dtype=int), rows.images])
    arms = []
    for effect in effects:
        level = ease + effect + noise * rng.normal(size=(seeds, 1))
        right = (rng.random((seeds, images)) < level).astype(float)
        values = right @ weights.T / images
        arms.append((over_seeds(values[:, 1:], rows.seeds), values[:, 0]))
    return arms


def gap_of(arms: list[tuple[np.ndarray, np.ndarray]]) -> Difference:
    found = difference(arms[1][0], arms[0][0], arms[1][1] - arms[0][1], 0.95)
    assert found is not None
    return found


def test_no_effect_is_claimed_in_about_one_of_twenty() -> None:
    """Three seeds, and more noise of the training than of the images, as with few shots."""
    rng = np.random.default_rng(0)
    claimed, by_images_alone = 0, 0
    for _ in range(500):
        arms = experiment(rng, (0.0, 0.0), seeds=3, noise=0.15)
        claimed += gap_of(arms).verdict != "no evidence"
        low, high = np.quantile(arms[1][0] - arms[0][0], [0.025, 0.975])
        by_images_alone += low > 0 or high < 0
    assert 0.02 * 500 <= claimed <= 0.05 * 500 + 2.5 * np.sqrt(500 * 0.05 * 0.95)
    assert by_images_alone > 1.5 * claimed  # what the wider of the two is for


def test_a_known_effect_is_found_and_its_interval_holds_it() -> None:
    rng = np.random.default_rng(1)
    found, held = 0, 0
    for _ in range(100):
        gap = gap_of(experiment(rng, (0.0, 0.2), seeds=5, noise=0.03))
        found += gap.verdict == "helps"
        held += gap.low <= 0.2 <= gap.high
    assert found >= 90 and held >= 88


@pytest.mark.parametrize("seeds", [1, 2])
def test_no_verdict_below_three_seeds(seeds: int) -> None:
    rng = np.random.default_rng(2)
    gap = gap_of(experiment(rng, (0.0, 0.5), seeds=seeds, noise=0.0))
    assert gap.verdict == "no verdict" and gap.seeds == seeds
    assert gap.low <= gap.value <= gap.high


def test_the_bootstrap_is_scipys() -> None:
    """One seed, so images alone: the same interval as scipy's paired percentile bootstrap."""
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 2, 150)
    guesses = [np.where(rng.random(150) < hit, truth, 1 - truth) for hit in (0.8, 0.6)]
    images = draw(alone(150), 1, 4000, 0).images
    weights = np.concatenate([np.ones((1, 150), dtype=int), images])
    ours = [classification_samples(truth, guess, 2, weights)["accuracy"] for guess in guesses]
    gap = difference(ours[0][1:], ours[1][1:], ours[0][:1] - ours[1][:1], 0.95)
    assert gap is not None
    theirs = stats.bootstrap(
        ((guesses[0] == truth).astype(float), (guesses[1] == truth).astype(float)),
        lambda a, b, axis: a.mean(axis=axis) - b.mean(axis=axis),
        paired=True, method="percentile", n_resamples=4000, rng=np.random.default_rng(4),
    ).confidence_interval  # fmt: skip
    assert (gap.low, gap.high) == pytest.approx((theirs.low, theirs.high), abs=0.012)
    assert gap.value == pytest.approx(np.mean(guesses[0] == truth) - np.mean(guesses[1] == truth))


def test_the_interval_over_seeds_is_students() -> None:
    """Resamples that all agree leave the seeds' own interval."""
    each = np.array([0.04, 0.01, 0.06, 0.03])
    gap = difference(np.full(300, each.mean()), np.zeros(300), each, 0.95)
    assert gap is not None
    own = DescrStatsW(each)
    assert (gap.low, gap.high) == pytest.approx(own.tconfint_mean(0.05))
    assert gap.p == pytest.approx(own.ttest_mean(0)[1])
    same = difference(np.linspace(0.1, 0.3, 300), np.zeros(300), np.full(3, 0.2), 0.95)
    assert same is not None and (same.low, same.high) == pytest.approx((0.105, 0.295))


@pytest.mark.parametrize("seed", range(5))
def test_holm_is_statsmodels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p_values = rng.random(9) ** 3
    ours = holm({str(k): float(p) for k, p in enumerate(p_values)})
    theirs = multipletests(p_values, method="holm")[1]
    assert [ours[str(k)] for k in range(9)] == pytest.approx(theirs)


@pytest.mark.parametrize(("effect", "seeds"), [(0.02, 3), (0.05, 5), (0.1, 12)])
def test_power_is_statsmodels(effect: float, seeds: int) -> None:
    ours = power(effect, 0.06, 0.0, seeds, 0.05)
    theirs = TTestPower().power(effect / 0.06, seeds, 0.05)
    assert ours == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize("spread", [0.01, 0.04, 0.09])
def test_seeds_needed_is_statsmodels(spread: float) -> None:
    needed = TTestPower().solve_power(0.05 / spread, power=0.8, alpha=0.05)
    assert seeds_needed(0.05, spread, 0.0, 0.05) == max(3, int(np.ceil(needed)))


def test_what_the_test_images_cannot_show_no_number_of_seeds_shows() -> None:
    note = power_note(0.03, 0.02, 0.95)
    assert note["smallest"] == pytest.approx(0.056, abs=1e-3) == smallest_shown(0.02, 0.05)
    assert note["needed"]["0.02"] is None and note["needed"]["0.05"] is None
    assert 3 <= note["needed"]["0.10"] <= 6
    strict = power_note(0.05, 0.01, 0.95, comparisons=6)
    assert strict["comparisons"] == 6
    assert strict["needed"]["0.05"] == seeds_needed(0.05, 0.05, 0.01, 0.05 / 6) > 2 * 10
    assert strict["smallest"] > power_note(0.05, 0.01, 0.95)["smallest"]
    assert seeds_needed(0.06, 0.03, 0.02, 0.05) > seeds_needed(0.06, 0.03, 0.0, 0.05)


def test_fieller_holds_the_ratios_that_a_t_test_does_not_refuse() -> None:
    rng = np.random.default_rng(5)
    below = rng.normal(0.3, 0.05, 6)
    above = 0.6 * below + rng.normal(0, 0.03, 6)
    bounds = fieller(above, below, 0.95)
    assert bounds is not None
    for bound, inward in zip(bounds, (1, -1), strict=True):
        p = [stats.ttest_1samp(above - (bound + s * 1e-4) * below, 0).pvalue for s in (-1, 0, 1)]
        assert p[1] == pytest.approx(0.05, abs=1e-6)
        assert p[1 + inward] > 0.05 > p[1 - inward]
    assert fieller(above, rng.normal(0, 0.3, 6), 0.95) is None


def test_gap_closure_holds_the_truth() -> None:
    rng = np.random.default_rng(6)
    held, known = 0, 0
    for _ in range(60):
        real, arm, full = experiment(
            rng, (-0.3, -0.1, 0.1), seeds=5, noise=0.02, images=150, samples=150
        )
        sides = [(each[0] - real[0], each[1] - real[1]) for each in (arm, full)]
        gap = difference(full[0], real[0], full[1] - real[1], 0.95)
        closed = gap_closure(sides[0][0], sides[1][0], sides[0][1], sides[1][1], gap, 0.95)
        if closed.value is not None:
            known += 1
            assert closed.low < closed.value < closed.high
            held += closed.low <= 0.5 <= closed.high
    assert known >= 55 and held >= 0.88 * known


def test_gap_closure_without_a_gap_is_not_a_number() -> None:
    few, many = np.zeros(2), np.array([0.01, -0.02, 0.015])
    none = Difference(0.0, -0.02, 0.02, 0.9, 3)
    found = gap_closure(np.ones(9), np.ones(9), many, many, none, 0.95)
    assert found.value is None
    assert found.reason == "not defined: full against real is +0.000 [-0.020, +0.020], no sure gap"
    two = Difference(0.3, 0.2, 0.4, 0.01, 2)
    assert "below 3 seeds" in gap_closure(np.ones(9), np.ones(9), few, few, two, 0.95).reason
    assert gap_closure(np.ones(9), np.ones(9), few, few, None, 0.95).value is None
