"""The shapes of a class: its real defects measured, and new outlines drawn after them."""

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from generator.images import ExampleReader
from generator.placement import ground_of, site_of
from generator.planner_settings import PlannerSettings
from generator.records import PROCEDURAL, DefectExample, Instance, Likeness
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

    Attributes:
        shapes, inside: all of them, and those that touch no edge.
        by_image: the same, image by image.
        orientation: the direction that they have in common, if any.
        sides: of the image, that one of them touches.
    """

    def __init__(self, shapes: Sequence[RealShape]) -> None:
        self.shapes = tuple(shapes)
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
    measured = []
    for example, instance in kept:
        mask = reader.mask(example, instance)
        site = site_of(instance.box_xyxy, mask, ground_of(reader.foreground(example)))
        x1, y1, x2, y2 = instance.box_xyxy
        pixels = reader.image(example)[y1:y2, x1:x2]
        measured.append(measure(example, instance, mask, site, pixels))
    if not measured:
        return None
    areas = [int(shape.mask.sum()) for shape in measured]
    least = settings.crumb_share * float(np.median(areas))
    largest: dict[str, int] = {}
    for shape, area in zip(measured, areas, strict=True):
        largest[shape.example.id] = max(area, largest.get(shape.example.id, 0))
    # the largest of its image is what the image was labelled for, however small
    return ClassShapes(
        [
            shape
            for shape, area in zip(measured, areas, strict=True)
            if area >= least or area == largest[shape.example.id]
        ]
    )


def draw_mask(
    model: RealShape, known: ClassShapes, settings: PlannerSettings, rng: np.random.Generator
) -> tuple[np.ndarray, str | None, set[str]]:
    """Mask of the model's box size, who lent it (None: procedural), and every source."""
    if max(model.mask.shape) > settings.invented_most_px:
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
