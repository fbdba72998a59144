"""What makes training and sampling fast is there: nothing is computed twice, or one by one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft.tuners.lora import LoraLayer
from tiny import tiny_dit, tiny_inpainting, tiny_stable_diffusion

from generator import feed
from generator.assembly import build
from generator.conditioning.text import TextEncoder
from generator.config import Recipe, load_recipe, recipe_names
from generator.masks import DraftPlanner
from generator.records import Draft
from generator.run import Run
from generator.sampling import load_painter, make_request
from generator.training import train

FOUNDATION = [n for n in recipe_names() if hasattr(load_recipe(n).backbone, "weights")]
PIXELS = {"size_px": 64, "least_px": 32, "whole_image_px": 64}


def shrunk(name: str, folder: Path, precision: str = "fp32", **sections: dict) -> Recipe:
    """The shipped recipe on a small canvas, for a few steps, with other weights."""
    content = load_recipe(name).model_dump(mode="json")
    content["precision"] = precision
    content["backbone"]["weights"] = str(folder)
    content["crops"] |= PIXELS
    content["training"] |= {"epochs": None, "steps": 3, "batch_size": 2, "accumulation": 1}
    content["training"] |= {"schedule": "constant", "milestones": {}, "variants": 2}
    content["training"] |= {"validate_every": 0, "validate_steps": 4, "sheet_every": 100}
    content["sampling"] |= {"steps": 4, "batch_size": 3}
    if name == "sd15-controlnet":
        content["tuning"]["controlnet_from"] = 1
    for section, values in sections.items():
        content[section] |= values
    return Recipe.model_validate(content)


def opened(recipe: Recipe, examples: Any, classes: Any, folder: Path) -> Run:
    run = Run.open(recipe, examples, classes, folder, "key", seed=0)
    run.enter(run.calendar.stage(0))
    return run


def step(run: Run) -> float:
    seen, ids = run.feed.batch(run.step, 2, slice(0, 2))
    loss, _ = run.stepper.step(seen, ids, run.step, 2)
    run.step += 1
    return loss


def test_crops_and_what_is_shown_of_them_are_encoded_once(
    tmp_path, tiny_examples, tiny_classes, monkeypatch
):
    """Latents and, for inpainting, masked latents; without kept variants every step encodes."""
    folder, examples = tiny_inpainting(tmp_path / "w"), tiny_examples(grey=False)
    kept = opened(shrunk("sd15-inpaint-lora", folder), examples, tiny_classes, tmp_path / "kept")
    # 6 instances twice, and clean crops for a quarter of all.
    assert len(kept.feed._ids) == 16
    fresh = opened(
        shrunk("sd15-inpaint-lora", folder, training={"variants": 0}),
        *(examples, tiny_classes, tmp_path / "fresh"),
    )
    for run in (kept, fresh):
        monkeypatch.setattr(run.parts.backbone, "encode", None)
    assert [np.isfinite(step(kept)) for _ in range(3)] == [True] * 3
    with pytest.raises(TypeError):
        step(fresh)


def test_encodings_stay_off_a_gpu_that_they_would_fill(
    tmp_path, tiny_examples, tiny_classes, monkeypatch
):
    recipe = shrunk("sd15-inpaint-lora", tiny_inpainting(tmp_path / "w"))
    run = opened(recipe, tiny_examples(grey=False), tiny_classes, tmp_path / "c")
    # 16 crops of 8 x 8 floats: latents and masked latents of 4 channels, the mask, and what is
    # hidden as weight and as input; level (3) and class (8 bytes) beside them.
    assert feed.bytes_of(run.feed._bank) == 16 * ((4 + 4 + 1 + 1 + 1) * 64 * 4 + 3 * 4 + 8)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 9000))
    assert feed.bank_room(torch.device("cuda")) == 500
    assert feed.bank_room(torch.device("cpu")) == float("inf")
    # `meta` stands for the GPU: what is moved there is seen there.
    run.feed.device = torch.device("meta")
    kept = run.feed._bank
    seen, ids = run.feed.batch(0, 2, slice(0, 2))
    assert seen.clean.device.type == "meta" and seen.given.known.device.type == "meta"
    assert run.feed._bank is kept and kept.clean.device.type == "cpu" and len(ids) == 2


def test_prompts_are_encoded_once(tmp_path, tiny_examples, tiny_classes, monkeypatch):
    recipe = shrunk("sd15-text-full", tiny_stable_diffusion(tmp_path / "w"))
    forward, calls = TextEncoder.forward, []

    def counted(self: TextEncoder, texts: Any) -> Any:
        calls.append(len(texts))
        return forward(self, texts)

    monkeypatch.setattr(TextEncoder, "forward", counted)
    run = opened(recipe, tiny_examples(grey=False), tiny_classes, tmp_path / "c")
    for _ in range(3):
        step(run)
    # Two descriptions of both classes, of the clean surface and of nothing; then it is let go.
    assert calls == [4, 4]
    assert run.parts.conditioning.text is None


def test_the_network_trains_in_half_precision_and_its_trained_weights_in_full(
    tmp_path, tiny_examples, tiny_classes
):
    recipe = shrunk("sd15-inpaint-lora", tiny_inpainting(tmp_path / "w"), precision="bf16")
    run = opened(recipe, tiny_examples(grey=False), tiny_classes, tmp_path / "c")
    said = []
    run.parts.backbone.unet.register_forward_hook(lambda *args: said.append(args[2].sample.dtype))
    step(run)
    assert said == [torch.bfloat16]
    assert {p.dtype for p in run.parts.trained.values()} == {torch.float32}
    assert not run.parts.backbone.unet.is_gradient_checkpointing


@pytest.fixture
def painted(tmp_path, tiny_examples, tiny_classes):
    """A maker of painters by recipe, each with drafts for it."""

    def make(name: str, folder: Path, **how: Any) -> tuple[Any, list[Draft]]:
        examples, recipe = tiny_examples(grey=False), shrunk(name, folder, **how)
        painter = load_painter(train(recipe, examples, tiny_classes, tmp_path / "c", seed=0))
        planner = DraftPlanner(examples, tiny_classes)
        asked = [make_request(painter.fingerprint, tiny_classes[k % 2], k, 0) for k in range(3)]
        return painter, [planner.plan(request) for request in asked]

    return make


@pytest.mark.parametrize("solver", ["dpm++2m", "ddim"])
def test_guidance_takes_one_pass_a_step(painted, tmp_path, solver):
    painter, drafts = painted(
        "sd15-inpaint-lora", tiny_inpainting(tmp_path / "w"), sampling={"solver": solver}
    )
    rows = []
    painter.parts.backbone.unet.register_forward_pre_hook(
        lambda module, args: rows.append(len(args[0]))
    )
    painter.paint(drafts)
    assert rows == [2 * 3] * 4


@pytest.mark.parametrize(
    ("name", "build_weights"),
    [("sd15-inpaint-lora", tiny_inpainting), ("sd15-class-lora", tiny_stable_diffusion)],
)
def test_a_background_is_encoded_once_a_sample(name, build_weights, painted, tmp_path, monkeypatch):
    """Shown to a network for inpainting, or held around what another one paints."""
    painter, drafts = painted(name, build_weights(tmp_path / "w"))
    encode, rows = painter.parts.backbone.encode, []

    def counted(pixels: torch.Tensor) -> torch.Tensor:
        rows.append(len(pixels))
        return encode(pixels)

    monkeypatch.setattr(painter.parts.backbone, "encode", counted)
    painter.paint(drafts)
    assert rows == [3]


def test_a_sampling_network_is_fused_narrow_and_laid_out_for_the_hardware(painted, tmp_path):
    painter, _ = painted("sd15-inpaint-lora", tiny_inpainting(tmp_path / "w"), precision="bf16")
    unet, vae = painter.parts.backbone.unet, painter.parts.backbone.vae
    assert not [m for m in unet.modules() if isinstance(m, LoraLayer)]
    assert {p.dtype for p in unet.parameters()} == {torch.bfloat16}
    # Half precision would round the pixels.
    assert {p.dtype for p in vae.parameters()} == {torch.float32}
    for part in (unet, vae):
        maps = [p for p in part.parameters() if p.ndim == 4]
        assert maps
        assert all(p.is_contiguous(memory_format=torch.channels_last) for p in maps)


@pytest.mark.parametrize(
    "name", ["sd15-inpaint-lora", "sd15-controlnet", "sd15-text-full", "dit-diffit"]
)
def test_attention_is_fused(name, tmp_path, tiny_classes, monkeypatch):
    """Every attention of a pass goes through torch's fused kernel, which never writes its
    probabilities down."""
    builders = {"dit-diffit": tiny_dit, "sd15-inpaint-lora": tiny_inpainting}
    folder = builders.get(name, tiny_stable_diffusion)(tmp_path / "w")
    parts = build(shrunk(name, folder), tiny_classes, 3)
    kernel, calls = torch.nn.functional.scaled_dot_product_attention, []

    def counted(*args: Any, **more: Any) -> torch.Tensor:
        calls.append(args[0].shape)
        return kernel(*args, **more)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counted)
    images, masks = torch.zeros(2, 3, 64, 64), torch.zeros(2, 1, 64, 64)
    masks[..., 16:40, 8:48] = 1
    given = parts.conditioning(images, masks, torch.tensor([0, 1]))
    seen = parts.backbone.prepare(images, masks, given)
    embedded = parts.conditioning.embed(seen.given)
    calls.clear()
    with torch.no_grad():
        parts.backbone(seen.clean, torch.tensor([0.2, 0.7]), embedded)
    networks = [parts.backbone.denoiser, getattr(parts.backbone, "controlnet", None)]
    layers = [
        module
        for network in networks
        if network is not None
        for module in network.modules()
        if type(module).__name__ == "Attention"
    ]
    assert len(calls) == len(layers) > 0


@pytest.mark.parametrize("name", FOUNDATION)
def test_recipes_start_from_what_is_fast(name):
    recipe = load_recipe(name)
    assert recipe.training.variants > 0
    assert not recipe.training.gradient_checkpointing
    assert recipe.precision in ("auto", "bf16")
    assert recipe.sampling.solver == "dpm++2m"
    # The fine-tunings of DiT that are followed sample in 100 to 500.
    assert recipe.sampling.steps == (100 if recipe.backbone.kind == "dit" else 20)
    content = recipe.model_dump(mode="json")
    content["sampling"]["solver"] = "ddim"
    assert Recipe.model_validate(content).sampling.solver == "ddim"


@pytest.mark.slow
@pytest.mark.parametrize("section", ["training", "sampling"])
def test_compiled_blocks_say_the_same(
    section, painted, tmp_path, tiny_examples, tiny_classes, monkeypatch
):
    """Stated tolerance: 1 grey level on average in sampling; 1e-3 of the loss in training."""
    folder = tiny_inpainting(tmp_path / "w")
    compiled = []
    inner = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self, *a, **k: (compiled.append(1), inner(self, *a, **k))
    )
    if section == "sampling":
        eager, drafts = painted("sd15-inpaint-lora", folder)
        quick = load_painter(_with_compile(tmp_path / "c"))
        assert quick.fingerprint == eager.fingerprint
        pairs = zip(eager.paint(drafts), quick.paint(drafts), strict=True)
        assert max(np.abs(a.astype(int) - b).mean() for a, b in pairs) < 1
    else:
        losses = []
        for k, wanted in enumerate((False, True)):
            recipe = shrunk("sd15-inpaint-lora", folder, training={"compile": wanted})
            run = opened(recipe, tiny_examples(grey=False), tiny_classes, tmp_path / str(k))
            losses.append([step(run) for _ in range(3)])
        assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert compiled


def _with_compile(checkpoint: Path) -> Path:
    """The same checkpoint, to be sampled from with compiled blocks."""
    from generator.config import dump_recipe
    from generator.files import write_text

    content = load_recipe(str(checkpoint / "recipe.yaml")).model_dump(mode="json")
    content["sampling"]["compile"] = True
    write_text(checkpoint / "recipe.yaml", dump_recipe(Recipe.model_validate(content)))
    return checkpoint
