"""augment train: fine-tune a generator."""

from pathlib import Path
from typing import Annotated

import typer

from augmentor.cli.console import DebugOption, JsonOption, command
from augmentor.cli.options import ProjectOption, open_here


def train(
    recipe: Annotated[
        str | None,
        typer.Argument(help="Name of a recipe, or a YAML file. Default: the project's recipe."),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="Local folder with the pretrained weights that the recipe starts from."),
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change the recipe for this project: training.steps=200"),
    ] = None,
    project: ProjectOption = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Fine-tune a generator on the train split; killed and repeated, it continues.

    The recipe becomes the project's, so that `augment build` uses it unless `mix.generators` names
    others. With `accelerate launch -m augmentor train` it runs on several processes.
    """
    with command(json, debug) as console:
        from augmentor.workflows.generators import train_recipe
        from augmentor.workflows.recipes import adopt_recipe

        opened = open_here(project, console)
        opened, adopted = adopt_recipe(
            opened,
            recipe or opened.config.recipe,
            weights=weights,
            settings=change or (),
            reporter=console,
        )
        folder, worked = train_recipe(opened, adopted, console)
        if not worked:
            console.say("Nothing to do: trained on these images with this recipe before.")
        console.text(f"Checkpoint: {folder}")
        console.text("Next: augment build --ratio 0.5")
        console.result({"checkpoint": str(folder), "recipe": adopted.name, "trained": worked})
