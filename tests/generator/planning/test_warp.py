"""Pasting: a mask holds the defect as bright and as wide as it was, and its soft edge with it."""

import dataclasses

import cv2
import numpy as np
import pytest
from scipy import ndimage

from generator.masks import DraftPlanner
from generator.planner_settings import PlannerSettings
from generator.poses import GRAIN, LARGE_SHARE, draw_pose
from generator.shapes import Orientation
from generator.warp import HALO_PX, WHOLE_PX, Pose, paste_pixels, warp_mask

SIDE, SURFACE = 64, 150.0


def stain(reach: float) -> np.ndarray:
    """(SIDE, SIDE, 3) uint8: a dark disc of radius 8 at the centre, and as dark a rim fading over
    `reach` px outside it."""
    y, x = np.mgrid[:SIDE, :SIDE]
    beyond = np.hypot(x - 32, y - 32) - 8
    depth = np.clip(1 - beyond / reach, 0, 1)
    return np.repeat((SURFACE - 80 * depth).astype(np.uint8)[..., None], 3, axis=2)


def pasted(
    source: np.ndarray, surface: tuple[float, ...] = (SURFACE,) * 3
) -> tuple[np.ndarray, np.ndarray]:
    """The disc pasted 3 px to the right on a surface, by default one as bright as its own, and its
    mask there. The paste is (SIDE, SIDE, 3) int."""
    y, x = np.mgrid[:SIDE, :SIDE]
    disc = np.hypot(x - 32, y - 32) <= 8
    box = (24, 24, 41, 41)
    pose = Pose(np.eye(2), (32.0, 32.0), (35.0, 32.0))
    warped = warp_mask(disc[24:41, 24:41], box, (SIDE, SIDE), pose, (SIDE, SIDE))
    target = np.full((SIDE, SIDE, 3), surface, np.uint8)
    paste, _ = paste_pixels(warped, source, disc, target)
    mask = np.zeros((SIDE, SIDE), bool)
    left, top = warped.origin_xy
    mask[top : top + warped.mask.shape[0], left : left + warped.mask.shape[1]] = warped.mask
    return paste.astype(int), mask


def test_a_mask_is_filled_to_its_rim():
    source = stain(reach=0.01)
    found, mask = pasted(source)
    found = found[..., 0]
    assert mask.sum() == (np.roll(source[..., 0], 3, axis=1) < 100).sum()
    assert (found[mask] < 75).all()


def test_the_soft_edge_comes_along_and_fades():
    source = stain(reach=5)
    found, mask = pasted(source)
    found = found[..., 0]
    away = ndimage.distance_transform_edt(~mask)
    beside = (away > 0) & (away < WHOLE_PX)
    own = np.roll(source[..., 0].astype(int), 3, axis=1)
    assert (found[beside] < SURFACE - 20).all()
    assert np.abs(found - own)[beside].max() <= 2
    fading = (away > WHOLE_PX + 0.5) & (away < HALO_PX)
    assert (found > own)[fading].all() and (found < SURFACE)[fading].all()
    assert (found[away > HALO_PX + 1] == SURFACE).all()


def spotted(surface: tuple[float, ...], spots: tuple[float, float]) -> np.ndarray:
    """A surface with a disc of radius 8, whose left half is `spots[0]` times as bright as the
    surface and whose right half `spots[1]` times."""
    y, x = np.mgrid[:SIDE, :SIDE]
    factor = np.where(x < 32, *spots)
    factor = np.where(np.hypot(x - 32, y - 32) <= 8, factor, 1.0)
    return (factor[..., None] * surface).round().astype(np.uint8)


def test_light_is_matched_from_black_for_what_is_dark_and_from_white_for_what_is_pale():
    found, mask = pasted(spotted((100.0,) * 3, (0.5, 1.8)), (160.0,) * 3)
    left, right = found[32, 31, 0], found[32, 39, 0]
    assert mask[32, 31] and mask[32, 39]
    assert left == pytest.approx(80, abs=2)  # 50 on 100 is 80 on 160
    # 75 below white on 155 below it is 46 on 95 below it; from black it were 288
    assert right == pytest.approx(255 - 46, abs=2)
    # towards a darker surface there is room: both from black
    found, _ = pasted(spotted((130.0,) * 3, (0.5, 1.8)), (100.0,) * 3)
    assert found[32, 31, 0] == pytest.approx(50, abs=2)
    assert found[32, 39, 0] == pytest.approx(180, abs=2)


def test_a_pale_defect_keeps_its_hue():
    brown = np.array((90.0, 60.0, 30.0))
    found, _ = pasted(spotted(tuple(brown), (0.5, 1.8)), tuple(brown * 1.5))
    for x in (31, 39):
        assert found[32, x] / found[32, x].sum() == pytest.approx(brown / brown.sum(), abs=0.01)
    assert found[32, 39].max() < 255


def test_a_defect_stays_as_sharp_as_its_surface():
    """Turned by 30 degrees, fine grain keeps more of its spread than linear maps leave it."""
    rng = np.random.default_rng(0)
    grain = np.repeat(rng.normal(SURFACE, 12, (SIDE, SIDE, 1)).clip(0, 255), 3, axis=2)
    source = grain.astype(np.uint8)
    disc = stain(0.01)[..., 0] < 100
    c, s = np.cos(np.pi / 6), np.sin(np.pi / 6)
    pose = Pose(np.array([[c, -s], [s, c]]), (32.0, 32.0), (32.3, 32.4))
    ys, xs = np.nonzero(disc)
    x1, y1, x2, y2 = xs.min(), ys.min(), xs.max() + 1, ys.max() + 1
    warped = warp_mask(disc[y1:y2, x1:x2], (x1, y1, x2, y2), (SIDE, SIDE), pose, (SIDE, SIDE))
    paste, _ = paste_pixels(warped, source, None, source)
    left, top = warped.origin_xy
    h, w = warped.mask.shape
    spread = paste[top : top + h, left : left + w, 0][warped.mask].std()
    linear = cv2.remap(source, warped.map_x, warped.map_y, cv2.INTER_LINEAR)[..., 0]
    assert spread > 1.15 * linear[warped.mask].std()


@pytest.mark.parametrize("name", ["pit", "crack"])
def test_a_large_defect_and_one_with_a_grain_are_not_turned_nor_a_large_one_bent(train, name):
    planner = DraftPlanner(train, (name,), PlannerSettings(elastic=0.2))
    known = planner._class_shapes(name)
    ground = planner._backgrounds.draw(np.random.default_rng(0), 96, name).ground
    plain = dataclasses.replace(known.shapes[0], grain=0.0)
    side = min(plain.example.width, plain.example.height)
    large = dataclasses.replace(plain, mask=np.ones((int(LARGE_SHARE * side) + 2, 10), bool))
    grained = dataclasses.replace(plain, grain=GRAIN)
    rng = np.random.default_rng(1)

    def drawn(model):
        poses = [
            draw_pose(model, known, ground, planner.settings, rng, late=0.0).pose for _ in range(30)
        ]
        # from the axes, whatever the mirror
        turned = [np.degrees(np.arctan2(abs(p.matrix[1, 0]), abs(p.matrix[0, 0]))) for p in poses]
        return max(p.elastic_px for p in poses), max(turned)

    bent, turned = drawn(plain)
    assert bent > 0 and turned > 5
    assert drawn(large)[0] == 0
    for model in (large, grained):
        assert drawn(model)[1] < 5


def test_turned_shapes_of_a_class_spread_little_more_than_its_real_ones(train):
    """Each shape lies at an angle of its own; turned by the class's whole spread on top, cracks of
    12 images lay 1.41 times as far apart as real ones. A kernel's bandwidth makes that 1.2."""
    planner = DraftPlanner(train, ("pit",), PlannerSettings())
    known = planner._class_shapes("pit")
    ground = planner._backgrounds.draw(np.random.default_rng(0), 96, "pit").ground
    model = dataclasses.replace(known.inside[0], grain=0.0, elongation=1.0)
    spread = np.deg2rad(15)
    known.orientation, known.shapes = Orientation(True, model.angle, spread), (model,) * 12
    known.inside = known.shapes
    rng = np.random.default_rng(1)
    poses = [draw_pose(model, known, ground, planner.settings, rng, 0.0).pose for _ in range(400)]
    turned = [np.arctan2(abs(p.matrix[1, 0]), abs(p.matrix[0, 0])) for p in poses]
    total = np.hypot(np.sqrt(np.mean(np.square(turned))), spread) / spread
    assert 1.1 < total < 1.3
