"""The mixed dataset as it was built: with which options, of what, and how to build it again.

Beside `augmentor.workflows.build`, which builds it, so that saying so loads no network.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from augmentor.errors import ProjectError
from augmentor.records_io import content_of
from augmentor.workflows.project import MixConfig, Project
from downstream.files import read_json
from generator.files import read_lines, sha256_of, sha256_of_file
from generator.records import DefectExample

STAMP = "build.json"
MANIFEST = "manifest.jsonl"


def built_summary(project: Project) -> dict[str, Any]:
    """What `build.json` says of the built dataset; {} where there is none."""
    return dict(read_json(project.dataset / STAMP).get("summary") or {})


def built_lines(project: Project, records: Sequence[DefectExample]) -> list[dict[str, Any]]:
    """The lines of the built dataset's manifest.

    Args:
        project: whose.
        records: all real images that the project has now.

    Raises:
        ProjectError: nothing is built, or of other images, labels or sides than those of now; or
            the manifest is not the one that was written.
    """
    stamp = read_json(project.dataset / STAMP)
    if not stamp:
        raise ProjectError("There is no mixed dataset yet; build it: augment build --ratio 0.5")
    path = project.dataset / MANIFEST
    if stamp.get("manifest") != manifest_hash(path):
        raise ProjectError(
            f"{path} is missing, damaged or of an earlier version; build it anew: "
            f"{build_again(project)}"
        )
    if stamp.get("records") != content_key(records):
        raise ProjectError(
            "The photographs, their labels or sides have changed since the mixed dataset was "
            f"built; build it anew: {build_again(project)}"
        )
    return read_lines(path)


def content_key(records: Sequence[DefectExample]) -> str:
    """Hash of what the real images are, their labels and sides, wherever they lie."""
    return sha256_of([content_of(record) for record in records])


def as_built(project: Project) -> Project:
    """The project with the mix that its dataset has, as options of `augment build` may have asked
    for another than augment.yaml; that of augment.yaml where nothing is built."""
    summary = built_summary(project)
    kept = {name: summary[name] for name in MixConfig.model_fields if name in summary}
    mix = project.config.mix.model_copy(update=kept)
    return Project(project.folder, project.config.model_copy(update={"mix": mix}))


def build_again(project: Project) -> str:
    """What to type to build the mixed dataset anew as it was built: the options that differ from
    augment.yaml are named, as a build without them would be of another mix."""
    built = as_built(project)
    now, then = project.config.mix, built.config.mix
    words = ["augment build"]
    if then.ratio != now.ratio:
        words.append(f"--ratio {then.ratio:g}")
    if built.shares != project.shares:
        alone = len(built.shares) == 1
        shares = [name if alone else f"{name}={share:g}" for name, share in built.shares.items()]
        words.append(f"--generator {','.join(shares)}")
    if then.balance != now.balance:
        words.append(f"--balance {then.balance}")
    if then.seed != now.seed:
        words.append(f"--seed {then.seed}")
    return " ".join(words)


def manifest_hash(path: Path) -> str | None:
    """Of the dataset's manifest as it lies there; None where it is missing."""
    return sha256_of_file(path) if path.is_file() else None
