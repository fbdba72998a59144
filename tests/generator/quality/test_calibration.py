"""Bounds hold for new values as often as they say."""

import numpy as np
import pytest

from generator.quality.calibration import group_minimum, lower_bound, upper_bound


def test_a_bound_is_the_conformal_quantile():
    assert upper_bound(np.arange(1, 100)) == 95  # ceil(100 * 0.95) = 95th of 99
    assert upper_bound(np.arange(1, 20)) == 19  # ceil(20 * 0.95) = 19th of 19
    assert upper_bound([3.0, 1.0]) == 3.0  # too few: the largest
    assert lower_bound(np.arange(1, 100)) == 5


@pytest.mark.parametrize("count", [19, 60, 200])
def test_new_values_keep_it(count):
    rng = np.random.default_rng(count)
    kept = [rng.lognormal() <= upper_bound(rng.lognormal(size=count)) for _ in range(4000)]
    assert 0.94 <= np.mean(kept) <= 0.965


def test_distances_to_groups():
    gaps = np.array([[3.0, 1.0, 2.0], [5.0, 6.0, 4.0]])
    groups = np.array(["b", "a", "b"])
    assert group_minimum(gaps, groups).tolist() == [[1, 2], [6, 4]]
    assert group_minimum(gaps, groups, ["a", "b"]).tolist() == [[np.inf, 2], [6, np.inf]]
