"""What the stages of curation do with one video: pure functions of its pictures and of decisions about its seconds.

The rules are those of the Surg-3M pipeline (arXiv 2503.19740) with its faults mended: times are seconds, not counted frames; a
video without surgical content is an outcome of its own; nothing holds a whole video in memory.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.fft import dctn

from ..modeling.errors_surgvista import InputError
from ..modeling.video_reading_surgvista import VideoReader

STORYBOARD_SIDE = 384  # pixels
_TILES = 4  # a side
_HASH_SIDE, _HASH_BITS = 32, 8


def storyboard(video: str | Path) -> np.ndarray:
    """A video at one glance: 16 frames at equal time steps, in rows of four, without keeping the aspect ratio.

    Args:
        video: path.

    Returns:
        (384, 384, 3), uint8, RGB. The frames are those in the middle of each sixteenth of the video.

    Raises:
        VideoReadError: not a video, damaged or truncated.
    """
    side = STORYBOARD_SIDE // _TILES
    with VideoReader(video) as reader:
        length = reader.info.duration_seconds or reader.last_second
        frames = reader.frames_at([(number + 0.5) * length / _TILES**2 for number in range(_TILES**2)])
    tiles = np.stack([Image.fromarray(frame).resize((side, side), Image.Resampling.BILINEAR) for frame in frames])
    return tiles.reshape(_TILES, _TILES, side, side, 3).swapaxes(1, 2).reshape(STORYBOARD_SIDE, STORYBOARD_SIDE, 3)


def frames_by_second(
    video: str | Path, per_second: float = 1.0, *, start: float = 0.0, end: float | None = None
) -> Iterator[tuple[float, np.ndarray]]:
    """Frames at equal times, in constant memory.

    Args:
        video: path.
        per_second: frames a second.
        start: first second.
        end: second before which to stop; the end of the video by default.

    Yields:
        The second, and the frame shown then: (height, width, 3), uint8, RGB.

    Raises:
        InputError: a rate that is not positive, or a negative start.
        VideoReadError: not a video, damaged or truncated.
    """
    if not per_second > 0:
        raise InputError(f"{per_second} frames a second cannot be read; give a positive number")
    with VideoReader(video) as reader:
        yield from reader.iterate(1 / per_second, start=start, stop=end)


def trim(surgical: np.ndarray, run: int = 3) -> tuple[int, int] | None:
    """Where the surgical part begins and ends.

    Args:
        surgical: (n,), whether each sampled frame is surgical.
        run: so many surgical frames in a row begin the part, and end it.

    Returns:
        Numbers of the first and the last frame kept: of the first frame of the first such run, and of the last frame of the
        last one. `None` where there is no such run: the video has no surgical content.

    Raises:
        InputError: not a vector, or a run below 1.

    Example:
        >>> trim(np.array([0, 1, 0, 1, 1, 1, 0, 1, 1, 1, 1, 0, 1], bool))
        (3, 10)
    """
    flags = np.asarray(surgical, bool)
    if flags.ndim != 1 or run < 1:
        raise InputError(f"trim needs a vector and a run of at least 1, not shape {flags.shape} and {run}")
    edges = np.flatnonzero(np.diff(np.r_[False, flags, False]))
    starts, ends = edges[::2], edges[1::2]
    long = ends - starts >= run
    return (int(starts[long][0]), int(ends[long][-1]) - 1) if long.any() else None


def mask_boxes(frame: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """A copy of a frame with boxes filled in black.

    Args:
        frame: (h, w, 3), uint8.
        boxes: (k, 4), x1, y1, x2, y2 in its pixels; fractions are cut off, as published, and so is what lies outside.

    Raises:
        InputError: boxes of another shape.
    """
    corners = np.asarray(boxes, np.float64)
    if corners.ndim != 2 or corners.shape[1] != 4:
        raise InputError(f"boxes have the shape (k, 4), not {corners.shape}")
    masked = frame.copy()
    for x1, y1, x2, y2 in np.maximum(corners, 0).astype(int):
        masked[y1:y2, x1:x2] = 0
    return masked


def perceptual_hashes(frames: Sequence[np.ndarray]) -> np.ndarray:
    """Hashes that hardly change when a picture is scaled or coded again.

    The 63 lowest frequencies of the cosine transform of the grey picture of 32×32 pixels, each compared with their median.

    Args:
        frames: (h, w, 3), uint8, RGB, of any sizes.

    Returns:
        (n,), uint64. 0 is the hash of a picture of one colour, which is like no other.

    Example:
        >>> perceptual_hashes([np.zeros((48, 64, 3), np.uint8)])
        array([0], dtype=uint64)
    """
    hashes = [_hash(frame) for frame in frames]
    return np.array(hashes, np.uint64)


def _hash(frame: np.ndarray) -> int:
    grey = Image.fromarray(frame).convert("L").resize((_HASH_SIDE, _HASH_SIDE), Image.Resampling.BOX)
    low = dctn(np.asarray(grey, np.float64))[:_HASH_BITS, :_HASH_BITS].ravel()[1:]
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes()) if np.abs(low).max() > 1e-6 else 0


def shared_seconds(a: np.ndarray, b: np.ndarray, max_distance: int = 10, run: int = 5) -> int:
    """How much of one video is in another, whatever the offset, and in whatever pieces.

    Args:
        a, b: (n,) and (m,), hashes of one frame a second each.
        max_distance: bits by which the hashes of the same frame may differ.
        run: so many seconds in a row must agree.

    Returns:
        Number of seconds of `a` that lie in a run that `b` repeats.
    """
    shared = np.zeros(len(a), bool)
    for offset in range(run - len(b), len(a) - run + 1):
        first, last = max(offset, 0), min(offset + len(b), len(a))
        one, other = a[first:last], b[first - offset : last - offset]
        alike = (np.bitwise_count(one ^ other) <= max_distance) & (one != 0) & (other != 0)
        edges = np.flatnonzero(np.diff(np.r_[False, alike, False]))
        for start, end in zip(edges[::2], edges[1::2], strict=True):
            if end - start >= run:
                shared[first + start : first + end] = True
    return int(shared.sum())
