"""Rendering of hard synthetic operations: camera, light, deformed tissue, instruments, smoke, blood, focus and overlays.

A frame is the anatomy's texture, seen by a moving camera through a field of displacements that the active instrument causes,
with instruments drawn on top and the disturbances of a real endoscope over it. Nothing but the action depends on the phase.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image, ImageFilter

from .hard_actions import MOTIONS, TRIPLETS, Activity
from .hard_anatomy import EXTENT, Anatomy, draw_anatomy
from .hard_instruments import COLORS, Pose, draw_instrument
from .surgery import INSTRUMENTS, seeded_generator, smooth_noise

_SWEEP = 0.7  # seconds in which camera and instrument move on to the next target
# Glyphs of 3 × 5 pixels, a bit a pixel, rows from the top.
_GLYPHS = (0b111101101101111, 0b010110010010111, 0b111001111100111, 0b111001111001111, 0b101101111001001,
           0b111100111001111, 0b111100111101111, 0b111001010010010, 0b111101111101111, 0b111101111001111)  # fmt: skip


class Wave:
    """A slow irregular movement: the mean of three sines, between -1 and 1.

    Args:
        random: source of periods and phases.
        periods: shortest and longest period in seconds.
        size: number of independent values.
    """

    def __init__(self, random: np.random.Generator, periods: tuple[float, float], size: int = 1) -> None:
        shortest, longest = np.log(periods)
        self.frequency = 2 * np.pi / np.exp(random.uniform(shortest, longest, (3, size)))
        self.phase = random.uniform(0, 2 * np.pi, (3, size))

    def at(self, second: float) -> np.ndarray:
        """Return the values at a time, (size,)."""
        return np.sin(self.frequency * second + self.phase).mean(axis=0)


@dataclass(frozen=True)
class Plan:
    """Details of how one activity is carried out.

    Args:
        motion: one of the values of `MOTIONS`.
        instrument: name of the instrument.
        target: world coordinates of the point that it works on, (2,).
        goal: world coordinates that the camera looks at, (2,).
        zoom: magnification.
        direction: unit vector of the motion in the world, (2,).
        amplitude: length of the motion in widths of the frame.
        period: period of the motion in seconds.
        port: angle from the tip towards the shaft, in the frame.
        idle: name, angle of the port, position of the tip in the frame and opening of each idle instrument.
    """

    motion: str
    instrument: str
    target: np.ndarray
    goal: np.ndarray
    zoom: float
    direction: np.ndarray
    amplitude: float
    period: float
    port: float
    idle: tuple[tuple[str, float, np.ndarray, float], ...]


class HardScene:
    """Everything of an operation that its frames share.

    Args:
        seed: seed of the operation.
        height, width: size of a frame in pixels.
        skill: skill level of the surgeon, 0-2.
        activities: activities of the operation, in the order of time.
    """

    def __init__(self, seed: int, height: int, width: int, skill: int, activities: tuple[Activity, ...]) -> None:
        self.seed, self.height, self.width, self.activities = seed, height, width, activities
        random = seeded_generator(seed, "scene")
        self.anatomy: Anatomy = draw_anatomy(seed, width)
        self.y, self.x = (
            ((np.mgrid[:height, :width][k] + 0.5 - (height, width)[k] / 2) / width).astype(np.float32) for k in (0, 1)
        )
        self.tremor = (0.007, 0.004, 0.0015)[skill]
        self.zoom = random.uniform(0.85, 1.25)
        self.roll = random.uniform(0, 2 * np.pi)
        self.ports = random.uniform(0, 2 * np.pi) + np.array([0, 1.3, 2.7, 4.3]) + random.normal(0, 0.2, 4)
        self.camera = Wave(random, (4, 17), 4)  # x, y, zoom, roll
        self.hand = Wave(random, (0.25, 0.6), 2)
        self.light = Wave(random, (3, 25), 3)  # gain, x, y
        self.air = Wave(random, (7, 40), 1)
        self.focus = Wave(random, (5, 30), 1)
        self.brightness, self.falloff = random.uniform(0.75, 1.25), random.uniform(0.6, 2.6)
        self.smokiness, self.haze = random.uniform(0, 0.75), random.uniform(0.6, 0.85)
        self.defocus, self.noise = random.uniform(0.1, 0.9), random.uniform(0.008, 0.035)
        self.shine, self.seepage = random.uniform(0.0, 0.5), random.integers(0, 5)
        self.smoke = smooth_noise(random, (2 * height, 2 * width), 10)
        tone = random.normal(0, 0.05, (len(INSTRUMENTS), 2, 1)) + random.normal(0, 0.025, (len(INSTRUMENTS), 2, 3))
        gain = np.exp(random.normal(0, 0.12))
        self.colors = {
            name: (self._vary(COLORS[name][0], gain, tone[k, 0]), self._vary(COLORS[name][1], gain, tone[k, 1]))
            for k, name in enumerate(INSTRUMENTS)
        }
        self.border = self._draw_border(random)
        self.overlay = self._draw_overlay(random)

    def _vary(self, color: tuple[float, ...], gain: float, tone: np.ndarray) -> np.ndarray:
        """Return the color of a part of an instrument in this operation and its light, (3,)."""
        return (np.clip(np.array(color) * gain + tone, 0.03, 1.2) * self.brightness).astype(np.float32)

    def _draw_border(self, random: np.random.Generator) -> np.ndarray:
        """Draw what the endoscope's tube leaves visible: all, a disk or an octagon; 0 to 1, (height, width)."""
        kind, radius = random.integers(3), random.uniform(0.46, 0.56)
        x, y = self.x - random.normal(0, 0.015), self.y - random.normal(0, 0.015)
        distance = np.hypot(x, y) if kind == 1 else np.maximum(np.abs(x) + np.abs(y), 1.3 * np.abs(x)) / 1.25
        alpha = np.clip((radius - distance) * self.width / 2, 0, 1).astype(np.float32)
        return np.ones_like(alpha) if kind == 0 else alpha

    def _draw_overlay(self, random: np.random.Generator) -> tuple[int, int, int, int, int]:
        """Draw position, magnification, number of digits and tone of a counter; no digits for none."""
        unit = max(self.width // 96, 1)
        digits = int(random.choice([0, 0, 3, 4, 6]))
        top = int(random.choice([1, self.height - 6 * unit]))
        left = int(random.integers(1, max(self.width - 4 * unit * digits - 1, 2)))
        return top, left, unit, digits, int(random.integers(2))

    @cached_property
    def plans(self) -> tuple[Plan, ...]:
        """Return how each activity is carried out."""
        return tuple(self._draw_plan(activity) for activity in self.activities)

    def _draw_plan(self, activity: Activity) -> Plan:
        random = seeded_generator(self.seed, "plan", activity.number)
        name, verb, target = TRIPLETS[activity.triplet]
        motion = MOTIONS[verb]
        point = self.anatomy.draw_point(target, random)
        zoom = self.zoom * random.uniform(0.9, 1.15)
        angle = random.uniform(0, 2 * np.pi)
        low, high = {"stroke": (0.05, 0.075), "pull": (0.11, 0.16)}.get(motion, (0.0, 0.0))
        fast, slow = {"pull": (2.4, 3.6), "stroke": (0.9, 1.5)}.get(motion, (1.0, 1.7))
        order = random.permutation(len(self.ports))
        ports = self.ports[order] + random.normal(0, 0.12, len(order))
        idle = []
        for number, port in zip(activity.idle, ports[1:], strict=False):
            tip = np.array([np.cos(port), np.sin(port) * min(self.height / self.width / 0.75, 1)]) * (0.27, 0.205)
            idle.append(
                (INSTRUMENTS[number], float(port), tip + random.normal(0, 0.02, 2), float(random.uniform(0.05, 0.8)))
            )
        return Plan(
            motion,
            name,
            point,
            point + random.uniform(-1, 1, 2) * (0.10, 0.07) / zoom,
            zoom,
            np.array([np.cos(angle), np.sin(angle)]),
            random.uniform(low, high),
            random.uniform(fast, slow),
            float(ports[0]),
            tuple(idle),
        )


class HardFrame:
    """One frame of an operation.

    Args:
        scene: scene of the operation.
        activity: activity at that time.
        second: the time in seconds.
    """

    def __init__(self, scene: HardScene, activity: Activity, second: float) -> None:
        self.scene, self.activity, self.second = scene, activity, second
        self.plan = plan = scene.plans[activity.number]
        self.random = seeded_generator(scene.seed, "frame", round(second * 1000))
        self.elapsed = second - activity.start
        done = min(self.elapsed / _SWEEP, 1.0) if activity.number else 1.0
        self.arrived = done * done * (3 - 2 * done)
        before = scene.plans[max(activity.number - 1, 0)]
        wave = scene.camera.at(second)
        # The tip stays in view while the camera moves on: both are as far from where they go.
        self.behind = (1 - self.arrived) * (before.goal - plan.goal)
        self.zoom = np.exp((1 - self.arrived) * np.log(before.zoom / plan.zoom) + 0.10 * wave[2]) * plan.zoom
        self.center = plan.goal + self.behind + 0.035 * wave[:2]
        roll = scene.roll + 0.25 * wave[3]
        self.rotation = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])  # frame to world
        self.breath = 0.012 * np.sin(2 * np.pi * second / 3.7 + scene.seed)
        self.cycle = 2 * np.pi * max(self.elapsed - _SWEEP, 0.0) / plan.period

    def render(self) -> np.ndarray:
        """Render the frame: RGB, uint8, of shape (height, width, 3)."""
        pixels, wet = self._tissue()
        self._light(pixels, wet)
        pixels = self._motion_blur(pixels)
        self._draw_instruments(pixels)
        self._air(pixels)
        pixels = self._defocus(pixels)
        pixels *= self.scene.border[..., None]
        self._overlay(pixels)
        pixels += self.scene.noise * self.random.standard_normal(pixels.shape, np.float32)
        return (np.clip(pixels, 0, 1) * 255).astype(np.uint8)

    def instrument_masks(self) -> np.ndarray:
        """Return where each instrument is drawn, under smoke and blur as well: bool, of shape (6, height, width)."""
        scene = self.scene
        masks = np.zeros((len(INSTRUMENTS), scene.height, scene.width), bool)
        for name, covered in self._draw_instruments(np.zeros((scene.height, scene.width, 3), np.float32)):
            seen = (covered > 0.5) & (scene.border > 0.5)
            masks &= ~seen  # later ones lie in front
            masks[INSTRUMENTS.index(name)] |= seen
        return masks

    # ------------------------------------------------------------------------------------- the action

    @property
    def offset(self) -> np.ndarray:
        """Return how far the motion has brought the tip from its target, in the world, (2,)."""
        plan = self.plan
        if plan.motion == "stroke":
            return plan.amplitude * np.sin(self.cycle) * plan.direction
        if plan.motion == "pull":
            return plan.amplitude * (0.5 - 0.5 * np.cos(self.cycle)) * plan.direction
        return np.zeros(2)

    @property
    def opening(self) -> float:
        """Return how far the jaws of the active instrument are open, from 0 to 1."""
        if self.plan.motion == "squeeze":
            return float(0.5 + 0.5 * np.cos(self.cycle))
        return {"pull": 0.05, "burn": 0.2}.get(self.plan.motion, 0.35)

    def displace(self, world: np.ndarray) -> np.ndarray:
        """Return where the tissue comes from that is seen at points of the world, (2, height, width)."""
        plan = self.plan
        shift = world - (plan.target + self.behind + (0, self.breath))[:, None, None]
        if plan.motion in ("pull", "stroke"):
            moved, reach = self.offset * (1.0 if plan.motion == "pull" else 0.3), 0.15
            near = np.exp(-((shift - moved[:, None, None]) ** 2).sum(axis=0) / (2 * reach**2))
            return world - moved[:, None, None] * near * self.arrived
        if plan.motion == "squeeze":
            near = np.exp(-(shift**2).sum(axis=0) / (2 * 0.085**2))
            return world + shift * (0.9 * (1 - self.opening) * self.arrived * near)
        return world

    # ------------------------------------------------------------------------------------- what is seen

    def _to_frame(self, point: np.ndarray) -> np.ndarray:
        """Return the coordinates in the frame of a point of the world, (2,)."""
        return self.zoom * (self.rotation.T @ (point - self.center))

    def _tissue(self) -> tuple[np.ndarray, np.ndarray]:
        """Sample the texture: RGB (height, width, 3) and wetness (height, width)."""
        scene = self.scene
        frame = np.stack([scene.x, scene.y]).reshape(2, -1) / np.float32(self.zoom)
        world = (self.rotation.astype(np.float32) @ frame).reshape(2, scene.height, scene.width)
        world = self.displace(world + self.center.astype(np.float32)[:, None, None])
        world[1] -= self.breath
        texture = scene.anatomy.texture
        size = len(texture)
        position = np.clip((world + EXTENT) * (size / (2 * EXTENT)) - 0.5, 0, size - 1.001).astype(np.float32)
        corner = position.astype(np.int64)
        fx, fy = (position - corner)[..., None]
        index = (corner[1] * size + corner[0]).ravel()
        flat = texture.reshape(-1, 4)
        rows = [np.take(flat, index + step, axis=0).reshape(*fx.shape[:2], 4) for step in (0, 1, size, size + 1)]
        upper, lower = rows[0] + fx * (rows[1] - rows[0]), rows[2] + fx * (rows[3] - rows[2])
        sampled = upper + fy * (lower - upper)  # (height, width, 4)
        pixels = np.ascontiguousarray(sampled[..., :3])
        self._stain(pixels, world)
        return pixels, sampled[..., 3]

    def _stain(self, pixels: np.ndarray, world: np.ndarray) -> None:
        """Add blood, which comes and goes, and what the instrument does to the surface."""
        scene, plan = self.scene, self.plan
        for spot in range(scene.seepage):
            random = seeded_generator(scene.seed, "blood", spot)
            x, y = random.uniform(-0.8, 0.8, 2)
            size = random.uniform(0.05, 0.2) * max(
                np.sin(self.second / random.uniform(4, 12) + random.uniform(0, 6)), 0
            )
            _blend_spot(pixels, world, np.array([x, y]), size, (0.45, 0.03, 0.04), 0.85)
        worked = min(max(self.elapsed - _SWEEP, 0.0) / 3, 1.0)
        if plan.motion == "burn":
            _blend_spot(pixels, world, plan.target, 0.03 + 0.03 * worked, (0.8, 0.72, 0.6), 0.7 * self.arrived)
        elif plan.motion == "rinse":
            _blend_spot(pixels, world, plan.target, 0.10, (0.75, 0.62, 0.6), 0.35 * self.arrived)

    def _light(self, pixels: np.ndarray, wet: np.ndarray) -> None:
        """Apply the light of a lamp that wanders and whose gain changes, and the shine of wet tissue."""
        scene = self.scene
        gain, x, y = scene.light.at(self.second)
        squared = (scene.x - 0.2 * x) ** 2 + (scene.y - 0.2 * y) ** 2
        light = np.clip(1.12 - scene.falloff * squared, 0.15, 1.2) * (scene.brightness * (1 + 0.25 * gain))
        bright = pixels.mean(axis=-1)
        pixels *= light[..., None]
        pixels += (scene.shine * wet * np.clip(light - 0.75, 0, 1) * np.clip(bright - 0.25, 0, 1) * 1.5)[..., None]

    def _draw_instruments(self, pixels: np.ndarray) -> list[tuple[str, np.ndarray]]:
        """Draw all instruments, the active one last: name, and how much of each pixel it covers."""
        scene, plan = self.scene, self.plan
        drawn = []
        for number, (name, port, tip, opening) in enumerate(plan.idle):
            drift = 0.02 * np.sin(self.second * (0.8 + 0.3 * number) + np.array([0.0, 1.3]) + port)
            along = -np.array([np.cos(port), np.sin(port)])
            drawn.append((name, self._draw(pixels, name, Pose(tip + drift, along, opening, self.zoom))))
        shake = scene.tremor * scene.hand.at(self.second)
        tip = self._to_frame(plan.target + self.behind + self.offset * self.arrived + (0, self.breath)) + shake
        turn = plan.port + 0.08 * np.sin(self.second * 0.9)
        along = -np.array([np.cos(turn), np.sin(turn)])
        if plan.motion == "rinse":
            self._splash(pixels, tip, along)
        drawn.append((plan.instrument, self._draw(pixels, plan.instrument, Pose(tip, along, self.opening, self.zoom))))
        return drawn

    def _draw(self, pixels: np.ndarray, name: str, pose: Pose) -> np.ndarray:
        return draw_instrument(pixels, self.scene.x, self.scene.y, name, pose, self.scene.colors[name])

    def _splash(self, pixels: np.ndarray, tip: np.ndarray, along: np.ndarray) -> None:
        scene = self.scene
        for drop in self.random.normal(0, 0.035, (8, 2)) + tip + 0.03 * along:
            _blend_spot(pixels, np.stack([scene.x, scene.y]), drop, 0.010, (0.9, 0.95, 1.0), 0.8)

    def _air(self, pixels: np.ndarray) -> None:
        """Add smoke: the operation's own, which comes and goes, and the plume of a burning instrument."""
        scene = self.scene
        density = scene.smokiness * max(float(scene.air.at(self.second)[0]) + 0.25, 0.0)
        top = int((0.5 + 0.5 * np.sin(self.second * 0.31)) * scene.height)
        left = int((0.5 + 0.5 * np.sin(self.second * 0.23 + 1)) * scene.width)
        smoke = density * scene.smoke[top : top + scene.height, left : left + scene.width]
        if self.plan.motion == "burn":
            tip = self._to_frame(self.plan.target + self.behind)
            rise = 0.05 + 0.04 * np.sin(self.second * 5)
            plume = ((scene.x - tip[0]) / 0.07) ** 2 + ((scene.y - tip[1] + rise) / 0.11) ** 2
            smoke = smoke + (0.3 + 0.15 * np.sin(self.second * 7)) * self.arrived * np.exp(-plume)
        smoke = np.clip(smoke, 0, 0.8)[..., None]
        pixels += smoke * (np.float32(scene.haze) - pixels)

    def _motion_blur(self, pixels: np.ndarray) -> np.ndarray:
        """Blur the tissue while the camera moves on; the instruments move with the camera."""
        if not 0 < self.arrived < 1:
            return pixels
        moving = self.rotation.T @ self.behind
        axis = int(abs(moving[0]) > abs(moving[1]))
        step = max(self.scene.width // 64, 1)
        return (pixels + np.roll(pixels, step, axis=axis) + np.roll(pixels, -step, axis=axis)) / 3

    def _defocus(self, pixels: np.ndarray) -> np.ndarray:
        """Blur the frame as far as it is out of focus."""
        scene = self.scene
        radius = scene.defocus * max(float(scene.focus.at(self.second)[0]) + 0.4, 0.0) * scene.width / 96
        if radius < 0.15:
            return pixels
        image = Image.fromarray((np.clip(pixels, 0, 1) * 255).astype(np.uint8))
        return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), np.float32) / 255

    def _overlay(self, pixels: np.ndarray) -> None:
        """Write a counter that tells nothing about the operation."""
        top, left, unit, digits, tone = self.scene.overlay
        number = self.scene.seed % 1000 + int(self.second * 3)
        for position in range(digits):
            glyph = _GLYPHS[number // 10 ** (digits - 1 - position) % 10]
            bits = np.array([glyph >> bit & 1 for bit in range(14, -1, -1)], bool).reshape(5, 3)
            bits = bits.repeat(unit, axis=0).repeat(unit, axis=1)
            x = left + 4 * unit * position
            pixels[top : top + 5 * unit, x : x + 3 * unit][bits] = (0.95, 0.1)[tone]


def _blend_spot(
    pixels: np.ndarray, grid: np.ndarray, center: np.ndarray, size: float, color: tuple[float, ...], opacity: float
) -> None:
    """Lay a soft disk of a color over the pixels.

    Args:
        pixels: RGB, (height, width, 3); it is changed.
        grid: coordinates of the pixels, (2, height, width).
        center: center of the disk, (2,), in the same coordinates.
        size: radius in the same units; nothing is drawn below a thousandth.
        color: RGB from 0 to 1.
        opacity: opacity at the center, from 0 to 1.
    """
    if size < 1e-3:
        return
    squared = ((grid[0] - center[0]) ** 2 + (grid[1] - center[1]) ** 2) / size**2
    alpha = np.float32(opacity) * np.exp(-(squared.astype(np.float32) ** 2))
    pixels += alpha[..., None] * (np.array(color, np.float32) - pixels)
