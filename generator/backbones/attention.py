"""Reading where a UNet's cross-attention looks."""

from typing import Any

import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from torch import Tensor


class CrossAttention:
    """Switches the cross-attention of a diffusers UNet between fast and recorded.

    Fast attention never makes its probabilities. While recording, they are computed as such, which
    gives the same output, and those of chosen tokens are kept with their gradients.
    """

    def __init__(self, unet: Any) -> None:
        """Find the layers; recording is off.

        Args:
            unet: a `UNet2DConditionModel`.
        """
        # In diffusers' transformer blocks attn1 is self-attention, attn2 looks at the tokens.
        self._layers = {n: m for n, m in unet.named_modules() if n.endswith(".attn2")}
        self._recorders: list[_Recorder] = []

    def record(self, positions: Tensor | None, *, within: str = "") -> None:
        """Start recording; None stops it.

        Args:
            positions: (P,) or (B, P) int64, which tokens, for all examples or for each; in the
                latter case batches of another size than B are passed over.
            within: how the names of the layers that are looked at begin, `up_blocks` for those of
                the decoder.
        """
        self._recorders = []
        for name, layer in self._layers.items():
            processor: Any = AttnProcessor2_0()
            if positions is not None and name.startswith(within):
                processor = _Recorder(positions)
                self._recorders.append(processor)
            layer.set_processor(processor)

    def maps(self) -> list[Tensor]:
        """Of the last forward pass, for each layer in the order of the UNet's modules: (B, hw, P)
        float32, the share of each place's attention that goes to each token, averaged over heads.

        Raises:
            RuntimeError: nothing was recorded.
        """
        found = [r.found for r in self._recorders if r.found is not None]
        if not found or len(found) < len(self._recorders):
            raise RuntimeError("record attention, then run the network, then read the maps")
        return found


class _Recorder:
    """An attention processor of diffusers that keeps the probabilities of some tokens."""

    def __init__(self, positions: Tensor) -> None:
        self.positions = positions
        self.found: Tensor | None = None

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        **_: Any,
    ) -> Tensor:
        """softmax(Q K^T / sqrt(d)) V (Vaswani et al., 1706.03762, equation 1), a head at a time.

        Args:
            attn: the layer.
            hidden_states: (B, hw, C).
            encoder_hidden_states: (B, T, D).
            attention_mask: None; a UNet passes none to its cross-attention by itself.
        """
        query = attn.head_to_batch_dim(attn.to_q(hidden_states))
        key = attn.head_to_batch_dim(attn.to_k(encoder_hidden_states))
        value = attn.head_to_batch_dim(attn.to_v(encoder_hidden_states))
        shares = attn.get_attention_scores(query, key, attention_mask)
        self._keep(shares.unflatten(0, (len(hidden_states), attn.heads)).float().mean(dim=1))
        found = attn.batch_to_head_dim(torch.bmm(shares, value))
        projected: Tensor = attn.to_out[1](attn.to_out[0](found))
        return projected / attn.rescale_output_factor

    def _keep(self, shares: Tensor) -> None:
        """Args:
        shares: (B, hw, T).
        """
        places = self.positions.to(shares.device)
        if places.ndim == 1:
            places = places[None]
        if len(places) not in (1, len(shares)):
            return
        index = places[:, None].expand(len(shares), shares.shape[1], -1)
        self.found = shares.gather(2, index)
