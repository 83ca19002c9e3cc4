"""How much of one video another one repeats, by their hashes.

A hash consists of 4 bits in each of 4×4 tiles of an image (see `perceptual_hashes`). Copies that are coded again, smaller, a
little cropped or a little faster change few of these bits; a mirrored copy changes them in a way that can be computed.
"""

import numpy as np

from ...util.errors import InputError
from .seconds import HASHES_PER_SECOND

_TILES = 4  # tiles of a hash on each side; each has 4 bits
_CLEAR_TILES = 10  # number of tiles, of 16, in which two images are compared; the others may be covered
_STILL_SECONDS = 60  # images that stay longer than this in one video cannot tell the offset of another one
_ODD_BITS = np.uint64(0x9999_9999_9999_9999)  # bits of the frequencies that change their sign in the mirror


def _halves_of_images() -> tuple[np.uint64, ...]:
    """Return masks of the bits of two neighboring rows or columns of tiles, 32 bits each."""
    tiles = np.arange(_TILES**2).reshape(_TILES, _TILES)
    pairs = [grid[line : line + 2] for grid in (tiles, tiles.T) for line in range(_TILES - 1)]
    return tuple(np.uint64(sum(15 << 4 * int(tile) for tile in pair.ravel())) for pair in pairs)


HALVES = _halves_of_images()


def mirrored_hashes(hashes: np.ndarray) -> np.ndarray:
    """Compute the hashes that the same images have when left and right are exchanged.

    The tiles of a row change their order, and the frequencies that are odd in the horizontal direction change their sign.

    Args:
        hashes: (n,) uint64, from `perceptual_hashes`.

    Returns:
        (n,) uint64. 0 stays 0.

    Example:
        >>> from surgvista_hf.curation.stages.seconds import perceptual_hashes
        >>> image = np.random.default_rng(0).integers(0, 256, (320, 320, 3), np.uint8)
        >>> differing = mirrored_hashes(perceptual_hashes([image])) ^ perceptual_hashes([image[:, ::-1]])
        >>> bool(np.bitwise_count(differing)[0] <= 4)  # signs of numbers that are nearly 0
        True
    """
    # Each row of tiles has 16 bits; 4 bits a tile change places within it.
    tiles = [hashes & np.uint64(0x000F_000F_000F_000F << shift) for shift in (0, 4, 8, 12)]
    swapped = (
        tiles[0] << np.uint64(12) | tiles[1] << np.uint64(4) | tiles[2] >> np.uint64(4) | tiles[3] >> np.uint64(12)
    )
    return np.where(hashes == 0, np.uint64(0), swapped ^ _ODD_BITS)


def shared_seconds(
    a: np.ndarray,
    b: np.ndarray,
    max_distance: float = 4.0,
    *,
    run: int = 8,
    per_second: int = HASHES_PER_SECOND,
) -> int:
    """Measure how much of one video is in another, at any offset and in any pieces.

    Each second of `a` is compared with the moments of `b`; of the 16 tiles of the images the ten that agree best in a run
    count, so that logos, captions and picture-in-picture insets of either upload do no harm. Measured: uploads of one rendered
    operation with other packaging differ by 0-4 bits of 64, of others by 4 and more; real clips that are coded again by 0-1,
    different ones by 14 and more.

    Args:
        a, b: (n,) and (m,) hashes, `per_second` a second. A moving image is another one after a quarter of a second:
            with one hash a second only offsets of whole seconds are found.
        max_distance: mean number of bits, of 64, by which the hashes of the same images may differ.
        run: number of seconds in a row that have to agree in the mean; shorter repetitions do not count.
        per_second: number of hashes a second.

    Returns:
        Number of seconds of `a` that `b` repeats.

    Raises:
        InputError: if the run or the rate is below 1.

    Example:
        >>> hashes = np.random.default_rng(0).integers(1, 2**63, 8 * 60, np.uint64)
        >>> shared_seconds(hashes, hashes[100:])
        47
    """
    return int(repeated_seconds(a, b, max_distance, run=run, per_second=per_second).sum())


def repeated_seconds(
    a: np.ndarray, b: np.ndarray, max_distance: float = 4.0, *, run: int = 8, per_second: int = HASHES_PER_SECOND
) -> np.ndarray:
    """Find the seconds of `a` that are in `b`. Arguments and errors are those of `shared_seconds`.

    Returns:
        (seconds,) bool.
    """
    if run < 1 or per_second < 1:
        raise InputError(f"a run of {run} seconds with {per_second} hashes a second is no repetition; give at least 1")
    probes = a[::per_second]
    shared = np.zeros(len(probes), bool)
    possible = probes != 0  # an image of one color is like no other
    shifts, votes = np.unique(_shifts(probes, b, per_second), return_counts=True)
    for shift in shifts[
        np.argsort(-votes, kind="stable")
    ].tolist():  # the best first: they leave little to do for others
        if shared[possible].all():
            break
        # the seconds of `a` that have a moment of `b`
        start, stop = max(0, -(-shift // per_second)), min(len(probes), (len(b) - 1 + shift) // per_second + 1)
        seconds, moments = slice(start, stop), b[start * per_second - shift :: per_second][: max(stop - start, 0)]
        _mark(shared[seconds], possible[seconds], probes[seconds], moments, max_distance, run)
    return shared


def _mark(
    shared: np.ndarray, possible: np.ndarray, probes: np.ndarray, moments: np.ndarray, max_distance: float, run: int
) -> None:
    """Mark the seconds that are in runs at one shift; stretches that are marked already are not compared again.

    Args:
        shared: (seconds,) bool, in which they are marked.
        possible: (seconds,) bool, whether a second can be marked.
        probes, moments: (seconds,) hashes of the one video and, at the same places, of the other one.
        max_distance, run: arguments of `shared_seconds`.
    """
    open_ones = np.flatnonzero(possible & ~shared)
    if len(probes) < run or not len(open_ones):
        return
    # A run that marks an open second begins and ends less than `run` from it.
    begin, end = max(0, int(open_ones[0]) - run + 1), min(len(probes), int(open_ones[-1]) + run)
    if end - begin < run:
        return
    different = probes[begin:end] ^ moments[begin:end]
    # Each unequal tile has at least one bit, and six of them need not count: a bound of the distance that is quick to compute.
    bound = np.maximum(_unequal_tiles(different).astype(np.int64) - (_TILES**2 - _CLEAR_TILES), 0)
    sums = np.cumsum(np.r_[0, bound])
    runs = np.flatnonzero(sums[run:] - sums[:-run] <= run * max_distance * _CLEAR_TILES / _TILES**2 + 1e-6)
    for group in np.split(runs, np.flatnonzero(np.diff(runs) >= run) + 1) if len(runs) else ():
        stretch = slice(begin + int(group[0]), begin + int(group[-1]) + run)
        _mark_runs(shared[stretch], probes[stretch], moments[stretch], max_distance, run)


def _mark_runs(shared: np.ndarray, probes: np.ndarray, moments: np.ndarray, max_distance: float, run: int) -> None:
    """Mark the seconds of a stretch that are in runs."""
    distances = _distances(probes, moments)  # (seconds, 16)
    sums = np.cumsum(np.r_[np.zeros((1, distances.shape[1])), distances], axis=0)
    means = _clearest(sums[run:] - sums[:-run]) / run
    alike = _clearest(distances) <= 2 * max_distance  # at the ends of a repetition others are in the mean too
    for first in np.flatnonzero(means <= max_distance).tolist():
        shared[first : first + run] |= alike[first : first + run]


def _unequal_tiles(different: np.ndarray) -> np.ndarray:
    """Count the tiles, (n,), in which some of the 64 bits are set."""
    pairs = different | different >> np.uint64(1)
    return np.bitwise_count((pairs | pairs >> np.uint64(2)) & np.uint64(0x1111_1111_1111_1111))


def _shifts(probes: np.ndarray, b: np.ndarray, per_second: int) -> np.ndarray:
    """Return the numbers of hashes by which `b` would begin later, for each two halves of images that are equal."""
    seconds = np.flatnonzero(probes)
    shifts = [np.empty(0, np.int64)]
    for mask in HALVES:
        parts = b & mask
        order = np.argsort(parts, kind="stable")
        known, keys = parts[order], probes[seconds] & mask
        first, last = np.searchsorted(known, keys, "left"), np.searchsorted(known, keys, "right")
        counts = np.where(last - first <= _STILL_SECONDS * per_second, last - first, 0)
        found = order[concatenated_ranges(first, counts)]
        shifts.append(np.repeat(seconds, counts) * per_second - found)
    return np.concatenate(shifts)


def concatenated_ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the numbers of all ranges one after the other.

    Example:
        >>> concatenated_ranges(np.array([5, 0, 9]), np.array([2, 0, 3]))
        array([ 5,  6,  9, 10, 11])
    """
    before = np.cumsum(counts) - counts
    return np.arange(counts.sum()) + np.repeat(starts - before, counts)


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Count the bits that differ in each tile, (n, 16); all of them where an image has one color."""
    nibbles = (a ^ b)[:, None] >> np.arange(0, 64, 4, dtype=np.uint64) & np.uint64(15)
    return np.where(((a == 0) | (b == 0))[:, None], 4, np.bitwise_count(nibbles))


def _clearest(distances: np.ndarray) -> np.ndarray:
    """Return the distance (n,) in bits of 64 by the tiles that agree best, from the bits (n, 16) of all tiles."""
    tiles = distances.shape[1]
    return np.sort(distances, axis=1)[:, :_CLEAR_TILES].mean(axis=1) * tiles
