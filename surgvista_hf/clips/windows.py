"""The clips of a stream of frames, each frame kept once: the online rule of `online_clip_indices` with a ring of frames."""

from collections.abc import Iterable, Iterator

import torch

from ..modeling.video_processing_surgvista import online_clip_indices


def online_windows(frames: Iterable[torch.Tensor], num_frames: int, frame_stride: int) -> Iterator[torch.Tensor]:
    """The clip that ends with each frame; only what later clips need is kept.

    Args:
        frames: of one video, in order.
        num_frames: frames of a clip.
        frame_stride: frames between two frames of a clip.

    Yields:
        (num_frames, …), one for each frame.

    Example:
        >>> [clip.tolist() for clip in online_windows(torch.arange(4), 2, 2)]
        [[0, 0], [1, 1], [0, 2], [1, 3]]
    """
    window: dict[int, torch.Tensor] = {}
    reach = (num_frames - 1) * frame_stride
    for number, frame in enumerate(frames):
        window[number] = frame
        window.pop(number - reach - 1, None)
        yield torch.stack([window[place] for place in online_clip_indices(number, num_frames, frame_stride)])
