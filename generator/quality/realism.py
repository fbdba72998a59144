"""How far a sample lies from real defects of its class, in units of what those keep themselves."""

from collections.abc import Sequence

import numpy as np

from generator.quality.calibration import group_minimum, upper_bound
from generator.quality.features import Extractor
from generator.quality.windows import FOLDS, Window

NEIGHBOURS = 3


class Realism:
    """Distance to the nearest real defects of the class, as a k-nearest-neighbour detector of
    outliers has it (Ramaswamy et al., SIGMOD 2000; with deep features Sun et al., 2204.06507).

    A distance is the mean of those to the nearest window of each of the `NEIGHBOURS` nearest
    groups of images. The unit of a class is its median distance (each real window against the
    other groups) times the 95 % bound of (distance of a held-out window / that median), which is
    pooled over classes and measured with extractors that did not see the held-out images.
    """

    def __init__(
        self, windows: Sequence[Window], classes: Sequence[str], extractor: Extractor
    ) -> None:
        """Measure the real ones."""
        self._extractor = extractor
        members = {name: [w for w in windows if w.class_name == name] for name in classes}
        features = {name: _embed(extractor, found) for name, found in members.items()}
        self._groups = {name: _groups(found) for name, found in members.items()}
        ratios: list[float] = []
        for fold in range(FOLDS):
            ratios += _held_out_ratios(members, extractor.without(fold), fold)
        medians = {name: _median(features[name], self._groups[name]) for name in classes}
        bound = upper_bound(ratios) if ratios else None
        self._features = features
        self._units = {
            name: median * bound
            for name, median in medians.items()
            if bound is not None and median is not None and median > 0
        }

    def scores(
        self, images: Sequence[np.ndarray], class_names: Sequence[str]
    ) -> list[float | None]:
        """Distance of each window in units of its class; 1 is the bound that 95 % of real ones
        keep.

        Args:
            images: windows, (h, w, 3) uint8.
            class_names: of each.

        Returns:
            None for a class of fewer than two groups of images, which has no such distance.
        """
        found = self._extractor.embed(images)
        scores: list[float | None] = []
        for vector, name in zip(found, class_names, strict=True):
            unit = self._units.get(name)
            if unit is None:
                scores.append(None)
                continue
            gaps = _distances(vector[None], self._features[name], self._groups[name])
            scores.append(float(gaps[0]) / unit)
        return scores


def _held_out_ratios(
    members: dict[str, list[Window]], extractor: Extractor, fold: int
) -> list[float]:
    ratios: list[float] = []
    for found in members.values():
        known = [w for w in found if w.fold != fold]
        held = [w for w in found if w.fold == fold]
        if not held:
            continue
        features, groups = _embed(extractor, known), _groups(known)
        median = _median(features, groups)
        if median:
            gaps = _distances(_embed(extractor, held), features, groups)
            ratios += [float(gap) / median for gap in gaps]
    return ratios


def _median(features: np.ndarray, groups: np.ndarray) -> float | None:
    """Median distance of windows to the other groups; None with fewer than two groups."""
    if len(np.unique(groups)) < 2:
        return None
    return float(np.median(_distances(features, features, groups, own=groups)))


def _distances(
    vectors: np.ndarray, features: np.ndarray, groups: np.ndarray, own: np.ndarray | None = None
) -> np.ndarray:
    """(M, D) against (N, D), rows of length 1 -> (M,) mean distance to the nearest groups."""
    gaps = np.sqrt(np.maximum(2 - 2 * vectors @ features.T, 0))
    nearest = np.sort(group_minimum(gaps, groups, own), axis=1)
    usable = nearest.shape[1] - (own is not None)
    return np.asarray(nearest[:, : min(NEIGHBOURS, usable)].mean(axis=1))


def _embed(extractor: Extractor, windows: Sequence[Window]) -> np.ndarray:
    return extractor.embed([w.pixels for w in windows])


def _groups(windows: Sequence[Window]) -> np.ndarray:
    return np.array([w.group for w in windows])
