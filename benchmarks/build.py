"""How fast a mixed dataset is built once its samples are there: mix, export, FiftyOne.

    .venv/bin/python benchmarks/build.py [--samples 2000]

Everything is made in a temporary folder, with a database of its own. Beside our registration
stands the same dataset added one sample at a time, and FiftyOne's own YOLO export beside ours.
"""

import argparse
import os
import resource
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import psutil

CLASSES = ("blowhole", "crack", "fray")
WIDTH, HEIGHT = 320, 240


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=2000, help="synthetic images in the pool")
    parser.add_argument("--naive", type=int, default=300, help="samples of the naive comparison")
    arguments = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="augmentor-bench-"))
    os.environ["AUGMENTOR_HOME"] = str(root / "home")
    try:
        _run(root, arguments.samples, arguments.naive)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _run(root: Path, number: int, naive: int) -> None:
    from augmentor.exporters import write_training_export
    from augmentor.fiftyone_io import PoolSample, connect, register_mix
    from augmentor.mix_plan import plan_mix
    from augmentor.mixing import check_sources, mixed_records, select

    records = _records(root, max(1, number // 4))
    pool = _pool(root / "pool", number, records)
    print(f"{number} synthetic and {len(records)} real images of {WIDTH} x {HEIGHT} px\n")
    fo, start = _timed(connect)
    rows: list[tuple[str, int, Spent]] = [("start FiftyOne and its database", 0, start)]

    defects = sum(not r.is_clean for r in records)
    ratio = number / (number + defects)

    def mix() -> Any:
        plan = plan_mix(records, ratio, classes=CLASSES, shares={"compact": 1.0})
        mixed = select(plan, {"compact": pool}, seed=0)
        check_sources(mixed.samples, records)
        return mixed_records(records, plan), [PoolSample(root / "pool", s) for s in mixed.samples]

    (kept, samples), mix_s = _timed(mix)
    total = len(kept) + len(samples)
    rows.append(("mix and leak check", total, mix_s))
    common = {"classes": CLASSES, "records": kept, "samples": samples}
    with _PeakMemory() as memory:
        _, export_s = _timed(
            lambda: write_training_export(root / "dataset", name="bench", **common)
        )
        rows.append(("export (YOLO polygons)", total, export_s))
        counts, register_s = _timed(lambda: register_mix("bench", kept, samples, CLASSES, {}))
    assert counts["added"] == total
    rows.append(("register in FiftyOne", total, register_s))
    whole = [sum(part) for part in zip(mix_s, export_s, register_s, strict=True)]
    rows.append(("BUILD: all of these", total, Spent(*whole)))
    _, again = _timed(lambda: register_mix("bench", kept, samples, CLASSES, {}))
    rows.append(("register again, nothing new", total, again))

    part = samples[:naive]
    _, slow = _timed(lambda: _one_by_one(fo, part))
    rows.append(("naive: register one by one", len(part), slow))
    _, theirs = _timed(lambda: _fiftyone_export(fo, root / "theirs"))
    rows.append(("FiftyOne's own YOLO export", total, theirs))
    _print(rows)
    ratio = (slow.wall_s / len(part)) / (register_s.wall_s / total)
    print(f"registration against one by one: {ratio:.1f} x as fast")
    print(f"export against FiftyOne's own: {theirs.wall_s / export_s.wall_s:.1f} x as fast")
    print(f"peak memory of this process: {_peak_mb():.0f} MB ({memory.peak_mb:.0f} MB with mongod)")


def _one_by_one(fo: Any, samples: list[Any]) -> None:
    """What a user would write first: make a sample, add it."""
    from augmentor.fiftyone_io.schema import fields_of
    from augmentor.items import synthetic_item

    dataset = fo.Dataset("naive", overwrite=True)
    for sample in samples:
        item = synthetic_item(sample)
        dataset.add_sample(
            fo.Sample(
                filepath=str(item.image_path),
                tags=["synthetic", "train"],
                **fields_of(fo, item, CLASSES),
            )
        )


def _fiftyone_export(fo: Any, folder: Path) -> None:
    dataset = fo.load_dataset("bench")
    for split in ("train", "val", "test"):
        dataset.match_tags(split).export(
            export_dir=str(folder),
            dataset_type=fo.types.YOLOv5Dataset,
            label_field="ground_truth",
            classes=list(CLASSES),
            split=split,
            use_masks=True,
            export_media=True,
            progress=False,
        )


def _records(root: Path, number: int) -> list[Any]:
    from generator.records import GOOD, DefectExample, Instance

    rng = np.random.default_rng(0)
    records = []
    for k in range(number):
        label = (*CLASSES, GOOD)[k % 4]
        path = root / f"real/{k}.png"
        _save(path, _surface(rng))
        instances = ()
        if label != GOOD:
            mask = _blob(rng)
            x, y = int(rng.integers(0, WIDTH - 60)), int(rng.integers(0, HEIGHT - 60))
            _save(root / f"real/masks/{k}.png", mask)
            box = (x, y, x + mask.shape[1], y + mask.shape[0])
            mask_path = root / f"real/masks/{k}.png"
            instances = (
                Instance(class_name=label, box_xyxy=box, mask_path=mask_path, mask_kind="exact"),
            )
        records.append(
            DefectExample(
                id=f"{k:016x}",
                sha256=f"{k:064x}",
                image_path=path,
                source_path=path,
                width=WIDTH,
                height=HEIGHT,
                grey=True,
                label=label,
                instances=instances,
                split=("train", "train", "train", "val", "test")[(k // 4) % 5],
            )
        )
    return records


def _pool(pool: Path, number: int, records: list[Any]) -> list[Any]:
    from generator.records import SyntheticDefect

    rng = np.random.default_rng(1)
    background = next(r.id for r in records if r.split == "train")
    made = []
    for k in range(number):
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        blob = _blob(rng)
        x, y = int(rng.integers(0, WIDTH - 60)), int(rng.integers(0, HEIGHT - 60))
        mask[y : y + blob.shape[0], x : x + blob.shape[1]] = blob
        _save(pool / f"images/s{k}.png", _surface(rng))
        _save(pool / f"masks/s{k}.png", mask)
        made.append(
            SyntheticDefect(
                id=f"s{k}",
                class_name=CLASSES[k % 3],
                index=k // 3,
                seed=k,
                generator="compact",
                fingerprint="bench",
                image=f"images/s{k}.png",
                mask=f"masks/s{k}.png",
                width=WIDTH,
                height=HEIGHT,
                grey=True,
                boxes_xyxy=((x, y, x + blob.shape[1], y + blob.shape[0]),),
                mask_kind="exact",
                background_id=background,
                mask_source_id=background,
                source_ids=(background,),
                feather_px=2,
                crop_xyxy=(0, 0, 64, 64),
                scores={"contrast": float(rng.random()), "fill": float(rng.random())},
                verdict="accepted",
            )
        )
    return made


def _surface(rng: np.random.Generator) -> np.ndarray:
    noise = rng.normal(128, 25, (HEIGHT, WIDTH)).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 1.2).clip(0, 255).astype(np.uint8)


def _blob(rng: np.random.Generator) -> np.ndarray:
    """A connected, ragged shape of 12 to 56 px that touches the sides of its array."""
    side = int(rng.integers(16, 56))
    noise = cv2.GaussianBlur(rng.random((side, side)).astype(np.float32), (0, 0), 1.5)
    yy, xx = np.mgrid[:side, :side] / side - 0.5
    mask = ((np.hypot(yy, xx) + (noise - 0.5)) < 0.38).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    x, y, w, h, _ = stats[1 + int(stats[1:, 4].argmax())] if count > 1 else (0, 0, 1, 1, 1)
    largest = labels == (1 + int(stats[1:, 4].argmax()) if count > 1 else 0)
    return (largest[y : y + h, x : x + w] * 255).astype(np.uint8)


def _save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), array)


class Spent(NamedTuple):
    """Time that a step took: by the clock, and of this process on a core."""

    wall_s: float
    cpu_s: float


def _timed(action: Callable[[], Any]) -> tuple[Any, Spent]:
    began, began_cpu = time.perf_counter(), time.process_time()
    result = action()
    return result, Spent(time.perf_counter() - began, time.process_time() - began_cpu)


def _print(rows: list[tuple[str, int, Spent]]) -> None:
    print(f"{'step':34}{'images':>8}{'seconds':>9}{'CPU s':>8}{'images/s':>10}")
    for name, images, spent in rows:
        rate = f"{images / spent.wall_s:.0f}" if images else ""
        print(f"{name:34}{images:>8}{spent.wall_s:>9.2f}{spent.cpu_s:>8.2f}{rate:>10}")
    load = psutil.getloadavg()[0]
    print(f"\nload of the machine at the end: {load:.1f} on {psutil.cpu_count()} cores")


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class _PeakMemory:
    """The most memory that this process and its children hold at once, looked at every 50 ms."""

    def __enter__(self) -> "_PeakMemory":
        self.peak_mb = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        own = psutil.Process()
        while not self._stop.wait(0.05):
            held = 0
            for process in (own, *own.children(recursive=True)):
                try:
                    held += process.memory_info().rss
                except psutil.Error:
                    continue
            self.peak_mb = max(self.peak_mb, held / 2**20)


if __name__ == "__main__":
    main()
