"""Export: the mixed dataset for other tools."""

from pathlib import Path

from augmentor.errors import ProjectError
from augmentor.exporters import Format, export_dataset
from augmentor.records_io import load_records
from augmentor.workflows.build import STAMP, pool_samples
from augmentor.workflows.generators import read_samples
from augmentor.workflows.project import Project
from augmentor.workflows.reporting import Reporter
from generator.files import read_lines


def export_project(project: Project, layout: Format, to: Path | None, reporter: Reporter) -> Path:
    """Write the built dataset in `layout` to `to`, by default exports/<layout> in the project.

    Raises:
        ProjectError: nothing was built yet.
    """
    if not (project.dataset / STAMP).is_file():
        raise ProjectError("There is no mixed dataset yet; build it: augment build --ratio 0.5")
    lines = read_lines(project.dataset / "manifest.jsonl")
    ids = {line["id"] for line in lines}
    chosen = [
        (line["generator"], line["id"], line["class"])
        for line in lines
        if line["kind"] == "synthetic"
    ]
    records = [r for r in load_records(project.data) if r.id in ids]
    samples = read_samples(project, chosen)
    folder = (to or project.export(layout)).resolve()
    reporter.say(f"Writing {len(records)} real and {len(samples)} synthetic images as {layout}")
    export_dataset(
        folder,
        layout,
        name=project.mixed_name,
        classes=project.config.classes,
        records=records,
        samples=pool_samples(project, samples),
    )
    return folder
