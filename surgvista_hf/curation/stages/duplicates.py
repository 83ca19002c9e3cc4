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
    """Find the videos that repeat one that is kept. A video is never dropped in favor of one that is dropped itself.

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
    earlier: dict[str, list[str]] = {name: [] for name in order}
    for first, second in candidate_pairs([hashes[name] for name in order]):  # indices into the order
        earlier[order[second]].append(order[first])  # only these can replace the second
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
