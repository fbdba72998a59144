"""Which weights a recipe needs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from generator import registry

if TYPE_CHECKING:
    from generator.config import Recipe


@dataclass(frozen=True)
class Needs:
    """Attributes:
    name: hub id or folder, as the recipe's `backbone.weights` names it.
    parts: the sub-folders of it that the recipe's methods use.
    """

    name: str
    parts: tuple[str, ...]


def needs_of(recipe: "Recipe") -> Needs | None:
    """The weights that a recipe starts from; None if it starts from random ones.

    A backbone needs weights if its settings have a field `weights`; which parts, it and the
    conditioning say in their class attribute `PARTS`.
    """
    name = getattr(recipe.backbone, "weights", None)
    if name is None:
        return None
    parts: list[str] = []
    for axis, choice in (("backbone", recipe.backbone), ("conditioning", recipe.conditioning)):
        parts += getattr(registry.method(axis, choice.kind), "PARTS", ())  # type: ignore[arg-type]
    return Needs(str(name), tuple(dict.fromkeys(parts)))
