"""From a finished run to one ONNX file, checked on real photographs before it is left behind.

The file takes uint8 images (N, px, px, 3), RGB, any number at once, and gives

- detection: `detections` (N, up to 100, 6): x1, y1, x2, y2 in pixels of the square, score, class,
  the best first; suppression is part of the graph, and rows of score 0 are empty
- classification: `probabilities` (N, classes)
- localisation: `map` (N, px, px), how sure the network is of a defect at each pixel of the square,
  0 to 1, and `score` (N), the maximum of the map averaged over 21 x 21 px

and its metadata names the classes, the input and how an image is brought there.
"""

import json
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import onnx
import onnxslim
import torch
from onnx import compose, parser

from downstream.detectors.networks import NMS_IOU, Network, load_network
from downstream.errors import OnnxError, one_line
from downstream.files import read_json, write_atomic
from downstream.onnx_check import (
    Latency,
    Parity,
    check_parity,
    check_recorded,
    measure_latency,
)
from downstream.predict import FLOOR, MOST_DETECTIONS, load_model

OPSET = 18
"""The ONNX operator set that files are written in; onnxruntime reads it since 1.14."""
PRODUCER = "augmentor"


@dataclass(frozen=True)
class Exported:
    """A file that was written: where, of what, how near to torch, how fast.

    Attributes:
        path: the file.
        task, classes, px: of the network.
        nodes: in the graph.
        size: of the file, bytes.
        opset: its operator set.
        parity: largest differences to torch, on real images.
        recorded: largest differences to the predictions that the run recorded for these images.
            They may be larger where it was trained on a GPU.
        latency: of onnxruntime beside torch, one image at a time.
    """

    path: Path
    task: str
    classes: tuple[str, ...]
    px: int
    nodes: int
    size: int
    opset: int
    parity: Parity
    recorded: Parity
    latency: Latency

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def export_onnx(
    folder: Path,
    out: Path,
    measured: Sequence[tuple[Path, dict[str, Any]]],
    *,
    threads: int = 1,
    repeats: int = 50,
    tell: Callable[[str], None] = lambda text: None,
    arm: str | None = None,
) -> Exported:
    """Export the network of the run in `folder` to `out`, if it gives there what torch gives.

    Args:
        folder: of a finished run.
        out: file to write; one that this function wrote earlier is replaced.
        measured: photographs to compare on, and to take the time with, each with what the run
            recorded for it; see `onnx_check.measured_images`.
        threads: of torch and of onnxruntime while the time is taken.
        repeats: how often each is timed.
        tell: is told what is being done.
        arm: that the file is named after, where several of the same images share the run.

    Raises:
        OnnxError: the run is unfinished or can't be exported, `out` is somebody else's file, there
            is no image, or the exported network differs from the original (no file is left then).
    """
    images = [path for path, _ in measured]
    if not images:
        raise OnnxError("There is no image to compare on; measure the run again: augment evaluate")
    refuse_foreign(out)
    network = load_network(folder)
    result = read_json(folder / "result.json")
    result |= {"arm": arm or result.get("arm")}
    tell(f"Exporting {network.source} for {network.task}")
    model = to_onnx(network, describe(network, result))
    with tempfile.TemporaryDirectory() as scratch:
        draft = Path(scratch) / "model.onnx"
        onnx.save(model, str(draft))
        tell(f"Comparing with torch on {len(images)} images")
        exported = load_model(draft, threads)
        parity = check_parity(network, exported, images)
        if parity.fault:
            raise OnnxError(
                f"The exported network differs from the original ({parity.fault}), so {out} was "
                "not written; report it with the versions that this prints: augment doctor"
            )
        recorded = check_recorded(exported, measured)
        latency = measure_latency(network, exported, images, threads, repeats)
        write_atomic(out, lambda path: path.write_bytes(draft.read_bytes()))
    return Exported(
        path=out,
        task=network.task,
        classes=network.classes,
        px=network.px,
        nodes=len(model.graph.node),
        size=out.stat().st_size,
        opset=OPSET,
        parity=parity,
        recorded=recorded,
        latency=latency,
    )


def to_onnx(network: Network, about: dict[str, str]) -> onnx.ModelProto:
    """The network as an ONNX model with a free batch dimension, suppression included, slimmed.

    Args:
        network: as rebuilt.
        about: metadata of the file.

    Raises:
        OnnxError: torch can't express the network in ONNX.
    """
    # Two images, since a tracer takes a batch of one for a constant; the older exporter, since the
    # newer one wants another package, and ultralytics' heads are written for this one.
    example = torch.zeros((2, network.px, network.px, 3), dtype=torch.uint8)
    try:
        with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            file = Path(scratch) / "network.onnx"
            torch.onnx.export(
                network.module,
                (example,),
                str(file),
                dynamo=False,
                opset_version=OPSET,
                input_names=["images"],
                output_names=list(network.outputs),
                dynamic_axes={name: {0: "batch"} for name in ("images", *network.outputs)},
            )
            model = onnx.load(str(file))
    except Exception as fault:
        raise OnnxError(
            f"torch can't express {network.source} in ONNX ({one_line(fault)}); "
            "set evaluate.detector to one such as yolo11n and run: augment evaluate"
        ) from fault
    if network.needs_nms:
        with torch.no_grad():
            anchors = network.module(example).shape[2]
        tail = suppression(len(network.classes), anchors, model.ir_version)
        model = compose.merge_models(model, tail, io_map=[("raw", "raw_boxes")])
    model = onnxslim.slim(model)
    model.producer_name = PRODUCER
    onnx.helper.set_model_props(model, about)
    onnx.checker.check_model(model, full_check=True)
    return model


def suppression(n_classes: int, anchors: int, ir_version: int) -> onnx.ModelProto:
    """Non-maximum suppression class by class, as a graph to be put behind a YOLO network.

    From (N, 4 + classes, anchors), boxes as centre and size, to (N, k, 6): corners, score, class,
    the k best of what is left; where less is left, the score is 0. What isn't kept gets the score
    0 and then the k best are taken, so that the batch dimension stays free. A box of negative size,
    as an untrained head may give it, overlaps with nothing in torch; ONNX would turn it round.
    """
    most = min(MOST_DETECTIONS, n_classes * anchors)
    return parser.parse_model(f"""
        <ir_version: {ir_version}, opset_import: ["": {OPSET}]>
        suppression (float[batch, {4 + n_classes}, {anchors}] raw_boxes)
            => (float[batch, {most}, 6] detections)
        <int64[2] parts = {{4, {n_classes}}}, float two = {{2}}, int64 most_per_class = {{{most}}},
         float overlap = {{{NMS_IOU}}}, float floor = {{{FLOOR}}}, int64[2] rows = {{0, -1}},
         int64[1] k = {{{most}}}, int64 anchors = {{{anchors}}}, int64[1] last = {{2}}>
        {{
            centres_and_sizes, scores = Split <axis = 1> (raw_boxes, parts)
            boxes = Transpose <perm = [0, 2, 1]> (centres_and_sizes)
            centre, size = Split <axis = 2, num_outputs = 2> (boxes)
            half = Div (size, two)
            low = Sub (centre, half)
            high = Add (centre, half)
            corners = Concat <axis = 2> (low, high)
            not_below_low = Max (low, high)
            never_inside_out = Concat <axis = 2> (low, not_below_low)
            kept = NonMaxSuppression (never_inside_out, scores, most_per_class, overlap, floor)
            kept_scores = GatherND (scores, kept)
            nothing = Sub (scores, scores)
            sparse = ScatterND (nothing, kept, kept_scores)
            flat = Reshape (sparse, rows)
            best, index = TopK (flat, k)
            class = Div (index, anchors)
            anchor = Mod (index, anchors)
            anchor_column = Unsqueeze (anchor, last)
            best_corners = GatherND <batch_dims = 1> (corners, anchor_column)
            best_column = Unsqueeze (best, last)
            class_float = Cast <to = 1> (class)
            class_column = Unsqueeze (class_float, last)
            detections = Concat <axis = 2> (best_corners, best_column, class_column)
        }}
    """)


def describe(network: Network, result: dict[str, Any]) -> dict[str, str]:
    """Metadata of the file: what it is, and how an image is brought to it."""
    resize = {
        "letterbox": "longer side to px, shorter side padded on both sides with grey 114",
        "stretch": "both sides to px, the aspect ratio is not kept",
    }
    smooth = "smoothed when made smaller" if network.antialias else "not smoothed"
    return {
        "task": network.task,
        "classes": json.dumps(network.classes),
        "px": str(network.px),
        "resize": network.resize,
        "antialias": json.dumps(network.antialias),
        "threshold": json.dumps(result.get("threshold")),
        "preprocessing": f"uint8 RGB, {resize[network.resize]}, bilinear, {smooth}; scaling to "
        "0 .. 1 and normalising are part of the graph",
        "outputs": "detections" if network.needs_nms else ", ".join(network.outputs),
        "source": network.source,
        "run": json.dumps({key: result.get(key) for key in ("key", "arm", "seed", "steps")}),
        "licence": "AGPL-3.0, in Ultralytics' reading (see docs/licences.md)"
        if network.task == "detection"
        else "that of the images it was trained on",
    }


def refuse_foreign(out: Path) -> None:
    """Refuse to write over a file that was not written here.

    Raises:
        OnnxError: `out` is a folder, or a file of another origin.
    """
    if out.is_dir():
        raise OnnxError(f"{out} is a folder; name a file: --out {quote(str(out / 'model.onnx'))}")
    if not out.exists():
        return
    try:
        ours = onnx.load(str(out), load_external_data=False).producer_name == PRODUCER
    except Exception:  # protobuf's own errors, of no common kind
        ours = False
    if not ours:
        raise OnnxError(
            f"{out} exists and was not written by Augmentor; move it away or name another file "
            "with --out."
        )
