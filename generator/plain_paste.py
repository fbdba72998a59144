"""Copy-paste as the papers have it, and as anybody would write it in an afternoon.

The baseline `copy-paste` of this project is no plain one: it puts a defect where its class occurs,
in its direction, under its new surface's light and with its soft edge. What that is worth can only
be told beside pastes that do none of it.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from generator.backgrounds import Surface
from generator.class_shapes import ClassShapes
from generator.files import sha256_of
from generator.masks import DraftPlanner
from generator.poses import DrawnPose
from generator.records import Draft
from generator.shapes import RealShape
from generator.warp import Pose, Warped, carry

VERSION = 2
"""Raised whenever the same request would lead to another draft."""

SCALES = (0.8, 1.25)
"""The 'standard scale jitter' of Ghiasi et al., Simple Copy-Paste is a Strong Data Augmentation
Method, arXiv 2012.07177."""


class PlainPlanner(DraftPlanner):
    """Plans pastes that are cut out along their masks and laid anywhere.

    Each is scaled by `SCALES`, mirrored half of the time, and laid at an even chance at any place
    where it is whole (Dwibedi et al., Cut, Paste and Learn, arXiv 1708.01642, without its
    blending); its pixels stay as they are. Which image lends and what is painted on are drawn
    as in `DraftPlanner`, whose arguments this one has.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fingerprint = sha256_of([self.fingerprint, "plain", VERSION])

    def _pose(
        self,
        model: RealShape,
        known: ClassShapes,
        surface: Surface,
        rng: np.random.Generator,
        late: float,
    ) -> DrawnPose:
        x1, y1, x2, y2 = model.instance.box_xyxy
        box_wh, size_wh = np.array([x2 - x1, y2 - y1]), np.array(surface.size_wh)
        scale = min(float(rng.uniform(*SCALES)), *(size_wh / box_wh))
        half = scale * box_wh / 2
        centre = rng.uniform(half, np.maximum(size_wh - half, half))
        mirror = 1.0 if rng.random() < 0.5 else -1.0
        pose = Pose(
            scale * np.diag([mirror, 1.0]),
            ((x1 + x2) / 2, (y1 + y2) / 2),
            (float(centre[0]), float(centre[1])),
            prolonged=False,
        )
        return DrawnPose(pose, scale**2, inside=False)

    def _pasted(
        self,
        warped: Warped,
        source: np.ndarray,
        others: np.ndarray,
        image: np.ndarray,
        part: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        x, y = warped.origin_xy
        h, w = warped.mask.shape
        result = image.copy()
        result[y : y + h, x : x + w][warped.mask] = carry(warped, source)[warped.mask]
        return result, result

    def _draft(self, *args: Any, **kwargs: Any) -> Draft:
        return replace(super()._draft(*args, **kwargs), fade_px=0.0, severity=1.0)
