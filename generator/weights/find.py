"""Where weights lie on this machine, and what identifies them; never a network."""

import json
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache

from generator.errors import WeightsError
from generator.files import sha256_of, sha256_of_file, write_json
from generator.weights.known import KNOWN
from generator.weights.layout import fault_of, files_of

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_SMALL_BYTES = 1_000_000


def find_weights(name: str, parts: Sequence[str], *, recipe: str = "RECIPE") -> Path:
    """The folder that holds weights, checked to be whole.

    Args:
        name: a local folder, or a hub id that is looked up in the Hugging Face cache (`HF_HOME`).
        parts: the sub-folders that are needed, such as `("unet", "vae", "scheduler")`.
        recipe: for the message: the recipe that asks for them.

    Raises:
        WeightsError: they are not on disk, not whole, or pickles; the message says what to type.
    """
    folder = local_folder(name)
    ways = (
        f"bring them where there is a network with: augment weights fetch {recipe}, or name a "
        "folder that holds them: augment train RECIPE --weights FOLDER"
    )
    if folder is None and is_hub_id(name):
        raise WeightsError(f"The weights {name} are not on disk{_what(name, parts)}; {ways}")
    if folder is None:
        raise WeightsError(f"The folder of weights {name} does not exist; {ways}")
    if fault := fault_of(folder, parts):
        raise WeightsError(f"{fault}, so the weights {name} can't be used; {ways}")
    return folder


def is_hub_id(name: str) -> bool:
    """True if `name` can be an id on the hub (`owner/name`), and is no folder."""
    return _HUB_ID.fullmatch(name) is not None and not Path(name).is_dir()


def local_folder(name: str) -> Path | None:
    """The folder that `name` stands for, whole or not; None if there is none on disk."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder.resolve()
    if not is_hub_id(name):
        return None
    for file in ("model_index.json", *(f"{part}/config.json" for part in _USUAL)):
        found = try_to_load_from_cache(name, file)
        if isinstance(found, str):
            return Path(found.removesuffix(file))
    return None


# Any one of these leads to the snapshot; a pipeline without all of them is none.
_USUAL = ("unet", "transformer", "vae")


def weights_hash(folder: Path, parts: Sequence[str]) -> str:
    """Hex SHA-256 of the configs and safetensors of `parts`: the identity of the weights.

    Hashes of large files are kept in the user's cache by path, size and time of change, so that
    gigabytes are read once.

    Raises:
        WeightsError: a file is missing.
    """
    hashes = {}
    kept = _read_kept()
    for part in sorted(set(parts)):
        files = files_of(part)
        for name in (*files.small, *([files.tensors] if files.tensors else [])):
            try:
                hashes[name] = _hash(folder / name, kept)
            except OSError as fault:
                raise WeightsError(
                    f"{folder / name} can't be read ({fault.strerror}); see what is there with: "
                    "augment weights list"
                ) from None
    return sha256_of(hashes)


def _hash(path: Path, kept: dict[str, Any]) -> str:
    path = path.resolve()
    stat = path.stat()
    if stat.st_size < _SMALL_BYTES:
        return sha256_of_file(path)
    mark = [stat.st_size, stat.st_mtime_ns]
    known = kept.get(str(path))
    if not isinstance(known, dict) or known.get("mark") != mark:
        known = {"mark": mark, "sha256": sha256_of_file(path)}
        kept[str(path)] = known
        # A cache that can't be written costs time, nothing else.
        with suppress(OSError):
            write_json(_kept_path(), _read_kept() | {str(path): known})
    return str(known["sha256"])


def _read_kept() -> dict[str, Any]:
    try:
        kept = json.loads(_kept_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}


def _kept_path() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "augmentor" / "weights.json"


def _what(name: str, parts: Sequence[str]) -> str:
    if name not in KNOWN:
        return ""
    known = KNOWN[name]
    return f" (about {known.bytes_of(parts) / 1e9:.1f} GB, {known.licence})"
