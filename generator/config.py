"""Strict configuration: one base for every file that a person writes, and how it is read."""

import difflib
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from generator.errors import RecipeError


class StrictModel(BaseModel):
    """Immutable; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


M = TypeVar("M", bound=BaseModel)


def load_yaml(path: Path, model: type[M], error: type[Exception] = RecipeError) -> M:
    """Read `path` as YAML into `model`.

    Raises:
        error: the file is missing, isn't YAML, or doesn't fit; one sentence per fault, with the
            key's full path and, for a key that nothing knows, the nearest one that exists.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise error(f"{path} does not exist.") from None
    except yaml.YAMLError as fault:
        raise error(f"{path} is not YAML: {' '.join(str(fault).split())}") from None
    return parse(content or {}, model, str(path), error)


def parse(content: object, model: type[M], name: str, error: type[Exception] = RecipeError) -> M:
    """Validate `content` as `model`; see `load_yaml` for what is raised."""
    try:
        return model.model_validate(content)
    except ValidationError as fault:
        raise error(f"{name}: {'; '.join(_sentence(e, model) for e in fault.errors())}.") from None


def _sentence(fault: dict, model: type[BaseModel]) -> str:  # type: ignore[type-arg]
    place = [str(part) for part in fault["loc"]]
    key = ".".join(place)
    if fault["type"] != "extra_forbidden":
        return f"{key}: {fault['msg'].removeprefix('Value error, ')} (got {fault.get('input')!r})"
    siblings = _keys_at(model, place[:-1])
    near = difflib.get_close_matches(place[-1], siblings, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(siblings))}"
    return f"unknown key {key!r}, {hint}"


def _keys_at(model: type[BaseModel], place: list[str]) -> list[str]:
    """Names of the fields that stand beside an unknown key; empty where that can't be told."""
    for part in place:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        nested = [t for t in _types(annotation) if issubclass(t, BaseModel)]
        if not nested:
            return []
        model = nested[0]
    return list(model.model_fields)


def _types(annotation: object) -> list[type]:
    if isinstance(annotation, type):
        return [annotation]
    return [t for part in getattr(annotation, "__args__", ()) for t in _types(part)]
