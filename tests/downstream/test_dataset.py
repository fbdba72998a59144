"""Reading an export: what is refused, and in which words."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from downstream.dataset import read_export
from downstream.errors import ExportError, LeakError, SettingsError
from downstream.files import sha256_of_file

MakeExport = Callable[..., Path]


def edit(folder: Path, name: str, **changes: object) -> dict:
    """Change one line of the manifest; returns it as it now is."""
    path = folder / "manifest.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    changed = next(line for line in lines if line["id"] == name)
    changed.update(changes)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return changed


def test_reads_arms_and_counts(blobs: Path) -> None:
    export = read_export(blobs)
    assert export.classes == ("dot", "bar")
    assert len(export.items("train", "real")) == 8
    assert len(export.items("train", "mixed")) == 20
    assert len(export.items("test")) == 9
    count = export.counts(export.items("train", "mixed"))
    assert count["synthetic"] == 12 and count["by_generator"] == {"compact": 12}
    assert count["by_class"] == {"dot": 9, "bar": 9, "good": 2}
    first = export.items("train", "real")[0]
    assert first.image.is_absolute() and first.width != first.height


def test_unknown_arm(blobs: Path) -> None:
    with pytest.raises(SettingsError, match="no arm 'fancy', only real, mixed"):
        read_export(blobs).items("train", "fancy")


def test_missing_label_is_no_clean_image(make_export: MakeExport) -> None:
    folder = make_export()
    (folder / "labels/train/train2.txt").unlink()  # a clean image, whose label would be empty
    with pytest.raises(ExportError, match=r"label file .*train2\.txt is missing"):
        read_export(folder)


def test_missing_mask(make_export: MakeExport) -> None:
    folder = make_export(task="segment")
    assert read_export(folder).items("train", "real")[0].mask == folder / "masks/train/train0.png"
    (folder / "masks/train/train0.png").unlink()
    with pytest.raises(ExportError, match=r"mask file .*train0\.png is missing; build the export"):
        read_export(folder)


def test_a_defect_without_a_mask_and_a_mask_without_a_defect(make_export: MakeExport) -> None:
    folder = make_export(task="segment")
    edit(folder, "val1", mask=None)
    with pytest.raises(ExportError, match=r"val1\.png lacks its mask"):
        read_export(folder)
    edit(folder, "val1", mask="masks/val/val1.png")
    edit(folder, "val2", mask="masks/val/val1.png")  # a clean image
    with pytest.raises(ExportError, match=r"val2\.png has a mask but no box"):
        read_export(folder)


def test_an_export_from_before_there_were_masks(make_export: MakeExport) -> None:
    """With boxes it still counts; one that says it has masks must be built again."""
    folder = make_export(task="segment")
    path = folder / "manifest.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    stripped = [{k: v for k, v in line.items() if k != "mask"} for line in lines]
    path.write_text("".join(json.dumps(line) + "\n" for line in stripped))
    with pytest.raises(ExportError, match="earlier version; build it again: augment build"):
        read_export(folder)
    header = json.loads((folder / "export.json").read_text())
    (folder / "export.json").write_text(json.dumps({**header, "task": "detect"}))
    assert read_export(folder).items("val")[0].mask is None


def test_missing_image(make_export: MakeExport) -> None:
    folder = make_export()
    (folder / "images/val/val0.png").unlink()
    with pytest.raises(ExportError, match=r"image file .*val0\.png is missing"):
        read_export(folder)


def test_altered_image(make_export: MakeExport) -> None:
    folder = make_export()
    path = folder / "images/test/test0.png"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ExportError, match=r"test0\.png is not the file whose sha256"):
        read_export(folder)


def test_same_content_in_two_splits(make_export: MakeExport) -> None:
    folder = make_export()
    source, copy = folder / "images/train/train0.png", folder / "images/test/test0.png"
    copy.write_bytes(source.read_bytes())
    edit(folder, "test0", sha256=sha256_of_file(copy), boxes=[[0, 1, 1, 5, 5]])
    with pytest.raises(LeakError, match=r"test0\.png in test and train0 in train share"):
        read_export(folder)


def test_synthetic_made_from_test(make_export: MakeExport) -> None:
    folder = make_export()
    edit(folder, "mixed-synthetic3", source_ids=["train0", "test4"])
    with pytest.raises(LeakError, match="mixed-synthetic3 was made from test4, which is in test"):
        read_export(folder)


def test_synthetic_in_val(make_export: MakeExport) -> None:
    folder = make_export()
    edit(folder, "val1", kind="synthetic", generator="compact")
    with pytest.raises(LeakError, match="val holds the synthetic image val1"):
        read_export(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boxes": []}, "labelled 'dot' but has 0 boxes"),
        ({"boxes": [[0, 5, 5, 5, 9]]}, "is empty or leaves the image"),
        ({"boxes": [[7, 1, 1, 5, 5]]}, "class outside 0 .. 1"),
        ({"class": "hole"}, "known are dot, bar, good"),
        ({"arms": ["fancy"]}, "in the arm 'fancy'"),
        ({"split": "dev"}, "split: Input should be 'train', 'val' or 'test'"),
    ],
)
def test_a_line_that_does_not_fit(
    make_export: MakeExport, changes: dict[str, object], message: str
) -> None:
    folder = make_export()
    edit(folder, "train0", **changes)
    with pytest.raises(ExportError, match=message):
        read_export(folder)


def test_label_file_against_manifest(make_export: MakeExport) -> None:
    folder = make_export()
    (folder / "labels/train/train0.txt").write_text("")
    with pytest.raises(ExportError, match=r"train0\.txt is empty but the manifest gives 1 boxes"):
        read_export(folder)


def test_no_export(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"no training export: it has no export\.json"):
        read_export(tmp_path)


def test_other_schema(make_export: MakeExport) -> None:
    folder = make_export()
    header = json.loads((folder / "export.json").read_text())
    (folder / "export.json").write_text(json.dumps({**header, "schema": 2}))
    with pytest.raises(ExportError, match="schema 2, and only 1 is known"):
        read_export(folder)
