"""Seconds that must not be shown: before and after the operation, and whenever it is cleaned, the camera films people."""

import bisect
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

from ...util.errors import InputError

SAME = 2e-3  # seconds: looks and frames that lie so close have one time; containers round to milliseconds


@dataclass(frozen=True, eq=False)
class OutOfBodyMask:
    """Which times of a video must not be shown: those near a look that saw the outside, and those that nobody looked at.

    A time is shown only if the looks before and after it both saw the inside and lie no further apart than `step`. What comes
    before the first look and after the last is hidden. Each look outside hides everything from the look before it to the look
    after it, and `margin` seconds more on both sides.

    Args:
        seconds: (looks,), times that were looked at.
        outside: (looks,), the probability that the camera is outside the patient; NaN counts as outside.
        threshold: probability from which a time is hidden.
        margin: seconds around what is hidden that are hidden too.
        step: longest time in seconds between two looks for what lies between them to be shown; infinity where every frame
            was looked at, so that there is nothing between, before and after the looks. By default one and a half times
            the usual (median) time between two looks.

    Raises:
        InputError: no look, other probabilities than looks, or a threshold, margin or step out of range.

    Example:
        >>> hidden = OutOfBodyMask(np.arange(5.0), np.array([0.9, 0.1, 0.1, 0.0, 0.2]), margin=0.0)
        >>> hidden.spans
        [(0.0, 1.0)]
        >>> hidden.covers(0.7), hidden.hides(1.0), hidden.hides(4.5)  # nobody looked after second 4
        (True, False, True)
    """

    seconds: np.ndarray
    outside: np.ndarray
    threshold: float = 0.5
    margin: float = 1.0
    step: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1 or not self.margin >= 0:
            raise InputError(f"threshold {self.threshold} must lie in 0 … 1, and margin {self.margin} not be negative")
        if self.step is not None and not self.step > 0:
            raise InputError(f"step {self.step} must be positive")
        if not len(self.seconds) or len(self.seconds) != len(self.outside):
            raise InputError(f"{len(self.seconds)} times were looked at with {len(self.outside)} answers")

    @cached_property
    def _looks(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the times in order, and whether each must be hidden."""
        seconds = np.asarray(self.seconds, np.float64)
        order = np.argsort(seconds, kind="stable")
        shown = np.asarray(self.outside)[order] < self.threshold
        return seconds[order], ~shown

    @cached_property
    def _usual(self) -> float:
        """The median time between two looks."""
        apart = np.diff(self._looks[0])
        return float(np.median(apart[apart > 0])) if (apart > 0).any() else 1.0

    @property
    def longest_step(self) -> float:
        """The longest time between two looks for which what lies between them may be shown, in seconds."""
        return 1.5 * self._usual if self.step is None else self.step

    @property
    def unseen_seconds(self) -> float:
        """How long the camera may have been outside between two looks without anybody noticing; 0 where all was looked at."""
        apart = np.diff(self._looks[0])
        return (
            0.0 if math.isinf(self.longest_step) else float(apart[apart <= self.longest_step + SAME].max(initial=0.0))
        )

    @cached_property
    def _outside_spans(self) -> list[tuple[float, float]]:
        """[start, end) around looks outside; they end at the next look that has another time."""
        seconds, outside = self._looks
        times = seconds[outside]
        before = np.searchsorted(seconds, times - SAME, side="left") - 1
        after = np.searchsorted(seconds, times + SAME, side="right")
        starts = np.where(before >= 0, seconds[before], times) - self.margin
        ends = np.append(seconds, seconds[-1] + self._usual)[after] + self.margin
        return _merged(zip(np.maximum(starts, 0.0).tolist(), ends.tolist(), strict=True))

    @cached_property
    def spans(self) -> list[tuple[float, float]]:
        """[start, end) in seconds of what is hidden between the first look and the last, in order."""
        seconds, _ = self._looks
        gaps = np.flatnonzero(np.diff(seconds) > self.longest_step + SAME)
        unseen = zip(seconds[gaps].tolist(), seconds[gaps + 1].tolist(), strict=True)
        end = float(seconds[-1]) + self._usual
        return [(a, min(b, end)) for a, b in _merged(sorted([*self._outside_spans, *unseen]))]

    def covers(self, second: float) -> bool:
        """Return whether a time must not be shown; also true where nobody has looked."""
        seconds, _ = self._looks
        if math.isinf(self.longest_step):
            second = float(np.clip(second, seconds[0], seconds[-1]))
        if not seconds[0] - SAME <= second <= seconds[-1] + SAME:
            return True
        after = int(np.searchsorted(seconds, second - SAME, side="left"))  # the next look, or the one of this time
        before = int(np.searchsorted(seconds, second + SAME, side="right")) - 1
        if after > before and seconds[after] - seconds[before] > self.longest_step + SAME:
            return True
        place = bisect.bisect_right(self._outside_spans, (second + SAME, math.inf)) - 1
        return place >= 0 and second < self._outside_spans[place][1]

    def redacted(self, pixels: np.ndarray, second: float) -> np.ndarray:
        """Return a picture (height, width, 3), uint8, as it may be shown: of hidden ones one color is left."""
        return blurred(pixels) if self.covers(second) else pixels


def _merged(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Join spans, sorted by their start, that touch or overlap."""
    merged: list[tuple[float, float]] = []
    for start, end in spans:
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def blurred(pixels: np.ndarray) -> np.ndarray:
    """Return what is left of a hidden picture: its mean color, everywhere.

    A coarse mosaic would keep the coarse shapes of the room, and many mosaics of a moving camera can be put together to a
    finer picture again. From one color nothing can be made.

    Args:
        pixels: (height, width, 3), uint8.

    Returns:
        The same shape.
    """
    mean = Image.fromarray(pixels).resize((1, 1), Image.Resampling.BOX)
    return np.broadcast_to(np.asarray(mean), pixels.shape).copy()
