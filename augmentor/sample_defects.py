"""The five defects of the sample dataset, drawn into a surface in linear light.

Each function paints into `surface.colour` in place and returns the mask, (H, W) bool, of what it
changed visibly.
"""

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass
class Surface:
    """A part before light and lens.

    Attributes:
        colour: (H, W, 3) float32, reflectance, about 0 to 1.
        part: (H, W) float32, 1 on the part, 0 on the backdrop.
        backdrop: (H, W, 3) float32, what shows where the part is missing.
        edge: side of the image where the part ends: 0 left, 1 right, 2 top, 3 bottom; None where
            the part fills the image.
    """

    colour: np.ndarray
    part: np.ndarray
    backdrop: np.ndarray
    edge: int | None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.part.shape


def pit(surface: Surface, rng: np.random.Generator) -> np.ndarray:
    """One to three small holes: dark inside, a lit far wall, a thin raised rim."""
    mask = np.zeros(surface.shape, bool)
    for _ in range(int(rng.choice([1, 1, 2, 3]))):
        x, y = _place(surface, rng, margin=14)
        radius = rng.uniform(3.0, 7.5)
        stretch, angle = rng.uniform(0.65, 1.0), rng.uniform(0, np.pi)
        distance, du, dv = _ellipse(surface.shape, x, y, radius, radius * stretch, angle)
        distance = distance + 0.12 * _blotches(surface.shape, 2.0, rng)
        hole = _step(1.0 - distance, 0.16)
        wall = np.clip((du + dv) / (radius * 1.5), -1, 1)
        depth = (0.55 + 0.30 * wall) * rng.uniform(0.85, 1.1)
        rim = np.exp(-(((distance - 1.15) / 0.14) ** 2)) * (0.10 - 0.06 * wall)
        surface.colour *= (1 - hole * np.clip(depth, 0, 0.9))[..., None]
        surface.colour += (rim * surface.part)[..., None]
        mask |= distance < 1.12
    return mask & (surface.part > 0.5)


def scratch(surface: Surface, rng: np.random.Generator) -> np.ndarray:
    """A long, slightly bent groove: bright burr on one flank, shadow on the other."""
    height, width = surface.shape
    length = rng.uniform(0.25, 0.65) * min(height, width)
    x, y = _place(surface, rng, margin=20)
    angle = rng.uniform(np.radians(20), np.radians(160))
    bend = rng.normal(0, 0.10) * length
    t = np.linspace(-0.5, 0.5, 80)
    px = x + t * length * np.cos(angle) - bend * (t**2 - 0.08) * np.sin(angle)
    py = y + t * length * np.sin(angle) + bend * (t**2 - 0.08) * np.cos(angle)
    line = np.stack([px, py], 1)
    core = _stroke(surface.shape, line, rng.uniform(1.0, 2.0), taper=True)
    normal = np.array([-np.sin(angle), np.cos(angle)])
    burr = _stroke(surface.shape, line + 1.5 * normal, 1.1, taper=True)
    skips = np.clip(0.85 + 0.30 * _blotches(surface.shape, 5.0, rng), 0.35, 1.0)
    core, burr = core * skips * surface.part, burr * skips * surface.part
    surface.colour *= (1 - 0.45 * core * rng.uniform(0.8, 1.1))[..., None]
    surface.colour += (0.26 * burr * (1 - core))[..., None]
    return np.maximum(core, burr) > 0.25


def crack(surface: Surface, rng: np.random.Generator) -> np.ndarray:
    """A dark, jagged line of changing width, with up to three side branches."""
    height, width = surface.shape
    x, y = _place(surface, rng, margin=24)
    heading = rng.uniform(0, 2 * np.pi)
    steps = int(rng.uniform(0.25, 0.5) * min(height, width) / 4)
    trunk = _jagged(x, y, heading, steps, rng)
    alpha = _stroke(surface.shape, trunk, rng.uniform(1.5, 2.6), taper=True)
    for _ in range(int(rng.integers(0, 4))):
        start = trunk[int(rng.integers(len(trunk) // 4, len(trunk) - 1))]
        side = heading + rng.choice([-1, 1]) * rng.uniform(0.5, 1.1)
        branch = _jagged(
            float(start[0]), float(start[1]), side, max(4, int(steps * rng.uniform(0.2, 0.45))), rng
        )
        alpha = np.maximum(alpha, _stroke(surface.shape, branch, 1.3, taper=True))
    alpha = alpha * surface.part
    glow = cv2.GaussianBlur(alpha, (0, 0), 1.6)
    surface.colour += (0.06 * glow * (1 - alpha))[..., None]
    surface.colour *= (1 - 0.78 * alpha)[..., None]
    return alpha > 0.25


def stain(surface: Surface, rng: np.random.Generator) -> np.ndarray:
    """A dried drop: an irregular brown film that is darkest at its rim; brushing shows through."""
    x, y = _place(surface, rng, margin=30)
    extent = rng.uniform(14, 34)
    distance, _, _ = _ellipse(
        surface.shape, x, y, extent, extent * rng.uniform(0.55, 1.0), rng.uniform(0, np.pi)
    )
    distance = distance + 0.16 * _blotches(surface.shape, 7.0, rng)
    film = _step(1.0 - distance, 0.05) * surface.part
    rim = np.exp(-(((distance - 0.93) / 0.06) ** 2)) * film
    density = film * (0.16 + 0.05 * _blotches(surface.shape, 5.0, rng)) + 0.20 * rim
    absorbed = np.array([0.75, 1.05, 1.55], np.float32) * rng.uniform(0.8, 1.2)
    surface.colour *= np.exp(-np.clip(density, 0, 1)[..., None] * absorbed)
    return film > 0.4


def chip(surface: Surface, rng: np.random.Generator) -> np.ndarray:
    """A chunk missing at the part's edge: backdrop shows, with a bright fracture facet."""
    if surface.edge is None:
        raise ValueError("an edge chip needs a surface whose edge is in view")
    solid = surface.part > 0.5
    inside = cv2.distanceTransform(solid.astype(np.uint8), cv2.DIST_L2, 5)
    rows, columns = np.nonzero(solid & (inside < 1.6))
    height, width = surface.shape
    along, span = (rows, height) if surface.edge < 2 else (columns, width)
    middle = np.flatnonzero((along > 0.15 * span) & (along < 0.85 * span))
    pick = int(rng.choice(middle))
    reach, breadth = rng.uniform(9, 24), rng.uniform(10, 26)
    angle = 0.0 if surface.edge < 2 else np.pi / 2
    distance, _, _ = _ellipse(
        surface.shape, float(columns[pick]), float(rows[pick]), reach, breadth, angle
    )
    distance = distance + 0.13 * _blotches(surface.shape, 4.0, rng)
    distance = distance + 0.05 * _blotches(surface.shape, 1.3, rng)
    gone = _step(0.88 - distance, 0.06)  # also of the half-covered pixels on the edge itself
    facet = _step(1.06 - distance, 0.05) * surface.part * (1 - gone)
    rough = 0.50 + 0.16 * _blotches(surface.shape, 1.2, rng)
    grey = np.clip(rough, 0.2, 0.95)[..., None] * np.array([1.0, 0.99, 0.97], np.float32)
    surface.colour[:] = surface.colour * (1 - facet[..., None]) + grey * facet[..., None]
    surface.colour[:] = surface.colour * (1 - gone[..., None]) + surface.backdrop * gone[..., None]
    mask = (np.maximum(gone, facet) > 0.5) & solid
    surface.part *= 1 - gone
    return mask


def _place(surface: Surface, rng: np.random.Generator, margin: int) -> tuple[float, float]:
    """A point on the part, `margin` px from its edge and from the image's."""
    solid = np.pad((surface.part > 0.5).astype(np.uint8), 1)
    room = cv2.distanceTransform(solid, cv2.DIST_L2, 5)[1:-1, 1:-1]
    rows, columns = np.nonzero(room >= margin)
    pick = int(rng.integers(len(rows)))
    return float(columns[pick]), float(rows[pick])


def _ellipse(
    shape: tuple[int, int], x: float, y: float, a: float, b: float, angle: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Elliptic distance, 1 on the outline, and the offsets from the centre in pixels."""
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    dx, dy = columns - x, rows - y
    u = dx * np.cos(angle) + dy * np.sin(angle)
    v = -dx * np.sin(angle) + dy * np.cos(angle)
    return np.hypot(u / a, v / b), dx, dy


def _jagged(x: float, y: float, heading: float, steps: int, rng: np.random.Generator) -> np.ndarray:
    """Points of a random walk that keeps its heading, 4 px a step."""
    turns = heading + 0.25 * np.cumsum(rng.normal(0, 0.4, steps)) + rng.normal(0, 0.45, steps)
    moves = rng.uniform(2.5, 5.5, steps)[:, None] * np.stack([np.cos(turns), np.sin(turns)], 1)
    return np.array([x, y]) + np.concatenate([np.zeros((1, 2)), np.cumsum(moves, 0)])


def _stroke(shape: tuple[int, int], points: np.ndarray, width: float, *, taper: bool) -> np.ndarray:
    """Coverage, 0 to 1, of a line through `points` (x, y), drawn at four times the resolution."""
    scale = 4
    canvas = np.zeros((shape[0] * scale, shape[1] * scale), np.uint8)
    corners = np.round((points + 0.5) * scale).astype(int)
    for k in range(len(corners) - 1):
        along = (k + 0.5) / (len(corners) - 1)
        thickness = width * (np.sin(np.pi * along) ** 0.5 if taper else 1.0)
        begin, end = tuple(map(int, corners[k])), tuple(map(int, corners[k + 1]))
        cv2.line(canvas, begin, end, 255, max(1, round(thickness * scale)), cv2.LINE_AA)
    small = cv2.resize(canvas, shape[::-1], interpolation=cv2.INTER_AREA)
    return small.astype(np.float32) / 255


def _blotches(shape: tuple[int, int], sigma: float, rng: np.random.Generator) -> np.ndarray:
    noise = cv2.GaussianBlur(rng.normal(0, 1, shape).astype(np.float32), (0, 0), sigma)
    return noise / max(float(noise.std()), 1e-6)


def _step(value: np.ndarray, softness: float) -> np.ndarray:
    """A smooth step from 0 to 1 around zero."""
    return 1 / (1 + np.exp(-np.clip(value / softness * 4, -30, 30)))
