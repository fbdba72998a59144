"""Folders, masks and photographs as they come: other names, few masks, other depths, twins."""

import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_sources import H, W, mask_of, photograph, refused, run, said, save

from augmentor.errors import ImageError, SourceError
from augmentor.images import opened
from augmentor.importers import ImportOutcome

BOX, OTHER = (10, 5, 30, 17), (40, 20, 60, 36)


def clean(root: Path, count: int = 3) -> None:
    for k in range(count):
        save(root / f"good/{k}.png", photograph(100 + k))


def test_a_mask_of_ones_beside_masks_of_white_is_told_what_to_do(tmp_path: Path) -> None:
    clean(tmp_path / "in")
    for k in range(4):
        save(tmp_path / f"in/hole/{k}.png", photograph(k))
        save(tmp_path / f"in/hole/{k}_mask.png", mask_of(BOX, value=255 if k else 1))
    kind, reason = refused(tmp_path)["hole/0.png"]
    assert kind == "empty_mask"
    assert "its highest value is 1" in reason and "save it with 255 on the defect" in reason


def test_a_mask_of_which_scaling_leaves_nothing_is_told_so(tmp_path: Path) -> None:
    large = np.zeros((H * 10, W * 10), np.uint8)
    large[1:3, 1:3] = 255
    for k in range(3):
        save(tmp_path / f"in/hole/{k}.png", photograph(k))
        save(tmp_path / f"in/hole/{k}_mask.png", mask_of(BOX) if k else large)
    assert "save it at that size" in refused(tmp_path)["hole/0.png"][1]


def test_a_plugin_that_ultralytics_makes_pillow_look_for_is_no_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened_by_plugin(*_: object) -> None:
        raise ImportError("No module named 'pi_heif'")

    monkeypatch.setattr(Image, "open", opened_by_plugin)
    with pytest.raises(ImageError, match="of no format that is read here"):
        opened(b"<html>", tmp_path / "9.png")


def test_the_report_names_no_address_in_memory(tmp_path: Path) -> None:
    clean(tmp_path / "in")
    for k in range(3):
        save(tmp_path / f"in/hole/{k}.png", photograph(k))
    (tmp_path / "in/hole/9.png").write_text("<html>404</html>")
    reason = refused(tmp_path)["hole/9.png"][1]
    assert "is not a whole image (of no format that is read here)" in reason


def boxes(outcome: ImportOutcome, name: str) -> list[tuple[int, int, int, int]]:
    record = next(r for r in outcome.records if r.source_path.name == name)
    return sorted(item.box_xyxy for item in record.instances)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("hole/{}.png", "hole/{}_mask_{}.png"),
        ("hole/{}.jpg", "hole/{}_mask{}.png"),
        ("hole/{}.png", "hole/{}-gt-{}.png"),
        ("images/hole/{}.png", "masks/hole/{}_{}.png"),
        ("images/hole/{}.png", "masks/hole/{}_mask_0{}.png"),
    ],
)
def test_numbered_masks_are_united_an_instance_each(tmp_path: Path, image: str, mask: str) -> None:
    root = tmp_path / "in"
    for k, name in enumerate(("p1", "p2", "p3")):
        save(root / image.format(name), photograph(k))
        save(root / mask.format(name, 1), mask_of((2, 2, 8, 8), (30, 30, 36, 36)))
        save(root / mask.format(name, 2), mask_of(OTHER))
    outcome = run(tmp_path)
    assert outcome.layout == "pairs" and len(outcome.records) == 3
    assert boxes(outcome, image.format("p1").split("/")[-1]) == [(2, 2, 36, 36), OTHER]
    notes = " ".join(outcome.report["notes"])
    assert "Of 3 images the masks are numbered; each of them is one instance." in notes


def test_a_numbered_mask_beside_one_without_a_number_belongs_to_the_same_image(
    tmp_path: Path,
) -> None:
    for k in range(3):
        save(tmp_path / f"in/hole/{k}.png", photograph(k))
        save(tmp_path / f"in/hole/{k}_mask.png", mask_of(BOX))
        save(tmp_path / f"in/hole/{k}_mask_1.png", mask_of(OTHER))
    assert boxes(run(tmp_path), "0.png") == [BOX, OTHER]


@pytest.mark.parametrize("mask", ["hole/{}_mask.png", "masks/hole/{}.png", "masks/hole/{}_1.png"])
def test_few_masks_are_masks_and_the_others_are_named(tmp_path: Path, mask: str) -> None:
    image = "images/hole/{}.png" if mask.startswith("masks") else "hole/{}.png"
    clean(tmp_path / "in/images" if mask.startswith("masks") else tmp_path / "in")
    for k in range(10, 20):
        save(tmp_path / "in" / image.format(f"a{k}"), photograph(k))
    for k in (10, 12, 14):
        save(tmp_path / "in" / mask.format(f"a{k}"), mask_of((k, 5, k + 9, 17)))
    bad = refused(tmp_path)
    without = {f"a{k}" for k in range(10, 20) if k not in (10, 12, 14)}
    assert {Path(path).stem for path in bad} == without
    assert {kind for kind, _ in bad.values()} == {"no_mask"}
    outcome = run(tmp_path, on_bad="skip")
    assert outcome.layout == "pairs" and "3 of 10 images have a mask" in outcome.layout_reason
    assert outcome.report["images"] == {"hole": 3, "good": 3}


def test_class_folders_refuse_masks_by_name(tmp_path: Path) -> None:
    clean(tmp_path / "in")
    for k in range(4):
        save(tmp_path / f"in/hole/a{k}.png", photograph(k))
    save(tmp_path / "in/hole/a0_mask.png", mask_of(BOX))
    bad = refused(tmp_path, layout="folders")
    assert set(bad) == {"hole/a0_mask.png"}
    assert (
        bad["hole/a0_mask.png"][0] == "mask_alone"
        and "leave --layout out" in (bad["hole/a0_mask.png"][1])
    )
    assert len(run(tmp_path, layout="folders", on_bad="skip").records) == 7


@pytest.mark.parametrize("folder", ["hole_masks", "binary"])
def test_masks_that_no_name_tells_are_refused_as_photographs(tmp_path: Path, folder: str) -> None:
    clean(tmp_path / "in")
    for k in range(4):
        save(tmp_path / f"in/hole/{k}.png", photograph(k))
        save(tmp_path / f"in/{folder}/{k}.png", mask_of(BOX, OTHER if k else BOX))
    bad = refused(tmp_path)
    assert set(bad) == {f"{folder}/{k}.png" for k in range(4)}
    assert all(kind == "mask_alone" for kind, _ in bad.values())
    assert "a folder masks" in bad[f"{folder}/0.png"][1]
    assert run(tmp_path, on_bad="skip").report["images"] == {"hole": 4, "good": 3}


def test_photographs_that_are_all_black_and_white_are_photographs(tmp_path: Path) -> None:
    for k in range(4):
        save(tmp_path / f"in/hole/{k}.png", mask_of((k, 5, k + 9, 17)))
        save(tmp_path / f"in/good/{k}.png", mask_of((k + 30, 5, k + 39, 17)))
    assert run(tmp_path).report["images"] == {"hole": 4, "good": 4}


def test_photographs_that_look_much_like_masks_are_told(tmp_path: Path) -> None:
    clean(tmp_path / "in")
    for k in range(4):
        save(tmp_path / f"in/hole/{k}.png", photograph(k))
        soft = mask_of((k, 5, k + 9, 17))
        soft[4, :6] = 40, 80, 120, 160, 200, 220
        save(tmp_path / f"in/outlines/{k}.png", soft)
    assert "4 images, such as outlines/0.png, are almost black and white alone" in said(
        run(tmp_path)
    )


def test_a_defect_view_beside_its_photograph_is_no_mask(tmp_path: Path) -> None:
    for k in range(4):
        for label in ("pit", "good"):
            save(tmp_path / f"in/{label}/p{k}.png", photograph(k + 10 * len(label)))
        save(tmp_path / f"in/pit/p{k}_defect.png", photograph(70 + k))
    assert run(tmp_path).report["images"] == {"pit": 8, "good": 4}


def test_classes_that_differ_in_case_are_kept_apart_and_told(tmp_path: Path) -> None:
    for k in range(3):
        for n, label in enumerate(("Hole", "hole")):
            save(tmp_path / f"in/{label}/{k}.png", photograph(10 * n + k))
            save(tmp_path / f"in/{label}/{k}_mask.png", mask_of((n, 5, n + 9, 17)))
    outcome = run(tmp_path)
    assert outcome.report["images"] == {"Hole": 3, "hole": 3}
    for record in outcome.records:
        left = record.instances[0].box_xyxy[0]
        assert left == ("Hole", "hole").index(record.source_path.parent.name)
    assert "Classes 'Hole' and 'hole' differ in case alone" in said(outcome)


def test_folders_of_masks_may_be_written_in_another_case(tmp_path: Path) -> None:
    for k in range(3):
        save(tmp_path / f"in/Images/Hole/{k}.png", photograph(k))
        save(tmp_path / f"in/masks/hole/{k}.png", mask_of(BOX))
    assert run(tmp_path).classes == ("Hole",)
    save(tmp_path / "in/Images/hole/0.png", photograph(50))
    assert set(refused(tmp_path)) == {
        "Images/Hole/0.png", "Images/Hole/1.png", "Images/Hole/2.png", "masks/hole/1.png",
        "masks/hole/2.png",
    }  # fmt: skip


def test_identical_photographs_with_other_masks_of_one_box_are_refused(tmp_path: Path) -> None:
    ring = mask_of(BOX)
    ring[9:13, 15:25] = 0
    for k in range(3):
        save(tmp_path / f"in/hole/{k}.png", photograph(k if k < 2 else 0))
        save(tmp_path / f"in/hole/{k}_mask.png", ring if k == 2 else mask_of(BOX))
    bad = refused(tmp_path)
    assert {path: kind for path, (kind, _) in bad.items()} == {
        "hole/0.png": "conflict", "hole/2.png": "conflict",
    }  # fmt: skip
    assert "another label or mask" in bad["hole/2.png"][1]


def test_eight_bits_in_sixteen_keep_their_brightness(tmp_path: Path) -> None:
    for k in range(3):
        save(tmp_path / f"in/hole/{k}.png", photograph(k).astype(np.uint16))
        save(tmp_path / f"in/hole/{k}_mask.png", mask_of(BOX))
    record = run(tmp_path).records[0]
    source = np.asarray(Image.open(record.source_path))
    assert (np.asarray(Image.open(record.image_path)) == source).all()


def test_one_deep_photograph_that_darkens_the_others_is_told(tmp_path: Path) -> None:
    for k in range(5):
        deep = photograph(k).astype(np.uint16) * (257 if k == 3 else 16)
        save(tmp_path / f"in/hole/{k}.png", deep)
        save(tmp_path / f"in/hole/{k}_mask.png", mask_of(BOX))
    warning = said(run(tmp_path))
    assert "1 of 5 images of more than 8 bit hold values of 16 bit, such as hole/3.png" in warning
    assert "the others come out up to 16 times darker" in warning


def test_photographs_of_one_depth_are_not_warned_of(tmp_path: Path) -> None:
    for k in range(5):
        save(tmp_path / f"in/hole/{k}.png", photograph(k).astype(np.uint16) * 16)
        save(tmp_path / f"in/hole/{k}_mask.png", mask_of(BOX))
    assert "bit" not in said(run(tmp_path))


@pytest.mark.parametrize("below", ["2024-05-{}1", "cam{}", "Batch_{}", "0{}", "day {}", "2024_W{}"])
def test_dates_cameras_and_numbers_below_class_folders_name_no_class(
    tmp_path: Path, below: str
) -> None:
    for n, label in enumerate(("hole", "crack", "good")):
        for k in range(4):
            folder = below.format(k % 2 + 1)
            save(tmp_path / f"in/parts/{label}/{folder}/{k}.png", photograph(10 * n + k))
    outcome = run(tmp_path)
    assert outcome.report["images"] == {"hole": 4, "crack": 4, "good": 4}
    notes = " ".join(outcome.report["notes"])
    assert f"{below.format(1)}, {below.format(2)} name no class" in notes
    assert not outcome.report["warnings"]


def test_numbered_classes_are_classes_where_nothing_else_names_one(tmp_path: Path) -> None:
    for label in (0, 1):
        for k in range(4):
            save(tmp_path / f"in/dataset_a/{label}/{k}.png", photograph(10 * label + k))
    assert run(tmp_path).classes == ("0", "1")


def test_other_folders_above_the_class_are_told(tmp_path: Path) -> None:
    for n, line in enumerate(("line_a", "line_b")):
        for label in ("hole", "good"):
            for k in range(4):
                seed = 20 * n + 10 * (label == "good") + k
                save(tmp_path / f"in/{line}/{label}/{k}.png", photograph(seed))
    outcome = run(tmp_path)
    assert outcome.report["images"] == {"hole": 8, "good": 8}
    assert "the folders above them, line_a, line_b, were not read as classes" in said(outcome)


def test_free_within_a_name_is_not_clean_and_odd_names_of_clean_are_told(tmp_path: Path) -> None:
    for n, label in enumerate(("free_edge", "hole", "normal_wear", "good")):
        for k in range(3):
            save(tmp_path / f"in/{label}/{k}.png", photograph(10 * n + k))
    outcome = run(tmp_path)
    assert outcome.report["images"] == {"free_edge": 3, "hole": 3, "good": 6}
    assert "'normal_wear' is read as clean, without defects; rename" in said(outcome)
    assert "'good'" not in said(outcome)


def test_folders_whose_names_begin_with_a_dot_are_told(tmp_path: Path) -> None:
    clean(tmp_path / "in")
    for k in range(3):
        save(tmp_path / f"in/crack/{k}.png", photograph(k))
        save(tmp_path / f"in/.hole/2024/{k}.png", photograph(10 + k))
    save(tmp_path / "in/crack/.hidden.png", photograph(30))
    save(tmp_path / "in/crack/._0.png", photograph(31))
    (tmp_path / "in/.git").mkdir()
    (tmp_path / "in/.git/HEAD").write_text("x")
    outcome = run(tmp_path)
    assert outcome.report["images"] == {"crack": 3, "good": 3}
    assert "Not read, since their names begin with a dot: .hole, crack/.hidden.png." in said(
        outcome
    )


@pytest.mark.parametrize("label", ["good", "OK"])
def test_a_folder_of_clean_images_alone_is_told_what_is_missing(tmp_path: Path, label: str) -> None:
    for k in range(3):
        save(tmp_path / f"in/{label}/{k}.png", photograph(k))
    with pytest.raises(SourceError, match=r"holds no defect image.*a folder named after the"):
        run(tmp_path)


def test_a_mask_of_one_class_is_not_given_to_an_image_of_another(tmp_path: Path) -> None:
    for n, label in enumerate(("hole", "crack")):
        for k in range(3):
            save(tmp_path / f"in/images/{label}/{label}{k}.png", photograph(10 * n + k))
            save(tmp_path / f"in/masks/{label}/{label}{k}.png", mask_of(BOX))
    stray = tmp_path / "in/masks/hole/hole0.png"
    stray.rename(tmp_path / "in/masks/crack/hole0.png")
    bad = refused(tmp_path)
    assert {path: kind for path, (kind, _) in bad.items()} == {
        "images/hole/hole0.png": "no_mask", "masks/crack/hole0.png": "no_image",
    }  # fmt: skip


def test_masks_that_mark_most_of_their_images_are_told(tmp_path: Path) -> None:
    for k in range(4):
        save(tmp_path / f"in/hole/{k}.png", photograph(k))
        save(tmp_path / f"in/hole/{k}_mask.png", 255 - mask_of(BOX) if k else mask_of(BOX))
    assert "In 3 of 4 images more than half is marked as defect, such as hole/1.png" in said(
        run(tmp_path)
    )


def test_masks_that_could_be_of_several_images_are_named(tmp_path: Path) -> None:
    for n, label in enumerate(("hole", "crack")):
        for k in range(2):
            save(tmp_path / f"in/images/{label}/{k}.png", photograph(10 * n + k))
            save(tmp_path / f"in/masks/{k}.png", mask_of(BOX))
    bad = refused(tmp_path)
    assert bad["masks/0.png"][0] == "no_image" and len(bad) == 6


@pytest.mark.parametrize("low", [1, 85, 127])
def test_areas_of_a_grey_that_would_be_background_are_asked_about(tmp_path: Path, low: int) -> None:
    both = np.maximum(mask_of(BOX, value=low), mask_of(OTHER))
    for k in range(4):
        save(tmp_path / f"in/images/{k}.png", photograph(k))
        save(tmp_path / f"in/masks/{k}.png", both if k else mask_of(OTHER))
    bad = refused(tmp_path)
    assert set(bad) == {f"images/{k}.png" for k in (1, 2, 3)}
    kind, reason = bad["images/1.png"]
    assert kind == "mask_levels" and f"--mask-threshold {low - 1}, else" in reason
    assert boxes(run(tmp_path, mask_threshold=low - 1), "1.png") == [BOX, OTHER]
    chosen = tmp_path / "chosen"
    shutil.copytree(tmp_path / "in", chosen / "in")
    assert boxes(run(chosen, mask_threshold=127), "1.png") == [OTHER]


def test_soft_edges_and_the_fringes_of_jpeg_are_no_greys_to_ask_about(tmp_path: Path) -> None:
    mask = mask_of(BOX, OTHER)
    soft = np.asarray(Image.fromarray(mask).resize((2 * W, 2 * H), Image.Resampling.BICUBIC))
    for k, (own, suffix) in enumerate([(mask, "jpg"), (soft, "png"), (soft, "jpg"), (mask, "png")]):
        save(tmp_path / f"in/images/p{k}.png", photograph(k))
        save(tmp_path / f"in/masks/p{k}.{suffix}", own)
    found = [boxes(run(tmp_path), f"p{k}.png") for k in range(4)]
    assert [len(own) for own in found] == [2] * 4


def test_a_mask_without_its_image_is_not_another_ones(tmp_path: Path) -> None:
    for k in range(1, 5):
        save(tmp_path / f"in/images/board_{k}.png", photograph(k))
        save(tmp_path / f"in/masks/board_{k}.png", mask_of(BOX))
    save(tmp_path / "in/masks/board_1_1.png", mask_of(OTHER))
    assert set(refused(tmp_path)) == {"masks/board_1_1.png"}
    assert boxes(run(tmp_path, on_bad="skip"), "board_1.png") == [BOX]


def test_photographs_that_are_not_read_and_links_to_nothing_are_named(tmp_path: Path) -> None:
    clean(tmp_path / "in")
    for k in range(3):
        save(tmp_path / f"in/hole/{k}.png", photograph(k))
    for name in ("a.HEIC", "b.pgm"):
        (tmp_path / f"in/hole/{name}").write_bytes(b"xx")
    (tmp_path / "in/hole/gone.png").symlink_to(tmp_path / "nowhere.png")
    bad = refused(tmp_path)
    assert set(bad) == {"hole/a.HEIC", "hole/b.pgm", "hole/gone.png"}
    assert {kind for kind, _ in bad.values()} == {"unreadable"}
    assert "link to a file that is gone" in bad["hole/gone.png"][1]
    assert len(run(tmp_path, on_bad="skip").records) == 6


def test_a_photograph_with_a_damaged_orientation_is_a_bad_file(tmp_path: Path) -> None:
    clean(tmp_path / "in")
    for k in range(3):
        save(tmp_path / f"in/hole/{k}.png", photograph(k))
    Image.fromarray(photograph(7)).save(tmp_path / "in/hole/x.png", exif=b"Exif\0\0MM")
    assert set(refused(tmp_path)) == {"hole/x.png"}
    assert len(run(tmp_path, on_bad="skip").records) == 6


def test_the_same_pixels_in_two_formats_can_not_be_good_and_bad(tmp_path: Path) -> None:
    clean(tmp_path / "in")
    for k in range(3):
        save(tmp_path / f"in/hole/{k}.png", photograph(k))
    save(tmp_path / "in/hole/again.bmp", photograph(0))
    outcome = run(tmp_path)
    assert len(outcome.records) == 6
    assert outcome.report["duplicates"] == [["hole/again.bmp", "hole/0.png"]]
    save(tmp_path / "in/good/copy.bmp", photograph(1))
    bad = refused(tmp_path)
    assert set(bad) == {"hole/1.png", "good/copy.bmp"}
    assert {kind for kind, _ in bad.values()} == {"conflict"}


def test_copies_that_roboflow_made_of_one_photograph_stay_together(tmp_path: Path) -> None:
    for k in range(20):
        for copy in range(3):
            name = f"IMG_{k:02}_jpg.rf.{k:016x}{copy:016x}.png"
            save(tmp_path / f"in/{'hole' if k % 2 else 'good'}/{name}", photograph(10 * k + copy))
    outcome = run(tmp_path)
    sides: dict[str, set[str | None]] = {}
    for record in outcome.records:
        sides.setdefault(record.source_path.name.split(".rf.")[0], set()).add(record.split)
    assert len(sides) == 20 and all(len(own) == 1 for own in sides.values())
    assert {side for own in sides.values() for side in own} == {"train", "val", "test"}
    assert "60 images are copies that Roboflow made of 20 photographs" in " ".join(
        outcome.report["notes"]
    )


def test_names_that_two_systems_write_differently_are_one_class(tmp_path: Path) -> None:
    clean(tmp_path / "in")
    for k, form in enumerate(("NFC", "NFD")):
        for n in range(3):
            folder = unicodedata.normalize(form, "Löcher")
            save(tmp_path / f"in/{folder}/{k}{n}.png", photograph(10 * k + n))
    assert run(tmp_path).classes == ("Löcher",)


def test_a_folder_that_comes_later_renames_no_class(tmp_path: Path) -> None:
    for k, name in enumerate(("MT_Break", "MT_Free", "MT_Fray")):
        for n in range(4):
            save(tmp_path / f"in/{name}/{n}.png", photograph(10 * k + n))
    first = run(tmp_path)
    assert first.classes == ("Break", "Fray")
    sides = {record.id: record.split for record in first.records}
    for n in range(4):
        save(tmp_path / f"in/scratch/{n}.png", photograph(50 + n))
        save(tmp_path / f"in/MT_Uneven/{n}.png", photograph(60 + n))
    later = run(tmp_path)
    assert later.classes == ("Break", "Fray", "Uneven", "scratch")
    assert later.report["images"]["good"] == 4
    assert {r.id: r.split for r in later.records if r.id in sides} == sides
    (tmp_path / "in/MT_Fray/0.png").unlink()
    assert "1 images of the import before are not there any more." in run(tmp_path).report["notes"]


def test_a_brighter_photograph_does_not_darken_those_that_were_imported(tmp_path: Path) -> None:
    def deep(name: str, top: int) -> None:
        pixels = np.random.default_rng(len(name) + top).integers(0, top, (H, W)).astype(np.uint16)
        pixels[0, 0] = top
        save(tmp_path / f"in/{name}.png", pixels)

    for k in range(4):
        deep(f"good/{k}", 4000 + k)
        deep(f"hole/{k}", 4050 + k)
    first = run(tmp_path)
    assert first.report["bit_depth"] == 12
    before = {r.id: np.asarray(Image.open(r.image_path)).mean() for r in first.records}
    deep("hole/dim", 900)
    deep("hole/new", 20_000)
    kind, reason = refused(tmp_path)["hole/new.png"]
    assert kind == "unreadable" and "15 bit" not in reason and "scaled from 12" in reason
    assert set(refused(tmp_path)) == {"hole/new.png"}  # what is known survives a refusal
    again = run(tmp_path, on_bad="skip")
    after = {r.id: np.asarray(Image.open(r.image_path)).mean() for r in again.records}
    assert len(after) == 9 and {k: after[k] for k in before} == before


def pairs_without_classes(root: Path, masks: list[np.ndarray]) -> None:
    for k, mask in enumerate(masks):
        save(root / f"images/{k}.png", photograph(k))
        save(root / f"masks/{k}.png", mask)


def test_a_faint_mask_makes_no_clean_image(tmp_path: Path) -> None:
    """Where no folder says that an image is clean, greys below the threshold may be a class."""
    white, grey, black = mask_of(BOX), mask_of(BOX, value=85), mask_of()
    pairs_without_classes(tmp_path / "in", [white, white, grey, black])
    (name, (kind, reason)) = next(iter(refused(tmp_path).items()))
    assert (name, kind) == ("images/2.png", "mask_levels")
    assert "its highest value is 85" in reason
    chosen = run(tmp_path, mask_threshold=127)  # who says so means it
    assert chosen.report["images"] == {"defect": 2, "good": 2}


def test_mask_values_without_folders_are_classes(tmp_path: Path) -> None:
    one, two, both = mask_of(BOX, value=1), mask_of(OTHER, value=2), mask_of(BOX, value=1)
    both[20:36, 40:60] = 3
    pairs_without_classes(tmp_path / "in", [one, two, both, mask_of()])
    outcome = run(tmp_path)
    assert outcome.classes == ("class_1", "class_2", "class_3")
    assert outcome.report["images"] == {"class_1": 1, "class_2": 1, "class_3": 1, "good": 1}
    assert "each mask value is one: class_1, class_2, class_3" in " ".join(outcome.report["notes"])


def test_one_mask_value_without_folders_is_one_class(tmp_path: Path) -> None:
    pairs_without_classes(tmp_path / "in", [mask_of(BOX, value=1), mask_of(OTHER, value=1)])
    assert run(tmp_path).classes == ("defect",)


def test_stray_values_under_a_clean_image_name_no_class(tmp_path: Path) -> None:
    clean(tmp_path / "in")
    save(tmp_path / "in/good/9.png", photograph(9))
    save(tmp_path / "in/good/9_mask.png", mask_of(BOX, value=3))
    both = mask_of(BOX, value=1)
    both[20:36, 40:60] = 3
    for k in range(3):
        save(tmp_path / f"in/crack/{k}.png", photograph(k))
        save(tmp_path / f"in/crack/{k}_mask.png", both if k else mask_of(OTHER, value=1))
    assert set(refused(tmp_path)) == {"good/9.png"}
    assert set(run(tmp_path, on_bad="skip").classes) == {"crack", "crack_3"}


def test_a_mask_that_lies_there_twice_counts_once(tmp_path: Path) -> None:
    pairs_without_classes(tmp_path / "in", [mask_of(BOX), mask_of(BOX, OTHER), mask_of()])
    shutil.copytree(tmp_path / "in/masks", tmp_path / "in/labels_png")
    records = run(tmp_path).records
    assert sorted(len(record.instances) for record in records) == [0, 1, 2]


@pytest.mark.parametrize("group_by", [None, "similar", r"part(\d+)"])
def test_copies_of_one_photograph_stay_together_however_images_are_grouped(
    tmp_path: Path, group_by: str | None
) -> None:
    """Turned, they look like no other, and no regular expression need match their names."""
    for k in range(20):
        for copy in range(3):
            name = f"IMG_{k:02}_jpg.rf.{k:016x}{copy:016x}.png"
            save(tmp_path / f"in/{'hole' if k % 2 else 'good'}/{name}", photograph(10 * k + copy))
    save(tmp_path / "in/good/part7_a.png", photograph(900))
    save(tmp_path / "in/good/part7_b.png", photograph(901))
    sides: dict[str, set[str | None]] = {}
    for record in run(tmp_path, group_by=group_by).records:
        sides.setdefault(record.source_path.name.split(".rf.")[0], set()).add(record.split)
    together = [own for name, own in sides.items() if name.startswith("IMG")]
    assert len(together) == 20 and all(len(own) == 1 for own in together)
    assert {side for own in together for side in own} == {"train", "val", "test"}


def test_a_folder_that_cannot_be_listed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean(tmp_path / "in")
    for k in range(3):
        save(tmp_path / f"in/hole/{k}.png", photograph(k))
        save(tmp_path / f"in/scratch/{k}.png", photograph(50 + k))
    listed = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("scratch"):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert "can't be listed" in refused(tmp_path)["scratch"][1]


def test_what_lies_in_a_folder_that_cannot_be_entered_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can be listed, so its files have names, and nothing can be asked about them."""
    clean(tmp_path / "in")
    for k in range(3):
        save(tmp_path / f"in/hole/{k}.png", photograph(k))
    save(tmp_path / "in/scratch/deep/9.png", photograph(50))
    stat = Path.stat

    def denied(self: Path, **kwargs: bool) -> os.stat_result:
        if "scratch" in self.parent.parts:
            raise PermissionError(13, "Permission denied", str(self))
        return stat(self, **kwargs)

    monkeypatch.setattr(Path, "stat", denied)
    assert "can't be looked at" in refused(tmp_path)["scratch/deep/9.png"][1]


def test_a_folder_is_read_and_not_the_link_to_it(tmp_path: Path) -> None:
    clean(tmp_path / "in")
    for k in range(3):
        save(tmp_path / f"in/hole/{k}.png", photograph(k))
    (tmp_path / "in/again").symlink_to(tmp_path / "in/hole")
    assert run(tmp_path).classes == ("hole",)


def test_a_photograph_saved_as_jfif_is_named(tmp_path: Path) -> None:
    clean(tmp_path / "in")
    for k in range(3):
        save(tmp_path / f"in/hole/{k}.png", photograph(k))
    shutil.copy(tmp_path / "in/hole/0.png", tmp_path / "in/hole/7.jfif")
    assert "save it as PNG or JPEG" in refused(tmp_path)["hole/7.jfif"][1]
