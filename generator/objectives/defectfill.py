"""DefectFill (Song et al., CVPR 2025, 2503.13985): a defect's look, its place on the part, and
where its word looks, each with a loss of its own."""

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, field_validator
from torch import Tensor

from generator import registry
from generator.conditioning.conditions import Encoded
from generator.config import Recipe
from generator.objectives.diffusion import NoisePrediction, NoiseSettings
from generator.objectives.objective import Draws, Network
from generator.registry import register

DECODER = "up_blocks"
"""The layers whose attention is averaged; earlier ones do not tell words apart by place."""


@register("objective", "defectfill")
class DefectFill(NoisePrediction):
    """Each example is seen twice, with the same noise: through its own mask under the defect's
    prompt, and through random rectangles under the part's."""

    two_views = True
    paints = "object"

    class Settings(NoiseSettings):
        """Defaults are the paper's."""

        kind: Literal["defectfill"] = "defectfill"
        defect: float = Field(0.5, ge=0, le=100, description="weight of the defect loss")
        object: float = Field(0.2, ge=0, le=100, description="weight of the object loss")
        attention: float = Field(0.05, ge=0, le=100, description="weight of the attention loss")
        alpha: float = Field(
            0.3, ge=0, le=1, description="the object loss outside the mask counts so much"
        )
        boxes: int = Field(30, ge=1, le=1000, description="random rectangles in the second view")
        box_share: tuple[float, float] = Field(
            (0.03, 0.25), description="their sides, least and largest, as shares of the canvas"
        )

        @field_validator("box_share")
        @classmethod
        def _ordered(cls, share: tuple[float, float]) -> tuple[float, float]:
            if not 0 < share[0] <= share[1] <= 1:
                raise ValueError("needs 0 < least <= largest <= 1")
            return share

    @staticmethod
    def refuse(recipe: Recipe) -> str | None:
        """Two views need two descriptions, a network that is shown masks, and its attention."""
        conditioning = registry.method("conditioning", recipe.conditioning.kind)
        if not conditioning.describes:
            return (
                "objective 'defectfill' needs words for the defect and for the part, which "
                f"conditioning {recipe.conditioning.kind!r} has not; choose conditioning 'prompt'"
            )
        if not getattr(recipe.conditioning, "background", False):
            return (
                "objective 'defectfill' fills masks, which the network is not shown; set "
                "conditioning.background to true and take weights of task 'inpainting'"
            )
        backbone = registry.method("backbone", recipe.backbone.kind)
        if not hasattr(backbone, "record_attention"):
            return (
                "objective 'defectfill' looks at cross-attention, which backbone "
                f"{recipe.backbone.kind!r} does not show; choose backbone 'stable_diffusion'"
            )
        if recipe.training.compile:
            return (
                "objective 'defectfill' looks at cross-attention at every step, for which "
                "compiled blocks would be compiled anew; set training.compile to false"
            )
        return NoisePrediction.refuse(recipe)

    def __init__(self, settings: Any, backbone: Any) -> None:
        """Build the schedule; the backbone's attention is read at every step."""
        super().__init__(settings, backbone)
        self.backbone = backbone

    def second_masks(self, masks: Tensor, generator: torch.Generator) -> Tensor:
        """(B, 1, H, W) float32: the union of `boxes` rectangles, of random sides and places.

        Args:
            masks: (B, 1, H, W), looked at for their shape alone.
            generator: on the CPU.
        """
        count, _, high, wide = masks.shape
        least, largest = self.settings.box_share
        drawn = torch.rand(count, self.settings.boxes, 4, generator=generator)
        sides = least + (largest - least) * drawn[..., :2]
        begin = (1 - sides) * drawn[..., 2:]
        y, x = (torch.arange(n).add(0.5).div(n) for n in (high, wide))
        rows = _within(y, begin[..., 0], sides[..., 0])
        columns = _within(x, begin[..., 1], sides[..., 1])
        return (rows[..., None] & columns[..., None, :]).any(dim=1, keepdim=True).float()

    def loss(self, network: Network, seen: Encoded, draws: Draws) -> Tensor:
        """Equation 9: the weighted sum of the three terms; see `Objective.loss`."""
        assert seen.also is not None
        count = len(seen.clean)
        # Both views in one batch: one pass instead of two.
        both = Encoded(
            clean=torch.cat([seen.clean, seen.clean]),
            masks=torch.cat([seen.masks, seen.masks]),
            hidden=torch.cat([seen.hidden, seen.hidden]),
            given=seen.given.twice(seen.also),
        )
        assert both.given.words is not None
        if self.settings.attention:
            # Left on until the next step: blocks that are computed again on the way back
            # (gradient checkpointing) must be computed in the same way.
            positions, named = word_positions(both.given.words)
            self.backbone.record_attention(positions, within=DECODER)
        said, wanted = self._prediction(
            network, both, {name: torch.cat([v, v]) for name, v in draws.items()}
        )
        first, second = (said - wanted).chunk(2)
        total = self.settings.defect * defect_loss(first, seen.masks)
        total = total + self.settings.object * object_loss(second, seen.masks, self.settings.alpha)
        total = total * self.time_weights(draws["steps"])
        if self.settings.attention:
            named = named[count:]
            maps = [shares[count:] for shares in self.backbone.attention_maps()]
            looks = word_attention(maps, named, tuple(seen.clean.shape[2:]))
            # The clean surface has no word of a defect that could look anywhere.
            looking = named.any(dim=1) * attention_loss(looks, seen.masks)
            total = total + self.settings.attention * looking
        return total


def defect_loss(error: Tensor, masks: Tensor) -> Tensor:
    """Equation 5: || M (eps - eps_theta) ||^2, as the mean over all elements; (B,).

    Args:
        error: (B, c, h, w), of the first view.
        masks: (B, 1, h, w) in [0, 1], coverage by the defect.
    """
    return (masks * error).square().mean(dim=(1, 2, 3))


def object_loss(error: Tensor, masks: Tensor, alpha: float) -> Tensor:
    """Equation 7: the same under M' = M + alpha (1 - M), M being the defect's own mask; (B,).

    Args:
        error: (B, c, h, w), of the second view.
        masks: as in `defect_loss`.
        alpha: what counts outside the mask.
    """
    return defect_loss(error, masks + alpha * (1 - masks))


def attention_loss(looks: Tensor, masks: Tensor) -> Tensor:
    """Equation 8: || A - M ||^2 as the mean over all places; (B,).

    Args:
        looks: (B, 1, h, w) of `word_attention`.
        masks: as in `defect_loss`.
    """
    return (looks - masks).square().mean(dim=(1, 2, 3))


def word_positions(words: Tensor) -> tuple[Tensor, Tensor]:
    """Places of the tokens that name the defect.

    Args:
        words: (B, T) bool.

    Returns:
        (B, P) int64 places and (B, P) bool, which of them count; P is the longest word's.
    """
    longest = int(words.sum(dim=1).max())
    named, places = words.int().topk(longest, dim=1)
    return places, named.bool()


def word_attention(maps: list[Tensor], named: Tensor, size: tuple[int, ...]) -> Tensor:
    """(B, 1, h, w) the share of each place's attention that goes to the defect's word, averaged
    over layers, each scaled to the grid; 0 for examples without a word.

    Args:
        maps: a layer each, (B, places, P) float32.
        named: (B, P) bool, which of the tokens count.
        size: h, w.
    """
    grids = []
    for shares in maps:
        shares = (shares * named[:, None]).sum(dim=2)
        high = round(math.sqrt(shares.shape[1] * size[0] / size[1]))
        grid = shares.unflatten(1, (1, high, shares.shape[1] // high))
        grids.append(F.interpolate(grid, size=size, mode="bilinear"))
    return torch.stack(grids).mean(dim=0)


def _within(places: Tensor, begin: Tensor, length: Tensor) -> Tensor:
    """(B, N, n) bool: which of `places` (n,) lie in the N spans of each example."""
    return (places >= begin[..., None]) & (places < (begin + length)[..., None])
