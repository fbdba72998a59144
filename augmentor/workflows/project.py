"""A project: a folder with augment.yaml, and the places of everything inside it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from shlex import quote
from typing import Any, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from augmentor.errors import ProjectError
from augmentor.filters import FilterConfig
from augmentor.protocols import FEW_SHOT, Protocol
from augmentor.records_io import PROJECT_FILE
from downstream.config import ExperimentConfig
from generator.config import StrictModel, load_yaml, parse, read_yaml
from generator.files import write_text
from generator.planner_settings import PlannerSettings

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"

_HEADER = """\
# Written by `augment import`; edit it, every key is checked. Only what differs from the defaults
# stands here: docs/configuration.md names the rest.
"""


class SourceConfig(StrictModel):
    """Where the real images came from, and how they were read."""

    path: Path = Field(description="the folder that was imported")
    layout: str = Field("auto", description="how its files lie")
    on_bad: Literal["error", "skip"] = Field("error", description="what becomes of bad files")
    mask_threshold: int | None = Field(
        None,
        ge=0,
        le=254,
        description="mask pixels above this grey level are defect; not given it is 127, and masks "
        "with areas of other greys are refused",
    )
    roi: Path | None = Field(
        None, description="where the part is: one picture, or a folder with one for each image"
    )


class SplitConfig(StrictModel):
    """How the real images were split, once."""

    protocol: Protocol = Field(
        FEW_SHOT,
        description="`few-shot`, or the published `anomalydiffusion` of an MVTec tree, which has "
        "no use for test, shots and group_by: docs/protocols.md",
    )
    seed: int = Field(0, ge=0, description="of the split")
    val: float = Field(0.2, gt=0, lt=1, description="share of each class for every choice")
    test: float = Field(0.2, gt=0, lt=1, description="share of each class for the verdict")
    shots: int | None = Field(
        None, ge=1, description="defect images a class to train on; the rest is set aside"
    )
    group_by: str | None = Field(
        None, description="regex on the path, or `similar`: files that stay on one side"
    )


class MixConfig(StrictModel):
    """What the mixed training split is made of."""

    ratio: float = Field(
        0.5, ge=0, le=1, description="share of synthetic among the defect images of the train split"
    )
    balance: Literal["class", "natural"] = Field(
        "class", description="bring the classes to equal numbers, or keep their proportions"
    )
    generators: dict[str, float] | None = Field(
        None, min_length=1, description="shares; default: the project's recipe alone"
    )
    seed: int = Field(0, ge=0, description="of sampling")
    attempts: float = Field(4.0, ge=1, le=100, description="most samples tried for each one wanted")

    @field_validator("generators")
    @classmethod
    def _shares(cls, shares: dict[str, float] | None) -> dict[str, float] | None:
        if shares is None:
            return None
        if any(share <= 0 for share in shares.values()):
            raise ValueError("every generator's share must be above 0")
        total = sum(shares.values())
        return {name: share / total for name, share in shares.items()}


class ProjectConfig(StrictModel):
    """Everything in augment.yaml."""

    name: str = Field(pattern=NAME_PATTERN, description="also of the FiftyOne datasets")
    classes: tuple[str, ...] = Field(min_length=1, description="defect classes in label order")
    source: SourceConfig
    split: SplitConfig = SplitConfig()
    recipe: str = Field("compact", description="generator to train: a name or a YAML file")
    seed: int = Field(0, ge=0, description="of the generator's training")
    feather_px: int = Field(
        3, ge=0, le=64, description="width of the blend around a defect; beyond it nothing changes"
    )
    masks: PlannerSettings = PlannerSettings()
    filters: FilterConfig = FilterConfig()
    mix: MixConfig = MixConfig()
    evaluate: ExperimentConfig = ExperimentConfig()

    @model_validator(mode="before")
    @classmethod
    def _moved(cls, content: Any) -> Any:
        if isinstance(content, dict) and "rules" in content:
            raise ValueError("`rules` is now `filters.mask`: write its keys there")
        return content


def name_like(text: str, otherwise: str) -> str:
    """What is left of `text` that can be a project's name; `otherwise` where nothing is."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("._-") or otherwise


def mixed_name(name: str) -> str:
    """Name in FiftyOne of the mixed dataset of a project called `name`."""
    return f"{name}-mixed"


@dataclass(frozen=True)
class Project:
    """An opened project: its folder and what its augment.yaml says."""

    folder: Path
    config: ProjectConfig

    @property
    def data(self) -> Path:
        """Imported records, masks, splits."""
        return self.folder / "data"

    @property
    def dataset(self) -> Path:
        """The mixed dataset."""
        return self.folder / "dataset"

    @property
    def evaluation(self) -> Path:
        """The export with arms, the runs and the report."""
        return self.folder / "evaluation"

    @property
    def quality(self) -> Path:
        """The feature extractor, and what `augment filters report` wrote."""
        return self.folder / "quality"

    @property
    def shares(self) -> dict[str, float]:
        """What part of the synthetic images each generator contributes; they add up to 1."""
        return self.config.mix.generators or {self.config.recipe: 1.0}

    @property
    def mixed_name(self) -> str:
        """Name of the mixed dataset in FiftyOne (the real one has the project's name)."""
        return mixed_name(self.config.name)

    @property
    def recipes(self) -> Path:
        """The recipes that this project changed."""
        return self.folder / "recipes"

    def own_recipe(self, recipe: str) -> Path:
        """Where a recipe that this project changed lies; it comes before the one we ship."""
        return self.recipes / f"{recipe}.yaml"

    def checkpoint(self, recipe: str) -> Path:
        """Folder of a recipe's checkpoint."""
        return self.folder / "generator" / recipe

    def pool(self, generator: str) -> Path:
        """Folder of a generator's pool."""
        return self.folder / "pool" / generator

    def export(self, layout: str) -> Path:
        """Folder of an export for other tools."""
        return self.folder / "exports" / layout


def folder_around(place: Path) -> Path | None:
    """The folder of the project that `place` is or lies in; None where it lies in none."""
    folders = (place, *place.parents)
    return next((folder for folder in folders if (folder / PROJECT_FILE).is_file()), None)


def open_project(folder: Path | None = None) -> Project:
    """Open a project.

    Args:
        folder: the project's own; default: the one that the current folder lies in. A folder that
            is named is never looked for above: where it is mistyped, another project is meant.

    Raises:
        ProjectError: no augment.yaml there, or one that can't be read.
    """
    at = (folder or Path.cwd()).resolve()
    around = folder_around(at)
    if around is not None and folder is None:
        at = around
    if around == at:
        return Project(at, load_yaml(at / PROJECT_FILE, ProjectConfig, ProjectError))
    if around is not None:
        raise ProjectError(
            f"There is no {PROJECT_FILE} in {at}, which lies in the project {around}; if that one "
            f"is meant, type: --project {quote(str(around))}"
        )
    above = "" if folder else " or above it"
    raise ProjectError(
        f"There is no {PROJECT_FILE} in {at}{above}; go into a project's folder, or make one: "
        "augment import SOURCE --name NAME"
    )


def save_project(folder: Path, config: ProjectConfig) -> Project:
    """Write augment.yaml, only what differs from the defaults, and open it."""
    content = config.model_dump(mode="json", exclude_defaults=True)
    write_text(folder / PROJECT_FILE, _HEADER + yaml.safe_dump(content, sort_keys=False))
    return Project(folder, config)


def _quoted(value: Any) -> Any:
    """The value, with quotes around texts that a reader would take for something else: `off`,
    `12:30`. The editor writes YAML 1.2, where they are texts, and is read as 1.1."""
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString

    if isinstance(value, list | tuple):
        return [_quoted(item) for item in value]
    if not isinstance(value, str):
        return value
    try:
        plain = yaml.safe_load(value) == value
    except yaml.YAMLError:
        plain = False
    return value if plain else DoubleQuotedScalarString(value)


def edit_project(project: Project, values: Mapping[str, Any]) -> Project:
    """Change single keys of augment.yaml; everything else in it, comments too, stays as it is.

    Args:
        project: as opened.
        values: by the key's full path, for example `filters.realism.most`.

    Raises:
        ProjectError: a value does not fit; the file is not touched then.
    """
    from ruamel.yaml import YAML

    path, editor = project.folder / PROJECT_FILE, YAML()
    editor.preserve_quotes = True
    content = editor.load(path.read_text(encoding="utf-8"))
    for key, value in values.items():
        *sections, last = key.split(".")
        place = content
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = _quoted(value)
    written = StringIO()
    editor.dump(content, written)
    config = parse(read_yaml(written.getvalue()), ProjectConfig, str(path), ProjectError)
    write_text(path, written.getvalue())
    return Project(project.folder, config)
