"""Backbones with nothing around diffusers' own models, for what only touches their weights."""

from pathlib import Path

import torch
from diffusers import ControlNetModel, DiTPipeline, DiTTransformer2DModel, StableDiffusionPipeline
from torch import nn

LATENT = (2, 4, 8, 4)
"""Not square, so that a swapped height and width shows."""


class PlainUNet(nn.Module):
    """The UNet of a pipeline beside its VAE; with a ControlNet if asked."""

    FROZEN = ("vae",)

    def __init__(self, folder: Path, *, control: bool = False) -> None:
        super().__init__()
        pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
        self.vae, self.unet = pipe.vae, pipe.unet
        if control:
            self.controlnet = ControlNetModel.from_unet(pipe.unet)
        self.token_width = pipe.unet.config.cross_attention_dim

    @property
    def denoiser(self) -> nn.Module:
        return self.unet


class PlainDiT(nn.Module):
    """The transformer of a DiT pipeline."""

    FROZEN = ("vae",)

    def __init__(self, transformer: DiTTransformer2DModel) -> None:
        super().__init__()
        self.transformer = transformer

    @classmethod
    def opened(cls, folder: Path) -> "PlainDiT":
        return cls(DiTPipeline.from_pretrained(folder).transformer)

    @property
    def denoiser(self) -> nn.Module:
        return self.transformer


def unet_says(unet: nn.Module) -> torch.Tensor:
    """A UNet's answer to a fixed question."""
    generator = torch.Generator().manual_seed(4)
    noisy = torch.randn(LATENT, generator=generator)
    tokens = torch.randn(2, 1, unet.config.cross_attention_dim, generator=generator)
    with torch.no_grad():
        return unet.eval()(noisy, torch.tensor([10, 900]), tokens).sample


def dit_says(transformer: nn.Module) -> torch.Tensor:
    """A DiT's answer to a fixed question; it knows only square ones."""
    noisy = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(4))
    times, labels = torch.tensor([10, 900]), torch.tensor([3, 1000])
    with torch.no_grad():
        return transformer.eval()(noisy, times, labels).sample


def shake(parameters: dict[str, nn.Parameter], scale: float = 0.1) -> None:
    """Move weights off their start, where adapters and scales do nothing."""
    generator = torch.Generator().manual_seed(6)
    with torch.no_grad():
        for parameter in parameters.values():
            parameter += scale * torch.randn(parameter.shape, generator=generator)
