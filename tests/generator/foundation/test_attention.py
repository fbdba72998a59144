"""Recorded cross-attention: the same output, and the probabilities that it is made of."""

from pathlib import Path

import pytest
import torch
from beside import backbone_of, network_inputs
from tiny import tiny_stable_diffusion

from generator.backbones.stable_diffusion import StableDiffusionBackbone


@pytest.fixture(scope="module")
def text_to_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_stable_diffusion(tmp_path_factory.mktemp("weights") / "sd")


def test_recording_attention_changes_nothing_but_what_is_known(text_to_image):
    backbone = backbone_of(StableDiffusionBackbone, text_to_image)
    asked = network_inputs(backbone, 2)
    fast = backbone(*asked)
    backbone.record_attention(torch.arange(5))
    assert torch.allclose(backbone(*asked), fast, atol=1e-5)
    maps = backbone.attention_maps()
    # The tiny UNet looks at the tokens once on the way down, once in the middle, twice up.
    assert [tuple(m.shape) for m in maps] == [(2, 96, 5), (2, 96, 5), (2, 96, 5), (2, 24, 5)]
    for found in maps:
        assert torch.allclose(found.sum(dim=2), torch.ones(found.shape[:2]), atol=1e-5)
    backbone.record_attention(None)
    assert torch.equal(backbone(*asked), fast)
    with pytest.raises(RuntimeError, match="record attention"):
        backbone.attention_maps()


def test_recorded_attention_is_the_softmax_by_hand(text_to_image):
    backbone = backbone_of(StableDiffusionBackbone, text_to_image)
    asked = network_inputs(backbone, 2)
    layer = backbone.unet.down_blocks[0].attentions[0].transformer_blocks[0].attn2
    inputs: list[torch.Tensor] = []
    layer.register_forward_hook(lambda m, args, out: inputs.append(args[0]))
    # Another token of each example, one of them twice over.
    backbone.record_attention(torch.tensor([[1, 4], [3, 0]]))
    backbone(*asked)
    found = backbone.attention_maps()[0]
    width = layer.to_q.out_features // layer.heads
    assert (layer.heads, width) == (2, 8)
    for k, places in enumerate(([1, 4], [3, 0])):
        query = inputs[0][k] @ layer.to_q.weight.T
        key = asked[2].tokens[k] @ layer.to_k.weight.T
        heads = [slice(h * width, (h + 1) * width) for h in range(layer.heads)]
        shares = [torch.softmax(query[:, h] @ key[:, h].T / width**0.5, dim=1) for h in heads]
        by_hand = torch.stack(shares).mean(dim=0)[:, places]
        assert torch.allclose(found[k], by_hand, atol=1e-6)


def test_recorded_attention_has_gradients_with_and_without_checkpointing(text_to_image):
    gradients = []
    for saving in (False, True):
        backbone = backbone_of(StableDiffusionBackbone, text_to_image)
        weight = backbone.unet.down_blocks[0].attentions[0].transformer_blocks[0].attn2.to_k.weight
        weight.requires_grad_(True)
        backbone.train()
        if saving:
            backbone.save_memory()
        asked = network_inputs(backbone, 1)
        backbone.record_attention(torch.tensor([2]))
        said = backbone(*asked)
        maps = torch.cat([m.flatten() for m in backbone.attention_maps()])
        (said.square().mean() + maps.square().mean()).backward()
        gradients.append(weight.grad.clone())
    assert float(gradients[0].abs().max()) > 0
    assert torch.allclose(*gradients, atol=1e-7)
