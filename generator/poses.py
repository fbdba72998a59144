"""Drawing the place, direction and size of a shape as its class has them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from generator.class_shapes import ClassShapes
from generator.errors import PlacementError
from generator.placement import (
    AxisSite,
    Ground,
    Site,
    rim_point,
    side_normal,
    site_for_frame,
)
from generator.planner_settings import PlannerSettings
from generator.shapes import RealShape, axis_distance
from generator.warp import Pose

LARGE_SHARE = 0.35
"""From this share of the image's shorter side on, a shape shows the surface's own texture, whose
direction a rotation would belie."""
GRAIN = 0.4
"""From this grain on a smaller shape does so too."""

EDGE_JITTER = np.deg2rad(6)
GRAIN_JITTER = np.deg2rad(1)
MOST_JITTER = np.deg2rad(20)
MOST_ELASTIC_PX = 3.0
"""A wide shape carries the surface's texture with it, which strong bending would show; a large one
is not bent at all."""

SPAN_RANGE = (0.3, 3.0)

RIM_ATTEMPTS = 40
"""Points of a part's outline that are tried for one where a shape turns no more than it may."""


@dataclass(frozen=True)
class DrawnPose:
    """A pose, the area's factor that it has, and whether the shape must stay off all edges."""

    pose: Pose
    scale: float
    inside: bool


def draw_pose(
    model: RealShape,
    known: ClassShapes,
    ground: Ground,
    settings: PlannerSettings,
    rng: np.random.Generator,
    late: float,
) -> DrawnPose:
    """Draw where and how a shape lies.

    A shape that touched an edge is put to the same kind of edge, in the same direction to it; one
    from the inside goes where the class's inside shapes are found, blurred by their own spread.

    Args:
        late: share of the tries already spent, 0 to 1; shapes shrink as it grows.
    """
    scale = float(np.exp(rng.uniform(np.log(settings.least_scale), np.log(settings.most_scale))))
    scale *= float(np.exp(late * np.log(settings.least_fit_scale / settings.least_scale)))
    elastic = settings.elastic * float(np.sqrt(model.mask.sum()))
    # a thin line may bend, but not break
    elastic = min(elastic, 0.35 * model.thickness + 0.02 * max(model.mask.shape), MOST_ELASTIC_PX)
    if _is_large(model):
        elastic = 0.0
    bend = rng.uniform(0.3, 1.0) * elastic
    seed = int(rng.integers(2**31))
    if ground.on_backdrop:
        matrix, source, target = _on_part(model, known, ground, settings, rng, scale)
    else:
        matrix, source, target = _on_frame(model, known, ground, settings, rng, scale, late)
    return DrawnPose(
        Pose(matrix, source, target, bend, seed),
        float(abs(np.linalg.det(matrix))),
        inside=not model.site.touches,
    )


def _on_frame(
    model: RealShape,
    known: ClassShapes,
    ground: Ground,
    settings: PlannerSettings,
    rng: np.random.Generator,
    scale: float,
    late: float,
) -> tuple[np.ndarray, tuple[float, float], tuple[float, float]]:
    """Pose on a surface that fills its image: relative to the image's sides."""
    x1, y1, x2, y2 = model.instance.box_xyxy
    turn = _symmetry(model, known, settings, rng)
    site = site_for_frame(model.site)
    placed = _turned(site, turn)
    height, width = ground.foreground.shape
    source_wh = np.array([model.example.width, model.example.height])
    box_wh = np.abs(turn) @ np.array([x2 - x1, y2 - y1])
    length_from = np.abs(turn) @ source_wh
    scales, targets, anchors = [], [], []
    other = _peer(model, known, rng)
    peers = _turned(site_for_frame(other.site), turn)
    for axis, peer, size, old, new in zip(
        (placed.x, placed.y),
        (peers.x, peers.y),
        box_wh,
        length_from,
        (width, height),
        strict=True,
    ):
        span = axis.kind == "both" and late < 0.5
        s = float(np.clip(new / old, *SPAN_RANGE)) if span else scale
        # room for what does not span: nine tenths of the image at most
        s = s if span else min(s, 0.9 * new / size)
        scales.append(s)
        target, anchor = _axis_target(axis, peer, size * s, new, s, span, known, rng)
        targets.append(target)
        anchors.append(anchor)
    if not any(a.kind == "both" for a in (placed.x, placed.y)):
        scales = [min(scales)] * 2
    jitter = _jitter(model, known, settings, rng)
    matrix = _rotation(jitter) @ np.diag(scales) @ turn
    source = _source_anchor(model, anchors, turn)
    return matrix, source, (targets[0], targets[1])


def _axis_target(
    axis: AxisSite,
    peer: AxisSite,
    size: float,
    length: int,
    scale: float,
    span: bool,
    known: ClassShapes,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Coordinate in the target, and which point of the source's box goes there: -1 its low end,
    0 its centre, 1 its high end."""
    if span:
        return length / 2, 0.0
    if axis.touches and axis.kind != "both":
        return (0.0, -1.0) if axis.kind == "low" else (float(length), 1.0)
    if axis.kind == "both":
        return float(rng.uniform(size / 2, max(length - size / 2, size / 2 + 1))), 0.0
    # an edge of the class elsewhere (a chip on the left side) says nothing about this axis
    near = peer if not peer.touches else axis
    if near.kind in ("low", "high"):
        gap = max(near.gap * rng.uniform(0.6, 1.5), 3.0)
        return (gap, -1.0) if near.kind == "low" else (length - gap, 1.0)
    spread = max(0.06, _spread(known))
    position = float(np.clip(near.position + rng.normal(0, spread), 0, 1)) * length
    low, high = size / 2 + 4, length - size / 2 - 4
    return (float(np.clip(position, low, high)) if low < high else length / 2), 0.0


def _spread(known: ClassShapes) -> float:
    """Silverman's bandwidth of the class's positions: few examples blur more."""
    positions = [(s.site.x.position, s.site.y.position) for s in known.shapes]
    return float(np.mean(np.std(positions, axis=0)) * len(positions) ** (-1 / 6))


def _peer(model: RealShape, known: ClassShapes, rng: np.random.Generator) -> RealShape:
    """Whose place is taken: an inside shape borrows that of any other inside one."""
    if model.site.touches or not known.inside:
        return model
    return known.inside[int(rng.integers(len(known.inside)))]


def _source_anchor(
    model: RealShape, anchors: Sequence[float], turn: np.ndarray
) -> tuple[float, float]:
    """The point of the source's box (or the image's side that it touches) that is pinned."""
    x1, y1, x2, y2 = model.instance.box_xyxy
    site = site_for_frame(model.site)
    back = turn.T @ np.asarray(anchors)
    ends = []
    for a, low, high, axis, length in (
        (back[0], x1, x2, site.x, model.example.width),
        (back[1], y1, y2, site.y, model.example.height),
    ):
        if axis.touches and axis.kind != "both" and not model.site.on_backdrop:
            ends.append(0.0 if axis.kind == "low" else float(length))
        else:
            ends.append((low + high) / 2 + a * (high - low) / 2)
    return ends[0], ends[1]


def _symmetry(
    model: RealShape, known: ClassShapes, settings: PlannerSettings, rng: np.random.Generator
) -> np.ndarray:
    """One of the eight symmetries of the square, such that the class still looks like itself."""
    allowed = []
    for quarter in range(4):
        for mirror in (1, -1):
            matrix = _quarter(quarter) @ np.diag([mirror, 1])
            if _keeps_class(matrix, model, known, settings):
                allowed.append(matrix)
    return allowed[int(rng.integers(len(allowed)))]


def _keeps_class(
    matrix: np.ndarray, model: RealShape, known: ClassShapes, settings: PlannerSettings
) -> bool:
    identity = bool((matrix == np.eye(2)).all())
    if identity:
        return True
    if not settings.flip:
        return False
    half_turn = bool((matrix == -np.eye(2)).all())
    if half_turn and settings.most_rotation_deg < 180:
        return False
    swaps = bool(matrix[0, 0] == 0)
    if swaps and (
        _has_grain(model) or settings.most_rotation_deg < 90 or known.orientation.preferred
    ):
        return False
    # a mirrored slant is another direction, where the class has one
    if known.orientation.preferred and model.elongation > 1.5:
        moved = matrix @ np.array([np.cos(model.angle), np.sin(model.angle)])
        away = axis_distance(float(np.arctan2(moved[1], moved[0])), known.orientation.angle)
        if away > 2 * known.orientation.spread + np.deg2rad(10):
            return False
    # a side that the class never touches, nor its opposite, stays untouched
    touched = _turned(site_for_frame(model.site), matrix).sides
    opposite = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}
    seen = known.sides | {opposite[s] for s in known.sides}
    return model.site.on_backdrop or touched <= seen


def _is_large(model: RealShape) -> bool:
    return max(model.mask.shape) > LARGE_SHARE * min(model.example.width, model.example.height)


def _has_grain(model: RealShape) -> bool:
    return _is_large(model) or model.grain >= GRAIN


def _turned(site: Site, matrix: np.ndarray) -> Site:
    """A place seen after one of the square's symmetries."""
    axes = (site.x, site.y)
    result = []
    for row in matrix:
        k = int(np.argmax(np.abs(row)))
        result.append(axes[k] if row[k] > 0 else axes[k].mirrored())
    return Site(result[0], result[1])


def _quarter(times: int) -> np.ndarray:
    c, s = ((1, 0), (0, 1), (-1, 0), (0, -1))[times]
    return np.array([[c, -s], [s, c]])


def _rotation(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s], [s, c]])


def _jitter(
    model: RealShape, known: ClassShapes, settings: PlannerSettings, rng: np.random.Generator
) -> float:
    """A rotation on top of the symmetry, radians."""
    bound = np.deg2rad(settings.most_rotation_deg)
    site = model.site
    if "both" in (site.x.kind, site.y.kind):
        return 0.0
    if _has_grain(model):
        return float(np.clip(rng.normal(0, GRAIN_JITTER), -bound, bound))
    if site.touches:
        return float(np.clip(rng.normal(0, EDGE_JITTER), -bound, bound))
    if known.orientation.preferred:
        # each shape has an angle of its own already: around it goes a kernel of the normal
        # reference rule (Silverman 1986, eq. 3.28), and not the class's whole spread once more
        bandwidth = (4 / (3 * len(known.shapes))) ** 0.2
        spread = min(bandwidth * known.orientation.spread, MOST_JITTER)
        return float(np.clip(rng.normal(0, spread), -bound, bound))
    return float(rng.uniform(-bound, bound))


def _on_part(
    model: RealShape,
    known: ClassShapes,
    ground: Ground,
    settings: PlannerSettings,
    rng: np.random.Generator,
    scale: float,
) -> tuple[np.ndarray, tuple[float, float], tuple[float, float]]:
    """Pose on a part before a backdrop: relative to its outline, or to its box."""
    x1, y1, x2, y2 = model.instance.box_xyxy
    centre = ((x1 + x2) / 2, (y1 + y2) / 2)
    mirror = np.diag([-1.0 if settings.flip and rng.random() < 0.5 else 1.0, 1.0])
    bx1, by1, bx2, by2 = ground.box_xyxy
    scale = min(scale, 0.9 * min(bx2 - bx1, by2 - by1) / max(model.mask.shape))
    if not model.site.touches:
        matrix = scale * _rotation(_jitter(model, known, settings, rng))
        place = _peer(model, known, rng).site
        spread = max(0.06, _spread(known))
        u = np.array([place.x.position, place.y.position]) + rng.normal(0, spread, 2)
        u = np.clip(u, 0, 1)
        keep = _keeps_class(mirror, model, known, settings)
        target = (bx1 + u[0] * (bx2 - bx1), by1 + u[1] * (by2 - by1))
        return (matrix @ mirror if keep else matrix), centre, target
    normal = model.site.normal if model.site.normal is not None else side_normal(model.site)
    source = model.site.contact_xy or _frame_contact(model, normal)
    # the mirror's axis is the normal itself: the shape is flipped along the outline
    preferred = known.orientation.preferred
    px, py, target_normal = rim_point(
        ground, normal if preferred else None, known.orientation.spread, rng
    )
    bound = np.deg2rad(settings.most_rotation_deg)
    for _ in range(RIM_ATTEMPTS):
        if normal is None or abs(np.angle(np.exp(1j * (target_normal - normal)))) <= bound:
            break
        px, py, target_normal = rim_point(ground, normal, max(bound / 2, 0.05), rng)
    else:
        raise PlacementError(
            f"the part's outline turns nowhere as that of {model.example.id} does, within "
            f"masks.most_rotation_deg ({settings.most_rotation_deg:g})"
        )
    normal = target_normal if normal is None else normal
    to_axis, from_axis = _rotation(-normal), _rotation(target_normal)
    matrix = from_axis @ np.diag([1.0, mirror[0, 0]]) @ to_axis * scale
    return matrix, source, (px, py)


def _frame_contact(model: RealShape, normal: float | None) -> tuple[float, float]:
    """Where a shape of a frame-filling surface touches its image's side."""
    x1, y1, x2, y2 = model.instance.box_xyxy
    cx, cy = (x1 + x2) / 2, (y1 + y2) / 2
    if normal is None:
        return cx, cy
    dx, dy = np.cos(normal), np.sin(normal)
    return cx + round(dx) * (x2 - x1) / 2, cy + round(dy) * (y2 - y1) / 2
