"""What a training takes over from an earlier one: which folder that is, and which of its layers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from downstream.config import STARTS, Task
from downstream.detectors.fitting import MODEL, WEIGHTS
from downstream.detectors.networks import KINDS
from downstream.errors import WeightsError, one_line
from downstream.files import read_json

FILES = (".pt", ".yaml", ".yml")
"""Of weights or an architecture that a setting may name instead of a folder."""


def earlier_run(name: str) -> Path | None:
    """The folder of the earlier training that a setting names; None where it names no folder.

    A folder that only happens to be called like a model is none of ours.

    Raises:
        WeightsError: it names one that is not there.
    """
    path = Path(name).expanduser()
    if path.is_dir() and ((path / MODEL).is_file() or path.name != name):
        return path.resolve()
    if path.name != name and path.suffix not in FILES and not path.is_file():
        raise WeightsError(
            f"{path} is not there, from which a training should start; bring it back, or name "
            "another: augment weights use FOLDER"
        )
    return None


def about_run(run: Path, task: Task) -> dict[str, Any]:
    """What an earlier training says of its network, in model.json.

    Raises:
        WeightsError: there is no finished training of this task in `run`.
    """
    about = read_json(run / MODEL)
    whole = (run / "result.json").is_file() and (run / WEIGHTS).is_file()
    if KINDS.get(str(about.get("kind"))) != task or not whole:
        setting, example = STARTS[task]
        raise WeightsError(
            f"{run} holds no finished {setting}; set {setting} to the folder of a {task} run, "
            f"such as one of evaluation/runs/{task}-*, or to a name such as {example}."
        )
    return about


def load_run(build: Callable[[], nn.Module], run: Path, task: Task) -> nn.Module:
    """The network of an earlier training, on the CPU.

    Args:
        build: makes the network that its model.json describes.
        run: its folder.
        task: of both trainings.

    Raises:
        WeightsError: it can't be built, or its weights don't fit.
    """
    try:
        model = build()
        model.load_state_dict(load_file(run / WEIGHTS))
    except Exception as fault:
        setting, example = STARTS[task]
        raise WeightsError(
            f"{run / WEIGHTS} does not fit its {MODEL} ({one_line(fault)}); "
            f"train it again, or set {setting} to a name such as {example}."
        ) from None
    return model


@torch.no_grad()
def take_over(
    model: nn.Module, before: nn.Module, head: str, classes: tuple[str, ...], old: tuple[str, ...]
) -> None:
    """Give a network the layers of an earlier one of the same architecture, and of its last layer
    the rows of the classes that both know.

    Args:
        model: changed in place; what is not taken over stays as it is.
        before: the earlier one.
        head: name of the last layer, a linear one with a row for each class.
        classes: in the order of the rows of `model`.
        old: of those of `before`.
    """
    theirs = before.state_dict()
    own = model.state_dict()
    for name, tensor in own.items():
        if not name.startswith(f"{head}."):
            tensor.copy_(theirs[name])
            continue
        for row, label in enumerate(classes):
            if label in old:
                tensor[row] = theirs[name][old.index(label)]
