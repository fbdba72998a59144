"""One feature extractor for every score and for the App's similarity views."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from generator.canvas import to_canvas
from generator.errors import WeightsError
from generator.files import sha256_of_file
from generator.quality.own_features import one_thread, open_own
from generator.quality.weights_files import find_safetensors
from generator.quality.windows import defect_window
from generator.records import DefectExample

__all__ = ["DownloadedExtractor", "Extractor", "defect_window", "open_extractor"]

RESNET = "resnet18"
RESNET_PX = 128
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


class Extractor(Protocol):
    """Pictures -> vectors.

    Attributes:
        name: stands beside every score made with it, such as `resnet18-imagenet` or
            `own-1a2b3c4d`; scores of two extractors can't be compared.
        fingerprint: hash of what its features follow from.
        dimensions: D.
    """

    name: str
    fingerprint: str
    dimensions: int

    def embed(self, images: Sequence[np.ndarray], batch_size: int = 64) -> np.ndarray:
        """Pictures, each (h, w, 3) uint8 of any size -> (N, D) float32, rows of length 1."""
        ...

    def without(self, fold: int) -> "Extractor":
        """The extractor as it would be without the images of a fold
        (`generator.quality.windows.assign_folds`); itself where it never saw any."""
        ...


class DownloadedExtractor:
    """ResNet-18 (He et al., 1512.03385) as trained on ImageNet; 512 features. See `Extractor`."""

    name = f"{RESNET}-imagenet"
    dimensions = 512

    def __init__(self, path: Path) -> None:
        """Read torchvision's state dict from a safetensors file.

        Raises:
            WeightsError: it is damaged, or of another network.
        """
        from torchvision.models import resnet18

        net = resnet18(weights=None)
        try:
            net.load_state_dict(load_file(path))
        except (SafetensorError, OSError, RuntimeError) as fault:
            raise WeightsError(
                f"{path} does not hold torchvision's {RESNET} ({str(fault).splitlines()[0]}); "
                "name a file that does, or leave it out and the project trains its own: "
                "augment build"
            ) from None
        self.fingerprint = sha256_of_file(path)
        self._net: Any = net.eval()
        self._net.fc = nn.Identity()

    def without(self, fold: int) -> "DownloadedExtractor":
        """Itself: it never saw any of the project's images."""
        del fold
        return self

    def embed(self, images: Sequence[np.ndarray], batch_size: int = 64) -> np.ndarray:
        """See `Extractor.embed`."""
        parts = [np.zeros((0, self.dimensions), np.float32)]
        with one_thread(), torch.no_grad():
            for first in range(0, len(images), batch_size):
                batch = _for_imagenet(images[first : first + batch_size])
                parts.append(F.normalize(self._net(batch), dim=1).numpy())
        return np.concatenate(parts)


def open_extractor(
    examples: Sequence[DefectExample],
    classes: Sequence[str],
    folder: Path,
    *,
    weights: Path | None = None,
    seed: int = 0,
    on_step: Callable[[int, int, float], None] | None = None,
) -> Extractor:
    """The extractor of a project: downloaded weights where they are on disk, else its own.

    Downloaded ones are a file `resnet18*.safetensors`: the one that `weights` names, or else one
    in `folder` or in torch's own (`$TORCH_HOME/hub/checkpoints`). Nothing is downloaded.

    Args:
        examples: of the train split.
        classes: defect classes.
        folder: of the project, for the extractor that it trains.
        weights: a safetensors file, or a folder with one.
        seed: of the training.
        on_step: called after each training step with its number, how many there are, and the loss.

    Raises:
        WeightsError: `weights` is missing, a pickle, or of another network.
        ExampleError: an image can't be read.
        TrainingError: there is no defect to learn from.
    """
    path = find_safetensors(RESNET, weights, [folder])
    if path is not None:
        return DownloadedExtractor(path)
    return open_own(examples, classes, folder, seed=seed, on_step=on_step)


def _for_imagenet(images: Sequence[np.ndarray]) -> Tensor:
    canvases = np.stack([to_canvas(image, RESNET_PX) for image in images])
    pixels = torch.from_numpy(canvases.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    mean, deviation = (
        torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_DEVIATION)
    )
    return (pixels - mean) / deviation
