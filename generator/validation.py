"""What a network in training is worth: fixed-seed samples of each class against the train split.

The reference are training crops, cut as the network sees them; validation and test images are not
touched. The scores follow the training and choose nothing.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from generator.assembly import Parts
from generator.canvas import to_pixels
from generator.config import Recipe
from generator.data import Batch, CropData
from generator.preview import preview
from generator.quality.class_agreement import ClassAgreement
from generator.quality.features import Extractor, open_extractor
from generator.quality.fidelity import ALL, Row, measure
from generator.quality.windows import real_windows
from generator.records import DefectExample

SALT = 2**33
"""Added to the seed: crops that neither training nor the sheets draw."""


class Validation:
    """Measures samples of a network; the features and the reference are made once."""

    def __init__(
        self, data: CropData, examples: Sequence[DefectExample], folder: Path, seed: int
    ) -> None:
        """Open the feature extractor, which is trained on the train split where none is on disk.

        Args:
            data: the training's crops.
            examples: of the train split.
            folder: for an extractor that is trained here.
            seed: of the crops and of the scores' subsets.
        """
        self.data, self.seed = data, seed
        self.extractor: Extractor = open_extractor(examples, data.classes, folder, seed=seed)
        windows = real_windows(examples, data.classes, seed)
        self.agreement = ClassAgreement(windows, data.classes, self.extractor)
        # As many as there are, or twice that where they are few: turned, they differ.
        self._real = {
            name: _pictures(to_pixels(self._crops(k, self._count(k), SALT + 1).images))
            for k, name in enumerate(data.classes)
        }

    def measure(self, recipe: Recipe, parts: Parts, device: torch.device) -> dict[str, Row]:
        """Sample `training.validate_images` crops of each class and compare them.

        Returns:
            A row a class, and `all`; see `generator.quality.fidelity.measure`, and
            `class_agreement_X`: mean probability that X's classifier gives to the sample's class.
        """
        made: dict[str, list[np.ndarray]] = {}
        for k, name in enumerate(self.data.classes):
            batch = self._crops(k, recipe.training.validate_images, SALT)
            made[name] = _pictures(preview(recipe, parts, self.data, batch, self.seed, device))
        rows = measure(self._real, made, self.extractor, self.agreement, seed=self.seed)
        key, each = f"class_agreement_{self.extractor.name}", []
        for name, pictures in made.items():
            found = self.agreement.scores(
                pictures, [name] * len(pictures), [frozenset()] * len(pictures)
            )
            known = [value for value in found if value is not None]
            each += known
            if known:
                rows[name][key] = float(np.mean(known))
        if each:
            rows[ALL][key] = float(np.mean(each))
        return rows

    def _count(self, class_id: int) -> int:
        members = (self.data.images if self.data.whole else self.data.instances)[class_id]
        return max(2 * len(members), 2)

    def _crops(self, class_id: int, count: int, salt: int) -> Batch:
        return self.data.class_crops(class_id, count, self.seed + salt)


def as_watched(recipe: Recipe) -> Recipe:
    """The recipe with the solver and steps that its training is watched with."""
    training = recipe.training
    asked = {"solver": training.validate_solver, "steps": training.validate_steps}
    sampling = recipe.sampling.model_copy(update={k: v for k, v in asked.items() if v is not None})
    return recipe.model_copy(update={"sampling": sampling})


def numbers(rows: dict[str, Row]) -> dict[str, float]:
    """`validation/<class>/<score>`, as trackers take them; notes and missing scores are left."""
    return {
        f"validation/{name}/{key}": float(value)
        for name, row in rows.items()
        for key, value in row.items()
        if isinstance(value, int | float)
    }


def _pictures(pixels: np.ndarray) -> list[np.ndarray]:
    """(B, S, S, C) float32 in [0, 255] -> B pictures (S, S, 3) uint8."""
    rounded: Any = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    return [np.repeat(p, 3, axis=2) if p.shape[2] == 1 else p for p in rounded]
