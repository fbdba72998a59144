"""Tiny pipelines with random weights, in the hub's folder layout, for the tests.

Each has the architecture, the file names and the schedule of the published weights, only narrower
and shallower, so that the code which loads, trains and samples the real ones runs unchanged.
The hubs' own configs were followed: stable-diffusion-v1-5/stable-diffusion-v1-5,
stable-diffusion-v1-5/stable-diffusion-inpainting, facebook/DiT-XL-2-256.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    PNDMScheduler,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from torchvision.models._meta import _IMAGENET_CATEGORIES
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

WIDTH = 32
"""Channels of a token; 768 in Stable Diffusion 1.5."""
IMAGE_PX = 64
SCALING = 0.18215
START, END = "<|startoftext|>", "<|endoftext|>"
MERGES = (("t", "h"), ("i", "n"), ("th", "e</w>"), ("in", "g</w>"))


def tiny_stable_diffusion(folder: Path, *, seed: int = 0) -> Path:
    """Write a text-to-image Stable Diffusion; 4 input channels. Returns `folder`."""
    return _stable_diffusion(StableDiffusionPipeline, folder, 4, seed)


def tiny_inpainting(folder: Path, *, seed: int = 0) -> Path:
    """Write an inpainting Stable Diffusion; latents 4, mask 1, masked latents 4."""
    return _stable_diffusion(StableDiffusionInpaintPipeline, folder, 9, seed)


def tiny_dit(folder: Path, *, seed: int = 0) -> Path:
    """Write a DiT for 64 px images and ImageNet's 1000 classes, which predicts the variance too."""
    with _seeded(seed):
        transformer = DiTTransformer2DModel(
            num_attention_heads=2,
            attention_head_dim=WIDTH // 2,
            in_channels=4,
            out_channels=8,
            num_layers=2,
            norm_num_groups=4,
            sample_size=IMAGE_PX // 8,
            patch_size=2,
            num_embeds_ada_norm=1000,
        )
        vae = _vae()
    schedule = DDIMScheduler(
        beta_start=0.0001, beta_end=0.02, beta_schedule="linear", clip_sample=False
    )
    DiTPipeline(transformer=transformer, vae=vae, scheduler=schedule).save_pretrained(folder)
    # `save_pretrained` loses the names of the classes; and the published files are older than the
    # class DiTTransformer2DModel, which diffusers puts in the place of the one that they name.
    _edit(
        folder / "model_index.json",
        id2label={str(i): name for i, name in enumerate(_IMAGENET_CATEGORIES)},
        transformer=["diffusers", "Transformer2DModel"],
    )
    _edit(folder / "transformer" / "config.json", _class_name="Transformer2DModel")
    return folder


def _stable_diffusion(pipeline: type, folder: Path, channels: int, seed: int) -> Path:
    tokenizer = write_tokenizer(folder / "tokenizer")
    with _seeded(seed):
        unet = UNet2DConditionModel(
            sample_size=IMAGE_PX // 8,
            in_channels=channels,
            out_channels=4,
            block_out_channels=(16, 32),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=WIDTH,
            attention_head_dim=2,
            norm_num_groups=8,
        )
        vae = _vae()
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=WIDTH,
                intermediate_size=2 * WIDTH,
                projection_dim=WIDTH,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=77,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
    schedule = PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    # The schedulers that can replace this one read these from its file.
    schedule.register_to_config(clip_sample=False, trained_betas=None)
    pipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=schedule,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


def write_tokenizer(folder: Path) -> CLIPTokenizer:
    """Write CLIP's vocabulary without its 48,890 merges: every byte, inside and at the end of a
    word, and a few real merges. Any text is tokenised, most of it letter by letter."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = list(bytes_to_unicode().values())
    tokens = [*letters, *(f"{c}</w>" for c in letters), *("".join(m) for m in MERGES), START, END]
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}))
    (folder / "merges.txt").write_text(
        "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in MERGES), encoding="utf-8"
    )
    settings = {"model_max_length": 77, "tokenizer_class": "CLIPTokenizer", "do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return CLIPTokenizer.from_pretrained(folder)


def _vae() -> AutoencoderKL:
    """An autoencoder of 8x, whose latents are about as large, and as certain, as the real one's.

    Random weights alone give latents near zero, drowned in the noise of a variance near one.
    """
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 16, 16),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=IMAGE_PX,
        scaling_factor=SCALING,
    ).eval()
    with torch.no_grad():
        coarse = torch.rand(8, 3, 8, 8) * 2 - 1
        images = torch.nn.functional.interpolate(coarse, size=IMAGE_PX, mode="bilinear")
        mean = vae.encode(images).latent_dist.mean
        off, scale = mean.mean(dim=(0, 2, 3)), mean.std(dim=(0, 2, 3)) * SCALING
        vae.quant_conv.bias[:4] -= off
        vae.quant_conv.weight[:4] /= scale[:, None, None, None]
        vae.quant_conv.bias[:4] /= scale
        vae.quant_conv.weight[4:] = 0
        vae.quant_conv.bias[4:] = -12
        vae.post_quant_conv.weight *= SCALING
        out = vae.decode(vae.encode(images).latent_dist.mean).sample
        vae.decoder.conv_out.weight *= 0.5 / out.std()
        vae.decoder.conv_out.bias *= 0.5 / out.std()
    return vae


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _edit(path: Path, **keys: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | keys, indent=2))
