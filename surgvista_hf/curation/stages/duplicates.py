"""Videos that repeat others: copies, cuts and compilations."""

from collections.abc import Mapping, Sequence

import numpy as np

from ...util.console import track
from .seconds import candidate_pairs, shared_seconds


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
    """Which videos repeat one that is kept. A video is never dropped for the sake of one that is dropped itself.

    Args:
        hashes: see `video_hashes`, by video; 0 where a moment does not count.
        seconds: how many seconds of each video count.
        order: the videos, those to be kept rather first.
        never: videos that are kept in any case.
        max_distance, run: see `shared_seconds`.
        fraction: of the seconds that count; a video that shares so many with a kept one is dropped.
        progress: show a bar.

    Returns:
        For each video to drop: the kept video that it shares most with, and how many seconds.
    """
    earlier: dict[str, list[str]] = {name: [] for name in order}
    for first, second in candidate_pairs([hashes[name] for name in order]):  # by place in the order
        earlier[order[second]].append(order[first])
    repeats: dict[str, tuple[str, int]] = {}
    for name in track(order, "deduplicate", unit="videos", shown=progress):
        if name in never:
            continue
        best, keeper = 0, ""
        for other in (each for each in earlier[name] if each not in repeats):
            shared = shared_seconds(hashes[name], hashes[other], max_distance, run=run)
            if shared > best:
                best, keeper = shared, other
        if keeper and best >= fraction * seconds[name]:
            repeats[name] = (keeper, best)
    return repeats
