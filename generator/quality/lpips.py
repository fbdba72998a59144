"""LPIPS, where the weights of its backbone are on disk."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torchmetrics.functional.image.lpips import _LPIPS

from generator.canvas import to_canvas, to_tensor
from generator.errors import WeightsError
from generator.quality.own_features import one_thread
from generator.quality.weights_files import find_safetensors

ALEXNET = "alexnet"
CANVAS_PX = 64


def open_lpips(path: Path, *, spatial: bool = False) -> nn.Module:
    """Learned perceptual distance of pictures (Zhang et al., 1801.03924) with AlexNet: called on
    two (B, 3, H, W) in [-1, 1] it gives (B, 1, 1, 1).

    The heads come with torchmetrics; the backbone is torchvision's AlexNet as trained on ImageNet.

    Args:
        path: torchvision's state dict of AlexNet, in safetensors.
        spatial: give (B, 1, H, W), a value for each place.

    Raises:
        WeightsError: the file is damaged or of another network.
    """
    # `pnet_rand` keeps it from fetching the backbone.
    with torch.random.fork_rng(devices=[]):
        network = _LPIPS(pretrained=True, net="alex", spatial=spatial, pnet_rand=True).eval()
    try:
        given = load_file(path)
        # torchmetrics cuts `features` into slices, and keeps the layers' numbers
        own = network.net.state_dict()
        wanted = {name: given[f"features.{name.split('.', 1)[1]}"] for name in own}
        network.net.load_state_dict(wanted)
    except (SafetensorError, OSError, KeyError, RuntimeError) as fault:
        raise WeightsError(
            f"{path} does not hold torchvision's {ALEXNET} ({str(fault).splitlines()[0]}); "
            "move it away and type the same command again: it does without."
        ) from None
    return network


class Lpips:
    """LPIPS as a measure of how far pictures lie apart; see `open_lpips`."""

    def __init__(self, path: Path) -> None:
        """Open it; see `open_lpips`."""
        self._net = open_lpips(path)

    def mean_distance(
        self, images: Sequence[np.ndarray], pairs: Sequence[tuple[int, int]]
    ) -> float:
        """Mean distance over pairs of indices; images are (h, w, 3) uint8."""
        canvases = to_tensor(np.stack([to_canvas(image, CANVAS_PX) for image in images]))
        first, second = (canvases[[pair[k] for pair in pairs]] for k in (0, 1))
        with one_thread(), torch.no_grad():
            return float(self._net(first, second).mean())


def find_lpips(weights: Path | None) -> Lpips | None:
    """LPIPS with the weights that `weights` names or torch's own folder holds; None without.

    Raises:
        WeightsError: what `weights` names is missing, a pickle, or of another network.
    """
    path = find_safetensors(ALEXNET, weights)
    return None if path is None else Lpips(path)
