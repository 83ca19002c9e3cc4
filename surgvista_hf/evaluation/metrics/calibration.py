"""Calibration of probabilities, and temperature scaling (Guo et al., ICML 2017, arXiv 1706.04599).

Pure functions of arrays. The temperature divides all logits of a model, so the order of the classes of a sample stays.
"""

from dataclasses import asdict, dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit, softmax

from ...util.errors import InputError
from .classification import expected_calibration_error

_BINS = 15
_LOWEST, _HIGHEST = 0.1, 10.0  # bounds of the temperature; a model that is never wrong on few clips would get 0
_TINY = 1e-12


@dataclass(frozen=True)
class Calibration:
    """Result of `fit_temperature`; the metrics are of the samples that it was fitted on.

    Args:
        temperature: divisor of the logits.
        samples: number of samples that it was fitted on.
        error_before, error_after: expected calibration error, 0-1; the result of `calibration_error`.
        loss_before, loss_after: mean cross-entropy; the result of `negative_log_likelihood`.
    """

    temperature: float
    samples: int
    error_before: float
    error_after: float
    loss_before: float
    loss_after: float

    def to_dict(self) -> dict[str, float]:
        """Return the numbers, as JSON can hold them."""
        return asdict(self)


def fit_temperature(labels: np.ndarray, probabilities: np.ndarray, *, multi_label: bool = False) -> Calibration:
    """Find the temperature with the least negative log-likelihood, which has one minimum.

    Args:
        labels: (samples,) class indices; with `multi_label` (samples, classes) of 0 and 1.
        probabilities: (samples, classes) outputs of softmax, or with `multi_label` of sigmoid, at temperature 1.
        multi_label: classes are independent of each other.

    Returns:
        The temperature, between 0.1 and 10, with what it changes.

    Raises:
        InputError: the shapes do not fit together, or there are no samples.

    Example:
        >>> labels, sure = np.array([0, 0, 0, 1]), np.tile([0.99, 0.01], (4, 1))  # right in three of four
        >>> found = fit_temperature(labels, sure)
        >>> round(found.temperature, 2), scale_probabilities(sure[:1], found.temperature).round(2).tolist()
        (4.18, [[0.75, 0.25]])
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, np.float64)
    expected = probabilities.shape if multi_label else probabilities.shape[:1]
    if probabilities.ndim != 2 or labels.shape != expected or not len(labels):
        raise InputError(f"labels {labels.shape} and probabilities {probabilities.shape} do not fit together")

    def loss(log_temperature: float) -> float:
        """Return the loss at a temperature, on the logarithmic scale that the search is made on."""
        scaled = scale_probabilities(probabilities, float(np.exp(log_temperature)), multi_label=multi_label)
        return negative_log_likelihood(labels, scaled, multi_label=multi_label)

    bounds = (np.log(_LOWEST), np.log(_HIGHEST))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    temperature, before = float(np.exp(found.x)), loss(0.0)
    if loss(float(found.x)) >= before:  # nothing to gain, such as where all classes are always equal
        temperature = 1.0
    scaled = scale_probabilities(probabilities, temperature, multi_label=multi_label)
    return Calibration(
        temperature,
        len(labels),
        calibration_error(labels, probabilities, multi_label=multi_label),
        calibration_error(labels, scaled, multi_label=multi_label),
        before,
        negative_log_likelihood(labels, scaled, multi_label=multi_label),
    )


def scale_probabilities(probabilities: np.ndarray, temperature: float, *, multi_label: bool = False) -> np.ndarray:
    """Return the probabilities that the same logits give at another temperature.

    Args:
        probabilities: (samples, classes) probabilities at temperature 1.
        temperature: divisor of the logits.
        multi_label: the probabilities are outputs of sigmoid, not of softmax.

    Example:
        >>> scale_probabilities(np.array([[0.8, 0.2]]), 2.0).round(4).tolist()  # odds 4 become odds 2
        [[0.6667, 0.3333]]
    """
    if temperature == 1:
        return probabilities
    values = np.asarray(probabilities, np.float64)
    if multi_label:
        return np.asarray(expit(logit(np.clip(values, _TINY, 1 - _TINY)) / temperature))
    return np.asarray(softmax(np.log(np.maximum(values, np.finfo(np.float64).tiny)) / temperature, axis=-1))


def calibration_error(labels: np.ndarray, probabilities: np.ndarray, *, multi_label: bool = False) -> float:
    """Return the expected calibration error, 0-1, in 15 bins of equal width (Guo et al., 2017).

    For one class a sample it compares the highest probability with how often that class is right, see
    `expected_calibration_error`. With `multi_label` each class of each sample is one yes-or-no question: its probability is
    compared with how often the answer is yes.

    Args:
        labels: (samples,) class indices; with `multi_label` (samples, classes) of 0 and 1.
        probabilities: (samples, classes) probabilities.
        multi_label: classes are independent of each other.

    Example:
        >>> labels, predicted = np.array([[1, 0], [0, 0]]), np.array([[0.5, 0.1], [0.5, 0.1]])
        >>> round(calibration_error(labels, predicted, multi_label=True), 6)  # 0.5 is right, 0.1 never happens
        0.05
    """
    if not multi_label:
        return expected_calibration_error(labels, probabilities)
    predicted, truth = np.ravel(probabilities).astype(np.float64), np.ravel(labels).astype(np.float64)
    bins = np.clip(np.ceil(predicted * _BINS).astype(int) - 1, 0, _BINS - 1)
    gaps = np.bincount(bins, predicted - truth, minlength=_BINS)  # sum of differences in each bin
    return float(np.abs(gaps).sum() / len(predicted))


def negative_log_likelihood(labels: np.ndarray, probabilities: np.ndarray, *, multi_label: bool = False) -> float:
    """Return the mean cross-entropy of predictions in nats; binary and over all classes with `multi_label`.

    Args:
        labels: (samples,) class indices; with `multi_label` (samples, classes) of 0 to 1.
        probabilities: (samples, classes) probabilities.
        multi_label: classes are independent of each other.

    Example:
        >>> round(negative_log_likelihood(np.array([0, 1]), np.array([[0.5, 0.5], [0.5, 0.5]])), 4)
        0.6931
    """
    scores = np.clip(probabilities, _TINY, 1 - _TINY)
    if multi_label:
        return float(-(labels * np.log(scores) + (1 - labels) * np.log(1 - scores)).mean())
    return float(-np.log(scores[np.arange(len(labels)), labels]).mean())
