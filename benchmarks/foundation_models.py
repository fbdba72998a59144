"""The published architectures at full size with random weights, in the hub's folder layout.

Speed and memory do not depend on the values, so nothing is downloaded. Layout, tokenizer and
schedules are those of the tests' tiny pipelines; the networks are put in their place, with the
sizes that the hub's configs name: stable-diffusion-v1-5/stable-diffusion-v1-5,
stable-diffusion-v1-5/stable-diffusion-inpainting and facebook/DiT-XL-2-256.
"""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from diffusers import AutoencoderKL, DiTTransformer2DModel, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

sys.path.append(str(Path(__file__).parents[1] / "tests" / "generator" / "foundation"))
from tiny import tiny_dit, tiny_inpainting, tiny_stable_diffusion

from generator.config import Recipe

TINY: dict[str, Callable[[Path], Path]] = {
    "text-to-image": tiny_stable_diffusion,
    "inpainting": tiny_inpainting,
    "dit": tiny_dit,
}
DISK_BYTES = 25 * 10**9
"""Three pipelines in float32, and the largest checkpoint."""


def pipeline_kind(recipe: Recipe) -> str:
    """Which pipeline's weights a recipe takes: `text-to-image`, `inpainting` or `dit`."""
    if recipe.backbone.kind == "dit":
        return "dit"
    return str(getattr(recipe.backbone, "task", "text-to-image"))


def unet(channels: int) -> UNet2DConditionModel:
    """Stable Diffusion 1.5's UNet, 860 million weights; `channels` is 4, or 9 for inpainting."""
    return UNet2DConditionModel(
        sample_size=64,
        in_channels=channels,
        block_out_channels=(320, 640, 1280, 1280),
        layers_per_block=2,
        cross_attention_dim=768,
        attention_head_dim=8,
    )


def dit() -> DiTTransformer2DModel:
    """DiT-XL/2 for 256 px."""
    return DiTTransformer2DModel(
        num_attention_heads=16,
        attention_head_dim=72,
        in_channels=4,
        out_channels=8,
        num_layers=28,
        sample_size=32,
        patch_size=2,
        num_embeds_ada_norm=1000,
    )


def vae(sample_px: int) -> AutoencoderKL:
    """The autoencoder of 8x that both use."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=4,
        sample_size=sample_px,
        scaling_factor=0.18215,
    )


def text_encoder() -> CLIPTextModel:
    """CLIP ViT-L/14's text encoder."""
    return CLIPTextModel(
        CLIPTextConfig(
            hidden_size=768,
            intermediate_size=3072,
            num_hidden_layers=12,
            num_attention_heads=12,
            projection_dim=768,
        )
    )


def write_pipeline(kind: str, folder: Path, *, full: bool) -> Path:
    """Write a pipeline to `folder`.

    Args:
        kind: a key of `TINY`.
        folder: must not exist.
        full: at the published size; else the tests' tiny one.

    Returns:
        `folder`.
    """
    if full and shutil.disk_usage(folder.parent).free < DISK_BYTES:
        raise SystemExit(
            f"{folder.parent} has less than {DISK_BYTES / 1e9:.0f} GB free; name another place "
            "with: TMPDIR=FOLDER python benchmarks/foundation.py"
        )
    TINY[kind](folder)
    if full and kind == "dit":
        dit().save_pretrained(folder / "transformer")
        vae(256).save_pretrained(folder / "vae")
    elif full:
        unet(9 if kind == "inpainting" else 4).save_pretrained(folder / "unet")
        vae(512).save_pretrained(folder / "vae")
        text_encoder().save_pretrained(folder / "text_encoder")
    return folder
