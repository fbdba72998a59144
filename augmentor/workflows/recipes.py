"""A project's recipes: found by name, and changed for this project alone."""

import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from augmentor.classical import NAME as CLASSICAL
from augmentor.workflows.alone import is_first
from augmentor.workflows.project import Project, edit_project
from augmentor.workflows.reporting import Reporter
from generator.baselines import BASELINES
from generator.config import Recipe, dump_recipe, load_recipe, parse, recipe_names
from generator.errors import RecipeError
from generator.files import write_text


def open_recipe(project: Project, name: str) -> Recipe:
    """A recipe by name (the project's own first, then those that come with us) or from a file.

    Raises:
        RecipeError: there is none, or it does not fit.
    """
    own = project.own_recipe(name)
    if own.is_file():
        return load_recipe(str(own))
    known = (*recipe_names(), *BASELINES)
    if name in recipe_names() or len(Path(name).parts) > 1 or Path(name).suffix:
        return load_recipe(name)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise RecipeError(
        f"There is no generator {name!r}; {hint}Recipes: {', '.join(recipe_names())}. "
        f"Baselines: {', '.join(BASELINES)}. In a mix, also: {CLASSICAL}."
    )


def adopt_recipe(
    project: Project,
    name: str,
    *,
    weights: Path | None = None,
    settings: Sequence[str] = (),
    reporter: Reporter,
) -> tuple[Project, Recipe]:
    """Make a recipe the project's generator, with changes where there are some.

    A changed recipe, or one from a file of the user's own, is written into the project's
    `recipes/`, where every later command finds it; `recipe` in augment.yaml names it.

    Args:
        project: where it is to be used.
        name: of a recipe, or a YAML file.
        weights: local folder with the pretrained weights, in place of those that it names.
        settings: changes as `training.steps=200`.
        reporter: told what was written.

    Raises:
        RecipeError: no such recipe, it takes no weights, or a change does not fit.
    """
    recipe = open_recipe(project, name)
    changes = list(settings)
    if weights is not None:
        if not hasattr(recipe.backbone, "weights"):
            raise RecipeError(
                f"Recipe {recipe.name!r} trains from nothing and takes no weights; leave "
                "--weights away, or choose another recipe: augment weights list"
            )
        # as JSON, since a bare path may mean something else in YAML
        changes.append(f"backbone.weights={json.dumps(str(weights.expanduser().resolve()))}")
    changed = change_recipe(recipe, changes)
    if not is_first():
        config = project.config.model_copy(update={"recipe": changed.name})
        return Project(project.folder, config), changed
    own = project.own_recipe(changed.name)
    shipped = changed.name in recipe_names() and load_recipe(changed.name) == changed
    known = load_recipe(str(own)) if own.is_file() else None
    if shipped and known is not None and known != changed:
        own.unlink()
        reporter.say(f"Removed {own}: the recipe is again as it was.")
    if not shipped and known != changed:
        write_text(own, dump_recipe(changed))
        reporter.say(f"Wrote {own}; delete it to go back to the recipe as it was.")
    if project.config.recipe != changed.name:
        project = edit_project(project, {"recipe": changed.name})
        reporter.say(f"augment.yaml: recipe is now {changed.name}, and augment build uses it.")
    return project, changed


def change_recipe(recipe: Recipe, changes: Sequence[str]) -> Recipe:
    """A recipe with some keys set, each written as `section.key=value`, the value in YAML.

    Raises:
        RecipeError: a change is not of that form, or the recipe would not hold with it.
    """
    if not changes:
        return recipe
    content = recipe.model_dump(mode="json")
    for change in changes:
        key, equals, value = change.partition("=")
        *sections, last = key.strip().split(".")
        if not equals or not last:
            raise RecipeError(f"{change!r} is not a change; write for example training.steps=200")
        place: Any = content
        for section in sections:
            place = place.setdefault(section, {}) if isinstance(place, dict) else None
        if not isinstance(place, dict):
            raise RecipeError(f"{key!r} lies in no section of recipe {recipe.name!r}.")
        try:
            place[last] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise RecipeError(
                f"{value!r} is no value in YAML; write for example training.steps=200, and put a "
                f"text into quotes: {key}='\"...\"'"
            ) from None
        # Steps and epochs are two ways to give one length.
        if sections == ["training"] and last in ("steps", "epochs"):
            content["training"]["epochs" if last == "steps" else "steps"] = None
    return parse(content, Recipe, f"Recipe {recipe.name} with {', '.join(changes)}")
