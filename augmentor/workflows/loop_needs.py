"""What val needs: which kinds of defects the incumbent does not find, as a histogram.

Of val nothing goes further than that histogram: counts by class, and by thirds of size, contrast
and place whose bounds come from the train split. Whatever is made to meet it is made by the
project's generators from the train split alone.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from augmentor.items import PoolSample
from augmentor.workflows.loop_rules import Cell
from augmentor.workflows.loop_state import NeedLine
from downstream.outcomes import DefectOutcome
from generator.images import ExampleReader
from generator.quality.windows import read_sample
from generator.records import DefectExample, Instance

RING_SHARE = 0.5
"""Width of the surroundings that a defect's contrast is taken against, by its own side."""
LEAST_RING_PX = 3


class Traits(NamedTuple):
    """What a defect looks like, as three numbers.

    Attributes:
        size: square root of its area by that of the image's, 0 to 1.
        contrast: difference of the mean brightness inside and just around it, 0 to 1.
        place: distance of its middle to the nearest edge of the part, by the square root of the
            image's area; 0 on the edge.
    """

    size: float
    contrast: float
    place: float


def measure_traits(image: np.ndarray, mask: np.ndarray, part: np.ndarray) -> Traits:
    """Measure one defect.

    Args:
        image: (H, W, 3) uint8, RGB.
        mask: (H, W) bool, the defect; not empty.
        part: (H, W) bool, where the part is and not the backdrop.
    """
    area = float(mask.sum())
    side, scale = np.sqrt(area), float(np.sqrt(mask.size))
    width = max(LEAST_RING_PX, round(RING_SHARE * side))
    away = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
    around = (away <= width) & ~mask & part
    grey = image.mean(axis=2)
    contrast = abs(grey[mask].mean() - grey[around].mean()) / 255 if around.any() else 0.0
    # what lies beyond the frame is no part either
    inside = cv2.distanceTransform(np.pad(part, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    ys, xs = np.nonzero(mask)
    y, x = int(np.median(ys)), int(np.median(xs))
    return Traits(side / scale, float(contrast), float(inside[y, x]) / scale)


class Kinds:
    """Tells of which kind a defect is, real or made.

    Args:
        records: of the project, all splits.
    """

    def __init__(self, records: Sequence[DefectExample]) -> None:
        self._records = {record.id: record for record in records}
        self._reader = ExampleReader()
        train = [record for record in records if record.split == "train" and not record.is_clean]
        traits = [self._of(record, one) for record in train for one in _instances(record)]
        # thirds of the real training defects, all classes together
        self._bounds = np.quantile(np.array(traits), [1 / 3, 2 / 3], axis=0)

    def of_outcome(self, outcome: DefectOutcome) -> Cell:
        """The kind of a defect of val."""
        record = self._records[outcome.image_id]
        own = [i for i in _instances(record) if i.class_name == outcome.class_name]
        if outcome.box is not None:
            own = [i for i in own if i.box_xyxy == tuple(map(int, outcome.box))]
        return self._kind(outcome.class_name, self._of(record, max(own, key=_area)))

    def of_sample(self, sample: PoolSample) -> Cell:
        """The kind of a sample, by its own pixels and mask."""
        made = sample.record
        image, mask, _ = read_sample(*sample)
        part = np.ones(mask.shape, dtype=bool)
        if made.background_id is not None:
            part = self._reader.foreground(self._records[made.background_id])
            if made.background_xyxy is not None:
                x1, y1, x2, y2 = made.background_xyxy
                part = part[y1:y2, x1:x2]
        return self._kind(made.class_name, measure_traits(image, mask, part))

    def _of(self, record: DefectExample, instance: Instance) -> Traits:
        mask = np.zeros((record.height, record.width), dtype=bool)
        x1, y1, x2, y2 = instance.box_xyxy
        mask[y1:y2, x1:x2] = self._reader.mask(record, instance) if record.instances else True
        return measure_traits(self._reader.image(record), mask, self._reader.foreground(record))

    def _kind(self, class_name: str, traits: Traits) -> Cell:
        thirds = (np.asarray(traits) > self._bounds).sum(axis=0)
        return Cell(class_name, *(int(third) for third in thirds))


def need_lines(
    outcomes: Sequence[DefectOutcome], kinds: Mapping[int, Cell], classes: Sequence[str]
) -> tuple[NeedLine, ...]:
    """The table of what val shows, a line for each class that it has.

    Args:
        outcomes: of every defect of val.
        kinds: of each, by its place in `outcomes`.
        classes: in label order.
    """
    lines = []
    for name in classes:
        own = [(k, o) for k, o in enumerate(outcomes) if o.class_name == name]
        if not own:
            continue
        thirds = np.zeros((3, 3))
        for k, outcome in own:
            _, *own_thirds = kinds[k]
            thirds[range(3), own_thirds] += 1 - outcome.found
        size, contrast, place = ((float(a), float(b), float(c)) for a, b, c in thirds.round(3))
        lines.append(
            NeedLine(
                class_name=name,
                defects=len(own),
                found=round(sum(o.found for _, o in own), 3),
                confused=round(sum(o.confused for _, o in own), 3),
                missed=round(sum(o.missed for _, o in own), 3),
                size=size,
                contrast=contrast,
                place=place,
            )
        )
    return tuple(lines)


def _instances(record: DefectExample) -> tuple[Instance, ...]:
    """Its defects; the whole image where their place is not known."""
    if record.instances:
        return record.instances
    whole = (0, 0, record.width, record.height)
    return (Instance(class_name=record.label, box_xyxy=whole),)


def _area(instance: Instance) -> int:
    x1, y1, x2, y2 = instance.box_xyxy
    return (x2 - x1) * (y2 - y1)
