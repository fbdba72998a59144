"""The four axes of a recipe, and the methods that stand on each.

A method is a class with a `Settings` model (its section of the recipe, `kind` being its name) and
a `refuse` function. It is registered once, in the file that holds it; registering is all that it
takes for recipes to name it.
"""

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any, Literal, TypeVar, get_args

from generator.errors import RecipeError

Axis = Literal["backbone", "conditioning", "tuning", "objective"]

# A package is searched whole, so a new file in it is found without a list of names.
_ROOMS: dict[str, str] = {
    "backbone": "generator.backbones",
    "conditioning": "generator.conditioning",
    "tuning": "generator.tuning",
    "objective": "generator.objectives",
}
_methods: dict[str, dict[str, Any]] = {axis: {} for axis in get_args(Axis)}
_loaded: set[str] = set()

T = TypeVar("T", bound=type)


def register(axis: Axis, name: str) -> Callable[[T], T]:
    """Class decorator: put a method on an axis under `name`.

    Raises:
        ValueError: the name is taken, or the class lacks `Settings` or `refuse`.
    """

    def put(method: T) -> T:
        if name in _methods[axis]:
            taken = _methods[axis][name]
            raise ValueError(
                f"{axis} {name!r} is registered twice: {taken.__module__}.{taken.__qualname__} "
                f"and {method.__module__}.{method.__qualname__}"
            )
        for part in ("Settings", "refuse"):
            if not hasattr(method, part):
                raise ValueError(f"{axis} {name!r} has no {part}")
        _methods[axis][name] = method
        return method

    return put


def methods(axis: Axis) -> dict[str, Any]:
    """Every method on an axis, by name."""
    if axis not in _loaded:
        room = importlib.import_module(_ROOMS[axis])
        for part in pkgutil.iter_modules(getattr(room, "__path__", [])):
            importlib.import_module(f"{room.__name__}.{part.name}")
        _loaded.add(axis)
    return dict(_methods[axis])


def weight_parts(backbone: str) -> tuple[str, ...]:
    """Folders of pretrained weights that a backbone is made of; none if it starts from scratch."""
    return tuple(getattr(method("backbone", backbone), "PARTS", ()))


def method(axis: Axis, name: str) -> Any:
    """The method that stands on an axis under `name`.

    Raises:
        RecipeError: there is none; the message lists those that there are.
    """
    known = methods(axis)
    if name not in known:
        raise RecipeError(f"there is no {axis} {name!r}, only: {', '.join(sorted(known))}")
    return known[name]
