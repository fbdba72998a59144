"""A feature extractor that is trained on the project's own train split, without any download.

A small residual network learns to tell the windows of the defect classes and the bare surface
apart, under strong changes of pose, light and noise; its features are the averages of its three
levels. Beside the network of all train images there are `FOLDS` more, each trained without one
part of them: what is measured on that part with them is measured as on new images. (With the
network of all images, real defects that it has seen lie closer together than new ones will.)
"""

import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from generator.canvas import to_canvas, to_tensor
from generator.checkpoints import save_tensors
from generator.errors import TrainingError
from generator.files import sha256_of, write_json
from generator.quality.windows import FOLDS, Window, real_windows
from generator.records import GOOD, DefectExample

VERSION = 1
"""Raised whenever the same examples would lead to other features than before."""

CANVAS_PX = 48
STEPS = 240
BATCH_SIZE = 48
CHANNELS = (16, 32, 64, 128)
RATE = 3e-3
WARMUP_STEPS = 15
DESCRIPTION = "extractor.json"

Progress = Callable[[int, int, float], None]


class _Block(nn.Module):
    """A residual block (He et al., 1512.03385) that halves the grid."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, 2, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(after)
        self.second = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(after)
        self.skip = nn.Conv2d(before, after, 1, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.first_norm(self.first(x)))
        return F.relu(self.second_norm(self.second(y)) + self.skip(x))


class FeatureNet(nn.Module):
    """(B, 3, S, S) pixels in [-1, 1] -> one (B, C) average for each level; 0.3 million weights."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, CHANNELS[0], 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(CHANNELS[0])
        self.blocks = nn.ModuleList(_Block(*pair) for pair in itertools.pairwise(CHANNELS))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.relu(self.norm(self.stem(x)))
        levels = []
        for block in self.blocks:
            x = block(x)
            levels.append(x.mean(dim=(2, 3)))
        return levels


class OwnExtractor:
    """See the module and `generator.quality.features.Extractor`."""

    dimensions = sum(CHANNELS[1:])

    def __init__(self, fingerprint: str, nets: Sequence[FeatureNet], used: int = 0) -> None:
        """`nets` are the one of all images, then those without fold 0, 1, ...; `used` is the one
        that embeds."""
        self.fingerprint = fingerprint
        self.name = f"own-{fingerprint[:8]}"
        self._nets = tuple(nets)
        self._net = nets[used]

    def without(self, fold: int) -> "OwnExtractor":
        """The extractor that never saw the images of a fold."""
        return OwnExtractor(self.fingerprint, self._nets, fold + 1)

    def embed(self, images: Sequence[np.ndarray], batch_size: int = 64) -> np.ndarray:
        """See `Extractor.embed`."""
        parts = [np.zeros((0, self.dimensions), np.float32)]
        with one_thread(), torch.no_grad():
            for first in range(0, len(images), batch_size):
                canvases = [to_canvas(i, CANVAS_PX) for i in images[first : first + batch_size]]
                levels = [F.normalize(level, dim=1) for level in self._net(_prepare(canvases))]
                parts.append(F.normalize(torch.cat(levels, dim=1), dim=1).numpy())
        return np.concatenate(parts)


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums of floats depend on the number of threads; features must not."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def own_fingerprint(examples: Sequence[DefectExample], classes: Sequence[str], seed: int) -> str:
    """Hash of everything that the weights follow from."""
    real = sorted(
        (e.sha256, e.group or "", e.label, [(i.class_name, i.box_xyxy) for i in e.instances])
        for e in examples
    )
    settings = [VERSION, CANVAS_PX, STEPS, BATCH_SIZE, CHANNELS, RATE, WARMUP_STEPS, FOLDS]
    return sha256_of([settings, real, list(classes), seed])


def open_own(
    examples: Sequence[DefectExample],
    classes: Sequence[str],
    folder: Path,
    *,
    seed: int = 0,
    on_step: Progress | None = None,
) -> OwnExtractor:
    """Read the project's own extractor from `folder`, or train what is missing of it.

    Each network is written when it is finished, so that a run that is killed and repeated trains
    only the rest, with the same result.

    Args:
        examples: of the train split.
        classes: defect classes.
        folder: holds `own-<8 hex digits>/` for each set of examples.
        seed: of weights, batches and folds.
        on_step: called after each step with its number, how many there are, and the loss.

    Raises:
        ExampleError: an image can't be read.
        TrainingError: there is no defect to learn from, or the loss stopped being a number.
    """
    fingerprint = own_fingerprint(examples, classes, seed)
    home = folder / f"own-{fingerprint[:8]}"
    windows: list[Window] = []
    nets = []
    total = (FOLDS + 1) * STEPS
    for number in range(FOLDS + 1):
        path = home / ("all.safetensors" if number == 0 else f"without-{number - 1}.safetensors")
        net = _load(path)
        if net is None:
            windows = windows or real_windows(examples, classes, seed)
            seen = [w for w in windows if w.fold != number - 1 or number == 0]
            net = _train(seen, classes, seed, _shifted(on_step, number * STEPS, total))
            save_tensors(path, net.state_dict())
        nets.append(net.eval())
    description = {"fingerprint": fingerprint, "classes": list(classes), "seed": seed}
    if not (home / DESCRIPTION).is_file():
        write_json(home / DESCRIPTION, description | {"version": VERSION, "steps": STEPS})
    return OwnExtractor(fingerprint, nets)


def _load(path: Path) -> FeatureNet | None:
    """The network in a file; None where there is none, or what is there can't be read."""
    if not path.is_file():
        return None
    net = FeatureNet()
    try:
        net.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError, json.JSONDecodeError):
        return None
    return net


def _shifted(on_step: Progress | None, done: int, total: int) -> Progress | None:
    if on_step is None:
        return None
    return lambda step, _, loss: on_step(done + step, total, loss)


def _train(
    windows: Sequence[Window], classes: Sequence[str], seed: int, on_step: Progress | None
) -> FeatureNet:
    """Cross-entropy with balanced classes and smoothed labels (Szegedy et al., 1512.00567)."""
    names = [*classes, GOOD]
    pixels = _prepare([to_canvas(w.pixels, CANVAS_PX) for w in windows])
    labels = torch.tensor([names.index(w.class_name) for w in windows])
    counts = torch.bincount(labels, minlength=len(names)).double()
    if not counts[:-1].any():
        raise TrainingError("There is no defect example to learn from; import a folder with some.")
    chance = 1 / counts[labels]
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = FeatureNet().to(memory_format=torch.channels_last).train()
        head = nn.Linear(sum(CHANNELS[1:]), len(names))
        weights = [*net.parameters(), *head.parameters()]
        optimizer = torch.optim.AdamW(weights, lr=RATE, weight_decay=0.05)
        rng = torch.Generator().manual_seed(seed)
        for step in range(STEPS):
            cosine = 0.5 + 0.5 * math.cos(math.pi * step / STEPS)
            for group in optimizer.param_groups:
                group["lr"] = RATE * min(1, (step + 1) / WARMUP_STEPS) * cosine
            drawn = torch.multinomial(chance, BATCH_SIZE, replacement=True, generator=rng)
            batch = _vary(pixels[drawn], rng).contiguous(memory_format=torch.channels_last)
            logits = head(torch.cat(net(batch), dim=1))
            loss = F.cross_entropy(logits, labels[drawn], label_smoothing=0.05)
            if not torch.isfinite(loss):
                raise TrainingError(
                    f"The feature extractor's loss is {loss.item()} at step {step + 1}; check the "
                    "images with: augment import"
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            if on_step is not None:
                on_step(step + 1, STEPS, float(loss.detach()))
    return net


def _prepare(canvases: Sequence[np.ndarray]) -> Tensor:
    """(S, S, 3) uint8 canvases -> (B, 3, S, S) float32 in [-1, 1]."""
    return to_tensor(np.stack(canvases))


def _vary(pixels: Tensor, rng: torch.Generator) -> Tensor:
    """Turn, mirror, scale and shift; then change gain, offset and noise."""
    count = len(pixels)

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return torch.empty(count, *shape).uniform_(low, high, generator=rng)

    angle = torch.randint(4, (count,), generator=rng) * (math.pi / 2) + draw(-0.26, 0.26)
    scale = torch.exp(draw(-0.3, 0.3))
    mirror = torch.where(draw(0, 1) < 0.5, 1.0, -1.0)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    top = torch.stack([cos * mirror, -sin, draw(-0.2, 0.2)], dim=1)
    below = torch.stack([sin * mirror, cos, draw(-0.2, 0.2)], dim=1)
    grid = F.affine_grid(torch.stack([top, below], dim=1), list(pixels.shape), align_corners=False)
    moved = F.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)
    lit = moved * torch.exp(draw(-0.25, 0.25, 1, 1, 1)) + draw(-0.25, 0.25, 1, 1, 1)
    noise = torch.randn(pixels.shape, generator=rng) * draw(0, 0.04, 1, 1, 1)
    return lit + noise
