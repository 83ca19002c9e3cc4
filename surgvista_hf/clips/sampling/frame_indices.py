"""The moments of a clip: the published rules of SurgVISTA and their alternatives, as functions of numbers.

Moments are seconds from the start of a video. The published programs count the frames of a list at one frame a second, where
an index is a second; whole numbers therefore stay whole.
"""

import math
from collections.abc import Iterator

import numpy as np

from ...modeling.video_processing_surgvista import TOLERANCE, online_clip_seconds
from ...util.errors import InputError

RANDOM_STRIDE = -1  # each step is drawn from 1 … 5 seconds
DOUBLING_STRIDE = 0  # steps of 1, 2, 4, 8, … seconds
GROWING_STRIDE = -2  # steps of 1, 2, 4, 6, 8, … seconds
SPECIAL_STRIDES = (RANDOM_STRIDE, DOUBLING_STRIDE, GROWING_STRIDE)
_LONGEST_RANDOM_STEP = 5


def online_seconds(
    last: float, num_frames: int, frame_stride: float, generator: np.random.Generator | None = None
) -> list[float]:
    """Return the moments of the clip that ends at a second and uses only the past, for every published stride.

    Going back from `last`, a step that would leave the video is not taken.

    Args:
        last: second of the labeled frame.
        num_frames: number of frames of a clip.
        frame_stride: seconds between two frames of a clip if positive; with -1 each step is a new uniform draw from 1 … 5 s,
            with 0 the steps are 1, 2, 4, 8, … s, with -2 they are 1, 2, 4, 6, … s.
        generator: source of the random steps of stride -1.

    Returns:
        `num_frames` seconds, ascending.

    Raises:
        InputError: if the second is negative, there are no frames, the stride is unknown, or stride -1 has no generator.

    Example:
        >>> online_seconds(100, 8, 0)
        [37, 37, 69, 85, 93, 97, 99, 100]
    """
    if frame_stride > 0:
        return online_clip_seconds(last, num_frames, frame_stride)
    if last < 0 or num_frames < 1:
        raise InputError(f"no clip of {num_frames} frames ends at second {last}")
    second, seconds = last, []
    for _, step in zip(range(num_frames), _special_steps(frame_stride, generator), strict=False):
        seconds.append(second)
        if second >= step - TOLERANCE:
            second = max(second - step, 0)
    return seconds[::-1]


def _special_steps(frame_stride: float, generator: np.random.Generator | None) -> Iterator[int]:
    if frame_stride == RANDOM_STRIDE:
        if generator is None:
            raise InputError("frame_stride -1 draws its steps: give a generator")
        while True:
            yield int(generator.integers(1, _LONGEST_RANDOM_STEP + 1))
    if frame_stride not in (DOUBLING_STRIDE, GROWING_STRIDE):
        raise InputError(f"frame_stride is {frame_stride}; it must be positive, -1, 0 or -2")
    step = 1
    while True:
        yield step
        step = 2 * step if frame_stride == DOUBLING_STRIDE or step == 1 else step + 2


def smallest_step(frame_stride: float) -> float:
    """Return the shortest time between two frames of a clip, in seconds; the special strides count whole seconds."""
    return frame_stride if frame_stride > 0 else 1.0


def longest_reach(num_frames: int, frame_stride: float) -> float:
    """Return how many seconds before its last frame an online clip can begin.

    Example:
        >>> longest_reach(16, 4), longest_reach(4, 0.2), longest_reach(4, -1), longest_reach(4, 0), longest_reach(4, -2)
        (60, 0.6000000000000001, 15, 8, 10)
    """
    steps = num_frames - 1
    spans = {
        RANDOM_STRIDE: _LONGEST_RANDOM_STEP * steps,
        DOUBLING_STRIDE: 2**steps,
        GROWING_STRIDE: 1 + steps * steps,
    }
    return spans.get(frame_stride, frame_stride * steps)  # type: ignore[call-overload]


def centered_seconds(center: float, last: float, num_frames: int, frame_stride: float) -> list[float]:
    """Return moments on both sides of a second, which has the index `num_frames // 2` in the clip.

    As in the online rule, a step that would leave the video is not taken.

    Args:
        center: second of the labeled frame.
        last: second of the last frame of the video.
        num_frames: number of frames of a clip.
        frame_stride: seconds between two frames of a clip.

    Returns:
        `num_frames` seconds, ascending.

    Raises:
        InputError: if `center` is outside the video, the count is below 1 or the stride is not positive.

    Example:
        >>> centered_seconds(5, 11, 6, 2)
        [1, 1, 3, 5, 7, 9]
    """
    if not 0 <= center <= last or num_frames < 1 or not frame_stride > 0:
        raise InputError(
            f"no clip of {num_frames} frames with stride {frame_stride} is centered at second {center} of {last}"
        )
    past = online_clip_seconds(center, num_frames // 2 + 1, frame_stride)
    steps_left = math.floor((last - center + TOLERANCE) / frame_stride)
    future = [
        round(center + min(step, steps_left) * frame_stride, 9) for step in range(1, num_frames - num_frames // 2)
    ]
    return past + future


def uniform_indices(length: int, num_frames: int, *, legacy: bool = False) -> list[int]:
    """Return frames spread over a whole video of evenly spaced frames; they repeat where it is shorter than the clip.

    Args:
        length: number of frames of the video.
        num_frames: number of frames of a clip.
        legacy: use the published rule: the first `num_frames` of every ⌊length / num_frames⌋-th frame, which never includes
            the end of the video; a shorter video is continued by its last frame. Otherwise the middles of `num_frames` equal
            parts are taken.

    Returns:
        `num_frames` indices, ascending.

    Raises:
        InputError: if the length or the count is below 1.

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
