"""Mask proposals: what shape, on which background, at which place; all from one seed."""

from collections.abc import Sequence

import cv2
import numpy as np

from generator.backgrounds import Backgrounds, Surface
from generator.box_masks import rounded_box
from generator.class_shapes import ClassShapes, class_shapes, draw_mask, mask_like
from generator.crops import crop_window
from generator.errors import ExampleError, PlacementError
from generator.files import sha256_of
from generator.images import ExampleReader, hash_annotation
from generator.placement import admissible, box_of
from generator.planner_settings import PlannerSettings
from generator.poses import DrawnPose, draw_pose
from generator.records import (
    PROCEDURAL,
    Box,
    DefectExample,
    Draft,
    Instance,
    Likeness,
    MaskKind,
    SampleRequest,
)
from generator.shapes import RealShape
from generator.warp import Warped, paste_pixels, warp_mask

PLANNER_VERSION = 14
"""Raised whenever the same request would lead to another draft."""

COVERING_SHARE = 0.12
"""From this share of its image's area on, a defect that is known by its box may cover others, where
no image is clean: beside them it would have to shrink to a size that it never has."""

FADE_SHARE = 0.3
"""How far a defect without a known outline fades in from its mask's rim, as a share of the mask's
largest depth: there its texture goes over into the surface's, where a rim would show."""

NOTHING_BEYOND = (0.0, 0.0, 0.0, 0.0)
"""What a person's box has beyond a mask that was drawn exactly."""

SEVERITY = 1
"""Names the stream of random numbers that a defect's severity is drawn from."""

LIKE_RADIUS = 0.12
"""How near to the centre that a request asks for a mask may lie at first, as a share of the
background's sides; the more tries are spent, the farther."""


class DraftPlanner:
    """Plans samples: everything that is decided before pixels are made.

    Args:
        examples: of the train split only; defect images lend shapes, clean ones are painted on.
        classes: defect classes in label order.
        settings: how shapes vary.
        working_size: side of the image in whole-image mode (a class of which only image-level
            labels are known), pixels.

    Attributes:
        fingerprint: hash of the settings, the examples, their labels, masks and regions of
            interest, and the class order.
        most_px: pixels of the largest image that is planned on.

    Raises:
        ExampleError: an example is of another split, there is none, or a mask can't be read.
    """

    def __init__(
        self,
        examples: Sequence[DefectExample],
        classes: Sequence[str],
        settings: PlannerSettings = PlannerSettings(),  # noqa: B008  (immutable)
        working_size: int = 64,
    ) -> None:
        foreign = next((e for e in examples if e.split not in (None, "train")), None)
        if foreign is not None:
            raise ExampleError(
                f"{foreign.source_path} belongs to the {foreign.split} split; masks and "
                "backgrounds are planned from the train split alone."
            )
        if not examples:
            raise ExampleError("There is no training example to plan from; run augment import.")
        self.settings = settings
        self.classes = tuple(classes)
        self.working_size = working_size
        # sorted, so that neither a draft nor the fingerprint hangs on the order of a listing
        self.examples = tuple(sorted(examples, key=lambda e: e.id))
        self.fingerprint = _fingerprint(self.examples, self.classes, settings, working_size)
        self.most_px = max([working_size**2, *(e.width * e.height for e in self.examples)])
        self.reader = ExampleReader(settings.cache_mb * 2**20)
        self._backgrounds = Backgrounds(
            self.examples,
            self.reader,
            settings.clearance_px,
            settings.own_share,
            settings.background_candidates,
        )
        self._shapes: dict[str, ClassShapes | None] = {}

    def plan(self, request: SampleRequest) -> Draft:
        """Plan one sample; the same request always gives the same draft.

        Raises:
            ExampleError: the class is unknown or has no training example; a file can't be read.
            PlacementError: no admissible place was found in the stated number of tries.
        """
        shapes = self._class_shapes(request.class_name)
        if shapes is None:
            return self._whole_image(request)
        rng = np.random.default_rng(request.seed)
        for attempt in range(self.settings.tries):
            late = attempt / self.settings.tries
            draft = self._attempt(request, shapes, rng, late)
            if draft is not None:
                return draft
        raise PlacementError(
            f"No place for a {request.class_name!r} was found in {self.settings.tries} tries; "
            "lower masks.least_fit_scale or raise masks.tries in augment.yaml, or import more "
            "clean images; then type the same again."
        )

    def _class_shapes(self, name: str) -> ClassShapes | None:
        if name not in self._shapes:
            if name not in self.classes:
                raise ExampleError(
                    f"Unknown class {name!r}; the classes are {', '.join(self.classes)}."
                )
            found = [(e, i) for e in self.examples for i in e.instances if i.class_name == name]
            if not found and not any(e.label == name for e in self.examples):
                raise ExampleError(
                    f"Class {name!r} has no training example; import more images of it."
                )
            self._shapes[name] = class_shapes(found, self.reader, self.settings)
        return self._shapes[name]

    def _attempt(
        self, request: SampleRequest, known: ClassShapes, rng: np.random.Generator, late: float
    ) -> Draft | None:
        """One shape, one background, one place; None where they don't go together.

        `late` is the share of the tries already spent: the later, the smaller the shapes.
        """
        like = request.like
        if like is not None:
            shapes = known.like(like.mask_source_id)
        else:  # what has found no place in half of the tries leaves its turn to any other
            shapes = known.dealt(request.index) if late < 0.5 else known.shapes
        model = shapes[int(rng.integers(len(shapes)))]
        if like is None:
            model = known.together(model, self.settings.together_share, rng)
            mask, lender, sources = draw_mask(model, known, self.settings, rng)
        else:
            model = known.together(model, float(like.several), rng)
            mask, lender, sources = mask_like(model, like, rng)
        surface = self._backgrounds.draw(
            rng,
            self.settings.least_region_px,
            request.class_name,
            late,
            model.example,
            covering=late < 0.5 and _covers(model),
        )
        pose = self._pose(model, known, surface, rng, late)
        if pose is None:
            return None
        warped = warp_mask(
            mask,
            model.instance.box_xyxy,
            (model.example.width, model.example.height),
            pose.pose,
            surface.size_wh,
        )
        if warped is None or not _fits(warped, model, pose.scale, surface, pose.inside):
            return None
        if like is not None and _distance(warped, surface, like) > LIKE_RADIUS / (1 - late):
            return None
        x, y = warped.origin_xy
        h, w = warped.mask.shape
        # only what stays on the part: a mask that runs over its outline is cut there
        warped.mask[...] &= surface.ground.foreground[y : y + h, x : x + w]
        mask = np.zeros(surface.ground.foreground.shape, dtype=bool)
        mask[y : y + h, x : x + w] = warped.mask
        carried = self._backgrounds.left(surface, mask, request.class_name)
        if carried is None:
            return None
        beyond = _beyond(model, pose.pose.matrix) if lender else NOTHING_BEYOND
        return self._draft(request, model, lender, sources, surface, warped, mask, carried, beyond)

    def _pose(
        self,
        model: RealShape,
        known: ClassShapes,
        surface: Surface,
        rng: np.random.Generator,
        late: float,
    ) -> DrawnPose | None:
        """Where and how a shape of a class lies on a surface; None where it does not belong."""
        if model.site.normal is not None and late < 0.5 and not surface.ground.on_backdrop:
            return None  # what touched the part's outline belongs to one, where any is in sight
        return draw_pose(model, known, surface.ground, self.settings, rng, late)

    def _pasted(
        self,
        warped: Warped,
        source: np.ndarray,
        others: np.ndarray,
        image: np.ndarray,
        part: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The real defect's pixels on a surface; see `generator.warp.paste_pixels`."""
        return paste_pixels(warped, source, others, image, part)

    def _draft(
        self,
        request: SampleRequest,
        model: RealShape,
        lender: str | None,
        sources: set[str],
        surface: Surface,
        warped: Warped,
        mask: np.ndarray,
        carried: tuple[Instance, ...],
        beyond: tuple[float, float, float, float],
    ) -> Draft:
        image = self._backgrounds.pixels(surface)
        paste = context = None
        if len(sources) == 1:
            source = self.reader.image(model.example)
            if surface.example.grey and not model.example.grey:
                source = np.repeat(source.mean(axis=2, keepdims=True).round(), 3, axis=2)
                source = source.astype(np.uint8)
            others = self._backgrounds.defects(model.example) | ~self.reader.foreground(
                model.example
            )
            paste, context = self._pasted(warped, source, others, image, surface.ground.foreground)
        kind: MaskKind = model.instance.mask_kind if lender else "exact"
        return Draft(
            request=request,
            background=surface.example,
            image=image,
            mask=mask,
            crop_xyxy=crop_window(
                box_of(mask),
                surface.size_wh,
                factor=self.settings.crop_factor,
                least_px=self.settings.least_px,
            ),
            mask_source_id=lender or f"{PROCEDURAL}{model.kind}",
            mask_kind="approximate" if kind == "none" else kind,
            paste=paste,
            source_ids=tuple(sorted(sources | {surface.example.id})),
            background_xyxy=surface.region_xyxy,
            carried_instances=carried,
            context=context,
            one_box=model.instance.mask_kind != "exact",
            beyond_px=beyond,
            fade_px=FADE_SHARE * _depth(mask) if lender and _no_outline(model) else 0.0,
            severity=self._severity(request),
        )

    def _severity(self, request: SampleRequest) -> float:
        """Drawn from a stream of its own, so that all else is planned alike whatever the range."""
        least, most = np.log([self.settings.least_severity, self.settings.most_severity])
        return float(np.exp(np.random.default_rng([request.seed, SEVERITY]).uniform(least, most)))

    def _whole_image(self, request: SampleRequest) -> Draft:
        side = self.working_size
        return Draft(
            request=request,
            background=None,
            image=np.zeros((side, side, 3), dtype=np.uint8),
            mask=np.ones((side, side), dtype=bool),
            crop_xyxy=(0, 0, side, side),
            mask_source_id=None,
            mask_kind="none",
            grey=all(example.grey for example in self.examples),
        )


def _covers(model: RealShape) -> bool:
    """An exact mask covers others whole or not at all, for which there is hardly ever a place."""
    area = model.example.width * model.example.height
    return model.instance.mask_kind != "exact" and model.mask.size >= COVERING_SHARE * area


def _no_outline(model: RealShape) -> bool:
    """Whether nothing but the box is known of where a defect lies."""
    height, width = model.mask.shape
    rounded = rounded_box(width, height)
    return model.instance.mask_kind != "exact" and bool(np.array_equal(model.mask, rounded))


def _beyond(model: RealShape, matrix: np.ndarray) -> tuple[float, float, float, float]:
    """By how much a person's box, turned and scaled as the shape is, exceeds the mask that was
    guessed in it: left, top, right and bottom, pixels."""
    if model.instance.mask_kind == "exact":
        return NOTHING_BEYOND
    height, width = model.mask.shape
    outer = _span((0, 0, width, height), matrix)
    inner = _span(box_of(model.mask), matrix)
    left, top = inner[0] - outer[0]
    right, bottom = outer[1] - inner[1]
    return float(left), float(top), float(right), float(bottom)


def _span(box: Box, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest x and y of a box's corners after a linear map."""
    x1, y1, x2, y2 = box
    corners = np.array([(x1, y1), (x2, y1), (x1, y2), (x2, y2)]) @ matrix.T
    return corners.min(axis=0), corners.max(axis=0)


def _depth(mask: np.ndarray) -> float:
    """Largest distance of a mask's pixel from its rim; the image's side is no rim."""
    return float(cv2.distanceTransform(mask.view(np.uint8), cv2.DIST_L2, 3).max())


def _distance(warped: Warped, surface: Surface, like: Likeness) -> float:
    """From a mask's centre to the one that is asked for, in shares of the surface's sides."""
    x1, y1, x2, y2 = box_of(warped.mask)
    x, y = warped.origin_xy
    width, height = surface.size_wh
    wanted_x, wanted_y = like.centre_xy
    return float(
        np.hypot((x + (x1 + x2) / 2) / width - wanted_x, (y + (y1 + y2) / 2) / height - wanted_y)
    )


def _fits(warped: Warped, model: RealShape, scale: float, surface: Surface, inside: bool) -> bool:
    """The mask is whole enough, large enough, and lies where it may."""
    x, y = warped.origin_xy
    h, w = warped.mask.shape
    on_part = warped.mask & surface.ground.foreground[y : y + h, x : x + w]
    expected = model.mask.sum() * scale
    if on_part.sum() < max(0.3 * expected, 4) or on_part.sum() < 0.5 * warped.mask.sum():
        return False
    clipped = on_part if not inside else warped.mask
    return admissible(clipped, warped.origin_xy, surface.ground, inside)


def _fingerprint(
    examples: Sequence[DefectExample],
    classes: Sequence[str],
    settings: PlannerSettings,
    working_size: int,
) -> str:
    labels = [
        [e.sha256, e.label, hash_annotation(e.roi_path), [_described(i) for i in e.instances]]
        for e in examples
    ]
    # memory is no part of what is planned
    chosen = settings.model_dump(exclude={"cache_mb"})
    return sha256_of([PLANNER_VERSION, chosen, list(classes), working_size, labels])


def _described(instance: Instance) -> list[object]:
    # a mask that was corrected within its box is another one
    mask = hash_annotation(instance.mask_path)
    return [instance.class_name, instance.box_xyxy, instance.mask_kind, mask]
