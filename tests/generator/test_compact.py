"""The compact backbone in its grid, and what it is told."""

import torch

from generator.assembly import build
from generator.config import load_recipe


def parts(channels: int = 1):
    return build(load_recipe("compact"), ("a", "b", "c"), channels, seed=1)


def test_the_grid_is_lossless():
    backbone = parts(3).backbone
    pixels = torch.rand(2, 3, 32, 48)
    grid = backbone.encode(pixels)
    assert grid.shape == (2, 12, 16, 24)
    assert torch.equal(backbone.decode(grid), pixels)
    assert torch.equal(grid[0, :4, 0, 0], pixels[0, 0, :2, :2].flatten())


def test_a_few_million_weights_and_the_right_shape():
    built = parts()
    count = sum(p.numel() for p in built.trained.values())
    assert 2e6 < count < 7e6
    images, masks = torch.rand(2, 1, 64, 64), torch.ones(2, 1, 64, 64)
    given = built.conditioning(images, masks, torch.tensor([0, 2]))
    out = built.backbone(built.backbone.encode(images), torch.tensor([0.1, 0.9]), given)
    assert out.shape == (2, 4, 32, 32)


def test_weights_follow_from_the_seed_and_leave_the_global_state_alone():
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    one, same = parts(), parts()
    assert torch.equal(before, torch.random.get_rng_state())
    other = build(load_recipe("compact"), ("a", "b", "c"), 1, seed=2)
    name = "unet.conv_in.weight"
    assert torch.equal(one.trained[name], same.trained[name])
    assert not torch.equal(one.trained[name], other.trained[name])


def test_the_background_is_hidden_under_the_mask_and_its_margin():
    conditioning = parts().conditioning
    images = torch.full((1, 1, 16, 24), 0.5)
    masks = torch.zeros(1, 1, 16, 24)
    masks[..., 6:9, 10:14] = 0.4
    given = conditioning(images, masks, torch.tensor([0]))
    assert given.spatial.shape == (1, 2, 16, 24)
    assert torch.equal(given.spatial[:, :1], masks)
    expected = torch.full((16, 24), 0.5)
    expected[4:11, 8:16] = 0
    assert torch.equal(given.spatial[0, 1], expected)
    # What lies under the mask can't leak through.
    images[..., 6:9, 10:14] = -1
    assert torch.equal(conditioning(images, masks, torch.tensor([0])).spatial, given.spatial)


def test_guidance_ids():
    conditioning = parts().conditioning
    given = conditioning(torch.zeros(2, 1, 16, 16), torch.ones(2, 1, 16, 16), torch.tensor([0, 1]))
    assert conditioning.against(given, "clean").class_ids.tolist() == [3, 3]
    assert conditioning.against(given, "nothing").class_ids.tolist() == [4, 4]
    many = conditioning(
        torch.zeros(4000, 1, 1, 1), torch.ones(4000, 1, 1, 1), torch.zeros(4000, dtype=torch.long)
    )
    dropped = conditioning.drop(many, torch.Generator().manual_seed(0)).class_ids
    assert 0.08 < (dropped == 4).float().mean() < 0.12
