"""Pretrained weights of the recipes: what is needed, what is there, bringing and converting it."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from augmentor.workflows.reporting import Reporter
from generator.config import Recipe, load_recipe, recipe_names
from generator.errors import WeightsError
from generator.weights import KNOWN, Converted, convert, fetch, find_weights, needs_of
from generator.weights.layout import files_of


@dataclass(frozen=True)
class WeightsOf:
    """One recipe's weights.

    Attributes:
        recipe: its name.
        name: hub id or folder; None if the recipe needs no weights.
        parts: the sub-folders that it uses.
        size: bytes, on disk or, about, to download; None if unknown.
        licence: name of the licence, "" if unknown.
        restricts: what the licence forbids or asks for, in a line.
        folder: where they lie; None if they can't be used as they are.
        problem: why not, and what to type; "" if they can.
    """

    recipe: str
    name: str | None = None
    parts: tuple[str, ...] = ()
    size: int | None = None
    licence: str = ""
    restricts: str = ""
    folder: Path | None = None
    problem: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return asdict(self)


def weights_of(recipe: Recipe, called: str) -> WeightsOf:
    """What a recipe needs and whether it is there; `called` is what to type for the recipe."""
    needs = needs_of(recipe)
    if needs is None:
        return WeightsOf(recipe.name)
    known = KNOWN.get(needs.name)
    found = WeightsOf(
        recipe.name,
        needs.name,
        needs.parts,
        known.bytes_of(needs.parts) if known else None,
        known.licence if known else "",
        known.restricts if known else "",
    )
    try:
        folder = find_weights(needs.name, needs.parts, recipe=called)
    except WeightsError as fault:
        return replace(found, problem=str(fault))
    return replace(found, folder=folder, size=_bytes_on_disk(folder, needs.parts))


def list_weights(recipe: str | None) -> list[WeightsOf]:
    """The weights of one recipe, or of all that come with the project."""
    names = recipe_names() if recipe is None else [recipe]
    return [weights_of(load_recipe(name), name) for name in names]


def fetch_weights(recipe: str, into: Path | None, reporter: Reporter) -> WeightsOf:
    """Bring the weights that a recipe names; nothing is done where they are whole on disk.

    Args:
        recipe: a recipe's name, or a YAML file.
        into: folder to write; None: the Hugging Face cache.
        reporter: told what is done, and under which licence the weights stand.

    Raises:
        WeightsError: they can't be brought; see `generator.weights.fetch`.
    """
    found = weights_of(load_recipe(recipe), recipe)
    if found.name is None:
        return found
    if found.licence:
        reporter.say(f"{found.name}: {found.licence}, {found.restricts}.")
    folder = fetch(found.name, found.parts, into, recipe=recipe, say=reporter.say)
    return replace(found, folder=folder, size=_bytes_on_disk(folder, found.parts), problem="")


def convert_weights(folder: Path) -> list[Converted]:
    """Make safetensors of the pickles in a folder, or of one; see `generator.weights.convert`."""
    return convert(folder)


def _bytes_on_disk(folder: Path, parts: tuple[str, ...]) -> int:
    files = [files_of(part) for part in parts]
    names = [name for f in files for name in (*f.small, *filter(None, (f.tensors,)))]
    return sum((folder / name).stat().st_size for name in names)
