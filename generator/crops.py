"""Windows around a defect: the one geometry that training and sampling share."""

from collections.abc import Sequence

import numpy as np

from generator.records import Box, DefectExample


def crop_window(
    box_xyxy: Box, resolution_wh: tuple[int, int], *, factor: float = 1.4, least_px: int = 64
) -> Box:
    """Square window around a box, moved (and only then cut) to lie inside the image.

    Args:
        box_xyxy: the defect's box, integer pixels, half-open.
        resolution_wh: width and height of the image, pixels.
        factor: side of the window as a multiple of the box's longer side; at least 1.
        least_px: least side of the window, so that a small defect keeps its native resolution.

    Returns:
        An xyxy window that contains the box. It is square wherever the image is large enough.
    """
    x1, y1, x2, y2 = box_xyxy
    side = max(round(factor * max(x2 - x1, y2 - y1)), least_px)
    spans = []
    for low, high, length in ((x1, x2, resolution_wh[0]), (y1, y2, resolution_wh[1])):
        size = min(side, length)
        start = min(max((low + high - size) // 2, 0), length - size)
        spans.append((start, start + size))
    (left, right), (top, bottom) = spans
    return left, top, right, bottom


def free_windows(
    defects: Sequence[DefectExample], least_px: int
) -> list[tuple[DefectExample, Box]]:
    """Windows without a defect in images with one, by a coarse grid.

    Args:
        defects: examples with instances.
        least_px: side of the smallest windows; each next size is twice as large.

    Returns:
        Each with the example that it lies in.
    """
    found = []
    for example in defects:
        taken = np.zeros((example.height, example.width), np.int32)
        for x1, y1, x2, y2 in (i.box_xyxy for i in example.instances):
            taken[y1:y2, x1:x2] = 1
        total = np.pad(taken.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        side = least_px
        while side <= min(example.width, example.height):
            # At most 16 x 16 windows of a size, however large the image.
            step_y = max(side // 2, (example.height - side) // 15, 1)
            step_x = max(side // 2, (example.width - side) // 15, 1)
            for y in range(0, example.height - side + 1, step_y):
                for x in range(0, example.width - side + 1, step_x):
                    a, b = total[y, x], total[y + side, x + side]
                    if a + b == total[y, x + side] + total[y + side, x]:
                        found.append((example, (x, y, x + side, y + side)))
            side *= 2
    return found
