"""Pickled weights -> safetensors, without running what a pickle may hold."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors.torch import load_file
from torch import Tensor

from generator.checkpoints import PICKLES
from generator.errors import WeightsError
from generator.files import write_safetensors
from generator.weights.layout import beside, damage, files_of, is_pointer

_FETCH = "get the weights from elsewhere, as safetensors: augment weights fetch RECIPE"
_SAVE = (
    "get them from elsewhere as a plain state dict (torch.save(network.state_dict(), FILE)), then: "
    "augment weights convert FILE"
)
_MORE = "holds more than tensors, and reading that could run code, or is no pickle"


@dataclass(frozen=True)
class Converted:
    """A pickle and the safetensors file that was made of it; `size` in bytes."""

    source: Path
    target: Path
    size: int


def convert(source: Path, parts: Sequence[str] | None = None) -> list[Converted]:
    """Make safetensors of pickled weights, each beside its pickle, which stays where it is.

    Only tensors are read (`torch.load(weights_only=True)`), and what was written is read back and
    compared, bit by bit, before it gets its name. What has its safetensors is passed over.

    Args:
        source: a pipeline's folder in the hub's layout (`unet/`, `vae/` and so on); a folder of
            pickled state dicts, such as torch's `hub/checkpoints`; or one such file.
        parts: the sub-folders of a pipeline to look at; None: all of them.

    Returns:
        What was converted; empty if everything had its safetensors.

    Raises:
        WeightsError: there is nothing to convert here, or a pickle holds more than tensors.
    """
    source = source.expanduser()
    if source.is_file():
        return _convert_plain([source])
    if not source.is_dir():
        raise WeightsError(
            f"{source} is no folder and no file; type: augment weights convert FOLDER"
        )
    if parts is None:
        parts = sorted(p.name for p in source.iterdir() if (p / "config.json").is_file())
    if not parts:
        pickles = sorted(p for p in source.iterdir() if p.suffix in PICKLES)
        if pickles:
            return _convert_plain(pickles)
        raise WeightsError(
            f"{source} is no pipeline in the hub's layout (no sub-folder has a config.json) and "
            "holds no pickle; name the folder that holds unet or transformer, or a pickle: "
            "augment weights convert FOLDER"
        )
    done = []
    for part in parts:
        target, pickle = _to_do(source, part)
        if pickle is not None:
            done.append(_convert(pickle, target, _FETCH))
    return done


def _convert_plain(pickles: Sequence[Path]) -> list[Converted]:
    """Convert state dicts that belong to no pipeline."""
    todo: dict[Path, Path] = {}
    for pickle in pickles:
        if pickle.suffix not in PICKLES:
            raise WeightsError(
                f"{pickle} is no pickle ({', '.join(PICKLES)}); name one, or the folder that holds "
                "it: augment weights convert FOLDER"
            )
        target = beside(pickle)
        if _is_whole(target):
            continue
        if target in todo:
            raise WeightsError(
                f"{todo[target].name} and {pickle.name} would both become {target}; name the right "
                f"one: augment weights convert {shlex.quote(str(pickle))}"
            )
        todo[target] = pickle
    return [_convert(pickle, target, _SAVE) for target, pickle in todo.items()]


def _is_whole(path: Path) -> bool:
    return path.is_file() and damage(path) is None


def _to_do(folder: Path, part: str) -> tuple[Path, Path | None]:
    """Where a part's safetensors belong, and the pickle to make them of, if they are missing."""
    files = files_of(part)
    if files.tensors is None or files.pickle is None:
        return folder, None
    target = folder / files.tensors
    if _is_whole(target):
        return target, None
    usual = [folder / files.pickle, folder / part / "pytorch_model.bin"]
    for pickle in usual:
        if pickle.is_file():
            # Parts of transformers other than the text encoder, such as a safety checker.
            target = beside(pickle)
            return target, None if _is_whole(target) else pickle
    others = sorted(p for p in (folder / part).iterdir() if p.suffix in PICKLES)
    if len(others) > 1:
        raise WeightsError(
            f"{folder / part} holds {len(others)} pickles and none is called "
            f"{Path(files.pickle).name}; give the right one that name, then: augment weights "
            f"convert {folder}"
        )
    return target, others[0] if others else None


def _convert(pickle: Path, target: Path, otherwise: str) -> Converted:
    """Convert one pickle; `otherwise` is what to do where that can't be done."""
    tensors = _unshared(_read(pickle, otherwise))

    def check(written: Path) -> None:
        back = load_file(written)
        if back.keys() != tensors.keys() or not all(_same(back[k], tensors[k]) for k in back):
            raise WeightsError(
                f"What was written of {pickle} reads back otherwise, so it was not kept; check "
                "the disk, then repeat: augment weights convert FOLDER"
            )

    # transformers refuses a file that does not say which library its tensors are of
    write_safetensors(target, tensors, {"format": "pt"}, check)
    return Converted(pickle, target, target.stat().st_size)


def _read(pickle: Path, otherwise: str) -> dict[str, Tensor]:
    try:
        content = torch.load(pickle, map_location="cpu", weights_only=True)
    except UnpicklingError:
        reason = "is git-lfs's pointer to the weights" if is_pointer(pickle) else _MORE
        raise WeightsError(f"{pickle} {reason}, so it is not converted; {otherwise}") from None
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as fault:
        raise WeightsError(
            f"{pickle} can't be read ({type(fault).__name__}), so it is not converted; {otherwise}"
        ) from None
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content or not _all_tensors(content):
        raise WeightsError(
            f"{pickle} is no table of named tensors, so it is not converted; {otherwise}"
        )
    return content


def _all_tensors(content: dict[object, object]) -> bool:
    return all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items())


def _unshared(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Each tensor with memory of its own, which safetensors asks for; copied only where needed."""
    seen: set[int] = set()
    own = {}
    for name, tensor in tensors.items():
        memory = tensor.untyped_storage().data_ptr()
        own[name] = (tensor.clone() if memory in seen else tensor).detach().contiguous()
        seen.add(memory)
    return own


def _same(one: Tensor, other: Tensor) -> bool:
    # By bytes: a weight that is not a number is equal to itself here.
    def raw(tensor: Tensor) -> Tensor:
        return tensor.reshape(-1).view(torch.uint8)

    return (
        one.dtype == other.dtype and one.shape == other.shape and torch.equal(raw(one), raw(other))
    )
