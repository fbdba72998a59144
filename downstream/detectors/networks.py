"""Rebuilds the network of a finished run from `model.json` and `weights.safetensors`.

A rebuilt network takes photographs as they are, uint8 RGB of shape (N, px, px, 3), so that whoever
runs it elsewhere can't forget a normalisation; the layers that normalise are part of it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch import nn

from downstream.config import Task
from downstream.detectors.fitting import MODEL, WEIGHTS
from downstream.errors import OnnxError, one_line
from downstream.files import read_json
from downstream.predict import MOST_DETECTIONS

NMS_IOU = 0.7
"""Of two detections of one class that overlap by more, the weaker one goes: ultralytics' default,
which the measured predictions were made with."""

KINDS: dict[str, Task] = {
    "ultralytics-detect": "detection",
    "torchvision-classify": "classification",
    "unet-localise": "localisation",
}
"""By `kind` in model.json, the task that a network was trained for."""


@dataclass(frozen=True)
class Network:
    """A trained network and what must be known to run it.

    Attributes:
        task: what it was trained for.
        module: from uint8 images (N, px, px, 3), RGB, to the tensors named in `outputs`.
        outputs: names of what `module` gives, in its order.
        classes: in the order of the network's outputs.
        px: side of the square that images are brought to, in pixels.
        resize: `letterbox` keeps the aspect ratio and pads with grey, `stretch` does not keep it.
        antialias: whether images are smoothed as they are made smaller (Pillow's bilinear filter)
            or not (OpenCV's).
        needs_nms: the one output is `raw`, (N, 4 + classes, anchors), boxes as centre and size.
        source: the architecture's name.
    """

    task: Task
    module: nn.Module
    outputs: tuple[str, ...]
    classes: tuple[str, ...]
    px: int
    resize: Literal["letterbox", "stretch"]
    antialias: bool
    needs_nms: bool
    source: str


def load_network(folder: Path) -> Network:
    """Rebuild the network that a run left in `folder`, in evaluation mode, on the CPU.

    Raises:
        OnnxError: there is no finished run, or no such network is known or can be rebuilt.
    """
    about = read_about(folder)
    try:
        return build_network(about, load_file(folder / WEIGHTS))
    except (OSError, ValueError, RuntimeError) as fault:
        raise OnnxError(
            f"{folder / WEIGHTS} does not fit its {MODEL} "
            f"({one_line(fault)}); delete {folder} and run: augment evaluate"
        ) from None


def build_network(about: dict[str, Any], state: dict[str, torch.Tensor] | None = None) -> Network:
    """Build the network that `about`, the content of a model.json, describes.

    Args:
        about: with `kind`, one of `KINDS`.
        state: its weights; None leaves them random.

    Raises:
        OnnxError: the network can't be rebuilt, or has a head that can't be exported.
        RuntimeError: the weights don't fit.
    """
    build = {
        "ultralytics-detect": _detector,
        "torchvision-classify": _classifier,
        "unet-localise": _localiser,
    }[about["kind"]]
    bare, wrap, rest = build(about)
    if state is not None:
        bare.load_state_dict(state)
    return Network(
        task=KINDS[about["kind"]],
        module=wrap(bare.float()).eval().requires_grad_(False),
        classes=tuple(about["classes"]),
        px=int(about["px"]),
        source=str(about.get("source", about["kind"])),
        **rest,
    )


def read_about(folder: Path) -> dict[str, Any]:
    """What `model.json` of a run says of its network.

    Raises:
        OnnxError: there is none, or it is of a kind that can't be exported.
    """
    path = folder / MODEL
    if not (folder / "result.json").is_file() or not path.is_file():
        raise OnnxError(f"The run in {folder} is not finished; finish it: augment evaluate")
    about = read_json(path)
    if about.get("kind") not in KINDS:
        raise OnnxError(
            f"{path} holds a network of the kind {about.get('kind')!r}, which can't be exported "
            f"(known: {', '.join(KINDS)}); train one of those: augment evaluate"
        )
    return about


class _Pixels(nn.Module):
    """From uint8 (N, H, W, 3) to float (N, 3, H, W), as the network was trained to see it."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (images.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std


class _Classify(nn.Module):
    def __init__(self, net: nn.Module, pixels: _Pixels) -> None:
        super().__init__()
        self.net, self.pixels = net, pixels

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.net(self.pixels(images)).softmax(dim=1)


class _Localise(nn.Module):
    """Of every pixel of the square the share that says defect, and the image's score."""

    def __init__(self, net: nn.Module, pixels: _Pixels) -> None:
        super().__init__()
        self.net, self.pixels = net, pixels

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        from downstream.detectors.unet import image_score

        maps = self.net(self.pixels(images)).sigmoid()[:, 0]
        return maps, image_score(maps)


class _Detect(nn.Module):
    """`raw` of a YOLO, its boxes not yet suppressed; of an RT-DETR `detections`, (N, K, 6):
    corners in pixels of the square, score, class."""

    def __init__(self, net: nn.Module, px: int, *, rtdetr: bool) -> None:
        super().__init__()
        self.net, self.px, self.rtdetr = net, px, rtdetr

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = self.net(images.permute(0, 3, 1, 2).float() / 255)
        found = found[0] if isinstance(found, tuple | list) else found
        if not self.rtdetr:
            return found
        # Centres and sizes as shares of the image, then score and class, the best first.
        centre, half = found[..., :2] * self.px, found[..., 2:4] * self.px / 2
        rows = torch.cat([centre - half, centre + half, found[..., 4:6]], dim=-1)
        return rows[:, :MOST_DETECTIONS]


Built = tuple[nn.Module, Any, dict[str, Any]]
"""The bare network, what wraps it once its weights are loaded, and the rest of its `Network`."""


def is_rtdetr(source: object) -> bool:
    """Whether a detector is a transformer, which ultralytics builds and trains by other classes."""
    return "rtdetr" in Path(str(source)).name.lower()


def bare_detector(about: dict[str, Any]) -> Any:
    """Ultralytics' own network that `about` describes, with random weights; whatever it raises."""
    from ultralytics.nn.tasks import DetectionModel, RTDETRDetectionModel

    build = RTDETRDetectionModel if is_rtdetr(about["source"]) else DetectionModel
    return build(about["yaml"], nc=len(about["classes"]), verbose=False)


def _detector(about: dict[str, Any]) -> Built:
    from ultralytics.nn.modules.head import Detect, RTDETRDecoder

    try:
        net = bare_detector(about)
    except Exception as fault:
        raise OnnxError(
            f"ultralytics can't rebuild {about['source']} ({one_line(fault)}); install the version "
            "that config.json of the run names, or run: augment evaluate"
        ) from fault
    rtdetr = is_rtdetr(about["source"])
    head = net.model[-1]
    if not isinstance(head, Detect | RTDETRDecoder):
        raise OnnxError(
            f"{about['source']} has the head {type(head).__name__}, which can't be exported; set "
            "evaluate.detector to one such as yolo11n and run: augment evaluate"
        )
    # In export mode the head gives its decoded boxes alone, without what the losses need.
    net.model[-1].export, net.model[-1].format = True, "onnx"
    # A head with a second branch that needs no suppression (yolo26) is measured by its first one.
    rest = {
        "outputs": ("detections",) if rtdetr else ("raw",),
        "resize": "stretch" if rtdetr else "letterbox",
        "antialias": False,
        "needs_nms": not rtdetr,
    }
    return net, lambda n: _Detect(n, int(about["px"]), rtdetr=rtdetr), rest


def bare_classifier(source: str, n_classes: int | None = None) -> Any:
    """Torchvision's network of that name with random weights, for `n_classes` or as it is."""
    import torchvision

    net = torchvision.models.get_model(source, weights=None)
    if n_classes is not None:
        net.fc = nn.Linear(net.fc.in_features, n_classes)
    return net


def _classifier(about: dict[str, Any]) -> Built:
    net = bare_classifier(about["source"], len(about["classes"]))
    pixels = _Pixels(tuple(about["mean"]), tuple(about["std"]))
    rest = {"outputs": ("probabilities",), "resize": "stretch", "antialias": True}
    rest["needs_nms"] = False
    return net, lambda n: _Classify(n, pixels), rest


def _localiser(about: dict[str, Any]) -> Built:
    from downstream.detectors.unet import build_unet

    pixels = _Pixels(tuple(about["mean"]), tuple(about["std"]))
    rest = {"outputs": ("map", "score"), "resize": "stretch", "antialias": True}
    rest["needs_nms"] = False
    return build_unet(about), lambda n: _Localise(n, pixels), rest
