"""The times of the frames of a frame set: from moments in seconds to frames.

Most videos have evenly spaced frames, for which two numbers are stored; the times of others are stored one by one. Clips count
the seconds of the video. Only where a frame set left frames out on purpose (those without a label, or that show no surgery) do
its clips bridge the gap, as published programs do: there the time of the gap does not count.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import overload

import datasets
import numpy as np
import pyarrow.compute as pc

from ...modeling.video_processing_surgvista import TOLERANCE, uniform_clip_seconds
from ...util.gaps import bridged_sources
from .frame_indices import smallest_step, uniform_indices
from .index import ClipIndex, FrameSetError, column_batches

FIRST_STEPS = 32  # steps at a video's start, of which the median is the usual step
_GAP = 1.5  # a step this many times as long as the usual one is a gap
_EVEN = 0.05  # frames are evenly spaced if none is further from its expected time than this fraction of a step
_COARSE = 1.05  # frames may be this many times as far apart as those of a clip


@dataclass(frozen=True, eq=False)
class Timeline:
    """The moments of the frames of every video, in seconds from its first frame.

    Args:
        lengths: (videos,) number of frames.
        intervals: (videos,) seconds between two frames; NaN where a video has only one.
        uneven: times (frames,) of the videos whose frames are not evenly spaced, by the index of the video.

    Example:
        >>> timeline = Timeline.from_frame_set(frame_set, index)  # doctest: +SKIP
        >>> timeline.frames(0, [8.0, 12.0, 16.0])  # doctest: +SKIP
        [40, 60, 80]
    """

    lengths: np.ndarray
    intervals: np.ndarray
    uneven: dict[int, np.ndarray] = field(default_factory=dict)

    @classmethod
    def from_frame_set(cls, frame_set: datasets.Dataset, index: ClipIndex) -> "Timeline":
        """Read the column `timestamp` once.

        Raises:
            FrameSetError: if times are missing or do not ascend in a video.
        """
        times, bridged = frame_times(frame_set, index), bridged_sources(frame_set.info.description)
        usual = {
            number: _usual_of_source(times, index, number)
            for number, name in enumerate(index.source_names)
            if name in bridged
        }
        intervals, uneven = np.full(len(index.starts), math.nan), {}
        for video, (start, length) in enumerate(zip(index.starts, index.lengths, strict=True)):
            if length == 1:
                continue
            own = times[start : start + length].astype(np.float64) - float(times[start])
            if index.sources[video] in usual:
                own = bridge(own, usual[int(index.sources[video])])
            intervals[video], is_even = _spacing(own)
            if not is_even:
                uneven[video] = own
        return cls(index.lengths, intervals, uneven)

    @classmethod
    def of_video(cls, times: np.ndarray) -> "Timeline":
        """Return the timeline of one video from the seconds (frames,) of its frames."""
        own = times - times[0]
        interval, is_even = _spacing(own) if len(own) > 1 else (math.nan, True)
        return cls(np.array([len(own)]), np.array([interval]), {} if is_even else {0: own})

    @property
    def interval(self) -> float | None:
        """Return the seconds between two frames where all videos have the same spacing; `None` where they differ."""
        known = self.intervals[np.isfinite(self.intervals)]
        if self.uneven or not len(known) or np.ptp(known) > _EVEN * known[0]:
            return None
        return round(float(np.median(known)), 6)

    def second(self, video: int, frame: int) -> float:
        """Return the moment of a frame in its video."""
        if video in self.uneven:
            return float(self.uneven[video][frame])
        return frame * float(self.intervals[video]) if frame else 0.0

    def last_second(self, video: int) -> float:
        """Return the moment of the last frame of a video."""
        return self.second(video, int(self.lengths[video]) - 1)

    def frames(self, video: int, seconds: Sequence[float]) -> list[int]:
        """Return the frames of a video that are shown at these moments: for each the last one that begins until then."""
        if video in self.uneven:
            shown = np.searchsorted(self.uneven[video], np.asarray(seconds) + TOLERANCE, side="right") - 1
            return np.maximum(shown, 0).tolist()
        if self.lengths[video] == 1:
            return [0] * len(seconds)
        interval, last = float(self.intervals[video]), int(self.lengths[video]) - 1
        return [min(max(math.floor((second + TOLERANCE) / interval), 0), last) for second in seconds]

    def spread(self, video: int, num_frames: int) -> list[int]:
        """Return the frames shown in the middles of equal parts of a video."""
        if video not in self.uneven:
            return uniform_indices(int(self.lengths[video]), num_frames)
        duration = self.last_second(video) + float(self.intervals[video])
        return self.frames(video, uniform_clip_seconds(duration, num_frames))

    def check_stride(self, frame_stride: float, index: ClipIndex) -> None:
        """Check that the frames of every video are as near to each other as a clip needs them.

        Raises:
            FrameSetError: if the frames of a video are further apart than those of a clip.
        """
        coarse = np.flatnonzero(is_coarse(self.intervals, frame_stride))
        if len(coarse):
            video = int(coarse[0])
            name = f"{index.source_names[index.sources[video]]}/{index.video_ids[video]}"
            raise coarse_frames(name, float(self.intervals[video]), frame_stride)


def _spacing(times: np.ndarray) -> tuple[float, bool]:
    """Return the seconds between two frames of a video, and whether its frames are evenly spaced."""
    interval = float(times[-1]) / (len(times) - 1)
    if interval > 0 and np.abs(times - np.arange(len(times)) * interval).max() <= _EVEN * interval:
        return interval, True
    return float(np.median(np.diff(times))), False


def coarse_frames(video: str, interval: float, frame_stride: float) -> FrameSetError:
    """Return the error for a video whose frames are further apart than those of a clip."""
    step = smallest_step(frame_stride)
    return FrameSetError(
        f"the frames of {video} are {interval:g} s apart, those of a clip {step:g} s (frame_stride {frame_stride:g}, in "
        f"seconds): prepare the frame set with --frames-per-second {1 / step:g} or more, or set frame_stride to {interval:g} "
        "or more"
    )


def is_coarse(interval: float | np.ndarray, frame_stride: float) -> bool | np.ndarray:
    """Return whether frames that are `interval` seconds apart, a number or an array, are too few for clips of a stride."""
    return interval > _COARSE * smallest_step(frame_stride)


def bridge(times: np.ndarray, usual: float) -> np.ndarray:
    """Return times, (frames,) seconds, in which every gap is as long as the usual step.

    Example:
        >>> bridge(np.array([0.0, 1.0, 9.0, 10.0]), 1.0)
        array([0., 1., 2., 3.])
    """
    return np.concatenate([[0.0], np.cumsum(bridged_step(np.diff(times), usual))])


@overload
def bridged_step(step: float, usual: float) -> float: ...
@overload
def bridged_step(step: np.ndarray, usual: float) -> np.ndarray: ...
def bridged_step(step: float | np.ndarray, usual: float) -> float | np.ndarray:
    """Return a step in seconds, a number or an array, where a gap counts as the usual step."""
    return np.where(step > _GAP * usual, usual, step)


def _usual_of_source(times: np.ndarray, index: ClipIndex, source: int) -> float:
    """Return the usual step, in seconds, of the videos of a source."""
    steps = [
        np.diff(times[start : start + min(length, FIRST_STEPS + 1)])
        for start, length, own in zip(index.starts, index.lengths, index.sources, strict=True)
        if own == source and length > 1
    ]
    return float(np.median(np.concatenate(steps))) if steps else 1.0


def frame_times(frame_set: datasets.Dataset, index: ClipIndex, *, distinct: bool = False) -> np.ndarray:
    """Return the time of each row, (rows,) fp32 seconds, ascending in each video.

    Args:
        frame_set: frame set with the column `timestamp`.
        index: index of the frame set.
        distinct: refuse two frames of the same time, which recorders sometimes write.

    Raises:
        FrameSetError: if times are missing or go back.
    """
    parts = [pc.fill_null(table["timestamp"], math.nan) for _, table in column_batches(frame_set, ("timestamp",))]
    times = np.concatenate([part.to_numpy() for part in parts]).astype(np.float32)
    steps = np.diff(times, prepend=-np.inf)
    rising = steps > 0 if distinct else steps >= 0
    rising[index.starts] = np.isfinite(times[index.starts])
    if not rising.all():
        row = int(np.flatnonzero(~rising)[0])
        video, frame = index.locate(row)
        raise FrameSetError(
            f"frame {frame} of video {index.video_ids[video]} is at {times[row]} seconds; times must ascend in a video"
        )
    return times
