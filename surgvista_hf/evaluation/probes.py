"""Probes of frozen features: the quickest tests of a representation.

| name | method | used by |
|---|---|---|
| linear probe | logistic regression with an L2 penalty: probabilities | the protocol `kind: linear` of a suite |
| k-NN probe | weighted vote of the nearest neighbors: probabilities | the protocol `kind: knn` of a suite |
| prototypes | nearest class mean of a few clips of each class: probabilities | the protocol `kind: prototypes` of a suite |
| ridge probe | ridge regression on one-hot labels, in closed form: classes | studies |

The methods are a few lines of NumPy each and treat several labels a clip at once; tests hold them against scikit-learn.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, softmax

from ..util.errors import InputError

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2)
_HELD_OUT = 5  # every fifth video chooses the penalty
_BLOCKS = 20  # of one video, where there is no other one


@dataclass(frozen=True)
class Features:
    """Features of labeled clips.

    Args:
        values: features, (clips, width).
        labels: class numbers (clips,), or labels from 0 to 1 (clips, classes).
        videos: name of the video of each clip, (clips,).
    """

    values: np.ndarray
    labels: np.ndarray
    videos: np.ndarray


def ridge_probe(train: Features, test: Features, penalties: Sequence[float] = PENALTIES) -> np.ndarray:
    """Predict the classes of test clips by ridge regression on one-hot labels.

    Features are standardized by the training clips. The penalty, in units of the number of clips, is the one with the highest
    accuracy on every fifth training video, the whole video held out; then the probe is fitted to all training clips. Of a
    single video, every fifth of twenty blocks of consecutive clips is held out. The test clips play no part.

    Args:
        train: features of the training clips, with one class each; those of a video in the order of time.
        test: features of the test clips.
        penalties: penalties that are tried.

    Returns:
        The class numbers, (test clips,).

    Raises:
        InputError: one training clip only, or features of different width.

    Example:
        >>> x = np.repeat(np.eye(2), 10, axis=0)
        >>> train = Features(x, x.argmax(1), np.tile(["a", "b"], 10))
        >>> ridge_probe(train, train).tolist() == train.labels.tolist()
        True
    """
    x, x_test, held_out = _standardize(train, test)
    classes = np.unique(train.labels)
    target = (train.labels[:, None] == classes).astype(np.float64)  # (clips, classes)

    def accuracy(penalty: float) -> float:
        """Return the accuracy on the held-out videos."""
        weights = _fit_ridge(x[~held_out], target[~held_out], penalty)
        return float((classes[(x[held_out] @ weights).argmax(axis=1)] == train.labels[held_out]).mean())

    best = max(penalties, key=accuracy)
    return classes[(x_test @ _fit_ridge(x, target, best)).argmax(axis=1)]


def linear_probe(
    train: Features, test: Features, classes: int, penalties: Sequence[float] = (1e-4, 1e-3, 1e-2, 1e-1)
) -> np.ndarray:
    """Predict the probabilities of test clips by logistic regression with an L2 penalty, fitted by L-BFGS.

    Features are standardized, and the penalty is chosen, as in `ridge_probe`, here by the loss.

    Args:
        train: features of the training clips; those of a video in the order of time.
        test: features of the test clips.
        classes: number of classes.
        penalties: penalties that are tried.

    Returns:
        The probabilities, (test clips, classes): softmax, or sigmoids where a clip has several labels.

    Raises:
        InputError: one training clip only, or features of different width.

    Example:
        >>> x = np.repeat(np.eye(2), 10, axis=0)
        >>> train = Features(x, x.argmax(1), np.tile(["a", "b"], 10))
        >>> linear_probe(train, train, 2).argmax(1).tolist() == train.labels.tolist()
        True
    """
    if train.values.shape[1] != test.values.shape[1]:
        raise _unusable(train, test)
    return fit_linear_probe(train, classes, penalties).probabilities(test.values)


@dataclass(frozen=True)
class LinearProbe:
    """A fitted logistic regression on standardized features.

    Args:
        mean, deviation: mean and standard deviation of the training features, (width,).
        weights: weights of the standardized features and, in the last row, of the constant, (width + 1, classes).
        multi_label: classes are independent of each other.
    """

    mean: np.ndarray
    deviation: np.ndarray
    weights: np.ndarray
    multi_label: bool

    def probabilities(self, values: np.ndarray) -> np.ndarray:
        """Return the probabilities (clips, classes) of features (clips, width)."""
        x = _with_constant((values - self.mean) / self.deviation)
        return _activate(x @ self.weights, self.multi_label)

    @property
    def layer(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the same as one linear layer on features as they are: its weight (classes, width) and bias (classes,)."""
        weight = self.weights[:-1].T / self.deviation
        return weight, self.weights[-1] - weight @ self.mean


def fit_linear_probe(
    train: Features, classes: int, penalties: Sequence[float] = (1e-4, 1e-3, 1e-2, 1e-1)
) -> LinearProbe:
    """Fit the logistic regression of `linear_probe`; arguments and errors are the same.

    Example:
        >>> x = np.repeat(np.eye(2), 10, axis=0)
        >>> probe = fit_linear_probe(Features(x, x.argmax(1), np.tile(["a", "b"], 10)), 2)
        >>> weight, bias = probe.layer
        >>> bool(((x @ weight.T + bias).argmax(axis=1) == x.argmax(axis=1)).all())
        True
    """
    x, _, held_out = _standardize(train, train)
    target, multi_label = _targets(train, classes)

    def loss(penalty: float) -> float:
        """Return the cross-entropy on the held-out videos."""
        weights = _fit_logistic(x[~held_out], target[~held_out], penalty, multi_label)
        return _cross_entropy(_activate(x[held_out] @ weights, multi_label), target[held_out], multi_label)

    best = min(penalties, key=loss)
    mean, deviation = _moments(train)
    return LinearProbe(mean, deviation, _fit_logistic(x, target, best, multi_label), multi_label)


def knn_probe(train: Features, test: Features, classes: int, *, k: int = 20, temperature: float = 0.07) -> np.ndarray:
    """Predict the probabilities of test clips by a vote of the nearest training clips (DINO, arXiv 2104.14294).

    Similarity is the cosine; the weight of a vote is exp(similarity / T).

    Args:
        train: features of the training clips.
        test: features of the test clips.
        classes: number of classes.
        k: number of neighbors.
        temperature: the temperature T.

    Returns:
        The fractions of the votes, (test clips, classes).

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
    target, _ = _targets(train, classes)
    keys, queries = (_unit(part.values.astype(np.float32)) for part in (train, test))
    votes = []
    for start in range(0, len(queries), 1024):
        similarity = queries[start : start + 1024] @ keys.T  # (queries, clips)
        nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
        weight = np.exp((np.take_along_axis(similarity, nearest, axis=1).astype(np.float64) - 1) / temperature)
        votes.append((weight[:, :, None] * target[nearest]).sum(axis=1) / weight.sum(axis=1, keepdims=True))
    return np.concatenate(votes)


def draw_shots(train: Features, classes: int, shots: int, seed: int = 0) -> np.ndarray:
    """Draw a few training clips of each class, from as many videos as possible: those of one video look alike.

    Args:
        train: features of the training clips.
        classes: number of classes.
        shots: number of clips of each class. A class that has fewer gives all; one without any gives none.
        seed: seed of the choice, which is that of NumPy's default generator.

    Returns:
        Indices of the drawn clips, sorted; a clip with several labels may be drawn for each of them and is listed once.

    Example:
        >>> train = Features(np.zeros((4, 2)), np.array([0, 0, 1, 1]), np.array(["a", "b", "a", "a"]))
        >>> draw_shots(train, 2, 1).tolist() == draw_shots(train, 2, 1, seed=0).tolist()
        True
    """
    if shots < 1:
        raise InputError(f"shots is {shots}; a prototype needs one clip at least")
    target, _ = _targets(train, classes)
    generator = np.random.default_rng(seed)
    chosen: set[int] = set()
    for column in target.T:
        order = generator.permutation(np.flatnonzero(column > 0.5))
        rounds: dict[str, int] = {}
        turns = []  # how many clips of its video come before a clip
        for index in order:
            video = str(train.videos[index])
            turns.append(rounds.setdefault(video, 0))
            rounds[video] += 1
        chosen.update(order[np.argsort(turns, kind="stable")][:shots].tolist())
    return np.array(sorted(chosen), dtype=np.int64)


def prototype_probe(
    train: Features, test: Features, classes: int, *, shots: int = 1, seed: int = 0, temperature: float = 0.07
) -> np.ndarray:
    """Predict the probabilities of test clips by the mean of a few training clips of each class.

    Prototypes are those of Prototypical Networks (arXiv 1703.05175); features are centered by the mean of the drawn clips and
    scaled to length 1 before and after averaging, as in SimpleShot (arXiv 1911.04623). One class is the softmax of the cosines
    over T. For several labels, each class is compared with the mean of the drawn clips that do not have it: the sigmoid of the
    difference of the cosines over T.

    Args:
        train: features of the training clips.
        test: features of the test clips.
        classes: number of classes.
        shots: number of clips of each class, see `draw_shots`.
        seed: seed of their choice.
        temperature: the temperature T.

    Returns:
        The probabilities, (test clips, classes); 0 for a class that no training clip has.

    Raises:
        InputError: features of different width, or no shots.

    Example:
        >>> train = Features(np.eye(2), np.array([0, 1]), np.array(["a", "b"]))
        >>> prototype_probe(train, train, 2).argmax(axis=1).tolist()
        [0, 1]
    """
    if train.values.shape[1] != test.values.shape[1]:
        raise InputError(
            f"prototypes of width {train.values.shape[1]} cannot be compared with features of width {test.values.shape[1]}"
        )
    drawn = draw_shots(train, classes, shots, seed)
    target, multi_label = _targets(train, classes)
    known = target[drawn] > 0.5  # (drawn, classes)
    center = train.values[drawn].astype(np.float64).mean(axis=0)
    support, queries = (_unit(values.astype(np.float64) - center) for values in (train.values[drawn], test.values))
    logits = queries @ _means(support, known).T / temperature  # (test clips, classes)
    if multi_label:
        probabilities = expit(logits - queries @ _means(support, ~known).T / temperature)
        return np.asarray(np.where(known.any(axis=0), probabilities, 0.0))
    return np.asarray(softmax(np.where(known.any(axis=0), logits, -np.inf), axis=1))


def _means(values: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Return the means (classes, width), of length 1, of the rows that belong to each class; zeros for none."""
    return _unit(members.T.astype(np.float64) @ values)


def accuracy_by_video(test: Features, predicted: np.ndarray) -> dict[str, float]:
    """Return the fraction of each video's clips that is predicted correctly, 0-1, by the name of the video."""
    correct = predicted == test.labels
    return {str(video): float(correct[test.videos == video].mean()) for video in np.unique(test.videos)}


def _standardize(train: Features, test: Features) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the standardized features of both, and a mask of the training clips that choose the penalty."""
    if len(train.values) < 2 or train.values.shape[1] != test.values.shape[1]:
        raise _unusable(train, test)
    mean, std = _moments(train)
    x, x_test = (_with_constant((part.values - mean) / std) for part in (train, test))
    return x, x_test, _held_out(train.videos)


def _moments(train: Features) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of the training features, (width,)."""
    return train.values.mean(axis=0), train.values.std(axis=0) + 1e-6


def _unusable(train: Features, test: Features) -> InputError:
    return InputError(
        f"a probe needs two training clips and one width of features; got {len(train.values)} clips, widths "
        f"{train.values.shape[1]} and {test.values.shape[1]}"
    )


def _held_out(videos: np.ndarray) -> np.ndarray:
    """Return a mask of the clips that choose the penalty: every fifth video, or every fifth block of time of a single one."""
    names = np.unique(videos)
    if len(names) > 1:
        return np.isin(videos, names[::_HELD_OUT])
    # Neighboring clips are nearly the same, so single clips that are held out would be known already.
    blocks = np.arange(len(videos)) * min(_BLOCKS, len(videos)) // len(videos)
    return np.asarray(blocks % _HELD_OUT == 0)


def _unit(values: np.ndarray) -> np.ndarray:
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)


def _targets(train: Features, classes: int) -> tuple[np.ndarray, bool]:
    """Return the labels as (clips, classes), and whether a clip may have several."""
    multi_label = train.labels.ndim == 2
    return (train.labels.astype(np.float64) if multi_label else np.eye(classes)[train.labels]), multi_label


def _activate(logits: np.ndarray, multi_label: bool) -> np.ndarray:
    return expit(logits) if multi_label else softmax(logits, axis=1)


def _cross_entropy(probabilities: np.ndarray, target: np.ndarray, multi_label: bool) -> float:
    loss = -target * np.log(np.maximum(probabilities, 1e-12))
    if multi_label:
        loss -= (1 - target) * np.log(np.maximum(1 - probabilities, 1e-12))
    return float(loss.sum() / len(target))


def _fit_logistic(x: np.ndarray, target: np.ndarray, penalty: float, multi_label: bool) -> np.ndarray:
    shape = (x.shape[1], target.shape[1])  # (width + 1, classes)
    is_penalized = np.r_[np.ones(shape[0] - 1), 0.0]  # the constant is not

    def loss_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        """Compute what is minimized and its gradient."""
        weights = flat.reshape(shape)
        probabilities = _activate(x @ weights, multi_label)
        shrunk = weights * is_penalized[:, None]
        loss = _cross_entropy(probabilities, target, multi_label) + 0.5 * penalty * float((shrunk**2).sum())
        gradient = x.T @ (probabilities - target) / len(x) + penalty * shrunk
        return loss, gradient.ravel()

    start = np.zeros(shape[0] * shape[1])
    found = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", options={"maxiter": 200})
    return np.asarray(found.x).reshape(shape)


def _with_constant(values: np.ndarray) -> np.ndarray:
    return np.c_[values, np.ones(len(values))].astype(np.float64)


def _fit_ridge(x: np.ndarray, target: np.ndarray, penalty: float) -> np.ndarray:
    return np.linalg.solve(x.T @ x + penalty * len(x) * np.eye(x.shape[1]), x.T @ target)
