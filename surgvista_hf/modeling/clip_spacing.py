"""The moments of a video that the clips of a model need. Imports nothing that decodes or computes, for guarded processes."""

import heapq
import itertools
import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_SAME = 1e-6  # seconds


class ClipSpacing(NamedTuple):
    """The spacing of a model's clips, one of which ends at every whole second; see `online_clip_seconds`.

    Args:
        num_frames: frames of a clip.
        frame_stride: seconds between two frames.
        frame_interval: seconds between the frames of the training's frame set, where clips hold the last frame of such a set
            before each moment; `None`: clips hold the frames at the moments themselves.
    """

    num_frames: int
    frame_stride: float
    frame_interval: float | None = None

    @property
    def is_whole(self) -> bool:
        """Return whether the clips hold frames of whole seconds only."""
        return self.num_frames == 1 or (self.frame_interval in (None, 1) and self.frame_stride % 1 == 0)

    @property
    def step(self) -> float:
        """Return how many seconds the frames of a stream may be apart at most."""
        return 1.0 if self.is_whole else min(self.frame_stride, self.frame_interval or math.inf, 1.0)

    def seconds(self) -> Iterator[float]:
        """Return the moments of all clips that end at second 0, 1, 2, …: ascending, without end, whole seconds among them.

        Example:
            >>> list(itertools.islice(ClipSpacing(3, 0.4).seconds(), 7))
            [0.0, 0.2, 0.6, 1.0, 1.2, 1.6, 2.0]
        """
        whole = map(float, itertools.count())
        if self.is_whole:
            return whole
        if self.frame_interval is not None:
            interval = self.frame_interval
            return needed_seconds([whole, (round(number * interval, 9) for number in itertools.count())])
        offsets = sorted({round(-step * self.frame_stride % 1, 9) % 1 for step in range(self.num_frames)})
        return (round(second + offset, 9) for second in itertools.count() for offset in offsets)


def needed_seconds(moments: Iterable[Iterator[float]]) -> Iterator[float]:
    """Merge ascending moments, e.g. of several models; what two of them need comes once.

    Example:
        >>> list(needed_seconds([iter([0.0, 1.0]), iter([0.0, 0.5, 1.0])]))
        [0.0, 0.5, 1.0]
    """
    last = -math.inf
    for second in heapq.merge(*moments):
        if second > last + _SAME:
            yield second
            last = second
