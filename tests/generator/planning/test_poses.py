"""What bounds how a shape may turn."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from generator.errors import PlacementError
from generator.placement import AxisSite, Site
from generator.planner_settings import PlannerSettings
from generator.poses import _keeps_class, _on_part

DISC = cv2.circle(np.zeros((200, 200), np.uint8), (100, 100), 80, 1, -1).astype(bool)
GROUND = SimpleNamespace(foreground=DISC, box_xyxy=(20, 20, 180, 180))
KNOWN = SimpleNamespace(orientation=SimpleNamespace(preferred=False, spread=0.5, angle=0.0))


def chip(normal: float) -> SimpleNamespace:
    """A shape at a part's outline, whose outward normal was `normal` there."""
    site = SimpleNamespace(touches=True, normal=normal, contact_xy=(10.0, 20.0), on_backdrop=True)
    instance = SimpleNamespace(box_xyxy=(0, 10, 20, 30))
    mask, example = np.ones((20, 20), bool), SimpleNamespace(id="chip")
    return SimpleNamespace(site=site, instance=instance, mask=mask, example=example)


def turns(bound: float, ground: SimpleNamespace = GROUND) -> list[float]:
    """Degrees that the chip is turned by, with many seeds."""
    settings = PlannerSettings(flip=False, most_rotation_deg=bound)
    found = []
    for seed in range(24):
        rng = np.random.default_rng(seed)
        matrix, _, _ = _on_part(chip(0.7), KNOWN, ground, settings, rng, 1.0)
        found.append(abs(float(np.rad2deg(np.arctan2(matrix[1, 0], matrix[0, 0])))))
    return found


def test_a_shape_at_an_outline_turns_no_more_than_it_may():
    assert max(turns(180)) > 90
    assert max(turns(20)) <= 20
    assert len(set(turns(20))) > 5, "it still goes to many places"


def test_an_outline_that_nowhere_runs_so_is_said():
    """A bar whose outline runs two ways only, and the chip neither."""
    bar = np.zeros((200, 200), bool)
    bar[90:110, :] = True
    ground = SimpleNamespace(foreground=bar, box_xyxy=(0, 90, 200, 110))
    with pytest.raises(PlacementError, match=r"outline turns nowhere.*most_rotation_deg \(3\)"):
        turns(3, ground)


def test_a_half_turn_is_a_rotation():
    inside = AxisSite(position=0.5, kind="free", gap=200)
    rough = chip(0.0)
    rough.site, rough.grain, rough.elongation, rough.angle = Site(inside, inside), 0.0, 1.0, 0.0
    rough.example = SimpleNamespace(width=400, height=400)
    known = SimpleNamespace(orientation=KNOWN.orientation, sides=frozenset())
    for bound, kept in ((180, True), (90, False)):
        settings = PlannerSettings(most_rotation_deg=bound)
        assert _keeps_class(-np.eye(2), rough, known, settings) is kept
