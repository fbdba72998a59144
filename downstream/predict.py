"""Runs an exported detector on photographs with onnxruntime alone: no torch, no ultralytics.

    model = load_model(Path("tiles.onnx"))
    print(model.predict(Path("photo.jpg")))

Images are resized exactly as in training, so the predictions are those that were measured.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import onnxruntime
from PIL import Image, ImageOps

from downstream.config import Task
from downstream.errors import OnnxError, one_line

GREY = 114
"""Grey level that a letterboxed image is padded with, as ultralytics does it."""
FLOOR = 0.001
"""Detections of a lower score are not reported at all."""
MOST_DETECTIONS = 100
"""Per image."""


@dataclass(frozen=True)
class Card:
    """What an exported file says of itself, in its metadata.

    Attributes:
        task: what it was trained for.
        classes: class names, in the order of its outputs.
        px: side of its square input in pixels.
        resize: `letterbox` keeps the aspect ratio and pads with grey, `stretch` does not keep it.
        antialias: whether images are smoothed as they are made smaller.
        threshold: score from which a detection counts, chosen on val; None where none was chosen.
    """

    task: Task
    classes: tuple[str, ...]
    px: int
    resize: Literal["letterbox", "stretch"]
    antialias: bool
    threshold: float | None


@dataclass(frozen=True)
class Placement:
    """Where an image lies in the square: its pixel (x, y) is at `scale * (x, y) + offset`."""

    scale: tuple[float, float]
    offset: tuple[int, int]
    size: tuple[int, int]


class Model:
    """An exported detector, loaded; `predict` takes one image, `run` a batch of squares."""

    def __init__(self, session: onnxruntime.InferenceSession, card: Card) -> None:
        self.session, self.card = session, card
        self.names = [output.name for output in session.get_outputs()]

    def run(self, squares: np.ndarray) -> dict[str, np.ndarray]:
        """The file's own outputs for uint8 `squares` of shape (N, px, px, 3), RGB."""
        return dict(zip(self.names, self.session.run(None, {"images": squares}), strict=True))

    def predict(self, image: Path | np.ndarray) -> dict[str, Any]:
        """What is found in one image, a file or uint8 (H, W, 3), RGB.

        Returns:
            Detection: `boxes` (x1, y1, x2, y2 in pixels of the image), `scores`, `classes`, the
            best first. Classification: `probabilities` over the classes. Localisation: `score` of
            the image, and `map`, float32 (H, W), how sure the network is of a defect at each pixel.

        Raises:
            OnnxError: the file can't be read as an image.
        """
        pixels = read_image(image) if isinstance(image, Path) else image
        square, place = to_square(pixels, self.card)
        return self.interpret(self.run(square[None]), [place])[0]

    def interpret(
        self, outputs: dict[str, np.ndarray], places: Sequence[Placement]
    ) -> list[dict[str, Any]]:
        """Outputs of a batch as one prediction an image, as `predict` returns them."""
        if self.card.task == "classification":
            return [{"probabilities": row.tolist()} for row in outputs["probabilities"]]
        if self.card.task == "localisation":
            return [
                {"score": float(score), "map": cv2.resize(each, place.size)}
                for each, score, place in zip(outputs["map"], outputs["score"], places, strict=True)
            ]
        return [_boxes(*pair) for pair in zip(outputs["detections"], places, strict=True)]


def load_model(path: Path, threads: int = 0) -> Model:
    """Load an exported file and read what it says of itself.

    Args:
        path: as `augment export-model` wrote it.
        threads: of onnxruntime; 0 lets it take all cores.

    Raises:
        OnnxError: there is no such file, or it isn't one of ours.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors alone
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        about = session.get_modelmeta().custom_metadata_map
        card = Card(
            task=about["task"],
            classes=tuple(json.loads(about["classes"])),
            px=int(about["px"]),
            resize=about["resize"],
            antialias=json.loads(about["antialias"]),
            threshold=json.loads(about["threshold"]),
        )
    except Exception as fault:
        raise OnnxError(
            f"{path} is no detector that was exported here ({one_line(fault)}); "
            "export one: augment export-model detection/real --onnx"
        ) from None
    return Model(session, card)


def read_image(path: Path) -> np.ndarray:
    """Pixels of an image file as uint8 (H, W, 3), RGB, turned as its EXIF says, what is transparent
    on black: as the import reads it.

    Raises:
        OnnxError: it can't be read as an image, or has more than 8 bit a channel, which the import
            scales by the depth of all photographs together and so can't be told from one.
    """
    try:
        with Image.open(path) as image:
            deep = image.mode in ("I", "F") or any(";16" in str(tile) for tile in image.tile)
            upright = ImageOps.exif_transpose(image)
            if upright.has_transparency_data:
                clear = upright.convert("RGBA")
                upright = Image.alpha_composite(Image.new("RGBA", clear.size, "black"), clear)
            pixels = np.asarray(upright.convert("RGB"))
    except (OSError, ImportError) as fault:  # ultralytics' Image.open asks for a HEIF reader
        raise OnnxError(f"{path} can't be read as an image ({fault}).") from None
    if deep:
        raise OnnxError(
            f"{path} has more than 8 bit a channel; scale it to 8 bit by your camera's depth "
            "first, as the import did."
        )
    return pixels


def to_square(pixels: np.ndarray, card: Card) -> tuple[np.ndarray, Placement]:
    """Bring an image to the square that the network takes, as in its training.

    Args:
        pixels: uint8 (H, W, 3), RGB.
        card: says how.

    Returns:
        uint8 (px, px, 3), and where the image lies in it.
    """
    height, width = pixels.shape[:2]
    px = card.px
    w, h = px, px
    if card.resize == "letterbox":  # sides rounded up, as ultralytics' datasets do
        scale = px / max(height, width)
        w, h = min(-int(-width * scale // 1), px), min(-int(-height * scale // 1), px)
    if (w, h) != (width, height):
        if card.antialias:
            small = Image.fromarray(pixels).resize((w, h), Image.Resampling.BILINEAR)
            pixels = np.asarray(small)
        else:
            pixels = cv2.resize(pixels, (w, h), interpolation=cv2.INTER_LINEAR)
    left, top = round((px - w) / 2 - 0.1), round((px - h) / 2 - 0.1)
    square = np.full((px, px, 3), GREY, dtype=np.uint8)
    square[top : top + h, left : left + w] = pixels
    return square, Placement((w / width, h / height), (left, top), (width, height))


def _boxes(rows: np.ndarray, place: Placement) -> dict[str, Any]:
    """Rows (corners in the square, score, class) as boxes in pixels of the image."""
    rows = rows[rows[:, 4] > FLOOR]
    offset, scale = np.tile(place.offset, 2), np.tile(place.scale, 2)
    boxes = ((rows[:, :4] - offset) / scale).clip(0, np.tile(place.size, 2))
    return {
        "boxes": boxes.tolist(),
        "scores": rows[:, 4].tolist(),
        "classes": rows[:, 5].astype(int).tolist(),
    }
