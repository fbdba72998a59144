"""How near a set of samples comes to the real ones, class by class: FID, KID, inception score and
diversity.

Every result's name carries what looked at the pictures: `fid_own-1a2b3c4d` was measured with the
project's own extractor and can't be compared with a published FID, nor with one of another
extractor; smaller is nearer, on one project and one extractor.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore
from torchmetrics.image.kid import KernelInceptionDistance

from generator.quality.class_agreement import ClassAgreement
from generator.quality.features import Extractor
from generator.quality.lpips import Lpips, find_lpips
from generator.quality.windows import defect_window, read_sample, real_windows
from generator.records import DefectExample, SyntheticDefect

ALL = "all"
"""The row of all classes together."""

KID_SUBSET = 50
KID_SUBSETS = 50
MOST_PAIRS = 200
"""Pairs of pictures for the diversity of a class."""

Row = dict[str, float | str]


class _Given(nn.Module):
    """Stands where torchmetrics expects a feature network: the features are computed already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def measure_pool(
    pairs: Sequence[tuple[Path, SyntheticDefect]],
    examples: Sequence[DefectExample],
    classes: Sequence[str],
    extractor: Extractor,
    agreement: ClassAgreement | None = None,
    *,
    seed: int = 0,
    lpips_weights: Path | None = None,
) -> dict[str, Row]:
    """`measure` on the windows of real defects and of samples.

    Args:
        pairs: pool and record of each sample.
        examples: real ones; which split they are of is the caller's business.
        classes: defect classes.
        extractor, agreement, seed, lpips_weights: see `measure`.

    Raises:
        ExampleError: an example can't be read.
        PoolError: a sample can't be read.
    """
    real: dict[str, list[np.ndarray]] = {name: [] for name in classes}
    for window in real_windows(examples, classes, seed):
        if window.class_name in real:
            real[window.class_name].append(window.pixels)
    made: dict[str, list[np.ndarray]] = {name: [] for name in classes}
    for pool, sample in pairs:
        image, _, box = read_sample(pool, sample)
        made[sample.class_name].append(defect_window(image, box).copy())
    return measure(real, made, extractor, agreement, seed=seed, lpips_weights=lpips_weights)


def measure(
    real: Mapping[str, Sequence[np.ndarray]],
    synthetic: Mapping[str, Sequence[np.ndarray]],
    extractor: Extractor,
    agreement: ClassAgreement | None = None,
    *,
    seed: int = 0,
    lpips_weights: Path | None = None,
) -> dict[str, Row]:
    """Compare synthetic pictures with real ones.

    Args:
        real, synthetic: windows by class, (h, w, 3) uint8 of any size.
        extractor: gives the features.
        agreement: its classifier gives the inception score; without one there is none.
        seed: of KID's subsets and of the pairs that diversity is measured on.
        lpips_weights: AlexNet's weights for LPIPS, a safetensors file or a folder with one; None
            looks where torch keeps them. Without them there is no LPIPS.

    Returns:
        A row a class, and `all`, JSON-able. With X for the extractor's name:

        - `real`, `synthetic`: number of pictures;
        - `fid_X`: Frechet distance (Heusel et al., 1706.08500), from two pictures a side on;
        - `kid_X`, `kid_std_X`: squared MMD with a cubic kernel (Binkowski et al., 1801.01401),
          unbiased, over subsets of at most 50 and never more than there are; from two on;
        - `is_X`: inception score (Salimans et al., 1606.03498) of the synthetic ones, 1 to the
          number of classes, by the project's classifier on X;
        - `diversity_X`, `real_diversity_X`: mean distance of two pictures' features, 0 to 2;
        - `lpips`, `real_lpips`: mean LPIPS (Zhang et al., 1801.03924) of two pictures;
        - `note`: what the numbers are too small for, empty otherwise.
    """
    perceptual = find_lpips(lpips_weights)
    rows = {}
    with _without_advice():
        for name in [*sorted({*real, *synthetic}), ALL]:
            names = [n for n in {**real, **synthetic} if name in (n, ALL)]
            ours = [image for n in names for image in real.get(n, ())]
            theirs = [image for n in names for image in synthetic.get(n, ())]
            rows[name] = _row(ours, theirs, extractor, agreement, seed, perceptual)
    return rows


def _row(
    real: Sequence[np.ndarray],
    synthetic: Sequence[np.ndarray],
    extractor: Extractor,
    agreement: ClassAgreement | None,
    seed: int,
    perceptual: Lpips | None,
) -> Row:
    tag = extractor.name
    ours, theirs = extractor.embed(real), extractor.embed(synthetic)
    least = min(len(real), len(synthetic))
    row: Row = {"real": float(len(real)), "synthetic": float(len(synthetic)), "note": ""}
    if least >= 2:
        row[f"fid_{tag}"] = _fid(ours, theirs)
        row[f"kid_{tag}"], row[f"kid_std_{tag}"] = _kid(ours, theirs, seed)
    if least <= extractor.dimensions:
        row["note"] = (
            f"{least} pictures on the smaller side for {extractor.dimensions} features: FID is "
            "biased upwards and only comparable between sets of the same sizes; read KID."
            if least >= 2
            else f"{least} pictures on the smaller side: too few for a distance between sets."
        )
    if agreement is not None and len(synthetic):
        logs = agreement.log_probabilities(synthetic, [frozenset()] * len(synthetic))
        if logs.shape[1] > 1:
            row[f"is_{tag}"] = _inception_score(logs)
    for prefix, images, features in (("", synthetic, theirs), ("real_", real, ours)):
        if chosen := _pairs(len(images), seed):
            gaps = [float(np.linalg.norm(features[a] - features[b])) for a, b in chosen]
            row[f"{prefix}diversity_{tag}"] = float(np.mean(gaps))
            if perceptual is not None:
                row[f"{prefix}lpips"] = perceptual.mean_distance(images, chosen)
    return row


@contextmanager
def _without_advice() -> Iterator[None]:
    """torchmetrics warns that features are kept in memory, and that one split has no spread."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def _fid(real: np.ndarray, synthetic: np.ndarray) -> float:
    metric = FrechetInceptionDistance(feature=_Given(real.shape[1]))
    metric.update(torch.from_numpy(real), real=True)
    metric.update(torch.from_numpy(synthetic), real=False)
    # A covariance of few samples is singular, and rounding can carry the result just below 0.
    return max(float(metric.compute()), 0.0)


def _kid(real: np.ndarray, synthetic: np.ndarray, seed: int) -> tuple[float, float]:
    size = min(KID_SUBSET, len(real), len(synthetic))
    metric = KernelInceptionDistance(
        feature=_Given(real.shape[1]), subsets=KID_SUBSETS, subset_size=size
    )
    metric.update(torch.from_numpy(real), real=True)
    metric.update(torch.from_numpy(synthetic), real=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        mean, deviation = metric.compute()
    return float(mean), float(deviation)


def _inception_score(logs: np.ndarray) -> float:
    """One split: a class has too few samples for the usual ten."""
    metric = InceptionScore(feature=_Given(logs.shape[1]), splits=1)
    metric.update(torch.from_numpy(logs))
    with torch.random.fork_rng(devices=[]):
        mean, _ = metric.compute()
    return float(mean)


def _pairs(count: int, seed: int) -> list[tuple[int, int]]:
    """All pairs, or `MOST_PAIRS` random ones of them."""
    first, second = np.triu_indices(count, 1)
    chosen = np.arange(len(first))
    if len(first) > MOST_PAIRS:
        chosen = np.random.default_rng(seed).choice(len(first), MOST_PAIRS, replace=False)
    return [(int(first[k]), int(second[k])) for k in chosen]
