"""onnxruntime beside torch: the three detectors at their default sizes, as a table.

    python benchmarks/onnx_latency.py [--repeats 100] [--threads N]

Each network has random weights, which take the same time as trained ones; both engines see the
same images in turn, one at a time, so that a busy machine slows both alike. The times hold what a
deployed detector does to a square of pixels: scaling, the network and, for detection, suppression.
"""

import argparse
import os
import tempfile
from importlib.metadata import version
from pathlib import Path


def main() -> None:
    """Time each network and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=100, help="images timed with each engine")
    cores = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    parser.add_argument("--threads", type=int, default=cores, help="of torch and of onnxruntime")
    given = parser.parse_args()
    print(
        f"{os.cpu_count()} cores, {given.threads} threads, load {os.getloadavg()[0]:.1f} at the "
        f"start, torch {version('torch')}, onnxruntime {version('onnxruntime')}"
    )
    print(
        f"{'task':<16}{'network':<14}{'px':>5}{'MB':>7}{'torch ms':>10}{'p95':>8}"
        f"{'onnx ms':>10}{'p95':>8}{'ratio':>8}"
    )
    for task, about in networks().items():
        print(row(task, about, given), flush=True)


def networks() -> dict[str, dict[str, object]]:
    """By task, the model.json of the network that `augment evaluate` trains by default."""
    from downstream.config import ExperimentConfig
    from downstream.detectors.batches import MEAN, STD
    from downstream.detectors.yolo import yaml_model_load  # ultralytics', kept offline

    config, classes = ExperimentConfig(), ["blowhole", "break", "crack", "fray", "uneven"]
    seen = {"classes": classes, "mean": MEAN, "std": STD}
    return {
        "detection": {
            "kind": "ultralytics-detect",
            "source": config.detector,
            "yaml": yaml_model_load(f"{config.detector}.yaml"),
            "px": config.detection_px,
            **seen,
        },
        "classification": {
            "kind": "torchvision-classify",
            "source": config.classifier,
            "px": config.classification_px,
            **seen,
        },
        "localisation": {
            "kind": "unet-localise",
            "source": "unet",
            "px": config.localisation_px,
            "width": config.localisation_width,
            "fold": config.localisation_fold,
            **seen,
        },
    }


def row(task: str, about: dict[str, object], given: argparse.Namespace) -> str:
    """A line of the table, once the exported network was seen to give what torch gives."""
    import numpy as np
    import onnx
    import torch
    from PIL import Image

    from downstream.detectors.networks import build_network
    from downstream.onnx import describe, to_onnx
    from downstream.onnx_check import check_parity, measure_latency
    from downstream.predict import load_model

    torch.manual_seed(0)
    network = build_network(about)
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "model.onnx"
        onnx.save(to_onnx(network, describe(network, {})), str(file))
        images = []
        for k in range(4):  # noise, in blocks, of a photograph's shape
            noise = np.random.default_rng(k).integers(0, 256, (48, 64, 3), dtype=np.uint8)
            images.append(Path(scratch) / f"{k}.png")
            Image.fromarray(noise).resize((640, 480)).save(images[-1])
        model = load_model(file, given.threads)
        fault = check_parity(network, model, images).fault
        if fault:
            raise SystemExit(f"error: {task}: the exported network differs from torch's: {fault}")
        taken = measure_latency(network, model, images, given.threads, given.repeats)
        size = file.stat().st_size / 1e6
    return (
        f"{task:<16}{Path(network.source).stem:<14}{network.px:>5}{size:>7.1f}"
        f"{taken.torch_median_ms:>10.1f}{taken.torch_p95_ms:>8.1f}"
        f"{taken.onnx_median_ms:>10.1f}{taken.onnx_p95_ms:>8.1f}{taken.speedup:>8.2f}"
    )


if __name__ == "__main__":
    main()
