"""The processes that train together, and the tracker that follows them; both are Accelerate's.

`accelerate launch` starts several processes; each takes its rows of every batch, gradients are
summed, and the first process alone writes files. Without it there is one, and Accelerate is not
even imported.
"""

import importlib.util
import os
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import nn

from generator.errors import RecipeError

_PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}


class Team:
    """This process among those that train together.

    Attributes:
        rank: number of this process.
        count: how many there are.
        device: that this process computes on.
    """

    def __init__(self, tracker: str, folder: Path, config: dict[str, Any]) -> None:
        """Join the others, and start the tracker.

        Args:
            tracker: `none`, `tensorboard`, `wandb` or `mlflow`.
            folder: of the checkpoint; trackers that write files do so in its `tracking/`.
            config: flat settings that the tracker shows beside the run.

        Raises:
            RecipeError: the tracker's package is not installed.
        """
        self.rank, self.count = 0, 1
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._accelerator: Any = None
        self._tracks = tracker != "none"
        if self._tracks and importlib.util.find_spec(_PACKAGES[tracker]) is None:
            raise RecipeError(
                f"training.tracker {tracker!r} needs a package that is not installed; type: "
                f"pip install {_PACKAGES[tracker]}"
            )
        if not self._tracks and not launched():
            return
        from accelerate import Accelerator
        from accelerate.utils import InitProcessGroupKwargs

        accelerator = Accelerator(
            cpu=not torch.cuda.is_available(),
            log_with=tracker if self._tracks else None,
            project_dir=str(folder / "tracking"),
            # The others wait while the first one draws sheets and measures.
            kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(hours=2))],
        )
        self._accelerator = accelerator
        self.rank, self.count = accelerator.process_index, accelerator.num_processes
        self.device = accelerator.device
        if self._tracks:
            accelerator.init_trackers("augmentor", config=config)

    @property
    def leads(self) -> bool:
        """True for the one process that writes files."""
        return self.rank == 0

    def rows(self, size: int) -> slice:
        """This process's rows of a batch of `size`.

        Raises:
            RecipeError: the batch can't be shared evenly.
        """
        if size % self.count:
            raise RecipeError(
                f"A batch of {size} (training.batch_size x accumulation) can't be shared by "
                f"{self.count} processes; set batch_size to a multiple of {self.count}."
            )
        share = size // self.count
        return slice(self.rank * share, (self.rank + 1) * share)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up every parameter's gradient over all processes."""
        if self.count > 1:
            for parameter in parameters:
                if parameter.requires_grad:
                    if parameter.grad is None:
                        parameter.grad = torch.zeros_like(parameter)
                    parameter.grad.copy_(self._accelerator.reduce(parameter.grad, "sum"))

    def sum(self, value: float) -> float:
        """A number added up over all processes."""
        if self.count == 1:
            return value
        tensor = torch.tensor(value, device=self.device, dtype=torch.float64)
        return float(self._accelerator.reduce(tensor, "sum"))

    def wait(self) -> None:
        """Until all processes have come here."""
        if self.count > 1:
            self._accelerator.wait_for_everyone()

    def log(self, values: dict[str, float], step: int) -> None:
        """Tell the tracker."""
        if self._tracks:
            self._accelerator.log(values, step=step)

    def leave(self) -> None:
        """Close the tracker."""
        if self._tracks:
            self._accelerator.end_training()


def launched() -> bool:
    """Whether a launcher started several processes, of which this is one."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1
