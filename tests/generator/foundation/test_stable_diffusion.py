"""Our Stable Diffusion backbone beside diffusers' own pipelines, on tiny weights."""

import math
from pathlib import Path

import pytest
import torch
from beside import (
    HIGH,
    WIDE,
    Spy,
    backbone_of,
    conditions,
    recipe_of,
    run,
    scene,
    seeded,
    tokens,
    with_tokens,
)
from diffusers import (
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
)
from safetensors.torch import load_file, save_file
from tiny import tiny_inpainting, tiny_stable_diffusion

from generator.assembly import Parts, build
from generator.backbones.latents import cast_frozen
from generator.backbones.stable_diffusion import StableDiffusionBackbone
from generator.config import Recipe, load_recipe
from generator.errors import WeightsError
from generator.objectives.objective import solve
from generator.painting import guided, holding

DRAWN = 5 * math.exp(-6) * 0.18215
"""Five deviations of the latents that a tiny VAE's posterior gives."""


@pytest.fixture(scope="module")
def text_to_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_stable_diffusion(tmp_path_factory.mktemp("weights") / "sd")


@pytest.fixture(scope="module")
def inpainting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_inpainting(tmp_path_factory.mktemp("weights") / "inpainting")


def inpainter(folder: Path) -> StableDiffusionBackbone:
    return backbone_of(StableDiffusionBackbone, folder, task="inpainting")


def test_latents_are_those_of_the_plain_pipeline(inpainting):
    images, _, _, _ = scene(6)  # more than the VAE takes at once
    pipeline = StableDiffusionInpaintPipeline.from_pretrained(inpainting)
    sampled = pipeline._encode_vae_image(images, generator=seeded(0))
    # The pipeline draws from the posterior; ours is its mode.
    found = inpainter(inpainting).encode(images)
    assert found.shape == (6, 4, HIGH // 8, WIDE // 8)
    assert torch.allclose(found, sampled, atol=DRAWN)
    assert torch.equal(found, inpainter(inpainting).encode(images))


def test_decoding_gives_the_pixels_of_the_plain_pipeline(text_to_image):
    pipeline = StableDiffusionPipeline.from_pretrained(text_to_image)
    latents = torch.randn(5, 4, HIGH // 8, WIDE // 8, generator=seeded(4))
    pixels = backbone_of(StableDiffusionBackbone, text_to_image).decode(latents)
    with torch.no_grad():
        plain = pipeline.vae.decode(latents / 0.18215).sample
    assert pixels.shape == (5, 3, HIGH, WIDE)
    assert torch.allclose(pixels, plain, atol=1e-5)


def test_the_unet_of_text_to_image_is_asked_as_in_the_plain_pipeline(text_to_image):
    pipeline = StableDiffusionPipeline.from_pretrained(text_to_image)
    spy = Spy(pipeline.unet)
    run(pipeline)
    backbone = backbone_of(StableDiffusionBackbone, text_to_image)
    images, masks, _, _ = scene()
    given = with_tokens(backbone.prepare(images, masks, conditions(images, masks)).given, tokens())
    assert len(spy.calls) == 2
    for noisy, time, said in spy.calls:
        found = backbone(noisy, torch.tensor([time / 1000]), given)
        assert torch.allclose(found, said, atol=1e-5)


def test_the_nine_channels_stand_in_the_order_of_the_plain_inpainting_pipeline(inpainting):
    images, masks, picture, drawn = scene()
    pipeline = StableDiffusionInpaintPipeline.from_pretrained(inpainting)
    spy = Spy(pipeline.unet)
    run(pipeline, image=picture, mask_image=drawn)
    backbone = inpainter(inpainting)
    seen = backbone.prepare(images, masks, conditions(images, masks))
    given = with_tokens(seen.given, tokens())
    for whole, time, said in spy.calls:
        assert whole.shape[1] == 9
        sample, timestep, _ = backbone.inputs(whole[:, :4], torch.tensor([time / 1000]), given)
        assert torch.equal(sample[:, 4:5], whole[:, 4:5])
        # The pipeline draws the masked image's latents where ours are the mode; see above.
        assert torch.allclose(sample[:, 5:], whole[:, 5:], atol=DRAWN)
        assert not torch.allclose(sample[:, 5:], seen.clean, atol=0.1)
        assert float(timestep) == pytest.approx(time)
        assert torch.allclose(
            backbone(whole[:, :4], torch.tensor([time / 1000]), given), said, atol=0.01
        )


def test_a_latent_is_hidden_where_any_pixel_is_and_covered_as_they_are_on_average(text_to_image):
    images, masks, _, _ = scene()
    masks = torch.zeros_like(masks)
    masks[..., 9, 23] = 1  # one pixel, in row 1 and column 2 of the latents
    masks[..., 32:48, 80:84] = 1  # half of the latents of rows 4 and 5, column 10
    seen = backbone_of(StableDiffusionBackbone, text_to_image).prepare(
        images, masks, conditions(images, masks)
    )
    covered = torch.zeros(HIGH // 8, WIDE // 8)
    covered[1, 2], covered[4:6, 10] = 1 / 64, 0.5
    assert torch.equal(seen.masks[0, 0], covered)
    assert torch.equal(seen.hidden[0, 0], (covered > 0).float())
    assert torch.equal(seen.given.hidden, seen.hidden)
    kept = sum(t.numel() for t in (seen.given.spatial, seen.given.known))
    assert kept == 0  # a bank of text-to-image holds no pixels


def test_what_is_under_the_mask_does_not_reach_the_inpainting_network(inpainting):
    images, masks, _, _ = scene()
    backbone = inpainter(inpainting)
    other = torch.where(masks.bool(), -images, images)
    one, two = (backbone.prepare(i, masks, conditions(i, masks)) for i in (images, other))
    assert torch.equal(one.given.known, two.given.known)
    assert not torch.equal(one.clean, two.clean)


def test_noise_follows_from_the_seed(text_to_image):
    backbone = backbone_of(StableDiffusionBackbone, text_to_image)
    assert backbone.noise(7, 64).shape == (1, 4, 8, 8)
    assert torch.equal(backbone.noise(7, 64), backbone.noise(7, 64))
    assert not torch.equal(backbone.noise(7, 64), backbone.noise(8, 64))


def test_precision_touches_what_denoises_and_never_the_vae(text_to_image):
    backbone = backbone_of(StableDiffusionBackbone, text_to_image)
    images, _, _, _ = scene()
    before = backbone.encode(images)
    backbone.settle(torch.device("cpu"), torch.bfloat16, training=False)
    assert {p.dtype for p in backbone.unet.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in backbone.vae.parameters()} == {torch.float32}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = backbone.encode(images)
    assert inside.dtype == torch.float32
    assert torch.allclose(inside, before, atol=1e-5)
    backbone.train()
    assert backbone.unet.training
    assert not backbone.vae.training


def test_frozen_products_are_cast_once_and_the_rest_stays(text_to_image):
    backbone = backbone_of(StableDiffusionBackbone, text_to_image)
    trained = backbone.unet.mid_block.attentions[0].transformer_blocks[0].attn2.to_q
    trained.requires_grad_(True)
    noisy, time = torch.randn(1, 4, 8, 8, generator=seeded(5)), torch.tensor([0.5])
    images, masks, _, _ = scene()
    given = with_tokens(conditions(images, masks), tokens())
    exact = backbone(noisy, time, given)
    cast_frozen(backbone.unet, torch.bfloat16)
    assert trained.weight.dtype == torch.float32
    assert backbone.unet.conv_in.weight.dtype == torch.bfloat16
    assert backbone.unet.conv_norm_out.weight.dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = backbone(noisy, time, given)
    found.float().square().mean().backward()
    assert trained.weight.grad is not None
    assert torch.allclose(found.float(), exact, atol=0.05 * float(exact.detach().abs().max()))


@pytest.mark.parametrize("solver", ["dpm++2m", "ddim"])
def test_the_sampler_holds_the_surround_of_a_network_that_does_not_see_it(text_to_image, solver):
    recipe = recipe_of("sd15-controlnet", text_to_image, sampling={"solver": solver})
    parts: Parts = build(recipe, ["pit", "scratch"], 3)
    for part in (parts.backbone, parts.conditioning):
        part.eval().requires_grad_(False)
    images, masks, _, _ = scene(2)
    given = parts.conditioning(images, masks, torch.tensor([0, 1]))
    seen = parts.backbone.prepare(images, masks, given)
    noise = torch.randn(seen.clean.shape, generator=seeded(1))
    scheduler = parts.objective.scheduler(solver, 4)
    start = parts.objective.noised(scheduler, 0, torch.zeros_like(noise), noise)
    hold = holding(parts.objective, scheduler, seen, noise)
    predict = guided(parts, seen.given, recipe.sampling, torch.float32)
    found = solve(predict, scheduler, start, 0, hold)
    free = solve(predict, parts.objective.scheduler(solver, 4), start, 0)
    hidden = seen.hidden.expand_as(found).bool()
    assert 0 < float(hidden.float().mean()) < 0.7
    assert torch.equal(found[~hidden], seen.clean[~hidden])
    assert float((free - seen.clean)[~hidden].abs().mean()) > 0.1
    assert float((found - seen.clean)[hidden].abs().mean()) > 0.1


@pytest.mark.parametrize(
    ("name", "section", "values", "reason"),
    [
        ("sd15-inpaint-lora", "conditioning", {"background": False}, "set conditioning.background"),
        ("sd15-inpaint-lora", "backbone", {"task": "text-to-image"}, "backbone.task to 'inpaint"),
        ("sd15-inpaint-lora", "crops", {"size_px": 100}, "not a multiple of 8.*set it to 96"),
        ("sd15-controlnet", "conditioning", {"background": True}, "base have no channels"),
        ("sd15-controlnet", "crops", {"whole_image_px": 68}, "crops.whole_image_px 68 is not"),
    ],
)
def test_recipes_that_can_not_work_are_refused(name, section, values, reason):
    with pytest.raises(ValueError, match=reason):
        recipe_of(name, Path("anywhere"), **{section: values})


def test_a_conditioning_without_tokens_and_a_tuning_without_controlnet_are_refused():
    content = load_recipe("sd15-controlnet").model_dump(mode="json")
    blind = content | {"conditioning": {"kind": "class_mask_background"}}
    with pytest.raises(ValueError, match=r"takes tokens .* gives class ids; choose conditioning "):
        Recipe.model_validate(blind)
    with pytest.raises(ValueError, match="leaves the ControlNet untrained"):
        Recipe.model_validate(content | {"tuning": {"kind": "lora"}})


def test_weights_of_another_task_or_with_holes_are_refused(text_to_image, inpainting, tmp_path):
    with pytest.raises(
        WeightsError, match=r"9 channels where 4 .*weights for inpainting.*--weights"
    ):
        backbone_of(StableDiffusionBackbone, inpainting)
    with pytest.raises(WeightsError, match=r"4 channels where 9 .*weights for text-to-image"):
        inpainter(text_to_image)
    holed = tiny_stable_diffusion(tmp_path / "holed")
    file = holed / "unet" / "diffusion_pytorch_model.safetensors"
    content = load_file(file)
    del content["conv_in.weight"]
    save_file(content, file, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"1 of its weights are missing.*conv_in\.weight"):
        backbone_of(StableDiffusionBackbone, holed)
    (holed / "scheduler" / "scheduler_config.json").write_text("{")
    with pytest.raises(WeightsError, match=r"is not JSON.*augment weights fetch"):
        backbone_of(StableDiffusionBackbone, holed)
