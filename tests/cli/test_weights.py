"""augment weights: what is needed and there, converting, and fetching where nothing answers."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Literal

import huggingface_hub
import pytest
import torch
import yaml
from helpers import augment
from hub import into_cache, local_hub
from safetensors.torch import load_file
from tiny import tiny_stable_diffusion

from augmentor.cli.errors import EXIT_PROJECT, EXIT_WEIGHTS
from generator import registry
from generator.config import Choice, dump_recipe, load_recipe

NAME = "stable-diffusion-v1-5/stable-diffusion-v1-5"
UNET = "unet/diffusion_pytorch_model.safetensors"


class Pretrained:
    """A backbone that starts from pretrained weights, as far as naming them goes."""

    PARTS = ("unet", "vae", "scheduler")

    class Settings(Choice):
        kind: Literal["named-weights"] = "named-weights"
        weights: str = NAME

    @staticmethod
    def refuse(recipe):
        return None


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    """The hub's cache of this test."""
    folder = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
    return folder


@pytest.fixture
def recipe(tmp_path):
    """A recipe file that needs weights; the backbone is known during the test only."""
    registry.methods("backbone")
    registry.register("backbone", "named-weights")(Pretrained)
    content = yaml.safe_load(dump_recipe(load_recipe("compact")))
    content |= {"name": "needy", "backbone": {"kind": "named-weights"}}
    # Pretrained networks were trained on a noise schedule.
    content["objective"] = {"kind": "noise"}
    path = tmp_path / "needy.yaml"
    path.write_text(yaml.safe_dump(content))
    yield path
    del registry._methods["backbone"]["named-weights"]


def test_list_names_every_recipe_and_compact_needs_none():
    code, output = augment("weights", "list")
    assert code == 0
    assert "compact" in output
    code, output = augment("weights", "list", "compact", "--json")
    (row,) = json.loads(output)["weights"]
    assert (code, row["recipe"], row["name"], row["problem"]) == (0, "compact", None, "")


def test_list_says_what_is_missing_how_large_and_under_which_licence(recipe, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    code, output = augment("weights", "list", recipe)
    assert code == 0
    flat = " ".join(output.split())
    assert f"needy {NAME} 3.8 GB CreativeML OpenRAIL-M no" in flat
    assert "CreativeML OpenRAIL-M: commercial use is allowed" in flat
    assert f"bring them where there is a network with: augment weights fetch {recipe}" in flat
    assert "--weights FOLDER" in flat


def test_list_says_where_they_are_and_measures_them(recipe, empty_cache, tmp_path):
    pipeline = tiny_stable_diffusion(tmp_path / "pipeline")
    snapshot = into_cache(pipeline, empty_cache, NAME)
    code, output = augment("weights", "list", recipe, "--json")
    (row,) = json.loads(output)["weights"]
    needed = [pipeline / UNET, *(pipeline / "vae").iterdir()]
    needed += [pipeline / "unet/config.json", pipeline / "scheduler/scheduler_config.json"]
    assert code == 0
    assert row["folder"] == str(snapshot)
    assert row["parts"] == ["unet", "vae", "scheduler"]
    assert row["size"] == sum(path.stat().st_size for path in needed)
    assert row["problem"] == ""
    assert f"{NAME} is in {snapshot}" in augment("weights", "list", recipe)[1]
    code, output = augment("weights", "fetch", recipe, "--json")
    assert code == 0
    assert json.loads(output.partition("\n")[2])["folder"] == str(snapshot)


def test_an_unknown_recipe_is_a_recipe_error():
    code, output = augment("weights", "list", "compct")
    assert code == EXIT_PROJECT
    assert "did you mean 'compact'?" in output


def test_fetch_has_nothing_to_do_for_compact():
    code, output = augment("weights", "fetch", "compact")
    assert (code, output) == (0, "compact needs no weights.\n")


def test_fetch_of_a_folder_that_is_missing_is_a_weights_error(recipe, tmp_path):
    recipe.write_text(_with_weights(recipe, tmp_path / "nowhere"))
    code, output = augment("weights", "fetch", recipe)
    assert code == EXIT_WEIGHTS
    assert "nowhere does not exist" in output
    assert "--weights FOLDER" in output


def test_a_pickle_is_listed_with_its_way_out_then_converted(recipe, tmp_path):
    folder = tiny_stable_diffusion(tmp_path / "pipeline")
    torch.save(load_file(folder / UNET), folder / "unet" / "diffusion_pytorch_model.bin")
    (folder / UNET).unlink()
    recipe.write_text(_with_weights(recipe, folder))
    assert f"augment weights convert {folder}" in augment("weights", "list", recipe)[1]
    code, output = augment("weights", "convert", folder)
    assert code == 0
    assert f"diffusion_pytorch_model.bin -> {folder / UNET}" in output
    code, output = augment("weights", "convert", folder)
    assert (code, output.split(":")[0]) == (0, "Nothing to do")
    code, output = augment("weights", "list", recipe, "--json")
    assert json.loads(output)["weights"][0]["folder"] == str(folder)


def test_convert_of_a_dangerous_pickle_leaves_with_the_weights_code(tmp_path):
    unet = tmp_path / "unet"
    unet.mkdir()
    (unet / "config.json").write_text("{}")
    torch.save({"w": Path("x")}, unet / "diffusion_pytorch_model.bin")
    code, output = augment("weights", "convert", tmp_path, "--json")
    parsed = json.loads(output)
    assert code == parsed["exit_code"] == EXIT_WEIGHTS
    assert "could run code" in parsed["error"]


@pytest.mark.parametrize("name", ["list", "fetch", "convert"])
def test_every_command_has_help_json_and_debug(name):
    code, output = augment("weights", name, "--help")
    assert code == 0
    assert "--json" in output
    assert "--debug" in output


def test_help_loads_none_of_the_heavy_libraries():
    code = (
        "import sys; from helpers import augment;"
        "assert augment('weights', 'fetch', '--help')[0] == 0;"
        "print([m for m in ('torch','diffusers','huggingface_hub') if m in sys.modules])"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_fetch_alone_opens_the_way_to_the_hub(tmp_path):
    source = tiny_stable_diffusion(tmp_path / "source")
    with local_hub(NAME, source) as (address, got):
        for hub in (False, True):
            code = (
                "from augmentor.cli.console import command\n"
                f"with command(False, False, hub={hub}):\n"
                "    from generator.weights import fetch\n"
                f"    fetch({NAME!r}, ('scheduler',), recipe='sd15')\n"
            )
            environment = os.environ | {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home")}
            for name in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"):
                environment.pop(name, None)
            done = subprocess.run(
                [sys.executable, "-c", code], env=environment, capture_output=True, text=True
            )
            if hub:
                assert done.returncode == 0, done.stderr
            else:
                assert "HF_HUB_OFFLINE is set" in done.stderr
                assert got == []
    # And nothing else was asked for, such as the client's telemetry.
    assert sorted(got) == ["model_index.json", "scheduler/scheduler_config.json"]


def _with_weights(recipe: Path, folder: Path) -> str:
    content = yaml.safe_load(recipe.read_text())
    content["backbone"]["weights"] = str(folder)
    return yaml.safe_dump(content)
