"""From the command line: every recipe trains on a user's weights and fills a build.

With random weights the samples are no defects, so the filters that judge looks are off; what is
shown is that each recipe goes the whole way on real input.
"""

import json
from pathlib import Path

import pytest
import yaml
from helpers import augment, copy_project
from tiny import tiny_dit, tiny_inpainting, tiny_stable_diffusion

from generator.config import load_recipe, recipe_names

DATA = Path(__file__).parents[3] / "shared" / "data" / "magnetic-tile"
LOOKS = ("class_agreement", "realism", "memorisation", "seam")
SHORT = (
    *("training.steps=8", "training.schedule=constant", "training.milestones={}"),
    *("training.warmup_steps=0", "training.batch_size=2", "training.accumulation=1"),
    *("training.sheet_every=1000", "training.validate_every=0", "training.log_every=4"),
    *("crops.size_px=64", "crops.least_px=64", "sampling.steps=4", "sampling.batch_size=8"),
    "training.validate_steps=4",
)


def weights(name: str, home: Path) -> Path | None:
    """A pipeline of the recipe's architecture in the hub's layout; None where it takes none."""
    recipe = load_recipe(name)
    if not hasattr(recipe.backbone, "weights"):
        return None
    named = recipe.backbone.weights.lower()
    for word, build in (("dit", tiny_dit), ("inpainting", tiny_inpainting)):
        if word in named:
            return build(home / word)
    return tiny_stable_diffusion(home / "sd")


def changes(name: str) -> list[str]:
    content = load_recipe(name).model_dump(mode="json")
    asked = list(SHORT)
    if content["training"]["variants"]:
        asked.append("training.variants=1")
    starts = {"up_and_mid_from": 2, "all_from": 5, "controlnet_from": 4}
    asked += [f"tuning.{k}={v}" for k, v in starts.items() if k in content["tuning"]]
    return [part for change in asked for part in ("--set", change)]


def walk(name: str, folder: Path, home: Path) -> dict:
    """`augment train RECIPE --weights FOLDER`, then `augment build --ratio 0.5`."""
    config = yaml.safe_load((folder / "augment.yaml").read_text())
    off = {rule: {"enabled": False} for rule in LOOKS}
    config["filters"] = {
        "quality": off,
        "mask": {"least_fill": 0.0, "least_contrast": 0.0, "most_leak": 1.0, "least_area_px": 1},
    }
    (folder / "augment.yaml").write_text(yaml.safe_dump(config))
    local = weights(name, home)
    given = ["--weights", local] if local else []
    code, output = augment(
        "train", f"configs/{name}.yaml", *given, *changes(name), "--project", folder
    )
    assert code == 0, output
    assert f"recipe is now {name}" in output or name == "compact"
    code, output = augment("build", "--ratio", "0.5", "--project", folder, "--json")
    assert code == 0, output
    summary = json.loads(output[output.index("{\n") :])
    assert list(summary["generators"]) == [name]
    assert summary["achieved_ratio"] == pytest.approx(0.5, abs=0.02)
    lines = [json.loads(x) for x in (folder / "dataset" / "manifest.jsonl").open()]
    made = [line for line in lines if line["kind"] == "synthetic"]
    assert made and {line["generator"] for line in made} == {name}
    return summary


def test_a_recipe_goes_the_whole_way_on_weights_that_a_user_names(project, tmp_path):
    folder = project()
    walk("sd15-inpaint-lora", folder, tmp_path)
    code, output = augment("train", "sd15-class-lora", "--project", folder)
    assert code == 5
    assert "augment weights fetch sd15-class-lora" in output and "--weights FOLDER" in output


@pytest.fixture(scope="module")
def tiles(tmp_path_factory) -> Path:
    if not DATA.is_dir():
        pytest.skip(f"no {DATA.name} beside the project; see datasets/")
    folder = tmp_path_factory.mktemp("tiles") / "imported"
    code, output = augment(
        *("import", DATA, "--name", "tiles", "--shots", "4", "--on-bad", "skip"),
        *("--group-by", "similar", "--project", folder),
    )
    assert code == 0, output
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", [n for n in recipe_names() if n != "compact-quick"])
def test_every_recipe_builds_a_mix_of_magnetic_tiles(name, tiles, tmp_path):
    folder = tiles.parent / name
    copy_project(tiles, folder, name)
    summary = walk(name, folder, tmp_path)
    print(f"{name}: {summary['counts']}")
