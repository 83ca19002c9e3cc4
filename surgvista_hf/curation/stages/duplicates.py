"""Videos that repeat others: copies, cuts and compilations, also mirrored ones, among thousands of videos.

Comparing every pair of videos takes too long, so an index finds the pairs that are worth it. Its entries are halves of images:
32 of the 64 bits of a hash, which copies leave unchanged at many moments. Different operations have equal halves too, by
chance; but only in copies do equal halves follow each other at the same distance in time. In large collections the index
holds a sample of all halves: those whose mixed bits are below a limit, so that an original and its copy sample the same ones.
"""

import logging
from collections.abc import Mapping, Sequence
from math import ceil
from typing import NamedTuple

import numpy as np

from ...util.console import track
from .repetition import HALVES, concatenated_ranges, mirrored_hashes, repeated_seconds
from .seconds import HASHES_PER_SECOND

logger = logging.getLogger(__name__)

_COMMON = 100  # images that more videos than this share, such as a test card, are no evidence of repetition
_ENTRIES = 2**26  # of the index, before a half is taken once for each video; with more halves, it holds a sample
_BUCKET = 4 * HASHES_PER_SECOND  # hashes; a copy that is 4 % faster needs 100 s to leave a bucket
# Smallest number of equal halves for each second that a copy repeats: copies that are coded again have 10, and copies that
# lost 5 % on each side have 1.
_RATE = 0.25
_CHUNK = 2**24  # pairs of entries at once, which bounds the memory
_MIXER = np.uint64(
    0x9E37_79B9_7F4A_7C15
)  # 2^64 / golden ratio: multiplying by it spreads all bits over the upper ones


class _Pair(NamedTuple):
    """Indices of two videos, the lower one first, and whether one of them is mirrored."""

    first: int
    second: int
    mirrored: bool


def find_repeats(
    hashes: Mapping[str, np.ndarray],
    seconds: Mapping[str, int],
    order: Sequence[str],
    *,
    never: frozenset[str] = frozenset(),
    max_distance: float = 4.0,
    run: int = 8,
    fraction: float = 0.5,
    progress: bool = False,
) -> dict[str, tuple[str, int]]:
    """Find the videos that repeat one that is kept. A video is never dropped in favor of one that is dropped itself.

    Copies may be cut, rearranged, coded again, covered in parts, mirrored, cropped by a few percent, and faster or slower by
    a few percent.

    Args:
        hashes: hashes of each video from `video_hashes`; 0 where a moment does not count.
        seconds: number of seconds of each video that count.
        order: the videos; of two that repeat each other the earlier one is kept.
        never: videos that are kept in any case.
        max_distance, run: rules of a repetition, the same as for `shared_seconds`.
        fraction: smallest fraction of its seconds that a video must share with a kept one to be dropped.
        progress: show a bar.

    Returns:
        For each video to drop: the kept video with which it shares most, and the number of shared seconds.
    """
    # What a video would have to share is known, so pairs with too little evidence for it need not be compared.
    needed = [_RATE * fraction * seconds[name] for name in order]
    earlier: dict[str, dict[str, list[bool]]] = {name: {} for name in order}
    for pair in _pairs([hashes[name] for name in order], needed, 3, progress):
        earlier[order[pair.second]].setdefault(order[pair.first], []).append(pair.mirrored)
    repeats: dict[str, tuple[str, int]] = {}
    for name in track(order, "compare videos", unit="videos", shown=progress):
        if name in never:
            continue
        best, keeper = 0, ""
        for other, ways in earlier[name].items():
            if other in repeats:
                continue
            views = (mirrored_hashes(hashes[name]) if mirrored else hashes[name] for mirrored in ways)
            found = [repeated_seconds(view, hashes[other], max_distance, run=run) for view in views]
            shared = int(np.any(found, axis=0).sum())
            if shared > best:
                best, keeper = shared, other
        if keeper and best >= fraction * seconds[name]:
            repeats[name] = (keeper, best)
    return repeats


def candidate_pairs(hashes: Sequence[np.ndarray], least: int = 3) -> list[tuple[int, int]]:
    """Find the pairs of videos for which `shared_seconds` is worth its time: those that share halves of images in order.

    Args:
        hashes: hashes of each video, from `video_hashes`.
        least: number of different halves that both have to show at about the same distance in time; one of the two may be
            mirrored. Halves that occur in more than 100 videos do not count.

    Returns:
        Pairs of indices of videos, the lower one first, in order.
    """
    return sorted({pair[:2] for pair in _pairs(hashes, [0.0] * len(hashes), least, progress=False)})


def _pairs(hashes: Sequence[np.ndarray], needed: Sequence[float], least: int, progress: bool) -> list[_Pair]:
    """Find pairs with evidence of a repetition, in order.

    Args:
        hashes: hashes of each video.
        needed: number of equal halves, of all, that the later video of a pair must have in common with the earlier one.
        least: the same for every video, of the halves in the sample.
        progress: show a bar.
    """
    if len(hashes) < 2:
        return []
    index = _Index(hashes)
    limits = np.maximum(least, np.array(needed) / index.sampled)
    pairs = []
    for mirrored in (False, True):
        parts = track(range(len(HALVES)), "find candidates", unit="parts", shown=progress)
        events = np.concatenate([index.events(hashes, part, mirrored) for part in parts])
        events.sort()
        first, second, votes = index.votes(events)
        enough = votes >= limits[second]
        pairs += [_Pair(*pair, mirrored) for pair in zip(first[enough].tolist(), second[enough].tolist(), strict=True)]
    logger.info("%d pairs of %d videos are compared; one half in %d was used", len(pairs), len(hashes), index.sampled)
    return sorted(pairs)


class _Index:
    """Halves of the images of all videos as 64-bit numbers: a key, then the video, then the time in buckets of 4 s.

    Args:
        hashes: hashes of each video.
    """

    def __init__(self, hashes: Sequence[np.ndarray]) -> None:
        """Choose the widths of the fields and the size of the sample."""
        total = len(HALVES) * sum(map(len, hashes))
        self.sample_bits = max(0, ceil(total / _ENTRIES) - 1).bit_length()
        longest = max(map(len, hashes)) // _BUCKET + 2
        self.time_bits, self.video_bits = longest.bit_length(), len(hashes).bit_length()

    @property
    def sampled(self) -> int:
        """Return how many halves there are for each one in the index."""
        return 1 << self.sample_bits

    def events(self, hashes: Sequence[np.ndarray], part: int, mirrored: bool) -> np.ndarray:
        """Return pairs of videos that show an equal half, with the distance in time: (k,) uint64 for `votes`."""
        known = np.sort(np.concatenate([self._entries(each, n, HALVES[part]) for n, each in enumerate(hashes)]))
        wanted = known
        if mirrored:
            flipped = (self._entries(mirrored_hashes(each), n, HALVES[part]) for n, each in enumerate(hashes))
            wanted = np.sort(np.concatenate(list(flipped)))
        key_shift = np.uint64(self.time_bits + self.video_bits)
        keys, queries = known >> key_shift, wanted >> key_shift
        first, last = np.searchsorted(keys, queries, "left"), np.searchsorted(keys, queries, "right")
        counts = np.where(last - first <= _COMMON, last - first, 0)  # a video has each key once
        ends = np.cumsum(counts)
        found = [np.empty(0, np.uint64)]
        begin = 0
        while begin < len(wanted):
            done = ends[begin - 1] if begin else 0
            end = max(begin + 1, int(np.searchsorted(ends, done + _CHUNK, "right")))
            left = known[concatenated_ranges(first[begin:end], counts[begin:end])]
            found.append(self._events(left, np.repeat(wanted[begin:end], counts[begin:end])))
            begin = end
        return np.concatenate(found)

    def _entries(self, hashes: np.ndarray, video: int, mask: np.uint64) -> np.ndarray:
        mixed = (hashes & mask) * _MIXER
        mixed ^= mixed >> np.uint64(32)
        mixed *= _MIXER
        sampled = np.flatnonzero((hashes != 0) & (mixed < np.uint64((1 << 64 - self.sample_bits) - 1)))
        mixed = mixed[sampled] << np.uint64(self.sample_bits)  # these bits are 0 in the sample
        key_shift = np.uint64(self.time_bits + self.video_bits)
        keys, moments = np.unique(mixed >> key_shift, return_index=True)  # the first time counts
        times = (sampled[moments] // _BUCKET).astype(np.uint64)
        return keys << key_shift | np.uint64(video << self.time_bits) | times

    def _events(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        time_mask, video_mask = np.uint64((1 << self.time_bits) - 1), np.uint64((1 << self.video_bits) - 1)
        first, second = (side >> np.uint64(self.time_bits) & video_mask for side in (left, right))
        chosen = first < second
        left, right, first, second = left[chosen], right[chosen], first[chosen], second[chosen]
        # Differences are positive and leave a gap of two between pairs of videos.
        difference = (right & time_mask) + np.uint64(1 << self.time_bits) - (left & time_mask)
        return (first << np.uint64(self.video_bits) | second) << np.uint64(self.time_bits + 1) | difference

    def votes(self, events: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Count the events of each pair of videos that another one confirms, at the same distance in time or one bucket on.

        Args:
            events: (k,) uint64, sorted.

        Returns:
            (pairs,) first videos, (pairs,) second videos and (pairs,) numbers of events.
        """
        near = np.diff(events) <= 1
        events = events[np.r_[near, False] | np.r_[False, near]] if len(events) else events
        pairs, votes = np.unique(events >> np.uint64(self.time_bits + 1), return_counts=True)
        return pairs >> np.uint64(self.video_bits), pairs & np.uint64((1 << self.video_bits) - 1), votes
