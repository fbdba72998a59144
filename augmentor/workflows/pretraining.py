"""A detector that has seen defects before it sees yours: trained on drawn ones, once."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from augmentor.exporters import write_training_export
from augmentor.importers import import_source
from augmentor.sample_data import write_sample_dataset
from augmentor.workflows.reporting import Reporter
from downstream.config import ExperimentConfig
from downstream.dataset import read_export
from downstream.files import read_json, write_json
from downstream.runs import execute, plan_runs, read_result

ABOUT = "pretrained.json"
"""In the folder: what was asked for last, and what came of it."""

ARM = "drawn"
HELD_OUT = 0.05
PX = 192
"""Of the pictures, 160 to 320 px; what is learnt of them holds at other sizes, too."""


@dataclass(frozen=True)
class Pretrained:
    """What came of it.

    Attributes:
        run: folder of the detector, for `evaluate.detector`.
        images: how many it learned from.
        map50: on drawn images that it did not see.
        seconds: that the training took, whenever it was.
    """

    run: Path
    images: int
    map50: float
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """For --json."""
        return asdict(self) | {"run": str(self.run)}


def pretrain_detector(
    folder: Path, reporter: Reporter, *, detector: str, per_class: int, steps: int
) -> Pretrained:
    """Draw defects on surfaces of many kinds and train a detector on them alone.

    Killed and repeated it draws on; what is finished is not done again.

    Args:
        folder: for pictures, export and run.
        reporter: is told.
        detector: as `evaluate.detector`.
        per_class: pictures of each of the five kinds of defects, and as many without one.
        steps: of 16 pictures each.

    Raises:
        SourceError: the folder holds something else.
        WeightsError: there is no such detector.
        RunError: the training failed.
    """
    folder = folder.resolve()
    asked = {"detector": detector, "per_class": per_class, "steps": steps}
    known = read_json(folder / ABOUT)
    if known.get("asked") == asked and (folder / known["run"] / "result.json").is_file():
        return Pretrained(**known["made"], run=folder / known["run"])
    reporter.say(f"Drawing {6 * per_class} pictures")
    photos = folder / "photos"
    write_sample_dataset(photos, per_class=per_class, clean=per_class, varied=True)
    drawn = import_source(
        photos,
        folder / "data",
        layout="mvtec",
        val=HELD_OUT,
        test=HELD_OUT,
        on_progress=lambda done, total: reporter.progress("Reading images", done, total),
    )
    learnt = {record.id for record in drawn.records if record.split == "train"}
    export = write_training_export(
        folder / "export",
        name=ARM,
        classes=drawn.classes,
        records=drawn.records,
        arms={ARM: learnt},
    )
    config = ExperimentConfig(
        tasks=("detection",),
        arms=(ARM,),
        seeds=(0,),
        measure="val",
        detector=detector,
        detection_steps=steps,
        detection_px=PX,
        detection_mosaic=1.0,
    )
    whole = read_export(export, config.measure)
    (run,) = plan_runs(whole, folder, config)
    result = read_result(run) or execute(
        run,
        whole,
        config,
        lambda done, total: reporter.progress(f"Training {detector}", done, total),
    )
    map50, seconds = result["metrics"]["val"]["map50"], result["seconds"]
    made = {"images": len(learnt), "map50": map50, "seconds": seconds}
    # relative, as a folder may be moved
    where = run.folder.relative_to(folder).as_posix()
    write_json(folder / ABOUT, {"asked": asked, "run": where, "made": made})
    return Pretrained(run.folder, **made)
