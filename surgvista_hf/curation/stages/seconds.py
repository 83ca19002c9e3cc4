"""What the stages of curation do with one video: pure functions of its pictures and of decisions about its seconds.

The rules are those of the Surg-3M pipeline (arXiv 2503.19740) with its faults mended: times are seconds, not counted frames; a
video without surgical content is an outcome of its own; nothing holds a whole video in memory.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.fft import dctn

from ...modeling.subprocess_decoding import SubprocessVideo, VideoLimits
from ...util.errors import InputError

STORYBOARD_SIDE = 384  # pixels
HASHES_PER_SECOND = 8  # of `video_hashes`: instruments move so fast that a quarter of a second makes another picture
_TILES = 4  # a side
STORYBOARD_FRAMES = _TILES**2
_HASH_SIDE, _HASH_CUT = 64, 0.1  # pixels; share of the picture that is left out on each side
_HASH_TILES = 4  # a side; each has 4 bits
_CLEAR_TILES = 10  # of 16, over which two pictures are compared; the others may be covered
_COMMON = 100  # videos; what more of them share, such as a test card, says nothing
_STILL_SECONDS = 60  # what is seen so long in one video does not say where another one belongs
_LIMITS = VideoLimits(  # collected videos are long, and boxes are measured in their own pixels
    megabytes=64_000, minutes=24 * 60, short_side=4096, cpu_seconds=24 * 3600, silent_seconds=120
)


def storyboard(video: str | Path) -> np.ndarray:
    """A video at one glance: 16 frames at equal time steps, in rows of four, without keeping the aspect ratio.

    Args:
        video: path; read in a process of its own.

    Returns:
        (384, 384, 3), uint8, RGB. The frames are those in the middle of each sixteenth of the video.

    Raises:
        VideoReadError: not a video, damaged, truncated or beyond the limits.
    """
    with SubprocessVideo(video, _LIMITS, spread=STORYBOARD_FRAMES) as frames:
        return collage(frame for _, frame in frames)


def collage(frames: Iterable[np.ndarray]) -> np.ndarray:
    """The storyboard of 16 frames, each (h, w, 3), uint8, RGB."""
    side = STORYBOARD_SIDE // _TILES
    small = (Image.fromarray(frame).resize((side, side), Image.Resampling.BILINEAR) for frame in frames)
    tiles = np.stack([np.asarray(picture) for picture in small])
    return tiles.reshape(_TILES, _TILES, side, side, 3).swapaxes(1, 2).reshape(STORYBOARD_SIDE, STORYBOARD_SIDE, 3)


def frames_by_second(
    video: str | Path, per_second: float = 1.0, *, start: float = 0.0, end: float | None = None
) -> Iterator[tuple[float, np.ndarray]]:
    """Frames at equal times, in constant memory.

    Args:
        video: path; read in a process of its own.
        per_second: frames a second.
        start: first second.
        end: second before which to stop; the end of the video by default.

    Yields:
        The second, and the frame shown then: (height, width, 3), uint8, RGB.

    Raises:
        InputError: a rate that is not positive, or a negative start.
        VideoReadError: not a video, damaged, truncated or beyond the limits.
    """
    if not per_second > 0:
        raise InputError(f"{per_second} frames a second cannot be read; give a positive number")
    with SubprocessVideo(video, _LIMITS, interval_seconds=1 / per_second, start=start, stop=end) as frames:
        yield from frames


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


def perceptual_hashes(frames: Iterable[np.ndarray]) -> np.ndarray:
    """Return the hashes that hardly change when a picture is scaled or coded again, and only in part when something is painted over it.

    Of the gray picture without its outermost tenths (round borders and logos make pictures alike), scaled to 64×64 pixels:
    the signs of the four lowest frequencies of the cosine transform in each of 16 tiles, row by row.

    Args:
        frames: (h, w, 3), uint8, RGB, of any sizes.

    Returns:
        (n,), uint64. 0 is the hash of a picture of one color, which is like no other.

    Example:
        >>> perceptual_hashes([np.zeros((48, 64, 3), np.uint8)])
        array([0], dtype=uint64)
    """
    return np.array([_hash(frame) for frame in frames], np.uint64)


def video_hashes(video: str | Path, *, start: float = 0.0, end: float | None = None) -> np.ndarray:
    """The hashes of a video, `HASHES_PER_SECOND` of them, in constant memory.

    Args:
        video: path; read in a process of its own.
        start, end: seconds; the part that counts, such as the part with surgery.

    Returns:
        (n,), uint64, for `shared_seconds` and `candidate_pairs`.

    Raises:
        VideoReadError: not a video, damaged, truncated or beyond the limits.
    """
    return perceptual_hashes(frame for _, frame in frames_by_second(video, HASHES_PER_SECOND, start=start, end=end))


def _hash(frame: np.ndarray) -> int:
    gray = Image.fromarray(frame).convert("L")
    left, top = _HASH_CUT * gray.width, _HASH_CUT * gray.height
    pixels = gray.resize(
        (_HASH_SIDE, _HASH_SIDE), Image.Resampling.BOX, box=(left, top, gray.width - left, gray.height - top)
    )
    side = _HASH_SIDE // _HASH_TILES
    low = dctn(np.asarray(pixels, np.float64).reshape(_HASH_TILES, side, _HASH_TILES, side), axes=(1, 3))
    bits = np.stack([low[:, 0, :, 1], low[:, 1, :, 0], low[:, 0, :, 2], low[:, 1, :, 1]], axis=-1) > 1e-6
    return int.from_bytes(np.packbits(bits).tobytes())


def shared_seconds(
    a: np.ndarray,
    b: np.ndarray,
    max_distance: float = 4.0,
    *,
    run: int = 8,
    per_second: int = HASHES_PER_SECOND,
) -> int:
    """How much of one video is in another, at whatever offset and in whatever pieces.

    Each second of `a` is laid on the moments of `b`; of the 16 tiles of the pictures the ten that agree best in a run count,
    so that logos, captions and pictures in the picture of either upload do no harm. Measured: uploads of one rendered
    operation with other packaging differ by 0-4 bits of 64, of others by 4 and more; real clips that are coded again by 0-1,
    different ones by 14 and more.

    Args:
        a, b: (n,) and (m,), hashes, `per_second` a second. A moving picture is another one after a quarter of a second:
            with one hash a second only offsets of whole seconds are found.
        max_distance: mean number of bits, of 64, by which the hashes of the same pictures may differ.
        run: so many seconds in a row have to agree in the mean; shorter repetitions do not count.
        per_second: hashes a second.

    Returns:
        Number of seconds of `a` that `b` repeats.

    Raises:
        InputError: a run or a rate below 1.

    Example:
        >>> hashes = np.random.default_rng(0).integers(1, 2**63, 8 * 60, np.uint64)
        >>> shared_seconds(hashes, hashes[100:])
        47
    """
    if run < 1 or per_second < 1:
        raise InputError(f"a run of {run} seconds with {per_second} hashes a second is no repetition; give at least 1")
    probes = a[::per_second]
    shared = np.zeros(len(probes), bool)
    for shift in _shifts(probes, b, per_second):
        numbers = np.arange(len(probes)) * per_second - shift
        place = np.flatnonzero((numbers >= 0) & (numbers < len(b)))
        if len(place) < run:
            continue
        distances = _distances(probes[place], b[numbers[place]])
        sums = np.cumsum(np.r_[np.zeros((1, distances.shape[1])), distances], axis=0)
        means = _clearest(sums[run:] - sums[:-run]) / run
        alike = _clearest(distances) <= 2 * max_distance  # at the ends of a repetition others are in the mean too
        for begin in np.flatnonzero(means <= max_distance):
            shared[place[begin : begin + run]] |= alike[begin : begin + run]
    return int(shared.sum())


def _shifts(probes: np.ndarray, b: np.ndarray, per_second: int) -> np.ndarray:
    """By how many hashes `b` may begin later: shifts that bring equal parts of pictures together."""
    times = np.flatnonzero(probes) * per_second
    shifts = []
    for mask in _PARTS:
        keys, order = probes[probes != 0] & mask, np.argsort(b & mask, kind="stable")
        known = (b & mask)[order]
        first, last = np.searchsorted(known, keys, "left"), np.searchsorted(known, keys, "right")
        for time, start, end in zip(times, first, last, strict=True):
            if end - start <= _STILL_SECONDS * per_second:
                shifts.append(time - order[start:end])
    return np.unique(np.concatenate([*shifts, np.empty(0, np.int64)]))


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n, 16), bits that differ in each tile; all of them where a picture has one color."""
    nibbles = (a ^ b)[:, None] >> np.arange(0, 64, 4, dtype=np.uint64) & np.uint64(15)
    return np.where(((a == 0) | (b == 0))[:, None], 4, np.bitwise_count(nibbles))


def _clearest(distances: np.ndarray) -> np.ndarray:
    """(n,), bits of 64, from (n, 16): those of the tiles that agree best."""
    tiles = distances.shape[1]
    return np.sort(distances, axis=1)[:, :_CLEAR_TILES].mean(axis=1) * tiles


def candidate_pairs(hashes: Sequence[np.ndarray], least: int = 3) -> list[tuple[int, int]]:
    """The pairs of videos for which `shared_seconds` is worth its time: those that share halves of pictures.

    Args:
        hashes: of each video, several a second.
        least: so many different halves have to occur in both. What occurs in more than 100 videos does not count.

    Returns:
        Pairs of numbers of videos, the lower one first, in order.
    """
    counts: Counter[tuple[int, int]] = Counter()
    for mask in _PARTS:
        parts = [np.unique(video[video != 0] & mask) for video in hashes]
        values = np.concatenate([*parts, np.empty(0, np.uint64)])
        videos = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        order = np.argsort(values, kind="stable")
        values, videos = values[order], videos[order]
        edges = np.flatnonzero(np.diff(values)) + 1
        for start, end in zip(np.r_[0, edges], np.r_[edges, len(values)], strict=True):
            if 2 <= end - start <= _COMMON:
                counts.update(combinations(videos[start:end].tolist(), 2))
    return sorted(pair for pair, count in counts.items() if count >= least)


def _halves_of_pictures() -> tuple[np.uint64, ...]:
    """The bits of two neighboring rows or columns of tiles, 32 each."""
    tiles = np.arange(_HASH_TILES**2).reshape(_HASH_TILES, _HASH_TILES)
    pairs = [grid[line : line + 2] for grid in (tiles, tiles.T) for line in range(_HASH_TILES - 1)]
    return tuple(np.uint64(sum(15 << 4 * int(tile) for tile in pair.ravel())) for pair in pairs)


_PARTS = _halves_of_pictures()
