"""Frozen records: what passes into the generator and what comes out of it.

Conventions, everywhere in the project:

- images are uint8 numpy arrays of shape (height, width, 3), RGB; a grey file is read as three
  equal channels and written as one (`DefectExample.grey`);
- boxes are `xyxy`, integer pixels, half-open (x2 and y2 are one past the last pixel);
- full-size masks are bool arrays of shape (height, width); on disk 8-bit PNG, 0 or 255.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

Split = Literal["train", "val", "test", "reserve"]
MaskKind = Literal["exact", "approximate", "none"]
Box = tuple[int, int, int, int]

PROCEDURAL = "procedural:"
"""What a mask source begins with that is a kind of shape and no real image."""

GOOD = "good"
"""The label of an image without any defect. Never a defect class."""


class Record(BaseModel):
    """A validated, immutable record; unknown fields are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Instance(Record):
    """One defect in one image.

    `mask_path` is an 8-bit PNG of the size of the box, 255 on the defect; None when only a box is
    known. `mask_kind` is `exact` for a mask that came with the data, `approximate` for one that
    was proposed from a box, `none` without a mask.
    """

    class_name: str
    box_xyxy: Box
    mask_path: Path | None = None
    mask_kind: MaskKind = "none"

    @model_validator(mode="after")
    def _check(self) -> "Instance":
        x1, y1, x2, y2 = self.box_xyxy
        if not (0 <= x1 < x2 and 0 <= y1 < y2):
            raise ValueError(
                f"box_xyxy must satisfy 0 <= x1 < x2 and 0 <= y1 < y2, got {self.box_xyxy}"
            )
        if (self.mask_path is None) != (self.mask_kind == "none"):
            raise ValueError(
                f"mask_kind {self.mask_kind!r} does not go with mask_path {self.mask_path}"
            )
        return self


class DefectExample(Record):
    """One real image with its defects; `instances` is empty for a clean one, or for an image
    whose class is known but whose place is not (`label` is then the defect class).

    `id` is the first 16 hex digits of `sha256`, the hash of the source file's bytes. `image_path`
    is a file that any reader can take: 8 bit, grey or RGB, upright. It is the source itself where
    that is so already, else a normalised copy.
    """

    id: str
    sha256: str
    image_path: Path
    source_path: Path
    width: int = Field(gt=0)
    height: int = Field(gt=0)
    grey: bool
    label: str
    instances: tuple[Instance, ...] = ()
    group: str | None = None
    split: Split | None = None
    roi_path: Path | None = None

    @model_validator(mode="after")
    def _check(self) -> "DefectExample":
        for instance in self.instances:
            _, _, x2, y2 = instance.box_xyxy
            if x2 > self.width or y2 > self.height:
                raise ValueError(
                    f"{self.source_path}: box {instance.box_xyxy} leaves the image "
                    f"({self.width} x {self.height} px)"
                )
        if self.label == GOOD and self.instances:
            raise ValueError(f"{self.source_path}: labelled {GOOD!r} but has defects")
        return self

    @property
    def is_clean(self) -> bool:
        """True for an image of a good part."""
        return self.label == GOOD


class Likeness(Record):
    """What a request keeps of an earlier sample.

    `mask_source_id` is as in `SyntheticDefect`: the shape comes from the same real image, or is
    procedural of the same kind. `centre_xy` is where the mask's centre should lie, as shares of
    the background's width and height. `several` asks for all defects of that real image as they
    lie, where it has several (`masks.together_share`).
    """

    mask_source_id: str
    centre_xy: tuple[float, float]
    several: bool = False

    @model_validator(mode="after")
    def _check(self) -> "Likeness":
        if not all(0 <= value <= 1 for value in self.centre_xy):
            raise ValueError(f"centre_xy must lie between 0 and 1, got {self.centre_xy}")
        return self


class SampleRequest(Record):
    """One synthetic sample to make. Everything about it follows from these fields and from the
    generator's fingerprint, so it can be made alone and again. `origin` is noted only: the id of
    the sample that a person wanted more of, or another try of."""

    class_name: str
    index: int = Field(ge=0, description="running number within the class, from 0")
    seed: int = Field(ge=0, lt=2**63)
    like: Likeness | None = None
    origin: str = ""


class Verdict(Record):
    """One rule that rejects a sample: its value, the threshold, and one sentence for people."""

    rule: str
    value: float
    threshold: float
    sentence: str


class SyntheticDefect(Record):
    """One line of a pool's manifest.

    Paths are relative to the pool. `source_ids` names every real image that had a part in it
    (background, mask shape, pasted texture): the proof that no other split was touched.
    `background_xyxy` is the part of the background that was used (None: all of it).
    `carried_instances` are real defects that were already in the background and are still seen, in
    the sample's own pixels; they are labels of the exported image like any other.
    `boxes_xyxy` has one box for each defect of the mask (`generator.parts`), or one in all for a
    defect that is known by its box (`Draft.one_box`). `verdicts` holds every rule that rejects the
    sample. `rule` is empty for an accepted sample, else the name of
    the first rule that rejected it (`hand` for a person), with the sentence in `reason`.
    `nearest_id` is the real training image that the sample is closest to, as seen by the feature
    extractor `scored_by`; both are empty until the sample was compared. `like` and `origin` are the
    request's, for a sample that a person asked for in the review.
    """

    id: str
    class_name: str
    index: int
    seed: int
    generator: str
    fingerprint: str
    image: str
    mask: str | None
    width: int
    height: int
    grey: bool
    boxes_xyxy: tuple[Box, ...]
    mask_kind: MaskKind
    background_id: str | None
    background_xyxy: Box | None = None
    mask_source_id: str | None
    source_ids: tuple[str, ...]
    carried_instances: tuple[Instance, ...] = ()
    feather_px: int
    crop_xyxy: Box
    scores: dict[str, float] = Field(default_factory=dict)
    verdict: Literal["accepted", "rejected"]
    rule: str = ""
    reason: str = ""
    verdicts: tuple[Verdict, ...] = ()
    nearest_id: str = ""
    scored_by: str = ""
    like: Likeness | None = None
    origin: str = ""

    @property
    def lender(self) -> str | None:
        """The real image that lent the mask its shape; None where none did."""
        source = self.mask_source_id
        return None if source is None or source.startswith(PROCEDURAL) else source


@dataclass(frozen=True)
class Draft:
    """Everything about a sample that is decided before its pixels are made.

    Attributes:
        request: what was asked for.
        background: the real image painted into; None in whole-image mode (image-level labels
            alone), where `image` is all zeros at the working size and `mask` all True.
        image: (H, W, 3) uint8, the background's pixels (of `background_xyxy` where that is set).
        mask: (H, W) bool, where the defect should appear. Never empty.
        crop_xyxy: the square-ish window around the mask that a generator paints.
        mask_source_id: id of the real image that lent the shape, or `procedural:<kind>`.
        paste: (H, W, 3) uint8, the source defect's own pixels carried to the mask's place by the
            same warp as the mask (equal to `image` outside the mask); None for procedural shapes.
        source_ids: every real image that had a part in it.
        background_xyxy: the part of the background that is used; None for all of it.
        context: (H, W, 3) uint8, as `paste`, but under the source's own light and with a rim of
            a few pixels of the source's surface around the mask, for painters that blend by
            themselves; None wherever `paste` is.
        carried_instances: real defects already in `image` that are still seen, with boxes around
            what the mask leaves of them.
        one_box: the class's defects are known by boxes, each drawn around all parts of one, so
            that the new one gets one box as well, whatever parts its mask has.
        beyond_px: by how much that box exceeds the mask, as the person's box does where the mask is
            a guess: left, top, right and bottom, pixels, at least 0.
        fade_px: how far inside the mask's rim what is painted fades in, pixels; above 0 where the
            mask is a plain shape in a box and no outline of anything.
        severity: factor on what is painted, as far as it differs from the background; above 0.
        grey: in whole-image mode, whether all real images are grey, so that this one has to be.
    """

    request: SampleRequest
    background: DefectExample | None
    image: np.ndarray
    mask: np.ndarray
    crop_xyxy: Box
    mask_source_id: str | None
    mask_kind: MaskKind
    paste: np.ndarray | None = None
    source_ids: tuple[str, ...] = field(default=())
    background_xyxy: Box | None = None
    carried_instances: tuple[Instance, ...] = ()
    context: np.ndarray | None = None
    one_box: bool = False
    beyond_px: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    fade_px: float = 0.0
    severity: float = 1.0
    grey: bool = False
