"""A linear classifier on frozen features: the quickest question to a representation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..modeling.errors_surgvista import InputError

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2)
_HELD_OUT = 5  # every fifth video chooses the penalty


@dataclass(frozen=True)
class Features:
    """Features of labelled clips.

    Args:
        values: (clips, width).
        labels: (clips,) class numbers.
        videos: (clips,) name of the video that each clip is from.
    """

    values: np.ndarray
    labels: np.ndarray
    videos: np.ndarray


def ridge_probe(train: Features, test: Features, penalties: Sequence[float] = PENALTIES) -> np.ndarray:
    """Classes of the test clips by ridge regression on one-hot labels.

    Features are standardised by the training clips. The penalty, in units of the number of clips, is the one that is most
    often right on every fifth training video, the whole video held out; then all are trained on. The test plays no part.

    Args:
        train, test: features.
        penalties: to choose from.

    Returns:
        (test clips,) class numbers.

    Raises:
        InputError: one training video only, or features of different width.

    Example:
        >>> x = np.repeat(np.eye(2), 10, axis=0)
        >>> train = Features(x, x.argmax(1), np.tile(["a", "b"], 10))
        >>> ridge_probe(train, train).tolist() == train.labels.tolist()
        True
    """
    names = np.unique(train.videos)
    if len(names) < 2 or train.values.shape[1] != test.values.shape[1]:
        raise InputError(
            f"a probe needs two training videos and one width of features; got {len(names)} videos, widths "
            f"{train.values.shape[1]} and {test.values.shape[1]}"
        )
    mean, std = train.values.mean(axis=0), train.values.std(axis=0) + 1e-6
    x, x_test = (_with_constant((part.values - mean) / std) for part in (train, test))
    classes = np.unique(train.labels)
    target = (train.labels[:, None] == classes).astype(np.float64)
    held = np.isin(train.videos, names[::_HELD_OUT])

    def right(penalty: float) -> float:
        weights = _fit(x[~held], target[~held], penalty)
        return float((classes[(x[held] @ weights).argmax(axis=1)] == train.labels[held]).mean())

    best = max(penalties, key=right)
    return classes[(x_test @ _fit(x, target, best)).argmax(axis=1)]


def accuracy_by_video(test: Features, predicted: np.ndarray) -> dict[str, float]:
    """Share of right clips of each video, 0-1."""
    right = predicted == test.labels
    return {str(video): float(right[test.videos == video].mean()) for video in np.unique(test.videos)}


def _with_constant(values: np.ndarray) -> np.ndarray:
    return np.c_[values, np.ones(len(values))].astype(np.float64)


def _fit(x: np.ndarray, target: np.ndarray, penalty: float) -> np.ndarray:
    return np.linalg.solve(x.T @ x + penalty * len(x) * np.eye(x.shape[1]), x.T @ target)
