"""augment train: fine-tune a generator."""

from typing import Annotated

import typer

from augmentor.cli.console import DebugOption, JsonOption, command
from augmentor.cli.options import ProjectOption, open_here


def train(
    recipe: Annotated[
        str | None,
        typer.Argument(help="Name of a recipe, or a YAML file. Default: the project's recipe."),
    ] = None,
    project: ProjectOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Fine-tune a generator on the train split; killed and repeated, it continues."""
    with command(json, debug) as console:
        from augmentor.workflows.generators import train_recipe
        from generator.config import load_recipe

        opened = open_here(project, console)
        loaded = load_recipe(recipe or opened.config.recipe)
        folder, worked = train_recipe(opened, loaded, console)
        if not worked:
            console.say("Nothing to do: trained on these images with this recipe before.")
        console.text(f"Checkpoint: {folder}")
        console.text(f"Next: augment sample -n 20 --generator {loaded.name}")
        console.result({"checkpoint": str(folder), "recipe": loaded.name, "trained": worked})
