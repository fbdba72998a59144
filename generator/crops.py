"""Windows around a defect: the one geometry that training and sampling share."""

from generator.records import Box


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
