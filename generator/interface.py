"""The one interface that every method of making defects stands behind."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from generator.records import Draft


class Painter(Protocol):
    """Paints defects into drafts: a diffusion model, or a baseline such as copy-paste.

    Attributes:
        name: the recipe or baseline, as it is typed and as the manifest records it.
        fingerprint: hash of everything that the pixels depend on besides the draft (weights,
            settings); two painters with one fingerprint paint the same.
        batch_size: how many drafts are best painted at once.
    """

    name: str
    fingerprint: str
    batch_size: int

    def paint(self, drafts: Sequence[Draft]) -> list[np.ndarray]:
        """Paint each draft's crop.

        Returns one uint8 array of shape (crop height, crop width, 3) per draft: the pixels of
        `draft.crop_xyxy` with the defect in them. The same draft gives the same pixels in any
        company (up to the rounding of batched arithmetic); all randomness comes from
        `draft.request.seed`.
        """
        ...
