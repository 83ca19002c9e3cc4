"""Synthetic surgery: rendered cholecystectomies whose phases, instruments, triplets, safety criteria and skill are known.

No patient is in these images. Demonstrations, tests and benchmarks use them where real data may not be shipped. The label
names are those of Cholec80 (phases), CholecT50 (instruments and triplets) and of the critical view of safety. Every frame and
label is a pure function of the seed and the time.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import av
import numpy as np
from PIL import Image, ImageDraw

from ...util.errors import InputError
from ...util.files import atomic_file
from ..schema.workflow import CHOLECYSTECTOMY_PHASES

PHASES = CHOLECYSTECTOMY_PHASES
INSTRUMENTS = ("grasper", "bipolar", "hook", "scissors", "clipper", "irrigator")
CVS_CRITERIA = ("two_structures", "hepatocystic_triangle_cleared", "cystic_plate_exposed")
SKILL_LEVELS = ("novice", "intermediate", "expert")
NUM_TRIPLETS = 100

# The triplets of CholecT50 that occur here: number -> instrument, verb, target.
TRIPLETS = {
    7: ("grasper", "grasp", "gallbladder"),
    12: ("grasper", "grasp", "specimen_bag"),
    13: ("grasper", "pack", "gallbladder"),
    17: ("grasper", "retract", "gallbladder"),
    19: ("grasper", "retract", "liver"),
    20: ("grasper", "retract", "omentum"),
    22: ("bipolar", "coagulate", "abdominal_wall_cavity"),
    29: ("bipolar", "coagulate", "liver"),
    47: ("hook", "coagulate", "cystic_artery"),
    52: ("hook", "coagulate", "liver"),
    58: ("hook", "dissect", "cystic_duct"),
    59: ("hook", "dissect", "cystic_plate"),
    60: ("hook", "dissect", "gallbladder"),
    61: ("hook", "dissect", "omentum"),
    68: ("scissors", "cut", "cystic_artery"),
    69: ("scissors", "cut", "cystic_duct"),
    78: ("clipper", "clip", "cystic_artery"),
    79: ("clipper", "clip", "cystic_duct"),
    82: ("irrigator", "aspirate", "fluid"),
    88: ("irrigator", "irrigate", "abdominal_wall_cavity"),
    90: ("irrigator", "irrigate", "liver"),
}

# What happens in each phase: (weight, triplets at once). Phases share activities: one frame does not always tell them apart.
_ACTIVITIES: tuple[tuple[tuple[float, tuple[int, ...]], ...], ...] = (
    ((3, (7,)), (3, (20,)), (2, (17,)), (2, (61, 17)), (1, ())),
    ((4, (58, 17)), (2, (61, 17)), (2, (47, 17)), (2, (17,)), (1, (82, 17))),
    ((4, (79, 17)), (3, (78, 17)), (2, (69, 17)), (2, (68, 17)), (1, (17,))),
    ((5, (60, 17)), (3, (59, 17)), (1, (52, 19)), (1, (17,)), (1, (29, 19))),
    ((4, (13,)), (3, (12,)), (2, (7,)), (1, ())),
    ((3, (29, 19)), (3, (82,)), (2, (90, 19)), (2, (88,)), (1, (22,)), (1, (19,))),
    ((4, (12,)), (2, (7,)), (1, ())),
)
_FRACTIONS = (0.10, 0.30, 0.10, 0.26, 0.07, 0.11, 0.06)  # of the operation, before variation
_SHAFTS = {  # colors of shaft and tip
    "grasper": ((150, 152, 158), (205, 207, 212)),
    "bipolar": ((60, 92, 150), (170, 185, 205)),
    "hook": ((38, 38, 42), (196, 160, 80)),
    "scissors": ((96, 100, 104), (222, 222, 226)),
    "clipper": ((186, 190, 180), (235, 238, 240)),
    "irrigator": ((120, 132, 128), (150, 160, 158)),
}
_Point = tuple[float, float]
_Color = tuple[int, int, int]


@dataclass(frozen=True)
class FrameLabels:
    """Labels at one time.

    Args:
        phase: number of the phase.
        instruments: shape (6,), 1 for each instrument in view.
        triplets: shape (100,), 1 for each action triplet, numbered as in CholecT50.
        cvs: shape (3,), 1 for each criterion of the critical view of safety that has been achieved.
        skill: skill level of the surgeon, 0-2.
    """

    phase: int
    instruments: np.ndarray
    triplets: np.ndarray
    cvs: np.ndarray
    skill: int


@dataclass(frozen=True)
class _Span:
    """A phase or an activity from `start` until before `end`, in seconds."""

    start: float
    end: float
    phase: int
    triplets: tuple[int, ...] = ()


@dataclass(frozen=True)
class RenderedOperation(ABC):
    """Base of rendered operations: a seed, the length, the size of a frame, and the frames at any time.

    Args:
        seed: seed of everything that happens and of how it looks.
        duration_seconds: length in seconds; at least 14, so that every phase fits.
        height, width: size of a frame in pixels.
        frames_per_second: frame rate of the video that `write_video` writes.

    Raises:
        InputError: the operation is too short, or the frames are too small.
    """

    seed: int
    duration_seconds: float = 120.0
    height: int = 240
    width: int = 320
    frames_per_second: float = field(default=25.0)

    def __post_init__(self) -> None:
        if self.duration_seconds < 2 * len(PHASES) or min(self.height, self.width) < 32 or self.frames_per_second <= 0:
            raise InputError(
                f"an operation of {self.duration_seconds} s with {self.height}×{self.width} pixels at "
                f"{self.frames_per_second} frames/s cannot be rendered; at least 14 s and 32×32 pixels are needed"
            )

    @property
    def num_frames(self) -> int:
        """Return the number of frames of the video."""
        return round(self.duration_seconds * self.frames_per_second)

    @property
    def skill(self) -> int:
        """Return the skill level of the surgeon, an index of `SKILL_LEVELS`."""
        return int(self._random("skill").integers(len(SKILL_LEVELS)))

    @abstractmethod
    def frame(self, second: float) -> np.ndarray:
        """Render the frame at a time in seconds: RGB, uint8, of shape (height, width, 3)."""

    def frames(self, seconds: Sequence[float]) -> Iterator[np.ndarray]:
        """Render the frames at several times in seconds, one after the other."""
        return (self.frame(second) for second in seconds)

    def _random(self, what: str, *keys: int) -> np.random.Generator:
        return seeded_generator(self.seed, what, *keys)


@dataclass(frozen=True)
class SyntheticOperation(RenderedOperation):
    """One rendered operation.

    Args:
        seed, duration_seconds, height, width, frames_per_second: arguments of `RenderedOperation`.

    Raises:
        InputError: the operation is too short, or the frames are too small.

    Example:
        >>> operation = SyntheticOperation(seed=1, duration_seconds=60)
        >>> operation.frame(30.0).shape
        (240, 320, 3)
        >>> PHASES[operation.labels(0.0).phase]
        'Preparation'
    """

    def labels(self, second: float) -> FrameLabels:
        """Return the labels at a time in seconds."""
        activity = self._activity(second)
        triplets = np.zeros(NUM_TRIPLETS, np.int64)
        triplets[list(activity.triplets)] = 1
        instruments = np.zeros(len(INSTRUMENTS), np.int64)
        instruments[[INSTRUMENTS.index(TRIPLETS[triplet][0]) for triplet in activity.triplets]] = 1
        cvs = (second >= self._cvs_seconds).astype(np.int64)
        return FrameLabels(activity.phase, instruments, triplets, cvs, self.skill)

    def frame(self, second: float) -> np.ndarray:
        """Render the frame at a time in seconds: RGB, uint8, of shape (height, width, 3)."""
        return _FrameRenderer(self, second).render()

    # ------------------------------------------------------------------------------------- what happens when

    @cached_property
    def _phases(self) -> tuple[_Span, ...]:
        """Draw the phases in their order; packaging and cleaning may be swapped, and cleaning may come twice."""
        random = self._random("phases")
        order = [0, 1, 2, 3, 5, 4, 6] if random.random() < 0.3 else [0, 1, 2, 3, 4, 5, 6]
        if random.random() < 0.25 and order[4] == 4:
            order.insert(4, 5)
        weights = np.array([_FRACTIONS[phase] for phase in order]) * random.uniform(0.6, 1.5, len(order))
        spare = self.duration_seconds - 1.5 * len(order)  # no phase is shorter than 1.5 s
        ends = np.cumsum(1.5 + spare * weights / weights.sum())
        starts = np.r_[0.0, ends[:-1]]
        return tuple(_Span(a, b, phase) for a, b, phase in zip(starts, ends, order, strict=True))

    @cached_property
    def _activities(self) -> tuple[_Span, ...]:
        """Draw what the instruments do, a few seconds each."""
        random = self._random("activities")
        spans = []
        for phase in self._phases:
            time = phase.start
            weights = np.array([weight for weight, _ in _ACTIVITIES[phase.phase]], float)
            while time < phase.end:
                chosen = random.choice(len(weights), p=weights / weights.sum())
                end = min(time + random.uniform(3, 9), phase.end)
                spans.append(_Span(time, end, phase.phase, _ACTIVITIES[phase.phase][chosen][1]))
                time = end
        return tuple(spans)

    @cached_property
    def _activity_starts(self) -> np.ndarray:
        return np.array([span.start for span in self._activities])

    def _activity(self, second: float) -> _Span:
        return self._activities[max(int(np.searchsorted(self._activity_starts, second, side="right")) - 1, 0)]

    def _progress(self, phase: int, second: float) -> float:
        """Return how far a phase has progressed: 0 before it, 1 after it, linear within its first occurrence."""
        span = next(span for span in self._phases if span.phase == phase)
        return float(np.clip((second - span.start) / (span.end - span.start), 0, 1))

    @cached_property
    def _cvs_seconds(self) -> np.ndarray:
        """Draw the second at which each criterion is achieved, of shape (3,); infinity if it never is.

        All lie in the dissection of Calot's triangle; unskilled surgeons miss more of them.
        """
        span = next(span for span in self._phases if span.phase == 1)
        random = self._random("cvs")
        fraction = np.sort(random.uniform(0.25, 0.95, 3))[random.permutation(3)]
        reached = random.random(3) < (0.6, 0.8, 0.95)[self.skill]
        return np.where(reached, span.start + fraction * (span.end - span.start), np.inf)

    # ------------------------------------------------------------------------------------- what it looks like

    @cached_property
    def _tissue(self) -> np.ndarray:
        """Draw a textured background of shape (1.3 height, 1.3 width, 3), float; its margin lets the camera move."""
        random = self._random("tissue")
        shape = (round(1.3 * self.height), round(1.3 * self.width))
        pattern = sum(
            weight * smooth_noise(random, shape, cells)
            for cells, weight in ((3, 0.5), (8, 0.3), (24, 0.15), (60, 0.1))
        )
        dark, bright = np.array([112, 34, 30]), np.array([226, 128, 108])
        tone = random.normal(0, 6, 3)
        return dark + (bright - dark) * np.asarray(pattern)[..., None] + tone

    @cached_property
    def _vignette(self) -> np.ndarray:
        """Return the brightness of the endoscope's round view, of shape (height, width, 1): 0 outside, darker at its edge."""
        y, x = np.mgrid[: self.height, : self.width]
        radius = np.hypot(x - self.width / 2, y - self.height / 2) / (0.56 * self.width)
        return (np.clip((1 - radius) / 0.02, 0, 1) * (1.08 - 0.55 * radius**2))[..., None].astype(np.float32)


class _FrameRenderer:
    """Renderer of one frame; coordinates are fractions of the width, from the upper left corner."""

    def __init__(self, operation: SyntheticOperation, second: float) -> None:
        self.operation, self.second = operation, second
        self.random = operation._random("frame", round(second * 1000))
        self.phase = operation._activity(second).phase
        self.breath = 0.006 * np.sin(2 * np.pi * second / 4.1) + 0.002 * np.sin(2 * np.pi * second * 1.2)
        self.dissected = operation._progress(1, second)
        self.detached = operation._progress(3, second)
        self.packed = operation._progress(4, second)
        self.retracted = operation._progress(6, second)
        self.aspect = operation.height / operation.width

    def render(self) -> np.ndarray:
        """Render the frame: RGB, uint8, of shape (height, width, 3)."""
        operation = self.operation
        self.image = Image.fromarray(np.clip(self._background(), 0, 255).astype(np.uint8))
        self.draw = ImageDraw.Draw(self.image)
        self._liver()
        if self.packed < 1:
            self._gallbladder()
        self._triangle()
        if self.packed > 0.15:
            self._bag()
        for hand, triplet in enumerate(operation._activity(self.second).triplets):
            self._instrument(*TRIPLETS[triplet][::2], hand)
        pixels = np.asarray(self.image, np.float32)
        pixels = self._atmosphere(pixels) * operation._vignette
        noise = self.random.normal(0, 2.5, (operation.height, operation.width, 1)).astype(np.float32)
        return np.clip(pixels + noise * (operation._vignette > 0), 0, 255).astype(np.uint8)

    # ------------------------------------------------------------------------------------- anatomy

    def _background(self) -> np.ndarray:
        """Crop the tissue as a slowly drifting camera sees it."""
        operation = self.operation
        start = operation._random("camera").uniform(0, 2 * np.pi, 2)
        drift = 0.5 + 0.4 * np.sin(start + self.second * np.array([0.11, 0.07]))
        margin = np.array(operation._tissue.shape[:2]) - (operation.height, operation.width)
        top, left = (margin * np.clip(drift + self.breath * 4, 0, 1)).astype(int)
        return operation._tissue[top : top + operation.height, left : left + operation.width]

    def _liver(self) -> None:
        self._polygon(
            [(-0.1, -0.1), (0.75, -0.1), (0.62, 0.12 + self.breath), (0.3, 0.26 + self.breath), (-0.1, 0.34)],
            (98, 36, 34),
        )
        if self.detached > 0:  # the bed from which the gallbladder is peeled
            self._ellipse((0.36, 0.27 + self.breath), (0.10 + 0.09 * self.detached, 0.05), (140, 52, 40))
        blood = self.operation._random("blood").uniform(0.2, 1) * (0.3 + (self.phase == 5))
        for spot in range(int(6 * blood * self.detached)):
            where = self.operation._random("spot", spot).uniform((0.25, 0.25), (0.6, 0.5))
            self._ellipse((float(where[0]), float(where[1])), (0.03, 0.016), (120, 8, 12))

    def _gallbladder(self) -> None:
        lift = 0.14 * self.detached
        center = (0.42 + 0.10 * self.detached, 0.36 - lift / 2 + self.breath)
        body = self.operation._random("organ").normal((122, 148, 96), 8)
        size = (0.17 * (1 - 0.35 * self.packed), 0.085 * (1 - 0.35 * self.packed))
        self._ellipse(center, size, _rgb(body * 0.75))
        self._ellipse((center[0] - 0.01, center[1] - 0.012), (size[0] * 0.86, size[1] * 0.8), _rgb(body))
        self._ellipse((center[0] - 0.05, center[1] - 0.035), (0.03, 0.012), (214, 226, 200))

    def _triangle(self) -> None:
        """Draw Calot's triangle: fat that is cleared, duct and artery that appear, clips, cut ends."""
        if self.packed > 0:
            return
        reached = self.second >= self.operation._cvs_seconds
        clipped, cut = self.operation._progress(2, self.second) > 0.3, self.operation._progress(2, self.second) > 0.7
        if reached[0] or self.dissected > 0.6:
            for bend, color, width in ((0.0, (176, 170, 104), 0.018), (0.05, (196, 70, 60), 0.012)):
                gap = 0.04 if cut else 0.0
                start, end = (0.56, 0.42 + bend), (0.70, 0.52 + bend)
                middle = (0.63, 0.47 + bend)
                self._line(start, (middle[0] - gap, middle[1] - gap * 0.7), width, color)
                self._line((middle[0] + gap, middle[1] + gap * 0.7), end, width, color)
                if clipped:
                    for shift in (-0.045, 0.045):
                        x, y = middle[0] + shift, middle[1] + shift * 0.7
                        self._line((x + 0.008, y - 0.016), (x - 0.008, y + 0.016), 0.009, (228, 230, 234))
        if reached[2]:
            self._ellipse((0.53, 0.34 + self.breath), (0.05, 0.025), (186, 168, 158))
        if not reached[1]:
            left = 1 - 0.6 * self.dissected
            for lump in range(int(14 * left)):
                where = self.operation._random("fat", lump).uniform((0.54, 0.36), (0.74, 0.58))
                size = float(self.operation._random("lump", lump).uniform(0.02, 0.045))
                self._ellipse((float(where[0]), float(where[1])), (size, size * 0.7), (222, 184, 96))

    def _bag(self) -> None:
        y = 0.44 - 0.25 * self.retracted
        corners = [(0.34, y), (0.62, y - 0.03), (0.66, y + 0.16), (0.48, y + 0.24), (0.32, y + 0.15)]
        self._polygon(corners, (206, 212, 216))
        self._line(corners[0], corners[1], 0.012, (90, 120, 190))
        for fold in (0.38, 0.46, 0.55):
            self._line((fold, y + 0.03), (fold + 0.03, y + 0.17), 0.004, (172, 180, 188))

    # ------------------------------------------------------------------------------------- instruments

    _TARGETS = {  # position of each target in the frame
        "gallbladder": (0.50, 0.33),
        "specimen_bag": (0.48, 0.46),
        "liver": (0.34, 0.24),
        "omentum": (0.60, 0.56),
        "abdominal_wall_cavity": (0.24, 0.50),
        "cystic_artery": (0.64, 0.52),
        "cystic_duct": (0.62, 0.46),
        "cystic_plate": (0.53, 0.35),
        "fluid": (0.44, 0.56),
    }

    def _instrument(self, name: str, target: str, hand: int) -> None:
        """Draw an instrument from the edge of the frame to its target; unskilled hands tremble and wander."""
        clumsiness = (0.020, 0.009, 0.003)[self.operation.skill]
        phase = self.operation._random("hand", hand).uniform(0, 2 * np.pi, 4)
        tremor = np.sin(phase[:2] + self.second * np.array([19.0, 23.0])) * clumsiness
        path = np.sin(phase[2:] + self.second * np.array([1.7, 2.3])) * (0.015 + clumsiness)
        tip = np.add(self._TARGETS[target], (0, self.breath)) + tremor + path
        entry = np.add([(1.05, 0.70), (-0.05, 0.62)][hand % 2], (0, 0.1 * np.sin(phase[0])))
        along = (tip - entry) / np.hypot(*(tip - entry))
        across = np.array([-along[1], along[0]])
        neck = tip - 0.09 * along
        shaft, metal = _SHAFTS[name]
        self._line(_point(entry), _point(neck), 0.042, shaft)
        self._line(_point(entry - 0.011 * across), _point(neck - 0.011 * across), 0.008, _rgb(np.add(shaft, 45)))
        opening = 0.02 + 0.012 * np.sin(self.second * 2 + phase[3])
        _TIPS[name](self, neck, along, across, opening, metal)

    def _jaws(
        self,
        neck: np.ndarray,
        along: np.ndarray,
        across: np.ndarray,
        opening: float,
        metal: _Color,
        length: float,
        width: float,
    ) -> None:
        for side in (-1, 1):
            self._line(_point(neck), _point(neck + length * along + side * opening * across), width, metal)

    def _grasper(self, neck: np.ndarray, along: np.ndarray, across: np.ndarray, opening: float, metal: _Color) -> None:
        self._jaws(neck, along, across, opening, metal, 0.09, 0.016)

    def _bipolar(self, neck: np.ndarray, along: np.ndarray, across: np.ndarray, opening: float, metal: _Color) -> None:
        self._jaws(neck, along, across, 0.6 * opening, metal, 0.10, 0.009)

    def _hook(self, neck: np.ndarray, along: np.ndarray, across: np.ndarray, opening: float, metal: _Color) -> None:
        tip = neck + 0.085 * along
        self._line(_point(neck), _point(tip), 0.010, metal)
        self._line(_point(tip), _point(tip + 0.028 * across), 0.010, metal)

    def _scissors(
        self, neck: np.ndarray, along: np.ndarray, across: np.ndarray, opening: float, metal: _Color
    ) -> None:
        for side in (-1, 1):
            blade = [
                neck,
                neck + 0.10 * along + side * 1.4 * opening * across,
                neck + 0.05 * along + side * 0.022 * across,
            ]
            self._polygon([_point(corner) for corner in blade], metal)

    def _clipper(self, neck: np.ndarray, along: np.ndarray, across: np.ndarray, opening: float, metal: _Color) -> None:
        for side in (-1, 1):
            start = neck + side * 0.020 * across
            self._line(_point(start), _point(start + 0.085 * along), 0.013, metal)
        self._line(_point(neck - 0.026 * across), _point(neck + 0.026 * across), 0.016, (120, 124, 130))

    def _irrigator(
        self, neck: np.ndarray, along: np.ndarray, across: np.ndarray, opening: float, metal: _Color
    ) -> None:
        tip = neck + 0.08 * along
        self._line(_point(neck), _point(tip), 0.030, metal)
        self._ellipse(_point(tip), (0.013, 0.013), (36, 36, 38))
        drops = self.random.uniform(-0.05, 0.05, (6, 2))
        for drop in drops:
            self._ellipse(_point(tip + 0.03 * along + drop), (0.005, 0.005), (206, 222, 232))

    # ------------------------------------------------------------------------------------- light and air

    def _atmosphere(self, pixels: np.ndarray) -> np.ndarray:
        """Add the smoke of hook and bipolar, the tint of irrigation, and the dimmer view while the bag is pulled out."""
        names = {TRIPLETS[triplet][0] for triplet in self.operation._activity(self.second).triplets}
        if names & {"hook", "bipolar"}:
            thickness = 0.10 + 0.08 * np.sin(self.second * 0.9 + self.operation.seed)
            pixels = pixels * (1 - thickness) + 198 * thickness
        if "irrigator" in names:
            pixels = pixels * np.array([0.97, 0.99, 1.03], np.float32)
        return pixels * (1 - 0.3 * self.retracted)

    # ------------------------------------------------------------------------------------- drawing in fractions

    def _scale(self, points: Sequence[_Point]) -> list[_Point]:
        # Points are given for a frame of 4:3 and squeezed vertically for wider ones.
        width, height = self.operation.width, self.operation.height
        return [(x * width, y * height / 0.75) for x, y in points]

    def _polygon(self, points: Sequence[_Point], color: _Color) -> None:
        self.draw.polygon(self._scale(points), fill=color)

    def _ellipse(self, center: _Point, radii: _Point, color: _Color) -> None:
        (x, y), width = center, radii
        self.draw.ellipse(
            [*self._scale([(x - width[0], y - width[1])])[0], *self._scale([(x + width[0], y + width[1])])[0]],
            fill=color,
        )

    def _line(self, start: _Point, end: _Point, width: float, color: _Color) -> None:
        self.draw.line(self._scale([start, end]), fill=color, width=max(round(width * self.operation.width), 1))


_TIPS = {
    "grasper": _FrameRenderer._grasper,
    "bipolar": _FrameRenderer._bipolar,
    "hook": _FrameRenderer._hook,
    "scissors": _FrameRenderer._scissors,
    "clipper": _FrameRenderer._clipper,
    "irrigator": _FrameRenderer._irrigator,
}


def seeded_generator(seed: int, what: str, *keys: int) -> np.random.Generator:
    """Return a generator whose numbers depend on the seed, on what they are for, and on further numbers.

    Args:
        seed: seed of an operation.
        what: name of the thing that is drawn.
        keys: further numbers, such as which one of several.
    """
    return np.random.default_rng([seed, *what.encode(), *keys])


def smooth_noise(random: np.random.Generator, shape: tuple[int, int], cells: int) -> np.ndarray:
    """Return smooth noise: random values on a coarse grid, enlarged by bicubic interpolation.

    Args:
        random: source of the values.
        shape: (height, width) of the result.
        cells: columns of the grid.

    Returns:
        Array of the given shape, float32, roughly in 0-1.
    """
    grid = Image.fromarray(random.random((max(cells * shape[0] // shape[1], 2), cells)).astype(np.float32))
    return np.asarray(grid.resize(shape[::-1], Image.Resampling.BICUBIC))


def _point(position: np.ndarray) -> _Point:
    return float(position[0]), float(position[1])


def _rgb(color: np.ndarray) -> _Color:
    red, green, blue = np.clip(color, 0, 255).astype(int)
    return int(red), int(green), int(blue)


def synthetic_corpus(
    num_operations: int,
    seed: int = 0,
    *,
    duration_seconds: float = 120.0,
    height: int = 240,
    width: int = 320,
    frames_per_second: float = 25.0,
) -> list[SyntheticOperation]:
    """Return operations with different seeds.

    Args:
        num_operations: number of operations.
        seed: seed of the corpus; corpora with different seeds have no operation in common.
        duration_seconds, height, width, frames_per_second: arguments of each `SyntheticOperation`.

    Returns:
        The operations; the first n are the same for every `num_operations`.
    """
    return [
        SyntheticOperation(
            int(np.random.SeedSequence([seed, number]).generate_state(1)[0]),
            duration_seconds=duration_seconds,
            height=height,
            width=width,
            frames_per_second=frames_per_second,
        )
        for number in range(num_operations)
    ]


class Rendering(Protocol):
    """A source of frames of one size at any time, which `write_video` can write."""

    @property
    def height(self) -> int:
        """Return the height of a frame in pixels."""

    @property
    def width(self) -> int:
        """Return the width of a frame in pixels."""

    @property
    def frames_per_second(self) -> float:
        """Return the frame rate of the video."""

    @property
    def num_frames(self) -> int:
        """Return the number of frames of the video."""

    def frame(self, second: float) -> np.ndarray:
        """Render the frame at a time in seconds: RGB, uint8, of shape (height, width, 3)."""


def write_video(operation: Rendering, path: str | os.PathLike[str], *, crf: int = 20) -> Path:
    """Write an operation as an H.264 video with a key frame every five seconds; the bytes are the same in every run.

    Args:
        operation: frames to write. Odd heights and widths lose a pixel: the usual color format needs even ones.
        path: file to write, whose suffix decides the container.
        crf: H.264's constant rate factor, 0-51; higher is coarser.

    Returns:
        `path`.
    """
    rate = Fraction(operation.frames_per_second).limit_denominator(1001)
    with atomic_file(path) as temporary, av.open(str(temporary), "w") as container:
        # x264's macroblock tree, and the number of threads, make its output differ from run to run.
        stream: Any = container.add_stream("libx264", rate=rate, options={"crf": str(crf), "x264-params": "mbtree=0"})
        stream.codec_context.thread_count = 1
        stream.width, stream.height, stream.pix_fmt = operation.width // 2 * 2, operation.height // 2 * 2, "yuv420p"
        stream.gop_size = max(round(5 * operation.frames_per_second), 1)
        for number in range(operation.num_frames):
            pixels = operation.frame(number / operation.frames_per_second)[: stream.height, : stream.width]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")))
        container.mux(stream.encode())
    return Path(path)
