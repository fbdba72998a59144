"""One token a class: which row is whose, what the network is shown, and what is learnt."""

import pytest
import torch
from torch import nn

from generator.conditioning.class_embedding import ClassEmbedding
from generator.errors import CheckpointError, RecipeError

CLASSES = ("pit", "scratch", "stain")
WIDTH = 6


class Backbone(nn.Module):
    token_width = WIDTH


def embedding(**settings: object) -> ClassEmbedding:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        chosen = ClassEmbedding.Settings(**settings)
        return ClassEmbedding(chosen, CLASSES, 0.3, Backbone())


def batch(class_ids: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images that are not square, with a mask of two by three pixels."""
    generator = torch.Generator().manual_seed(5)
    images = torch.rand(len(class_ids), 3, 8, 16, generator=generator) * 2 - 1
    masks = torch.zeros(len(class_ids), 1, 8, 16)
    masks[:, :, 3:5, 6:9] = 0.5
    return images, masks, torch.tensor(class_ids)


def test_a_token_a_class_and_one_for_none():
    conditioning = embedding()
    table = conditioning.table.weight
    assert table.shape == (4, WIDTH)
    pit, stain, clean, none = 0, 2, 3, 4
    given = conditioning.embed(conditioning(*batch([stain, pit, clean, none])))
    assert given.tokens.shape == (4, 1, WIDTH)
    assert torch.equal(given.tokens[:, 0], table[[2, 0, 3, 3]])
    for what in ("nothing", "clean"):
        away = conditioning.embed(conditioning.against(given, what))
        assert torch.equal(away.tokens[:, 0], table[[3, 3, 3, 3]])
    forgotten = torch.tensor([True, False, True, False])
    dropped = conditioning.embed(conditioning.drop(given, forgotten))
    assert torch.equal(dropped.tokens[:, 0], table[[3, 0, 3, 3]])


def test_tokens_start_small_and_follow_from_the_seed():
    wide = type("Wide", (), {"token_width": 768})
    torch.manual_seed(1)
    settings = ClassEmbedding.Settings(init_std=0.02)
    made = [ClassEmbedding(settings, CLASSES, 1.0, wide).table.weight for _ in range(2)]
    assert made[0].std().item() == pytest.approx(0.02, rel=0.05)
    assert not torch.equal(*made)
    assert torch.equal(embedding().table.weight, embedding().table.weight)


def test_only_rows_that_were_asked_for_learn():
    conditioning = embedding()
    tokens = conditioning.embed(conditioning(*batch([1, 3]))).tokens
    tokens.sum().backward()
    assert conditioning.table.weight.grad.abs().sum(dim=1).tolist() == [0, WIDTH, 0, WIDTH]


@pytest.mark.parametrize(("margin", "rows", "columns"), [(0, (3, 5), (6, 9)), (1, (2, 6), (5, 10))])
def test_images_are_shown_as_they_are_but_for_the_hidden(margin, rows, columns):
    conditioning = embedding(margin_px=margin, background=True)
    images, masks, ids = batch([0, 1])
    given = conditioning(images, masks, ids, prompt="object")
    hidden = torch.zeros_like(masks)
    hidden[:, :, slice(*rows), slice(*columns)] = 1
    assert torch.equal(given.hidden, hidden)
    assert torch.equal(given.known, images * (1 - hidden))
    assert (given.level == 0).all()
    assert (given.spread, conditioning.spread, given.prompt) == (1.0, 1.0, "object")
    assert torch.equal(given.standardise(images), images)
    assert given.spatial.shape == (2, 0, 8, 16)
    assert (conditioning.sees_background, embedding().sees_background) == (True, False)


def test_the_table_is_saved_and_comes_back():
    source, other = embedding(), embedding()
    with torch.no_grad():
        source.table.weight += 1
    other.load(source.own_weights())
    assert torch.equal(other.table.weight, source.table.weight)
    with pytest.raises(CheckpointError, match=r"no 'table\.weight' of shape \(4, 6\)"):
        other.load({"table.weight": torch.zeros(5, WIDTH)})


def test_a_network_without_cross_attention_does_not_read_tokens(tiny_recipe):
    with pytest.raises((ValueError, RecipeError), match="'compact' takes class ids"):
        tiny_recipe(conditioning={"kind": "class_embedding"})
