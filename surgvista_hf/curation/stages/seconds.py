"""The work of curation on one video: pure functions of its images and of decisions about its seconds.

The rules are those of the Surg-3M pipeline (arXiv 2503.19740) with its faults mended: times are seconds, not counted frames; a
video without surgical content is an outcome of its own; nothing holds a whole video in memory.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.fft import dctn

from ...modeling.subprocess_decoding import SubprocessVideo, Thumbnails, VideoLimits, gray_thumbnail
from ...util.errors import InputError

STORYBOARD_SIDE = 384  # pixels
# Rate of `video_hashes`: instruments move so fast that a quarter of a second makes another image.
HASHES_PER_SECOND = 8
_TILES = 4  # tiles of a storyboard on each side
STORYBOARD_FRAMES = _TILES**2
_HASH_SIDE, _HASH_CUT = 64, 0.1  # side in pixels; fraction of the image that is left out on each side
_HASH_TILES = 4  # tiles of a hash on each side; each has 4 bits
_LIMITS = VideoLimits(  # collected videos are long, and boxes are measured in their own pixels
    megabytes=64_000, minutes=24 * 60, short_side=4096, cpu_seconds=24 * 3600, silent_seconds=120
)


def storyboard(video: str | Path) -> np.ndarray:
    """Make the storyboard of a video: 16 frames at equal time steps, in rows of four, without keeping the aspect ratio.

    Args:
        video: path of the video, which is read in a process of its own.

    Returns:
        (384, 384, 3) uint8, RGB. The frames are those in the middle of each sixteenth of the video.

    Raises:
        VideoReadError: if it is not a video, damaged, truncated or beyond the limits.
    """
    with SubprocessVideo(video, _LIMITS, spread=STORYBOARD_FRAMES) as frames:
        return collage(frame for _, frame in frames)


def collage(frames: Iterable[np.ndarray]) -> np.ndarray:
    """Make a storyboard, (384, 384, 3) uint8, of 16 frames, each (height, width, 3) uint8, RGB."""
    side = STORYBOARD_SIDE // _TILES
    small = (Image.fromarray(frame).resize((side, side), Image.Resampling.BILINEAR) for frame in frames)
    tiles = np.stack([np.asarray(image) for image in small])
    return tiles.reshape(_TILES, _TILES, side, side, 3).swapaxes(1, 2).reshape(STORYBOARD_SIDE, STORYBOARD_SIDE, 3)


def frames_by_second(
    video: str | Path, per_second: float = 1.0, *, start: float = 0.0, end: float | None = None
) -> Iterator[tuple[float, np.ndarray]]:
    """Yield frames at equal time steps, in constant memory.

    Args:
        video: path of the video, which is read in a process of its own.
        per_second: number of frames a second.
        start: first second.
        end: second before which to stop; the end of the video by default.

    Yields:
        The second, and the frame shown then: (height, width, 3) uint8, RGB.

    Raises:
        InputError: if the rate is not positive, or the start is negative.
        VideoReadError: if it is not a video, damaged, truncated or beyond the limits.
    """
    if not per_second > 0:
        raise InputError(f"{per_second} frames a second cannot be read; give a positive number")
    with SubprocessVideo(video, _LIMITS, interval_seconds=1 / per_second, start=start, stop=end) as frames:
        yield from frames


def trim(surgical: np.ndarray, run: int = 3) -> tuple[int, int] | None:
    """Find the beginning and the end of the surgical part.

    Args:
        surgical: (n,) bool, whether each sampled frame is surgical.
        run: number of surgical frames in a row that begin the part, and end it.

    Returns:
        Indices of the first frame of the first such run, and of the last frame of the last one. `None` where there is no such
        run: the video has no surgical content.

    Raises:
        InputError: if `surgical` is not a vector, or the run is below 1.

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
    """Return a copy of a frame with boxes filled in black.

    Args:
        frame: (height, width, 3) uint8.
        boxes: (boxes, 4), x1, y1, x2, y2 in its pixels; fractions and parts outside the frame are cut off, as published.

    Raises:
        InputError: if the boxes have another shape.
    """
    corners = np.asarray(boxes, np.float64)
    if corners.ndim != 2 or corners.shape[1] != 4:
        raise InputError(f"boxes have the shape (k, 4), not {corners.shape}")
    masked = frame.copy()
    for x1, y1, x2, y2 in np.maximum(corners, 0).astype(int):
        masked[y1:y2, x1:x2] = 0
    return masked


def perceptual_hashes(frames: Iterable[np.ndarray]) -> np.ndarray:
    """Compute hashes that hardly change when an image is scaled or coded again, and only in part when a part is covered.

    The gray image without its outermost tenths (round borders and logos make images alike) is scaled to 64×64 pixels. Its hash
    consists of the signs of the four lowest frequencies of the cosine transform in each of 16 tiles, row by row.

    Args:
        frames: (height, width, 3) uint8, RGB, of any sizes.

    Returns:
        (frames,) uint64. 0 is the hash of an image of one color, which is like no other.

    Example:
        >>> perceptual_hashes([np.zeros((48, 64, 3), np.uint8)])
        array([0], dtype=uint64)
    """
    return np.array([_hash(gray_thumbnail(frame, _HASH_SIDE, _HASH_CUT)) for frame in frames], np.uint64)


def video_hashes(video: str | Path, *, start: float = 0.0, end: float | None = None) -> np.ndarray:
    """Compute the hashes of a video, `HASHES_PER_SECOND` a second, in constant memory.

    Args:
        video: path of the video, which is read in a process of its own.
        start, end: first second, and the second before which to stop, of the part that counts, such as the part with surgery.

    Returns:
        (n,) uint64, for `shared_seconds` and `candidate_pairs`.

    Raises:
        VideoReadError: if it is not a video, damaged, truncated or beyond the limits.
    """
    return np.array(
        [found for _, found, _ in hashes_and_seconds(video, start=start, end=end, frames=False)], np.uint64
    )


def hashes_and_seconds(
    video: str | Path, *, start: float = 0.0, end: float | None = None, frames: bool = True
) -> Iterator[tuple[float, int, np.ndarray | None]]:
    """Yield the hashes of a video, and the frames of its whole seconds, in one decode and in constant memory.

    Args:
        video: path of the video, which is read in a process of its own.
        start: first second, a whole one.
        end: second before which to stop; the end of the video by default.
        frames: give frames, not only hashes.

    Yields:
        The second, the hash of the frame shown then, and at whole seconds the frame, (height, width, 3) uint8, RGB.

    Raises:
        VideoReadError: if it is not a video, damaged, truncated or beyond the limits.
    """
    # Hashes are made of small images, so that only one frame a second is sent from process to process.
    thumbnails = Thumbnails(_HASH_SIDE, _HASH_CUT, whole_every=HASHES_PER_SECOND if frames else 0)
    reading = SubprocessVideo(
        video, _LIMITS, interval_seconds=1 / HASHES_PER_SECOND, start=start, stop=end, thumbnails=thumbnails
    )
    with reading as images:
        for number, (second, gray) in enumerate(moments := iter(images)):
            whole = next(moments)[1] if frames and number % HASHES_PER_SECOND == 0 else None
            yield second, _hash(gray), whole


def _hash(gray: np.ndarray) -> int:
    """Compute the hash of a thumbnail, (64, 64) uint8."""
    side = _HASH_SIDE // _HASH_TILES
    low = dctn(gray.astype(np.float64).reshape(_HASH_TILES, side, _HASH_TILES, side), axes=(1, 3))
    bits = np.stack([low[:, 0, :, 1], low[:, 1, :, 0], low[:, 0, :, 2], low[:, 1, :, 1]], axis=-1) > 1e-6
    return int.from_bytes(np.packbits(bits).tobytes())
