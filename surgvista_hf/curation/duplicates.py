"""Videos that repeat others: copies, cuts and compilations, found by the hashes of their surgical seconds.

Comparing every pair takes days for thousands of videos. Pairs are compared only if some seconds have a third of their hash in
common, bit for bit: of two codings of the same picture most seconds have, of different operations hardly any.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from scipy.sparse import csr_array
from tqdm.auto import tqdm

from .seconds import shared_seconds

_BANDS, _BAND_BITS = 3, 21  # the 63 bits of a hash; its lowest bit is always 0
_LEAST_SHARE = 0.02  # of the seconds of the shorter video, that must have a band in common
_ROWS_AT_ONCE = 256


def find_repeats(
    hashes: Mapping[str, np.ndarray],
    order: Sequence[str],
    *,
    never: frozenset[str] = frozenset(),
    max_distance: int = 10,
    run: int = 5,
    share: float = 0.5,
    progress: bool = False,
) -> dict[str, tuple[str, int]]:
    """Which videos repeat one that is kept. A video is never dropped for the sake of one that is dropped itself.

    Args:
        hashes: one of each second, by video; 0 where a second does not count.
        order: the videos, those to be kept rather first.
        never: videos that are kept in any case.
        max_distance, run: see `shared_seconds`.
        share: of the seconds that count; a video that shares so many with a kept one is dropped.
        progress: show a bar.

    Returns:
        For each video to drop: the kept video that it shares most with, and how many seconds.
    """
    near = neighbours(hashes)
    kept: dict[str, int] = {}  # with its place in the order
    repeats: dict[str, tuple[str, int]] = {}
    for place, video in enumerate(tqdm(order, desc="deduplicate", unit="video", disable=not progress)):
        counting = int((hashes[video] != 0).sum())
        found = [
            (shared_seconds(hashes[video], hashes[other], max_distance, run), -kept[other], other)
            for other in sorted(near[video] & kept.keys())
        ]
        shared, _, keeper = max(found, default=(0, 0, ""))
        if keeper and shared >= share * counting and video not in never:
            repeats[video] = (keeper, shared)
        else:
            kept[video] = place
    return repeats


def neighbours(hashes: Mapping[str, np.ndarray]) -> dict[str, set[str]]:
    """Pairs of videos that are worth a comparison.

    Args:
        hashes: see `find_repeats`.

    Returns:
        For each video the others, in both directions.
    """
    names = sorted(hashes)
    near: dict[str, set[str]] = {name: set() for name in names}
    if not names:
        return near
    lengths = np.array([(hashes[name] != 0).sum() for name in names])
    tables = [_band_table([hashes[name] for name in names], band) for band in range(_BANDS)]
    for start in range(0, len(names), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        # Seconds of the videos of these rows whose band the other one has too.
        hits = sum(counts[rows] @ present.T for counts, present in tables)
        for row, column, count in _entries(hits, start):
            if row != column and count >= max(1.0, _LEAST_SHARE * min(lengths[row], lengths[column])):
                near[names[row]].add(names[column])
                near[names[column]].add(names[row])
    return near


def _band_table(hashes: Sequence[np.ndarray], band: int) -> tuple[csr_array, csr_array]:
    """How many seconds of each video have each value of a band, and whether any has."""
    owners = np.repeat(np.arange(len(hashes)), [len(each) for each in hashes])
    values = np.concatenate(hashes).astype(np.uint64)
    counts = values != 0
    owners, values = owners[counts], values[counts]
    parts = (values >> np.uint64(1 + band * _BAND_BITS)) & np.uint64((1 << _BAND_BITS) - 1)
    shape = (len(hashes), 1 << _BAND_BITS)
    table = csr_array((np.ones(len(owners), np.int32), (owners, parts.astype(np.int64))), shape=shape)
    table.sum_duplicates()
    present = table.copy()
    present.data[:] = 1
    return table, present


def _entries(matrix: csr_array, first_row: int) -> Iterator[tuple[int, int, int]]:
    found = matrix.tocoo()
    yield from zip((found.row + first_row).tolist(), found.col.tolist(), found.data.tolist(), strict=True)
