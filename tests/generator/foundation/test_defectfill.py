"""DefectFill: each term by hand, where words look, and the whole on a real UNet."""

from dataclasses import replace

import pytest
import torch
from beside import backbone_of
from tiny import tiny_inpainting

from generator.assembly import build
from generator.backbones.stable_diffusion import StableDiffusionBackbone
from generator.conditioning.conditions import Encoded
from generator.conditioning.prompt import PromptConditioning
from generator.config import Recipe, load_recipe
from generator.data import CropData
from generator.errors import RecipeError
from generator.feed import Feed
from generator.objectives.defectfill import (
    DECODER,
    DefectFill,
    attention_loss,
    defect_loss,
    object_loss,
    word_attention,
    word_positions,
)

CLASSES = ("MT_Blowhole", "pit")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_inpainting(tmp_path_factory.mktemp("inpainting"))


def quarter() -> torch.Tensor:
    """A 4 x 4 mask whose upper left quarter is the defect; one place is half covered."""
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :2, :2] = 1
    mask[..., 2, 2] = 0.5
    return mask


def test_the_defect_loss_by_hand():
    error = torch.full((1, 1, 4, 4), 3.0)
    # Four places count 3^2, one (0.5 * 3)^2, of 16.
    assert defect_loss(error, quarter()).tolist() == pytest.approx([(4 * 9 + 2.25) / 16])
    two_channels = torch.cat([error, 0 * error], dim=1)
    assert defect_loss(two_channels, quarter()).tolist() == pytest.approx([(4 * 9 + 2.25) / 32])


def test_the_object_loss_by_hand():
    error = torch.full((1, 1, 4, 4), 3.0)
    # M' is 1 at four places, 0.5 + 0.3 * 0.5 at one, 0.3 at eleven.
    wanted = (4 * 9 + (0.65 * 3) ** 2 + 11 * (0.3 * 3) ** 2) / 16
    assert object_loss(error, quarter(), 0.3).tolist() == pytest.approx([wanted])
    assert object_loss(error, quarter(), 0.0).tolist() == defect_loss(error, quarter()).tolist()


def test_the_attention_loss_by_hand():
    looks = torch.full((1, 1, 4, 4), 0.25)
    wanted = (4 * 0.75**2 + 0.25**2 + 11 * 0.25**2) / 16
    assert attention_loss(looks, quarter()).tolist() == pytest.approx([wanted])
    assert attention_loss(quarter(), quarter()).item() == 0


def test_words_are_found_and_their_shares_add_up():
    words = torch.zeros(3, 7, dtype=torch.bool)
    words[0, 2] = words[1, 3] = words[1, 4] = True
    positions, named = word_positions(words)
    assert positions.shape == (3, 2)
    for row in range(3):
        found = positions[row][named[row]].tolist()
        assert sorted(found) == words[row].nonzero()[:, 0].tolist()

    fine = torch.zeros(3, 8, 2)  # 2 x 4 places
    coarse = torch.zeros(3, 2, 2)  # 1 x 2 places
    fine[..., 0], fine[..., 1] = 0.1, 0.4
    coarse[..., 0], coarse[..., 1] = 0.3, 0.2
    looks = word_attention([fine, coarse], named, (2, 4))
    assert looks.shape == (3, 1, 2, 4)
    # One token counts in the first row, both in the second, none in the third.
    first = (0.1 + 0.3) / 2 if named[0, 0] else (0.4 + 0.2) / 2
    assert looks[0].unique().tolist() == pytest.approx([first])
    assert looks[1].unique().tolist() == pytest.approx([(0.5 + 0.5) / 2])
    assert looks[2].unique().tolist() == [0]


def test_maps_keep_their_rows_and_columns():
    shares = torch.arange(8.0)[None, :, None]
    looks = word_attention([shares], torch.ones(1, 1, dtype=torch.bool), (2, 4))
    assert looks[0, 0].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


def make(backbone=None, **settings) -> DefectFill:
    return DefectFill(DefectFill.Settings(**settings), backbone)


def test_random_rectangles_have_the_papers_sizes():
    masks = torch.zeros(400, 1, 100, 200)
    one = make(boxes=1).second_masks(masks, torch.Generator().manual_seed(0))
    assert one.shape == masks.shape and set(one.unique().tolist()) == {0, 1}
    high, wide = one.any(dim=3).sum(dim=2)[:, 0], one.any(dim=2).sum(dim=2)[:, 0]
    assert (one.sum(dim=(1, 2, 3)) == high * wide).all()  # rectangles
    # 3 to 25 % of each side, up to rounding, the whole range used, sides independent.
    assert 2 <= high.min() <= 4 and 24 <= high.max() <= 26
    assert 5 <= wide.min() <= 8 and 48 <= wide.max() <= 51
    assert abs(torch.corrcoef(torch.stack([high, wide]).float())[0, 1]) < 0.15
    # All over the canvas, to its edges.
    assert one.mean(dim=0).min() > 0 or one.sum(dim=0)[0, 50, 100] > one.sum(dim=0)[0, 0, 0]
    thirty = make().second_masks(masks[:20], torch.Generator().manual_seed(0))
    assert thirty.mean() > 5 * one.mean()


def situation(folder, backbone=None, **conditioning):
    """A backbone, its conditioning, and two views of two examples: a defect, and clean."""
    backbone = backbone or backbone_of(StableDiffusionBackbone, folder, task="inpainting")
    settings = PromptConditioning.Settings(background=True, **conditioning)
    prompts = PromptConditioning(settings, CLASSES, 1.0, backbone)
    torch.manual_seed(3)
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    masks = torch.zeros(2, 1, 64, 64)
    masks[:, :, 16:48, 8:32] = 1
    ids = torch.tensor([0, len(CLASSES)])
    objective = make(backbone)
    second = objective.second_masks(masks, torch.Generator().manual_seed(1))
    seen = backbone.prepare(images, masks, prompts(images, masks, ids))
    other = backbone.prepare(images, second, prompts(images, second, ids, "object"))
    return backbone, prompts, seen, other, masks


def viewed(prompts, seen, other):
    return replace(seen, given=prompts.embed(seen.given), also=prompts.embed(other.given))


def test_the_whole_is_the_weighted_sum_over_two_passes(folder):
    """Both views by passes of their own, attention from plain recording, against one loss."""
    backbone, prompts, seen, other, _ = situation(folder)
    seen = viewed(prompts, seen, other)
    objective = make(backbone, defect=0.7, object=0.3, attention=2.0, alpha=0.4)
    draws = objective.draw(tuple(seen.clean.shape), torch.Generator().manual_seed(2))
    found = objective.loss(backbone, seen, draws)

    noise, steps = draws["noise"], draws["steps"]
    noisy = objective.path.add_noise(seen.clean, noise, steps)
    backbone.record_attention(None)
    first = backbone(noisy, steps / 1000, seen.given) - noise
    places = seen.also.words[0].nonzero()[:, 0]
    assert len(places) > 1 and not seen.also.words[1].any()
    backbone.record_attention(places, within=DECODER)
    second = backbone(noisy, steps / 1000, seen.also) - noise
    maps = backbone.attention_maps()
    backbone.record_attention(None)
    decoder = [n for n, _ in backbone.unet.named_modules() if n.endswith("attn2")]
    assert 0 < len(maps) < len(decoder)
    side = seen.clean.shape[-1]
    looks = torch.stack(
        [
            torch.nn.functional.interpolate(
                m.sum(-1).reshape(2, 1, round(m.shape[1] ** 0.5), -1), (side, side), mode="bilinear"
            )
            for m in maps
        ]
    ).mean(0)
    mask = seen.masks
    wanted = 0.7 * (mask * first).square().mean((1, 2, 3))
    wanted += 0.3 * ((mask + 0.4 * (1 - mask)) * second).square().mean((1, 2, 3))
    attention = (looks - mask).square().mean((1, 2, 3))
    # The second example is clean: no word of its prompt names a defect.
    wanted += 2.0 * attention * torch.tensor([1.0, 0.0])
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


def test_the_attention_loss_alone_moves_where_the_word_looks(folder):
    backbone, prompts, seen, other, _ = situation(folder)
    seen = viewed(prompts, seen, other)
    objective = make(backbone, defect=0, object=0, attention=1.0)
    backbone.unet.requires_grad_(True)
    named = [(n, p) for n, p in backbone.unet.named_parameters() if n.startswith(DECODER)]
    keys = [p for n, p in named if "attn2.to_q" in n]
    draws = objective.draw(tuple(seen.clean.shape), torch.Generator().manual_seed(2))
    optimizer = torch.optim.SGD(keys, lr=3.0)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = objective.loss(backbone, seen, draws).sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(p.grad.abs().sum() > 0 for p in keys)


def test_gradients_are_the_same_with_less_memory(folder):
    backbone, prompts, seen, other, _ = situation(folder)
    seen = viewed(prompts, seen, other)
    objective = make(backbone, attention=1.0)
    draws = objective.draw(tuple(seen.clean.shape), torch.Generator().manual_seed(2))
    backbone.unet.requires_grad_(True)
    backbone.train()

    def gradients():
        backbone.zero_grad()
        objective.loss(backbone, seen, draws).sum().backward()
        found = {n: p.grad for n, p in backbone.unet.named_parameters()}
        return {n: g.clone() for n, g in found.items() if g is not None}

    plain = gradients()
    backbone.save_memory()
    assert len(plain) > 50
    for name, value in gradients().items():
        torch.testing.assert_close(value, plain[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("variants", [0, 2])
def test_processes_that_share_a_batch_draw_as_one_would(
    folder, tiny_examples, tiny_classes, variants
):
    content = load_recipe("defectfill").model_dump(mode="json")
    content["backbone"]["weights"] = str(folder)
    content["crops"] |= {"size_px": 64, "least_px": 32, "whole_image_px": 64}
    recipe = Recipe.model_validate(content)
    parts = build(recipe, tiny_classes, 3)
    data = CropData(tiny_examples(grey=False, defects=1), tiny_classes, recipe.crops, 3)
    feed = Feed(data, parts, seed=3, variants=variants, device=torch.device("cpu"))
    whole, ids = feed.batch(5, 4, slice(0, 4))
    shared = [feed.batch(5, 4, rows) for rows in (slice(0, 2), slice(2, 4))]
    assert ids == shared[0][1] + shared[1][1]
    together = Encoded.joined([seen for seen, _ in shared])
    # Rounding alone: the VAE takes other numbers of images at once.
    torch.testing.assert_close(together.clean, whole.clean, rtol=1e-4, atol=1e-4)
    assert torch.equal(together.also.hidden, whole.also.hidden)
    torch.testing.assert_close(together.also.known, whole.also.known, rtol=1e-4, atol=1e-4)
    assert len(whole.also.hidden.unique(dim=0)) > 1


@pytest.mark.parametrize(
    ("section", "values", "said"),
    [
        ("conditioning", {"kind": "class_embedding", "background": True}, "conditioning 'prompt'"),
        ("conditioning", {"background": False}, "conditioning.background to true"),
        ("training", {"compile": True}, "training.compile to false"),
        ("objective", {"box_share": [0.3, 0.1]}, "least <= largest"),
    ],
)
def test_what_can_not_work_is_refused_with_the_way_out(section, values, said):
    content = load_recipe("defectfill").model_dump(mode="json")
    kept = {} if "kind" in values else content[section]
    content[section] = kept | values
    with pytest.raises((RecipeError, ValueError), match=said):
        Recipe.model_validate(content)
