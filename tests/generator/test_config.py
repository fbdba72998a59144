"""Recipes: strict, composed of registered methods, refused with a reason."""

from pathlib import Path

import pytest
import yaml

from generator import registry
from generator.config import Choice, Recipe, dump_recipe, load_recipe, recipe_names
from generator.errors import RecipeError


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_of_the_project_is_read_and_written_back(name, tmp_path):
    recipe = load_recipe(name)
    assert recipe.name == name
    path = tmp_path / "again.yaml"
    path.write_text(dump_recipe(recipe))
    assert load_recipe(str(path)) == recipe


def test_quick_is_compact_with_fewer_steps():
    compact, quick = load_recipe("compact"), load_recipe("compact-quick")
    assert quick.training.steps < compact.training.steps
    for axis in ("backbone", "conditioning", "tuning", "objective", "crops"):
        assert getattr(quick, axis) == getattr(compact, axis)


def broken(tmp_path: Path, change) -> str:
    content = yaml.safe_load(dump_recipe(load_recipe("compact")))
    change(content)
    path = tmp_path / "broken.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(RecipeError) as caught:
        load_recipe(str(path))
    assert str(caught.value).count("\n") == 0
    return str(caught.value)


def test_unknown_keys_get_the_nearest_one(tmp_path):
    said = broken(tmp_path, lambda c: c["training"].update(step=3))
    assert "unknown key 'training.step', did you mean 'steps'?" in said
    said = broken(tmp_path, lambda c: c["backbone"].update(chanels=[32]))
    assert "backbone" in said
    assert "unknown key 'chanels', did you mean 'channels'?" in said


def test_unknown_method_lists_the_known_ones(tmp_path):
    said = broken(tmp_path, lambda c: c["objective"].update(kind="flwo"))
    assert "there is no objective 'flwo', only: defectfill, flow, noise, v" in said


def test_bounds_name_the_key_and_the_value(tmp_path):
    said = broken(tmp_path, lambda c: c["sampling"].update(strength=1.5))
    assert "sampling.strength" in said
    assert "1.5" in said


def test_no_steps_and_rates_below_zero_are_refused(tmp_path):
    assert "training.steps" in broken(tmp_path, lambda c: c["training"].update(steps=0))
    said = broken(
        tmp_path,
        lambda c: c["training"].update(schedule="milestones", milestones={10: -1.0}),
    )
    assert "training.milestones" in said


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda c: (
                c["objective"].clear(),
                c["objective"].update(kind="v"),
                c["sampling"].update(solver="euler"),
            ),
            "objective 'v' has curved ones",
        ),
        (
            lambda c: (c["conditioning"].clear(), c["conditioning"].update(kind="class")),
            "nothing to paste into",
        ),
        (
            lambda c: (
                c["conditioning"].clear(),
                c["conditioning"].update(kind="class"),
                c["sampling"].update(init="noise"),
            ),
            "objective.mask_weight needs a mask",
        ),
        (lambda c: c["conditioning"].update(drop_class=0), "has never seen"),
        (lambda c: c["crops"].update(size_px=72), "crops.size_px 72 is not a multiple of 16"),
        (
            lambda c: (
                c["crops"].update(clean_share=0),
                c["sampling"].update(guide_against="clean"),
            ),
            "needs clean crops",
        ),
        (
            lambda c: c["training"].update(compile=True),
            "compact would ignore training.compile; set it to false",
        ),
        (
            lambda c: c["training"].update(gradient_checkpointing=True),
            "compact would ignore training.gradient_checkpointing; set it to false",
        ),
        (
            lambda c: c["sampling"].update(compile=True),
            "compact would ignore sampling.compile; set it to false",
        ),
    ],
)
def test_impossible_combinations_are_refused_with_the_reason(tmp_path, change, reason):
    assert reason in broken(tmp_path, change)


def test_unknown_recipe_gets_the_nearest_name():
    with pytest.raises(RecipeError, match=r"no recipe .compat., did you mean .compact.\?"):
        load_recipe("compat")


def test_missing_file_is_named():
    with pytest.raises(RecipeError, match=r"nowhere/x\.yaml does not exist"):
        load_recipe("nowhere/x.yaml")


def test_a_method_is_registered_once_and_is_then_known_to_recipes(monkeypatch):
    monkeypatch.setattr(
        registry, "_methods", {axis: dict(registry.methods(axis)) for axis in registry._methods}
    )

    class Twice:
        class Settings(Choice):
            strength: int = 1

        @staticmethod
        def refuse(recipe: Recipe) -> str | None:
            return "it never works" if recipe.tuning.strength == 3 else None

    with pytest.raises(ValueError, match="tuning 'full' is registered twice"):
        registry.register("tuning", "full")(Twice)
    with pytest.raises(ValueError, match="tuning 'bare' has no Settings"):
        registry.register("tuning", "bare")(int)
    registry.register("tuning", "twice")(Twice)
    content = load_recipe("compact").model_dump() | {"tuning": {"kind": "twice", "strength": 2}}
    assert Recipe.model_validate(content).tuning.strength == 2
    content["tuning"]["strength"] = 3
    with pytest.raises(ValueError, match="it never works"):
        Recipe.model_validate(content)
