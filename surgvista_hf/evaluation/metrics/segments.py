"""Metrics of segments, which punish fragmented predictions: edit score and segmental F1 (Lea et al., CVPR 2017)."""

from collections.abc import Mapping, Sequence

import numpy as np

from .workflow import checked_videos, runs


def edit_score(labels: Mapping[str, np.ndarray], predictions: Mapping[str, np.ndarray], *, num_classes: int) -> float:
    """Compute 1 minus the edit distance of the predicted to the true order of segments, over the longer; mean over videos.

    Args:
        labels, predictions: (frames,) class indices by the name of the video.
        num_classes: number of classes.

    Returns:
        The score, 0-1.

    Raises:
        InputError: labels and predictions cannot be compared, as in `phase_metrics`.

    Example:
        >>> edit_score({"a": np.array([0, 0, 1, 2])}, {"a": np.array([0, 1, 1, 1])}, num_classes=3)
        0.6666666666666667
    """
    scores = []
    for truth, predicted in checked_videos(labels, predictions, num_classes).values():
        true, found = ([label for label, *_ in runs(part)] for part in (truth, predicted))
        scores.append(1 - _distance(true, found) / max(len(true), len(found)))
    return float(np.mean(scores))


def segmental_f1(
    labels: Mapping[str, np.ndarray],
    predictions: Mapping[str, np.ndarray],
    *,
    num_classes: int,
    overlaps: Sequence[float] = (0.1, 0.25, 0.5),
) -> dict[str, float]:
    """Compute the F1 of segments of all videos together.

    A segment is right if its intersection over union with a true segment of its class, which no other segment has matched,
    reaches a threshold.

    Args:
        labels, predictions: (frames,) class indices by the name of the video.
        num_classes: number of classes.
        overlaps: thresholds of the intersection over union.

    Returns:
        `f1@10`, `f1@25`, `f1@50`: scores in 0-1 by the threshold in per cent.

    Raises:
        InputError: labels and predictions cannot be compared, as in `phase_metrics`.

    Example:
        >>> segmental_f1({"a": np.array([0, 0, 0, 1])}, {"a": np.array([0, 0, 1, 1])}, num_classes=2)
        {'f1@10': 1.0, 'f1@25': 1.0, 'f1@50': 1.0}
    """
    pairs = checked_videos(labels, predictions, num_classes).values()
    segments = [tuple(list(runs(part)) for part in pair) for pair in pairs]
    total = sum(len(true) + len(found) for true, found in segments)
    hits = {overlap: sum(_hits(true, found, overlap) for true, found in segments) for overlap in overlaps}
    return {f"f1@{round(overlap * 100)}": 2 * hit / total for overlap, hit in hits.items()}


def _hits(true: list[tuple[int, int, int]], found: list[tuple[int, int, int]], overlap: float) -> int:
    taken: set[int] = set()  # true segments that were found; further predictions of the same one are false
    for label, start, stop in found:
        ious = [
            max(min(stop, other_stop) - max(start, other_start), 0)
            / (max(stop, other_stop) - min(start, other_start))
            * (other == label)
            for other, other_start, other_stop in true
        ]
        best = int(np.argmax(ious))
        if ious[best] >= overlap and ious[best] > 0 and best not in taken:
            taken.add(best)
    return len(taken)


def _distance(first: Sequence[int], second: Sequence[int]) -> int:
    """Return the Levenshtein distance of two sequences."""
    row = list(range(len(second) + 1))
    for i, one in enumerate(first, 1):
        previous, row[0] = row[0], i
        for j, other in enumerate(second, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (one != other))
    return row[-1]
