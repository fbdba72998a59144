"""Policy of an import: bad input, duplicates, repetition, splits, what is written."""

import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_sources import H, W, save
from small_sources import photograph as picture

from augmentor.errors import DiskError, ProjectError, SourceError, SplitError, UsageError
from augmentor.importers import ImportOutcome, import_source
from augmentor.importers.before import said_of_sides
from augmentor.records_io import content_of, load_records, save_records
from augmentor.splits import assign, check_no_leak


def mask(filled: bool = True) -> np.ndarray:
    out = np.zeros((H, W), np.uint8)
    out[5:17, 10:30] = 255 if filled else 0
    return out


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Five pits, five cracks and five clean images, side by side with their masks."""
    root = tmp_path / "in"
    for k in range(5):
        for c, name in enumerate(("pit", "crack", "good")):
            save(root / name / f"{name}{k}.jpg", picture(10 * c + k))
            save(root / name / f"{name}{k}.png", mask(name != "good"))
    return root


def run(source: Path, **kwargs: object) -> ImportOutcome:
    return import_source(source, source.parent / "data", **kwargs)  # type: ignore[arg-type]


def bad_of(source: Path) -> dict[str, str]:
    report = json.loads((source.parent / "data/import_report.json").read_text())
    return {entry["path"]: entry["kind"] for entry in report["bad"]}


def test_what_is_written_can_be_loaded(source: Path) -> None:
    outcome = run(source)
    data = source.parent / "data"
    loaded = load_records(data)
    assert tuple(loaded) == outcome.records and len(loaded) == 15
    for record in loaded:
        assert record.image_path == record.source_path and record.grey
        for item in record.instances:
            assert item.mask_path == data / "masks" / record.id / "0.png"
    line = json.loads((data / "records.jsonl").read_text().splitlines()[0])
    assert line["source_path"].startswith("/")
    masks = [i["mask_path"] for i in line["instances"]]
    assert all(m.startswith("masks/") for m in masks), "relative, so that a project can be moved"
    splits = json.loads((data / "splits.json").read_text())
    assert {f["sha256"]: f["split"] for f in splits["files"]} == {r.sha256: r.split for r in loaded}
    assert splits["seed"] == 0 and "stratified" in splits["rule"]


def test_a_moved_project_still_loads(source: Path) -> None:
    run(source)
    (source.parent / "data").rename(source.parent / "elsewhere")
    records = load_records(source.parent / "elsewhere")
    paths = [i.mask_path for r in records for i in r.instances]
    assert all(p is not None and p.exists() for p in paths)


def test_the_same_import_again_does_nothing(source: Path) -> None:
    first = run(source)
    stamp = (source.parent / "data/records.jsonl").stat().st_mtime_ns
    again = run(source)
    assert (first.already_done, again.already_done) == (False, True)
    assert again.records == first.records and again.classes == first.classes
    assert (source.parent / "data/records.jsonl").stat().st_mtime_ns == stamp


def test_a_changed_file_seed_or_lost_mask_is_noticed(source: Path) -> None:
    run(source)
    assert not run(source, seed=1).already_done
    save(source / "pit/pit9.jpg", picture(99))
    save(source / "pit/pit9.png", mask())
    outcome = run(source, seed=1)
    assert not outcome.already_done and len(outcome.records) == 16
    lost = next(i.mask_path for r in outcome.records for i in r.instances)
    assert lost is not None
    lost.unlink()
    assert not run(source, seed=1).already_done
    assert lost.exists()


def test_a_killed_import_leaves_no_records(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(source)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("augmentor.importers.write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        run(source, seed=1)
    monkeypatch.undo()
    with pytest.raises(ProjectError, match="run: augment import"):
        load_records(source.parent / "data")
    assert len(run(source, seed=1).records) == 15


def spoil(source: Path) -> dict[str, str]:
    """One file of each kind of bad input; kind by path."""
    save(source / "pit/pit0.png", mask(False))
    (source / "pit/pit1.jpg").write_bytes(b"not a picture")
    whole = (source / "pit/pit2.png").read_bytes()
    (source / "pit/pit2.png").write_bytes(whole[: len(whole) // 2])
    (source / "crack/crack0.png").unlink()
    save(source / "crack/crack1.png", np.zeros((W, H), np.uint8))
    save(source / "good/good0.png", mask())
    (source / "pit/twin.jpg").write_bytes((source / "crack/crack4.jpg").read_bytes())
    save(source / "pit/twin.png", mask())
    save(source / "stray.jpg", picture(77))
    return {
        "pit/pit0.jpg": "empty_mask",
        "pit/pit1.jpg": "unreadable",
        "pit/pit2.jpg": "unreadable_mask",
        "crack/crack0.jpg": "no_mask",
        "crack/crack1.jpg": "mask_size",
        "good/good0.jpg": "mask_under_clean",
        "pit/twin.jpg": "conflict",
        "crack/crack4.jpg": "conflict",
        "stray.jpg": "no_class",
    }


def test_bad_files_refuse_the_import_and_are_all_named(source: Path) -> None:
    expected = spoil(source)
    with pytest.raises(SourceError) as caught:
        run(source)
    message = str(caught.value)
    assert message.startswith(f"9 files in {source} can't be used (")
    assert "2 x identical image with conflicting labels" in message
    assert "1 x empty mask under a defect class" in message
    assert "run again with --on-bad skip to leave them out" in message
    assert str(source.parent / "data/import_report.json") in message
    assert bad_of(source) == expected
    assert not (source.parent / "data/records.jsonl").exists()


def test_skip_leaves_out_exactly_the_bad_ones(source: Path) -> None:
    expected = spoil(source)
    outcome = run(source, on_bad="skip")
    assert bad_of(source) == expected
    used = {r.source_path.relative_to(source).as_posix() for r in outcome.records}
    everything = {p.relative_to(source).as_posix() for p in source.rglob("*.jpg")}
    assert used == everything - set(expected)
    assert outcome.report["bad_counts"]["conflict"] == 2


def test_a_refused_import_keeps_the_earlier_records(source: Path) -> None:
    before = run(source).records
    (source / "pit/pit1.jpg").write_bytes(b"not a picture")
    with pytest.raises(SourceError):
        run(source)
    with pytest.raises(ProjectError, match=r"pit1\.jpg has changed since it was imported"):
        load_records(source.parent / "data")
    assert len(load_records(source.parent / "data", verify=False)) == len(before)


def test_identical_files_of_one_label_are_kept_once(source: Path) -> None:
    (source / "pit/copy.jpg").write_bytes((source / "pit/pit3.jpg").read_bytes())
    save(source / "pit/copy.png", mask())
    outcome = run(source)
    assert len(outcome.records) == 15
    assert outcome.report["duplicates"] == [["pit/pit3.jpg", "pit/copy.jpg"]]
    assert any("1 file" in n or "1 files" in n for n in outcome.report["notes"])


def test_labels_without_images_and_unknown_classes(tmp_path: Path) -> None:
    root = tmp_path / "in"
    for k in range(4):
        save(root / f"images/{k}.png", picture(k))
    for k, line in enumerate(("0 0.5 0.5 0.2 0.2", "3 0.5 0.5 0.2 0.2", "0 0.5 0.5 0.2")):
        (root / "labels").mkdir(exist_ok=True)
        (root / f"labels/{k}.txt").write_text(line)
    (root / "labels/ghost.txt").write_text("0 0.5 0.5 0.2 0.2")
    (root / "data.yaml").write_text("names: [pit]")
    with pytest.raises(SourceError):
        run(root, layout="yolo")
    assert bad_of(root) == {
        "images/1.png": "unknown_class",
        "images/2.png": "bad_label",
        "images/3.png": "no_label",
        "labels/ghost.txt": "no_image",
    }


@pytest.mark.parametrize("line", ["0 0.9 0.5 0.4 0.2", "0 nan 0.5 0.4 0.2", "0 0.5 0.5 0.0 0.2"])
def test_boxes_that_cannot_be_are_bad(tmp_path: Path, line: str) -> None:
    root = tmp_path / "in"
    for k in range(2):
        save(root / f"images/{k}.png", picture(k))
        (root / "labels").mkdir(exist_ok=True)
        (root / f"labels/{k}.txt").write_text(line if k else "0 0.5 0.5 0.2 0.2")
    run(root, on_bad="skip", layout="yolo")
    assert bad_of(root) == {"images/1.png": "bad_label"}


def test_missing_empty_and_wrong_sources(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist; check the path"):
        run(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="holds no files"):
        run(tmp_path / "empty")
    (tmp_path / "empty/a.txt").write_text("x")
    with pytest.raises(SourceError, match="holds no images"):
        run(tmp_path / "empty")
    with pytest.raises(SourceError, match="is a file"):
        run(tmp_path / "empty/a.txt")


def test_only_clean_images_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "in/good/a.png", picture(0))
    save(tmp_path / "in/ok/b.png", picture(1))
    with pytest.raises(SourceError, match="holds no defect image: all 2 are read as clean"):
        run(tmp_path / "in", layout="folders")


def test_wrong_arguments_are_refused_before_anything_is_read(source: Path) -> None:
    with pytest.raises(SplitError, match=r"val=0\.6, test=0\.6"):
        run(source, val=0.6, test=0.6)
    with pytest.raises(SplitError, match="--shots must be at least 1"):
        run(source, shots=0)
    with pytest.raises(UsageError, match="not a regular expression"):
        run(source, group_by="(")
    with pytest.raises(SourceError, match="--mask-threshold must be from 0 to 254, got 255"):
        run(source, mask_threshold=255)
    assert not (source.parent / "data").exists()


def test_one_image_of_a_class_is_trained_on_with_a_warning(source: Path) -> None:
    save(source / "lone/a.jpg", picture(50))
    save(source / "lone/a.png", mask())
    outcome = run(source)
    assert [r.split for r in outcome.records if r.label == "lone"] == ["train"]
    assert "Class 'lone' (1 image) has none in val and test." in outcome.report["warnings"]


def test_groups_by_pattern(source: Path) -> None:
    for path in sorted(source.rglob("*[0-4].*")):
        part = int(path.stem[-1]) // 2
        path.rename(path.with_name(f"part{part}_{path.name}"))
    outcome = run(source, group_by=r"(part\d)_")
    by_group: dict[str | None, set[str | None]] = {}
    for record in outcome.records:
        by_group.setdefault(record.group, set()).add(record.split)
    assert set(by_group) == {"part0", "part1", "part2"}
    assert all(len(sides) == 1 for sides in by_group.values())
    with pytest.raises(SourceError, match=r"--group-by 'lot\(\\\\d\)' matches no image"):
        run(source, group_by=r"lot(\d)")


def test_near_identical_photographs_are_told_and_can_be_kept_together(tmp_path: Path) -> None:
    root = tmp_path / "in"
    rng = np.random.default_rng(0)
    for part in range(12):
        small = rng.integers(40, 160, (10, 16), dtype=np.uint8)
        base = np.asarray(Image.fromarray(small).resize((W, H), Image.Resampling.BICUBIC))
        for exposure in range(4):
            shot = np.clip(base * (0.8 + 0.15 * exposure), 0, 255).astype(np.uint8)
            label = "pit" if part % 2 else "good"
            save(root / label / f"p{part}e{exposure}.png", shot)
            save(root / label / f"p{part}e{exposure}_mask.png", mask(label == "pit"))
    apart = run(root)
    assert apart.report["near_duplicates"]["pairs"] == 12 * 6
    assert apart.report["near_duplicates"]["apart"] > 0
    assert "--group-by similar" in apart.report["warnings"][0]
    together = run(root, group_by="similar")
    assert together.report["near_duplicates"]["apart"] == 0
    assert not together.report["warnings"]
    assert len({r.group for r in together.records}) == 12


def test_deep_and_turned_images_are_normalised(tmp_path: Path) -> None:
    root = tmp_path / "in"
    for k in range(3):
        deep = picture(k).astype(np.uint16) * 16
        save(root / f"images/pit/{k}.png", deep)
        save(root / f"masks/pit/{k}.png", mask())
    outcome = run(root)
    record = outcome.records[0]
    assert record.image_path == tmp_path / "data/images" / f"{record.id}.png"
    copy = Image.open(record.image_path)
    assert (copy.mode, copy.size) == ("L", (W, H))
    assert any("scaled from 12 bit" in note for note in outcome.report["notes"])
    assert any("3 images were normalised" in note for note in outcome.report["notes"])


def test_progress_is_told(source: Path) -> None:
    seen: list[tuple[int, int]] = []
    run(source, on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(k, 15) for k in range(1, 16)]


def test_a_vanished_image_is_named(source: Path) -> None:
    run(source)
    (source / "pit/pit1.jpg").unlink()
    with pytest.raises(ProjectError, match=r"pit1\.jpg was there when the data was imported"):
        load_records(source.parent / "data")


def test_a_touched_but_unchanged_image_is_fine(source: Path) -> None:
    run(source)
    os.utime(source / "pit/pit1.jpg", (1, 1))
    assert len(load_records(source.parent / "data")) == 15


def test_damaged_records_and_double_ids(source: Path) -> None:
    records = list(run(source).records)
    data = source.parent / "data"
    with pytest.raises(ProjectError, match="have the same id"):
        save_records(data, [records[0], records[0]])
    (data / "records.jsonl").write_text('{"id": 3}\n')
    with pytest.raises(ProjectError, match="is damaged"):
        load_records(data)


def test_a_full_disk_is_one_sentence(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("augmentor.importers.write_atomic", full)
    with pytest.raises(DiskError, match="is full; free some space and run the same command"):
        run(source)


def test_a_project_among_the_photographs_is_no_photograph(source: Path) -> None:
    for home in (source / "tiles", source / "other"):
        save(home / "pool/images/0.png", picture(50))
        (home / "augment.yaml").write_text("name: tiles\n")
    # a copy that a refused import left
    save(source / "unfinished/data/images/0.png", picture(51))
    (source / "unfinished/data/import_report.json").write_text("{}")
    outcome = import_source(source, source / "unfinished" / "data")
    assert all("pool" not in r.source_path.parts for r in outcome.records)
    assert len(outcome.records) == 15
    notes = " ".join(outcome.report["notes"])
    assert "Not read, since `augment` projects lie there: other, tiles." in notes


@pytest.mark.parametrize("place", ["crack", "."])
def test_the_project_cannot_be_the_folder_of_the_photographs(source: Path, place: str) -> None:
    with pytest.raises(SourceError, match=r"give the project a folder of its own: .*--project"):
        import_source(source, source / place / "data")


def everything_below(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_photographs_in_the_projects_own_data_are_refused_and_stay(source: Path) -> None:
    home = source.parent / "tiles"
    (home / "data").parent.mkdir()
    source.rename(home / "data")
    before = everything_below(home)
    for below in (".", "pit"):
        with pytest.raises(SourceError, match=r"where the import writes; give .*--project"):
            import_source(home / "data" / below, home / "data", layout="pairs")
    assert everything_below(home) == before


def test_what_no_import_wrote_is_never_removed(source: Path) -> None:
    data = source.parent / "data"
    save(data / "images/mine.png", picture(1))
    before = everything_below(data)
    with pytest.raises(SourceError, match="holds something else; give the project a folder of its"):
        run(source)
    assert everything_below(data) == before
    (data / "images/mine.png").rename(source.parent / "mine.png")
    (data / "images").rmdir()
    run(source)
    for place in ("images/mine.png", "masks/mine.png", "masks/mine/0.png", "roi/mine.png"):
        save(data / place, picture(1))
    mine = {path: data_of for path, data_of in everything_below(data).items() if "mine" in path}
    assert len(mine) == 4
    run(source, seed=1)
    assert mine.items() <= everything_below(data).items()


def test_a_killed_first_import_is_done_again(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    save(source / "pit/deep.tif", picture(90).astype(np.uint16) * 256)
    save(source / "pit/deep.png", mask())
    monkeypatch.setattr("augmentor.importers.build_report", killed)
    with pytest.raises(KeyboardInterrupt):
        run(source)
    assert list((source.parent / "data/images").iterdir())
    monkeypatch.undo()
    assert len(run(source).records) == 16


def sides_by_name(outcome: ImportOutcome) -> dict[str, str | None]:
    return {r.source_path.name: r.split for r in outcome.records}


def test_photographs_keep_their_side_when_others_come_and_go(source: Path) -> None:
    before = sides_by_name(run(source, shots=2))
    for k in range(5, 15):
        save(source / f"pit/pit{k}.jpg", picture(200 + k))
        save(source / f"pit/pit{k}.png", mask())
    (source / "crack/crack0.jpg").unlink()
    (source / "crack/crack0.png").unlink()
    outcome = run(source, shots=2)
    after = sides_by_name(outcome)
    kept = before.keys() & after.keys()
    assert len(kept) == 14
    assert {n: after[n] for n in kept if not n.startswith("crack")} == {
        n: before[n] for n in kept if not n.startswith("crack")
    }
    # a place among the shots that became free is taken by what was put aside
    held = ("val", "test")
    assert [n for n in kept if after[n] != before[n] and {after[n], before[n]} & set(held)] == []
    assert Counter(after[n] for n in after if n.startswith("pit")) == {
        "train": 2, "reserve": 7, "val": 3, "test": 3,
    }  # fmt: skip
    assert (
        "10 new images were split; those known before keep their side." in outcome.report["notes"]
    )


def test_sides_outlive_a_damaged_list_of_them(source: Path) -> None:
    before = sides_by_name(run(source))
    save(source / "pit/new.jpg", picture(99))
    save(source / "pit/new.png", mask())
    listed = source.parent / "data/splits.json"
    listed.write_text(listed.read_text()[:100])
    assert before.items() <= sides_by_name(run(source)).items()
    (source.parent / "data/records.jsonl").unlink()
    listed.write_text("[]")
    notes = run(source).report["notes"]
    assert "splits.json was damaged, so all images were split anew." in notes


def test_photographs_that_are_joined_across_sides_go_to_the_tested_one_and_it_is_said(
    source: Path,
) -> None:
    first = run(source).records
    pits = {r.split: r.id for r in first if r.label == "pit"}
    joined = {pits["test"], pits["train"]}
    records = [r.model_copy(update={"group": "part"}) if r.id in joined else r for r in first]
    known = {r.id: r.split for r in first if r.split is not None}
    sides = assign(records, seed=0, val=0.2, test=0.2, known=known)
    moved = [r.model_copy(update={"split": sides[r.id]}) for r in records]
    check_no_leak(moved)
    assert sides == known | {pits["train"]: "test"}
    assert said_of_sides(moved, known) == [
        "Of the images known before, 1 went from train to test: what was measured before is not "
        "to be compared with what follows."
    ]


def test_a_name_that_is_no_utf8_is_a_bad_file(source: Path) -> None:
    for suffix in (".jpg", ".png"):
        old = (source / "pit/pit0").with_suffix(suffix)
        old.rename(source / "pit" / os.fsdecode(b"l\xf6cher0" + suffix.encode()))
    with pytest.raises(SourceError, match="2 x image whose name is no UTF-8"):
        run(source)
    assert set(bad_of(source).values()) == {"bad_name"} and len(bad_of(source)) == 2
    outcome = run(source, on_bad="skip")
    assert len(outcome.records) == 14 and outcome.report["bad_counts"] == {"bad_name": 2}
    assert run(source, on_bad="skip").already_done


def test_boxes_of_a_class_that_means_no_defect_are_left_out_and_counted(tmp_path: Path) -> None:
    for k in range(6):
        save(tmp_path / f"in/images/{k}.png", picture(k))
        lines = ["0 0.5 0.5 0.3 0.3", "1 0.5 0.5 0.4 0.3"][k % 2 :]
        (tmp_path / "in/labels").mkdir(exist_ok=True)
        (tmp_path / f"in/labels/{k}.txt").write_text("\n".join(lines) + "\n")
    for names in ("[NG, OK]", "[bad, good]"):
        (tmp_path / "in/data.yaml").write_text(f"names: {names}\n")
        outcome = run(tmp_path / "in")
        (kept,) = outcome.classes
        assert kept == names[1:].split(",")[0]
        assert outcome.report["images"] == {kept: 3, "good": 3}
        assert outcome.report["instances"] == {kept: 3}
        good = names.split(" ")[1][:-1]
        assert any(f"left out: 6 of '{good}'" in note for note in outcome.report["notes"])


def test_a_records_content_is_that_of_its_files_wherever_they_lie(source: Path) -> None:
    run(source)
    data = source.parent / "data"
    before = [content_of(record) for record in load_records(data)]
    moved = data.rename(source.parent / "elsewhere")
    records = load_records(moved)
    assert [content_of(record) for record in records] == before
    at = next(k for k, record in enumerate(records) if record.label == "pit")
    path = records[at].instances[0].mask_path
    assert path is not None
    Image.fromarray(255 - np.eye(12, 20, dtype=np.uint8) * 255).save(path)
    after = [content_of(record) for record in records]
    assert [k for k in range(len(before)) if after[k] != before[k]] == [at]
    seen = records[0].model_copy(update={"roi_path": path})
    assert content_of(seen) != before[0]
