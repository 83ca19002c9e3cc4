"""Stratified splits of videos with several labels, in which even rare labels occur in every split."""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence

from .info import SPLITS, shuffled


def stratified_splits(
    labels: Mapping[str, Sequence[Hashable]],
    fractions: Mapping[str, float],
    seed: int | str,
    *,
    strata: Mapping[str, Hashable] | None = None,
) -> dict[str, tuple[str, ...]]:
    """Divide videos so that each split has its fraction of every label, as far as whole videos allow.

    Labels are taken from the rarest to the most frequent (iterative stratification: Sechidis et al., ECML PKDD 2011). Of the n
    videos of a label each split is to have its fraction, rounded, and at least one if there are three; of two videos, training
    and test get one each; a single video goes to training. The videos that are not yet assigned are taken in an order that
    depends on a hash of their ids, and each goes to the split that lacks most of its videos of this label.

    Args:
        labels: labels of each video, by its id.
        fractions: fraction of the videos for each of the splits `train`, `validation` and `test`.
        seed: seed of the order of the videos.
        strata: a second property of each video. The videos of a label are assigned value by value, so that
            every split gets its fraction of each value as well.

    Returns:
        Sorted ids by split. They depend on the arguments only, not on their order.

    Example:
        >>> videos = {f"video{number}": ["rare" if number < 3 else "frequent"] for number in range(30)}
        >>> splits = stratified_splits(videos, {"train": 0.8, "validation": 0.1, "test": 0.1}, seed=0)
        >>> {name: (len(ids), sum(video in ("video0", "video1", "video2") for video in ids)) for name, ids in splits.items()}
        {'train': (22, 1), 'validation': (4, 1), 'test': (4, 1)}
    """
    holders: dict[Hashable, list[str]] = {}
    for video in shuffled(tuple(labels), seed):
        for label in labels[video]:
            holders.setdefault(label, []).append(video)
    assigned: dict[str, str] = {}  # video -> split
    for label in sorted(holders, key=lambda name: (len(holders[name]), str(name))):
        due = _videos_per_split(len(holders[label]), fractions)
        got = Counter(assigned[video] for video in holders[label] if video in assigned)
        free = [video for video in holders[label] if video not in assigned]
        if strata is not None:
            free = _grouped(free, strata, f"{seed}:{label}")
        for video in free:
            # The fraction of its videos of this label that each split still lacks; ties go to the smaller split.
            lack = {split: (count - got[split]) / count for split, count in due.items() if count}
            best = max(lack, key=lambda split: (round(lack[split], 9), -due[split], SPLITS.index(split)))
            assigned[video] = best
            got[best] += 1
    return {
        split: tuple(sorted(video for video, chosen in assigned.items() if chosen == split)) for split in fractions
    }


def _videos_per_split(count: int, fractions: Mapping[str, float]) -> dict[str, int]:
    """Return how many of the `count` videos of a label each split should have."""
    least = {"test": count >= 2, "validation": count >= 3}
    due = {split: max(round(fraction * count), int(least.get(split, 0))) for split, fraction in fractions.items()}
    return {**due, "train": count - sum(number for split, number in due.items() if split != "train")}


def _grouped(videos: Sequence[str], strata: Mapping[str, Hashable], seed: str) -> list[str]:
    """Return the videos grouped by the values of a second property, whose order depends on the seed."""
    order = shuffled(tuple({str(strata[video]) for video in videos}), seed)
    return sorted(videos, key=lambda video: order.index(str(strata[video])))
