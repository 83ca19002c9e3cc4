"""Average precision of scores for several classes."""

import numpy as np

from ...util.errors import InputError


def average_precision(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Compute the average precision of each class: Σ (R_k - R_{k-1}) P_k over falling thresholds, equal scores together.

    It is not interpolated and agrees with scikit-learn's `average_precision_score`.

    Args:
        labels: (samples, classes) of 0 and 1.
        scores: (samples, classes) scores, higher where a class is more likely.

    Returns:
        (classes,) average precisions, 0-1; NaN for a class without a positive sample.

    Raises:
        InputError: the shapes differ, labels are not 0 or 1, or scores are not finite.

    Example:
        >>> average_precision(np.array([[1], [0], [1]]), np.array([[0.9], [0.5], [0.1]]))
        array([0.83333333])
    """
    labels, scores = np.asarray(labels), np.asarray(scores, np.float64)
    if labels.shape != scores.shape or labels.ndim != 2:
        raise InputError(
            f"labels of shape {labels.shape} and scores of shape {scores.shape}; both are (samples, classes)"
        )
    if not np.isin(labels, (0, 1)).all() or not np.isfinite(scores).all():
        raise InputError("labels must be 0 or 1 and scores finite")
    return np.array([_of_class(labels[:, c].astype(bool), scores[:, c]) for c in range(labels.shape[1])])


def _of_class(labels: np.ndarray, scores: np.ndarray) -> float:
    positives = int(labels.sum())
    if not positives:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(labels[order])
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))  # last sample of each group of equal scores
    precision, recall = hits[last] / (last + 1), hits[last] / positives
    return float((np.diff(recall, prepend=0.0) * precision).sum())
