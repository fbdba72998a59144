"""DiT: a transformer over patches of latents, pretrained on ImageNet's classes."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from diffusers import DiTTransformer2DModel
from pydantic import Field
from torch import Tensor, nn

from generator.backbones.latents import LatentBackbone, canvas_reason, open_part
from generator.conditioning.conditions import Conditions
from generator.conditioning.imagenet import COUNT
from generator.config import Choice, Recipe
from generator.errors import WeightsError
from generator.registry import register

CANVAS_MULTIPLE = 16
"""Pixels along the side of a patch: 2 latents of 8 pixels, in every published DiT's main form."""


@register("backbone", "dit")
class DiTBackbone(LatentBackbone):
    """Class-conditional diffusion transformer (Peebles and Xie, 2212.09748) with its VAE.

    The class is not said by a number but by its row of the pretrained label table, in
    `Conditions.tokens`: the conditioning holds a row for each class of the project, starts it from
    rows of that table and trains it, while the table itself stays out of the network.

    On canvases other than the 256 px of the weights' training the position embedding, which is a
    formula (`PatchEmbed` of diffusers), is stretched over the canvas: its corners stay corners.
    """

    takes = "labels"
    PARTS = ("transformer", "vae", "scheduler")

    class Settings(Choice):
        """`weights` in the hub's layout: `transformer`, `vae`, `scheduler`."""

        kind: Literal["dit"] = "dit"
        weights: str = Field("facebook/DiT-XL-2-256", description="hub id or local folder")

    @staticmethod
    def refuse(recipe: Recipe) -> str | None:
        """The canvas must divide into patches."""
        return canvas_reason(recipe, CANVAS_MULTIPLE)

    def __init__(
        self, settings: Any, *, image_channels: int, spatial_channels: int, class_count: int
    ) -> None:
        """Open the weights.

        Args:
            settings: a `DiTBackbone.Settings`.
            image_channels: 3.
            spatial_channels: not used; a DiT is shown nothing beside the noise.
            class_count: not used; the conditioning holds the classes.

        Raises:
            WeightsError: the weights are not on disk, not whole, pickles, or no DiT of latents.
        """
        super().__init__(settings.weights)
        self.transformer: Any = open_part(DiTTransformer2DModel, self.folder, "transformer")
        config = self.transformer.config
        self.latent_channels = int(self.vae.config.latent_channels)
        if (
            config.in_channels != self.latent_channels
            or config.patch_size * self.shrink > CANVAS_MULTIPLE
            or config.num_embeds_ada_norm != COUNT
        ):
            raise WeightsError(
                f"{self.folder} is no DiT that this backbone can use (it takes "
                f"{config.in_channels} channels in patches of {config.patch_size} and "
                f"{config.num_embeds_ada_norm} labels); name other weights: augment train RECIPE "
                "--weights FOLDER"
            )
        self._label_tables = _take_labels(self.transformer)

    @property
    def denoiser(self) -> Any:
        """The transformer."""
        return self.transformer

    @property
    def null_label(self) -> int:
        """Number of the row that stands for 'no class': the one behind ImageNet's."""
        return COUNT

    def compile_blocks(self) -> None:
        """Compile every block; diffusers doesn't say which of this model's parts are repeated."""
        for block in self.transformer.transformer_blocks:
            block.compile()

    def label_rows(self, labels: Sequence[int]) -> Tensor:
        """Pretrained embeddings of classes.

        Args:
            labels: K numbers of ImageNet's classes, or `null_label`.

        Returns:
            (K, T, D) float32 on the CPU, a copy; T is 1 where all blocks share one table, as in
            the published weights, else the number of blocks.
        """
        return self._label_tables[:, list(labels)].transpose(0, 1).clone()

    def forward(self, noisy: Tensor, time: Tensor, given: Conditions) -> Tensor:
        """Predict the noise.

        Args:
            noisy: (B, c, h, w) float, latents with noise.
            time: (B,) float in [0, 1], 1 is pure noise.
            given: conditions; `tokens` (B, T, D) are rows as `label_rows` gives them.
        """
        assert given.tokens is not None, "conditions of a DiT have tokens"
        # To the thousandth of a step, so that whole steps are exactly those of the pretraining.
        steps = (time * self.schedule.get("num_train_timesteps", 1000)).round(decimals=3)
        said: Tensor = self.transformer(
            noisy, timestep=steps, class_labels=given.tokens.to(noisy.dtype)
        ).sample
        # The other half is the learnt variance, which the solvers here have no use for.
        return said[:, : self.latent_channels]


class _Label(nn.Module):
    """In the place of a block's label table: takes the block's row from those that are given.

    diffusers' own table also drops labels in training, with the global generator; here the
    conditioning drops them.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def forward(self, rows: Tensor) -> Tensor:
        """(B, T, D) -> (B, D)."""
        return rows[:, self.number]


def _take_labels(transformer: Any) -> Tensor:
    """Take the label tables out of a transformer.

    DiT has one embedding of time and one of the class. diffusers keeps a copy of both in every
    block; where the copies are equal they become one module again, so that they are trained as
    one.

    Returns:
        (T, N + 1, D) float32, T being 1 or the number of blocks.
    """
    norms = [block.norm1 for block in transformer.transformer_blocks]
    first = norms[0].emb
    if all(_equal(first, norm.emb) for norm in norms):
        for norm in norms:
            norm.emb = first
    embeddings = list(dict.fromkeys(norm.emb for norm in norms))
    tables = []
    for number, embedding in enumerate(embeddings):
        tables.append(embedding.class_embedder.embedding_table.weight.detach().float())
        embedding.class_embedder = _Label(number)
    return torch.stack(tables)


def _equal(one: nn.Module, other: nn.Module) -> bool:
    values = other.state_dict()
    return all(torch.equal(value, values[name]) for name, value in one.state_dict().items())
