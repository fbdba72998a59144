"""What the untouched network paints by itself, kept in mind while it is tuned.

Prior preservation (Ruiz et al., DreamBooth, 2208.12242, section 3.3): a network that is tuned on a
few pictures forgets what else its words meant. So, before the first step, it paints pictures of
the part without a defect, and learns from as many of these as of the real ones.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from generator.assembly import Parts, autocast, pick_precision
from generator.checkpoints import save_tensors
from generator.conditioning.conditions import Encoded, clean_id
from generator.config import Recipe, SampleSettings
from generator.errors import CheckpointError
from generator.files import step_seed
from generator.objectives.objective import solve
from generator.painting import guided
from generator.portions import Portions

PRIOR = "prior"
"""Folder of the pictures' latents, in the checkpoint's."""
BLOCK = 8
"""Pictures in a file; a run that is killed loses no more."""


@dataclass(frozen=True)
class Prior:
    """Paints the pictures, or reads those that an earlier run of the same training painted.

    Attributes:
        recipe: of the training.
        parts: what is to be tuned.
        folder: of the checkpoint.
        key: of the training; pictures of another one are removed.
        seed: of the training.
        canvas_px: side of a picture.
        device: that the parts are on.
    """

    recipe: Recipe
    parts: Parts
    folder: Path
    key: str
    seed: int
    canvas_px: int
    device: torch.device

    def paint(self, *, untouched: bool) -> None:
        """Paint what is missing.

        Args:
            untouched: whether the parts are as they were before the first step.

        Raises:
            CheckpointError: pictures are missing and the network is no longer untouched.
        """
        place = self.folder / PRIOR
        for old in place.glob("*"):
            if old not in self._files:
                old.unlink()
        missing = [path for path in self._files if not path.exists()]
        if missing and not untouched:
            raise CheckpointError(
                f"{missing[0]} is missing, and the network that painted it has been trained on; "
                f"delete {self.folder} and type the same command again."
            )
        self.parts.backbone.eval()
        for path in missing:
            numbers = range(self._files[path], min(self._files[path] + BLOCK, self._count))
            portions = Portions(self.recipe.sampling.batch_size).over(numbers, self._latents)
            save_tensors(path, {"latents": torch.cat([latents for _, latents in portions])})

    def read(self) -> Encoded:
        """All pictures as a batch, on the device."""
        latents = torch.cat([load_file(path)["latents"] for path in self._files]).to(self.device)
        scene = self._scene(1)
        given = scene.given.map(lambda value: value.expand(len(latents), *value.shape[1:]))
        ones = torch.ones_like(latents[:, :1])
        return Encoded(latents, torch.zeros_like(ones), ones, given)

    @property
    def _count(self) -> int:
        return int(self.parts.objective.prior.images)

    @property
    def _files(self) -> dict[Path, int]:
        """Each file, and the number of its first picture."""
        place = self.folder / PRIOR
        return {
            place / f"{self.key[:16]}-{first:05d}.safetensors": first
            for first in range(0, self._count, BLOCK)
        }

    def _scene(self, count: int) -> Encoded:
        """Nothing is known of the picture but that it shows the part without a defect."""
        side, conditioning = self.canvas_px, self.parts.conditioning
        images = torch.zeros(count, 3, side, side, device=self.device)
        ids = torch.full((count,), clean_id(conditioning.classes), device=self.device)
        masks = torch.ones_like(images[:, :1])
        found: Encoded = self.parts.backbone.prepare(
            images, masks, conditioning(images, masks, ids)
        )
        return found

    @torch.no_grad()
    def _latents(self, numbers: Sequence[int]) -> Tensor:
        backbone, objective = self.parts.backbone, self.parts.objective
        # Not the recipe's settings of sampling: those may change without another training.
        sampling = SampleSettings(steps=objective.prior.steps, guidance=objective.prior.guidance)
        scene = self._scene(len(numbers))
        noise = torch.cat(
            [backbone.noise(step_seed(self.seed, n, 5), self.canvas_px) for n in numbers]
        ).to(self.device)
        scheduler = objective.scheduler(sampling.solver, sampling.steps)
        start = objective.noised(scheduler, 0, torch.zeros_like(noise), noise)
        with autocast(self.device, pick_precision(self.recipe, self.device))():
            predict = guided(self.parts, scene.given, sampling, torch.float32)
            return solve(predict, scheduler, start, 0)


def forget_prior(folder: Path) -> None:
    """Remove what another training kept here."""
    shutil.rmtree(folder / PRIOR, ignore_errors=True)
