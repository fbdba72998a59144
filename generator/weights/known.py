"""The hub's weights that the project's recipes name: size and licence.

Sizes are those that the hub's file listings show, rounded, of full precision (November 2026). A
name that is not in the table works too; then nothing is known of its size and licence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_MB = 1_000_000


@dataclass(frozen=True)
class Known:
    """Attributes:
    licence: its name, an SPDX identifier where there is one.
    restricts: what the licence forbids or asks for, in a line.
    part_bytes: about how large the download of each part is.
    """

    licence: str
    restricts: str
    part_bytes: Mapping[str, int]

    def bytes_of(self, parts: Sequence[str]) -> int:
        """About how large the download of these parts is."""
        return sum(self.part_bytes.get(part, 0) for part in parts)


_OPENRAIL = "commercial use is allowed; the list of forbidden uses is passed on with the weights"
_STABLE_DIFFUSION = {
    "unet": 3_440 * _MB,
    "vae": 335 * _MB,
    "text_encoder": 492 * _MB,
    "tokenizer": 2 * _MB,
}

KNOWN: Mapping[str, Known] = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": Known(
        "CreativeML OpenRAIL-M", _OPENRAIL, _STABLE_DIFFUSION
    ),
    "stable-diffusion-v1-5/stable-diffusion-inpainting": Known(
        "CreativeML OpenRAIL-M", _OPENRAIL, _STABLE_DIFFUSION
    ),
    "facebook/DiT-XL-2-256": Known(
        "CC-BY-NC-4.0",
        "no commercial use, of the weights or of what is fine-tuned from them",
        {"transformer": 3_000 * _MB, "vae": 335 * _MB},
    ),
}
