"""What a user would run without Augmentor: diffusers' own training example and pipelines."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import (
    ControlNetModel,
    DDPMScheduler,
    DiTPipeline,
    DPMSolverMultistepScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from diffusers.training_utils import cast_training_params
from foundation_models import pipeline_kind
from peft import LoraConfig

from generator.config import Recipe

PROMPT = "a photo of a part with a scratch"


def training_step(
    recipe: Recipe, folder: Path, batch: int, device: torch.device, precision: torch.dtype
) -> Callable[[], None] | None:
    """A step of diffusers' train_text_to_image_lora.py (or, for all weights, without `_lora`), or
    None for recipes that diffusers has no example of.

    As there, and as in its inpainting sibling under examples/research_projects, each step encodes
    pixels, masked pixels and prompts anew; frozen weights are in `precision`, trained ones in
    float32 under autocast.
    """
    if recipe.objective.kind != "noise" or recipe.tuning.kind not in ("lora", "full"):
        return None
    inpaints = pipeline_kind(recipe) == "inpainting"
    family: Any = StableDiffusionInpaintPipeline if inpaints else StableDiffusionPipeline
    pipe = family.from_pretrained(folder, safety_checker=None, local_files_only=True)
    path = DDPMScheduler.from_config(pipe.scheduler.config)
    unet, vae, text = pipe.unet, pipe.vae, pipe.text_encoder
    vae.requires_grad_(False).to(device, dtype=precision)
    text.requires_grad_(False).to(device, dtype=precision)
    if recipe.tuning.kind == "lora":
        _adapt(unet.requires_grad_(False).to(device, dtype=precision), recipe.tuning)
    unet.to(device).train()
    moving = [p for p in unet.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(moving, lr=1e-6, weight_decay=0.01)
    side = recipe.crops.size_px
    pixels = torch.rand(batch, 3, side, side, device=device) * 2 - 1
    mask = torch.zeros(batch, 1, side, side, device=device)
    mask[..., side // 4 : side // 2, side // 4 : side // 2] = 1
    ids = pipe.tokenizer([PROMPT] * batch, padding="max_length", return_tensors="pt").input_ids
    ids = ids.to(device)

    def encode(shown: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = vae.encode(shown.to(precision)).latent_dist.sample()
        return found * vae.config.scaling_factor

    def step() -> None:
        with torch.no_grad():
            latents, tokens = encode(pixels), text(ids)[0]
            beside = []
            if inpaints:
                small = F.interpolate(mask, size=latents.shape[2:]).to(latents)
                beside = [small, encode(pixels * (mask < 0.5))]
        noise = torch.randn_like(latents)
        times = torch.randint(0, path.config.num_train_timesteps, (batch,), device=device)
        noisy = torch.cat([path.add_noise(latents, noise, times), *beside], dim=1)
        with torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32):
            said = unet(noisy, times, tokens).sample
        F.mse_loss(said.float(), noise.float()).backward()
        torch.nn.utils.clip_grad_norm_(moving, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def _adapt(unet: Any, tuning: Any) -> None:
    unet.add_adapter(
        LoraConfig(
            r=tuning.rank,
            lora_alpha=tuning.alpha,
            lora_dropout=tuning.dropout,
            init_lora_weights="gaussian",
            target_modules=list(tuning.targets),
        )
    )
    cast_training_params([unet], dtype=torch.float32)


def sampler(
    recipe: Recipe, folder: Path, batch: int, device: torch.device, precision: torch.dtype
) -> Callable[[], Any]:
    """`batch` images by the plain pipeline of a recipe's architecture, all of it in `precision`;
    steps, guidance and canvas are the recipe's, the solver is DPM-Solver++."""
    family, more, asked = _pipeline(recipe, folder, batch)
    pipe = family.from_pretrained(folder, local_files_only=True, **more)
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    pipe.to(device, precision)
    pipe.set_progress_bar_config(disable=True)
    how = {
        "guidance_scale": recipe.sampling.guidance,
        "num_inference_steps": recipe.sampling.steps,
        "output_type": "np",
    }
    return lambda: pipe(**asked, **how)


def _pipeline(
    recipe: Recipe, folder: Path, batch: int
) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """A pipeline's class, further arguments to open it, and what is asked of it."""
    kind, side = pipeline_kind(recipe), recipe.crops.size_px
    if kind == "dit":
        return DiTPipeline, {}, {"class_labels": [k % 1000 for k in range(batch)]}
    asked: dict[str, Any] = {"prompt": [PROMPT] * batch, "height": side, "width": side}
    more: dict[str, Any] = {"safety_checker": None}
    image, mask = torch.rand(batch, 3, side, side), torch.zeros(batch, 1, side, side)
    mask[..., side // 4 : side // 2, side // 4 : side // 2] = 1
    if kind == "inpainting":
        return StableDiffusionInpaintPipeline, more, asked | {"image": image, "mask_image": mask}
    if recipe.backbone.kind != "stable_diffusion_controlnet":
        return StableDiffusionPipeline, more, asked
    base = UNet2DConditionModel.from_pretrained(folder, subfolder="unet", local_files_only=True)
    asked["image"] = mask.expand(-1, 3, -1, -1).contiguous()
    more["controlnet"] = ControlNetModel.from_unet(base)
    return StableDiffusionControlNetPipeline, more, asked
