"""Places: described on one image, found again on another."""

import numpy as np
import pytest

from generator.backgrounds import free_region
from generator.placement import admissible, ground_of, rim_point, site_for_frame, site_of


def full(width, height):
    return ground_of(np.ones((height, width), bool))


@pytest.mark.parametrize(
    ("box", "sides", "kinds"),
    [
        ((0, 30, 10, 50), {"left"}, ("low", "free")),
        ((190, 30, 200, 50), {"right"}, ("high", "free")),
        ((0, 0, 200, 20), {"left", "right", "top"}, ("both", "low")),
        ((90, 40, 110, 60), set(), ("free", "free")),
        ((12, 40, 30, 60), set(), ("low", "free")),
        ((70, 90, 90, 100), {"bottom"}, ("free", "high")),
    ],
)
def test_sites_on_a_surface_that_fills_the_frame(box, sides, kinds):
    mask = np.ones((box[3] - box[1], box[2] - box[0]), bool)
    site = site_of(box, mask, full(200, 100))
    assert site.sides == sides
    assert (site.x.kind, site.y.kind) == kinds
    assert site.touches == bool(sides)
    if box[0] == 12:
        assert site.x.gap == 12


def test_contact_with_the_outline_of_a_part():
    part = np.zeros((120, 180), bool)
    part[20:100, 30:150] = True
    ground = ground_of(part)
    assert ground.on_backdrop and ground.box_xyxy == (30, 20, 150, 100)
    chip = np.ones((20, 14), bool)
    site = site_of((136, 50, 150, 70), chip, ground)
    assert site.touches
    assert abs(site.normal) < 0.2, "outwards is to the right"
    assert site.contact_xy[0] > 146 and abs(site.contact_xy[1] - 60) < 2
    assert site_for_frame(site).sides == {"right"}
    assert not site_of((80, 50, 94, 70), chip, ground).touches


@pytest.mark.parametrize("direction", [0.0, np.pi / 2, np.pi, -np.pi / 2])
def test_rim_points_face_outwards(direction):
    part = np.zeros((120, 180), bool)
    part[20:100, 30:150] = True
    x, y, normal = rim_point(ground_of(part), direction, 0.1, np.random.default_rng(0))
    assert abs(np.angle(np.exp(1j * (normal - direction)))) < 0.5
    px, py = round(x + 6 * np.cos(normal)), round(y + 6 * np.sin(normal))
    assert not part[py, px], "a step along the normal leaves the part"


def test_admissible_respects_edges_part_and_what_is_taken():
    taken = np.zeros((50, 80), bool)
    taken[20:30, 40:60] = True
    ground = ground_of(np.ones((50, 80), bool), taken)
    spot = np.ones((6, 8), bool)
    assert admissible(spot, (10, 10), ground, inside=True)
    assert not admissible(spot, (0, 10), ground, inside=True)
    assert admissible(spot, (0, 10), ground, inside=False)
    assert not admissible(spot, (36, 16), ground, inside=False)
    part = np.zeros((50, 80), bool)
    part[10:40, 10:70] = True
    assert not admissible(spot, (11, 20), ground_of(part), inside=True)
    assert admissible(spot, (14, 20), ground_of(part), inside=True)


def test_free_region_is_the_largest_rectangle_clear_of_all_boxes(tmp_path, write):
    rng = np.random.default_rng(2)
    for k in range(20):
        mask_a, mask_b = np.zeros((48, 40), bool), np.zeros((48, 40), bool)
        for mask in (mask_a, mask_b):
            x, y = int(rng.integers(0, 30)), int(rng.integers(0, 40))
            mask[y : y + 6, x : x + 7] = True
        image = np.full((48, 40, 3), k, np.uint8)
        example = write(tmp_path, f"{k}", image, [("a", mask_a), ("b", mask_b)])
        x1, y1, x2, y2 = free_region(example, 2)
        blocked = np.zeros((48, 40), int)
        for instance in example.instances:
            a, b, c, d = instance.box_xyxy
            blocked[max(b - 2, 0) : d + 2, max(a - 2, 0) : c + 2] = 1
        assert not blocked[y1:y2, x1:x2].any()
        total = np.pad(blocked.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        best = (
            max(
                (d - b) * (c - a)
                for a in range(40)
                for c in range(a + 1, 41)
                for b in range(48)
                for d in range(b + 1, 49)
                if total[d, c] - total[b, c] - total[d, a] + total[b, a] == 0
            )
            if k < 2
            else (x2 - x1) * (y2 - y1)
        )
        assert (x2 - x1) * (y2 - y1) == best


def test_the_image_side_that_cuts_a_part_off_is_no_outline_of_it():
    part = np.zeros((80, 130), bool)
    part[30:] = True  # its upper edge alone is in sight
    rng = np.random.default_rng(0)
    found = [rim_point(ground_of(part), None, 0.3, rng) for _ in range(60)]
    assert {round(y) for _, y, _ in found} == {30}
    assert np.allclose([normal for _, _, normal in found], -np.pi / 2, atol=0.05)
    assert np.ptp([x for x, _, _ in found]) > 80
    # where all of the outline is the image's side, there is no other
    x, y, _ = rim_point(ground_of(np.ones((80, 130), bool)), None, 0.3, rng)
    assert x in (0, 129) or y in (0, 79)
