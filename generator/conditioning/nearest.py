"""Which of ImageNet's classes a project's defects are nearest to, by name or by look."""

import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from generator.checkpoints import PICKLES
from generator.conditioning.imagenet import (
    COUNT,
    imagenet_classes,
    imagenet_index,
    is_synset,
    synset_names,
)
from generator.conditioning.names import class_words
from generator.errors import RecipeError, WeightsError
from generator.quality.weights_files import find_safetensors
from generator.weights.layout import beside, refuse_pickle

if TYPE_CHECKING:
    from generator.data import CropData

CROPS = 32
"""Training crops of each class that are looked at."""
SIDE_PX = 224
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
_NAME = "resnet18"


def assign(similarity: np.ndarray, fixed: Mapping[int, int] | None = None) -> tuple[int, ...]:
    """A class of ImageNet for each row, none twice, such that the sum of similarities is largest
    (the assignment problem).

    Args:
        similarity: (K, 1000), larger is nearer.
        fixed: rows whose class is settled.

    Raises:
        RecipeError: two rows are settled on one class, or there are more rows than classes.
    """
    fixed = fixed or {}
    if len(set(fixed.values())) < len(fixed) or len(similarity) > COUNT:
        raise RecipeError(
            "Every defect class needs a class of ImageNet of its own; name another in "
            "conditioning.labels, then type: augment train."
        )
    rows = [k for k in range(len(similarity)) if k not in fixed]
    columns = [k for k in range(COUNT) if k not in fixed.values()]
    chosen = linear_sum_assignment(similarity[np.ix_(rows, columns)], maximize=True)[1]
    found = dict(fixed) | {row: columns[k] for row, k in zip(rows, chosen, strict=True)}
    return tuple(found[k] for k in range(len(similarity)))


def name_similarity(classes: Sequence[str]) -> np.ndarray:
    """(K, 1000) how alike a project's class names and ImageNet's are spelt, from 0 to 2.

    The share of common words (Jaccard) plus the share of common letters in order (Ratcliff and
    Obershelp), for the synonym for which that is most. A synset's id stands for its own class.
    """
    alike = np.zeros((len(classes), COUNT))
    synsets = {known.synset for known in imagenet_classes()}
    for row, name in enumerate(classes):
        if name in synsets:
            alike[row, imagenet_index(name)] = 2
            continue
        for spelling in (synset_names(name) if is_synset(name) else ()) or (class_words(name),):
            words = _words(spelling)
            # The matcher prepares its second text, so that one is kept.
            matcher = difflib.SequenceMatcher(b=" ".join(words), autojunk=False)
            for known in imagenet_classes():
                best = max(_alike(words, _words(n), matcher) for n in known.names)
                alike[row, known.index] = max(alike[row, known.index], best)
    return alike


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text.lower())


def _alike(words: Sequence[str], known: Sequence[str], matcher: difflib.SequenceMatcher) -> float:
    common = len(set(words) & set(known)) / max(len(set(words) | set(known)), 1)
    matcher.set_seq1(" ".join(known))
    return common + matcher.ratio()


@torch.no_grad()
def look_similarity(data: "CropData", file: Path | None, seed: int) -> np.ndarray:
    """(K, 1000) mean probability of each ImageNet class over training crops of each class.

    Args:
        data: crops are drawn of its classes.
        file: safetensors of torchvision's ResNet-18 (He et al., 1512.03385); else one is looked
            for in torch's folder, `$TORCH_HOME/hub/checkpoints`.
        seed: of the crops.

    Raises:
        WeightsError: the classifier is not on disk, a pickle, or of another network.
    """
    classify = open_classifier(file)
    means = []
    for class_id in range(len(data.classes)):
        images = data.class_crops(class_id, CROPS, seed).images
        means.append(classify(for_classifier(images)).softmax(dim=1).mean(dim=0))
    return torch.stack(means).double().numpy()


def for_classifier(images: Tensor) -> Tensor:
    """(B, 1 or 3, H, W) in [-1, 1] -> (B, 3, 224, 224), normalised as torchvision's weights were
    trained."""
    pixels = F.interpolate(
        (images.expand(-1, 3, -1, -1) + 1) / 2,
        size=(SIDE_PX, SIDE_PX),
        mode="bilinear",
        antialias=True,
    )
    mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, DEVIATION))
    return (pixels - mean) / deviation


def find_classifier(file: Path | None) -> Path:
    """The safetensors file of the classifier; see `look_similarity`.

    Raises:
        WeightsError: it is missing, or a pickle that was not converted.
    """
    chosen = file or find_safetensors(_NAME)
    if chosen is None or not chosen.is_file():
        place = file or Path(torch.hub.get_dir()) / "checkpoints"
        raise WeightsError(
            f"No classifier of ImageNet is on disk ({_NAME}*.safetensors in {place}); set "
            "conditioning.start to 'name' and type: augment train"
        )
    if chosen.suffix in PICKLES:
        if not beside(chosen).is_file():
            refuse_pickle(chosen)
        chosen = beside(chosen)
    return chosen


def open_classifier(file: Path | None) -> Any:
    """torchvision's ResNet-18 with ImageNet's weights; see `look_similarity`.

    Raises:
        WeightsError: the file is missing, a pickle, or of another network.
    """
    from torchvision.models import resnet18

    chosen = find_classifier(file)
    network = resnet18(weights=None)
    try:
        network.load_state_dict(load_file(chosen))
    except (SafetensorError, OSError, RuntimeError) as fault:
        raise WeightsError(
            f"{chosen} does not hold torchvision's {_NAME} ({str(fault).splitlines()[0]}); set "
            "conditioning.start to 'name' and type: augment train"
        ) from None
    return network.eval()
