"""Times that must not be shown: before and after an operation, and whenever it is cleaned, the camera films people."""

import bisect
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

from ...util.errors import InputError

TIME_TOLERANCE = 2e-3  # seconds: times that lie so close are the same; containers round to milliseconds


@dataclass(frozen=True, eq=False)
class OutOfBodyMask:
    """Times of a video that must not be shown, from the probabilities of a detector for some of its frames.

    A time may be shown only if the frames before and after it that were classified are both inside the patient and no more
    than `step` seconds apart. What comes before the first classified frame and after the last is masked. A frame outside the
    patient masks everything from the classified frame before it to the one after it, and `margin` seconds more on both sides.

    Args:
        seconds: (samples,) times of the frames that were classified.
        outside: (samples,) probabilities that the camera is outside the patient; NaN counts as outside.
        threshold: probability from which a frame is outside.
        margin: seconds before and after a masked stretch that are masked too.
        step: longest time in seconds between two classified frames for what lies between them to be shown; infinity where
            every frame was classified, so that there is nothing before, between and after them. By default one and a half
            times the median time between two classified frames.

    Raises:
        InputError: there is no frame, the number of probabilities differs, or a threshold, margin or step is out of range.

    Example:
        >>> mask = OutOfBodyMask(np.arange(5.0), np.array([0.9, 0.1, 0.1, 0.0, 0.2]), margin=0.0)
        >>> mask.spans
        [(0.0, 1.0)]
        >>> mask.covers(0.7), mask.covers(1.0), mask.covers(4.5)  # no frame after second 4 was classified
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
            raise InputError(
                f"a mask needs frames with a probability each; there are {len(self.seconds)} frames and {len(self.outside)} "
                "probabilities"
            )

    @cached_property
    def _samples(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the times in order, (samples,), and whether the camera is outside at each, (samples,) bool."""
        seconds = np.asarray(self.seconds, np.float64)
        order = np.argsort(seconds, kind="stable")
        shown = np.asarray(self.outside)[order] < self.threshold
        return seconds[order], ~shown  # NaN is not below the threshold, so it counts as outside

    @cached_property
    def _median_step(self) -> float:
        """Return the median time in seconds between two classified frames."""
        apart = np.diff(self._samples[0])
        return float(np.median(apart[apart > 0])) if (apart > 0).any() else 1.0

    @property
    def longest_step(self) -> float:
        """Return the longest time in seconds between two classified frames for what lies between them to be shown."""
        return 1.5 * self._median_step if self.step is None else self.step

    @property
    def unseen_seconds(self) -> float:
        """Return how many seconds the camera may have been outside unnoticed between two frames; 0 if all were classified."""
        apart = np.diff(self._samples[0])
        return (
            0.0
            if math.isinf(self.longest_step)
            else float(apart[apart <= self.longest_step + TIME_TOLERANCE].max(initial=0.0))
        )

    @cached_property
    def _outside_spans(self) -> list[tuple[float, float]]:
        """Return [start, end) around the frames outside; a span ends at the next classified frame that has another time."""
        seconds, outside = self._samples
        times = seconds[outside]
        before = np.searchsorted(seconds, times - TIME_TOLERANCE, side="left") - 1
        after = np.searchsorted(seconds, times + TIME_TOLERANCE, side="right")
        starts = np.where(before >= 0, seconds[before], times) - self.margin
        ends = np.append(seconds, seconds[-1] + self._median_step)[after] + self.margin
        return _merge_spans(zip(np.maximum(starts, 0.0).tolist(), ends.tolist(), strict=True))

    @cached_property
    def spans(self) -> list[tuple[float, float]]:
        """Return [start, end) in seconds of what is masked between the first and the last classified frame, in order."""
        seconds, _ = self._samples
        gaps = np.flatnonzero(np.diff(seconds) > self.longest_step + TIME_TOLERANCE)
        unseen = zip(seconds[gaps].tolist(), seconds[gaps + 1].tolist(), strict=True)
        end = float(seconds[-1]) + self._median_step
        return [(a, min(b, end)) for a, b in _merge_spans(sorted([*self._outside_spans, *unseen]))]

    def covers(self, second: float) -> bool:
        """Return whether a time in seconds must not be shown, which is so too where no frame was classified."""
        seconds, _ = self._samples
        if math.isinf(self.longest_step):
            second = float(np.clip(second, seconds[0], seconds[-1]))
        if not seconds[0] - TIME_TOLERANCE <= second <= seconds[-1] + TIME_TOLERANCE:
            return True
        # The next frame, or the one of this time.
        after = int(np.searchsorted(seconds, second - TIME_TOLERANCE, side="left"))
        before = int(np.searchsorted(seconds, second + TIME_TOLERANCE, side="right")) - 1
        if after > before and seconds[after] - seconds[before] > self.longest_step + TIME_TOLERANCE:
            return True
        # The last span that begins before it.
        last = bisect.bisect_right(self._outside_spans, (second + TIME_TOLERANCE, math.inf)) - 1
        return last >= 0 and second < self._outside_spans[last][1]

    def redacted(self, pixels: np.ndarray, second: float) -> np.ndarray:
        """Return an image (height, width, 3), uint8, as it may be shown: of a masked one only its mean color is left."""
        return blurred(pixels) if self.covers(second) else pixels


def _merge_spans(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Join spans, sorted by their start, that touch or overlap."""
    merged: list[tuple[float, float]] = []
    for start, end in spans:
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def blurred(pixels: np.ndarray) -> np.ndarray:
    """Return an image in which every pixel has the mean color of the original.

    A mosaic would keep the coarse shapes of the operating room, and a sharper image can be computed from many mosaics of a
    moving camera. From one color nothing can be recovered.

    Args:
        pixels: image (height, width, 3), uint8.

    Returns:
        An image of the same shape.
    """
    mean = Image.fromarray(pixels).resize((1, 1), Image.Resampling.BOX)
    return np.broadcast_to(np.asarray(mean), pixels.shape).copy()
