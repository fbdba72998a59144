"""The shapes of a class: its real defects measured, and new outlines drawn after them."""

from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np

from generator.images import ExampleReader
from generator.placement import ground_of, site_of
from generator.planner_settings import PlannerSettings
from generator.records import PROCEDURAL, Box, DefectExample, Instance, Likeness
from generator.shapes import (
    Orientation,
    RealShape,
    blend_outlines,
    measure,
    orientation_of,
    procedural_mask,
)


class ClassShapes:
    """The real shapes of one class and how they lie.

    Args:
        shapes: those of one image side by side.
        groups: by image, all of its shapes as one.

    Attributes:
        shapes, inside: all of them, and those that touch no edge.
        by_image: the same, image by image.
        orientation: the direction that they have in common, if any.
        sides: of the image, that one of them touches.
    """

    def __init__(
        self, shapes: Sequence[RealShape], groups: Mapping[str, RealShape] | None = None
    ) -> None:
        self.shapes = tuple(shapes)
        self.groups = dict(groups or {})
        self.orientation: Orientation = orientation_of(shapes)
        sides: set[str] = set()
        for shape in shapes:
            sides |= shape.site.sides
        self.sides = frozenset(sides)
        self.inside = tuple(s for s in shapes if not s.site.touches)
        grouped = groupby(self.shapes, key=lambda shape: shape.example.id)
        self.by_image = tuple(tuple(group) for _, group in grouped)

    def like(self, source_id: str) -> tuple[RealShape, ...]:
        """The shapes that a mask source stands for: those of a real image, or of a kind; all,
        where there is none any more."""
        kept = [s for s in self.shapes if source_id in (s.example.id, f"{PROCEDURAL}{s.kind}")]
        return tuple(kept) or self.shapes

    def dealt(self, number: int) -> tuple[RealShape, ...]:
        """The shapes of one image: running numbers deal the class's images out in turn, so that
        none lends more because it holds more instances, fits in more places, or by chance."""
        return self.by_image[number % len(self.by_image)]

    def together(self, model: RealShape, share: float, rng: np.random.Generator) -> RealShape:
        """With the probability `share` all shapes of the model's image as one, where it has
        several; else the model itself."""
        group = self.groups.get(model.example.id)
        return group if group is not None and rng.random() < share else model


def class_shapes(
    found: Sequence[tuple[DefectExample, Instance]],
    reader: ExampleReader,
    settings: PlannerSettings,
) -> ClassShapes | None:
    """Measure the instances of a class; None where it has none.

    Args:
        found: its instances, each with its image, those of one image side by side.
        reader: of their images and masks.
        settings: how many are kept, and which are crumbs.
    """
    kept = found[:: -(-len(found) // settings.most_instances)] if found else []
    measured = [
        _measured(example, instance, reader.mask(example, instance), reader)
        for example, instance in kept
    ]
    if not measured:
        return None
    areas = [int(shape.mask.sum()) for shape in measured]
    least = settings.crumb_share * float(np.median(areas))
    largest: dict[str, int] = {}
    for shape, area in zip(measured, areas, strict=True):
        largest[shape.example.id] = max(area, largest.get(shape.example.id, 0))
    # the largest of its image is what the image was labelled for, however small
    shapes = [
        shape
        for shape, area in zip(measured, areas, strict=True)
        if area >= least or area == largest[shape.example.id]
    ]
    groups = {}
    for image_id, parts in groupby(shapes, key=lambda shape: shape.example.id):
        own = tuple(parts)
        # of a box's parts nobody knows which belongs to which
        exact = all(part.instance.mask_kind == "exact" for part in own)
        if settings.together_share > 0 and exact and len(own) > 1:
            groups[image_id] = _joined(own, reader)
    return ClassShapes(shapes, groups)


def _measured(
    example: DefectExample, instance: Instance, mask: np.ndarray, reader: ExampleReader
) -> RealShape:
    site = site_of(instance.box_xyxy, mask, ground_of(reader.foreground(example)))
    x1, y1, x2, y2 = instance.box_xyxy
    return measure(example, instance, mask, site, reader.image(example)[y1:y2, x1:x2])


def _joined(parts: Sequence[RealShape], reader: ExampleReader) -> RealShape:
    """Several shapes of one image as one, each where it lies. Its instance has the box around them
    all, and the mask's file of the first."""
    boxes = np.array([part.instance.box_xyxy for part in parts])
    left, top = boxes[:, :2].min(axis=0).tolist()
    right, bottom = boxes[:, 2:].max(axis=0).tolist()
    mask = np.zeros((bottom - top, right - left), dtype=bool)
    for part, (x1, y1, x2, y2) in zip(parts, boxes, strict=True):
        mask[y1 - top : y2 - top, x1 - left : x2 - left] |= part.mask
    box: Box = (left, top, right, bottom)
    whole = parts[0].instance.model_copy(update={"box_xyxy": box})
    return _measured(parts[0].example, whole, mask, reader)


def draw_mask(
    model: RealShape, known: ClassShapes, settings: PlannerSettings, rng: np.random.Generator
) -> tuple[np.ndarray, str | None, set[str]]:
    """Mask of the model's box size, who lent it (None: procedural), and every source."""
    # no other outline has what a group is for: how its parts lie
    grouped = model is known.groups.get(model.example.id)
    if grouped or max(model.mask.shape) > settings.invented_most_px:
        return model.mask, model.example.id, {model.example.id}
    if rng.random() >= settings.real_share:
        return procedural_mask(model, rng), None, set()
    sources = {model.example.id}
    if rng.random() >= settings.recombine or len(known.shapes) < 2:
        return model.mask, model.example.id, sources
    alike = [s for s in known.shapes if s is not model and s.site.sides == model.site.sides]
    if not alike:
        return model.mask, model.example.id, sources
    other = alike[int(rng.integers(len(alike)))]
    blended = blend_outlines(model.mask, other.mask, float(rng.uniform(0.3, 0.7)))
    if blended is not model.mask:
        sources.add(other.example.id)
    return blended, model.example.id, sources


def mask_like(
    model: RealShape, like: Likeness, rng: np.random.Generator
) -> tuple[np.ndarray, str | None, set[str]]:
    """As `draw_mask`, with a real shape for a real one and a procedural for a procedural."""
    if like.mask_source_id.startswith(PROCEDURAL):
        return procedural_mask(model, rng), None, set()
    return model.mask, model.example.id, {model.example.id}
