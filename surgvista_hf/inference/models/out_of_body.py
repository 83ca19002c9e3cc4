"""Seconds that must not be shown: before and after the operation, and whenever it is cleaned, the camera films people.

Any classifier that this package trains and that has a class for the outside is a detector; `surgvista finetune out_of_body`
trains a small one. No detector is perfect, and one trained on rendered pictures has never seen a real room.
"""

import bisect
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image

from ...modeling.video_reading_surgvista import VideoReader
from ...util.batches import batched
from ...util.console import track
from ...util.errors import InputError
from .clip_model import ClipModel

OUTSIDE = ("outside", "out_of_body", "out of body", "non_surgical", "non-surgical")
_AT_ONCE = 32
_SAME = 2e-3  # seconds: looks and frames that lie so close have one time; containers round to milliseconds


@dataclass(frozen=True, eq=False)
class HiddenSeconds:
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
        >>> hidden = HiddenSeconds(np.arange(5.0), np.array([0.9, 0.1, 0.1, 0.0, 0.2]), margin=0.0)
        >>> hidden.spans
        [(0.0, 1.0)]
        >>> hidden.hides(0.7), hidden.hides(1.0), hidden.hides(4.5)  # nobody looked after second 4
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
        """Times in order, and whether each must be hidden."""
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
            0.0 if math.isinf(self.longest_step) else float(apart[apart <= self.longest_step + _SAME].max(initial=0.0))
        )

    @cached_property
    def _outside_spans(self) -> list[tuple[float, float]]:
        """[start, end) around looks outside; they end at the next look that has another time."""
        seconds, outside = self._looks
        times = seconds[outside]
        before = np.searchsorted(seconds, times - _SAME, side="left") - 1
        after = np.searchsorted(seconds, times + _SAME, side="right")
        starts = np.where(before >= 0, seconds[before], times) - self.margin
        ends = np.append(seconds, seconds[-1] + self._usual)[after] + self.margin
        return _merged(zip(np.maximum(starts, 0.0).tolist(), ends.tolist(), strict=True))

    @cached_property
    def spans(self) -> list[tuple[float, float]]:
        """[start, end) in seconds of what is hidden between the first look and the last, in order."""
        seconds, _ = self._looks
        gaps = np.flatnonzero(np.diff(seconds) > self.longest_step + _SAME)
        unseen = zip(seconds[gaps].tolist(), seconds[gaps + 1].tolist(), strict=True)
        end = float(seconds[-1]) + self._usual
        return [(a, min(b, end)) for a, b in _merged(sorted([*self._outside_spans, *unseen]))]

    def hides(self, second: float) -> bool:
        """Return whether a time must not be shown; also true where nobody has looked."""
        seconds, _ = self._looks
        if math.isinf(self.longest_step):
            second = float(np.clip(second, seconds[0], seconds[-1]))
        if not seconds[0] - _SAME <= second <= seconds[-1] + _SAME:
            return True
        after = int(np.searchsorted(seconds, second - _SAME, side="left"))  # the next look, or the one of this time
        before = int(np.searchsorted(seconds, second + _SAME, side="right")) - 1
        if after > before and seconds[after] - seconds[before] > self.longest_step + _SAME:
            return True
        place = bisect.bisect_right(self._outside_spans, (second + _SAME, math.inf)) - 1
        return place >= 0 and second < self._outside_spans[place][1]

    def veiled(self, pixels: np.ndarray, second: float) -> np.ndarray:
        """Return a picture (height, width, 3), uint8, as it may be shown: of hidden ones one color is left."""
        return blurred(pixels) if self.hides(second) else pixels


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


class OutOfBodyDetector:
    """Says of each picture how probable it is that the camera is outside the patient.

    Every picture is judged by itself: history would make it late. A model of several frames sees it several times.

    Args:
        model: a classifier with a class for the outside, see `OUTSIDE`.
        threshold, margin: see `HiddenSeconds`.
        looks_per_second: how often to look at a video; `None`: at every frame. A camera that is outside for no longer than
            lies between two looks may be missed.

    Raises:
        InputError: no class of the model means the outside, or a setting out of range.

    Example:
        >>> detector = OutOfBodyDetector.load("runs/out_of_body/model")  # doctest: +SKIP
        >>> detector.look(frames)  # doctest: +SKIP
        array([0.98, 0.03], dtype=float32)
    """

    def __init__(
        self,
        model: ClipModel,
        *,
        threshold: float = 0.5,
        margin: float = 1.0,
        looks_per_second: float | None = None,
    ) -> None:
        if looks_per_second is not None and not looks_per_second > 0:
            raise InputError(f"{looks_per_second} looks a second are none; give a positive number")
        self.model, self.threshold, self.margin = model, threshold, margin
        self.looks_per_second = looks_per_second
        self.classes = [number for number, name in enumerate(model.class_names) if name.lower() in OUTSIDE]
        if not self.classes:
            raise InputError(
                f"no class of {model.source} means that the camera is outside: it knows {', '.join(model.class_names)}; a "
                f"detector has one of {', '.join(OUTSIDE)}"
            )
        self.hidden(np.zeros(1), np.zeros(1))  # threshold and margin are known to be right before a video is read

    @classmethod
    def load(
        cls,
        name: str | os.PathLike[str],
        *,
        threshold: float = 0.5,
        margin: float = 1.0,
        looks_per_second: float | None = None,
        device: str | torch.device | None = None,
    ) -> "OutOfBodyDetector":
        """Load a detector from a folder or the Hub.

        Raises:
            InputError: no classifier can be loaded, or it is no detector.
        """
        model = ClipModel.load(name, device=device)
        return cls(model, threshold=threshold, margin=margin, looks_per_second=looks_per_second)

    def facts(self) -> dict[str, Any]:
        """Return what its answers depend on, as JSON can hold it."""
        return {
            "model": self.model.source,
            "threshold": self.threshold,
            "margin": self.margin,
            "looks_per_second": self.looks_per_second,
        }

    def look(self, images: np.ndarray) -> np.ndarray:
        """Probabilities (frames,) that pictures (frames, height, width, 3), uint8, are from outside."""
        frames = self.model.prepare(images)
        clips = frames[:, None].expand(-1, self.model.num_frames, -1, -1, -1)
        probabilities = self.model.run(clips)[0][:, self.classes]
        return np.asarray(probabilities.max(axis=1) if self.model.multi_label else probabilities.sum(axis=1))

    def hidden(self, seconds: np.ndarray, outside: np.ndarray, step: float | None = None) -> HiddenSeconds:
        """Return what its answers hide; arguments are those of `HiddenSeconds`."""
        return HiddenSeconds(seconds, outside, self.threshold, self.margin, step)

    def watch(self, frames: Iterable[tuple[float, np.ndarray]]) -> HiddenSeconds:
        """Look at frames in order: at all of them, or `looks_per_second`; at the first and the last in any case.

        Args:
            frames: times in seconds and pictures, as `VideoReader.iterate` gives them.

        Raises:
            InputError: there are no frames.
        """
        rate = self.looks_per_second
        seconds: list[float] = []
        outside: list[np.ndarray] = []
        for chunk in batched(frames if rate is None else _thinned(frames, 1 / rate), _AT_ONCE):
            seconds += [second for second, _ in chunk]
            outside.append(self.look(np.stack([image for _, image in chunk])))
        if not seconds:
            raise InputError("there are no frames to look at")
        return self.hidden(np.asarray(seconds), np.concatenate(outside), None if rate is None else 1 / rate)


def watch_video(
    detector: OutOfBodyDetector,
    reader: VideoReader,
    *,
    start: float = 0.0,
    stop: float | None = None,
    progress: bool = False,
) -> HiddenSeconds:
    """Show a detector every frame of a video, the last one included.

    Args:
        detector: what looks, at as many frames as it was told to.
        reader: the open video.
        start, stop: seconds, for a part of it.
        progress: show a progress bar.

    Returns:
        What must not be shown. Where the detector looked at every frame, nothing in the video is unseen.

    Raises:
        VideoReadError: the video cannot be decoded.
    """
    shown = 0

    def every_frame() -> Iterator[tuple[float, np.ndarray]]:
        nonlocal shown
        frames, total = reader.iterate(None, start=start, stop=stop), reader.info.num_frames or None
        for frame in track(frames, "looking for the outside", total=total, unit="frames", shown=progress):
            shown += 1
            yield frame

    hidden = detector.watch(every_frame())
    return replace(hidden, step=math.inf) if len(hidden.seconds) == shown else hidden


def _thinned(frames: Iterable[tuple[float, np.ndarray]], step: float) -> Iterator[tuple[float, np.ndarray]]:
    """Yield the first frame, the last, and as few as possible between, so that no two are further apart than `step`."""
    last, waiting = -math.inf, None
    for frame in frames:
        if waiting is not None and frame[0] > last + step + _SAME:
            last = waiting[0]
            yield waiting
        waiting = frame
        if frame[0] >= last + step - _SAME:
            last, waiting = frame[0], None
            yield frame
    if waiting is not None:
        yield waiting
