"""Exports, read back by the readers that users have: ultralytics, pycocotools, torchvision."""

import hashlib
import json
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from augmentor.errors import ExportError, SourceError
from augmentor.exporters import (
    FORMATS,
    PoolSample,
    coarse_outlines,
    export_dataset,
    guessed_masks,
    shows_one_class,
    write_training_export,
)
from augmentor.exporters.folder import link_image
from augmentor.exporters.polygons import mask_to_polygon
from generator.records import GOOD, DefectExample, Instance, SyntheticDefect

CLASSES = ("pit", "scratch")


def blob(rng: np.random.Generator, height: int, width: int, least: int = 6) -> np.ndarray:
    """A ragged shape that touches all four sides of its array."""
    noise = cv2.GaussianBlur(rng.random((height * 2, width * 2)).astype(np.float32), (0, 0), 2)
    yy, xx = np.mgrid[: height * 2, : width * 2]
    far = np.hypot((yy - height) / height, (xx - width) / width)
    mask = (far + 2 * (noise - 0.5)) < 0.75
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    mask = labels == 1 + int(stats[1:, 4].argmax()) if count > 1 else far < 0.75
    ys, xs = np.nonzero(mask)
    return mask[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]


class Made(NamedTuple):
    records: list[DefectExample]
    samples: list[PoolSample]
    masks: dict[str, list[tuple[str, np.ndarray]]]  # full-size, by image id, in label order


def save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def place(
    folder: Path, name: str, mask: np.ndarray, at: tuple[int, int], kind: str = "exact"
) -> Instance:
    x, y = at
    path = save(folder / f"{x}_{y}.png", mask.astype(np.uint8) * 255)
    box = (x, y, x + mask.shape[1], y + mask.shape[0])
    return Instance(class_name=name, box_xyxy=box, mask_path=path, mask_kind=kind)


def full(shape: tuple[int, int], instance: Instance, mask: np.ndarray) -> np.ndarray:
    canvas = np.zeros(shape, bool)
    x1, y1, x2, y2 = instance.box_xyxy
    canvas[y1:y2, x1:x2] = mask
    return canvas


def real_image(
    root: Path,
    rng: np.random.Generator,
    number: int,
    split: str,
    placed: Sequence[tuple[str, np.ndarray, tuple[int, int]]],
    kind: str = "exact",
    suffix: str = "png",
    size: tuple[int, int] = (90, 131),
    label: str | None = None,
) -> tuple[DefectExample, list[tuple[str, np.ndarray]]]:
    pixels = rng.integers(0, 255, size, np.uint8)
    path = save(root / f"source/{number}.{suffix}", pixels)
    sha = hashlib.sha256(path.read_bytes()).hexdigest()
    instances = tuple(place(root / f"masks/{number}", c, m, at, kind) for c, m, at in placed)
    record = DefectExample(
        id=sha[:16],
        sha256=sha,
        image_path=path,
        source_path=path,
        width=size[1],
        height=size[0],
        grey=True,
        label=label or (placed[0][0] if placed else GOOD),
        instances=instances,
        split=split,
    )
    drawn = [(c, full(size, i, m)) for (c, m, _), i in zip(placed, instances, strict=True)]
    return record, drawn


def make(root: Path, kind: str = "exact") -> Made:
    rng = np.random.default_rng(3)
    holed = blob(rng, 20, 26)
    holed[8:11, 9:13] = False
    parted = np.zeros((14, 40), bool)
    parted[:, :9], parted[3:10, 20:40] = True, True
    dot = np.ones((1, 1), bool)
    line = np.ones((2, 50), bool)
    scenes = [
        ("train", [("pit", holed, (20, 30)), ("scratch", parted, (80, 5))], "png"),
        ("train", [("scratch", line, (3, 88))], "jpg"),
        ("train", [], "png"),
        ("val", [("pit", dot, (130, 0)), ("pit", blob(rng, 6, 6), (40, 40))], "png"),
        ("val", [], "png"),
        ("test", [("scratch", blob(rng, 30, 40), (0, 0))], "png"),
        ("test", [], "png"),
        ("reserve", [("pit", blob(rng, 8, 8), (60, 60))], "png"),
    ]
    records, masks = [], {}
    for number, (split, placed, suffix) in enumerate(scenes):
        record, drawn = real_image(root, rng, number, split, placed, kind, suffix)
        records.append(record)
        masks[record.id] = drawn
    sample, drawn = pool_sample(root / "pool/compact", rng, records[2].id, kind)
    masks[sample.record.id] = drawn
    return Made(records, [sample], masks)


def pool_sample(
    pool: Path, rng: np.random.Generator, background: str, kind: str = "exact"
) -> tuple[PoolSample, list[tuple[str, np.ndarray]]]:
    """A sample of two parts, in a background that carried a scratch of its own."""
    shape, mask = (70, 101), np.zeros((70, 101), bool)
    first, second = blob(rng, 12, 9), blob(rng, 7, 10)
    boxes = []
    for part, (x, y) in ((first, (8, 12)), (second, (60, 40))):
        mask[y : y + part.shape[0], x : x + part.shape[1]] |= part
        boxes.append((x, y, x + part.shape[1], y + part.shape[0]))
    save(pool / "images/compact-0.png", rng.integers(0, 255, (*shape, 3), np.uint8))
    save(pool / "masks/compact-0.png", mask.astype(np.uint8) * 255)
    carried_mask = blob(rng, 5, 20)
    carried = place(pool / "carried", "scratch", carried_mask, (30, 2), kind)
    relative = carried.model_copy(update={"mask_path": carried.mask_path.relative_to(pool)})
    record = SyntheticDefect(
        id="compact-0",
        class_name="pit",
        index=0,
        seed=11,
        generator="compact",
        fingerprint="f00",
        image="images/compact-0.png",
        mask="masks/compact-0.png",
        width=101,
        height=70,
        grey=False,
        boxes_xyxy=tuple(boxes),
        mask_kind=kind,
        background_id=background,
        mask_source_id="procedural:ellipse",
        source_ids=(background,),
        carried_instances=(relative,),
        feather_px=2,
        crop_xyxy=(0, 0, 64, 64),
        scores={"contrast": 0.5},
        verdict="accepted",
    )
    parts = []
    for x1, y1, x2, y2 in boxes:
        part = np.zeros(shape, bool)
        part[y1:y2, x1:x2] = mask[y1:y2, x1:x2]
        parts.append(("pit", part))
    return PoolSample(pool, record), [*parts, ("scratch", full(shape, carried, carried_mask))]


def training(folder: Path, made: Made, **changes) -> Path:
    values = {"name": "tiles", "classes": CLASSES, "records": made.records}
    return write_training_export(folder, **(values | {"samples": made.samples} | changes))


def manifest(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def box_of(mask: np.ndarray) -> list[int]:
    ys, xs = np.nonzero(mask)
    return [int(v) for v in (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Made:
    return make(tmp_path_factory.mktemp("made"))


def test_training_export_is_what_the_format_says(made, tmp_path):
    folder = training(tmp_path / "dataset", made, notes=["A note."])
    assert json.loads((folder / "export.json").read_text()) == {
        "schema": 1,
        "name": "tiles",
        "classes": ["pit", "scratch"],
        "task": "segment",
        "arms": [],
        "notes": ["A note."],
    }
    lines = manifest(folder)
    splits = [line["split"] for line in lines]
    assert splits == ["train"] * 4 + ["val"] * 2 + ["test"] * 2  # the reserve is left out
    for line in lines:
        image, label = folder / line["image"], folder / line["label"]
        assert hashlib.sha256(image.read_bytes()).hexdigest() == line["sha256"]
        with Image.open(image) as picture:
            assert picture.size == (line["width"], line["height"])
        assert len(label.read_text().splitlines()) == len(line["boxes"])
        assert label.stem == image.stem
        expected = [[CLASSES.index(c), *box_of(m)] for c, m in made.masks[line["id"]]]
        assert line["boxes"] == expected
        assert line["arms"] == []
        if not line["boxes"]:
            assert line["mask"] is None
            continue
        assert line["mask"] == f"masks/{line['split']}/{line['id']}.png"
        mask = Image.open(folder / line["mask"])
        union = np.any([m for _, m in made.masks[line["id"]]], axis=0)
        assert mask.mode == "L"
        np.testing.assert_array_equal(np.asarray(mask), union * np.uint8(255))
    assert len(list(folder.glob("masks/*/*"))) == 5
    synthetic = [line for line in lines if line["kind"] == "synthetic"]
    assert [(line["id"], line["generator"], line["class"]) for line in synthetic] == [
        ("compact-0", "compact", "pit")
    ]
    assert synthetic[0]["source_ids"] == [made.records[2].id]
    assert [line["class"] for line in lines if not line["boxes"]] == [GOOD] * 3


def test_ultralytics_reads_the_same_instances_boxes_and_masks(made, tmp_path):
    """Masks as ultralytics fills them: exact, save for the line of one pixel's width that joins
    the parts of one instance (here over a gap of 11 px); boxes within 0.05 px."""
    folder = training(tmp_path / "dataset", made)
    seen = 0
    for split in ("train", "val", "test"):
        for path, name, xyxy, mask in read_by_ultralytics(folder, split):
            seen += 1
            wanted = made.masks[Path(path).stem]
            of_class = [m for c, m in wanted if c == name]
            best = max(of_class, key=lambda m: iou(m, mask))
            assert np.abs(np.asarray(box_of(best)) - xyxy).max() < 0.05
            parts = cv2.connectedComponents(best.astype(np.uint8))[0] - 1
            assert not (best & ~mask).any()
            assert (mask & ~best).sum() <= (13 if parts > 1 else 0)
    assert seen == sum(len(made.masks[line["id"]]) for line in manifest(folder)) == 9


def read_by_ultralytics(folder: Path, split: str):
    """(path, class, box in pixels, mask) of every instance, through ultralytics' own dataset."""
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset, polygon2mask
    from ultralytics.utils.ops import resample_segments

    data = check_det_dataset(str(folder / "data.yaml"), autodownload=False)
    dataset = YOLODataset(img_path=data[split], data=data, task="segment", augment=False)
    for entry in dataset.labels:
        height, width = entry["shape"]
        segments = resample_segments([s.copy() for s in entry["segments"]])
        assert len(segments) == len(entry["bboxes"])
        for k, segment in enumerate(segments):
            polygon = segment * (width, height)
            mask = polygon2mask((height, width), [polygon.reshape(-1)]).astype(bool)
            cx, cy, w, h = entry["bboxes"][k] * (width, height, width, height)
            name = data["names"][int(entry["cls"][k, 0])]
            xyxy = np.array([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])
            yield entry["im_file"], name, xyxy, mask


@pytest.mark.parametrize("seed", range(12))
def test_polygons_are_exact_for_filling_and_for_geometric_readers(seed):
    from pycocotools import mask as coco_mask

    rng = np.random.default_rng(seed)
    height, width = int(rng.integers(4, 90)), int(rng.integers(4, 90))
    mask = blob(rng, height, width)
    x, y = 17, 5
    polygon = mask_to_polygon(mask, (x, y))
    shape = (mask.shape[0] + 20, mask.shape[1] + 40)
    truth = np.zeros(shape, bool)
    truth[y : y + mask.shape[0], x : x + mask.shape[1]] = mask
    filled = np.zeros(shape, np.uint8)
    cv2.fillPoly(filled, [polygon.astype(np.int32)], 1)
    assert iou(truth, filled.astype(bool)) > 0.98
    rle = coco_mask.frPyObjects([polygon.ravel().tolist()], *shape)
    assert iou(truth, coco_mask.decode(rle)[..., 0].astype(bool)) > 0.98
    area = abs(shoelace(polygon))
    assert area == pytest.approx(mask.sum(), rel=0.02 + 0.1 / min(mask.shape))


def shoelace(polygon: np.ndarray) -> float:
    x, y = polygon.T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def test_a_large_mask_with_many_holes_keeps_its_shape_in_a_thousand_points():
    rng = np.random.default_rng(0)
    noise = cv2.GaussianBlur(rng.random((700, 500)).astype(np.float32), (0, 0), 9)
    yy, xx = np.mgrid[:700, :500]
    mask = np.hypot((yy - 350) / 330, (xx - 250) / 230) + 3 * (noise - 0.5) < 0.9
    for y, x in rng.integers((150, 120), (550, 380), (25, 2)):
        mask[y : y + 6, x : x + 9] = False
    polygon = mask_to_polygon(mask)
    assert 300 <= len(polygon) <= 1000
    filled = np.zeros(mask.shape, np.uint8)
    cv2.fillPoly(filled, [polygon.astype(np.int32)], 1)
    assert iou(mask, filled.astype(bool)) > 0.98


def test_outlines_of_a_great_many_parts_are_told(tmp_path):
    rng = np.random.default_rng(1)
    pitted = cv2.GaussianBlur(rng.random((80, 120)).astype(np.float32), (0, 0), 1.2) > 0.54
    record, _ = real_image(tmp_path, rng, 0, "train", [("pit", pitted, (4, 4))])
    solid, _ = real_image(tmp_path, rng, 1, "train", [("pit", blob(rng, 20, 26), (20, 30))])
    folder = exported(tmp_path, Made([record, solid], [], {}), "yolo-seg")
    overlaps = {line["id"]: line["least_overlap"] for line in manifest(folder)}
    assert overlaps[record.id] < 0.95 < 0.98 < overlaps[solid.id]
    said = coarse_outlines(folder, "yolo-seg")
    assert said.startswith("1 of 2 images have a mask of so many parts") and "coco" in said
    alone = exported(tmp_path / "b", Made([solid], [], {}), "yolo-seg")
    assert coarse_outlines(alone, "yolo-seg") == ""
    assert coarse_outlines(folder, "coco") == ""


def test_arms_hold_what_they_say_and_the_rest_is_left_out(made, tmp_path):
    train = [r.id for r in made.records if r.split == "train"]
    reserve = [r.id for r in made.records if r.split == "reserve"]
    arms = {
        "real": frozenset(train[:2]),
        "mixed": frozenset([*train[:2], "compact-0"]),
        "full": frozenset([*train[:2], *reserve]),
    }
    folder = training(tmp_path / "export", made, arms=arms)
    lines = {line["id"]: line for line in manifest(folder)}
    assert json.loads((folder / "export.json").read_text())["arms"] == ["real", "mixed", "full"]
    assert lines[train[0]]["arms"] == ["real", "mixed", "full"]
    assert lines["compact-0"]["arms"] == ["mixed"]
    assert lines[reserve[0]]["arms"] == ["full"]
    assert lines[reserve[0]]["split"] == "train"
    assert train[2] not in lines
    assert all(line["arms"] == [] for line in lines.values() if line["split"] != "train")


def test_an_arm_with_a_test_image_is_refused(made, tmp_path):
    test = next(r.id for r in made.records if r.split == "test")
    with pytest.raises(ExportError, match=f"Arm 'real' names 1 images.*{test}"):
        training(tmp_path / "export", made, arms={"real": frozenset([test])})
    assert not (tmp_path / "export").exists()


def test_approximate_masks_are_exported_as_boxes(tmp_path):
    made = make(tmp_path, kind="approximate")
    folder = training(tmp_path / "dataset", made)
    content = json.loads((folder / "export.json").read_text())
    assert content["task"] == "detect"
    assert "only proposed from boxes" in content["notes"][0]
    assert {line["mask"] for line in manifest(folder)} == {None}
    assert not (folder / "masks").exists()
    for line in manifest(folder):
        rows = np.array(
            [row.split() for row in (folder / line["label"]).read_text().splitlines()], float
        ).reshape(-1, 5)
        size = np.array([line["width"], line["height"]])
        low, high = (rows[:, 1:3] - rows[:, 3:] / 2) * size, (rows[:, 1:3] + rows[:, 3:] / 2) * size
        boxes = np.array(line["boxes"], float).reshape(-1, 5)
        assert np.allclose(np.hstack([rows[:, :1], low, high]), boxes, atol=1e-3)


@pytest.mark.parametrize("name", FORMATS)
def test_masks_that_were_guessed_are_marked_or_said(tmp_path, name):
    for kind in ("exact", "approximate"):
        made = make(tmp_path / kind, kind=kind)
        folder = exported(tmp_path / kind, made, name)
        for line in manifest(folder):
            kinds = line["provenance"]["mask_kinds"]
            assert len(kinds) == len(line["boxes"])
            assert set(kinds) <= {kind} or line["kind"] == "synthetic"
        said = guessed_masks(folder, name)
        unmarked = kind == "approximate" and name in ("yolo-seg", "voc", "mvtec")
        assert ("masks were guessed from boxes" in said) == unmarked, said
    if name == "coco":
        lines = json.loads((folder / "annotations/instances_val.json").read_text())["annotations"]
        assert {line["mask_kind"] for line in lines} == {"approximate"}


def test_image_level_labels_alone_are_for_classification(tmp_path):
    rng = np.random.default_rng(0)
    records = [
        real_image(tmp_path, rng, 0, "train", [], label="pit")[0],
        real_image(tmp_path, rng, 1, "test", [])[0],
    ]
    folder = training(tmp_path / "dataset", Made(records, [], {}))
    assert json.loads((folder / "export.json").read_text())["task"] == "classify"
    assert [line["class"] for line in manifest(folder)] == ["pit", GOOD]
    for name in set(FORMATS) - {"folders"}:
        with pytest.raises(ExportError, match=r"labels only.*--format folders"):
            exported(tmp_path, Made(records, [], {}), name)
    exported(tmp_path, Made(records, [], {}), "folders")


def test_a_defect_without_a_place_never_becomes_a_good_part(made, tmp_path):
    placeless, _ = real_image(tmp_path, np.random.default_rng(9), 0, "train", [], label="pit")
    with pytest.raises(SourceError, match=r"nothing says where it is.*0\.png.*--on-bad skip"):
        training(tmp_path / "dataset", made, records=[*made.records, placeless])


def test_the_same_input_gives_the_same_bytes_and_replaces_what_was_there(made, tmp_path):
    first = training(tmp_path / "a", made)
    (first / "stale.txt").write_text("from an older run")
    training(tmp_path / "a", made)
    second = training(tmp_path / "b", made, records=made.records[::-1])
    files = sorted(p.relative_to(first) for p in first.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(second) for p in second.rglob("*") if p.is_file())
    assert all((first / p).read_bytes() == (second / p).read_bytes() for p in files)
    assert [p.name for p in tmp_path.iterdir() if p.name not in ("a", "b")] == []


def test_a_folder_that_is_no_export_is_not_touched(made, tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/mine.txt").write_text("keep")
    with pytest.raises(ExportError, match="holds files that are not an export"):
        training(tmp_path / "pictures", made)
    assert (tmp_path / "pictures/mine.txt").read_text() == "keep"


def test_a_folder_with_the_export_of_another_tool_is_not_touched(made, tmp_path):
    other = tmp_path / "coco"
    (other / "train").mkdir(parents=True)
    (other / "export.json").write_text('{"schema": 1, "classes": []}')
    with pytest.raises(ExportError, match="holds files that are not an export"):
        exported(tmp_path, made, "coco")
    assert (other / "train").is_dir() and (other / "export.json").is_file()


def test_images_are_links_but_a_jpeg_that_others_would_mend_is_a_copy(tmp_path):
    made = make(tmp_path)
    jpeg = next(r for r in made.records if r.image_path.suffix == ".jpg")
    folder = training(tmp_path / "a", made)
    assert (folder / f"images/train/{jpeg.id}.jpg").samefile(jpeg.image_path)
    jpeg.image_path.write_bytes(jpeg.image_path.read_bytes()[:-2])
    folder = training(tmp_path / "b", made)
    assert not (folder / f"images/train/{jpeg.id}.jpg").samefile(jpeg.image_path)


def test_a_vanished_image_is_named(tmp_path):
    made = make(tmp_path)
    made.records[0].image_path.unlink()
    with pytest.raises(SourceError, match=r"source/0\.png is gone; bring it back"):
        training(tmp_path / "dataset", made)
    assert not (tmp_path / "dataset").exists()


def test_killed_in_the_middle_leaves_the_old_export_and_then_gives_the_same(tmp_path):
    """A real process, killed when half the labels are there."""
    made = make(tmp_path)
    folder = training(tmp_path / "dataset", made, samples=())
    before = sorted((folder / "manifest.jsonl").read_text().splitlines())
    code = f"""
        import os, signal, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import test_exporters as t
        from augmentor.exporters import yolo
        from pathlib import Path
        made, count, write = t.make(Path({str(tmp_path)!r})), 0, yolo.link_image
        def counted(*paths):
            global count
            count += 1
            if count == 4:
                os.kill(os.getpid(), signal.SIGKILL)
            write(*paths)
        yolo.link_image = counted
        t.training(Path({str(folder)!r}), made)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert done.returncode == -9
    assert sorted((folder / "manifest.jsonl").read_text().splitlines()) == before
    assert len(list(tmp_path.glob(".dataset.*.tmp"))) == 1
    training(folder, made)
    other = training(tmp_path / "undisturbed", made)
    assert list(tmp_path.glob(".dataset.*.tmp")) == []
    for path in (p for p in other.rglob("*") if p.is_file()):
        assert (folder / path.relative_to(other)).read_bytes() == path.read_bytes()


def of_one_class(made: Made) -> Made:
    """The same with a sample whose background carried nothing, so that every format has it."""
    (sample,) = made.samples
    alone = sample.record.model_copy(update={"carried_instances": ()})
    return Made(made.records, [PoolSample(sample.pool, alone)], made.masks)


def exported(tmp_path: Path, made: Made, name: str) -> Path:
    return export_dataset(
        tmp_path / name, name, name="t", classes=CLASSES, records=made.records, samples=made.samples
    )


@pytest.mark.parametrize("name", FORMATS)
def test_what_other_tools_get_are_copies_and_a_second_export_replaces_it(made, tmp_path, name):
    made = of_one_class(made)
    for _ in range(2):
        folder = exported(tmp_path, made, name)
    (folder / ".DS_Store").write_text("")
    exported(tmp_path, made, name)
    originals = {r.image_path.stat().st_ino for r in made.records}
    originals |= {(s.pool / s.record.image).stat().st_ino for s in made.samples}
    inodes = {path.stat().st_ino for path in folder.rglob("*") if path.is_file()}
    assert len(inodes) > len(made.records) and not inodes & originals


@pytest.mark.parametrize("name", FORMATS)
def test_an_export_never_replaces_what_it_would_not_write(made, tmp_path, name):
    folder = exported(tmp_path, made, name)
    weights = folder / "runs/train/best.pt"
    weights.parent.mkdir(parents=True)
    weights.write_text("mine")
    with pytest.raises(ExportError, match=rf"holds runs, .* --format {name} --to NEW_FOLDER"):
        exported(tmp_path, made, name)
    assert weights.read_text() == "mine"


def test_a_pool_is_no_export_to_replace(made, tmp_path):
    pool = tmp_path / "yolo"
    (pool / "masks").mkdir(parents=True)
    (pool / "images").mkdir()
    (pool / "manifest.jsonl").write_text("{}\n")
    with pytest.raises(ExportError, match="holds masks, which no yolo export has"):
        exported(tmp_path, made, "yolo")
    assert (pool / "masks").is_dir()


def test_coco_masks_and_boxes_come_back_exactly(made, tmp_path):
    folder = exported(tmp_path, made, "coco")
    seen = 0
    for split in ("train", "val", "test"):
        coco = COCO(str(folder / f"annotations/instances_{split}.json"))
        assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == list(CLASSES)
        for image in coco.imgs.values():
            assert (folder / split / image["file_name"]).is_file()
            found = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
            wanted = made.masks[Path(image["file_name"]).stem]
            assert len(found) == len(wanted)
            for annotation, (name, mask) in zip(found, wanted, strict=True):
                seen += 1
                assert coco.cats[annotation["category_id"]]["name"] == name
                assert np.array_equal(coco.annToMask(annotation).astype(bool), mask)
                x, y, w, h = annotation["bbox"]
                assert [x, y, x + w, y + h] == box_of(mask)
                assert annotation["area"] == mask.sum()
    assert seen == 9


def test_voc_boxes_and_masks_come_back(made, tmp_path):
    """Read by torchvision; VOC counts from 1 and includes the last pixel."""
    from xml.etree import ElementTree

    from torchvision.datasets import VOCDetection

    folder = exported(tmp_path, made, "voc")
    stems = {
        split: (folder / f"ImageSets/Main/{split}.txt").read_text().split()
        for split in ("train", "val", "test")
    }
    assert {split: len(v) for split, v in stems.items()} == {"train": 4, "val": 2, "test": 2}
    for stem in (stem for v in stems.values() for stem in v):
        root = ElementTree.parse(folder / f"Annotations/{stem}.xml").getroot()
        read = VOCDetection.parse_voc_xml(root)["annotation"]
        assert (folder / "JPEGImages" / read["filename"]).is_file()
        boxes = [
            (o["name"], [int(o["bndbox"][k]) for k in ("xmin", "ymin", "xmax", "ymax")])
            for o in read.get("object", [])
        ]
        wanted = made.masks[stem]
        assert boxes == [(c, list(np.add(box_of(m), (1, 1, 0, 0)))) for c, m in wanted]
        assert read["segmented"] == "1"
        if wanted:
            painted = np.asarray(Image.open(folder / f"SegmentationClass/{stem}.png"))
            for k, name in enumerate(CLASSES, 1):
                union = np.any([m for c, m in wanted if c == name], axis=0)
                assert np.array_equal(painted == k, np.broadcast_to(union, painted.shape))


def test_voc_is_read_by_torchvision(made, tmp_path):
    """It makes the images' names of those in the image sets."""
    from torchvision.datasets import VOCDetection, VOCSegmentation

    folder = exported(tmp_path, made, "voc")
    (tmp_path / "root/VOCdevkit").mkdir(parents=True)
    (tmp_path / "root/VOCdevkit/VOC2012").symlink_to(folder)
    boxes, masks = (
        kind(str(tmp_path / "root"), year="2012", image_set="train")
        for kind in (VOCDetection, VOCSegmentation)
    )
    assert len(boxes) == len(masks) == 4
    for (picture, said), (again, mask) in zip(boxes, masks, strict=True):
        assert picture.size == again.size == mask.size
        assert said["annotation"]["filename"].endswith(".jpg")


def test_voc_lists_what_is_segmented_good_parts_too(made, tmp_path):
    folder = exported(tmp_path, made, "voc")
    for split in ("train", "val", "test"):
        listed = (folder / f"ImageSets/Segmentation/{split}.txt").read_text()
        assert listed == (folder / f"ImageSets/Main/{split}.txt").read_text()
        for stem in listed.split():
            painted = np.asarray(Image.open(folder / f"SegmentationClass/{stem}.png"))
            assert painted.any() == bool(made.masks[stem])


def test_mvtec_has_only_good_parts_in_train_and_a_mask_for_each_fault(made, tmp_path):
    folder = exported(tmp_path, made, "mvtec")
    assert [p.name for p in (folder / "train").iterdir()] == ["good"]
    assert len(list((folder / "test/good").iterdir())) == 1
    test = next(r for r in made.records if r.split == "test" and not r.is_clean)
    mask = np.asarray(Image.open(folder / f"ground_truth/scratch/{test.id}_mask.png"))
    assert np.array_equal(mask == 255, made.masks[test.id][0][1])
    assert set(np.unique(mask)) == {0, 255}
    faulty = folder / "train_defects_ground_truth/pit/compact-0_mask.png"
    union = np.any([m for _, m in made.masks["compact-0"]], axis=0)
    assert np.array_equal(np.asarray(Image.open(faulty)) == 255, union)
    jpeg = next(r for r in made.records if r.image_path.suffix == ".jpg")
    converted = Image.open(folder / f"train_defects/scratch/{jpeg.id}.png")
    assert np.array_equal(np.asarray(converted), np.asarray(Image.open(jpeg.image_path)))
    for line in manifest(folder):
        assert hashlib.sha256((folder / line["image"]).read_bytes()).hexdigest() == line["sha256"]


def test_folders_are_read_by_torchvision(made, tmp_path):
    from torchvision.datasets import ImageFolder

    assert not shows_one_class(made.samples[0].record)  # a pit beside a scratch is in no folder
    for mixed, pits in ((made, 1), (of_one_class(made), 2)):
        folder = exported(tmp_path, mixed, "folders")
        read = ImageFolder(str(folder / "train"))
        assert read.classes == ["good", "pit", "scratch"]
        names = sorted(read.classes[k] for _, k in read.samples)
        assert names == ["good", *["pit"] * pits, "scratch"]
    assert ImageFolder(str(folder / "val"), allow_empty=True).classes == read.classes


def test_yolo_boxes_without_masks_and_what_needs_masks_says_so(tmp_path):
    rng = np.random.default_rng(1)
    record, _ = real_image(tmp_path, rng, 0, "train", [("pit", np.ones((8, 9), bool), (5, 6))])
    bare = Instance(class_name="pit", box_xyxy=(5, 6, 14, 14))
    record = record.model_copy(update={"instances": (bare,)})
    only = Made([record], [], {})
    folder = exported(tmp_path, only, "yolo")
    row = (folder / f"labels/train/{record.id}.txt").read_text().split()
    assert row[0] == "0"
    assert np.allclose(np.array(row[1:], float), [9.5 / 131, 10 / 90, 9 / 131, 8 / 90], atol=1e-6)
    for name, other in (("yolo-seg", "--format yolo"), ("mvtec", "--format coco")):
        with pytest.raises(ExportError, match=other):
            exported(tmp_path, only, name)
        assert not (tmp_path / name).exists()


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_tells_where_its_images_came_from(made, tmp_path, name):
    made = of_one_class(made)
    lines = {line["id"]: line for line in manifest(exported(tmp_path, made, name))}
    assert len(lines) == 8
    made_line = lines["compact-0"]
    assert made_line["provenance"]["fingerprint"] == "f00"
    assert made_line["provenance"]["background_id"] == made.records[2].id
    assert lines[made.records[0].id]["provenance"]["source"] == "0.png"


def test_an_unknown_format_is_answered_with_those_that_exist(made, tmp_path):
    with pytest.raises(ExportError, match="'tfrecord'; choose one of yolo, yolo-seg, coco, voc"):
        exported(tmp_path, made, "tfrecord")


def test_photographs_that_are_links_are_linked_themselves(tmp_path):
    """As DVC and git-annex keep them: who reads the export is not led out of it."""
    (tmp_path / "store").mkdir()
    Image.new("L", (8, 8), 7).save(tmp_path / "store" / "a1b2.png")
    (tmp_path / "photo.png").symlink_to("store/a1b2.png")
    link_image(tmp_path / "photo.png", tmp_path / "export.png")
    assert not (tmp_path / "export.png").is_symlink()
    assert (tmp_path / "export.png").samefile(tmp_path / "store" / "a1b2.png")


def test_an_outline_of_a_great_many_dots_is_no_box() -> None:
    """Two points would be read as a box's centre and size."""
    mask = np.zeros((400, 400), bool)
    for y in range(0, 400, 20):
        for x in range(0, 400, 20):
            mask[y : y + 5, x : x + 5] = True
    outline = mask_to_polygon(mask)
    assert len(outline) >= 4
    assert outline.min(axis=0) == pytest.approx([0, 0], abs=0.1)
    assert outline.max(axis=0) == pytest.approx([385, 385], abs=0.1)
