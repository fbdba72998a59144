"""The DiT backbone against plain diffusers, and whole trainings on a tiny DiT."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiTPipeline, DiTTransformer2DModel
from safetensors.torch import load_file
from tiny import tiny_dit

from generator.assembly import build
from generator.backbones import dit
from generator.conditioning.conditions import Conditions, null_id
from generator.config import Recipe, load_recipe
from generator.errors import RecipeError, WeightsError
from generator.masks import DraftPlanner
from generator.painting import guided
from generator.planner_settings import PlannerSettings
from generator.sampling import load_painter, make_request
from generator.training import train

CLASSES = ("n01440764", "toilet tissue")
LABELS = [0, 999]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tiny_dit(tmp_path_factory.mktemp("weights") / "dit")


def recipe_on(folder: Path, **sections) -> Recipe:
    """`dit-bitfit` on a tiny pipeline, 64 px, a few steps."""
    content = load_recipe("dit-bitfit").model_dump(mode="json")
    content["backbone"]["weights"] = str(folder)
    content["precision"] = "fp32"
    content["crops"] |= {"size_px": 64, "whole_image_px": 64, "least_px": 32}
    content["training"] |= {"steps": 4, "batch_size": 2, "variants": 2, "sheet_every": 4}
    content["sampling"] |= {"steps": 3}
    for name, values in sections.items():
        content[name] = content[name] | values if "kind" not in values else values
    return Recipe.model_validate(content)


def conditions(ids: list[int]) -> Conditions:
    bare = torch.zeros(len(ids), 0, 8, 8)
    level = torch.zeros(len(ids), 3, 1, 1)
    return Conditions(torch.tensor(ids), bare, torch.ones(len(ids), 1, 8, 8), bare, level, 1.0)


def latents(count: int, side: int = 8) -> torch.Tensor:
    return torch.randn(count, 4, side, side, generator=torch.Generator().manual_seed(2))


def begun(recipe: Recipe, classes: tuple[str, ...] = CLASSES):
    parts = build(recipe, classes, 3)
    parts.conditioning.begin(None, 0)
    return parts


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_the_network_says_what_the_plain_transformer_says(folder, mode):
    """Bit by bit, also in training, where diffusers drops labels from the global generator."""
    plain = DiTTransformer2DModel.from_pretrained(folder, subfolder="transformer").eval()
    parts = begun(recipe_on(folder))
    getattr(parts.backbone, mode)()
    times, noisy = torch.tensor([3, 77, 999]), latents(3)
    given = parts.conditioning.embed(conditions([0, 1, null_id(CLASSES)]))
    with torch.no_grad():
        found = parts.backbone(noisy, times / 1000, given)
        labels = torch.tensor([*LABELS, 1000])
        expected = plain(noisy, times, class_labels=labels).sample[:, :4]
    assert torch.equal(found, expected)


def test_guidance_leads_away_from_the_null_label_as_in_the_plain_pipeline(folder):
    pipeline = DiTPipeline.from_pretrained(folder)
    recipe = recipe_on(folder, sampling={"guidance": 4.0})
    parts = begun(recipe)
    seen: list[torch.Tensor] = []

    class Recorder:
        """Stands in the scheduler's place, to see what the pipeline's guidance comes to."""

        config = pipeline.scheduler.config
        timesteps = torch.tensor([500])
        init_noise_sigma = 1.0

        def set_timesteps(self, steps):
            pass

        def scale_model_input(self, sample, time):
            return sample

        def step(self, said, time, sample):
            seen.extend((sample[: len(sample) // 2], said[: len(said) // 2]))
            return type("Step", (), {"prev_sample": sample})

    pipeline.scheduler = Recorder()
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(5)
    pipeline(LABELS, guidance_scale=4.0, generator=generator, num_inference_steps=1)
    noisy, expected = seen
    predict = guided(parts, conditions([0, 1]), recipe.sampling, torch.float32)
    with torch.no_grad():
        found = predict(noisy, torch.tensor([0.5, 0.5]))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


def with_transformer(folder: Path, to: Path, transformer: DiTTransformer2DModel) -> Path:
    pipeline = DiTPipeline.from_pretrained(folder)
    pipeline.register_modules(transformer=transformer)
    pipeline.save_pretrained(to)
    return to


def test_equal_copies_of_the_embedding_become_one(folder, tmp_path):
    """As in the published weights, where every block has a copy."""
    plain = DiTTransformer2DModel.from_pretrained(folder, subfolder="transformer").eval()
    apart = begun(recipe_on(folder))
    emb = [block.norm1.emb for block in plain.transformer_blocks]
    emb[1].load_state_dict(emb[0].state_dict())
    copies = with_transformer(folder, tmp_path / "copies", plain)
    tied = begun(recipe_on(copies))
    assert apart.conditioning.rows.shape == (3, 2, 32)
    assert tied.conditioning.rows.shape == (3, 1, 32)
    one = [p for n, p in emb[0].named_parameters() if "timestep" in n and n.endswith("bias")]
    moving = [sum(p.numel() for p in parts.trained.values()) for parts in (apart, tied)]
    assert moving[0] - moving[1] == sum(p.numel() for p in one) + 3 * 32
    noisy, times = latents(2), torch.tensor([10, 900])
    given = tied.conditioning.embed(conditions([1, 3]))
    with torch.no_grad():
        expected = plain(noisy, times, class_labels=torch.tensor([999, 1000])).sample[:, :4]
        assert torch.equal(tied.backbone(noisy, times / 1000, given), expected)


def test_the_published_architecture_has_the_papers_weights(monkeypatch):
    """675 million (2212.09748, table 1), where diffusers' copies come to 750."""
    with torch.device("meta"):
        transformer = DiTTransformer2DModel(out_channels=8)
    copies = sum(p.numel() for p in transformer.parameters())
    # What has no values can't be compared; the published copies are equal.
    monkeypatch.setattr(dit, "_equal", lambda one, other: True)
    table = dit._take_labels(transformer)
    assert table.shape == (1, 1001, 1152)
    assert copies == 749_826_464
    assert sum(p.numel() for p in transformer.parameters()) + table.numel() == 674_834_720


def test_the_table_of_a_thousand_labels_is_not_trained_or_saved(folder):
    parts = begun(recipe_on(folder, tuning={"kind": "full"}))
    assert not [n for n in parts.trained if "class_embedder" in n]
    assert "conditioning.rows" in parts.trained
    assert not any(len(p) == 1001 for p in parts.backbone.parameters())


@pytest.mark.parametrize("side", [4, 8, 16])
def test_positions_on_other_canvases_are_stretched(folder, side):
    """Against the formula of 2-D sines and cosines (He et al., MAE, 2111.06377)."""
    embedding = begun(recipe_on(folder)).backbone.transformer.pos_embed
    noisy = latents(1, side)
    with torch.no_grad():
        found = (embedding(noisy) - embedding.proj(noisy).flatten(2).transpose(1, 2))[0]
    patches, native, width = side // 2, 4, 32
    expected = np.zeros((patches, patches, width))
    omega = 1 / 10000 ** (np.arange(width // 4) / (width / 4))
    for y in range(patches):
        for x in range(patches):
            across, down = (k * native / patches * omega for k in (x, y))
            angles = (np.sin(across), np.cos(across), np.sin(down), np.cos(down))
            expected[y, x] = np.concatenate(angles)
    np.testing.assert_allclose(found.reshape(patches, patches, width), expected, atol=1e-5)


@pytest.mark.parametrize("size_px", [32, 128])
def test_it_paints_canvases_of_other_sizes(folder, size_px):
    parts = begun(recipe_on(folder, crops={"size_px": size_px}))
    noisy = parts.backbone.noise(1, size_px)
    given = parts.conditioning.embed(conditions([0]))
    with torch.no_grad():
        grid = parts.backbone(noisy, torch.ones(1), given)
        assert parts.backbone.decode(grid).shape == (1, 3, size_px, size_px)


def test_gradients_with_less_memory_are_the_same(folder):
    parts = begun(recipe_on(folder))

    def gradients() -> list[torch.Tensor]:
        given = parts.conditioning.embed(conditions([0, 1]))
        said = parts.backbone.train()(latents(2), torch.tensor([0.2, 0.9]), given)
        return list(torch.autograd.grad(said.square().sum(), list(parts.trained.values())))

    before = gradients()
    parts.backbone.save_memory()
    for one, other in zip(before, gradients(), strict=True):
        torch.testing.assert_close(one, other)
    assert parts.backbone.transformer.gradient_checkpointing


def test_blocks_can_be_compiled(folder):
    """That diffusers knows of no repeated block of this model must not stop it."""
    backbone = begun(recipe_on(folder)).backbone
    backbone.compile_blocks()
    blocks = backbone.transformer.transformer_blocks
    seen = torch.randn(1, 16, 32), torch.tensor([9]), torch.randn(1, len(blocks), 32)
    with torch.compiler.set_stance("fail_on_recompile"):
        for block in blocks:
            with pytest.raises(RuntimeError, match="recompile"):
                block(seen[0], timestep=seen[1], class_labels=seen[2])


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        ({"crops": {"size_px": 72}}, "crops.size_px 72 is not a multiple of 16"),
        ({"conditioning": {"kind": "class_embedding"}}, "choose conditioning label"),
        ({"conditioning": {"drop_class": 0.0}}, "set drop_class to 0.1"),
        ({"conditioning": {"classifier": "x.safetensors"}}, "start 'image'"),
    ],
)
def test_what_can_not_work_is_refused_with_the_way_out(folder, sections, reason):
    with pytest.raises(ValueError, match=reason.replace(".", r"\.")):
        recipe_on(folder, **sections)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"in_channels": 3, "out_channels": 3}, "takes 3 channels"),
        ({"num_embeds_ada_norm": 10}, "and 10 labels"),
        ({"patch_size": 4}, "patches of 4"),
    ],
)
def test_another_dit_is_refused(folder, tmp_path, changed, reason):
    config = dict(DiTTransformer2DModel.load_config(folder, subfolder="transformer"))
    other = DiTTransformer2DModel.from_config(config | changed)
    recipe = recipe_on(with_transformer(folder, tmp_path / "other", other))
    with pytest.raises(WeightsError, match=reason):
        build(recipe, CLASSES, 3)


def test_weights_without_a_learnt_variance_work_too(folder, tmp_path):
    config = dict(DiTTransformer2DModel.load_config(folder, subfolder="transformer"))
    other = DiTTransformer2DModel.from_config({**config, "out_channels": 4})
    parts = begun(recipe_on(with_transformer(folder, tmp_path / "fixed", other)))
    given = parts.conditioning.embed(conditions([0]))
    with torch.no_grad():
        assert parts.backbone(latents(1), torch.ones(1), given).shape == (1, 4, 8, 8)


def test_images_with_a_label_alone_are_learnt_and_painted_whole(
    folder, tmp_path, tiny_examples, tiny_classes
):
    """Whole images, cut to their centre; what the rows started from stays in the checkpoint."""
    examples = tiny_examples(grey=False, instances=False)
    labels = {"pit": "nail", "scratch": 999}
    recipe = recipe_on(folder, crops={"centre_px": 40}, conditioning={"labels": labels})
    notes: list[str] = []
    train(recipe, examples, tiny_classes, tmp_path / "c", seed=3, on_note=notes.append)
    assert notes == [
        "Class pit starts from ImageNet's 'nail' (677).",
        "Class scratch starts from ImageNet's 'toilet tissue' (999).",
        "Encoding 2 crops of each of 6 images once; the first step comes after that.",
    ]
    said = json.loads((tmp_path / "c" / "data.json").read_text())
    assert said["conditioning"] == {"imagenet": {"pit": 677, "scratch": 999}}
    assert said["notes"] == notes[:2]
    rows = load_file(tmp_path / "c" / "weights.safetensors")["conditioning.rows"]
    start = build(recipe, tiny_classes, 3).backbone.label_rows([677, 999, 1000])
    assert 0 < (rows - start).abs().max() < 1e-3
    painter = load_painter(tmp_path / "c")
    planner = DraftPlanner(examples, tiny_classes, PlannerSettings(), working_size=64)
    drafts = [planner.plan(make_request("f", name, 0, 0)) for name in tiny_classes]
    assert all(draft.background is None for draft in drafts)
    painted = painter.paint(drafts)
    assert [p.shape for p in painted] == [(64, 64, 3)] * 2
    assert all(p.std() > 1 for p in painted)
    assert not np.array_equal(*painted)


def test_a_checkpoint_names_no_foreign_class(folder, tmp_path, tiny_examples, tiny_classes):
    recipe = recipe_on(folder, conditioning={"labels": {"dent": 3}})
    with pytest.raises(RecipeError, match="names dent, and the classes are pit, scratch"):
        train(recipe, tiny_examples(grey=False), tiny_classes, tmp_path / "c", seed=3)
