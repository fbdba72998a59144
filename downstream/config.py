"""What an experiment is asked to do. Every number has a bound, and its unit in its description."""

from pathlib import Path
from typing import Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

Task = Literal["detection", "classification", "localisation"]
PrimaryMetric = Literal["map50", "macro_f1", "pixel_ap"]

BASELINE = "real"
"""The arm that all others are compared with."""

PRIMARY: dict[str, PrimaryMetric] = {
    "detection": "map50",
    "classification": "macro_f1",
    "localisation": "pixel_ap",
}
"""The one metric of each task that the verdict is about."""

LEAST_SEEDS = 3
"""Below this there are differences and intervals, but no verdict."""

CLASSIFIERS = ("resnet18", "resnet34", "resnet50")

STARTS: dict[str, tuple[str, str]] = {
    "detection": ("detector", "yolo11n"),
    "classification": ("classifier", CLASSIFIERS[0]),
    "localisation": ("localiser", "unet"),
}
"""By task, the setting that says where its trainings start, and its usual value."""


class ExperimentConfig(BaseModel):
    """Settings of one experiment: arms x seeds x tasks, every run at the same optimiser steps.

    Immutable; an unknown key is an error.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tasks: tuple[Task, ...] = Field(
        ("detection", "classification"),
        min_length=1,
        description="what is trained and measured: detection, classification, localisation (which "
        "needs exact masks)",
    )
    arms: tuple[str, ...] | None = Field(
        None, description="arms to compare; None: real, classical, copy-paste and mixed"
    )
    measure: Literal["val", "val+test"] = Field(
        "val+test",
        description="what detectors are measured on; with val the files of the test split are "
        "not even opened, which is how `augment loop` makes its choices; in augment.yaml "
        "it is refused",
    )
    seeds: tuple[int, ...] = Field(
        (0, 1, 2),
        min_length=1,
        description="one training per arm, task and seed; a plain number n stands for 0 .. n-1",
    )

    detector: str = Field(
        "yolo11n",
        min_length=1,
        description="an ultralytics detection model by name (yolo11n, rtdetr-l, ...) or file "
        "(.pt or .yaml), or the folder of an earlier detection run to go on from "
        "(evaluation/runs/detection-*); a name without its .pt on disk is trained from scratch, "
        "and the report says so",
    )
    weights_dir: Path | None = Field(
        None, description="a folder that is searched for the detector's .pt, besides this one"
    )
    detection_steps: int = Field(
        600, ge=1, le=1_000_000, description="optimiser steps of every detector; a step is a batch"
    )
    detection_px: int = Field(
        256,
        ge=32,
        le=2048,
        multiple_of=32,
        description="longer side of the images in px; the shorter one is padded",
    )
    detection_batch: int = Field(16, ge=1, le=1024, description="images per step")
    detection_most_clean: float = Field(
        0.25,
        ge=0,
        le=1,
        description="largest share of images without a defect among those trained on; where there "
        "are more, each defect image is seen more often, in every arm alike",
    )
    detection_finish_on_real: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="as `classification_finish_on_real`, for detection",
    )
    detection_lr: float = Field(
        0.001, gt=0, le=1, description="peak learning rate of AdamW; cosine to 1 % after warm-up"
    )
    detection_mosaic: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the training pictures that are put together of four; with 1, a "
        "training of 1,600 steps learned more, one of 200 less (docs/experiments.md)",
    )
    select: Literal["last", "val", "both"] = Field(
        "last",
        description="which weights count, in every task: the last step's, or those of the best of "
        "ten checks on val; with both, the last step's count and the val-chosen ones are measured "
        "beside them. Never ones chosen by test",
    )

    classifier: str = Field(
        "resnet18",
        description="a torchvision model (resnet18, resnet34, resnet50), whose ImageNet weights "
        "are used only where `pretrained` allows it and they are in the torch hub cache; or the "
        "folder of an earlier classification run to go on from",
    )
    classification_steps: int = Field(
        300, ge=1, le=1_000_000, description="optimiser steps of every classifier"
    )
    classification_px: int = Field(
        128, ge=32, le=1024, description="images are resized to a square of this side in px"
    )
    classification_batch: int = Field(32, ge=2, le=1024, description="images per step")
    classification_lr: float = Field(
        1e-3, gt=0, le=1, description="peak learning rate of AdamW; cosine to 0 after warm-up"
    )
    classification_finish_on_real: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="share of the steps, the last ones, in which real images alone are drawn, in "
        "every arm alike; a class that an arm has no real image of is drawn as before. Synthetic "
        "images teach the defects, real ones have the last word on the line to good parts",
    )
    classification_adjust: bool = Field(
        True,
        description="let val say how far the line between `good` and the defects is moved, in "
        "every arm alike; batches hold all classes evenly, so that without it too many good parts "
        "are called defects",
    )
    with_good: bool = Field(
        True, description="classify `good` images as a class of their own; False leaves them out"
    )

    localiser: str = Field(
        "unet",
        description="`unet`, from scratch, or the folder of an earlier localisation run to go on "
        "from",
    )
    localisation_steps: int = Field(
        2400,
        ge=1,
        le=1_000_000,
        description="optimiser steps of every localiser, a U-Net; with 600, twelve images a class "
        "and all real ones could not be told apart",
    )
    localisation_px: int = Field(
        256,
        ge=32,
        le=1024,
        multiple_of=32,
        description="images and masks are resized to a square of this side in px, and measured "
        "there",
    )
    localisation_batch: int = Field(8, ge=1, le=1024, description="images per step")
    localisation_most_clean: float = Field(
        0.25, ge=0, le=1, description="as `detection_most_clean`, for localisation"
    )
    localisation_finish_on_real: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="as `classification_finish_on_real`, for localisation",
    )
    localisation_lr: float = Field(
        1e-3, gt=0, le=1, description="peak learning rate of AdamW; cosine to 0 after warm-up"
    )
    localisation_balance: bool = Field(
        True,
        description="divide each image's focal loss by its defect pixels, so that a small defect "
        "counts as much as a large one; False is the published protocol's plain mean over pixels",
    )
    localisation_width: int = Field(
        16,
        ge=4,
        le=256,
        description="channels of the U-Net's first level; deeper ones have 2, 4, 8 and 8 times as "
        "many. The published protocol has 64",
    )
    localisation_fold: Literal[1, 2, 4] = Field(
        2,
        description="blocks of this side in px are folded into channels before the U-Net and "
        "unfolded after it; 2 is nearly four times as fast as 1, which is the published protocol's",
    )

    pretrained: bool = Field(
        True, description="use pretrained weights where they are on disk; False never does"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="arithmetic of the training's forward pass; auto is bf16 where the GPU or "
        "CPU has it, else fp32",
    )
    device: str = Field(
        "auto", description="auto, cpu, or a CUDA device such as cuda:0; auto takes a GPU if any"
    )
    jobs: int = Field(1, ge=1, le=64, description="runs at once, each in a process of its own")

    bootstrap_samples: int = Field(
        1000, ge=100, le=100_000, description="resamples of seeds and test images per interval"
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="coverage of the intervals")
    bootstrap_seed: int = Field(0, ge=0, description="seed of the resampling")

    @field_validator("seeds", mode="before")
    @classmethod
    def _count_to_seeds(cls, value: object) -> object:
        if isinstance(value, int) and not isinstance(value, bool):
            if not 1 <= value <= 1000:
                raise ValueError(f"a number of seeds must be in 1 .. 1000, got {value}")
            return tuple(range(value))
        return value

    @field_validator("classifier", "localiser")
    @classmethod
    def _known(cls, value: str, info: ValidationInfo) -> str:
        known = CLASSIFIERS if info.field_name == "classifier" else ("unet",)
        if value not in known and Path(value).name == value and not Path(value).is_dir():
            raise ValueError(f"must be {', '.join(known)}, or the folder of an earlier run")
        return value

    @model_validator(mode="after")
    def _check(self) -> "ExperimentConfig":
        for name in ("tasks", "arms", "seeds"):
            values = getattr(self, name)
            if values is not None and len(set(values)) != len(values):
                raise ValueError(f"{name} names something twice: {', '.join(map(str, values))}")
        if any(seed < 0 or seed >= 2**31 for seed in self.seeds):
            raise ValueError(f"seeds must be in 0 .. 2^31 - 1, got {list(self.seeds)}")
        halved = 16 * self.localisation_fold
        if self.localisation_px % halved:
            nearest = max(1, round(self.localisation_px / halved)) * halved
            raise ValueError(
                f"localisation_px must be a multiple of {halved} with localisation_fold "
                f"{self.localisation_fold}, got {self.localisation_px}; take {nearest}"
            )
        if self.arms is not None and len(self.arms) == 0:
            raise ValueError("arms is empty; leave it out to take all arms of the export")
        return self

    @property
    def splits(self) -> tuple[Literal["val", "test"], ...]:
        """The splits that are measured, val first."""
        return ("val",) if self.measure == "val" else ("val", "test")

    def training_settings(self, task: Task, *, synthetic: bool = True) -> dict[str, object]:
        """The settings that a run of `task` depends on, and no others: they enter its key.

        Args:
            task: what is trained.
            synthetic: whether it trains on any synthetic image.
        """
        if task == "detection":
            names = ["detector", "detection_steps", "detection_px", "detection_batch"]
            names += ["detection_most_clean"]
            names += ["detection_lr", "detection_mosaic", "select"]
        elif task == "localisation":
            names = ["steps", "px", "batch", "most_clean", "lr", "balance", "width", "fold"]
            names = [f"localisation_{name}" for name in names] + ["select"]
            # left out where nothing is chosen, so that results from before the choice still count
            names += ["localiser"] if self.localiser != STARTS[task][1] else []
        else:
            names = ["classifier", "classification_steps", "classification_px"]
            names += ["classification_batch", "classification_lr", "with_good"]
            names += ["classification_adjust"] if self.with_good else []
            # left out where nothing is chosen, so that results from before the choice still count
            names += ["select"] if self.select != "last" else []
        late = self.finish_on_real(task) and synthetic
        names += [f"{task}_finish_on_real"] if late else []
        settings = {name: getattr(self, name) for name in [*names, "pretrained"]}
        setting = STARTS[task][0]
        if setting in settings:
            # not where it lies: its content enters the key, and a folder that was moved is the same
            settings[setting] = Path(settings[setting]).name
        return settings

    def finish_on_real(self, task: Task) -> float:
        """The share of the steps of `task`, the last ones, in which real images alone are drawn."""
        share: float = getattr(self, f"{task}_finish_on_real")
        return share

    def synthetic_steps(self, task: Task) -> int:
        """After how many of the steps of `task` only real images are drawn."""
        steps: int = getattr(self, f"{task}_steps")
        return steps - round(self.finish_on_real(task) * steps)
