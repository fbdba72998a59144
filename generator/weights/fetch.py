"""Bringing weights from the hub: the one place that uses a network."""

from collections.abc import Callable, Sequence
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
)

from generator.errors import WeightsError
from generator.weights.convert import convert
from generator.weights.find import find_weights, is_hub_id, local_folder
from generator.weights.layout import damage, files_of

_PATIENCE_S = 20
_BY_HAND = (
    "or bring them by hand: fetch them on a machine that has a network, with --to FOLDER, copy "
    "that folder here, and name it: augment train RECIPE --weights FOLDER"
)


def fetch(
    name: str,
    parts: Sequence[str],
    into: Path | None = None,
    *,
    recipe: str = "RECIPE",
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Bring weights from the hub: only the files that are needed, and only those that are missing.

    What a killed download left is continued. Where the hub has a part as a pickle only, the pickle
    is brought and converted; see `convert`.

    Args:
        name: hub id. A local folder is only checked.
        parts: the sub-folders that are needed.
        into: folder to write; None: the Hugging Face cache, where `find_weights` looks.
        recipe: for messages: the recipe that asks for them.
        say: told what is done.

    Returns:
        The folder that holds the weights, checked to be whole.

    Raises:
        WeightsError: no network, no such repository, or it lacks a part.
    """
    if not is_hub_id(name):
        return find_weights(name, parts, recipe=recipe)
    into = into.expanduser().resolve() if into else None
    try:
        return find_weights(str(into) if into else name, parts, recipe=recipe)
    except WeightsError:
        folder = into if into else local_folder(name)
    if folder is not None:
        _remove_damaged(folder, parts, say)
    try:
        # The index names the classes of a DiT, and makes the folder one that diffusers loads.
        wanted = ["model_index.json", *_choose(name, parts)]
        say(f"Fetching {len(wanted)} files of {name}")
        folder = Path(snapshot_download(name, allow_patterns=wanted, local_dir=into))
    except (HTTPError, OfflineModeIsEnabled, LocalEntryNotFoundError) as fault:
        raise WeightsError(_sentence(name, recipe, fault)) from fault
    for made in convert(folder, parts):
        say(f"Converted {made.source.name} to {made.target} ({made.size / 1e6:.0f} MB)")
    return find_weights(str(folder), parts, recipe=recipe)


def _choose(name: str, parts: Sequence[str]) -> list[str]:
    """The files to bring; the pickle of a part that the hub has no safetensors of."""
    siblings = HfApi().model_info(name, timeout=_PATIENCE_S).siblings or []
    there = {sibling.rfilename for sibling in siblings}
    wanted: list[str] = []
    for part in parts:
        files = files_of(part)
        wanted += files.small
        if files.tensors is not None:
            pickled = files.tensors not in there and files.pickle in there
            wanted.append(str(files.pickle) if pickled else files.tensors)
    if missing := sorted(set(wanted) - there):
        raise WeightsError(
            f"{name} on the hub has no {', '.join(missing)}; name a folder that has it with: "
            "augment train RECIPE --weights FOLDER"
        )
    return wanted


def _remove_damaged(folder: Path, parts: Sequence[str], say: Callable[[str], None]) -> None:
    """Delete files that are not whole: the hub's client takes a file that is there for finished."""
    for part in parts:
        tensors = files_of(part).tensors
        if tensors and (folder / tensors).is_file() and (reason := damage(folder / tensors)):
            say(f"Fetching {folder / tensors} again, since it {reason}")
            # In the cache the name is a link to the content, and both must go.
            (folder / tensors).resolve().unlink()
            (folder / tensors).unlink(missing_ok=True)


def _sentence(name: str, recipe: str, fault: Exception) -> str:
    again = f"augment weights fetch {recipe}"
    if isinstance(fault, OfflineModeIsEnabled):
        return (
            f"HF_HUB_OFFLINE is set, so {name} was not fetched; unset it, then repeat: {again}, "
            f"{_BY_HAND}"
        )
    if isinstance(fault, HfHubHTTPError):
        code = fault.response.status_code
        return (
            f"The hub answered {code} when asked for {name}; see whether it asks for an account or "
            f"is out of order, then repeat: {again}, {_BY_HAND}"
        )
    return (
        f"The hub can't be reached to fetch {name} ({type(fault).__name__}); repeat it where there "
        f"is a network: {again}, {_BY_HAND}"
    )
