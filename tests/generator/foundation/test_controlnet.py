"""The ControlNet beside diffusers' own pipeline, on tiny weights."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from beside import (
    Spy,
    backbone_of,
    conditions,
    network_inputs,
    run,
    scene,
    seeded,
    tokens,
    with_tokens,
)
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline
from tiny import tiny_stable_diffusion

from generator.backbones.controlnet import ControlNetBackbone
from generator.backbones.stable_diffusion import StableDiffusionBackbone


@pytest.fixture(scope="module")
def text_to_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_stable_diffusion(tmp_path_factory.mktemp("weights") / "sd")


def controlled(folder: Path) -> ControlNetBackbone:
    return backbone_of(ControlNetBackbone, folder)


def wake(controlnet: ControlNetModel) -> None:
    """Weights in the place of the zeros."""
    with torch.no_grad():
        for part in (*controlnet.controlnet_down_blocks, controlnet.controlnet_mid_block):
            part.weight.copy_(0.3 * torch.randn(part.weight.shape, generator=seeded(8)))
        out = controlnet.controlnet_cond_embedding.conv_out
        out.weight.copy_(torch.randn(out.weight.shape, generator=seeded(9)))


def test_an_untrained_controlnet_changes_nothing(text_to_image):
    plain = backbone_of(StableDiffusionBackbone, text_to_image)
    ours = controlled(text_to_image)
    said = plain(*network_inputs(plain, 1))
    asked = network_inputs(ours, 1)
    assert torch.equal(ours(*asked), said)
    wake(ours.controlnet)
    woken = ours(*asked)
    assert not torch.allclose(woken, said, atol=1e-3)
    bare = replace(asked[2], spatial=torch.zeros_like(asked[2].spatial))
    assert not torch.allclose(ours(*asked[:2], bare), woken, atol=1e-3)
    ours.enter("base")
    assert torch.equal(ours(*asked), said)


def test_a_controlnet_steers_as_in_the_plain_pipeline(text_to_image, tmp_path):
    ours = controlled(text_to_image)
    wake(ours.controlnet)
    ours.controlnet.save_pretrained(tmp_path / "controlnet")
    pipeline = StableDiffusionControlNetPipeline.from_pretrained(
        text_to_image, controlnet=ControlNetModel.from_pretrained(tmp_path / "controlnet")
    )
    images, masks, _, drawn = scene()
    spy = Spy(pipeline.unet)
    run(pipeline, image=drawn.convert("RGB"))
    seen = ours.prepare(images, masks, conditions(images, masks))
    for noisy, time, said in spy.calls:
        found = ours(noisy, torch.tensor([time / 1000]), with_tokens(seen.given, tokens()))
        assert torch.allclose(found, said, atol=1e-5)


def test_a_frozen_base_drops_nothing_out(text_to_image):
    backbone = controlled(text_to_image)
    for stage, moving in (("base", True), ("controlnet", False), ("all", True)):
        backbone.enter(stage)
        backbone.train()
        assert (backbone.unet.training, backbone.controlnet.training) == (moving, True)
        assert not backbone.vae.training


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_compiled_blocks_say_the_same(text_to_image):
    backbone = controlled(text_to_image)
    wake(backbone.controlnet)
    asked = network_inputs(backbone, 1)
    plain = backbone(*asked)
    calls = torch._dynamo.utils.counters["stats"]["calls_captured"]
    backbone.compile_blocks()
    assert torch.allclose(backbone(*asked), plain, atol=1e-4)
    assert torch._dynamo.utils.counters["stats"]["calls_captured"] > calls
    backbone.record_attention(torch.tensor([1]))
    assert torch.allclose(backbone(*asked), plain, atol=1e-4)
    assert len(backbone.attention_maps()) == 4
