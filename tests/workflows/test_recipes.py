"""A project's recipes: changed for it alone, and found by every later command."""

import pytest

from augmentor.workflows.project import ProjectConfig, SourceConfig, edit_project, open_project
from augmentor.workflows.recipes import adopt_recipe, change_recipe, open_recipe
from generator.config import load_recipe
from generator.errors import RecipeError


class Said:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def project(tmp_path):
    (tmp_path / "augment.yaml").write_text(
        "# ours\nname: tiles  # the line\nclasses: [pit]\nsource: {path: /data}\n"
    )
    return open_project(tmp_path)


def test_a_change_keeps_the_comments_of_augment_yaml(project):
    edited = edit_project(project, {"recipe": "compact-quick", "mix.ratio": 0.25})
    text = (project.folder / "augment.yaml").read_text()
    assert text.startswith("# ours\nname: tiles  # the line\n")
    assert edited.config == open_project(project.folder).config
    assert (edited.config.recipe, edited.config.mix.ratio) == ("compact-quick", 0.25)
    assert isinstance(edited.config, ProjectConfig) and isinstance(
        edited.config.source, SourceConfig
    )


def test_a_section_that_is_not_there_is_made_in_braces_too(tmp_path):
    text = "{name: tiles, classes: [pit], source: {path: /data}}\n"
    (tmp_path / "augment.yaml").write_text(text)
    edited = edit_project(open_project(tmp_path), {"filters.quality.realism.most": 1.25})
    assert edited.config.filters.quality.realism.most == 1.25
    assert open_project(tmp_path).config == edited.config


def test_an_impossible_change_leaves_the_file_alone(project):
    before = (project.folder / "augment.yaml").read_bytes()
    with pytest.raises(Exception, match=r"mix\.ratio.*less than or equal to 1"):
        edit_project(project, {"mix.ratio": 2})
    assert (project.folder / "augment.yaml").read_bytes() == before


def test_a_changed_recipe_is_found_by_name_afterwards(project):
    said = Said()
    project, recipe = adopt_recipe(
        project,
        "compact-quick",
        settings=["training.steps=7", "sampling.init=noise"],
        reporter=said,
    )
    assert (recipe.training.steps, recipe.sampling.init) == (7, "noise")
    assert project.config.recipe == "compact-quick"
    assert open_recipe(project, "compact-quick") == recipe
    assert load_recipe("compact-quick").training.steps != 7
    assert len(said.lines) == 2 and "recipes/compact-quick.yaml" in said.lines[0]
    again = Said()
    assert adopt_recipe(project, "compact-quick", reporter=again) == (project, recipe)
    assert again.lines == []
    shipped = load_recipe("compact-quick")
    back = [f"training.steps={shipped.training.steps}", f"sampling.init={shipped.sampling.init}"]
    adopt_recipe(project, "compact-quick", settings=back, reporter=again)
    assert open_recipe(project, "compact-quick") == shipped
    assert not project.own_recipe("compact-quick").exists() and "as it was" in again.lines[0]


def test_steps_and_epochs_replace_one_another():
    recipe = load_recipe("compact")
    by_epochs = change_recipe(recipe, ["training.epochs=3"])
    assert (by_epochs.training.steps, by_epochs.training.epochs) == (None, 3)
    back = change_recipe(by_epochs, ["training.steps=9"])
    assert (back.training.steps, back.training.epochs) == (9, None)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("training.stepz=3", "did you mean 'steps'"),
        ("training.steps", "is not a change; write for example"),
        ("name.steps=3", "lies in no section"),
        ("training.steps=many", "training.steps"),
        ("backbone.channels=[32,64", r"is no value in YAML; .* into quotes: backbone.channels="),
    ],
)
def test_changes_that_do_not_fit_are_refused(change, said):
    with pytest.raises(RecipeError, match=said):
        change_recipe(load_recipe("compact"), [change])


@pytest.mark.parametrize("name", ["sd 1.5 #2", "models: old", "no", "a 'b' \"c\""])
def test_weights_lie_where_they_were_said_to_lie(project, tmp_path, name):
    _, recipe = adopt_recipe(project, "sd15-class-lora", weights=tmp_path / name, reporter=Said())
    assert recipe.backbone.weights == str(tmp_path / name)


def test_weights_for_a_recipe_that_takes_none_are_refused(project, tmp_path):
    with pytest.raises(RecipeError, match="takes no weights"):
        adopt_recipe(project, "compact", weights=tmp_path, reporter=Said())


def test_a_name_that_is_nearly_right_gets_a_hint(project):
    with pytest.raises(RecipeError, match="did you mean 'compact'"):
        open_recipe(project, "compct")
