"""An exported file on its own gives what was measured."""

import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from PIL import Image

from downstream.dataset import read_export
from downstream.errors import OnnxError
from downstream.onnx_check import load_squares
from downstream.predict import MOST_DETECTIONS, load_model, read_image, to_square

TASKS = ("detection", "classification", "localisation")


@pytest.mark.parametrize("task", TASKS)
def test_the_file_gives_what_the_run_recorded(task: str, exported, trained, masked: Path) -> None:
    """Every test image, through the file alone, against predictions-test.json."""
    path = exported[task].path
    rows = json.loads((trained[task] / "predictions-test.json").read_text())
    model = load_model(path)
    assert len(rows) == 9
    inner = 0  # boxes that the image's edges have not cut
    for row in rows:
        found = model.predict(masked / f"images/test/{row['id']}.png")
        if task == "classification":
            np.testing.assert_allclose(found["probabilities"], row["probabilities"], atol=2e-6)
            continue
        if task == "localisation":
            assert found["score"] == pytest.approx(row["score"], abs=2e-6)
            continue
        assert len(found["boxes"]) == len(row["boxes"])
        assert found["classes"] == row["classes"]
        np.testing.assert_allclose(found["scores"], row["scores"], atol=2e-5)
        np.testing.assert_allclose(found["boxes"], row["boxes"], atol=0.02)
        with Image.open(masked / f"images/test/{row['id']}.png") as image:
            right, bottom = image.width - 1, image.height - 1
        inner += sum(min(b) > 1 and b[2] < right and b[3] < bottom for b in row["boxes"])
    assert inner or task != "detection"


def test_the_map_is_the_one_that_was_recorded(exported, trained, masked: Path) -> None:
    model = load_model(exported["localisation"].path)
    for item in read_export(masked).items("test"):
        square, _ = to_square(read_image(item.image), model.card)
        with Image.open(trained["localisation"] / f"maps-test/{item.id}.png") as picture:
            kept = np.asarray(picture) / 255
        np.testing.assert_allclose(model.run(square[None])["map"][0], kept, atol=0.51 / 255)
        assert model.predict(item.image)["map"].shape == (item.height, item.width)


@pytest.mark.parametrize("task", TASKS)
def test_any_number_of_images_at_once(task: str, exported, masked: Path) -> None:
    model = load_model(exported[task].path)
    images = sorted((masked / "images/test").glob("*.png"))
    squares, _ = load_squares(images, model)
    together = model.run(squares)
    assert {len(value) for value in together.values()} == {9}
    for k, square in enumerate(squares):
        for name, value in model.run(square[None]).items():
            np.testing.assert_allclose(value[0], together[name][k], atol=1e-3)


def test_images_are_squared_as_in_training(exported, masked: Path) -> None:
    """The bytes that a network sees are those of ultralytics' datasets and of the classifier's."""
    from downstream.detectors.by_step import MAX_DETECTIONS, _label, _YoloDataset
    from downstream.detectors.resnet import load_square

    items = read_export(masked).items("test")
    assert len({item.width > item.height for item in items}) == 2, "lying and standing images"
    card = load_model(exported["classification"].path).card
    ours = [to_square(read_image(item.image), card)[0] for item in items]
    theirs = load_square(items, card.px).permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(np.stack(ours), theirs)

    labels = {str(item.image): _label(item) for item in items}
    data = {"names": {0: "dot", 1: "bar"}, "nc": 2, "channels": 3, "labels": labels}
    from ultralytics.cfg import get_cfg

    dataset = _YoloDataset(
        img_path=list(labels), imgsz=64, augment=False, hyp=get_cfg(), rect=False, data=data,
        task="detect",
    )  # fmt: skip
    card = load_model(exported["detection"].path).card
    for k, item in enumerate(items):
        square, place = to_square(read_image(item.image), card)
        sample = dataset[k]
        np.testing.assert_array_equal(square, sample["img"].permute(1, 2, 0).numpy())
        (gain_y, gain_x), pad = sample["ratio_pad"]
        assert MAX_DETECTIONS == MOST_DETECTIONS
        assert place.scale == pytest.approx((gain_x, gain_y)) and place.offset == tuple(pad)


def test_predicting_needs_no_torch(exported, masked: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from downstream.predict import load_model;"
        "print(load_model(Path(sys.argv[1])).predict(Path(sys.argv[2])));"
        "assert not {'torch', 'ultralytics'} & set(sys.modules)"
    )
    image = masked / "images/test/test0.png"
    done = subprocess.run(
        [sys.executable, "-c", code, str(exported["detection"].path), str(image)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "scores" in done.stdout


def test_exif_rotation_is_followed(tmp_path: Path) -> None:
    image = Image.fromarray(np.zeros((10, 20, 3), dtype=np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").shape == (20, 10, 3)


def test_what_is_transparent_is_black_as_in_training(tmp_path: Path) -> None:
    clear = np.full((4, 4, 4), 200, dtype=np.uint8)
    clear[:2, :, 3], clear[2:, :, 3] = 0, 255
    Image.fromarray(clear).save(tmp_path / "clear.png")
    assert read_image(tmp_path / "clear.png")[[0, 3], 0].tolist() == [[0] * 3, [200] * 3]


@pytest.mark.parametrize("channels", [1, 3])
def test_more_than_8_bit_is_refused_and_not_cut_off(tmp_path: Path, channels: int) -> None:
    ramp = np.linspace(0, 4095, 64 * channels, dtype=np.uint16).reshape(8, 8, channels)
    cv2.imwrite(str(tmp_path / "deep.png"), ramp)
    with pytest.raises(OnnxError, match="more than 8 bit a channel; scale it"):
        read_image(tmp_path / "deep.png")


PAGE = Path(__file__).parents[3] / "docs/onnx.md"
SCRIPTS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)


def run_script(task: str, *arguments: Path) -> list[str]:
    """Run the page's script for a task as its reader would; the lines that it prints."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", SCRIPTS[TASKS.index(task)], *map(str, arguments)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_scripts_of_the_page_need_three_packages() -> None:
    assert len(SCRIPTS) == 3
    for script in SCRIPTS:
        lines = [line for line in script.splitlines() if "import" in line]
        assert lines == [
            lines[0], "import numpy as np, onnxruntime", "from PIL import Image, ImageOps"
        ]  # fmt: skip
        assert set(lines[0].removeprefix("import ").split(", ")) <= {"json", "math", "sys"}


def test_detection_script(exported, masked: Path, tmp_path: Path) -> None:
    """The same defects as the loader finds, but for Pillow's rounding of grey levels."""
    items = read_export(masked).items("test")
    model = load_model(exported["detection"].path)
    found = {item.image: model.predict(item.image) for item in items}
    found = {image: each for image, each in found.items() if max(each["scores"], default=0) > 0.01}
    # The threshold that val chose may be above every score of so short a training.
    threshold = 0.7 * min(max(each["scores"]) for each in found.values())
    path = tmp_path / "low.onnx"
    file = onnx.load(str(exported["detection"].path))
    onnx.helper.set_model_props(file, {**metadata(file), "threshold": json.dumps(threshold)})
    onnx.save(file, str(path))
    for image, each in found.items():
        lines = [line.split() for line in run_script("detection", path, image)]
        said = [(n, float(s), np.array(box, dtype=float)) for n, s, *box in lines]
        assert said and min(s for _, s, _ in said) >= threshold - 5e-4
        best = int(np.argmax(each["scores"]))
        name, score, box = said[0]
        assert name == ("dot", "bar")[each["classes"][best]]
        assert score == pytest.approx(each["scores"][best], abs=0.03)
        np.testing.assert_allclose(box, each["boxes"][best], atol=1)


def metadata(file: onnx.ModelProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in file.metadata_props}


def test_classification_script(exported, masked: Path) -> None:
    path = exported["classification"].path
    image = masked / "images/test/test1.png"
    shares = load_model(path).predict(image)["probabilities"]
    lines = dict(line.split() for line in run_script("classification", path, image))
    assert {name: float(s) for name, s in lines.items()} == pytest.approx(
        dict(zip(("dot", "bar", "good"), shares, strict=True)), abs=6e-4
    )


def test_localisation_script(exported, masked: Path, tmp_path: Path) -> None:
    path, image = exported["localisation"].path, masked / "images/test/test0.png"
    (line,) = run_script("localisation", path, image, tmp_path / "map.png")
    assert float(line) == pytest.approx(load_model(path).predict(image)["score"], abs=6e-4)
    with Image.open(image) as photo, Image.open(tmp_path / "map.png") as picture:
        assert picture.size == photo.size and picture.mode == "L"


def test_scripts_read_odd_photographs_as_the_import_does(exported, tmp_path: Path) -> None:
    """What is transparent is black; what has more than 8 bit is refused and not blown out."""
    path = exported["classification"].path
    clear = np.full((40, 40, 4), 200, dtype=np.uint8)
    clear[..., 3] = 255
    clear[:20, :, 3] = 0
    black = clear[..., :3].copy()
    black[:20] = 0
    Image.fromarray(clear).save(tmp_path / "clear.png")
    Image.fromarray(black).save(tmp_path / "black.png")
    said = [run_script("classification", path, tmp_path / f"{n}.png") for n in ("clear", "black")]
    assert said[0] == said[1]
    ramp = np.linspace(0, 4095, 1600, dtype=np.uint16).reshape(40, 40)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    for script in SCRIPTS:
        arguments = [path, tmp_path / "deep.png", tmp_path / "map.png"]
        done = subprocess.run(
            [sys.executable, "-I", "-c", script, *map(str, arguments)],
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 1 and "more than 8 bit" in done.stderr
