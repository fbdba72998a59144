"""Export: the mixed dataset for other tools."""

from pathlib import Path

from augmentor.exporters import Format, export_dataset, shows_one_class
from augmentor.mixing import check_sources
from augmentor.records_io import load_records
from augmentor.workflows.alone import alone
from augmentor.workflows.build import pool_samples
from augmentor.workflows.built import built_lines
from augmentor.workflows.generators import read_samples
from augmentor.workflows.project import Project
from augmentor.workflows.reporting import Reporter


@alone("export")
def export_project(project: Project, layout: Format, to: Path | None, reporter: Reporter) -> Path:
    """Write the built dataset in `layout` to `to`, by default exports/<layout> in the project.

    Raises:
        ProjectError: nothing was built yet, or of other photographs than the project has now; or
            what was built is damaged.
        LeakError: a sample's sources touch val, test or reserve.
    """
    known = load_records(project.data)
    lines = built_lines(project, known)
    ids = {line["id"] for line in lines}
    chosen = [
        (line["generator"], line["id"], line["class"])
        for line in lines
        if line["kind"] == "synthetic"
    ]
    records = [r for r in known if r.id in ids]
    samples = read_samples(project, chosen)
    check_sources(samples, known)
    unclear = sum(not shows_one_class(s) for s in samples) if layout == "folders" else 0
    if unclear:
        reporter.warn(
            f"{unclear} synthetic images also show real defects of another class, so that no "
            "folder is right for them; they are left out"
        )
    folder = (to or project.export(layout)).resolve()
    reporter.say(
        f"Writing {len(records)} real and {len(samples) - unclear} synthetic images as {layout}"
    )
    export_dataset(
        folder,
        layout,
        name=project.mixed_name,
        classes=project.config.classes,
        records=records,
        samples=pool_samples(project, samples),
    )
    return folder
