"""A network is exported only where it gives what torch gives."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file

from downstream.detectors.networks import build_network, load_network
from downstream.errors import ExportError, OnnxError
from downstream.onnx import OPSET, export_onnx, suppression, to_onnx
from downstream.onnx_check import (
    check_parity,
    check_recorded,
    compare_detections,
    load_squares,
    measured_images,
    reference,
)
from downstream.predict import load_model, read_image

TASKS = ("detection", "classification", "localisation")


@pytest.mark.parametrize("task", TASKS)
def test_what_is_reported(task: str, exported) -> None:
    done = exported[task]
    assert done.parity.images == done.recorded.images == 9
    assert done.parity.differences and done.parity.lost == done.recorded.lost == 0
    assert max(done.parity.differences.values()) < 1e-3
    assert 0 < done.latency.onnx_median_ms <= done.latency.onnx_p95_ms
    assert 0 < done.latency.torch_median_ms <= done.latency.torch_p95_ms
    assert done.size == done.path.stat().st_size and done.opset == OPSET
    json.dumps(done.as_dict(), default=str, allow_nan=False)


def test_metadata_says_how_to_use_the_file(exported) -> None:
    for task, classes in (
        ("detection", ["dot", "bar"]),
        ("classification", ["dot", "bar", "good"]),
    ):
        model = onnx.load(str(exported[task].path))
        about = {entry.key: entry.value for entry in model.metadata_props}
        assert about["task"] == task and json.loads(about["classes"]) == classes
        assert model.opset_import[0].version == OPSET and model.producer_name == "augmentor"
        assert "uint8 RGB" in about["preprocessing"]
        assert json.loads(about["run"])["arm"] == "mixed"
    assert (
        "AGPL"
        in {e.key: e.value for e in onnx.load(exported["detection"].path).metadata_props}["licence"]
    )
    threshold = load_model(exported["detection"].path).card.threshold
    assert threshold is not None and 0 < threshold < 1


def test_suppression_equals_ultralytics() -> None:
    """Many overlapping boxes of three classes: the graph keeps what ultralytics keeps."""
    from ultralytics.utils.nms import non_max_suppression

    rng = np.random.default_rng(0)
    n, classes, anchors = 3, 3, 400
    raw = np.empty((n, 4 + classes, anchors), dtype=np.float32)
    raw[:, :2] = rng.uniform(20, 80, (n, 2, anchors))
    raw[:, 2:4] = rng.uniform(20, 60, (n, 2, anchors))
    raw[:, 4:] = rng.uniform(0, 1, (n, classes, anchors)) ** 4
    raw[0, 2:4, :50] *= -1  # boxes inside out
    raw[2, 4:] = 0  # nothing in the third image
    session = onnxruntime.InferenceSession(suppression(classes, anchors, 8).SerializeToString())
    (rows,) = session.run(None, {"raw_boxes": raw})
    wanted = non_max_suppression(
        torch.from_numpy(raw.copy()), 0.001, 0.7, multi_label=True, max_det=100
    )
    assert rows.shape == (3, 100, 6)
    for got, want in zip(rows, wanted, strict=True):
        kept = got[got[:, 4] > 0.001]
        assert len(kept) == len(want)
        np.testing.assert_allclose(kept, want.numpy(), atol=1e-3)
    assert [len(w) for w in wanted] == [100, 100, 0]


@pytest.mark.parametrize("name", ["yolo26n", "yolov8n"])
def test_other_heads(name: str, masked: Path, tmp_path: Path) -> None:
    """Other heads, with random weights; yolo26's gives boxes of negative size."""
    network = random_network(name)
    model = load_model(write(network, tmp_path), threads=1)
    images = sorted((masked / "images/test").glob("*.png"))[:4]
    parity = check_parity(network, model, images)
    assert parity.fault == "" and parity.found > 20
    rows = reference(network, load_squares(images, model)[0])["detections"]
    assert np.ptp(rows[..., 4]) > 0.01, "scores that are all alike would prove nothing"


def random_network(name: str, px: int = 64):
    """A detector with random weights whose outputs depend on the image."""
    from ultralytics.nn.tasks import yaml_model_load

    torch.manual_seed(0)
    about = {"kind": "ultralytics-detect", "source": f"{name}.yaml", "classes": ["a", "b"]}
    network = build_network({**about, "yaml": yaml_model_load(f"{name}.yaml"), "px": px})
    norms = [m for m in network.module.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.train()
        norm.momentum = None
    noise = torch.randint(0, 256, (4, px, px, 3), dtype=torch.uint8)
    with torch.no_grad():
        network.module(noise)
    for norm in norms:
        norm.eval()
    head = network.module.net.model[-1]
    for branch in [*head.cv3, *getattr(head, "one2one_cv3", [])]:
        branch[-1].bias.data.fill_(-2)
    return network


def write(network, folder: Path) -> Path:
    """The network as a file, without any check."""
    about = {"task": network.task, "classes": json.dumps(network.classes), "px": str(network.px)}
    more = {"resize": network.resize, "antialias": json.dumps(network.antialias)}
    path = folder / "model.onnx"
    onnx.save(to_onnx(network, {**about, **more, "threshold": "null"}), str(path))
    return path


def test_a_file_that_differs_is_not_left_behind(
    trained, masked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One weight of the graph is changed between export and check, as a faulty exporter would."""
    import downstream.onnx as module

    def faulty(network, about):
        model = to_onnx(network, about)
        heaviest = max(model.graph.initializer, key=lambda t: len(t.raw_data))
        values = onnx.numpy_helper.to_array(heaviest) * 1.1
        heaviest.raw_data = values.astype(np.float32).tobytes()
        return model

    monkeypatch.setattr(module, "to_onnx", faulty)
    folder, out = trained["classification"], tmp_path / "out.onnx"
    with pytest.raises(OnnxError, match=r"differs from the original \(probabilities by"):
        export_onnx(folder, out, measured_images(folder, masked, 64), repeats=2)
    assert not list(tmp_path.iterdir())


def test_a_run_that_saw_no_test_is_checked_on_val(
    trained, make_export, tmp_path: Path, masked: Path
) -> None:
    """As those of augment loop, whose exports have no test split at all."""
    folder = shutil.copytree(trained["classification"], tmp_path / "run")
    (folder / "predictions-test.json").unlink()
    without = shutil.copytree(masked, tmp_path / "without")
    lines = (without / "manifest.jsonl").read_text().splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["split"] != "test"]
    (without / "manifest.jsonl").write_text("".join(kept))
    images = measured_images(folder, without, 64)
    assert len(images) == 9 and all(path.parent.name == "val" for path, _ in images)


def test_other_weights_are_noticed(trained, exported, masked: Path, tmp_path: Path) -> None:
    """The file of one network is no match for another, nor for its predictions."""
    folder = trained["detection"]
    state = load_file(folder / "weights.safetensors")
    last = [name for name in state if name.startswith("model.23.cv3") and name.endswith("bias")]
    for name in last:
        state[name] = state[name] + 0.2
    other = tmp_path / "other"
    other.mkdir()
    for name in ("model.json", "result.json", "config.json", "predictions-test.json"):
        (other / name).write_bytes((folder / name).read_bytes())
    save_file(state, other / "weights.safetensors")
    model = load_model(exported["detection"].path)
    measured = measured_images(other, masked, 64)
    assert check_parity(load_network(other), model, [path for path, _ in measured]).fault
    for _, row in measured:
        row["scores"] = [score * 0.9 for score in row["scores"]]
    assert "no counterpart" in check_recorded(model, measured).fault


def test_detections_are_paired_whatever_their_order() -> None:
    a = np.array([[0, 0, 10, 10, 0.9, 0], [5, 5, 9, 9, 0.8, 1], [0, 0, 0, 0, 0, 0]])
    b = a[[1, 0, 2]] + np.array([0.01, 0, 0, 0, 1e-5, 0])
    b[2] = 0
    boxes, scores, lost = compare_detections(a, b)
    assert (boxes, scores, lost) == (pytest.approx(0.01), pytest.approx(1e-5), 0)
    b[0, 5] = 0  # another class
    assert compare_detections(a, b)[2] == 2
    assert compare_detections(a, np.zeros((3, 6)))[2] == 2


def test_refusals(trained, masked: Path, tmp_path: Path) -> None:
    folder = trained["classification"]
    measured = measured_images(folder, masked, 3)
    assert len(measured) == 3
    foreign = tmp_path / "mine.onnx"
    foreign.write_bytes(b"not ours")
    with pytest.raises(OnnxError, match="was not written by Augmentor; move it away"):
        export_onnx(folder, foreign, measured)
    assert foreign.read_bytes() == b"not ours"
    with pytest.raises(OnnxError, match="is a folder; name a file: --out"):
        export_onnx(folder, tmp_path, measured)
    with pytest.raises(OnnxError, match="no detector that was exported here"):
        load_model(foreign)
    with pytest.raises(OnnxError, match=r"is not finished; finish it: augment evaluate"):
        measured_images(tmp_path, masked, 3)
    unknown = tmp_path / "unknown"
    unknown.mkdir()
    (unknown / "result.json").write_text("{}")
    (unknown / "model.json").write_text('{"kind": "theirs"}')
    with pytest.raises(OnnxError, match=r"the kind 'theirs', which can't be exported \(known: "):
        load_network(unknown)
    (tmp_path / "x.png").write_bytes(b"")
    with pytest.raises(OnnxError, match=r"x\.png can't be read as an image"):
        read_image(tmp_path / "x.png")


def test_other_images_than_those_measured_are_refused(trained, make_export, tmp_path: Path) -> None:
    other = make_export(seed=5)
    with pytest.raises(OnnxError, match="no longer holds the test images"):
        measured_images(trained["detection"], other, 64)
    manifest = other / "manifest.jsonl"
    manifest.write_text(manifest.read_text()[:-20])
    with pytest.raises(ExportError, match=r"manifest\.jsonl.* Write it again: augment evaluate"):
        measured_images(trained["detection"], other, 64)


def test_our_own_file_is_replaced(trained, exported, masked: Path, tmp_path: Path) -> None:
    out = tmp_path / "again.onnx"
    out.write_bytes(exported["detection"].path.read_bytes())
    folder = trained["classification"]
    export_onnx(folder, out, measured_images(folder, masked, 2), repeats=2)
    assert load_model(out).card.task == "classification"
