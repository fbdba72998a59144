"""Pretrained weights: which a recipe needs, where they lie, how they are brought and checked.

Weights are named by a hub id (`stable-diffusion-v1-5/stable-diffusion-v1-5`) or by a local folder
in the hub's layout: a sub-folder for each part, in it the part's config and its safetensors.
Nothing here reaches for a network but `fetch`, and nothing reads a pickle but `convert`.
"""

from generator.weights.convert import Converted, convert
from generator.weights.fetch import fetch
from generator.weights.find import find_weights, weights_hash
from generator.weights.known import KNOWN, Known
from generator.weights.needs import Needs, needs_of

__all__ = [
    "KNOWN",
    "Converted",
    "Known",
    "Needs",
    "convert",
    "fetch",
    "find_weights",
    "needs_of",
    "weights_hash",
]
