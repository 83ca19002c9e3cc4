"""Anatomy of hard synthetic operations: the tissue that an operation shows, as one large texture that the camera moves over.

Coordinates of the world are widths of a frame at magnification 1, from the center of the anatomy.
"""

from dataclasses import dataclass

import numpy as np

from .surgery import seeded_generator, smooth_noise

EXTENT = 1.5  # the world reaches from -1.5 to 1.5 in both directions
TISSUES = ("background", "omentum", "liver", "gallbladder", "cystic_duct", "specimen_bag")
_COLORS = {
    "background": (0.66, 0.38, 0.34),
    "omentum": (0.70, 0.55, 0.36),
    "liver": (0.58, 0.30, 0.26),
    "gallbladder": (0.48, 0.54, 0.42),
    "cystic_duct": (0.70, 0.52, 0.42),
    "specimen_bag": (0.60, 0.65, 0.70),
}
_TEXELS = 1.1  # texture elements for each pixel of a frame, at magnification 1


@dataclass(frozen=True)
class Anatomy:
    """The tissue of one operation.

    Args:
        texture: RGB from 0 to 1 and the wetness, which shines, (size, size, 4), float32.
        tissue: index of `TISSUES` at each texture element, (size, size).
        depth: distance to the edge of this tissue in units of the world, roughly, (size, size).
    """

    texture: np.ndarray
    tissue: np.ndarray
    depth: np.ndarray

    def draw_point(self, name: str, random: np.random.Generator) -> np.ndarray:
        """Draw a point on a tissue, away from its edge where it is large: world coordinates (x, y)."""
        here = self.tissue == TISSUES.index(name)
        inner = here & (self.depth > min(0.06, float(np.quantile(self.depth[here], 0.6))))
        rows, columns = np.nonzero(inner)
        chosen = int(random.integers(len(rows)))
        size = len(self.tissue)
        return (np.array([columns[chosen], rows[chosen]]) + 0.5) * (2 * EXTENT / size) - EXTENT


def draw_anatomy(seed: int, width: int) -> Anatomy:
    """Draw the tissue of an operation.

    Args:
        seed: seed of the operation.
        width: width of its frames in pixels.
    """
    return _Painter(seed, round(2 * EXTENT * _TEXELS * width)).paint()


class _Painter:
    def __init__(self, seed: int, size: int) -> None:
        self.random, self.size = seeded_generator(seed, "anatomy"), size
        axis = ((np.arange(size) + 0.5) * (2 * EXTENT / size) - EXTENT).astype(np.float32)
        x, y = np.meshgrid(axis, axis)
        # The template of the anatomy is turned and mirrored anew in each operation.
        angle, mirror = self.random.uniform(0, 2 * np.pi), self.random.choice([-1, 1])
        self.x = np.cos(angle) * x + np.sin(angle) * y
        self.y = mirror * (np.cos(angle) * y - np.sin(angle) * x)
        self.texture = np.empty((size, size, 4), np.float32)
        self.tissue = np.zeros((size, size), np.int64)
        self.depth = np.full((size, size), EXTENT, np.float32)
        self.colors = self._draw_colors()

    def paint(self) -> Anatomy:
        """Paint the tissues from the back to the front."""
        random = self.random
        self.texture[..., :3] = self.colors["background"] * (0.6 + 0.8 * self._noise(3, 8, 30))[..., None]
        self.texture[..., 3] = 0.4
        self._omentum(*self._blob((-0.28, 0.52), (0.62, 0.30), 0.5))
        self._liver(*self._blob((-0.42, -0.46), (0.66, 0.42), 0.25))
        self._gallbladder(*self._blob((0.10, 0.02), (0.33, 0.17), 0.12))
        self._duct()
        self._bag(*self._blob((0.58, -0.50), (0.30, 0.22), 0.12))
        for _ in range(random.integers(2, 6)):  # burns and cuts of earlier days: a mark does not prove an action
            x, y = random.uniform(-0.8, 0.8, 2)
            self._mark(float(x), float(y), bool(random.random() < 0.5))
        self._correct_light()
        return Anatomy(np.clip(self.texture, 0, 1), self.tissue, self.depth)

    def _draw_colors(self) -> dict[str, np.ndarray]:
        random = self.random
        return {
            name: np.array(color, np.float32)
            * np.exp(random.normal(0, 0.11, 3) + random.normal(0, 0.28)).astype(np.float32)
            for name, color in _COLORS.items()
        }

    def _correct_light(self) -> None:
        """Apply the operation's white balance, saturation and contrast."""
        random, colors = self.random, self.texture[..., :3]
        gray = colors.mean(axis=-1, keepdims=True)
        colors = gray + (colors - gray) * random.uniform(0.4, 1.3)
        colors = colors * np.exp(random.normal(0, 0.16, 3)).astype(np.float32)
        self.texture[..., :3] = np.clip(colors, 0, 1) ** np.float32(random.uniform(0.75, 1.45))

    def _noise(self, *cells: int) -> np.ndarray:
        """Return smooth noise from 0 to 1 with the given numbers of cells in a row, coarse ones stronger, (size, size)."""
        weights = np.array([0.6**k for k in range(len(cells))])
        parts = [smooth_noise(self.random, (self.size, self.size), number) for number in cells]
        return sum(
            (w * part for w, part in zip(weights / weights.sum(), parts, strict=True)), np.zeros((), np.float32)
        )

    def _blob(self, center: tuple[float, float], radii: tuple[float, float], rough: float) -> tuple[np.ndarray, ...]:
        """Return the depth below the edge of an uneven ellipse, and coordinates along and across it, each (size, size)."""
        random = self.random
        a, b = np.array(radii) * random.uniform(0.85, 1.2, 2)
        angle = random.uniform(-0.35, 0.35)
        dx, dy = self.x - center[0] - random.normal(0, 0.05), self.y - center[1] - random.normal(0, 0.05)
        along, across = np.cos(angle) * dx + np.sin(angle) * dy, np.cos(angle) * dy - np.sin(angle) * dx
        level = 1 - np.sqrt((along / a) ** 2 + (across / b) ** 2) + rough * (self._noise(12, 26) - 0.5)
        return level * min(a, b), along, across

    def _cover(self, name: str, depth: np.ndarray, color: np.ndarray, wet: np.ndarray | float) -> None:
        """Lay a tissue over the others where its depth is above 0; a dark rim sets it off."""
        alpha = np.clip(depth * self.size / (2 * EXTENT) / 1.5, 0, 1)[..., None]
        shadow = np.clip(1 + depth / 0.04, 0, 1) * np.clip(-depth / 0.01, 0, 1)
        self.texture[..., :3] *= 1 - 0.4 * (shadow * (depth < 0))[..., None]
        self.texture[..., :3] += alpha * (color - self.texture[..., :3])
        self.texture[..., 3] += alpha[..., 0] * (wet - self.texture[..., 3])
        inside = depth > 0
        self.tissue[inside] = TISSUES.index(name)
        self.depth = np.where(inside, depth, np.minimum(self.depth, -depth))

    def _omentum(self, depth: np.ndarray, along: np.ndarray, across: np.ndarray) -> None:
        """Paint lobules of fat with vessels between them."""
        lobules = np.abs(self._noise(40) - 0.5) * 2
        shade = 0.62 + 0.75 * np.sqrt(lobules)
        color = self.colors["omentum"] * shade[..., None]
        vessels = np.clip(1 - np.abs(self._noise(9, 18) - 0.5) / 0.012, 0, 1)[..., None]
        self._cover("omentum", depth, color + 0.6 * vessels * (np.array([0.5, 0.1, 0.1], np.float32) - color), 0.45)

    def _liver(self, depth: np.ndarray, along: np.ndarray, across: np.ndarray) -> None:
        """Paint a fine grain and a rounded edge."""
        grain = 0.78 + 0.44 * self._noise(110)
        rounded = 0.65 + 0.45 * np.clip(depth / 0.12, 0, 1)
        self._cover("liver", depth, self.colors["liver"] * (grain * rounded)[..., None], 0.9)

    def _gallbladder(self, depth: np.ndarray, along: np.ndarray, across: np.ndarray) -> None:
        """Paint a smooth taut bulge with thin branching vessels."""
        bulge = 0.5 + 0.75 * np.sqrt(np.clip(depth / 0.16, 0, 1))
        color = self.colors["gallbladder"] * bulge[..., None]
        vessels = np.clip(1 - np.abs(self._noise(16, 30) - 0.5) / 0.018, 0, 1)[..., None]
        color = color + 0.55 * vessels * (np.array([0.55, 0.12, 0.12], np.float32) - color)
        self._cover("gallbladder", depth, color, np.clip(depth / 0.08, 0.2, 1.4))

    def _duct(self) -> None:
        """Paint a tube and a thinner artery beside it, between the gallbladder's neck and the edge of the omentum."""
        random = self.random
        bend, width = random.uniform(-0.12, 0.12), random.uniform(0.045, 0.062)
        t = np.clip((self.x - 0.38) / 0.50, 0, 1)
        middle = 0.10 + 0.30 * t + bend * np.sin(np.pi * t) + random.normal(0, 0.03)
        beyond = np.maximum(np.maximum(0.38 - self.x, self.x - 0.90), 0)  # of the ends, which are round
        for name, shift, radius in (("artery", 0.13, 0.4 * width), ("duct", 0.0, width)):
            offset = (self.y - middle - shift * np.sin(np.pi * t) ** 0.5) * 0.86
            depth = radius - np.hypot(offset, beyond)
            base = self.colors["cystic_duct"] if name == "duct" else np.array([0.66, 0.2, 0.17], np.float32)
            shine = 1.25 - 0.75 * (offset / radius + 0.3) ** 2
            color = base * np.clip(shine, 0.3, 1.3)[..., None]
            if name == "artery":  # it belongs to what surrounds the duct
                alpha = np.clip(depth * self.size / (2 * EXTENT), 0, 1)[..., None]
                self.texture[..., :3] += alpha * (color - self.texture[..., :3])
            else:
                self._cover("cystic_duct", depth, color, 1.2)

    def _bag(self, depth: np.ndarray, along: np.ndarray, across: np.ndarray) -> None:
        """Paint folded plastic with a colored rim."""
        folds = np.sin(along * 55 + 5 * self._noise(6) * 2)
        color = self.colors["specimen_bag"] * (0.8 + 0.28 * folds)[..., None]
        rim = ((depth > 0.012) & (depth < 0.035))[..., None]
        color = np.where(rim, np.array([0.25, 0.38, 0.7], np.float32), color)
        self._cover("specimen_bag", depth, color, 1.0 + 0.6 * folds)

    def _mark(self, x: float, y: float, burnt: bool) -> None:
        distance = np.hypot(self.x - x, self.y - y) / self.random.uniform(0.03, 0.07)
        alpha = (0.55 * np.exp(-(distance**4)))[..., None].astype(np.float32)
        color = np.array([0.72, 0.62, 0.5], np.float32) if burnt else np.array([0.42, 0.05, 0.06], np.float32)
        self.texture[..., :3] += alpha * (color - self.texture[..., :3])
