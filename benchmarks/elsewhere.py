"""The trainings of many splits on another machine, such as one with a GPU.

    python benchmarks/elsewhere.py pack scratch/splits/magnetic-tile-* --to bundle --px 128 \\
        --tasks classification,localisation [--arms real,copy-paste,mixed,full]
    python benchmarks/elsewhere.py run bundle --out far --jobs 14 --minutes 8 [--val] \\
        --tasks localisation --set localisation_steps=2400 localisation_px=128
    python benchmarks/elsewhere.py table far

`pack` needs the projects (import and build of each: `augment evaluate --splits`, or
`benchmarks/splits.py`), and writes their arms with pictures as small as the trainings make them:
the same pixels, each once, whatever number of splits holds it (`tar -cJf` makes that small). `run`
needs this repository and what `downstream` imports (torch, torchvision, torchmetrics, pydantic,
scipy, scikit-image, matplotlib, jinja2; for detection ultralytics); FiftyOne and diffusers stay at
home. It begins no training past `--minutes`, and continues where it is repeated. `table` is that of
`benchmarks/splits.py`. Many small trainings share a GPU better under NVIDIA's MPS
(`nvidia-cuda-mps-control -d`).
"""

import argparse
import hashlib
import io
import json
import math
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from study import Lines, options

from downstream.files import write_atomic

FILES = "files"
"""Folder of a bundle that holds every picture and mask once, named by its content."""

RESULTS = "results.jsonl"
"""In the folder of `run`: a line for each training that ended."""

SQUARE = ("classification", "localisation")
"""Tasks that see squares; detection keeps an image's aspect, so it needs a bundle of its own."""


@dataclass(frozen=True)
class Job:
    """One training: a split's export, and settings of `evaluate` with one task, arm and seed."""

    split: str
    export: Path
    out: Path
    settings: dict[str, Any]

    @property
    def name(self) -> str:
        """As it is shown."""
        (task,), (arm,), (seed,) = (self.settings[key] for key in ("tasks", "arms", "seeds"))
        return f"{self.split}, {task} {arm} seed {seed}"


def main() -> None:
    """Pack, run, or print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="write a bundle of projects' arms")
    packing.add_argument("homes", nargs="+", type=Path, help="built projects, one a split")
    packing.add_argument("--to", type=Path, required=True)
    packing.add_argument("--px", type=int, required=True, help="what the trainings resize to")
    packing.add_argument("--tasks", default="localisation", help="comma-separated")
    packing.add_argument("--arms", default="real,copy-paste,mixed,full", help="comma-separated")
    running = commands.add_parser("run", help="train what a bundle holds")
    running.add_argument("bundle", type=Path)
    running.add_argument("--out", type=Path, required=True)
    running.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="trainings at once")
    running.add_argument("--minutes", type=float, default=1e6, help="begin none after so long")
    running.add_argument("--tasks", default="localisation", help="comma-separated")
    running.add_argument("--arms", help="comma-separated; default: all of the bundle")
    running.add_argument("--splits", help="comma-separated names in the bundle; default: all")
    running.add_argument("--seeds", help="comma-separated; default: each split's own seed")
    running.add_argument("--val", action="store_true", help="leave test alone")
    running.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="of `evaluate`")
    printing = commands.add_parser("table", help="print what is finished")
    printing.add_argument("out", type=Path)
    printing.add_argument("--baseline", default="real")
    given = parser.parse_args()
    if given.command == "pack":
        pack(given.homes, given.to, given.px, _words(given.tasks), _words(given.arms))
    elif given.command == "run":
        jobs = jobs_of(
            given.bundle,
            given.out,
            _words(given.tasks),
            # a detector's loader takes the cores that these leave it
            options(given.set)
            | {"measure": "val" if given.val else "val+test", "jobs": given.jobs},
            arms=_words(given.arms),
            splits=_words(given.splits),
            seeds=[int(seed) for seed in _words(given.seeds)],
        )
        if failed := run(jobs, given.out, given.jobs, given.minutes):
            raise SystemExit(f"error: {failed} trainings failed; the same command tries them again")
    else:
        print(table_of(given.out, given.baseline))


def pack(
    homes: Sequence[Path], bundle: Path, px: int, tasks: Sequence[str], arms: Sequence[str]
) -> None:
    """Write the arms of projects as small pictures; a split that is there already is kept.

    Args:
        homes: folders of projects with a built dataset; the folder's name becomes the split's.
        bundle: where; pictures that several splits have are there once.
        px: side of the squares, or for detection the longer side.
        tasks: what will be trained: `detection`, or the two others.
        arms: names as in `augmentor.workflows.arms`.

    Raises:
        SystemExit: the tasks don't go together, or the bundle is of another size.
    """
    from augmentor.workflows.arms import resolve_arms, write_arms_export
    from augmentor.workflows.project import open_project

    kinds = {task in SQUARE for task in tasks}
    if len(kinds) != 1:
        raise SystemExit("error: detection keeps an image's aspect; give it a bundle of its own")
    square = kinds.pop()
    about = {"px": px, "square": square}
    known = bundle / "bundle.json"
    if known.is_file() and json.loads(known.read_text()) != about:
        raise SystemExit(f"error: {bundle} is of another size; name another one with: --to")
    (bundle / FILES).mkdir(parents=True, exist_ok=True)
    known.write_text(json.dumps(about))
    for home in homes:
        if (bundle / home.name / "export.json").is_file():
            continue
        project, reporter = open_project(home.resolve()), Lines()
        own = resolve_arms(project, arms, reporter)
        export = write_arms_export(project, home / "elsewhere", own)
        shrink(export, bundle, home.name, px=px, square=square, seed=project.config.split.seed)
        shutil.rmtree(export)
        size = sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())
        reporter.say(f"{home.name} is packed; the bundle has {size / 2**20:.0f} MiB")


def shrink(export: Path, bundle: Path, name: str, *, px: int, square: bool, seed: int) -> None:
    """Put one export into a bundle, every picture as a training would read it.

    A split's folder holds `export.json` and `manifest.jsonl` as in docs/formats.md, with the
    split's `seed`, the labels' texts, and for each mask the name of its file in `FILES`; a
    picture's is its hash.
    """
    folder = bundle / f"{name}.part"
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for line in (export / "manifest.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        size = _size(entry["width"], entry["height"], px, square)
        scale = (size[0] / entry["width"], size[1] / entry["height"]) * 2
        entry["sha256"] = _keep(bundle, _small(export / entry["image"], size, square))
        if entry["mask"]:
            entry["mask_file"] = _keep(bundle, _small_mask(export / entry["mask"], size))
        entry["boxes"] = [
            [box[0], *(round(v * s, 4) for v, s in zip(box[1:], scale, strict=True))]
            for box in entry["boxes"]
        ]
        entry["label_text"] = (export / entry["label"]).read_text(encoding="utf-8")
        entry["image"] = Path(entry["image"]).with_suffix(".png").as_posix()
        lines.append(json.dumps(entry | {"width": size[0], "height": size[1]}))
    (folder / "manifest.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    header = json.loads((export / "export.json").read_text(encoding="utf-8"))
    (folder / "export.json").write_text(json.dumps(header | {"seed": seed}), encoding="utf-8")
    folder.rename(bundle / name)


def _size(width: int, height: int, px: int, square: bool) -> tuple[int, int]:
    """Width and height that a training gives a picture; ultralytics rounds up."""
    if square:
        return px, px
    scale = px / max(width, height)
    return min(math.ceil(width * scale), px), min(math.ceil(height * scale), px)


def _small(path: Path, size: tuple[int, int], square: bool) -> Image.Image:
    """A picture resized as the trainings do it: squares by Pillow, the others by OpenCV."""
    with Image.open(path) as image:
        whole = image.convert("L" if image.mode == "L" else "RGB")
    if square:
        return whole.resize(size, Image.Resampling.BILINEAR)
    if whole.size == size:
        return whole
    return Image.fromarray(cv2.resize(np.asarray(whole), size, interpolation=cv2.INTER_LINEAR))


def _small_mask(path: Path, size: tuple[int, int]) -> Image.Image:
    """A mask resized by the rule of `downstream.detectors.squares.read_mask_square`."""
    with Image.open(path) as image:
        cover = np.asarray(image.convert("L").resize(size, Image.Resampling.BOX))
    return Image.fromarray(np.where(cover >= min(128, int(cover.max())), 255, 0).astype(np.uint8))


def _keep(bundle: Path, image: Image.Image) -> str:
    """Write a picture once; its name is the hash of its bytes.

    Not compressed, so that an archive of the bundle finds the rows that a paste left as they were.
    """
    stream = io.BytesIO()
    image.save(stream, "png", compress_level=0)
    name = hashlib.sha256(stream.getvalue()).hexdigest()
    path = bundle / FILES / name
    if not path.is_file():
        write_atomic(path, lambda temporary: temporary.write_bytes(stream.getvalue()))
    return name


def unpack(bundle: Path, split: str, folder: Path) -> Path:
    """Lay out one split of a bundle as a training export; one that is there already is kept."""
    if folder.is_dir():
        return folder
    part = folder.with_name(f"{folder.name}.part")
    lines = []
    for line in (bundle / split / "manifest.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        text, mask = entry.pop("label_text"), entry.pop("mask_file", None)
        for name, file in ((entry["image"], entry["sha256"]), (entry["mask"], mask)):
            if file is not None:
                (part / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(bundle / FILES / file, part / name)
        (part / entry["label"]).parent.mkdir(parents=True, exist_ok=True)
        (part / entry["label"]).write_text(text, encoding="utf-8")
        lines.append(json.dumps(entry))
    (part / "manifest.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    shutil.copyfile(bundle / split / "export.json", part / "export.json")
    part.rename(folder)
    return folder


def jobs_of(
    bundle: Path,
    out: Path,
    tasks: Sequence[str],
    settings: dict[str, Any],
    *,
    arms: Sequence[str] = (),
    splits: Sequence[str] = (),
    seeds: Sequence[int] = (),
) -> list[Job]:
    """The trainings of a bundle, whole splits first, so that what is finished can be compared."""
    found = []
    for path in sorted(bundle.glob("*/export.json")):
        split, header = path.parent.name, json.loads(path.read_text(encoding="utf-8"))
        if splits and split not in splits:
            continue
        export = unpack(bundle, split, out / "exports" / split)
        for task in tasks:
            for seed in seeds or [header["seed"]]:
                for arm in arms or header["arms"]:
                    one = {"tasks": (task,), "arms": (arm,), "seeds": (seed,)}
                    found.append(Job(split, export, out / "runs" / split, settings | one))
    return found


def run(jobs: Sequence[Job], out: Path, workers: int, minutes: float) -> int:
    """Train, `workers` at once, and write a line of `RESULTS` for each that ended.

    Returns:
        How many failed.
    """
    began, failed = time.monotonic(), 0
    done = _lines(out)
    known = {line["key"] for line in done}
    (out / RESULTS).write_text("".join(f"{json.dumps(line)}\n" for line in done), "utf-8")
    waiting: Iterator[Job] = iter(jobs)
    alive: dict[Future[dict[str, Any]], Job] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool, (out / RESULTS).open("a") as to:
        while True:
            while len(alive) < workers and time.monotonic() - began < 60 * minutes:
                if (job := next(waiting, None)) is None:
                    break
                alive[pool.submit(train, job)] = job
            if not alive:
                break
            for future in wait(alive, return_when=FIRST_COMPLETED).done:
                job = alive.pop(future)
                spent = f"{time.monotonic() - began:.0f} s"
                if (fault := future.exception()) is not None:
                    failed += 1
                    print(f"{spent}  {job.name} failed: {fault}", flush=True)
                    continue
                line = {"split": job.split, **future.result()}
                if line["key"] not in known:
                    to.write(json.dumps(line) + "\n")
                    to.flush()
                print(f"{spent}  {job.name}: {line['seconds']:.0f} s", flush=True)
    left = sum(1 for _ in waiting)
    print(f"{len(jobs) - left - failed} of {len(jobs)} trainings are finished, {left} not begun")
    return failed


def train(job: Job) -> dict[str, Any]:
    """One training, or its result where it was done before; weights and maps are not kept."""
    from downstream.config import ExperimentConfig
    from downstream.runs import execute, plan_runs, read_result

    config = ExperimentConfig(**job.settings)
    (planned,) = plan_runs(_export(job.export, config.measure), job.out, config)
    result = read_result(planned)
    if result is None:
        result = execute(planned, _export(job.export, config.measure), config)
        (planned.folder / "weights.safetensors").unlink(missing_ok=True)
        for maps in planned.folder.glob("maps-*"):
            shutil.rmtree(maps)
    return result


@lru_cache(maxsize=1)
def _export(folder: Path, measure: Any) -> Any:
    """An export is hashed once by each process for all of its arms."""
    from downstream.dataset import read_export

    return read_export(folder, measure)


def table_of(out: Path, baseline: str) -> str:
    """The table of `benchmarks/splits.py` over everything that is finished.

    Raises:
        SystemExit: there are several trainings of one split and arm, with other seeds or settings,
            which that table can't hold.
    """
    from splits import closures, spreads, table

    found: dict[tuple[str, str], dict[int, Any]] = {}
    seen: dict[tuple[str, str, str], str] = {}
    results = _lines(out)
    # shorter names first: split 9 stands before split 10
    splits = sorted({each["split"] for each in results}, key=lambda name: (len(name), name))
    names = {split: k for k, split in enumerate(splits)}
    for result in results:
        split, task, arm = result["split"], result["task"], result["arm"]
        if seen.setdefault((split, task, arm), result["key"]) != result["key"]:
            raise SystemExit(
                f"error: there are several trainings of {split}, {task} {arm}, and the table has "
                f"one a split; give each set of settings its own --out, or read {out / RESULTS}"
            )
        found.setdefault((task, arm), {})[names[split]] = result["metrics"]
    on_test = {
        arm: {split: metrics for split, metrics in of_arm.items() if "test" in metrics}
        for arm, of_arm in found.items()
    }
    return "\n".join([table(found, baseline), *closures(on_test), *spreads(on_test, baseline)])


def _lines(out: Path) -> list[dict[str, Any]]:
    """What has ended so far; a line that was cut off by a kill is made again."""
    if not (out / RESULTS).is_file():
        return []
    whole = (out / RESULTS).read_text(encoding="utf-8").split("\n")[:-1]
    return [json.loads(line) for line in whole]


def _words(text: str | None) -> list[str]:
    return [word for word in (text or "").split(",") if word]


if __name__ == "__main__":
    main()
