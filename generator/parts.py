"""Which pixels of a mask are one defect: the same rule for labels that are read and for samples.

Imports nothing of the project, as the importer and the painter's side both stand on it.
"""

import cv2
import numpy as np
from scipy import ndimage

MERGE_GAP_PX = 4
"""Gaps up to this many pixels part no defect: JPEG leaves specks around an edge, and a thin defect
fades here and there."""


def label_parts(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Number the defects of a mask.

    Parts are one defect where they touch, corners included, or where a gap of at most
    `MERGE_GAP_PX` px lies between them.

    Args:
        mask: (H, W) bool.

    Returns:
        (H, W) int32 with 0 outside the mask and 1 to n in it, and n.
    """
    reach = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (MERGE_GAP_PX + 1, MERGE_GAP_PX + 1))
    joined = cv2.morphologyEx(mask.view(np.uint8), cv2.MORPH_CLOSE, reach) | mask
    labels, count = ndimage.label(joined, np.ones((3, 3)))
    used = np.unique(labels[mask])  # what closing joined may hold an island of no mask
    numbers = np.zeros(count + 1, np.int32)
    numbers[used] = np.arange(1, len(used) + 1)
    return np.where(mask, numbers[labels], 0), len(used)
