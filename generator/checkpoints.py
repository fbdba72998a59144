"""A checkpoint's files: names, states to resume from, and the check that one is whole.

Tensors are safetensors, the rest is JSON; a pickle is never written and never read.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from generator.errors import CheckpointError, WeightsError
from generator.files import sha256_of_file, write_json, write_safetensors
from generator.images import hash_annotation
from generator.records import DefectExample

RECIPE = "recipe.yaml"
WEIGHTS = "weights.safetensors"
DATA = "data.json"
METRICS = "metrics.jsonl"
VALIDATION = "validation.jsonl"
FEATURES = "features"
"""Folder of the feature extractor that validation trains where none is on disk."""
SAMPLES = "samples"
DONE = "done.json"
SHELF = "checkpoints"
"""Folder of the checkpoints in the middle of a training that were asked to be kept."""
LORA, TEXT_LORA = "lora", "text_lora"
CONTROLNET = "controlnet"
INVERSION = "textual_inversion"
EXPORTS = (LORA, TEXT_LORA, CONTROLNET, INVERSION)
"""Folders of what plain diffusers reads: adapters of the denoiser and of the text encoder, a
ControlNet, learnt tokens."""
PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl")


@dataclass(frozen=True)
class State:
    """What resuming needs. `tensors` holds `weight.*`, `average.*`, `optimizer.*` and, for
    fp16, `scaler.*`."""

    key: str
    step: int
    tensors: dict[str, Tensor]

    @classmethod
    def of(
        cls,
        key: str,
        step: int,
        trained: Mapping[str, Tensor],
        average: Mapping[str, Tensor],
        optimizer: torch.optim.Optimizer,
        scaler: Mapping[str, float],
    ) -> "State":
        """The state after `step` steps; it shares memory with what it is taken from."""
        tensors = {f"weight.{name}": p.detach() for name, p in trained.items()}
        tensors |= {f"average.{name}": value for name, value in average.items()}
        for index, slots in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{slot}": value for slot, value in slots.items()}
        tensors |= {f"scaler.{name}": torch.tensor(value) for name, value in scaler.items()}
        return cls(key, step, tensors)

    def restore(
        self,
        trained: Mapping[str, Tensor],
        average: Mapping[str, Tensor],
        optimizer: torch.optim.Optimizer,
    ) -> dict[str, float]:
        """Put the state back where it was taken from. Returns the state of the scaler."""
        slots: dict[int, dict[str, Tensor]] = {}
        owners = list(trained.values())
        with torch.no_grad():
            for name, value in self.tensors.items():
                part, rest = name.split(".", 1)
                if part == "scaler":
                    continue
                if part == "optimizer":
                    index, slot = rest.split(".")
                    if value.ndim:
                        # In the memory layout of its weight, as fused optimisers expect.
                        value = torch.empty_like(owners[int(index)]).copy_(value)
                    slots.setdefault(int(index), {})[slot] = value
                else:
                    (trained if part == "weight" else average)[rest].copy_(value)
        content = optimizer.state_dict()
        optimizer.load_state_dict({"state": slots, "param_groups": content["param_groups"]})
        scaler = {n: v for n, v in self.tensors.items() if n.startswith("scaler.")}
        return {name.removeprefix("scaler."): value.item() for name, value in scaler.items()}


def state_path(folder: Path) -> Path:
    """The one file of the state; one, so that its parts are never of different steps."""
    return folder / "state" / "state.safetensors"


def save_state(folder: Path, state: State) -> None:
    """Write a state, whole or not at all."""
    save_tensors(state_path(folder), state.tensors, {"key": state.key, "step": str(state.step)})


def load_state(folder: Path, key: str) -> State | None:
    """The state that a run of the same inputs left in `folder`, or None.

    A state that can't be read was not written by us; it is treated as one of other inputs.
    """
    path = state_path(folder)
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as stream:
            said = stream.metadata() or {}
            if said.get("key") != key:
                return None
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except SafetensorError:
        return None
    return State(key, int(said["step"]), tensors)


def save_tensors(
    path: Path, tensors: Mapping[str, Tensor], said: dict[str, str] | None = None
) -> None:
    """Write tensors as safetensors, whole or not at all."""
    packed = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_safetensors(path, packed, said)


def save_finished(folder: Path, key: str, steps: int, weights: Mapping[str, Tensor]) -> None:
    """Write the weights, and then the file that vouches for them."""
    save_tensors(folder / WEIGHTS, weights)
    found = sha256_of_file(folder / WEIGHTS)
    write_json(folder / DONE, {"key": key, "weights_sha256": found, "steps": steps})


def clear(folder: Path) -> None:
    """Remove another run's checkpoint, `done.json` first: it vouches for the rest."""
    for name in (DONE, WEIGHTS, METRICS, VALIDATION):
        (folder / name).unlink(missing_ok=True)
    state_path(folder).unlink(missing_ok=True)
    for name in (SAMPLES, SHELF, *EXPORTS):
        shutil.rmtree(folder / name, ignore_errors=True)


def is_done(folder: Path, key: str) -> bool:
    """True if `folder` holds the finished, undamaged checkpoint of the inputs behind `key`."""
    try:
        done = json.loads((folder / DONE).read_text(encoding="utf-8"))
        return bool(
            done["key"] == key and done["weights_sha256"] == sha256_of_file(folder / WEIGHTS)
        )
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError, KeyError):
        return False


def load_weights(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any], str]:
    """Weights, `data.json` and the weights' hash of a finished checkpoint.

    Raises:
        CheckpointError: it is missing, unfinished or damaged.
        WeightsError: the weights are a pickle.
    """
    _refuse_pickle(folder)
    again = "train it with: augment train"
    if not folder.is_dir():
        raise CheckpointError(f"There is no checkpoint {folder}; {again}.")
    if not (folder / DONE).exists():
        raise CheckpointError(f"The training of {folder} has not finished; {again}.")
    try:
        done = json.loads((folder / DONE).read_text(encoding="utf-8"))
        data = json.loads((folder / DATA).read_text(encoding="utf-8"))
        found = sha256_of_file(folder / WEIGHTS)
        if done["weights_sha256"] != found:
            raise CheckpointError(
                f"{folder / WEIGHTS} is not the file that training wrote; delete the folder and "
                f"{again}."
            )
        return load_file(folder / WEIGHTS), data, found
    except (OSError, json.JSONDecodeError, KeyError, SafetensorError) as fault:
        raise CheckpointError(
            f"The checkpoint {folder} is damaged ({fault}); delete the folder and {again}."
        ) from None


def _refuse_pickle(folder: Path) -> None:
    found = [folder] if folder.suffix in PICKLES else []
    if folder.is_dir() and not (folder / WEIGHTS).exists():
        found = sorted(p for p in folder.iterdir() if p.suffix in PICKLES)
    if found:
        raise WeightsError(
            f"{found[0]} is a pickle, which can run code when it is read, so it is refused; on a "
            'machine that you trust it on, convert it with: python -c "import torch, '
            "safetensors.torch as s; "
            f"s.save_file(torch.load('{found[0].name}', weights_only=True), '{WEIGHTS}')\"."
        )


def describe_data(examples: Sequence[DefectExample], classes: Sequence[str]) -> dict[str, Any]:
    """What the weights were trained on: class names in order, and a hash of every example."""
    return {"classes": list(classes), "examples": [_describe(e) for e in examples]}


def _describe(example: DefectExample) -> dict[str, Any]:
    return {
        "id": example.id,
        "sha256": example.sha256,
        "label": example.label,
        "instances": [
            {
                "class": i.class_name,
                "box": list(i.box_xyxy),
                "mask_sha256": hash_annotation(i.mask_path),
            }
            for i in example.instances
        ],
    }
