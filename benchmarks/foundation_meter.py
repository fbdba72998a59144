"""What is counted, timed and printed by foundation.py."""

import gc
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from generator.config import Recipe

# GFLOP an image, 2 a multiply-add, counted with torch.utils.flop_counter on the meta device; the
# tests count them again. Training is forward and backward on cached latents at 512 px, with 77
# tokens (one token: 1 % less), for DiT at 256 px; LoRA on the attention's four projections.
FORWARD = {"unet": 803, "controlnet": 1087, "dit": 237}
TRAIN = {"lora": 1718, "upper": 2187, "full": 2407, "controlnet": 2265, "dit": 483}
VAE = {512: {"encode": 1117, "decode": 2515}, 256: {"encode": 273, "decode": 622}}

STAGES = {
    "adapters": "lora",
    "up and mid blocks": "upper",
    "whole UNet": "full",
    "base": "lora",
    "controlnet": "controlnet",
}
"""Stage of a recipe in several -> its key in `TRAIN`."""
WARM = 3
"""Rounds before time is taken: kernels are chosen, memory is laid out."""


@dataclass(frozen=True)
class Row:
    """Attributes:
    recipe: name.
    work: what was timed.
    batch: images at once.
    images_per_s: in the steady state.
    peak_gib: most memory held; on a GPU by torch, else by this process, libraries included.
    gflop: counted, an image; None for tiny pipelines.
    plain_images_per_s: of plain diffusers, same batch and precision, same run; None without one.
    """

    recipe: str
    work: str
    batch: int
    images_per_s: float
    peak_gib: float
    gflop: float | None
    plain_images_per_s: float | None = None


def heading(full: bool, device: torch.device, measured: float | None) -> str:
    """What the figures were measured on; `measured` as of `matmul_tflops`, None if it was not."""
    size = (
        "full-size architectures, random weights"
        if full
        else "TINY PIPELINES: they show that everything runs, not how fast the real ones are"
    )
    where = f"CPU, one thread of {os.cpu_count()} cores, processor time"
    if device.type == "cuda":
        where = f"{torch.cuda.get_device_name()}, {os.cpu_count()} cores"
    rate = f"; a large matrix product runs at {measured:.0f} TFLOP/s" if measured else ""
    return (
        f"{size}\n{where}, load {os.getloadavg()[0]:.1f} at the start; torch {torch.__version__}"
        f"{rate}"
    )


HEAD = (
    f"{'recipe':<18}{'work':<26}{'at once':>8}{'images/s':>10}{'peak GiB':>10}{'of floor':>10}"
    f"{'x plain':>9}"
)


def line(row: Row, measured: float | None) -> str:
    """A row of the table; `x plain` above 1 is faster than plain diffusers."""
    floor = "-"
    if row.gflop and measured:
        floor = f"{row.images_per_s * row.gflop / measured / 1000:.0%}"
    plain = row.plain_images_per_s
    ratio = f"{row.images_per_s / plain:.2f}" if plain else "-"
    return (
        f"{row.recipe:<18}{row.work:<26}{row.batch:>8}{row.images_per_s:>10.3g}"
        f"{row.peak_gib:>10.2f}{floor:>10}{ratio:>9}"
    )


def train_gflop(recipe: Recipe, stage: str) -> float:
    """Counted work of one training example."""
    if recipe.backbone.kind == "dit":
        return TRAIN["dit"]
    once = TRAIN[STAGES.get(stage, recipe.tuning.kind)]
    return once * (2 if recipe.objective.kind == "defectfill" else 1)


def sample_gflop(recipe: Recipe) -> float:
    """Counted work of one guided sample: two passes a step, the picture around it encoded, the
    result decoded."""
    controlled = recipe.backbone.kind == "stable_diffusion_controlnet"
    part = "dit" if recipe.backbone.kind == "dit" else "controlnet" if controlled else "unet"
    vae = VAE[recipe.crops.size_px]
    return 2 * recipe.sampling.steps * FORWARD[part] + vae["encode"] + vae["decode"]


def speed(work: Callable[[], Any], rounds: int, images: int, *, warm: int = WARM) -> float:
    """Images a second at the median of `rounds` calls, after some that do not count.

    Without a GPU it is the processor's time that counts, not the neighbours'; for that to mean
    seconds there must be one thread.
    """
    now = time.perf_counter if torch.cuda.is_available() else time.process_time
    seconds = []
    for number in range(warm + rounds):
        synchronise()
        started = now()
        work()
        synchronise()
        if number >= warm:
            seconds.append(now() - started)
    return images / statistics.median(seconds)


def matmul_tflops(side: int = 8192) -> float:
    """What a large matrix product in bf16 reaches on the GPU: the rate that floors are counted
    at."""
    a, b = (torch.randn(side, side, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return speed(lambda: a @ b, 50, 1) * 2 * side**3 / 1e12


def synchronise() -> None:
    """Wait for the GPU."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def forget() -> None:
    """Give back memory that nothing refers to."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def reset_peak() -> None:
    """Count the peak of memory from here on."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # Linux: see man proc


def peak_gib() -> float:
    """Most memory held since `reset_peak`; with CUDA what torch reserved, which is what a card
    must have."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved() / 2**30
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (kib,) = (row.split()[1] for row in status.splitlines() if row.startswith("VmHWM"))
    return int(kib) / 2**20
