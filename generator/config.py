"""Strict configuration: one base for every file that a person writes, and how it is read."""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast, get_args

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from generator import registry
from generator.errors import RecipeError


class StrictModel(BaseModel):
    """Immutable; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


M = TypeVar("M", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice in one place: the first would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.value in seen:
                line = key.start_mark.line + 1
                raise yaml.YAMLError(
                    f"the key {key.value!r} of line {line} stands above it already"
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(text: str) -> Any:
    """What a YAML text says.

    Raises:
        yaml.YAMLError: it is none, or has a key twice.
    """
    return yaml.load(text, _Loader)


def load_yaml(path: Path, model: type[M], error: type[Exception] = RecipeError) -> M:
    """Read `path` as YAML into `model`.

    Raises:
        error: the file is missing, isn't YAML, or doesn't fit; one sentence per fault, with the
            key's full path and, for a key that nothing knows, the nearest one that exists.
    """
    try:
        content = read_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise error(f"{path} does not exist.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as fault:
        raise error(
            f"{path} can't be read as YAML in UTF-8: {' '.join(str(fault).split())}"
        ) from None
    except OSError as fault:
        raise error(f"{path} can't be read: {fault.strerror or fault}.") from None
    return parse(content or {}, model, str(path), error)


def parse(content: object, model: type[M], name: str, error: type[Exception] = RecipeError) -> M:
    """Validate `content` as `model`; see `load_yaml` for what is raised.

    `name` is a file, or the command whose options these are.
    """
    try:
        return model.model_validate(content)
    except ValidationError as fault:
        said = "; ".join(_sentence(e, model) for e in fault.errors())
        see = f"; see: {name} --help" if name.startswith("augment ") else "."
        raise error(f"{name}: {said}{see}") from None


def _sentence(fault: ErrorDetails, model: type[BaseModel]) -> str:
    place = [str(part) for part in fault["loc"]]
    key = ".".join(place)
    if fault["type"] != "extra_forbidden":
        message = fault["msg"].removeprefix("Value error, ")
        # A whole section echoed back would bury the sentence that matters.
        got = "" if isinstance(fault.get("input"), dict) else f" (got {fault.get('input')!r})"
        return f"{key}: {message}{got}" if key else f"{message}{got}"
    siblings = _keys_at(model, place[:-1])
    near = difflib.get_close_matches(place[-1], siblings, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(sorted(siblings))}"
    return f"unknown key {key!r}, {hint}"


def _keys_at(model: type[BaseModel], place: list[str]) -> list[str]:
    """Names of the fields that stand beside an unknown key; empty where that can't be told."""
    for part in place:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        nested = [t for t in _types(annotation) if issubclass(t, BaseModel)]
        if not nested:
            return []
        model = nested[0]
    return list(model.model_fields)


def _types(annotation: object) -> list[type]:
    if isinstance(annotation, type):
        return [annotation]
    return [t for part in getattr(annotation, "__args__", ()) for t in _types(part)]


class Choice(StrictModel):
    """One section of a recipe: the method on one axis, and its settings."""

    kind: str


class CropSettings(StrictModel):
    """What the network looks at."""

    size_px: int = Field(64, ge=16, le=1024, description="side of the network's canvas, pixels")
    least_px: int = Field(
        64, ge=16, description="least side of a window in the image: small defects stay native"
    )
    factor: float = Field(1.4, ge=1.0, le=4.0, description="window side / defect's longer side")
    jitter: float = Field(
        0.25, ge=0, le=1, description="training windows vary by exp(+-jitter) in scale"
    )
    brightness: float = Field(0.08, ge=0, le=0.5, description="largest change of gain and offset")
    clean_share: float = Field(0.25, ge=0, le=0.9, description="share of defect-free crops")
    whole_image_px: int = Field(
        64, ge=16, le=1024, description="canvas when only image-level labels are known"
    )
    whole_image_turns: bool = Field(
        False,
        description="train on whole images turned and mirrored, too, and make such; for surfaces "
        "that look the same from every side",
    )
    centre_px: int | None = Field(
        None,
        ge=16,
        description="train on this square in the middle of images alone, for parts on a backdrop; "
        "none: on all of them",
    )


class TrainSettings(StrictModel):
    """How long and how fast.

    Lengths, and everything called `*_every`, count optimiser steps; where `epochs` is set, epochs.
    An epoch is as many steps as it takes to draw each defect instance once on average.
    """

    steps: int | None = Field(None, ge=1, description="length; 1600 unless `epochs` is set")
    epochs: int | None = Field(None, ge=1, description="length, instead of `steps`")
    batch_size: int = Field(16, ge=1, description="examples at once")
    accumulation: int = Field(
        1, ge=1, le=1024, description="batches whose gradients make one optimiser step"
    )
    learning_rate: float = Field(1e-3, gt=0, le=1)
    schedule: Literal["cosine", "constant", "milestones"] = "cosine"
    warmup_steps: int = Field(50, ge=0, description="always optimiser steps")
    final_rate: float = Field(0.02, ge=0, le=1, description="cosine's end, share of the rate")
    milestones: dict[Annotated[int, Field(ge=0)], Annotated[float, Field(gt=0, le=1)]] = Field(
        {}, description="learning rate from that step or epoch on; for schedule `milestones`"
    )
    weight_decay: float = Field(0.01, ge=0, le=1)
    gradient_clip: float = Field(1.0, gt=0, description="largest norm of the gradient")
    ema_decay: float = Field(
        0.998,
        ge=0,
        lt=1,
        description="0 keeps the last weights as they are; step n follows by (1 + n) / (10 + n) at "
        "most",
    )
    variants: int = Field(
        0, ge=0, le=1024, description="crops an instance, encoded once and kept; 0 cuts fresh ones"
    )
    checkpoint_every: int = Field(100, ge=1, description="between states to resume from")
    keep_checkpoints: int = Field(
        0, ge=0, description="how many of these can be sampled from later, the newest; 0 is none"
    )
    log_every: int = Field(25, ge=1, description="always steps; between lines of metrics.jsonl")
    sheet_every: int = Field(500, ge=1, description="between sample sheets")
    validate_every: int = Field(
        0, ge=0, description="between measurements on fixed seeds; 0 is never"
    )
    validate_images: int = Field(8, ge=2, description="samples a class for a measurement")
    validate_solver: Literal["dpm++2m", "euler", "ddim"] | None = Field(
        None, description="of sheets and measurements; none: sampling's"
    )
    validate_steps: int | None = Field(None, ge=1, le=1000, description="as validate_solver")
    gradient_checkpointing: bool = Field(
        False, description="less memory, a third slower; also the last resort when memory runs out"
    )
    compile: bool = Field(False, description="torch.compile the repeated blocks; pays on a GPU")
    deterministic: bool = Field(
        False, description="only deterministic kernels: the same bits on the same hardware"
    )
    tracker: Literal["none", "tensorboard", "wandb", "mlflow"] = "none"

    @model_validator(mode="before")
    @classmethod
    def _length(cls, content: Any) -> Any:
        if isinstance(content, dict) and all(content.get(k) is None for k in ("steps", "epochs")):
            return {**content, "steps": 1600}
        return content

    @model_validator(mode="after")
    def _consistent(self) -> "TrainSettings":
        if self.steps is not None and self.epochs is not None:
            raise ValueError("set steps or epochs, not both")
        if bool(self.milestones) != (self.schedule == "milestones"):
            raise ValueError("milestones go with schedule 'milestones', and it with them")
        return self


class SampleSettings(StrictModel):
    """How a defect is painted."""

    solver: Literal["dpm++2m", "euler", "ddim"] = "dpm++2m"
    steps: int = Field(12, ge=1, le=1000)
    guidance: float = Field(1.5, ge=1, le=20, description="1 is none")
    guide_against: Literal["nothing", "clean"] = Field(
        "nothing", description="what guidance leads away from: no class, or the clean surface"
    )
    init: Literal["noise", "paste"] = Field(
        "paste", description="start from noise, or from a real defect pasted and partly noised"
    )
    strength: float = Field(
        0.5, gt=0, le=1, description="share of the noise laid over a paste (SDEdit, 2108.01073)"
    )
    shrink_strength: float = Field(
        0.0,
        ge=0,
        le=1,
        description="how far the strength falls where a window is scaled down to the canvas: it is "
        "multiplied by (canvas / window) to this power, so a coarse painting stays near its paste",
    )
    texture: float = Field(
        1.0, ge=0, le=1, description="share of the fine texture given back to scaled-down crops"
    )
    best_of: int = Field(
        1, ge=1, le=64, description="candidates a sample; the one that changed most stays"
    )
    batch_size: int = Field(16, ge=1, description="samples at once; halved when memory runs out")
    compile: bool = Field(
        False, description="torch.compile the repeated blocks; pays on a GPU, for thousands"
    )


class Recipe(StrictModel):
    """A generator: one method on each of four axes, and the numbers that go with them.

    A section that names a method is read by that method's own `Settings`; a combination that
    can't work is refused here, with the reason.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    backbone: SerializeAsAny[Choice]
    conditioning: SerializeAsAny[Choice]
    tuning: SerializeAsAny[Choice]
    objective: SerializeAsAny[Choice]
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="auto is bf16 where the hardware multiplies in it"
    )
    crops: CropSettings = CropSettings()
    training: TrainSettings = TrainSettings()
    sampling: SampleSettings = SampleSettings()

    @field_validator("backbone", "conditioning", "tuning", "objective", mode="before")
    @classmethod
    def _read_choice(cls, value: Any, info: ValidationInfo) -> Any:
        axis = cast(registry.Axis, info.field_name)
        if isinstance(value, Choice):
            return value
        if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
            known = ", ".join(sorted(registry.methods(axis)))
            raise ValueError(f"needs a 'kind', one of: {known}")
        try:
            return parse(value, registry.method(axis, value["kind"]).Settings, value["kind"])
        except RecipeError as fault:
            raise ValueError(str(fault).removesuffix(".")) from None

    @model_validator(mode="after")
    def _refuse_impossible(self) -> "Recipe":
        if reason := _foreign_conditioning(self):
            raise ValueError(reason)
        for axis in get_args(registry.Axis):
            chosen = registry.method(axis, getattr(self, axis).kind)
            if reason := chosen.refuse(self):
                raise ValueError(reason)
        return self


def _foreign_conditioning(recipe: Recipe) -> str | None:
    """Why a conditioning says its class in a form that the backbone does not read, or None."""
    known = registry.methods("conditioning")
    backbone = registry.method("backbone", recipe.backbone.kind)
    takes = getattr(backbone, "takes", "class ids")
    gives = getattr(known[recipe.conditioning.kind], "gives", "class ids")
    if takes == gives:
        return None
    fitting = [name for name in sorted(known) if getattr(known[name], "gives", "") == takes]
    return (
        f"backbone {recipe.backbone.kind!r} takes {takes} and conditioning "
        f"{recipe.conditioning.kind!r} gives {gives}; choose conditioning {' or '.join(fitting)}"
    )


def recipe_names() -> list[str]:
    """Names of the recipes that come with the project, sorted."""
    return sorted(path.stem for path in _recipe_folder().glob("*.yaml"))


def load_recipe(name_or_path: str) -> Recipe:
    """Read a recipe by its name (`compact`) or from a YAML file.

    Raises:
        RecipeError: there is no such recipe, or it does not fit; see `load_yaml`.
    """
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        return load_yaml(path, Recipe)
    if name_or_path not in recipe_names():
        near = difflib.get_close_matches(name_or_path, recipe_names(), n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(recipe_names())}."
        raise RecipeError(f"There is no recipe {name_or_path!r}, {hint}")
    return load_yaml(_recipe_folder() / f"{name_or_path}.yaml", Recipe)


def dump_recipe(recipe: Recipe) -> str:
    """The resolved recipe as YAML, every default spelled out; `load_recipe` reads it back."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)


def _recipe_folder() -> Path:
    """`configs/` of a checkout, or where the wheel puts it."""
    here = Path(__file__).parent
    installed = here / "_recipes"
    return installed if installed.is_dir() else here.parent / "configs"
