"""The hub's folder layout: the files of each part, and whether they are whole."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from safetensors import SafetensorError, safe_open

from generator.checkpoints import PICKLES
from generator.errors import WeightsError

_LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class PartFiles:
    """Attributes:
    small: names of the config files of a part, relative to the pipeline's folder.
    tensors: name of its safetensors file; None where a part has none.
    pickle: name that the same weights have as a pickle on the hub.
    """

    small: tuple[str, ...]
    tensors: str | None = None
    pickle: str | None = None


def files_of(part: str) -> PartFiles:
    """The files of a part.

    Args:
        part: a sub-folder (`unet`, `scheduler`, ...), or a file beside them (`model_index.json`).
    """
    if Path(part).suffix:
        return PartFiles((part,))
    if part == "scheduler":
        return PartFiles(("scheduler/scheduler_config.json",))
    if part.startswith("tokenizer"):
        # The last says how long a prompt may be.
        names = ("vocab.json", "merges.txt", "tokenizer_config.json")
        return PartFiles(tuple(f"{part}/{name}" for name in names))
    # transformers and diffusers each have their own name for the file.
    if part.startswith("text_encoder"):
        tensors, pickle = "model.safetensors", "pytorch_model.bin"
    else:
        tensors, pickle = "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"
    return PartFiles((f"{part}/config.json",), f"{part}/{tensors}", f"{part}/{pickle}")


def fault_of(folder: Path, parts: Sequence[str]) -> str | None:
    """What keeps `folder` from being used, as half a sentence; None if all `parts` are whole.

    Raises:
        WeightsError: a part's weights lie there as a pickle only.
    """
    for part in parts:
        files = files_of(part)
        for name in files.small:
            if not (folder / name).is_file():
                return f"{folder} has no {name}"
        if files.tensors is None:
            continue
        path = folder / files.tensors
        if not path.is_file():
            _refuse_pickle(folder, part)
            return f"{folder} has no {files.tensors}"
        if (reason := damage(path)) is not None:
            return f"{path} {reason}"
    return None


def damage(path: Path) -> str | None:
    """Why a safetensors file can't be read, None if its header fits its length."""
    if is_pointer(path):
        return "is git-lfs's pointer to the weights, not the weights"
    try:
        with safe_open(path, framework="pt") as stream:
            empty = not stream.keys()
    except SafetensorError as fault:
        return f"is cut off or no safetensors file ({fault})"
    return "holds no tensor" if empty else None


def beside(pickle: Path) -> Path:
    """The safetensors file that `generator.weights.convert` makes of a pickle, in its folder."""
    # transformers looks for another name than that of its pickles
    name = "model" if pickle.name == "pytorch_model.bin" else pickle.stem
    return pickle.with_name(f"{name}.safetensors")


def refuse_pickle(path: Path) -> NoReturn:
    """Refuse a pickled network, and say how safetensors are made of it.

    Raises:
        WeightsError: always.
    """
    raise WeightsError(
        f"{path} is a pickle, which can run code when it is read; make {beside(path).name} of it, "
        f"which is then used, with: augment weights convert {shlex.quote(str(path))}"
    )


def is_pointer(path: Path) -> bool:
    """True for what git leaves in the place of a large file where git-lfs is not installed."""
    with path.open("rb") as stream:
        return stream.read(len(_LFS_POINTER)) == _LFS_POINTER


def _refuse_pickle(folder: Path, part: str) -> None:
    pickles = sorted(p for p in (folder / part).iterdir() if p.suffix in PICKLES)
    if pickles:
        raise WeightsError(
            f"{pickles[0]} is a pickle, which can run code when it is read, so it is not used; "
            f"make safetensors of it with: augment weights convert {shlex.quote(str(folder))}"
        )
