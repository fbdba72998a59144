"""What passes from a conditioning to a backbone, and what is common to all conditionings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from generator.config import Recipe
from generator.errors import CheckpointError

Prompt = Literal["defect", "object"]
"""Which of a conditioning's descriptions is meant: of the defect alone, or of the part with it."""

Form = Literal["class ids", "tokens", "labels"]
"""How a conditioning says its class to the network: `class_ids` as they are, `tokens` for
cross-attention, or rows of a pretrained table of labels. A backbone reads one of them (`takes`)."""


@dataclass(frozen=True)
class Conditions:
    """Attributes:
    class_ids: (B,) int64.
    spatial: (B, C, H, W) float32 in pixels, laid beside the noisy image; C may be 0.
    hidden: (B, 1, H, W) float32, 1 where the network paints and 0 where it is shown `known`.
    known: (B, C, H, W) float32, the image in standard units; looked at only where `hidden` is 0.
        A backbone that works on latents replaces it by their encoding; see `Encoded`.
    level: (B, C, 1, 1) float32, the mean of what is known of each image.
    spread: by how much images typically differ from their level; one number a checkpoint.
    tokens: (B, T, D) float32, what cross-attention reads; None where there is none.
    words: (B, T) bool, which of the tokens name the defect; None where that has no meaning.
    prompt: which description `tokens` is made from.
    """

    class_ids: Tensor
    spatial: Tensor
    hidden: Tensor
    known: Tensor
    level: Tensor
    spread: float
    tokens: Tensor | None = None
    words: Tensor | None = None
    prompt: Prompt = "defect"

    def standardise(self, images: Tensor) -> Tensor:
        """Images in [-1, 1] -> standard units, mean about 0 and deviation about 1.

        Objectives mix images with noise of deviation 1. Surfaces vary far less within a crop than
        from part to part, so without this nearly all times would be nearly all noise.
        """
        return (images - self.level) / self.spread

    def restore(self, standard: Tensor) -> Tensor:
        """The inverse of `standardise`."""
        return standard * self.spread + self.level

    def surround(self, painted: Tensor) -> Tensor:
        """(B, C, H, W) what was painted, with the known image around it; in pixels."""
        return torch.where(self.hidden.bool(), painted, self.known)

    def twice(self, other: "Conditions") -> "Conditions":
        """Both behind one another, as one batch."""
        return _joined([self, other])

    def map(self, change: Callable[[Tensor], Tensor]) -> "Conditions":
        """Every tensor changed alike: moved to a device, cut to some of its rows."""
        changed: dict[str, Any] = {n: change(value) for n, value in _tensors(self).items()}
        return replace(self, **changed)


@dataclass(frozen=True)
class Encoded:
    """What the frozen parts of a network make of a batch: all that a training step reads, and
    what can be made once and kept.

    Attributes:
        clean: (B, c, h, w) float32, the image in the network's grid: what is noised.
        masks: (B, 1 or c, h, w) float32 in [0, 1], coverage by the defect in that grid.
        hidden: as `masks`, 0 or 1: where the network paints.
        given: conditions as `backbone.forward` takes them, `tokens` still missing.
        also: a second set, for objectives that look at an example in two ways.
        prior: as many pictures that the untouched network painted, for objectives that keep them
            in mind; see `generator.prior`.
    """

    clean: Tensor
    masks: Tensor
    hidden: Tensor
    given: Conditions
    also: Conditions | None = None
    prior: "Encoded | None" = None

    def map(self, change: Callable[[Tensor], Tensor]) -> "Encoded":
        """Every tensor changed alike; see `Conditions.map`."""
        return Encoded(
            change(self.clean),
            change(self.masks),
            change(self.hidden),
            self.given.map(change),
            None if self.also is None else self.also.map(change),
            None if self.prior is None else self.prior.map(change),
        )

    @classmethod
    def joined(cls, parts: Sequence["Encoded"]) -> "Encoded":
        """One batch of several."""
        also = [part.also for part in parts if part.also is not None]
        return cls(
            torch.cat([part.clean for part in parts]),
            torch.cat([part.masks for part in parts]),
            torch.cat([part.hidden for part in parts]),
            _joined([part.given for part in parts]),
            _joined(also) if also else None,
        )


def _joined(members: Sequence[Conditions]) -> Conditions:
    named = [_tensors(member) for member in members]
    joined: dict[str, Any] = {key: torch.cat([n[key] for n in named]) for key in named[0]}
    return replace(members[0], **joined)


def _tensors(given: Conditions) -> dict[str, Tensor]:
    named = {field.name: getattr(given, field.name) for field in fields(given)}
    return {name: value for name, value in named.items() if isinstance(value, Tensor)}


def clean_id(classes: Sequence[str]) -> int:
    """Id of the clean surface."""
    return len(classes)


def null_id(classes: Sequence[str]) -> int:
    """Id of 'no class'."""
    return len(classes) + 1


class Conditioning(nn.Module):
    """Class dropout and guidance (Ho and Salimans, classifier-free guidance, 2207.12598).

    A conditioning makes `Conditions` of pixels (`__call__`), forgets the class of some (`drop`),
    and adds what cross-attention reads (`embed`), which is where its own weights, if any, are.
    """

    gives: Form = "class ids"
    """The form that a backbone must take, or the recipe is refused."""

    describes = False
    """Whether it has words for the defect and for the part with it, which the pretrained network
    understands, and says which of their tokens name the defect."""

    rate = 1.0
    """Factor on the learning rate of `own_weights`."""

    sees_background = False
    """Whether the network is shown what surrounds the mask. Where it is not, the sampler holds the
    surround in place at every step (Avrahami et al., Blended Latent Diffusion, 2206.02779)."""

    @staticmethod
    def starts_from(settings: Any) -> Path | None:
        """A file, beside the backbone's, whose content the trained weights follow from.

        Raises:
            WeightsError: the settings ask for one, and it is not on disk.
        """
        return None

    def __init__(self, settings: Any, classes: Sequence[str], spread: float, backbone: Any) -> None:
        """Keep the settings.

        Args:
            settings: this conditioning's section of the recipe.
            classes: defect classes in the checkpoint's order.
            spread: see `Conditions`; 1 for backbones that take pixels as they are.
            backbone: what is conditioned, built.
        """
        super().__init__()
        self.settings = settings
        self.spread = spread
        self.classes = tuple(classes)

    @staticmethod
    def channels(image_channels: int) -> int:
        """Number of channels laid beside an image of `image_channels`."""
        return 0

    def forward(
        self, images: Tensor, masks: Tensor, class_ids: Tensor, prompt: Prompt = "defect"
    ) -> Conditions:
        """Conditions of a batch, in pixels.

        Args:
            images: (B, C, H, W) float32 in [-1, 1]; what is under the mask is not looked at.
            masks: (B, 1, H, W) float32 in [0, 1], coverage by the defect.
            class_ids: (B,) int64.
            prompt: which description of the class is meant.
        """
        raise NotImplementedError

    def embed(self, given: Conditions) -> Conditions:
        """`given` with `tokens`; called at every step, since its weights may be trained."""
        return given

    def forget(self, count: int, generator: torch.Generator) -> Tensor:
        """(count,) bool: whose class is dropped in training."""
        return torch.rand(count, generator=generator) < getattr(self.settings, "drop_class", 0.0)

    def drop(self, given: Conditions, forgotten: Tensor) -> Conditions:
        """Forget the class where `forgotten` says so."""
        forgotten = forgotten.to(given.class_ids.device)
        ids = torch.where(forgotten, null_id(self.classes), given.class_ids)
        return replace(given, class_ids=ids)

    def against(self, given: Conditions, what: str) -> Conditions:
        """What guidance leads away from: `nothing` (no class) or `clean` (the bare surface)."""
        other = clean_id(self.classes) if what == "clean" else null_id(self.classes)
        return replace(given, class_ids=torch.full_like(given.class_ids, other))

    def begin(self, data: Any, seed: int) -> tuple[str, ...]:
        """Set what starts from the examples; called before training, not before sampling.

        Args:
            data: the training's `generator.data.CropData`.
            seed: of the training.

        Returns:
            Sentences that tell the user what was chosen.
        """
        return ()

    def describe(self) -> dict[str, Any]:
        """What `begin` chose, for the checkpoint's `data.json`."""
        return {}

    def own_weights(self) -> dict[str, nn.Parameter]:
        """Weights of the conditioning itself that are trained with every tuning, by name."""
        return {}

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Put trained weights, named as by `own_weights`, back.

        Raises:
            CheckpointError: some are missing or do not fit.
        """
        for name, own in self.own_weights().items():
            if name not in weights or weights[name].shape != own.shape:
                raise CheckpointError(
                    f"The checkpoint has no {name!r} of shape {tuple(own.shape)}; delete its "
                    "folder and train it with: augment train."
                )
            with torch.no_grad():
                own.copy_(weights[name])

    def export(self, weights: Mapping[str, Tensor], folder: Path) -> None:
        """Write own weights, named as by `own_weights`, in a form that other tools read, where
        there is one."""

    def _around(
        self,
        class_ids: Tensor,
        spatial: Tensor,
        hidden: Tensor,
        images: Tensor,
        prompt: Prompt = "defect",
    ) -> Conditions:
        """Conditions in standard units of what is known of each image."""
        shown = images * (1 - hidden)
        count = (1 - hidden).sum(dim=(2, 3), keepdim=True)
        level = shown.sum(dim=(2, 3), keepdim=True) / count.clamp(min=1)
        known = (images - level) / self.spread * (1 - hidden)
        return Conditions(class_ids, spatial, hidden, known, level, self.spread, prompt=prompt)


def as_they_are(
    class_ids: Tensor,
    spatial: Tensor,
    hidden: Tensor,
    images: Tensor,
    prompt: Prompt = "defect",
) -> Conditions:
    """Conditions of images that stay in [-1, 1], as pretrained networks were shown them."""
    level = images.new_zeros(*images.shape[:2], 1, 1)
    return Conditions(class_ids, spatial, hidden, images * (1 - hidden), level, 1.0, prompt=prompt)


def guidance_reason(recipe: Recipe) -> str | None:
    """Why a recipe's guidance can't work, or None: the network must know what it leads from."""
    sampling = recipe.sampling
    dropped = getattr(recipe.conditioning, "drop_class", 0)
    if sampling.guidance > 1 and sampling.guide_against == "nothing" and dropped == 0:
        return (
            "sampling.guidance above 1 leads away from 'no class', which a network trained with "
            "conditioning.drop_class 0 has never seen; set drop_class to 0.1 or guidance to 1"
        )
    if sampling.guidance > 1 and sampling.guide_against == "clean" and not recipe.crops.clean_share:
        return (
            "sampling.guide_against 'clean' needs clean crops in training; "
            "set crops.clean_share above 0 or guide_against to 'nothing'"
        )
    return None
