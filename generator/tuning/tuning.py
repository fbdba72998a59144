"""What is common to all tunings: naming what is trained, when, and putting it back."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from generator import registry
from generator.config import Recipe
from generator.errors import CheckpointError

CONDITIONING = "conditioning."
"""Prefix of the names of weights that belong to the conditioning."""


@dataclass(frozen=True)
class Stage:
    """A span of training in which the same weights move.

    Attributes:
        name: what the log calls it.
        start: where it begins, in the recipe's unit (epochs or steps), from 0.
        names: which of the trained weights move.
        rate: factor on the learning rate.
    """

    name: str
    start: int
    names: frozenset[str]
    rate: float = 1.0


class Tuning:
    """Marks what is trained. A tuning that adds weights (adapters) adds them in `prepare`.

    `prepare`, `load` and `fuse` are called in this order, on a freshly built backbone.
    """

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    def prepare(self, backbone: nn.Module, conditioning: Any) -> dict[str, nn.Parameter]:
        """Freeze everything, then mark what is ever trained.

        Returns:
            Those parameters by name, in a fixed order: the backbone's as it names them, then the
            conditioning's with the prefix `CONDITIONING`.
        """
        backbone.requires_grad_(False)
        conditioning.requires_grad_(False)
        chosen = self.choose(backbone)
        chosen |= {CONDITIONING + n: p for n, p in conditioning.own_weights().items()}
        for parameter in chosen.values():
            parameter.requires_grad_(True)
        return chosen

    def choose(self, backbone: nn.Module) -> dict[str, nn.Parameter]:
        """The backbone's weights that are ever trained, by name, in a fixed order."""
        raise NotImplementedError

    def stages(self, trained: Mapping[str, nn.Parameter]) -> tuple[Stage, ...]:
        """When which of `trained` moves; the first stage starts at 0."""
        return (Stage("all", 0, frozenset(trained)),)

    def load(self, backbone: nn.Module, conditioning: Any, weights: Mapping[str, Tensor]) -> None:
        """Put trained weights into a prepared backbone and its conditioning.

        Raises:
            CheckpointError: names or shapes differ.
        """
        own = self.choose(backbone)
        found = {n: v for n, v in weights.items() if not n.startswith(CONDITIONING)}
        odd = sorted(set(own) ^ set(found)) or sorted(
            name for name in own if own[name].shape != found[name].shape
        )
        if odd:
            raise CheckpointError(
                f"The checkpoint and its recipe differ in {len(odd)} weights, the first is "
                f"{odd[0]}; delete the checkpoint's folder and train it with: augment train."
            )
        for name, parameter in own.items():
            parameter.data.copy_(found[name])
        conditioning.load(
            {n.removeprefix(CONDITIONING): v for n, v in weights.items() if n not in found}
        )

    def fuse(self, backbone: nn.Module) -> None:
        """Fold added weights into those that they adapt, where that makes sampling faster."""

    def export(self, backbone: nn.Module, weights: Mapping[str, Tensor], folder: Path) -> None:
        """Write `weights` once more in a form that other tools read, where there is one."""


def unfrozen(backbone: nn.Module) -> dict[str, nn.Parameter]:
    """By name, every weight that is not frozen by nature (a VAE, a text encoder)."""
    frozen = tuple(getattr(backbone, "FROZEN", ()))
    return {
        name: parameter
        for name, parameter in backbone.named_parameters()
        if name.split(".")[0] not in frozen
    }


def pretrained_reason(recipe: Recipe) -> str | None:
    """Why a tuning of pretrained weights can't work, or None."""
    if registry.weight_parts(recipe.backbone.kind):
        return None
    return (
        f"tuning {recipe.tuning.kind!r} moves few weights and keeps the others as they were "
        f"pretrained, and backbone {recipe.backbone.kind!r} starts from random ones; set tuning "
        "to 'full'"
    )


def late_reason(recipe: Recipe, starts: Mapping[str, int]) -> str | None:
    """Why a stage would never begin, or None.

    Args:
        recipe: whose training's length counts.
        starts: where stages begin, by the setting that says so.
    """
    training = recipe.training
    unit = "steps" if training.epochs is None else "epochs"
    length = getattr(training, unit)
    for key, start in starts.items():
        if start >= length:
            return (
                f"tuning.{key} {start} is not before the end of the training (training.{unit} "
                f"{length}), so that stage would never begin; lower it or train longer"
            )
    return None
