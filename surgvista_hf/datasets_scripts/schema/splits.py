"""Splits of videos with several labels in which even rare labels occur, for collections that publish no split."""

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
    """Divide videos so that each split has its share of every label, as far as whole videos allow.

    Labels are taken from the rarest to the most frequent (iterative stratification: Sechidis et al., ECML PKDD 2011). Of n
    videos a split is due its share, rounded, and at least one of three; of two, training and test get one each; a single one
    is for training. A label's videos that are still free go, in an order drawn from a hash of their ids, to the split which
    has least of what it is due.

    Args:
        labels: labels of each video.
        fractions: of the splits `train`, `validation` and `test`.
        seed: different ones give different splits.
        strata: a second property of each video; a label's videos are dealt out one value after the other, so that all
            splits get their share of each.

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
    placed: dict[str, str] = {}
    for label in sorted(holders, key=lambda name: (len(holders[name]), str(name))):
        due = _due(len(holders[label]), fractions)
        got = Counter(placed[video] for video in holders[label] if video in placed)
        free = [video for video in holders[label] if video not in placed]
        if strata is not None:
            free = _dealt(free, strata, f"{seed}:{label}")
        for video in free:
            lack = {split: (count - got[split]) / count for split, count in due.items() if count}
            best = max(lack, key=lambda split: (round(lack[split], 9), -due[split], SPLITS.index(split)))
            placed[video] = best
            got[best] += 1
    return {split: tuple(sorted(video for video, place in placed.items() if place == split)) for split in fractions}


def _due(count: int, fractions: Mapping[str, float]) -> dict[str, int]:
    """Videos of a label that each split should have."""
    least = {"test": count >= 2, "validation": count >= 3}
    due = {split: max(round(fraction * count), int(least.get(split, 0))) for split, fraction in fractions.items()}
    return {**due, "train": count - sum(number for split, number in due.items() if split != "train")}


def _dealt(videos: Sequence[str], strata: Mapping[str, Hashable], seed: str) -> list[str]:
    """One value of the second property after the other; which comes first is drawn."""
    order = shuffled(tuple({str(strata[video]) for video in videos}), seed)
    return sorted(videos, key=lambda video: order.index(str(strata[video])))
