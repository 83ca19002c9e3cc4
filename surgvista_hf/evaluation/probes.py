"""Probes of frozen features: linear classifiers and nearest neighbors, the quickest questions to a representation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, softmax

from ..util.errors import InputError

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2)
_HELD_OUT = 5  # every fifth video chooses the penalty


@dataclass(frozen=True)
class Features:
    """Features of labeled clips.

    Args:
        values: (clips, width).
        labels: (clips,) class numbers, or (clips, classes) of 0 to 1.
        videos: (clips,) name of the video that each clip is from.
    """

    values: np.ndarray
    labels: np.ndarray
    videos: np.ndarray


def ridge_probe(train: Features, test: Features, penalties: Sequence[float] = PENALTIES) -> np.ndarray:
    """Classes of the test clips by ridge regression on one-hot labels.

    Features are standardized by the training clips. The penalty, in units of the number of clips, is the one that is most
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
    x, x_test, held = _prepared(train, test)
    classes = np.unique(train.labels)
    target = (train.labels[:, None] == classes).astype(np.float64)

    def right(penalty: float) -> float:
        weights = _fit(x[~held], target[~held], penalty)
        return float((classes[(x[held] @ weights).argmax(axis=1)] == train.labels[held]).mean())

    best = max(penalties, key=right)
    return classes[(x_test @ _fit(x, target, best)).argmax(axis=1)]


def logistic_probe(
    train: Features, test: Features, classes: int, penalties: Sequence[float] = (1e-4, 1e-3, 1e-2, 1e-1)
) -> np.ndarray:
    """Probabilities of the test clips by logistic regression with an L2 penalty, found by L-BFGS.

    Features are standardized, and the penalty chosen, as in `ridge_probe`, here by the loss.

    Args:
        train, test: features.
        classes: number of classes.
        penalties: to choose from.

    Returns:
        (test clips, classes): softmax, or sigmoids where a clip has several labels.

    Raises:
        InputError: see `ridge_probe`.

    Example:
        >>> x = np.repeat(np.eye(2), 10, axis=0)
        >>> train = Features(x, x.argmax(1), np.tile(["a", "b"], 10))
        >>> logistic_probe(train, train, 2).argmax(1).tolist() == train.labels.tolist()
        True
    """
    x, x_test, held = _prepared(train, test)
    several = train.labels.ndim == 2
    target = train.labels.astype(np.float64) if several else np.eye(classes)[train.labels]

    def loss(penalty: float) -> float:
        said = _activate(x[held] @ _fit_logistic(x[~held], target[~held], penalty, several), several)
        return _cross_entropy(said, target[held], several)

    best = min(penalties, key=loss)
    return _activate(x_test @ _fit_logistic(x, target, best, several), several)


def knn_probe(train: Features, test: Features, classes: int, *, k: int = 20, temperature: float = 0.07) -> np.ndarray:
    """Votes of the nearest training clips by cosine similarity, weighted by exp(similarity / T) (DINO, arXiv 2104.14294).

    Args:
        train, test: features.
        classes: number of classes.
        k: neighbors.
        temperature: T.

    Returns:
        (test clips, classes), shares of the votes.

    Raises:
        InputError: features of different width, or fewer training clips than neighbors.

    Example:
        >>> train = Features(np.eye(2), np.array([0, 1]), np.array(["a", "b"]))
        >>> knn_probe(train, train, 2, k=1).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    if train.values.shape[1] != test.values.shape[1] or not 0 < k <= len(train.values):
        raise InputError(
            f"{k} neighbors among {len(train.values)} clips of width {train.values.shape[1]} cannot vote on features of "
            f"width {test.values.shape[1]}"
        )
    several = train.labels.ndim == 2
    target = train.labels.astype(np.float64) if several else np.eye(classes)[train.labels]
    keys, queries = (_unit(part.values.astype(np.float32)) for part in (train, test))
    votes = []
    for start in range(0, len(queries), 1024):
        similarity = queries[start : start + 1024] @ keys.T
        nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
        weight = np.exp((np.take_along_axis(similarity, nearest, axis=1).astype(np.float64) - 1) / temperature)
        votes.append((weight[:, :, None] * target[nearest]).sum(axis=1) / weight.sum(axis=1, keepdims=True))
    return np.concatenate(votes)


def accuracy_by_video(test: Features, predicted: np.ndarray) -> dict[str, float]:
    """Share of right clips of each video, 0-1."""
    right = predicted == test.labels
    return {str(video): float(right[test.videos == video].mean()) for video in np.unique(test.videos)}


def _prepared(train: Features, test: Features) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Standardized features of both, and which training clips choose the penalty."""
    names = np.unique(train.videos)
    if len(names) < 2 or train.values.shape[1] != test.values.shape[1]:
        raise InputError(
            f"a probe needs two training videos and one width of features; got {len(names)} videos, widths "
            f"{train.values.shape[1]} and {test.values.shape[1]}"
        )
    mean, std = train.values.mean(axis=0), train.values.std(axis=0) + 1e-6
    x, x_test = (_with_constant((part.values - mean) / std) for part in (train, test))
    return x, x_test, np.isin(train.videos, names[::_HELD_OUT])


def _unit(values: np.ndarray) -> np.ndarray:
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)


def _activate(logits: np.ndarray, several: bool) -> np.ndarray:
    return expit(logits) if several else softmax(logits, axis=1)


def _cross_entropy(said: np.ndarray, target: np.ndarray, several: bool) -> float:
    loss = -target * np.log(np.maximum(said, 1e-12))
    if several:
        loss -= (1 - target) * np.log(np.maximum(1 - said, 1e-12))
    return float(loss.sum() / len(target))


def _fit_logistic(x: np.ndarray, target: np.ndarray, penalty: float, several: bool) -> np.ndarray:
    shape = (x.shape[1], target.shape[1])
    free = np.r_[np.ones(shape[0] - 1), 0.0]  # the constant is not shrunk

    def value(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(shape)
        said = _activate(x @ weights, several)
        shrunk = weights * free[:, None]
        gradient = x.T @ (said - target) / len(x) + penalty * shrunk
        return _cross_entropy(said, target, several) + 0.5 * penalty * float((shrunk**2).sum()), gradient.ravel()

    found = minimize(value, np.zeros(shape[0] * shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 200})
    return np.asarray(found.x).reshape(shape)


def _with_constant(values: np.ndarray) -> np.ndarray:
    return np.c_[values, np.ones(len(values))].astype(np.float64)


def _fit(x: np.ndarray, target: np.ndarray, penalty: float) -> np.ndarray:
    return np.linalg.solve(x.T @ x + penalty * len(x) * np.eye(x.shape[1]), x.T @ target)
