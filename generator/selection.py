"""Picking one of several candidates for a sample.

DefectFill's low-fidelity selection (Song et al., 2503.13985): a network that was taught by few
examples sometimes continues the clean surface under the mask, so of several candidates the one
that differs most from what was there shows its defect best.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from generator.files import sha256_of, sha256_of_file
from generator.quality.lpips import ALEXNET, open_lpips
from generator.quality.weights_files import find_safetensors

LEVELS = 4

Distance = Callable[[Tensor, Tensor], Tensor]
"""(B, 3, H, W), (B, 3, H, W) in [-1, 1] -> (B, 1, H, W), how different each place looks."""


class Selector:
    """Measures by how much candidates changed what is under their masks.

    Attributes:
        name: of the measure, `lpips-alex` or, where its weights are not on disk, `laplacian`.
        fingerprint: hash of the measure and its weights.
    """

    def __init__(self, device: torch.device) -> None:
        """Open LPIPS, or do without.

        Args:
            device: to measure on.

        Raises:
            WeightsError: the file of its weights is damaged.
        """
        path = find_safetensors(ALEXNET)
        self.device = device
        self._distance: Distance = pyramid_distance
        self.name, identity = "laplacian", str(LEVELS)
        if path is not None:
            self._distance = open_lpips(path, spatial=True).to(device)
            self.name, identity = "lpips-alex", sha256_of_file(path)
        self.fingerprint = sha256_of([self.name, identity])

    @torch.no_grad()
    def change(self, candidates: np.ndarray, before: np.ndarray, masks: np.ndarray) -> np.ndarray:
        """(B,) float32: the mean distance to what was there, under the mask.

        Args:
            candidates: (B, S, S, C) float32 in about [0, 255], C 1 or 3.
            before: as `candidates`.
            masks: (B, S, S) float32 in [0, 1].
        """
        shown = [self._picture(images) for images in (candidates, before)]
        weights = torch.from_numpy(masks).to(self.device)[:, None]
        found = (self._distance(*shown) * weights).sum(dim=(1, 2, 3))
        return (found / weights.sum(dim=(1, 2, 3)).clamp(min=1e-6)).float().cpu().numpy()

    def _picture(self, images: np.ndarray) -> Tensor:
        pixels = torch.from_numpy(images.clip(0, 255)).to(self.device).permute(0, 3, 1, 2)
        return (pixels / 127.5 - 1).expand(-1, 3, -1, -1).contiguous()


def pyramid_distance(first: Tensor, second: Tensor) -> Tensor:
    """Mean absolute difference over the bands of the Laplacian pyramid (Burt and Adelson, 1983),
    all bands alike; see `Distance`. No network is needed, and none is claimed."""
    size = first.shape[2:]
    rest = first - second
    total = torch.zeros_like(rest[:, :1])
    for _ in range(LEVELS):
        coarse = F.avg_pool2d(rest, 2, ceil_mode=True)
        band = rest - F.interpolate(coarse, size=rest.shape[2:], mode="bilinear")
        shown = band.abs().mean(dim=1, keepdim=True)
        total = total + F.interpolate(shown, size=size, mode="bilinear")
        rest = coarse
    shown = F.interpolate(rest.abs().mean(dim=1, keepdim=True), size=size, mode="bilinear")
    return (total + shown) / (LEVELS + 1)
