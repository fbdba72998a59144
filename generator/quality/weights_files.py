"""Finding the safetensors file of a downloaded network."""

from collections.abc import Sequence
from pathlib import Path

import torch

from generator.checkpoints import PICKLES
from generator.errors import WeightsError
from generator.weights.layout import beside, refuse_pickle


def find_safetensors(
    network: str, weights: Path | None = None, folders: Sequence[Path] = ()
) -> Path | None:
    """The file `<network>*.safetensors`.

    Args:
        network: such as `resnet18`.
        weights: what the user named, a file or a folder; None if nothing. For a pickle that was
            converted, what was made of it is taken.
        folders: where else to look, before torch's own folder (`$TORCH_HOME/hub/checkpoints`).
            A pickle that torch left there is passed over.

    Returns:
        None where nothing was named and nothing was found.

    Raises:
        WeightsError: what the user named is missing or a pickle.
    """
    if weights is None:
        places = (*folders, Path(torch.hub.get_dir()) / "checkpoints")
        found = [f for place in places for f in sorted(place.glob(f"{network}*.safetensors"))]
        return found[0] if found else None
    files = [weights] if weights.is_file() else sorted(weights.glob(f"{network}*"))
    files = [beside(f) if f.suffix in PICKLES and beside(f).is_file() else f for f in files]
    chosen = next((f for f in files if f.suffix not in PICKLES), None)
    if chosen is not None:
        return chosen
    if files:
        refuse_pickle(files[0])
    raise WeightsError(
        f"There is no {network}*.safetensors in {weights}; name a folder that holds one, or leave "
        "it out and the project's own extractor is used: augment build"
    )
