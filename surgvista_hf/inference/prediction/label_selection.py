"""Which of many unlabeled moments to label: the uncertainty of a model, and a choice of uncertain moments that differ."""

from collections.abc import Sequence

import numpy as np

from ...util.errors import InputError

_FLOOR = 1e-3  # of uncertainty and of distance: where one of them is 0 everywhere, the other decides
_AT_ONCE = 256


def uncertainty(probabilities: np.ndarray, *, multi_label: bool = False) -> np.ndarray:
    """Return how uncertain a model is of each moment, as a fraction of the most that it can be.

    Args:
        probabilities: (moments, classes), calibrated where the model can.
        multi_label: classes are independent of each other.

    Returns:
        (moments,) from 0 to 1. One class a moment: 1 minus the margin between the two most probable ones. Independent classes:
        the sum of their entropies over its maximum.

    Example:
        >>> uncertainty(np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])).tolist()
        [1.0, 0.0]
        >>> uncertainty(np.array([[0.5, 1.0]]), multi_label=True).round(6).tolist()
        [0.5]
    """
    if multi_label:
        return np.asarray(_binary_entropy(np.asarray(probabilities, np.float64)).mean(axis=1) / np.log(2))
    if probabilities.shape[1] < 2:
        return np.zeros(len(probabilities))
    highest = np.sort(np.asarray(probabilities, np.float64), axis=1)[:, -2:]  # (moments, 2)
    return np.asarray(np.clip(1 - (highest[:, 1] - highest[:, 0]), 0, 1))


def choose_segments(
    scores: np.ndarray,
    features: np.ndarray,
    count: int,
    *,
    videos: Sequence[str] | None = None,
    starts: np.ndarray | None = None,
    least_distance: float = 0.0,
    known: np.ndarray | None = None,
    most_videos: int | None = None,
) -> list[int]:
    """Choose uncertain segments that differ from each other and from what has labels.

    One after the other, the segment with the largest product of its score and its distance from the nearest one that is
    chosen or has a label is taken: k-center greedy (Sener and Savarese, ICLR 2018, arXiv 1708.00489), weighted by uncertainty.
    Distances are Euclidean, of features that are standardized over the candidates.

    Args:
        scores: (segments,) uncertainties, 0-1.
        features: (segments, width) features, such as those that the classifier sees.
        count: number of segments to choose.
        videos: (segments,) names of their videos; by default all are of one.
        starts: (segments,) times in seconds; by default they are as far apart as need be.
        least_distance: least seconds between the starts of two segments of a video.
        known: (others, width) features of what has labels already, to keep away from as well. A model that was trained on
            these labels is sure there anyway, and `suggest_labels` leaves them out: see `benchmarks/label_suggestions.py`.
        most_videos: number of videos that the segments may come from; `None`: any number.

    Returns:
        Rows of the chosen segments in the order of the choice; fewer than `count` where no more are far enough apart.

    Raises:
        InputError: the arrays do not fit together, or hold numbers that are not finite.

    Example:
        >>> features = np.array([[0.0], [0.1], [5.0], [5.1]])
        >>> choose_segments(np.array([0.9, 0.8, 0.5, 0.6]), features, 2)
        [0, 3]
    """
    names = np.zeros(len(scores), np.int64) if videos is None else np.unique(list(videos), return_inverse=True)[1]
    times = np.full(len(scores), np.nan) if starts is None else np.asarray(starts, np.float64)
    if features.ndim != 2 or not len(scores) == len(features) == len(names) == len(times):
        raise InputError(
            f"{len(scores)} scores, features of shape {features.shape}, {len(names)} videos and {len(times)} times do not fit"
        )
    if not (np.isfinite(scores).all() and np.isfinite(features).all()):
        raise InputError("scores and features must be finite numbers")
    mean, deviation = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64) + 1e-6
    points = ((features - mean) / deviation).astype(np.float32)  # (segments, width)
    nearest = np.full(len(scores), np.inf)  # squared distance from the nearest chosen or labeled one
    if known is not None:
        nearest = _nearest(points, ((known - mean) / deviation).astype(np.float32))
    allowed, chosen = np.ones(len(scores), bool), list[int]()
    while len(chosen) < count and allowed.any():
        distances = np.where(np.isinf(nearest), 1.0, np.sqrt(nearest))
        values = (scores + _FLOOR) * (distances + _FLOOR)
        row = int(np.where(allowed, values, -np.inf).argmax())  # the first of equals: the choice is repeatable
        chosen.append(row)
        np.minimum(nearest, ((points - points[row]) ** 2).sum(axis=1), out=nearest)
        allowed[row] = False
        allowed &= ~((names == names[row]) & (np.abs(times - times[row]) < least_distance - 1e-6))
        used = np.unique(names[chosen])
        if most_videos is not None and len(used) >= most_videos:
            allowed &= np.isin(names, used)
    return chosen


def _nearest(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the squared distance (points,) of each point from the nearest of the others, a part of these at a time."""
    nearest = np.full(len(points), np.inf)
    lengths = (points**2).sum(axis=1)
    for start in range(0, len(others), _AT_ONCE):
        part = others[start : start + _AT_ONCE]
        squares = lengths[:, None] - 2 * points @ part.T + (part**2).sum(axis=1)  # (points, part)
        np.minimum(nearest, squares.min(axis=1), out=nearest)
    return np.maximum(nearest, 0)  # rounding may leave less


def _binary_entropy(probabilities: np.ndarray) -> np.ndarray:
    """Return the entropy of each class by itself in nats, of the shape of the probabilities."""
    p = np.clip(probabilities, 1e-12, 1 - 1e-12)
    return np.asarray(-(p * np.log(p) + (1 - p) * np.log(1 - p)))
