import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from augmentor.classical import write_classical_pool
from augmentor.errors import SourceError
from augmentor.items import PoolSample, synthetic_item
from generator.pool import read_pool
from generator.records import GOOD, DefectExample, Instance, SyntheticDefect

HEIGHT, WIDTH = 60, 90


def example(
    folder: Path, number: int, label: str, marks: list[tuple], grey: bool = True, kind="exact"
) -> DefectExample:
    """An image on which every defect is a bright rectangle, so that a mask can be checked."""
    folder.mkdir(exist_ok=True)
    pixels = np.full((HEIGHT, WIDTH), 60 + number, np.uint8)
    instances = []
    for k, (name, box) in enumerate(marks):
        x1, y1, x2, y2 = box
        pixels[y1:y2, x1:x2] = 220
        path = folder / f"{number}_{k}.png"
        Image.fromarray(np.full((y2 - y1, x2 - x1), 255, np.uint8)).save(path)
        mask = {} if kind == "none" else {"mask_path": path, "mask_kind": kind}
        instances.append(Instance(class_name=name, box_xyxy=box, **mask))
    path = folder / f"{number}.png"
    Image.fromarray(pixels if grey else np.stack([pixels, pixels // 2, pixels], -1)).save(path)
    return DefectExample(
        id=f"{number:016x}",
        sha256=f"{number:064x}",
        image_path=path,
        source_path=path,
        width=WIDTH,
        height=HEIGHT,
        grey=grey,
        label=label,
        instances=tuple(instances),
        split="train",
    )


@pytest.fixture
def examples(tmp_path) -> list[DefectExample]:
    folder = tmp_path / "data"
    return [
        example(folder, 1, "pit", [("pit", (30, 20, 46, 32)), ("scratch", (4, 40, 60, 46))]),
        example(folder, 2, "pit", [("pit", (1, 1, 13, 15))]),
        example(folder, 3, "scratch", [("scratch", (20, 10, 30, 50))], grey=False),
        example(folder, 4, GOOD, []),
    ]


def files_of(pool: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(pool)): p.read_bytes() for p in sorted(pool.rglob("*")) if p.is_file()
    }


def bright(pool: Path, record: SyntheticDefect) -> tuple[int, int, int, int]:
    """The box around what is bright in a copy."""
    image = np.asarray(Image.open(pool / record.image)).astype(int)
    rows, columns = np.nonzero(image > (image.min() + image.max()) / 2)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def test_masks_are_carried_along_with_the_pixels(examples, tmp_path):
    made = write_classical_pool(examples, {"pit": 30, "scratch": 10}, tmp_path / "pool", seed=1)
    assert [(r.class_name, r.index) for r in made] == [
        *(("pit", k) for k in range(30)),
        *(("scratch", k) for k in range(10)),
    ]
    sizes = set()
    for record in made:
        item = synthetic_item(PoolSample(tmp_path / "pool", record))
        image = np.asarray(Image.open(item.image_path))
        assert image.ndim == (2 if record.grey else 3)
        grey = image if image.ndim == 2 else image[..., 0]
        assert grey.shape == (record.height, record.width)
        sizes.add(grey.shape)
        bright = grey > 145
        labelled = np.zeros_like(bright)
        for label in item.labels:
            x1, y1, x2, y2 = label.box_xyxy
            labelled[y1:y2, x1:x2] |= label.mask
            assert label.mask.any(axis=0).all() or label.mask.any(axis=0)[[0, -1]].all()
        assert (labelled & bright).sum() / (labelled | bright).sum() > 0.85
        assert record.source_ids == (record.background_id,)
        assert record.mask_kind == "exact"
    assert sizes == {(HEIGHT, WIDTH), (WIDTH, HEIGHT)}
    carriers = [r for r in made if r.background_id == f"{1:016x}"]
    assert len(carriers) == 15  # every image is used equally often
    assert any(r.carried_instances for r in carriers)
    assert {i.class_name for r in carriers for i in r.carried_instances} == {"scratch"}


def test_colour_stays_rgb(examples, tmp_path):
    (record,) = write_classical_pool(examples, {"scratch": 1}, tmp_path / "pool", seed=1)
    image = np.asarray(Image.open(tmp_path / "pool" / record.image))
    red, green, blue = (np.median(image[..., k]) for k in range(3))
    assert red == pytest.approx(blue, abs=4)
    assert red - green > 15


def test_the_same_seed_gives_the_same_files_in_any_company_and_any_order(examples, tmp_path):
    write_classical_pool(examples, {"pit": 12, "scratch": 3}, tmp_path / "a", seed=5)
    write_classical_pool(examples[::-1], {"scratch": 3}, tmp_path / "b", seed=5)
    write_classical_pool(examples, {"scratch": 3, "pit": 4}, tmp_path / "b", seed=5)
    write_classical_pool(examples, {"scratch": 3, "pit": 12}, tmp_path / "b", seed=5)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    write_classical_pool(examples, {"pit": 12, "scratch": 3}, tmp_path / "c", seed=6)
    assert not set(files_of(tmp_path / "c")) & (set(files_of(tmp_path / "a")) - {"manifest.jsonl"})


def test_what_is_there_is_not_made_again(examples, tmp_path):
    pool = tmp_path / "pool"
    first = write_classical_pool(examples, {"pit": 3}, pool, seed=5)
    stamps = {p: p.stat().st_mtime_ns for p in pool.glob("images/*")}
    second = write_classical_pool(examples, {"pit": 5}, pool, seed=5)
    assert second[:3] == first
    assert all(p.stat().st_mtime_ns == stamp for p, stamp in stamps.items())
    assert len(read_pool(pool)) == 5


def test_killed_and_continued_gives_the_files_of_an_undisturbed_run(examples, tmp_path):
    arguments = [e.model_dump(mode="json") for e in examples]
    (tmp_path / "examples.json").write_text(json.dumps(arguments))
    code = f"""
        import json, os, signal
        from pathlib import Path
        from augmentor import classical
        from generator.records import DefectExample
        root, count, write = Path({str(tmp_path)!r}), 0, classical.write_png
        examples = [DefectExample(**e) for e in json.loads((root / "examples.json").read_text())]
        def counted(path, array):
            global count
            count += 1
            if count == 75:
                os.kill(os.getpid(), signal.SIGKILL)
            write(path, array)
        classical.write_png = counted
        classical.write_classical_pool(examples, {{"pit": 50}}, root / "killed", seed=2)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert done.returncode == -9
    assert 0 < len(read_pool(tmp_path / "killed")) < 50
    write_classical_pool(examples, {"pit": 50}, tmp_path / "killed", seed=2)
    write_classical_pool(examples, {"pit": 50}, tmp_path / "undisturbed", seed=2)
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "undisturbed")


def test_a_defect_in_the_corner_never_leaves_the_frame(examples, tmp_path):
    made = write_classical_pool([examples[1]], {"pit": 40}, tmp_path / "pool", seed=0)
    for record in made:
        mask = np.asarray(Image.open(tmp_path / "pool" / record.mask))
        assert (mask > 0).sum() >= 0.6 * 12 * 14
        assert len(record.boxes_xyxy) == 1


def test_boxes_alone_stay_tight(tmp_path):
    only = example(tmp_path / "data", 1, "pit", [("pit", (10, 20, 30, 28))], kind="none")
    for record in write_classical_pool([only], {"pit": 12}, tmp_path / "pool", seed=0):
        assert record.mask is None
        assert record.mask_kind == "none"
        ((x1, y1, x2, y2),) = record.boxes_xyxy
        assert np.abs(np.subtract((x1, y1, x2, y2), bright(tmp_path / "pool", record))).max() <= 1


def test_an_image_level_label_has_neither_mask_nor_box(tmp_path):
    whole = example(tmp_path / "data", 1, "pit", [])
    (record,) = write_classical_pool([whole], {"pit": 1}, tmp_path / "pool", seed=0)
    assert (record.mask, record.boxes_xyxy, record.mask_kind) == (None, (), "none")


def test_a_class_without_an_image_is_named(examples, tmp_path):
    with pytest.raises(SourceError, match="no train image of class 'stain'"):
        write_classical_pool(examples, {"pit": 1, "stain": 2}, tmp_path / "pool", seed=0)


def test_instances_that_touch_or_overlap_keep_a_box_each(tmp_path):
    marks = [("pit", (20, 10, 50, 30)), ("pit", (40, 22, 70, 50)), ("pit", (4, 40, 16, 52))]
    touching = example(tmp_path / "data", 1, "pit", marks)
    for record in write_classical_pool([touching], {"pit": 20}, tmp_path / "pool", seed=0):
        labels = synthetic_item(PoolSample(tmp_path / "pool", record)).labels
        assert 2 <= len(labels) <= 3  # the small one may leave the frame
        assert len(record.boxes_xyxy) == len(labels) - 1
        large = sorted(((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (n.box_xyxy for n in labels)))
        # a box around both would have 50 x 40 px
        assert all(400 < area < 1500 for area in large[-2:])
        assert {label.class_name for label in labels} == {"pit"}


def test_fragments_of_an_instance_share_a_box(tmp_path):
    broken = example(tmp_path / "data", 1, "pit", [("pit", (20, 12, 60, 40))])
    fragments = np.full((28, 40), 255, np.uint8)
    fragments[:, 14:26] = 0
    Image.fromarray(fragments).save(broken.instances[0].mask_path)
    for record in write_classical_pool([broken], {"pit": 10}, tmp_path / "pool", seed=0):
        (label,) = synthetic_item(PoolSample(tmp_path / "pool", record)).labels
        assert label.mask.shape[0] * label.mask.shape[1] > 700 and label.mask.mean() < 0.8


def test_a_box_stays_as_wide_as_it_was_drawn_around_a_guessed_mask(tmp_path):
    wide = example(tmp_path / "data", 1, "pit", [("pit", (20, 12, 60, 40))], kind="approximate")
    guess = np.zeros((28, 40), np.uint8)
    guess[8:20, 10:30] = 255
    Image.fromarray(guess).save(wide.instances[0].mask_path)
    for record in write_classical_pool([wide], {"pit": 20}, tmp_path / "pool", seed=0):
        (label,) = synthetic_item(PoolSample(tmp_path / "pool", record)).labels
        assert np.abs(np.subtract(label.box_xyxy, bright(tmp_path / "pool", record))).max() <= 1
        assert label.mask is not None and 0.15 < label.mask.mean() < 0.35


def test_a_copys_id_follows_from_what_the_masks_hold_and_not_from_where_they_lie(tmp_path):
    def ids(folder: str) -> list[str]:
        examples = [example(tmp_path / folder, 1, "pit", [("pit", (30, 20, 46, 32))])]
        if folder == "mended":
            Image.fromarray(np.full((12, 16), 255, np.uint8) * ~np.eye(12, 16, dtype=bool)).save(
                examples[0].instances[0].mask_path
            )
        made = write_classical_pool(examples, {"pit": 2}, tmp_path / f"{folder}_pool", seed=0)
        return [record.id for record in made]

    assert ids("here") == ids("there")
    assert not set(ids("here")) & set(ids("mended"))
