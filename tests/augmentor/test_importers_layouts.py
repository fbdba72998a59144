"""Each layout: recognised, read, and read right."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from small_sources import H, W, mask_of, photograph, run, save

from augmentor.errors import SourceError
from augmentor.importers import ImportOutcome
from augmentor.importers.names import class_names, is_good
from generator.records import DefectExample

BOX = (10, 5, 30, 17)  # x1, y1, x2, y2


def picture(seed: int, size_hw: tuple[int, int] = (H, W)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(60, 200, (*size_hw, 3), dtype=np.uint8)


def by_name(outcome: ImportOutcome) -> dict[str, DefectExample]:
    return {r.source_path.name: r for r in outcome.records}


def boxes(record: DefectExample) -> list[tuple[str, tuple[int, int, int, int], str]]:
    return sorted((i.class_name, i.box_xyxy, i.mask_kind) for i in record.instances)


def mask_on_disk(record: DefectExample) -> np.ndarray:
    """All instances of a record painted into one mask."""
    full = np.zeros((record.height, record.width), bool)
    for item in record.instances:
        x1, y1, x2, y2 = item.box_xyxy
        values = np.asarray(Image.open(item.mask_path))  # type: ignore[arg-type]
        assert values.shape == (y2 - y1, x2 - x1)
        assert set(np.unique(values)) <= {0, 255}
        full[y1:y2, x1:x2] |= values > 0
    return full


def test_pairs_side_by_side_with_a_shared_prefix(tmp_path: Path) -> None:
    for k in range(3):
        save(tmp_path / f"in/MT_Crack/Imgs/e{k}.jpg", picture(k))
        save(tmp_path / f"in/MT_Crack/Imgs/e{k}.png", mask_of(BOX))
        save(tmp_path / f"in/MT_Free/Imgs/f{k}.jpg", picture(10 + k))
        save(tmp_path / f"in/MT_Free/Imgs/f{k}.png", mask_of())
    outcome = run(tmp_path)
    assert outcome.layout == "pairs" and "3 of 3 images have a mask" in outcome.layout_reason
    assert outcome.classes == ("Crack",)
    assert outcome.report["images"] == {"Crack": 3, "good": 3}
    assert boxes(by_name(outcome)["e0.jpg"]) == [("Crack", BOX, "exact")]
    assert any("'MT_'" in note for note in outcome.report["notes"])
    assert any("MT_Free" in note for note in outcome.report["notes"])


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/scratch/{}.png", "masks/scratch/{}.png"),
        ("images/scratch/{}.png", "masks/scratch/{}_mask.png"),
        ("scratch/images/{}.bmp", "scratch/ground_truth/{}_gt.png"),
        ("scratch/{}.png", "scratch/{}_mask.png"),
        ("scratch/{}.png", "scratch/{}-label.png"),
        ("scratch/{}.png", "scratch/{}_ausschuss.png"),
        ("scratch/img/{}.tif", "scratch/mask/mask_{}.png"),
        ("train/images/scratch/{}.png", "train/masks/scratch/{}.png"),
    ],
)
def test_pairs_by_suffix_prefix_and_folder(tmp_path: Path, image: str, mask: str) -> None:
    for k, name in enumerate(("part_01", "part_02", "part 3.b")):
        save(tmp_path / "in" / image.format(name), picture(k))
        save(tmp_path / "in" / mask.format(name), mask_of((k, 5, k + 9, 17)))
    outcome = run(tmp_path)
    assert outcome.layout == "pairs"
    assert outcome.classes == ("scratch",)
    assert len(outcome.records) == 3
    found = sorted(boxes(r)[0][1] for r in outcome.records)
    assert found == [(k, 5, k + 9, 17) for k in range(3)]


def test_pairs_without_class_folders(tmp_path: Path) -> None:
    for k in range(4):
        save(tmp_path / f"in/images/{k}.png", picture(k))
        save(tmp_path / f"in/masks/{k}.png", mask_of(BOX) if k else mask_of())
    outcome = run(tmp_path)
    assert outcome.classes == ("defect",)
    assert outcome.report["images"] == {"defect": 3, "good": 1}
    assert by_name(outcome)["0.png"].is_clean


def test_instances_touching_at_a_corner_or_across_a_small_gap_are_one(tmp_path: Path) -> None:
    mask = mask_of((2, 2, 10, 10), (10, 10, 14, 14), (17, 10, 25, 14), (40, 20, 60, 30))
    mask[35, 5] = 255  # a speck
    for k in range(3):
        save(tmp_path / f"in/pit/{k}.png", picture(k))
        save(tmp_path / f"in/pit/{k}_mask.png", mask)
    outcome = run(tmp_path)
    record = outcome.records[0]
    assert [b for _, b, _ in boxes(record)] == [(2, 2, 25, 14), (40, 20, 60, 30)]
    assert outcome.report["specks"] == 3
    want = mask > 0
    want[35, 5] = False
    assert (mask_on_disk(record) == want).all(), "closing joins instances, it adds no pixel"


def test_a_tiny_mask_alone_is_a_defect(tmp_path: Path) -> None:
    for k in range(3):
        save(tmp_path / f"in/pit/{k}.png", picture(k))
        save(tmp_path / f"in/pit/{k}_mask.png", mask_of((7, 8, 8, 9)))
    outcome = run(tmp_path)
    assert boxes(outcome.records[0]) == [("pit", (7, 8, 8, 9), "exact")]
    assert outcome.report["specks"] == 0


def mvtec(root: Path) -> None:
    for k in range(4):
        save(root / f"train/good/{k:03d}.png", picture(k))
        save(root / f"test/good/{k:03d}.png", picture(20 + k))
        save(root / f"test/hole/{k:03d}.png", picture(40 + k))
        save(root / f"ground_truth/hole/{k:03d}_mask.png", mask_of(BOX))


def test_mvtec(tmp_path: Path) -> None:
    mvtec(tmp_path / "in")
    outcome = run(tmp_path)
    assert outcome.layout == "mvtec" and "ground_truth" in outcome.layout_reason
    assert outcome.report["images"] == {"good": 8, "hole": 4}
    holes = [r for r in outcome.records if r.label == "hole"]
    assert all(boxes(r) == [("hole", BOX, "exact")] for r in holes)


def test_mvtec_with_several_objects_asks_for_one(tmp_path: Path) -> None:
    mvtec(tmp_path / "in/bottle")
    mvtec(tmp_path / "in/cable")
    with pytest.raises(SourceError, match=r"2 objects \(bottle, cable\); import one of them"):
        run(tmp_path)


@pytest.mark.parametrize("coloured", ["rgb_mask", "rbg_mask"])
def test_defect_spectrum_with_several_classes_in_one_mask(tmp_path: Path, coloured: str) -> None:
    root = tmp_path / "in"
    first, second = (2, 3, 20, 9), (30, 20, 50, 36)
    for k in range(3):
        for name, value in (("broken", 1), ("dirt", 2)):
            save(root / f"image/{name}/{k:03d}.png", picture(10 * value + k))
            save(root / f"mask/{name}/{k:03d}_mask.png", mask_of(first, value=value))
        save(root / f"image/combined/{k:03d}.png", picture(50 + k))
        both = mask_of(first, value=1) + mask_of(second, value=2)
        save(root / f"mask/combined/{k:03d}_mask.png", both)
        save(root / f"image/good/{k:03d}.png", picture(70 + k))
        for name in ("broken", "dirt", "combined"):
            save(root / f"{coloured}/{name}/{k:03d}_{coloured}.png", picture(0))
    outcome = run(tmp_path)
    assert outcome.layout == "mvtec" and "Defect Spectrum" in outcome.layout_reason
    assert outcome.classes == ("broken", "dirt")
    mixed = [r for r in outcome.records if "combined" in str(r.source_path)]
    assert len(mixed) == 3
    for record in mixed:
        assert boxes(record) == [("broken", first, "exact"), ("dirt", second, "exact")]
        assert record.label == "dirt", "the class with the largest area"
    assert any("class numbers" in note for note in outcome.report["notes"])


def voc_xml(
    objects: list[tuple[str, tuple[int, int, int, int]]], size: tuple[int, int], name: str
) -> str:
    items = "".join(
        f"<object><name>{label}</name><bndbox><xmin>{b[0]}</xmin><ymin>{b[1]}</ymin>"
        f"<xmax>{b[2]}</xmax><ymax>{b[3]}</ymax></bndbox></object>"
        for label, b in objects
    )
    return (
        f"<annotation><filename>{name}</filename><size><width>{size[0]}</width>"
        f"<height>{size[1]}</height><depth>3</depth></size>{items}</annotation>"
    )


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_voc_counts_from_one_and_proposes_masks(tmp_path: Path) -> None:
    for k in range(4):
        save(tmp_path / f"in/IMAGES/p{k}.jpg", picture(k))
        objects = [("pit", (1, 6, 30, 17)), ("scratch", (40, 20, 64, 40))][: k % 3]
        write(tmp_path / f"in/ANNOTATIONS/p{k}.xml", voc_xml(objects, (W, H), f"p{k}.jpg"))
    outcome = run(tmp_path)
    assert outcome.layout == "voc" and outcome.classes == ("pit", "scratch")
    records = by_name(outcome)
    assert records["p0.jpg"].is_clean and records["p3.jpg"].is_clean
    assert boxes(records["p1.jpg"]) == [("pit", (0, 5, 30, 17), "approximate")]
    assert boxes(records["p2.jpg"])[1] == ("scratch", (39, 19, 64, 40), "approximate")
    assert records["p2.jpg"].label == "scratch", "the class with the largest area"
    assert mask_on_disk(records["p2.jpg"]).any()
    assert any("counted from 1" in note for note in outcome.report["notes"])


def test_voc_that_counts_from_zero_and_was_made_at_half_the_size(tmp_path: Path) -> None:
    for k in range(3):
        save(tmp_path / f"in/p{k}.png", picture(k))
        objects = [("pit", (0, 3, 15, 9))]
        write(tmp_path / f"in/p{k}.xml", voc_xml(objects, (W // 2, H // 2), f"p{k}.png"))
    outcome = run(tmp_path)
    assert boxes(outcome.records[0]) == [("pit", (0, 6, 30, 18), "approximate")]
    assert any("another size" in note for note in outcome.report["notes"])


def coco_document(polygon: bool = False) -> dict:  # type: ignore[type-arg]
    truth = np.zeros((H, W), np.uint8)
    cv2.ellipse(truth, (30, 20), (12, 7), 20, 0, 360, 1, -1)
    compressed = coco_mask.encode(np.asfortranarray(truth))
    compressed["counts"] = compressed["counts"].decode()
    flat = truth.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *edges, flat.size]).tolist()
    shapes = [
        {"bbox": [10, 5, 20, 12], "segmentation": []},
        {"bbox": [0, 0, 1, 1], "segmentation": [[10, 5, 30, 5, 30, 17, 10, 17]]},
        {"bbox": [0, 0, 1, 1], "segmentation": compressed},
        {"bbox": [0, 0, 1, 1], "segmentation": {"size": [H, W], "counts": runs}, "iscrowd": 1},
    ]
    images = [{"id": k, "file_name": f"{k}.png", "width": W, "height": H} for k in range(5)]
    annotations = [
        {"id": k + 10, "image_id": k, "category_id": 7 + k % 2, **shape}
        for k, shape in enumerate(shapes)
    ]
    categories = [{"id": 8, "name": "crack"}, {"id": 7, "name": "pit"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def test_coco_boxes_polygons_and_run_lengths(tmp_path: Path) -> None:
    for k in range(5):
        save(tmp_path / f"in/images/{k}.png", picture(k))
    document = coco_document()
    write(tmp_path / "in/annotations/instances.json", json.dumps(document))
    outcome = run(tmp_path)
    assert outcome.layout == "coco" and outcome.classes == ("pit", "crack")
    records = by_name(outcome)
    assert boxes(records["0.png"]) == [("pit", BOX, "approximate")]
    assert boxes(records["1.png"]) == [("crack", BOX, "exact")]
    assert mask_on_disk(records["1.png"])[5:17, 10:30].all()
    truth = coco_mask.decode(
        {"size": [H, W], "counts": document["annotations"][2]["segmentation"]["counts"]}
    ).astype(bool)
    assert (mask_on_disk(records["2.png"]) == truth).all()
    assert (mask_on_disk(records["3.png"]) == truth).all()
    assert records["4.png"].is_clean


@pytest.mark.parametrize("parallel", [True, False])
def test_yolo_boxes_and_polygons(tmp_path: Path, parallel: bool) -> None:
    root = tmp_path / "in"
    for k, split in enumerate(("train", "train", "val", "val")):
        where = f"images/{split}" if parallel else f"{split}/images"
        save(root / where / f"{k}.jpg", picture(k))
        lines = [
            f"1 {20 / W} {11 / H} {20 / W} {12 / H}",
            f"0 {10 / W} {5 / H} {30 / W} {5 / H} {30 / W} {17 / H} {10 / W} {17 / H} "
            f"{10 / W} {11 / H}",
        ]
        where = f"labels/{split}" if parallel else f"{split}/labels"
        write(root / where / f"{k}.txt", "\n".join(lines[:k]) + "\n")
    write(root / "data.yaml", "names: {0: pit, 1: crack}\nnc: 2\n")
    outcome = run(tmp_path)
    assert outcome.layout == "yolo" and "data.yaml names the classes" in outcome.layout_reason
    assert outcome.classes == ("pit", "crack"), "the source's own order"
    records = by_name(outcome)
    assert records["0.jpg"].is_clean
    assert boxes(records["1.jpg"]) == [("crack", BOX, "approximate")]
    assert boxes(records["3.jpg"]) == [("crack", BOX, "approximate"), ("pit", BOX, "exact")]


def test_class_folders(tmp_path: Path) -> None:
    for k in range(3):
        save(tmp_path / f"in/train/rust/{k}.png", picture(k))
        save(tmp_path / f"in/test/rust/{k}.png", picture(10 + k))
        save(tmp_path / f"in/train/OK/{k}.png", picture(20 + k))
    outcome = run(tmp_path)
    assert outcome.layout == "folders" and "neither masks nor annotations" in outcome.layout_reason
    assert outcome.report["images"] == {"rust": 6, "good": 3}
    assert all(not r.instances for r in outcome.records)


def test_two_fitting_layouts_ask_for_one(tmp_path: Path) -> None:
    for k in range(3):
        save(tmp_path / f"in/{k}.png", picture(k))
        write(tmp_path / f"in/{k}.xml", voc_xml([("pit", (2, 6, 30, 17))], (W, H), f"{k}.png"))
        write(tmp_path / f"in/{k}.txt", "0 0.5 0.5 0.2 0.2\n")
    with pytest.raises(SourceError, match="--layout voc or yolo") as caught:
        run(tmp_path)
    assert "3 XML files are Pascal VOC" in str(caught.value)
    assert run(tmp_path, layout="voc").classes == ("pit",)
    assert run(tmp_path, layout="yolo").classes == ("class_0",)


def test_loose_images_are_of_no_layout(tmp_path: Path) -> None:
    save(tmp_path / "in/a.png", picture(0))
    with pytest.raises(SourceError, match="of no layout that is known here"):
        run(tmp_path)
    with pytest.raises(SourceError, match="'vok' is unknown; choose auto, pairs, mvtec, voc"):
        run(tmp_path, layout="vok")


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("MT_Free", True), ("good", True), ("OK", True), ("defect-free", True),
        ("DefectFree", True),
        ("no_defect", True), ("non-defective", True), ("NoDefect", True), ("Normal_01", True),
        ("not_ok", False), ("no good", False), ("NOK", False), ("freezing", False),
        ("defect", False), ("cleaning_mark", False), ("abnormal", False),
    ],
)  # fmt: skip
def test_names_that_mean_clean(name: str, good: bool) -> None:
    assert is_good(name) is good


def test_a_prefix_is_removed_only_where_all_share_it() -> None:
    assert class_names(["MT_A", "MT_Free"])[0] == {"MT_A": "A", "MT_Free": "good"}
    assert class_names(["MT_A", "B"])[0] == {"MT_A": "MT_A", "B": "B"}
    assert class_names(["MT_A"])[0] == {"MT_A": "MT_A"}
    assert class_names(["scratch", "scar"])[0] == {"scratch": "scratch", "scar": "scar"}


def test_a_second_view_or_format_is_no_mask(tmp_path: Path) -> None:
    for k in range(4):
        for label in ("pit", "good"):
            save(tmp_path / f"in/{label}/p{k}.png", picture(k + 10 * len(label)))
            save(tmp_path / f"in/{label}/p{k}_side.png", picture(k + 10 * len(label) + 5))
            save(tmp_path / f"in/{label}/p{k}.bmp", picture(k + 10 * len(label)))
    outcome = run(tmp_path)
    assert outcome.layout == "folders"
    assert len(outcome.records) == 16 and len(outcome.report["duplicates"]) == 8


def test_a_wrong_layout_is_told_which_one_it_looks_like(tmp_path: Path) -> None:
    for k in range(3):
        save(tmp_path / f"in/hole/{k}.png", photograph(k))
        save(tmp_path / f"in/good/{k}.png", photograph(k + 9))
    with pytest.raises(SourceError, match=r"Or leave --layout out: it looks like folders, since"):
        run(tmp_path, layout="yolo")
