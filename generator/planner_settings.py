"""How masks are proposed and placed: the keys of `masks` in augment.yaml."""

from pydantic import Field, model_validator

from generator.config import StrictModel


class PlannerSettings(StrictModel):
    """How masks are proposed and placed."""

    real_share: float = Field(
        0.7, ge=0, le=1, description="share of shapes taken from real masks, not procedural ones"
    )
    recombine: float = Field(
        0.25, ge=0, le=1, description="share of the real shapes that are blended with a second one"
    )
    together_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="where a real image has several defects of the class with exact masks, how "
        "often a sample has them all, as they lie there, and not one of them",
    )
    invented_most_px: int = Field(
        96,
        ge=0,
        description="longer side up to which a defect's shape may be replaced by a procedural or "
        "recombined one, pixels; a larger one keeps its own, as only real texture fills it well",
    )
    least_scale: float = Field(0.7, gt=0, le=1, description="least size relative to the real one")
    most_scale: float = Field(1.4, ge=1, le=4, description="largest size relative to the real one")
    least_fit_scale: float = Field(
        0.25, gt=0, le=1, description="how far a shape may shrink to fit a small background"
    )
    flip: bool = Field(True, description="mirror shapes where the class's orientation allows it")
    most_rotation_deg: float = Field(
        180,
        ge=0,
        le=180,
        description="bound on rotation, also along a part's outline; an oriented class turns less "
        "by itself",
    )
    elastic: float = Field(
        0.04, ge=0, le=0.2, description="bending, as a share of the square root of the area"
    )
    clearance_px: int = Field(
        6, ge=4, le=64, description="least distance to defects that are already there, pixels"
    )
    crop_factor: float = Field(
        1.4,
        ge=1,
        le=4,
        description="side of the painted window by the defect's longer side; counts for baselines "
        "alone, as a recipe brings its own (crops.factor)",
    )
    least_px: int = Field(
        64,
        ge=16,
        le=1024,
        description="least side of that window, pixels; counts for baselines alone, as a recipe "
        "brings its own (crops.least_px)",
    )
    own_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the samples painted beside the defects of a real image of the class, "
        "rather than on a clean one; where there is no clean image, all are painted on such "
        "images, and large ones known by boxes may cover what is there",
    )
    background_candidates: int = Field(
        16,
        ge=1,
        le=1024,
        description="clean images drawn for each sample, at most a quarter of all (defect images "
        "where none is clean); the one whose surface looks most like the one that the shape comes "
        "from is painted on, so 1 is any",
    )
    least_region_px: int = Field(
        96, ge=16, description="least side of a defect-free region used as background, pixels"
    )
    tries: int = Field(40, ge=1, le=1000, description="places tried before giving up")
    most_instances: int = Field(
        400, ge=1, description="real shapes kept a class; more are thinned out evenly"
    )
    crumb_share: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="instances below this share of their class's median area, beside a larger one "
        "in their image (specks of an annotation), lend no shape; they stay labels of their image",
    )
    least_severity: float = Field(
        1.0, gt=0, le=1, description="how faint a defect may become; see most_severity"
    )
    most_severity: float = Field(
        1.0,
        ge=1,
        le=4,
        description="how much more than the real one a defect may differ from its background; "
        "drawn evenly on a logarithmic scale, 1 leaves it as it is",
    )
    cache_mb: int = Field(512, ge=1, description="memory for decoded images, MiB")

    @model_validator(mode="after")
    def _check(self) -> "PlannerSettings":
        if self.least_fit_scale > self.least_scale:
            raise ValueError(
                f"least_fit_scale ({self.least_fit_scale}) must not exceed least_scale "
                f"({self.least_scale})"
            )
        return self
