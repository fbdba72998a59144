"""Prompts and learnt words: what plain diffusers makes of them, and what is trained."""

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file
from tiny import tiny_stable_diffusion

from generator.backbones.stable_diffusion import StableDiffusionBackbone
from generator.checkpoints import INVERSION, TEXT_LORA, load_weights
from generator.conditioning.names import class_names, class_words
from generator.conditioning.prompt import PromptConditioning
from generator.config import Recipe, load_recipe
from generator.errors import RecipeError
from generator.sampling import load_painter
from generator.training import train

CLASSES = ("MT_Blowhole", "scratch_01", "rolled-in_scale")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_stable_diffusion(tmp_path_factory.mktemp("text-to-image"))


@pytest.fixture(scope="module")
def backbone(folder):
    settings = StableDiffusionBackbone.Settings(weights=str(folder))
    return StableDiffusionBackbone(settings, image_channels=3, spatial_channels=0, class_count=5)


def make(backbone, classes=CLASSES, **settings) -> PromptConditioning:
    return PromptConditioning(PromptConditioning.Settings(**settings), classes, 0.1, backbone)


def embedded(conditioning, ids, prompt="defect"):
    images, masks = torch.zeros(len(ids), 3, 16, 24), torch.zeros(len(ids), 1, 16, 24)
    return conditioning.embed(conditioning(images, masks, torch.tensor(ids), prompt))


def plain_tokens(folder, prompts: list[str]) -> torch.Tensor:
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    with torch.no_grad():
        return pipeline.encode_prompt(prompts, "cpu", 1, False)[0]


@pytest.mark.parametrize(
    ("class_id", "words"),
    [
        ("MT_Blowhole", "blowhole"),
        ("scratch_01", "scratch"),
        ("rolled-in_scale", "rolled in scale"),
        ("brokenLarge", "broken large"),
        ("NG", "ng"),
        ("07", "07"),
        ("n01440764", "tench"),
        ("n99999999", "n"),
        ("MTBlowhole", "blowhole"),
        ("Ölfleck", "ölfleck"),
        ("O\u0308lfleck", "ölfleck"),  # as macOS writes it
        ("Kratzer_groß", "kratzer groß"),
        ("rayéeProfonde", "rayée profonde"),
        ("划痕_2", "划痕"),
    ],
)
def test_ids_in_words(class_id, words):
    assert class_words(class_id) == words


def test_classes_keep_different_words():
    assert class_names(("crack_1", "crack_2", "pit"), {}) == {
        "crack_1": "crack 1",
        "crack_2": "crack 2",
        "pit": "pit",
    }
    named = class_names(("crack_1", "crack_2"), {"crack_2": "hairline"})
    assert named == {"crack_1": "crack", "crack_2": "hairline"}
    with pytest.raises(RecipeError, match=r"pit, Pit are called 'pit' alike.*conditioning\.names"):
        class_names(("pit", "Pit"), {})
    with pytest.raises(RecipeError, match="'scrach', which is no class, did you mean 'scratch'"):
        class_names(("scratch",), {"scrach": "line"})


def test_tokens_are_those_of_the_plain_pipeline(folder, backbone):
    conditioning = make(backbone, object_name="tile", decoration="openjourney")
    prompts = [
        "mdjrny-v4 style a photo of blowhole",
        "mdjrny-v4 style a photo of rolled in scale",
        "mdjrny-v4 style a photo of a tile",
        "",
    ]
    found = embedded(conditioning, [0, 2, 3, 4])
    torch.testing.assert_close(found.tokens, plain_tokens(folder, prompts))
    objects = embedded(conditioning, [1, 0], "object")
    wanted = ["mdjrny-v4 style a tile with scratch", "mdjrny-v4 style a tile with blowhole"]
    torch.testing.assert_close(objects.tokens, plain_tokens(folder, wanted))


def test_the_tokens_that_name_the_defect_are_known(backbone):
    conditioning = make(backbone, defect="one in the corner: {class}, and scratch again")
    tokenizer = conditioning.text.tokenizer
    texts = [conditioning.prompt_of(k, "defect") for k in range(5)]
    pieces = [tokenizer(t.prompt)["input_ids"] for t in texts]
    words = embedded(conditioning, list(range(5))).words
    for k, name in enumerate(("blowhole", "scratch", "rolled in scale")):
        own = tokenizer(name, add_special_tokens=False)["input_ids"]
        places = words[k].nonzero()[:, 0].tolist()
        assert [pieces[k][p] for p in places] == own
        assert places == list(range(places[0], places[0] + len(own)))
    assert not words[3:].any()


def test_dropping_the_class_says_nothing(folder, backbone):
    conditioning = make(backbone)
    images, masks = torch.zeros(2, 3, 8, 8), torch.zeros(2, 1, 8, 8)
    given = conditioning(images, masks, torch.tensor([0, 1]))
    dropped = conditioning.embed(conditioning.drop(given, torch.tensor([True, False])))
    torch.testing.assert_close(dropped.tokens[:1], plain_tokens(folder, [""]))
    away = conditioning.embed(conditioning.against(given, "clean"))
    torch.testing.assert_close(away.tokens[:1], plain_tokens(folder, ["a photo of a part"]))


def test_nothing_is_trained_unless_asked_and_the_encoder_is_let_go(backbone):
    conditioning = make(backbone)
    before = embedded(conditioning, [0, 1])
    assert conditioning.own_weights() == {} and conditioning.text is None
    assert torch.equal(embedded(conditioning, [0, 1]).tokens, before.tokens)
    assert not before.tokens.requires_grad


def test_a_prompt_that_is_too_long_is_not_cut(backbone):
    conditioning = make(backbone, defect="{class}" + " and more" * 40)
    with pytest.raises(RecipeError, match=r"has \d+ tokens and the text encoder takes 77"):
        embedded(conditioning, [0])


@pytest.mark.parametrize("count", [1, 2])
def test_learnt_words_start_as_the_class_and_only_they_learn(folder, backbone, count):
    conditioning = make(backbone, learned_tokens=count)
    table = conditioning.text.encoder.get_input_embeddings().table.weight
    # The fixed parts are frozen by the tuning; see Tuning.prepare.
    conditioning.requires_grad_(False)
    rows = conditioning.own_weights()["tokens"].requires_grad_(True)
    assert rows.shape == (3 * count, table.shape[1])
    own = conditioning.text.tokenizer("scratch", add_special_tokens=False)["input_ids"]
    torch.testing.assert_close(rows[count], table[torch.tensor(own)].mean(0))

    found = embedded(conditioning, [1, 4])
    assert conditioning.prompt_of(1, "defect").prompt == (
        "a photo of <scratch>" + " <scratch>_1" * (count - 1)
    )
    assert found.words.sum(dim=1).tolist() == [count, 0]
    torch.testing.assert_close(found.tokens[1:], plain_tokens(folder, [""]))
    found.tokens.sum().backward()
    moved = rows.grad.abs().sum(dim=1) > 0
    assert moved.tolist() == [k // count == 1 for k in range(3 * count)]
    assert table.grad is None


@pytest.mark.parametrize("count", [1, 2])
def test_learnt_words_load_in_plain_diffusers(folder, backbone, tmp_path, count):
    # Words of the user's become part of a file's name.
    conditioning = make(backbone, learned_tokens=count, names={"MT_Blowhole": "a/b"})
    with torch.no_grad():
        rows = conditioning.own_weights()["tokens"]
        rows += torch.randn(rows.shape, generator=torch.Generator().manual_seed(0))
    conditioning.export(conditioning.own_weights(), tmp_path)
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    names = ["a-b", "scratch", "rolled-in-scale"]
    for name in names:
        pipeline.load_textual_inversion(tmp_path / INVERSION, weight_name=f"{name}.safetensors")
    with torch.no_grad():
        plain = pipeline.encode_prompt([f"a photo of <{n}>" for n in names], "cpu", 1, False)[0]
    torch.testing.assert_close(embedded(conditioning, [0, 1, 2]).tokens, plain)


def test_adapters_of_the_text_encoder_start_without_effect(folder, backbone):
    conditioning = make(backbone, text_lora_rank=2)
    plain = plain_tokens(folder, ["a photo of blowhole"])
    torch.testing.assert_close(embedded(conditioning, [0]).tokens, plain)
    own = conditioning.own_weights()
    # Two layers, four projections, A and B.
    assert len(own) == 16 and all(".self_attn." in name for name in own)
    with torch.no_grad():
        for parameter in own.values():
            parameter += 0.1
    assert (embedded(conditioning, [0]).tokens - plain).abs().max() > 0.01


def test_adapters_of_the_text_encoder_load_in_plain_diffusers(folder, backbone, tmp_path):
    conditioning = make(backbone, text_lora_rank=2, learned_tokens=1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in conditioning.own_weights().values():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    conditioning.export(conditioning.own_weights(), tmp_path)
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipeline.load_textual_inversion(tmp_path / INVERSION, weight_name="scratch.safetensors")
    with torch.no_grad():
        without = pipeline.encode_prompt(["a photo of <scratch>"], "cpu", 1, False)[0]
        pipeline.load_lora_weights(tmp_path / TEXT_LORA)
        plain = pipeline.encode_prompt(["a photo of <scratch>"], "cpu", 1, False)[0]
    torch.testing.assert_close(embedded(conditioning, [1]).tokens, plain)
    assert (plain - without).abs().max() > 0.01


def inversion(folder, **sections) -> Recipe:
    content = load_recipe("sd15-text-full").model_dump(mode="json")
    content["backbone"]["weights"] = str(folder)
    content["tuning"] = {"kind": "textual_inversion", "init": "defect"}
    content["crops"] |= {"size_px": 64, "least_px": 32, "whole_image_px": 64}
    content["precision"] = "fp32"
    content["training"] |= {
        "steps": 4,
        "learning_rate": 0.01,
        "accumulation": 2,
        "variants": 2,
        "checkpoint_every": 2,
        "keep_checkpoints": 0,
        "sheet_every": 100,
    }
    content["sampling"] |= {"steps": 2}
    return Recipe.model_validate(content | sections)


def test_textual_inversion_trains_words_alone_and_continues(
    folder, tmp_path, tiny_examples, tiny_classes
):
    class Cut(BaseException):
        pass

    def stop(step, steps, loss):
        if step == 3:
            raise Cut

    recipe, examples = inversion(folder), tiny_examples(grey=False)
    train(recipe, examples, tiny_classes, tmp_path / "whole", seed=0)
    with pytest.raises(Cut):
        train(recipe, examples, tiny_classes, tmp_path / "cut", seed=0, on_step=stop)
    train(recipe, examples, tiny_classes, tmp_path / "cut", seed=0)
    weights, _, first = load_weights(tmp_path / "whole")
    assert first == load_weights(tmp_path / "cut")[2]
    assert list(weights) == ["conditioning.tokens"]
    rows = weights["conditioning.tokens"]
    assert not torch.equal(rows[0], rows[1])  # both started as 'defect'
    for row, name in zip(rows, ("pit", "scratch"), strict=True):
        held = load_file(tmp_path / "whole" / INVERSION / f"{name}.safetensors")
        assert torch.equal(held[f"<{name}>"][0], row)
    painter = load_painter(tmp_path / "whole")
    assert torch.equal(painter.parts.conditioning.own_weights()["tokens"], rows)


@pytest.mark.parametrize(
    ("section", "values", "said"),
    [
        ("conditioning", {"defect": "a photo"}, r"conditioning\.defect does not name \{class\}"),
        ("conditioning", {"defect": "{class} of {colour}"}, r"\{class\} and \{object\}, not"),
        ("conditioning", {"defect": "{class"}, "is no template"),
        ("conditioning", {"clean": "no {class}"}, "without a defect"),
        ("conditioning", {"token_init": "dent"}, "goes with learned_tokens"),
        ("conditioning", {"learned_tokens": 1}, "adds tokens itself"),
        ("conditioning", {"kind": "class_embedding"}, "choose conditioning 'prompt'"),
    ],
)
def test_what_can_not_work_is_refused_with_the_way_out(folder, section, values, said):
    content = inversion(folder).model_dump(mode="json")
    content[section] = values if "kind" in values else content[section] | values
    with pytest.raises(ValueError, match=said):
        Recipe.model_validate(content)
