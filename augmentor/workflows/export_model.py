"""Export a trained detector of the evaluation to ONNX."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from augmentor.errors import ProjectError
from augmentor.workflows.project import Project
from augmentor.workflows.reporting import Reporter
from downstream.report_file import read_report

if TYPE_CHECKING:
    from downstream.onnx import Exported

IMAGES = 64
"""Photographs that the exported network is compared with the original on."""


def export_model(project: Project, run: str, out: Path | None, reporter: Reporter) -> "Exported":
    """Write the detector of `run` as ONNX, checked against torch on the images it was measured on.

    Args:
        project: in which it was trained.
        run: the folder of a run, or `task/arm` or `task/arm/seed` of the last evaluation (seed 0
            where none is named).
        out: the file; by default exports/onnx/<task>-<arm>-seed<seed>.onnx in the project.
        reporter: is told what is being done.

    Raises:
        ProjectError: there is no such run.
        OnnxError: it is unfinished or can't be exported, `out` is somebody else's file, or the
            exported network differs from the original; no file is left then.
    """
    from downstream.onnx import export_onnx  # torch and onnx take seconds
    from downstream.onnx_check import measured_images

    folder, name, arm = find_run(project, run)
    beside = folder.parent.parent / "export"
    export = beside if beside.is_dir() else project.evaluation / "export"
    exported = export_onnx(
        folder,
        (out or project.export("onnx") / f"{name}.onnx").resolve(),
        measured_images(folder, export, IMAGES),
        threads=int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1),
        tell=reporter.say,
        arm=arm,
    )
    if exported.recorded.fault:
        reporter.warn(
            "The exported network gives what the original gives, but not what the run recorded "
            f"({exported.recorded.fault}); a run on a GPU may differ so."
        )
    return exported


def find_run(project: Project, run: str) -> tuple[Path, str, str | None]:
    """The folder that `run` names, a name for its file, and the arm that was asked for: arms of the
    same images share a run.

    Raises:
        ProjectError: there is no such run; the sentence says which there are.
    """
    for folder in (Path(run), project.folder / run, project.evaluation / "runs" / run):
        if (folder / "config.json").is_file():
            return folder.resolve(), folder.resolve().name, None
    report = project.evaluation / "report.json"
    if not report.is_file():
        raise ProjectError(f"There is no run {run!r}; train and measure first: augment evaluate")
    runs: list[dict[str, Any]] = read_report(report)["runs"]
    task, _, rest = run.partition("/")
    arm, _, seed = rest.partition("/")
    number = int(seed) if seed.isdigit() else 0
    own = [line for line in runs if (line["task"], line["arm"]) == (task, arm)]
    for line in own:
        if line["seed"] == number and (seed.isdigit() or not seed):
            safe = "".join(c if c.isalnum() or c in "-.@+" else "-" for c in arm)
            return project.evaluation / line["folder"], f"{task}-{safe}-seed{number}", arm
    if own:
        known = [f"{task}/{arm}/{line['seed']}" for line in own]
    else:
        known = sorted({f"{line['task']}/{line['arm']}" for line in runs})
    raise ProjectError(
        f"There is no run {run!r} in {report}; there are {', '.join(known)}: "
        f"augment export-model {known[0]} --onnx"
    )
