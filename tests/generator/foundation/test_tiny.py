"""The tiny pipelines are what they stand for: plain diffusers loads and runs them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DiTPipeline,
    DiTTransformer2DModel,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
)
from helpers import tree_hashes
from PIL import Image
from tiny import SCALING, tiny_dit, tiny_inpainting, tiny_stable_diffusion
from transformers import CLIPTokenizer


def _noise() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _size(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_plain_diffusers_runs_the_text_to_image_pipeline(tmp_path):
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_stable_diffusion(tmp_path))
    images = pipeline(
        ["a scratch", "a pit"], height=64, width=96, num_inference_steps=2, output_type="np"
    ).images
    assert images.shape == (2, 64, 96, 3)
    assert pipeline.unet.config.in_channels == 4
    assert _size(pipeline.unet) + _size(pipeline.vae) + _size(pipeline.text_encoder) < 1_000_000
    ends = {name.split("attn")[-1] for name, _ in pipeline.unet.named_modules() if "attn" in name}
    for target in ("to_q", "to_k", "to_v", "to_out.0"):
        assert f"2.{target}" in ends
    assert _size(ControlNetModel.from_unet(pipeline.unet)) > 0


def test_plain_diffusers_runs_the_inpainting_pipeline(tmp_path):
    pipeline = StableDiffusionInpaintPipeline.from_pretrained(tiny_inpainting(tmp_path))
    image = Image.fromarray(np.full((64, 96, 3), 90, np.uint8))
    mask = Image.fromarray(np.full((64, 96), 255, np.uint8))
    images = pipeline(
        "a pit", image, mask, height=64, width=96, num_inference_steps=2, output_type="np"
    ).images
    assert pipeline.unet.config.in_channels == 9
    assert images.shape == (1, 64, 96, 3)


def test_plain_diffusers_runs_the_dit_pipeline(tmp_path):
    folder = tiny_dit(tmp_path)
    pipeline = DiTPipeline.from_pretrained(folder)
    assert type(pipeline.transformer) is DiTTransformer2DModel
    assert pipeline.get_label_ids(["tench", "toilet tissue"]) == [0, 999]
    images = pipeline([0, 999], num_inference_steps=2, generator=_noise(), output_type="np").images
    assert images.shape == (2, 64, 64, 3)
    assert pipeline.transformer.config.out_channels == 8


def test_the_tokenizer_takes_words_apart_and_pads_to_77(tmp_path):
    tokenizer = CLIPTokenizer.from_pretrained(tiny_stable_diffusion(tmp_path) / "tokenizer")
    assert tokenizer.tokenize("The crazing") == ["the</w>", "c", "r", "a", "z", "ing</w>"]
    ids = tokenizer("a pit", padding="max_length", truncation=True).input_ids
    assert len(ids) == tokenizer.model_max_length == 77
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a pit"


@pytest.mark.parametrize("build", [tiny_stable_diffusion, tiny_dit])
def test_latents_are_as_large_and_as_certain_as_the_real_ones(build, tmp_path):
    vae = AutoencoderKL.from_pretrained(build(tmp_path), subfolder="vae")
    coarse = torch.rand(4, 3, 8, 12, generator=_noise()) * 2 - 1
    images = torch.nn.functional.interpolate(coarse, size=(64, 96), mode="bilinear")
    with torch.no_grad():
        given = vae.encode(images).latent_dist
        back = vae.decode(given.mean).sample
    assert given.mean.shape == (4, 4, 8, 12)
    assert 0.7 < float((given.mean * SCALING).std()) < 1.4
    assert float(given.std.max()) < 0.01
    assert 0.25 < float(back.std()) < 1


def test_the_same_seed_writes_the_same_files(tmp_path):
    one, other = (tiny_stable_diffusion(tmp_path / n) for n in "ab")
    changed = tiny_stable_diffusion(tmp_path / "c", seed=1)
    hashes = [
        {Path(path).relative_to(root): h for path, h in tree_hashes(root).items()}
        for root in (one, other, changed)
    ]
    assert hashes[0] == hashes[1]
    unet = Path("unet/diffusion_pytorch_model.safetensors")
    assert hashes[0][unet] != hashes[2][unet]
    schedule = json.loads((one / "scheduler" / "scheduler_config.json").read_text())
    assert (schedule["beta_start"], schedule["beta_end"]) == (0.00085, 0.012)
