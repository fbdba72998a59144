"""Feature extractors that the tests have learnt already.

An extractor takes a minute to learn and follows from its windows, classes and seed alone. Many
tests need the one of the same few pictures, in a folder of their own each: it is learnt in the
first of them, by the real code, and read from there in the others.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file

from generator.checkpoints import save_tensors
from generator.quality import own_features
from generator.quality.own_features import FeatureNet, Progress
from generator.quality.windows import Window

learn = own_features._train


def learn_once(folder: Path) -> None:
    """From now on keep what is learnt in `folder`, which processes of the tests may share."""

    def read_or_learn(
        windows: Sequence[Window], classes: Sequence[str], seed: int, on_step: Progress | None
    ) -> FeatureNet:
        path = folder / f"{_key(windows, classes, seed)}.safetensors"
        if path.is_file():
            with torch.random.fork_rng(devices=[]):
                net = FeatureNet().to(memory_format=torch.channels_last)
            net.load_state_dict(load_file(path))
            return net.train()
        net = learn(windows, classes, seed, on_step)
        save_tensors(path, net.state_dict())
        return net

    own_features._train = read_or_learn


def _key(windows: Sequence[Window], classes: Sequence[str], seed: int) -> str:
    found = hashlib.sha256(repr((own_features.STEPS, list(classes), seed)).encode())
    for window in windows:
        found.update(repr((window.class_name, window.pixels.shape)).encode())
        found.update(window.pixels.tobytes())
    return found.hexdigest()
