"""Which weights move, when, and how they leave: counted by hand, read back by plain diffusers."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import ControlNetModel, DiTTransformer2DModel, StableDiffusionPipeline
from peft.tuners.lora import LoraLayer
from plain import PlainDiT, PlainUNet, dit_says, shake, unet_says
from safetensors.torch import load_file
from tiny import tiny_dit, tiny_stable_diffusion
from torch import nn

from generator.errors import CheckpointError, RecipeError
from generator.registry import method
from generator.tuning.tuning import Tuning

RANK = 3


@pytest.fixture(scope="module")
def sd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_stable_diffusion(tmp_path_factory.mktemp("weights") / "sd")


@pytest.fixture(scope="module")
def dit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dit(tmp_path_factory.mktemp("weights") / "dit")


class Embedding(nn.Module):
    """A conditioning with weights of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(3, 5)

    def own_weights(self) -> dict[str, nn.Parameter]:
        return {"table.weight": self.table.weight}


def tuning(kind: str, **settings: object) -> Tuning:
    chosen = method("tuning", kind)
    return chosen(chosen.Settings(kind=kind, **settings))


def size(parameters: object) -> int:
    return sum(p.numel() for p in parameters)


def adapter_size(unet: nn.Module) -> int:
    """By hand: every attention has four layers, each beside an (r, in) and an (out, r) matrix."""
    total = 0
    for module in unet.attn_processors:
        attention = unet.get_submodule(module.removesuffix(".processor"))
        for layer in (attention.to_q, attention.to_k, attention.to_v, attention.to_out[0]):
            total += RANK * (layer.in_features + layer.out_features)
    return total


def test_lora_trains_the_adapters_of_attention_and_the_embedding_and_nothing_else(sd):
    backbone, conditioning = PlainUNet(sd), Embedding()
    expected = adapter_size(backbone.unet)
    before = unet_says(backbone.unet)
    lora = tuning("lora", rank=RANK, alpha=7)
    trained = lora.prepare(backbone, conditioning)
    # 2 transformers down, 2 up x 2 attentions x 4 layers x A and B, and the table.
    assert len(trained) == len(backbone.unet.attn_processors) * 4 * 2 + 1
    assert size(trained.values()) == expected + 15
    assert list(trained)[-1] == "conditioning.table.weight"
    moving = [p for p in (*backbone.parameters(), *conditioning.parameters()) if p.requires_grad]
    assert {id(p) for p in moving} == {id(p) for p in trained.values()}
    assert all(p.dtype == torch.float32 for p in trained.values())
    assert torch.equal(unet_says(backbone.unet), before)
    again = lora.choose(backbone)
    assert all(again[name] is trained[name] for name in again)
    assert list(again) == list(trained)[:-1]


def test_lora_counts_alpha_over_rank_times(sd):
    backbone = PlainUNet(sd)
    weight = backbone.unet.down_blocks[0].attentions[0].transformer_blocks[0].attn2.to_k.weight
    plain = weight.detach().clone()
    lora = tuning("lora", rank=RANK, alpha=7, dropout=0.0)
    trained = lora.prepare(backbone, Embedding())
    shake(trained)
    place = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
    a, b = (trained[f"{place}.lora_{x}.default.weight"].detach() for x in "AB")
    lora.fuse(backbone)
    torch.testing.assert_close(backbone.get_submodule(place).weight, plain + 7 / RANK * b @ a)


def test_fused_adapters_answer_as_they_did_beside_the_weights(sd):
    backbone = PlainUNet(sd)
    before = unet_says(backbone.unet)
    lora = tuning("lora", rank=RANK, alpha=7)
    shake(lora.prepare(backbone, Embedding()))
    beside = unet_says(backbone.unet)
    assert not torch.allclose(beside, before, atol=1e-2)
    lora.fuse(backbone)
    assert not any(isinstance(module, LoraLayer) for module in backbone.modules())
    torch.testing.assert_close(unet_says(backbone.unet), beside, atol=1e-5, rtol=1e-4)


def test_plain_diffusers_reads_the_exported_adapters(sd, tmp_path):
    backbone = PlainUNet(sd)
    lora = tuning("lora", rank=RANK, alpha=7)
    trained = lora.prepare(backbone, Embedding())
    last = {name: p.detach().clone() for name, p in trained.items()}
    shake(trained)
    averaged = {name: p.detach().clone() for name, p in trained.items()}
    expected = unet_says(backbone.unet)
    for name, parameter in trained.items():
        parameter.data = last[name]
    # What is exported are the weights that are handed over, not those of the last step.
    lora.export(backbone, averaged, tmp_path)
    pipe = StableDiffusionPipeline.from_pretrained(sd, safety_checker=None)
    pipe.load_lora_weights(tmp_path / "lora")
    assert torch.equal(unet_says(pipe.unet), expected)
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert [p.name for p in files] == ["pytorch_lora_weights.safetensors"]
    assert size(load_file(files[0]).values()) == size(trained.values()) - 15
    written = files[0].read_bytes()
    for _ in range(4):
        lora.export(backbone, averaged, tmp_path)
        assert files[0].read_bytes() == written


def test_under_autocast_adapters_compute_in_its_precision(sd):
    backbone = PlainUNet(sd)
    lora = tuning("lora", rank=RANK, dropout=0.0)
    trained = lora.prepare(backbone, Embedding())
    shake(trained)
    expected, seen = unet_says(backbone.unet), []
    for name, module in backbone.named_modules():
        if ".attn1." in name and name.endswith(".lora_dropout.default"):
            module.register_forward_hook(lambda m, given, out: seen.append(out.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        found = unet_says(backbone.unet)
    assert set(seen) == {torch.bfloat16}
    torch.testing.assert_close(found.float(), expected, atol=0.1, rtol=0.1)


def test_lora_goes_into_a_transformer_too(dit, tmp_path):
    backbone = PlainDiT.opened(dit)
    lora = tuning("lora", rank=RANK)
    trained = lora.prepare(backbone, Embedding())
    assert len(trained) == 2 * 4 * 2 + 1
    shake(trained)
    beside = dit_says(backbone.transformer)
    lora.fuse(backbone)
    torch.testing.assert_close(dit_says(backbone.transformer), beside, atol=1e-5, rtol=1e-4)
    lora.export(backbone, trained, tmp_path)
    assert not list(tmp_path.iterdir())


def test_targets_that_no_layer_has_are_named(sd):
    for target in ("to_x", "conv_norm_out"):
        with pytest.raises(RecipeError, match=rf"tuning.targets \['{target}'\].*to_q, to_k, to_v"):
            tuning("lora", targets=[target]).prepare(PlainUNet(sd), Embedding())


def test_weights_of_another_tuning_are_refused(sd):
    small, large = tuning("lora", rank=2), tuning("lora", rank=4)
    weights = small.prepare(PlainUNet(sd), Embedding())
    backbone, conditioning = PlainUNet(sd), Embedding()
    large.prepare(backbone, conditioning)
    with pytest.raises(CheckpointError, match=r"differ in \d+ weights, the first is unet\."):
        large.load(backbone, conditioning, weights)


def test_phases_let_go_of_adapters_then_the_upper_half_then_everything(sd):
    backbone, conditioning = PlainUNet(sd), Embedding()
    plain = PlainUNet(sd).unet
    phases = tuning("phases", rank=RANK, up_and_mid_from=2, all_from=5)
    trained = phases.prepare(backbone, conditioning)
    stages = phases.stages(trained)
    assert [(s.name, s.start) for s in stages] == [
        ("adapters", 0),
        ("up and mid blocks", 2),
        ("whole UNet", 5),
    ]
    first = adapter_size(plain) + 15
    upper = size(plain.up_blocks.parameters()) + size(plain.mid_block.parameters())
    counts = [size(trained[name] for name in stage.names) for stage in stages]
    assert counts == [first, first + upper, first + size(plain.parameters())]
    assert stages[0].names < stages[1].names < stages[2].names == frozenset(trained)
    assert not any(name.startswith("vae") for name in trained)
    shake(trained, 0.02)
    beside = unet_says(backbone.unet)
    phases.fuse(backbone)
    torch.testing.assert_close(unet_says(backbone.unet), beside, atol=1e-5, rtol=1e-4)


def test_the_controlnet_learns_alone_after_the_adapters(sd, tmp_path):
    backbone, conditioning = PlainUNet(sd, control=True), Embedding()
    control = tuning("controlnet", rank=RANK, controlnet_from=4)
    trained = control.prepare(backbone, conditioning)
    base, second = control.stages(trained)
    assert (base.name, base.start, second.name, second.start) == ("base", 0, "controlnet", 4)
    assert base.names.isdisjoint(second.names)
    assert base.names | second.names == frozenset(trained)
    counts = [size(trained[name] for name in stage.names) for stage in (base, second)]
    assert counts == [adapter_size(PlainUNet(sd).unet) + 15, size(backbone.controlnet.parameters())]
    # Adapters go into the UNet alone: the ControlNet is trained whole.
    assert not any(isinstance(module, LoraLayer) for module in backbone.controlnet.modules())
    shake(trained, 0.02)
    control.export(backbone, trained, tmp_path)
    read = ControlNetModel.from_pretrained(tmp_path / "controlnet")
    for name, weight in backbone.controlnet.state_dict().items():
        assert torch.equal(read.state_dict()[name], weight)
    assert str(sd) not in (tmp_path / "controlnet/config.json").read_text()
    assert (tmp_path / "lora/pytorch_lora_weights.safetensors").exists()


DIT_BIASES = {
    "transformer.pos_embed.proj.bias",
    "transformer.proj_out_1.bias",
    "transformer.proj_out_2.bias",
}
BLOCK = {
    "norm1.emb.timestep_embedder.linear_1.bias",
    "norm1.emb.timestep_embedder.linear_2.bias",
    "norm1.linear.bias",
    "attn1.to_q.bias",
    "attn1.to_k.bias",
    "attn1.to_v.bias",
    "attn1.to_out.0.bias",
    "ff.net.0.proj.bias",
    "ff.net.2.bias",
}
GAMMAS = {"attn1.gamma", "ff.gamma"}


def in_block(number: int, names: set[str]) -> set[str]:
    return {f"transformer.transformer_blocks.{number}.{name}" for name in names}


@pytest.mark.parametrize(("kind", "new"), [("bitfit", set()), ("diffit", GAMMAS)])
def test_biases_norms_and_classes_of_a_transformer_by_name(dit, kind, new):
    backbone = PlainDiT.opened(dit)
    before = dit_says(backbone.transformer)
    chosen = tuning(kind)
    trained = chosen.prepare(backbone, Embedding())
    expected = DIT_BIASES | in_block(0, BLOCK | new) | in_block(1, BLOCK | new)
    assert set(trained) == expected | {"conditioning.table.weight"}
    assert torch.equal(dit_says(backbone.transformer), before)
    assert list(chosen.choose(backbone)) == list(trained)[:-1]


def test_a_unet_has_biases_and_norms(sd):
    backbone = PlainUNet(sd)
    trained = tuning("bitfit").prepare(backbone, Embedding())
    norms = [m for m in backbone.unet.modules() if isinstance(m, nn.GroupNorm | nn.LayerNorm)]
    biases = [p for n, p in backbone.unet.named_parameters() if n.endswith("bias")]
    assert size(trained.values()) == size(biases) + size(m.weight for m in norms) + 15


def test_a_scale_is_on_what_its_branch_adds(dit):
    """Attention scaled by zero adds nothing, as if its last layer were zero; and so the MLP."""
    for branch, last in (("attn1", "attn1.to_out.0"), ("ff", "ff.net.2")):
        scaled, other = PlainDiT.opened(dit), PlainDiT.opened(dit)
        tuning("diffit").prepare(scaled, Embedding())
        scale = torch.tensor([0.0, 1.0, 2.0, -1.0]).repeat(8)
        with torch.no_grad():
            scaled.transformer.transformer_blocks[1].get_submodule(branch).gamma.copy_(scale)
            layer = other.transformer.transformer_blocks[1].get_submodule(last)
            layer.weight *= scale[:, None]
            layer.bias *= scale
        found = dit_says(scaled.transformer)
        torch.testing.assert_close(found, dit_says(other.transformer), atol=1e-6, rtol=1e-5)
        assert not torch.allclose(found, dit_says(PlainDiT.opened(dit).transformer), atol=1e-3)


def test_folded_scales_answer_as_before(dit):
    backbone = PlainDiT.opened(dit)
    diffit = tuning("diffit")
    shake(diffit.prepare(backbone, Embedding()))
    beside = dit_says(backbone.transformer)
    diffit.fuse(backbone)
    assert not any(name.endswith("gamma") for name, _ in backbone.named_parameters())
    torch.testing.assert_close(dit_says(backbone.transformer), beside, atol=1e-5, rtol=1e-4)


def test_counts_of_the_published_dit():
    """By hand from the widths of DiT-XL/2 (2212.09748, table 1); the blocks share one embedding."""
    with torch.device("meta"):
        transformer = DiTTransformer2DModel(out_channels=8, num_layers=28)
    first = transformer.transformer_blocks[0].norm1.emb
    for block in transformer.transformer_blocks:
        block.norm1.emb = first
    # The paper's 675 million count the table of positions, which is none to train.
    positions = transformer.pos_embed.pos_embed.numel()
    assert round((size(transformer.parameters()) + positions) / 1e6) == 675
    width = 1152
    # Attention 4, adaptive norm 6, MLP 4 + 1 a block; time 2, patches 1, last norm 2, pixels 32.
    biases = 28 * 15 * width + 5 * width + 32
    backbone = PlainDiT(transformer)
    counts = [size(tuning(kind).choose(backbone).values()) for kind in ("bitfit", "diffit")]
    assert counts == [biases, biases + 28 * 2 * width]


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        ({"tuning": {"kind": "lora"}}, "tuning 'lora' moves few weights .* set tuning to 'full'"),
        ({"tuning": {"kind": "phases"}}, "tuning 'phases' moves few weights"),
        ({"tuning": {"kind": "controlnet"}}, "tuning 'controlnet' moves few weights"),
        ({"tuning": {"kind": "bitfit"}}, "tuning 'bitfit' moves few weights"),
        ({"tuning": {"kind": "diffit"}}, "tuning 'diffit' moves few weights"),
        (
            {"tuning": {"kind": "phases", "up_and_mid_from": 9, "all_from": 9}},
            "all_from must come after up_and_mid_from",
        ),
    ],
)
def test_combinations_that_cannot_work(tiny_recipe, sections, reason):
    with pytest.raises(ValueError, match=reason):
        tiny_recipe(**sections)


def test_a_stage_that_would_never_begin_is_refused():
    phases = method("tuning", "phases")
    recipe = SimpleNamespace(
        backbone=SimpleNamespace(kind="stable_diffusion"),
        tuning=phases.Settings(up_and_mid_from=20, all_from=60),
        training=SimpleNamespace(epochs=60, steps=None),
    )
    assert "all_from 60 is not before the end of the training (training.epochs 60)" in (
        phases.refuse(recipe)
    )
    recipe.training = SimpleNamespace(epochs=None, steps=61)
    assert phases.refuse(recipe) is None
