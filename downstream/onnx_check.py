"""Is an exported network the original? And how fast is each, measured side by side?"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
import torch

from downstream.dataset import Split, read_export
from downstream.detectors.networks import NMS_IOU, Network, read_about
from downstream.errors import ExportError, OnnxError, one_line
from downstream.files import read_json
from downstream.predict import FLOOR, MOST_DETECTIONS, Model, Placement, read_image, to_square

TOLERANCE = {"probabilities": 1e-3, "map": 1e-3, "score": 1e-3, "boxes": 0.1, "scores": 1e-3}
"""Largest differences that pass, of float32 sums in another order through some hundred layers:
shares and scores as they are, boxes in pixels."""
BATCH = 8


@dataclass(frozen=True)
class Parity:
    """How far an exported network is from the original, on real images.

    Attributes:
        images: how many were compared.
        differences: by name of what was compared, the largest absolute difference.
        found: detections of the original that were compared; 0 for other tasks.
        lost: detections of either that the other lacks.
    """

    images: int
    differences: dict[str, float]
    found: int
    lost: int

    @property
    def fault(self) -> str:
        """What is wrong, in words; '' where every difference is within `TOLERANCE`."""
        faults = [
            f"{name} by {value:.2g}, more than {TOLERANCE[name]:g}"
            for name, value in self.differences.items()
            if not value <= TOLERANCE[name]  # NaN is a fault too
        ]
        if self.lost:
            faults.append(f"{self.lost} of {self.found} detections have no counterpart")
        return ", ".join(faults)

    def __str__(self) -> str:
        """The largest differences in words."""
        gaps = [
            f"{name} within {value:.1g}{' px' * (name == 'boxes')}"
            for name, value in self.differences.items()
        ]
        compared = f"{self.images} images" + f", {self.found} detections" * bool(self.found)
        return f"{', '.join(gaps) or 'nothing found by either'} ({compared})"


@dataclass(frozen=True)
class Latency:
    """Milliseconds for one image, with suppression, without reading and resizing it."""

    threads: int
    repeats: int
    onnx_median_ms: float
    onnx_p95_ms: float
    torch_median_ms: float
    torch_p95_ms: float

    @property
    def speedup(self) -> float:
        """How many times as fast onnxruntime is, by the medians."""
        return self.torch_median_ms / self.onnx_median_ms


def measured_images(folder: Path, export: Path, most: int) -> list[tuple[Path, dict[str, Any]]]:
    """Images that a run was measured on, evenly taken, each with what the run predicted for it.

    They are those of test, or of val where the run has not seen test.

    Args:
        folder: of a finished run.
        export: the training export that it was measured on.
        most: how many are wanted.

    Raises:
        OnnxError: the run is unfinished, or the export no longer holds the images that it was
            measured on.
        ExportError: the export is faulty.
    """
    read_about(folder)
    split: Split = "test" if (folder / "predictions-test.json").is_file() else "val"
    try:
        rows = json.loads((folder / f"predictions-{split}.json").read_text(encoding="utf-8"))
        seen = {line[0] for line in read_json(folder / "config.json")[split]}
        ids = [row["id"] for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise OnnxError(
            f"The run in {folder} is damaged ({one_line(fault)}); train it again: rm -r "
            f"{quote(str(folder))} && augment evaluate"
        ) from None
    try:
        whole = read_export(export, "val" if split == "val" else "val+test")
    except ExportError as fault:
        raise ExportError(f"{fault} Write it again: augment evaluate") from None
    items = {item.id: item for item in whole.items(split)}
    if any(name not in items or items[name].sha256 not in seen for name in ids):
        raise OnnxError(
            f"{export} no longer holds the {split} images that {folder.name} was measured on; "
            "measure again: augment evaluate"
        )
    step = max(1, -(-len(rows) // most))
    return [(items[row["id"]].image, row) for row in rows[::step]]


def check_parity(network: Network, model: Model, images: Sequence[Path]) -> Parity:
    """Compare the exported network with the original on whole images.

    Every detection that the original reports must have one of the same class in the exported one,
    and the other way round, of the same score and place. Two may differ by the order of additions:
    one whose score is at the floor, and of two boxes that overlap by just about the limit the
    weaker one; those are passed over.
    """
    gaps = _Gaps()
    for start in range(0, len(images), BATCH):
        squares, _ = load_squares(images[start : start + BATCH], model)
        ours, theirs = reference(network, squares), model.run(squares)
        for name, value in ours.items():
            for a, b in zip(value, theirs[name], strict=True):
                gaps.add(name, a, b)
    return gaps.parity(len(images))


def check_recorded(model: Model, measured: Sequence[tuple[Path, dict[str, Any]]]) -> Parity:
    """Compare what an exported network predicts with what its run recorded when it was measured.

    Args:
        model: the exported network.
        measured: images, and for each its entry in the run's predictions.
    """
    gaps = _Gaps()
    for path, recorded in measured:
        found = model.predict(path)
        if model.card.task == "detection":
            gaps.add("detections", _rows(recorded), _rows(found))
            continue
        for name in found.keys() & recorded.keys():
            gaps.add(name, np.array(recorded[name]), np.array(found[name]))
    return gaps.parity(len(measured))


class _Gaps:
    """Collects the largest differences."""

    def __init__(self) -> None:
        self.worst: dict[str, float] = {}
        self.found = self.lost = 0

    def add(self, name: str, ours: np.ndarray, theirs: np.ndarray) -> None:
        """Take one image's outputs called `name`, of the original and of the exported network."""
        if name != "detections":
            self._see(name, float(np.abs(ours - theirs).max()))
            return
        boxes, scores, lost = compare_detections(ours, theirs)
        self.found += int((ours[:, 4] > FLOOR).sum())
        self.lost += lost
        self._see("boxes", boxes)
        self._see("scores", scores)

    def _see(self, name: str, gap: float) -> None:
        self.worst[name] = max(self.worst.get(name, 0.0), gap) if gap == gap else gap

    def parity(self, images: int) -> Parity:
        """What was collected."""
        return Parity(images, self.worst, self.found, self.lost)


def _rows(prediction: dict[str, Any]) -> np.ndarray:
    """A prediction's boxes as rows (corners, score, class)."""
    boxes = np.array(prediction["boxes"], dtype=np.float64).reshape(-1, 4)
    return np.column_stack([boxes, prediction["scores"], prediction["classes"]])


def load_squares(images: Sequence[Path], model: Model) -> tuple[np.ndarray, list[Placement]]:
    """Images as the network takes them, uint8 (N, px, px, 3), and where each lies in its square."""
    pairs = [to_square(read_image(path), model.card) for path in images]
    return np.stack([square for square, _ in pairs]), [place for _, place in pairs]


@torch.no_grad()
def reference(network: Network, squares: np.ndarray) -> dict[str, np.ndarray]:
    """What torch, with ultralytics' own suppression, gives for uint8 (N, px, px, 3)."""
    given = network.module(torch.from_numpy(squares))
    outputs = given if isinstance(given, tuple) else (given,)
    if not network.needs_nms:
        return {name: v.numpy() for name, v in zip(network.outputs, outputs, strict=True)}
    return {"detections": _suppressed(outputs[0])}


def _suppressed(raw: torch.Tensor) -> np.ndarray:
    from ultralytics.utils.nms import non_max_suppression

    rows = np.zeros((len(raw), MOST_DETECTIONS, 6), dtype=np.float32)
    # one by one: after some seconds it leaves what is left of a batch without a box
    for image, one in zip(rows, raw.split(1), strict=True):
        (found,) = non_max_suppression(
            one, FLOOR, NMS_IOU, multi_label=True, max_det=MOST_DETECTIONS
        )
        image[: len(found)] = found[:, :6].numpy()
    return rows


def compare_detections(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float, int]:
    """Pair the detections of one image.

    Args:
        ours, theirs: (K, 6): corners in pixels, score, class; rows of score 0 are empty.

    Returns:
        The largest difference of a corner (pixels) and of a score among the pairs, and how many
        detections have no counterpart though they should.
    """
    sides = [rows[rows[:, 4] > FLOOR] for rows in (ours, theirs)]
    boxes = scores = 0.0
    left = np.ones(len(sides[1]), dtype=bool)  # not yet paired
    alone = []
    for row in sides[0]:
        gap = np.abs(sides[1] - row)
        near = left & (gap[:, 5] == 0) & (gap[:, 4] <= TOLERANCE["scores"])
        near &= gap[:, :4].max(axis=1) <= TOLERANCE["boxes"]
        if not near.any():
            alone.append(row)
            continue
        best = int(np.flatnonzero(near)[np.argmin(gap[near, :5].sum(axis=1))])
        left[best] = False
        boxes, scores = max(boxes, float(gap[best, :4].max())), max(scores, float(gap[best, 4]))
    lost = [r for r in alone if not _at_the_edge(r, sides)]
    lost += [r for r in sides[1][left] if not _at_the_edge(r, sides)]
    return boxes, scores, len(lost)


def _at_the_edge(row: np.ndarray, sides: Sequence[np.ndarray]) -> bool:
    """Whether rounding alone decides if a detection is reported."""
    slack = 2 * TOLERANCE["scores"]
    full = [side[:, 4].min() for side in sides if len(side) >= MOST_DETECTIONS]
    if row[4] <= max([FLOOR, *full]) + slack:
        return True
    for side in sides:
        own = side[side[:, 5] == row[5]]
        if (np.abs(_iou(row, own) - NMS_IOU) < 1e-3).any():
            return True
    return False


def _iou(row: np.ndarray, others: np.ndarray) -> np.ndarray:
    from torchvision.ops import box_iou

    each = torch.from_numpy(np.ascontiguousarray(others[:, :4]))
    return box_iou(torch.from_numpy(row[None, :4].copy()), each)[0].numpy()


def measure_latency(
    network: Network, model: Model, images: Sequence[Path], threads: int, repeats: int
) -> Latency:
    """Time both on one image at a time, in turn, so that a busy machine slows both alike."""
    squares, _ = load_squares(images[:BATCH], model)
    runs: tuple[Callable[[np.ndarray], object], ...] = (
        lambda square: reference(network, square),
        model.run,
    )
    taken: tuple[list[float], list[float]] = ([], [])
    with _threads(threads):
        for k in range(-3, repeats):  # the first three warm up
            square = squares[k % len(squares)][None]
            for run, times in zip(runs, taken, strict=True):
                started = time.perf_counter()
                run(square)
                if k >= 0:
                    times.append(1000 * (time.perf_counter() - started))
    torch_ms, onnx_ms = (np.array(times) for times in taken)
    return Latency(
        threads=threads,
        repeats=repeats,
        onnx_median_ms=float(np.median(onnx_ms)),
        onnx_p95_ms=float(np.percentile(onnx_ms, 95)),
        torch_median_ms=float(np.median(torch_ms)),
        torch_p95_ms=float(np.percentile(torch_ms, 95)),
    )


@contextmanager
def _threads(number: int) -> Iterator[None]:
    kept = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(kept)
