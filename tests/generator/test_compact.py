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


def test_under_the_mask_and_its_margin_the_network_sees_noise_and_around_it_the_image():
    built = parts()
    images = torch.full((1, 1, 16, 32), 0.5)
    masks = torch.zeros(1, 1, 16, 32)
    masks[..., 6:9, 10:14] = 0.4
    given = built.conditioning(images, masks, torch.tensor([0]))
    assert torch.equal(given.spatial, masks)
    hidden = torch.zeros(16, 32)
    hidden[4:11, 8:16] = 1
    assert torch.equal(given.hidden[0, 0], hidden)
    assert given.level.flatten().tolist() == [0.5]
    assert (given.known == 0).all()  # the known part is as bright as its mean
    assert torch.allclose(given.restore(given.standardise(images)), images)
    # What lies under the mask can't leak through.
    images[..., 6:9, 10:14] = -1
    assert torch.equal(built.conditioning(images, masks, torch.tensor([0])).known, given.known)

    noise = torch.randn(1, 1, 16, 32, generator=torch.Generator().manual_seed(0))
    changed = torch.where(hidden.bool(), noise, noise + 9)
    time = torch.tensor([0.5])
    grids = [built.backbone.encode(x) for x in (noise, changed, noise * 2)]
    out, same, other = (built.backbone(grid, time, given) for grid in grids)
    assert torch.equal(out, same)
    assert not torch.allclose(out, other)


def test_guidance_ids():
    conditioning = parts().conditioning
    given = conditioning(torch.zeros(2, 1, 16, 16), torch.ones(2, 1, 16, 16), torch.tensor([0, 1]))
    assert conditioning.against(given, "clean").class_ids.tolist() == [3, 3]
    assert conditioning.against(given, "nothing").class_ids.tolist() == [4, 4]
    many = conditioning(
        torch.zeros(4000, 1, 1, 1), torch.ones(4000, 1, 1, 1), torch.zeros(4000, dtype=torch.long)
    )
    dropped = conditioning.drop(
        many, conditioning.forget(4000, torch.Generator().manual_seed(0))
    ).class_ids
    assert 0.08 < (dropped == 4).float().mean() < 0.12
