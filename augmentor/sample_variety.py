"""Sample images as from many lines: turned, grey, flat or harsh, inverted, on other textures.

For a detector to learn from before it sees a part (`augment weights pretrain`), where the
one kind of metal of the sample dataset would be all that it knows.
"""

import cv2
import numpy as np

GREY, INVERTED, BLURRED = 0.7, 0.15, 0.4
"""Share of the images."""
CONTRAST = (0.35, 1.5)
LIGHT, SHADE, TEXTURE, NOISE = 0.2, 0.08, 0.05, 0.02
"""At most, of the range from black to white: a shift, and deviations of clouds, grain and noise."""


def vary(
    image: np.ndarray, mask: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw another look.

    Args:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) bool, turned and mirrored with it.
        rng: what is drawn from.

    Returns:
        Image and mask; H and W may have changed places.
    """
    turns = int(rng.integers(4))
    image, mask = np.rot90(image, turns), np.rot90(mask, turns)
    if rng.random() < 0.5:
        image, mask = image[:, ::-1], mask[:, ::-1]
    look = image.astype(np.float32) / 255
    if rng.random() < GREY:
        look = look.mean(axis=2, keepdims=True).repeat(3, axis=2)
    middle = look.mean()
    look = (look - middle) * rng.uniform(*CONTRAST) + middle
    if rng.random() < INVERTED:
        look = 1 - look
    height, width = look.shape[:2]
    clouds = cv2.resize(
        rng.normal(0, 1, tuple(rng.integers(2, 6, 2))).astype(np.float32),
        (width, height),
        interpolation=cv2.INTER_CUBIC,
    )
    across, along = rng.uniform(0.5, 6, 2)
    noise = rng.normal(0, 1, (height, width)).astype(np.float32)
    grain = cv2.GaussianBlur(noise, (0, 0), sigmaX=across, sigmaY=along)
    look = look + (clouds * rng.uniform(0, SHADE))[..., None]
    look = look + (grain / grain.std() * rng.uniform(0, TEXTURE))[..., None]
    look = look + rng.uniform(-LIGHT, LIGHT)
    if rng.random() < BLURRED:
        look = cv2.GaussianBlur(look, (0, 0), rng.uniform(0.4, 1.3))
    look = look + rng.normal(0, rng.uniform(0, NOISE), (height, width, 1))
    eight_bit = (np.clip(look, 0, 1) * 255).round().astype(np.uint8)
    return eight_bit, np.ascontiguousarray(mask)
