"""Annotation files as they come: damaged, contradictory, or of values that no format knows."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from small_sources import H, W, photograph, refused, run, said, save

from augmentor.errors import SourceError
from augmentor.importers.instances import MaskRule, marks_of
from augmentor.importers.scan import Found, Shape

Document = dict[str, Any]


def coco(tmp_path: Path) -> Document:
    """Four images with a hole each, and a clean one; not yet written."""
    for k in range(5):
        save(tmp_path / f"in/images/{k}.png", photograph(k))
    images = [{"id": k, "file_name": f"{k}.png", "width": W, "height": H} for k in range(5)]
    annotations = [
        {"id": k, "image_id": k, "category_id": 1, "bbox": [10, 5, 20, 12]} for k in range(4)
    ]
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "hole"}],
    }


def write_coco(tmp_path: Path, document: Document) -> None:
    (tmp_path / "in/a.json").write_text(json.dumps(document))


def test_two_coco_images_of_one_id_are_refused_by_name(tmp_path: Path) -> None:
    document = coco(tmp_path)
    document["images"][4]["id"] = 0
    write_coco(tmp_path, document)
    bad = refused(tmp_path)
    assert set(bad) == {"images/0.png", "images/4.png"}
    assert all(
        reason == "bad_label" and "a.json gives the id 0 to 2 images" in text
        for reason, text in bad.values()
    )
    assert len(run(tmp_path, on_bad="skip").records) == 3


def test_a_coco_image_listed_twice_alike_is_one(tmp_path: Path) -> None:
    document = coco(tmp_path)
    document["images"].append(document["images"][0])
    write_coco(tmp_path, document)
    assert run(tmp_path).report["images"] == {"hole": 4, "good": 1}


def test_a_coco_category_with_two_names_is_refused_where_it_is_used(tmp_path: Path) -> None:
    document = coco(tmp_path)
    document["categories"] += [{"id": 1, "name": "scratch"}, {"id": 2, "name": "pit"}]
    document["annotations"][3]["category_id"] = 2
    write_coco(tmp_path, document)
    bad = refused(tmp_path)
    assert set(bad) == {f"images/{k}.png" for k in range(3)}
    assert "category 1 is both 'hole' and 'scratch' in a.json" in bad["images/0.png"][1]


@pytest.mark.parametrize("name", [None, "", "  ", "ho\nle", True, ["hole"]])
def test_a_coco_category_without_a_usable_name_is_refused(tmp_path: Path, name: object) -> None:
    document = coco(tmp_path)
    document["categories"][0]["name"] = name
    write_coco(tmp_path, document)
    kind, reason = refused(tmp_path)["images/0.png"]
    assert kind == "unknown_class"
    assert "category 1 in a.json means no class" in reason


@pytest.mark.parametrize("odd", [3, "x", [1, 2], None])
def test_a_coco_annotation_that_is_no_object_is_refused(tmp_path: Path, odd: object) -> None:
    document = coco(tmp_path)
    document["annotations"].insert(2, odd)
    write_coco(tmp_path, document)
    for on_bad in ("error", "skip"):
        with pytest.raises(SourceError, match=r"a\.json: annotation 3 of 5 is no object.*mend"):
            run(tmp_path, on_bad=on_bad)


@pytest.mark.parametrize("image_id", [None, [1]])
@pytest.mark.parametrize("on_bad", ["error", "skip"])
def test_an_annotation_without_an_image_ends_the_import(
    tmp_path: Path, image_id: object, on_bad: str
) -> None:
    """Left out, its image would be taken for a clean one."""
    document = coco(tmp_path)
    _image_id(document, image_id)
    write_coco(tmp_path, document)
    with pytest.raises(SourceError, match=r"a\.json: annotation 1 of 4 has no image_id; mend"):
        run(tmp_path, on_bad=on_bad)


def test_ids_are_the_same_as_numbers_and_as_texts(tmp_path: Path) -> None:
    document = coco(tmp_path)
    plain = run_of(tmp_path / "a", document)
    for annotation in document["annotations"]:
        annotation["image_id"] = str(annotation["image_id"])
    assert run_of(tmp_path / "b", document) == plain


def run_of(folder: Path, document: Document) -> dict[str, int]:
    coco(folder)
    write_coco(folder, document)
    return {r.source_path.name: len(r.instances) for r in run(folder).records}


def _entry(document: Document, value: object) -> None:
    document["images"].append(value)


def _image_id(document: Document, value: object) -> None:
    document["annotations"][0]["image_id"] = value


def _category_id(document: Document, value: object) -> None:
    document["annotations"][0]["category_id"] = value


def _file_name(document: Document, value: object) -> None:
    document["images"][0]["file_name"] = value


def _width(document: Document, value: object) -> None:
    document["images"][0]["width"] = value


@pytest.mark.parametrize(
    ("change", "value", "path", "part"),
    [
        (_entry, 5, "a.json", "image 6 of its list is no object with a file_name"),
        (_entry, "x.png", "a.json", "image 6 of its list is no object with a file_name"),
        (_file_name, None, "a.json", "image 1 of its list is no object with a file_name"),
        (_file_name, "", "a.json", "image 1 of its list is no object with a file_name"),
        (_file_name, "\ud800.png", "a.json", "image 1 of its list is no object with a file_name"),
        (_file_name, "a\0.png", "a\0.png", "a.json lists it and it is not there"),
        (_image_id, 99, "a.json", "1 annotations are of images that it doesn't list"),
        (_category_id, [1], "images/0.png", "category [1] is not in a.json"),
        (_width, 10**400, "images/0.png", "its label was made for 10000"),
    ],
)
def test_odd_coco_values_are_bad_files(
    tmp_path: Path, change: Callable[[Document, object], None], value: object, path: str, part: str
) -> None:
    document = coco(tmp_path)
    change(document, value)
    write_coco(tmp_path, document)
    assert part in refused(tmp_path)[path][1]


def run_lengths(mask: np.ndarray) -> Document:
    made = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": made["size"], "counts": made["counts"].decode()}


def small() -> np.ndarray:
    mask = np.zeros((H // 2, W // 2), bool)
    mask[5:15, 7:27] = True
    return mask


@pytest.mark.parametrize(
    ("rle", "part"),
    [
        (run_lengths(small()), "its run lengths are for 32 x 20 px, not 64 x 40"),
        (run_lengths(small()) | {"size": [H, W]}, "its run lengths cover 640 px, not 64 x 40"),
        ({"size": [H, W], "counts": [5, 7, 20]}, "its run lengths cover 32 px, not 64 x 40"),
        ({"size": [H, W], "counts": [5, -5, H * W]}, "its run lengths can't be read"),
        ({"size": [H, W], "counts": ["a"]}, "its run lengths can't be read"),
        ({"size": [H, W], "counts": "zz~\x01"}, "its run lengths can't be read"),
        ({"size": [H, W], "counts": "zzz"}, "its run lengths can't be read"),
        ({"size": [H, W], "counts": "a" * 200}, "its run lengths can't be read"),
        ({"size": [H, W], "counts": None}, "its run lengths can't be read"),
        ({"size": [H, W]}, "its run lengths can't be read"),
        ({"size": [H], "counts": [5]}, "its run lengths can't be read"),
        ({"size": None, "counts": [5]}, "its run lengths can't be read"),
    ],
)
def test_run_lengths_that_are_not_the_images_are_refused(
    tmp_path: Path, rle: Document, part: str
) -> None:
    document = coco(tmp_path)
    document["annotations"][0]["segmentation"] = rle
    write_coco(tmp_path, document)
    kind, reason = refused(tmp_path)["images/0.png"]
    assert kind == "bad_label" and part in reason


@pytest.mark.parametrize("seed", range(3))
def test_run_lengths_are_decoded_as_pycocotools_does(tmp_path: Path, seed: int) -> None:
    mask = np.random.default_rng(seed).random((H, W)) < (0.02, 0.5, 0.98)[seed]
    document = coco(tmp_path)
    document["annotations"][0]["segmentation"] = run_lengths(mask)
    write_coco(tmp_path, document)
    record = next(r for r in run(tmp_path).records if r.source_path.name == "0.png")
    x1, y1, x2, y2 = record.instances[0].box_xyxy
    found = np.asarray(Image.open(record.instances[0].mask_path)) > 0  # type: ignore[arg-type]
    assert (found == mask[y1:y2, x1:x2]).all() and found.sum() == mask.sum()


@pytest.mark.parametrize(
    "shape",
    [
        {"bbox": [10, 5, 20]},
        {"bbox": None},
        {"bbox": {"x": 1}},
        {"bbox": [10, 5, 10**400, 12]},
        {"bbox": [10, 5, float("nan"), 12]},
        {"bbox": [10, 5, 1e308, 1e308]},
        {"segmentation": True},
        {"segmentation": "abc"},
        {"segmentation": {}},
        {"segmentation": [[10, 5, 10**400, 5, 30, 17]]},
        {"segmentation": [5, 6, 7, 8, 9, 10]},
        {"segmentation": [[10, 5, 30, 5]]},
    ],
)
def test_odd_coco_shapes_are_bad_labels(tmp_path: Path, shape: Document) -> None:
    document = coco(tmp_path)
    document["annotations"][0].update(shape)
    write_coco(tmp_path, document)
    assert {path: kind for path, (kind, _) in refused(tmp_path).items()} == {
        "images/0.png": "bad_label"
    }


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_outline_with_a_value_that_is_no_number_is_refused(tmp_path: Path, value: float) -> None:
    document = coco(tmp_path)
    document["annotations"][0]["segmentation"] = [[10, 10, value, 10, 30, 30]]
    write_coco(tmp_path, document)
    assert (
        "an outline of its labels holds a value that is no number"
        in (refused(tmp_path)["images/0.png"][1])
    )


@pytest.mark.parametrize("layout", ["auto", "coco"])
def test_a_coco_file_that_was_cut_off_is_named(tmp_path: Path, layout: str) -> None:
    document = coco(tmp_path)
    (tmp_path / "in/a.json").write_text(json.dumps(document)[:-20])
    with pytest.raises(SourceError, match=r"a\.json is no whole JSON.*save it again"):
        run(tmp_path, layout=layout)


def test_other_damaged_json_does_not_matter(tmp_path: Path) -> None:
    write_coco(tmp_path, coco(tmp_path))
    (tmp_path / "in/settings.json").write_text('{"zoom": ')
    assert run(tmp_path).layout == "coco"


def yolo(tmp_path: Path) -> Path:
    """Four images with a box each, and a clean one; returns the folder."""
    root = tmp_path / "in"
    for k in range(5):
        save(root / f"images/{k}.png", photograph(k))
        (root / "labels").mkdir(exist_ok=True)
        (root / f"labels/{k}.txt").write_text("0 0.5 0.5 0.25 0.25\n" if k < 4 else "")
    (root / "data.yaml").write_text("names: [hole, scratch]\n")
    return root


@pytest.mark.parametrize("word", ["nan", "inf", "-inf", "0.5"])
def test_a_yolo_class_that_is_no_whole_number_is_refused(tmp_path: Path, word: str) -> None:
    (yolo(tmp_path) / "labels/0.txt").write_text(f"{word} 0.5 0.5 0.1 0.1\n")
    kind, reason = refused(tmp_path)["images/0.png"]
    assert kind == "bad_label" and f"line 1 has the class {word}, no whole number" in reason


@pytest.mark.parametrize(
    "line",
    [
        "0 nan 0.5 0.1 0.1",
        "0 inf 0.5 0.1 0.1",
        "0 1e308 0.5 1e308 0.1",
        "0 0.1 0.1 nan 0.2 0.3 0.3",
        "0 0.1 0.1 0.2 0.2 0.3",
    ],
)
def test_odd_yolo_shapes_are_bad_labels(tmp_path: Path, line: str) -> None:
    (yolo(tmp_path) / "labels/0.txt").write_text(line + "\n")
    assert {path: kind for path, (kind, _) in refused(tmp_path).items()} == {
        "images/0.png": "bad_label"
    }


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("names: [a\n b: :", "can't be read"),
        ("names: {0: hole, '²': scratch}", "names must be a list, or a map from class numbers"),
        ("names: {-1: hole, 0: scratch}", "names must be a list, or a map from class numbers"),
        ("names: hole", "names must be a list, or a map from class numbers"),
        ("names: {0: hole, '0': scratch}", "names class 0 twice"),
        ("names: [hole, hole]", "gives classes 0 and 1 the same name, 'hole'"),
        ("names: [null, scratch]", "the name of class 0"),
        ("names: [no, scratch]", "the name of class 0"),
        ("names: ['', scratch]", "the name of class 0"),
        ('names: ["ho\\nle", scratch]', "the name of class 0"),
        ("names: [[a], [b]]", "the name of class 0"),
        ("names: [a]\nday: 2024-99-99\n", "can't be read"),
    ],
)
def test_yolo_names_that_cannot_be_are_refused_by_name(
    tmp_path: Path, text: str, part: str
) -> None:
    (yolo(tmp_path) / "data.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(SourceError, match=r"data\.yaml") as caught:
        run(tmp_path)
    assert part in str(caught.value)


def test_yolo_names_that_are_no_utf8_or_contradict_each_other_are_refused(tmp_path: Path) -> None:
    root = yolo(tmp_path)
    (root / "data.yaml").write_bytes("names: [riß]\n".encode("latin-1"))
    with pytest.raises(SourceError, match=r"data\.yaml can't be read \(.*utf-8"):
        run(tmp_path)
    (root / "data.yaml").write_text("names: [hole, scratch]\n")
    (root / "a.yaml").write_text("names: {0: hole, 1: scratch}\n")
    (root / "notes.yaml").write_text("camera: [1\n")
    assert run(tmp_path).classes == ("hole",)
    (root / "a.yaml").write_text("names: [pit, scratch]\n")
    with pytest.raises(SourceError, match=r"a\.yaml and data\.yaml name the classes differently"):
        run(tmp_path)


def test_a_gap_in_classes_txt_is_refused_and_not_closed(tmp_path: Path) -> None:
    root = yolo(tmp_path)
    (root / "data.yaml").unlink()
    (root / "classes.txt").write_text("hole\n\nscratch\n\n\n")
    with pytest.raises(SourceError, match=r"classes\.txt: the name of class 1 is empty"):
        run(tmp_path)
    (root / "classes.txt").write_text("hole\r\nscratch\r\n\r\n")
    assert run(tmp_path).classes == ("hole",)
    (root / "classes.txt").write_bytes("riß\n".encode("latin-1"))
    with pytest.raises(SourceError, match=r"classes\.txt can't be read"):
        run(tmp_path)


def voc(tmp_path: Path, width: object = W, name: str = "hole") -> None:
    """Four images with a box each, and a clean one; the size and name are the first one's."""
    for k in range(5):
        save(tmp_path / f"in/{k}.png", photograph(k))
        item = (
            f"<object><name>{'hole' if k else name}</name><bndbox><xmin>11</xmin><ymin>6</ymin>"
            "<xmax>30</xmax><ymax>17</ymax></bndbox></object>"
        )
        size = f"<size><width>{W if k else width}</width><height>{H}</height></size>"
        text = f"<filename>{k}.png</filename>{size}{item if k < 4 else ''}"
        (tmp_path / f"in/{k}.xml").write_text(f"<annotation>{text}</annotation>")


@pytest.mark.parametrize("width", ["inf", "nan", "-4", "wide", "1e308"])
def test_a_voc_size_that_cannot_be_is_refused(tmp_path: Path, width: str) -> None:
    voc(tmp_path, width)
    kind, reason = refused(tmp_path)["0.png"]
    assert kind == "bad_label"
    assert "0.xml states a size that can't be" in reason or "label was made for 1000" in reason


@pytest.mark.parametrize("width", ["0", "", f"{W}.0"])
def test_a_voc_size_that_is_missing_is_the_images_own(tmp_path: Path, width: str) -> None:
    voc(tmp_path, width)
    assert run(tmp_path).report["images"] == {"hole": 4, "good": 1}


def test_a_voc_name_of_two_lines_is_refused(tmp_path: Path) -> None:
    voc(tmp_path, name="ho\nle")
    kind, reason = refused(tmp_path)["0.png"]
    assert kind == "unknown_class" and "0.xml" in reason and "line break" in reason


def test_categories_of_one_name_are_one_class_and_told(tmp_path: Path) -> None:
    document = coco(tmp_path)
    document["categories"].append({"id": 7, "name": "hole"})
    document["annotations"][0]["category_id"] = 7
    write_coco(tmp_path, document)
    outcome = run(tmp_path)
    assert list(outcome.classes) == ["hole"]
    assert "Categories 1, 7 in a.json are all named 'hole'" in said(outcome)


@pytest.mark.parametrize(("orientation", "told"), [(1, False), (3, True), (4, True)])
def test_labels_that_fit_a_photograph_turned_or_not_are_told(
    tmp_path: Path, orientation: int, told: bool
) -> None:
    document = coco(tmp_path)
    stored(tmp_path / "in/images/0.png", photograph(0), orientation)
    write_coco(tmp_path, document)
    assert ("1 labelled images, such as images/0.png, are turned" in said(run(tmp_path))) == told


def test_a_photograph_on_its_side_is_told_where_its_size_does_not_tell(tmp_path: Path) -> None:
    for k in range(4):
        save(tmp_path / f"in/images/{k}.png", photograph(k))
        label = tmp_path / f"in/labels/{k}.txt"
        label.parent.mkdir(exist_ok=True)
        label.write_text("0 0.3 0.3 0.2 0.2\n")
    stored(tmp_path / "in/images/1.png", photograph(1), orientation=6)
    stored(tmp_path / "in/images/2.png", photograph(2)[:, :H], orientation=6)
    assert "2 labelled images, such as images/1.png, are turned" in said(run(tmp_path))
    (tmp_path / "in/labels/1.txt").write_text("")
    (tmp_path / "in/labels/2.txt").write_text("")
    assert "labelled images" not in said(run(tmp_path))


def stored(path: Path, pixels: np.ndarray, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)


def test_a_label_of_another_folder_is_not_taken_for_an_image_of_its_name(tmp_path: Path) -> None:
    """A COCO entry, a YOLO file and a VOC file of lineB/4.png, which is gone; lineA has a 4.png."""
    document = coco(tmp_path)
    for k, line in enumerate("AABB"):
        save(tmp_path / f"in/line{line}/{k}.png", photograph(k))
        document["images"][k]["file_name"] = f"line{line}/{k}.png"
    shutil.rmtree(tmp_path / "in/images")
    save(tmp_path / "in/lineA/4.png", photograph(9))
    document["images"][4]["file_name"] = "lineB/4.png"
    write_coco(tmp_path, document)
    bad = refused(tmp_path)
    assert set(bad) == {"lineB/4.png", "lineA/4.png"}
    assert "only one of its name in another folder" in bad["lineB/4.png"][1]
    document["images"][4]["file_name"] = "D:\\work\\images\\4.png"
    write_coco(tmp_path, document)
    assert len(run(tmp_path).records) == 5


LABELS = {
    "yolo": ("0 .5 .5 .3 .3\n", "txt"),
    "voc": (
        "<annotation><filename>{}.png</filename><object><name>a</name><bndbox><xmin>3</xmin>"
        "<ymin>3</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>",
        "xml",
    ),
}
"""Of each layout a label file's text and suffix."""


def test_a_folder_that_was_renamed_keeps_its_labels(tmp_path: Path) -> None:
    document = coco(tmp_path)
    (tmp_path / "in/images").rename(tmp_path / "in/photos_2024")
    for image in document["images"]:
        image["file_name"] = f"upload_7/{image['file_name']}"
    write_coco(tmp_path, document)
    assert run(tmp_path).report["images"] == {"hole": 4, "good": 1}


@pytest.mark.parametrize("layout", ["yolo", "voc"])
def test_label_files_in_a_folder_of_any_name_are_found(tmp_path: Path, layout: str) -> None:
    text, suffix = LABELS[layout]
    for k in range(3):
        save(tmp_path / f"in/imgs_jpg/{k}.png", photograph(k))
        path = tmp_path / f"in/labels_{layout}/{k}.{suffix}"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text.format(k))
    assert len(run(tmp_path).records) == 3


@pytest.mark.parametrize("layout", ["yolo", "voc"])
def test_a_label_file_of_another_folder_is_not_taken_either(tmp_path: Path, layout: str) -> None:
    text, suffix = LABELS[layout]
    folder = {"yolo": "labels", "voc": "Annotations"}[layout]
    for name in ("lineA/1", "lineA/2", "lineB/3"):
        save(tmp_path / f"in/images/{name}.png", photograph(len(name) + int(name[-1])))
    for name in ("lineA/1", "lineB/3", "lineB/2"):
        path = tmp_path / f"in/{folder}/{name}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.format(Path(name).name))
    assert set(refused(tmp_path)) == {f"{folder}/lineB/2.{suffix}", "images/lineA/2.png"}


def test_a_yolo_file_beside_photographs_without_its_own_is_named(tmp_path: Path) -> None:
    for k in range(3):
        save(tmp_path / f"in/{k}.png", photograph(k))
        (tmp_path / f"in/{k}.txt").write_text("0 .5 .5 .3 .3\n")
    (tmp_path / "in/77.txt").write_text("0 .5 .5 .3 .3\n")
    (tmp_path / "in/readme.txt").write_text("Taken in May.\n")
    assert refused(tmp_path) == {"77.txt": ("no_image", "no image of its name was found")}


def labelme(path: Path) -> None:
    shape = {"label": "hole", "points": [[5, 5], [15, 5], [15, 15]], "shape_type": "polygon"}
    path.write_text(json.dumps({"version": "5", "shapes": [shape], "imagePath": "0.png"}))


def cvat(path: Path) -> None:
    box = '<box label="hole" xtl="1" ytl="1" xbr="9" ybr="9"/>'
    image = f'<image id="0" name="hole/0.png" width="64" height="40">{box}</image>'
    path.with_suffix(".xml").write_text(f"<annotations>{image}</annotations>")


@pytest.mark.parametrize(("write", "tool"), [(labelme, "LabelMe"), (cvat, "CVAT")])
def test_labels_of_a_tool_that_is_not_read_are_not_passed_over(
    tmp_path: Path, write: Callable[[Path], None], tool: str
) -> None:
    for k in range(3):
        save(tmp_path / f"in/good/{k}.png", photograph(k))
        save(tmp_path / f"in/hole/{k}.png", photograph(k + 9))
    write(tmp_path / "in/hole/0.json")
    with pytest.raises(SourceError, match=rf"labels of {tool}.*COCO.*--layout folders"):
        run(tmp_path)
    outcome = run(tmp_path, layout="folders")
    assert "1 files named like a photograph, such as hole/0" in said(outcome)
    assert sum(outcome.report["other_files"].values()) == 1


def test_a_class_of_which_the_name_begins_like_good_is_warned_of(tmp_path: Path) -> None:
    document = coco(tmp_path)
    document["categories"].append({"id": 2, "name": "normal wear"})
    document["annotations"][0]["category_id"] = 2
    write_coco(tmp_path, document)
    assert "The class 'normal wear' is read as clean" in said(run(tmp_path))


def test_text_files_that_name_the_classes_in_another_order_are_refused(tmp_path: Path) -> None:
    """LabelImg writes one into each folder, in the order in which that folder met the classes."""
    root = yolo(tmp_path)
    (root / "data.yaml").unlink(missing_ok=True)
    (root / "a").mkdir()
    (root / "b").mkdir()
    (root / "a/classes.txt").write_text("hole\n")
    (root / "b/classes.txt").write_text("hole\nscratch\n")
    assert run(tmp_path).classes == ("hole",)
    (root / "b/classes.txt").write_text("scratch\nhole\n")
    said = (
        r"a/classes\.txt and b/classes\.txt name the classes differently: 0 is 'hole' and 'scratch'"
    )
    with pytest.raises(SourceError, match=said):
        run(tmp_path)


@pytest.mark.parametrize("side", [1920, 2448, 4096, 5472])
def test_boxes_of_whole_pixels_survive_six_decimals(side: int) -> None:
    rng = np.random.default_rng(side)
    for _ in range(300):
        x1, x2 = sorted(rng.choice(side, 2, replace=False).tolist())
        centre, width = (round(v, 6) for v in ((x1 + x2) / 2 / side, (x2 - x1) / side))
        ends = (centre - width / 2, centre + width / 2)
        shape = Shape("hole", (ends[0], ends[0], ends[1], ends[1]))
        found = Found(Path("a.png"), shapes=(shape,), normalised=True)
        (part,) = marks_of(found, (side, side), MaskRule()).parts
        assert part.box_xyxy == (x1, x1, x2, x2)


def test_coco_classes_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    document = coco(tmp_path)
    document["categories"] = [{"id": k, "name": f"c{k}"} for k in (10, 2, 11, 1)]
    for k, annotation in enumerate(document["annotations"]):
        annotation["category_id"] = (10, 2, 11, 1)[k]
    write_coco(tmp_path, document)
    assert run(tmp_path).classes == ("c1", "c2", "c10", "c11")


def test_outlines_that_are_all_boxes_are_read_as_boxes(tmp_path: Path) -> None:
    """As labelme2coco writes rectangles; as exact masks they would teach slabs of bare surface."""
    document = coco(tmp_path)
    for annotation in document["annotations"]:
        annotation["segmentation"] = [[10, 5, 30, 5, 30, 17, 10, 17]]
    write_coco(tmp_path, document)
    outcome = run(tmp_path)
    found = {i.mask_kind for r in outcome.records for i in r.instances}
    assert found == {"approximate"}
    assert "so they are read as boxes" in " ".join(outcome.report["notes"])
    document["annotations"][0]["segmentation"] = [[10, 5, 30, 5, 34, 11, 30, 17, 10, 17]]
    write_coco(tmp_path, document)
    again = {i.mask_kind for r in run(tmp_path).records for i in r.instances}
    assert again == {"exact"}, "where one has a shape, all were drawn"


def test_turned_boxes_of_yolo_are_boxes(tmp_path: Path) -> None:
    root = yolo(tmp_path)
    for path in (root / "labels").rglob("*.txt"):
        if path.read_text().strip():
            path.write_text("0 0.3 0.2 0.5 0.3 0.4 0.6 0.2 0.5\n")
    outcome = run(tmp_path)
    (instance, *_) = [i for r in outcome.records for i in r.instances]
    assert instance.mask_kind == "approximate"
    assert instance.box_xyxy == (12, 8, 32, 24)


def test_an_unlabelled_image_among_defects_is_spoken_of(tmp_path: Path) -> None:
    """CVAT and Label Studio list what nobody has labelled yet as they list what is clean."""
    document = coco(tmp_path)
    write_coco(tmp_path, document)
    assert "folders of defect classes" not in said(run(tmp_path))
    save(tmp_path / "in/Hole/9.png", photograph(9))
    document["images"].append({"id": 9, "file_name": "Hole/9.png", "width": W, "height": H})
    write_coco(tmp_path, document)
    assert "1 images in folders of defect classes have no label, such as Hole/9.png" in (
        said(run(tmp_path))
    )
