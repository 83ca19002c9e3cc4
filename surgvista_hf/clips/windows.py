"""The clips of a stream of frames, each frame kept once: the online rule of `online_clip_indices` with a ring of frames."""

from collections.abc import Iterable, Iterator

import torch

from ..modeling.video_processing_surgvista import online_clip_indices


class ClipWindow:
    """A ring of the frames that later clips need.

    Args:
        num_frames: frames of a clip.
        frame_stride: frames between two frames of a clip.

    Example:
        >>> window = ClipWindow(num_frames=2, frame_stride=2)
        >>> [window.push(frame).tolist() for frame in torch.arange(4)]
        [[0, 0], [1, 1], [0, 2], [1, 3]]
    """

    def __init__(self, num_frames: int, frame_stride: int) -> None:
        self.num_frames, self.frame_stride = num_frames, frame_stride
        self._frames: dict[int, torch.Tensor] = {}
        self._next = 0

    def push(self, frame: torch.Tensor) -> torch.Tensor:
        """Takes the next frame of the video; gives the clip (num_frames, …) that ends with it."""
        number, self._next = self._next, self._next + 1
        self._frames[number] = frame
        self._frames.pop(number - (self.num_frames - 1) * self.frame_stride - 1, None)
        places = online_clip_indices(number, self.num_frames, self.frame_stride)
        return torch.stack([self._frames[place] for place in places])


def online_windows(frames: Iterable[torch.Tensor], num_frames: int, frame_stride: int) -> Iterator[torch.Tensor]:
    """The clip that ends with each frame; only what later clips need is kept.

    Args:
        frames: of one video, in order.
        num_frames, frame_stride: see `ClipWindow`.

    Yields:
        (num_frames, …), one for each frame.
    """
    window = ClipWindow(num_frames, frame_stride)
    yield from map(window.push, frames)
