"""The figures that the foundation benchmark counts floors from, and its table."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import ControlNetModel
from peft import LoraConfig, inject_adapter_in_model
from torch.utils.flop_counter import FlopCounterMode

HERE = Path(__file__).parents[2] / "benchmarks"
sys.path.append(str(HERE))

from foundation_meter import FORWARD, TRAIN, VAE, Row, line, sample_gflop, train_gflop  # noqa: E402
from foundation_models import dit, unet, vae  # noqa: E402

from generator.config import load_recipe  # noqa: E402
from generator.tuning.lora import ATTENTION  # noqa: E402

pytestmark = pytest.mark.slow


def zeros(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, device="meta")


def gflop(work: Callable[[], Any], *, backward: bool = False) -> float:
    """Of a batch of one, on the meta device: shapes alone, no arithmetic."""
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(backward):
        said = work()
        if backward:
            said.sum().backward()
    return counter.get_total_flops() / 1e9


def passes(network: Any) -> Callable[[], torch.Tensor]:
    channels = network.config.in_channels
    return lambda: network(zeros(1, channels, 64, 64), zeros(1), zeros(1, 77, 768)).sample


@pytest.mark.parametrize("channels", [4, 9])
def test_a_pass_of_the_unet(channels):
    with torch.device("meta"):
        network = unet(channels)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(860e6, rel=1e-3)
    assert gflop(passes(network)) == pytest.approx(FORWARD["unet"], rel=2e-3)


@pytest.mark.parametrize("what", ["lora", "upper", "full"])
def test_a_training_step_of_the_unet(what):
    with torch.device("meta"):
        network = unet(4).requires_grad_(what == "full")
        if what != "full":
            config = LoraConfig(r=8 if what == "lora" else 16, target_modules=list(ATTENTION))
            inject_adapter_in_model(config, network)
    for name, parameter in network.named_parameters():
        if what == "upper" and name.split(".")[0] in ("up_blocks", "mid_block"):
            parameter.requires_grad_(True)
    assert gflop(passes(network), backward=True) == pytest.approx(TRAIN[what], rel=1e-2)


@pytest.mark.parametrize("trained", [False, True])
def test_a_unet_with_its_controlnet(trained):
    with torch.device("meta"):
        network = unet(4).requires_grad_(False)
        control = ControlNetModel.from_unet(network, load_weights_from_unet=False)

    def both() -> torch.Tensor:
        asked = zeros(1, 4, 64, 64), zeros(1), zeros(1, 77, 768)
        down, middle = control.to("meta")(*asked, zeros(1, 3, 512, 512), return_dict=False)
        return network(
            *asked, down_block_additional_residuals=down, mid_block_additional_residual=middle
        ).sample

    counted = (TRAIN if trained else FORWARD)["controlnet"]
    assert gflop(both, backward=trained) == pytest.approx(counted, rel=2e-3)


@pytest.mark.parametrize("side", [512, 256])
def test_the_autoencoder(side):
    with torch.device("meta"):
        network = vae(side)
    encoded = gflop(lambda: network.encode(zeros(1, 3, side, side)))
    decoded = gflop(lambda: network.decode(zeros(1, 4, side // 8, side // 8)))
    assert encoded == pytest.approx(VAE[side]["encode"], rel=2e-3)
    assert decoded == pytest.approx(VAE[side]["decode"], rel=2e-3)


def test_dit():
    with torch.device("meta"):
        network = dit().requires_grad_(False)
        asked = zeros(1, 4, 32, 32), zeros(1).long(), zeros(1).long()
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.endswith(".bias"))
    assert gflop(lambda: network(*asked).sample) == pytest.approx(FORWARD["dit"], rel=2e-3)
    trained = gflop(lambda: network(*asked).sample, backward=True)
    assert trained == pytest.approx(TRAIN["dit"], rel=2e-3)


def test_floors_of_recipes():
    # 790 TFLOP/s: 22.1 inpainted images/s at 20 guided steps, 460 LoRA training images/s.
    assert 790e3 / sample_gflop(load_recipe("sd15-inpaint-lora")) == pytest.approx(22.1, abs=0.1)
    lora = train_gflop(load_recipe("sd15-class-lora"), "all")
    assert 790e3 / lora == pytest.approx(460, abs=1)
    assert train_gflop(load_recipe("defectfill"), "all") == 2 * lora
    assert train_gflop(load_recipe("sd15-text-full"), "all") == TRAIN["full"]
    stages = ("adapters", "up and mid blocks", "whole UNet")
    counted = [train_gflop(load_recipe("sd15-class-phases"), stage) for stage in stages]
    assert counted == sorted(counted)
    row = Row("sd15-class-lora", "train all", 4, 230.0, 11.5, lora, 115.0)
    assert line(row, 790.0).endswith(" 4       230     11.50       50%     2.00")


def test_the_table_on_a_machine_without_a_gpu():
    command = [sys.executable, str(HERE / "foundation.py"), "--recipe", "sd15-class-lora"]
    command += ["--steps", "1", "--batches", "2", "--tiny", "--json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    said = json.loads(done.stdout)
    assert said["machine"].startswith("TINY PIPELINES")
    works = [(row["work"], row["batch"]) for row in said["rows"]]
    assert works == [("train all", 2), ("sample 64 px, 20 steps", 2)]
    for row in said["rows"]:
        assert row["images_per_s"] > 0 and row["plain_images_per_s"] > 0
        assert row["peak_gib"] > 0.1
        assert row["gflop"] is None  # nothing is counted for tiny pipelines
