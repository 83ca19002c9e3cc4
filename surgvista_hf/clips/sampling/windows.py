"""The clips of a stream of frames, each frame stored once: the online rule of `online_clip_seconds` with a ring of frames."""

from bisect import bisect_right

import torch

from ...modeling.video_processing_surgvista import TOLERANCE, online_clip_seconds
from ...util.errors import InputError


class ClipWindow:
    """A ring of the frames that later clips need.

    Args:
        num_frames: number of frames of a clip.
        frame_stride: seconds between two frames of a clip.
        frame_interval: seconds to whose multiples each moment is rounded down, as for `online_clip_seconds`.

    Example:
        >>> window = ClipWindow(num_frames=2, frame_stride=2)
        >>> [window.push(float(second), frame).tolist() for second, frame in enumerate(torch.arange(4))]
        [[0, 0], [1, 1], [0, 2], [1, 3]]
    """

    def __init__(self, num_frames: int, frame_stride: float, frame_interval: float | None = None) -> None:
        self.num_frames, self.frame_stride, self.frame_interval = num_frames, frame_stride, frame_interval
        self._reach = (num_frames - 1) * frame_stride + (frame_interval or 0.0)
        self._times: list[float] = []
        self._frames: list[torch.Tensor] = []

    def add(self, second: float, frame: torch.Tensor) -> None:
        """Take the next frame of the video, which is shown from `second` on.

        Raises:
            InputError: if the second is before that of the last frame.
        """
        if self._times and second < self._times[-1]:
            raise InputError(f"a frame of second {second:g} follows one of second {self._times[-1]:g}")
        self._times.append(second)
        self._frames.append(frame)
        # The frame shown at the earliest moment may have begun before it.
        old = bisect_right(self._times, second - self._reach + TOLERANCE) - 1
        if old > 0:
            del self._times[:old], self._frames[:old]

    def clip(self, second: float) -> torch.Tensor:
        """Return the clip (num_frames, …) that ends at a second, which is not before the newest frame."""
        moments = online_clip_seconds(second, self.num_frames, self.frame_stride, self.frame_interval)
        shown = [max(bisect_right(self._times, moment + TOLERANCE) - 1, 0) for moment in moments]
        return torch.stack([self._frames[index] for index in shown])

    def push(self, second: float, frame: torch.Tensor) -> torch.Tensor:
        """Take the next frame; return the clip that ends with it."""
        self.add(second, frame)
        return self.clip(second)
