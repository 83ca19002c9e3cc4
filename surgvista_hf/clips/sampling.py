"""Which frames make a clip: the published rules of SurgVISTA and their alternatives, as functions of numbers.

Indices count the frames of one video as stored in the frame set (one a second in the recipes).
"""

from collections.abc import Iterator

import numpy as np

from ..modeling.errors_surgvista import InputError
from ..modeling.video_processing_surgvista import online_clip_indices

RANDOM_STRIDE = -1  # each step is drawn from 1 … 5
DOUBLING_STRIDE = 0  # steps 1, 2, 4, 8, …
GROWING_STRIDE = -2  # steps 1, 2, 4, 6, 8, …


def online_indices(
    last: int, num_frames: int, frame_stride: int, generator: np.random.Generator | None = None
) -> list[int]:
    """Frames of the clip that ends with frame `last` and uses only the past, for every published stride.

    Going back from `last`, a step that would leave the video is not taken.

    Args:
        last: index of the labelled frame.
        num_frames: frames of a clip.
        frame_stride: frames between two frames of a clip if positive; -1: each step a fresh uniform 1 … 5; 0: steps 1, 2, 4,
            8, …; -2: steps 1, 2, 4, 6, ….
        generator: for stride -1.

    Returns:
        `num_frames` indices, ascending.

    Raises:
        InputError: a negative index, no frames, an unknown stride, or stride -1 without a generator.

    Example:
        >>> online_indices(100, 8, 0)
        [37, 37, 69, 85, 93, 97, 99, 100]
    """
    if frame_stride > 0:
        return online_clip_indices(last, num_frames, frame_stride)
    if last < 0 or num_frames < 1:
        raise InputError(f"no clip of {num_frames} frames ends at frame {last}")
    frame, frames = last, []
    for _, step in zip(range(num_frames), _special_steps(frame_stride, generator), strict=False):
        frames.append(frame)
        if frame >= step:
            frame -= step
    return frames[::-1]


def _special_steps(frame_stride: int, generator: np.random.Generator | None) -> Iterator[int]:
    if frame_stride == RANDOM_STRIDE:
        if generator is None:
            raise InputError("frame_stride -1 draws its steps: give a generator")
        while True:
            yield int(generator.integers(1, 6))
    if frame_stride not in (DOUBLING_STRIDE, GROWING_STRIDE):
        raise InputError(f"frame_stride is {frame_stride}; it must be positive, -1, 0 or -2")
    step = 1
    while True:
        yield step
        step = 2 * step if frame_stride == DOUBLING_STRIDE or step == 1 else step + 2


def centred_indices(centre: int, length: int, num_frames: int, frame_stride: int) -> list[int]:
    """Frames on both sides of frame `centre`, which stands at place `num_frames // 2` of the clip.

    As in the online rule, a step that would leave the video is not taken.

    Args:
        centre: index of the labelled frame.
        length: frames of the video.
        num_frames: frames of a clip.
        frame_stride: frames between two frames of a clip, at least 1.

    Returns:
        `num_frames` indices, ascending.

    Raises:
        InputError: `centre` outside the video, or a count or stride below 1.

    Example:
        >>> centred_indices(5, 12, 6, 2)
        [1, 1, 3, 5, 7, 9]
    """
    if not 0 <= centre < length or num_frames < 1 or frame_stride < 1:
        raise InputError(
            f"no clip of {num_frames} frames with stride {frame_stride} is centred at frame {centre} of {length}"
        )
    past = online_clip_indices(centre, num_frames // 2 + 1, frame_stride)
    steps_left = (length - 1 - centre) // frame_stride
    future = [centre + min(step, steps_left) * frame_stride for step in range(1, num_frames - num_frames // 2)]
    return past + future


def uniform_indices(length: int, num_frames: int, *, legacy: bool = False) -> list[int]:
    """Frames spread over a whole video; frames repeat where it is shorter than the clip.

    Args:
        length: frames of the video.
        num_frames: frames of a clip.
        legacy: the published rule: the first `num_frames` of every ⌊length / num_frames⌋-th frame, which never sees the tail;
            a shorter video is continued by its last frame. Otherwise the middles of `num_frames` equal parts.

    Returns:
        `num_frames` indices, ascending.

    Raises:
        InputError: a length or count below 1.

    Example:
        >>> uniform_indices(11, 4), uniform_indices(11, 4, legacy=True)
        ([1, 4, 6, 9], [0, 2, 4, 6])
    """
    if length < 1 or num_frames < 1:
        raise InputError(f"no clip of {num_frames} frames can be taken from a video of {length}")
    if legacy:
        stride = max(length // num_frames, 1)
        return [min(part * stride, length - 1) for part in range(num_frames)]
    return [(2 * part + 1) * length // (2 * num_frames) for part in range(num_frames)]
