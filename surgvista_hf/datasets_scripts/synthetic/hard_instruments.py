"""Laparoscopic instruments of hard synthetic operations, drawn by distance to line segments.

Coordinates are fractions of the frame's width from its center, x to the right and y down. Everything is vectorized over the
pixels of a frame.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

# Colors of shaft and tip before each operation's own variation.
COLORS = {
    "grasper": ((0.56, 0.57, 0.60), (0.78, 0.79, 0.81)),
    "bipolar": ((0.26, 0.36, 0.56), (0.66, 0.72, 0.80)),
    "hook": ((0.14, 0.14, 0.16), (0.76, 0.62, 0.32)),
    "scissors": ((0.36, 0.38, 0.40), (0.86, 0.86, 0.88)),
    "clipper": ((0.72, 0.74, 0.70), (0.90, 0.92, 0.93)),
    "irrigator": ((0.46, 0.51, 0.50), (0.58, 0.62, 0.62)),
}
SHAFT_RADIUS = 0.040
TIP_LENGTH = 0.155


@dataclass(frozen=True)
class Pose:
    """Position of an instrument in a frame.

    Args:
        tip: position of the end of the tip, (2,).
        along: unit vector from the shaft to the tip, (2,).
        opening: opening of the jaws, from 0 (closed) to 1.
        scale: magnification.
    """

    tip: np.ndarray
    along: np.ndarray
    opening: float
    scale: float


class Canvas:
    """A frame that instruments are drawn on.

    Args:
        pixels: RGB from 0 to 1, (height, width, 3), float32; it is changed.
        x, y: coordinates of the pixels, (height, width).
    """

    def __init__(self, pixels: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
        self.pixels, self.x, self.y = pixels, x, y
        self.coverage = np.zeros(x.shape, np.float32)

    def capsule(
        self,
        start: np.ndarray,
        end: np.ndarray,
        radius: float,
        color: np.ndarray,
        end_radius: float | None = None,
    ) -> None:
        """Draw a rounded bar, lit from one side, whose radius may change from start to end."""
        direction = end - start
        length = max(float(np.hypot(*direction)), 1e-6)
        ux, uy = direction / length
        dx, dy = self.x - start[0], self.y - start[1]
        t = np.clip((dx * ux + dy * uy) / length, 0, 1)  # (height, width)
        dx, dy = dx - t * (length * ux), dy - t * (length * uy)
        radii = radius + t * ((radius if end_radius is None else end_radius) - radius)
        alpha = np.clip((radii - np.sqrt(dx * dx + dy * dy)) * self.x.shape[1] + 0.5, 0, 1)
        across = (dx * -uy + dy * ux) / np.maximum(radii, 1e-4)
        shade = 1.12 - 0.5 * (across - 0.35) ** 2
        self.blend(alpha, color * shade[..., None])

    def blend(self, alpha: np.ndarray, color: np.ndarray) -> None:
        """Lay a color, (3,) or (height, width, 3), over the pixels with opacity (height, width)."""
        self.pixels += alpha[..., None] * (color - self.pixels)
        np.maximum(self.coverage, alpha, out=self.coverage)


def draw_instrument(
    pixels: np.ndarray, x: np.ndarray, y: np.ndarray, name: str, pose: Pose, colors: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Draw an instrument from the edge of the frame to its tip.

    Args:
        pixels: RGB from 0 to 1, (height, width, 3), float32; it is changed.
        x, y: coordinates of the pixels, (height, width).
        name: one of `INSTRUMENTS`.
        pose: position of the instrument.
        colors: RGB of shaft and tip, (3,) each.

    Returns:
        How much of each pixel it covers, from 0 to 1, (height, width).
    """
    canvas = Canvas(pixels, x, y)
    shaft, metal = colors
    across = np.array([-pose.along[1], pose.along[0]], np.float32)
    neck = pose.tip - TIP_LENGTH * pose.scale * pose.along
    canvas.capsule(neck - 2.0 * pose.along, neck, SHAFT_RADIUS * pose.scale, shaft)
    canvas.capsule(neck - 0.012 * pose.scale * pose.along, neck, 0.9 * SHAFT_RADIUS * pose.scale, 0.6 * metal)
    _TIPS[name](canvas, neck, pose, across, metal)
    return canvas.coverage


def _point(neck: np.ndarray, pose: Pose, across: np.ndarray, forward: float, side: float) -> np.ndarray:
    """Return the point that lies forward of the neck and to its side, both in lengths of the tip."""
    return neck + TIP_LENGTH * pose.scale * (forward * pose.along + side * across)


def _grasper(canvas: Canvas, neck: np.ndarray, pose: Pose, across: np.ndarray, metal: np.ndarray) -> None:
    for side in (-1, 1):
        knee = _point(neck, pose, across, 0.45, side * (0.12 + 0.32 * pose.opening))
        tip = _point(neck, pose, across, 1.0, side * (0.08 + 0.36 * pose.opening))
        canvas.capsule(neck, knee, 0.021 * pose.scale, metal)
        canvas.capsule(knee, tip, 0.023 * pose.scale, metal, 0.016 * pose.scale)


def _bipolar(canvas: Canvas, neck: np.ndarray, pose: Pose, across: np.ndarray, metal: np.ndarray) -> None:
    for side in (-1, 1):
        knee = _point(neck, pose, across, 0.5, side * (0.20 + 0.25 * pose.opening))
        tip = _point(neck, pose, across, 1.0, side * (0.03 + 0.28 * pose.opening))
        canvas.capsule(neck, knee, 0.012 * pose.scale, metal)
        canvas.capsule(knee, tip, 0.012 * pose.scale, metal)
    canvas.capsule(
        neck, _point(neck, pose, across, 0.12, 0), 0.029 * pose.scale, np.array([0.20, 0.42, 0.78], np.float32)
    )


def _hook(canvas: Canvas, neck: np.ndarray, pose: Pose, across: np.ndarray, metal: np.ndarray) -> None:
    corner = _point(neck, pose, across, 0.95, 0)
    canvas.capsule(neck, corner, 0.016 * pose.scale, metal)
    canvas.capsule(corner, _point(neck, pose, across, 1.0, 0.38), 0.016 * pose.scale, metal)
    canvas.capsule(
        neck, _point(neck, pose, across, 0.22, 0), 0.029 * pose.scale, np.array([0.92, 0.90, 0.84], np.float32)
    )


def _scissors(canvas: Canvas, neck: np.ndarray, pose: Pose, across: np.ndarray, metal: np.ndarray) -> None:
    for side in (-1, 1):
        tip = _point(neck, pose, across, 1.0, side * (0.04 + 0.5 * pose.opening))
        canvas.capsule(
            _point(neck, pose, across, 0.1, -side * 0.1), tip, 0.031 * pose.scale, metal, 0.004 * pose.scale
        )
    pivot = _point(neck, pose, across, 0.2, 0)
    canvas.capsule(pivot, pivot + 1e-3, 0.016 * pose.scale, 0.3 * metal)


def _clipper(canvas: Canvas, neck: np.ndarray, pose: Pose, across: np.ndarray, metal: np.ndarray) -> None:
    wide = 0.26 + 0.14 * pose.opening
    left, right = (_point(neck, pose, across, 0.05, side * wide) for side in (-1, 1))
    canvas.capsule(left, right, 0.021 * pose.scale, 0.7 * metal)
    for side in (-1, 1):
        start = _point(neck, pose, across, 0.1, side * wide)
        tip = _point(neck, pose, across, 1.0, side * (0.08 + 0.28 * pose.opening))
        canvas.capsule(start, tip, 0.019 * pose.scale, metal)


def _irrigator(canvas: Canvas, neck: np.ndarray, pose: Pose, across: np.ndarray, metal: np.ndarray) -> None:
    tip = _point(neck, pose, across, 0.95, 0)
    canvas.capsule(neck, tip, 0.031 * pose.scale, metal)
    for forward in (0.5, 0.7, 0.98):
        hole = _point(neck, pose, across, forward, 0)
        canvas.capsule(hole, hole + 1e-3, 0.012 * pose.scale, np.full(3, 0.1, np.float32))


_Draw = Callable[[Canvas, np.ndarray, Pose, np.ndarray, np.ndarray], None]
_TIPS: dict[str, _Draw] = {
    "grasper": _grasper,
    "bipolar": _bipolar,
    "hook": _hook,
    "scissors": _scissors,
    "clipper": _clipper,
    "irrigator": _irrigator,
}
