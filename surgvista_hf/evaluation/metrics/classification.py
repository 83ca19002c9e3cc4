"""Metrics of samples with one class (action, skill) or several (criteria of safety, tools, procedures); all in 0-1."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...util.errors import InputError
from .ranking import average_precision

_BINS = 15


@dataclass(frozen=True)
class ClassificationMetrics:
    """Result of `classification_metrics`.

    Args:
        accuracy: fraction of the samples that are right.
        most_frequent: accuracy of always predicting the most frequent class of the test, which a model must exceed.
        balanced_accuracy: mean recall of the classes that occur.
        macro_precision, macro_recall, macro_f1: means over the classes that occur or are predicted; 0 where nothing is found.
        mean_average_precision: mean over the classes that occur of the average precision of one class against the rest.
        calibration_error: expected calibration error, 15 bins of equal width (Guo et al., ICML 2017).
        top_k: fraction of the samples whose class is among the k most probable, by k.
        by_class: (classes,) precision, recall, f1, average precision and number of samples, by the name of the metric.
    """

    accuracy: float
    most_frequent: float
    balanced_accuracy: float
    macro_precision: float
    macro_recall: float
    macro_f1: float
    mean_average_precision: float
    calibration_error: float
    top_k: dict[int, float]
    by_class: dict[str, np.ndarray]

    def to_dict(self) -> dict[str, object]:
        """Return the numbers that JSON can hold; what is not defined is `None`."""
        single = {name: value for name, value in vars(self).items() if isinstance(value, float)}
        return {
            **{name: _plain(value) for name, value in single.items()},
            **{f"top_{k}_accuracy": value for k, value in self.top_k.items()},
            "by_class": {name: [_plain(float(value)) for value in values] for name, values in self.by_class.items()},
        }

    def __str__(self) -> str:
        return (
            f"accuracy {self.accuracy:.1%} (always the most frequent class: {self.most_frequent:.1%})  balanced "
            f"{self.balanced_accuracy:.1%}  macro F1 {self.macro_f1:.1%}  mAP {self.mean_average_precision:.1%}  "
            f"calibration error {self.calibration_error:.1%}"
        )


def classification_metrics(
    labels: np.ndarray, probabilities: np.ndarray, *, top_k: Sequence[int] = (3, 5)
) -> ClassificationMetrics:
    """Compute metrics of samples with one class each.

    Args:
        labels: (samples,) class indices.
        probabilities: (samples, classes) probabilities; each row sums to 1.
        top_k: numbers of most probable classes that count for the top-k accuracies.

    Returns:
        The result.

    Raises:
        InputError: the shapes or numbers do not fit together.

    Example:
        >>> result = classification_metrics(np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]))
        >>> round(result.accuracy, 3), result.balanced_accuracy
        (0.667, 0.75)
    """
    labels, probabilities = np.asarray(labels), np.asarray(probabilities, np.float64)
    _check(labels, probabilities)
    samples, classes = probabilities.shape
    predicted = probabilities.argmax(axis=1)
    truth = np.eye(classes, dtype=int)[labels]  # (samples, classes)
    found = np.eye(classes, dtype=int)[predicted]
    right = (truth & found).sum(axis=0)
    num_true, num_found = truth.sum(axis=0), found.sum(axis=0)
    with np.errstate(invalid="ignore"):
        recall = np.where(num_true > 0, right / num_true, np.nan)
        precision = np.where(num_found > 0, right / num_found, np.where(num_true > 0, 0.0, np.nan))
        f1 = 2 * right / (num_true + num_found)
    seen = (num_true + num_found) > 0
    ap = average_precision(truth, probabilities)
    order = np.argsort(-probabilities, axis=1, kind="stable")
    return ClassificationMetrics(
        accuracy=float((predicted == labels).mean()),
        most_frequent=float(num_true.max() / samples),
        balanced_accuracy=float(np.nanmean(recall)),
        macro_precision=float(precision[seen].mean()),
        macro_recall=float(np.nan_to_num(recall[seen]).mean()),
        macro_f1=float(f1[seen].mean()),
        mean_average_precision=float(np.nanmean(ap)),
        calibration_error=expected_calibration_error(labels, probabilities),
        top_k={k: float((order[:, :k] == labels[:, None]).any(axis=1).mean()) for k in top_k if k < classes},
        by_class={"precision": precision, "recall": recall, "f1": f1, "average_precision": ap, "samples": num_true},
    )


def expected_calibration_error(labels: np.ndarray, probabilities: np.ndarray, *, bins: int = _BINS) -> float:
    """Compute the mean distance between confidence and accuracy over bins, weighted by samples (Guo et al., ICML 2017).

    Args:
        labels: (samples,) class indices.
        probabilities: (samples, classes) probabilities.
        bins: number of bins of equal width that the highest probability of a sample falls into.

    Example:
        >>> expected_calibration_error(np.array([0, 0]), np.array([[0.75, 0.25], [0.25, 0.75]]))
        0.25
    """
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)  # (samples,)
    weight = np.bincount(index, minlength=bins)
    gaps = np.bincount(index, confidence - right, minlength=bins)
    return float(np.abs(gaps).sum() / weight.sum())


@dataclass(frozen=True)
class CriteriaMetrics:
    """Result of `cvs_metrics`.

    Args:
        by_criterion: average precision of each criterion, 0-1; NaN without a positive sample.
        prevalence: fraction of positive samples of each criterion, which is the average precision of guessing.
    """

    by_criterion: dict[str, float]
    prevalence: dict[str, float]

    @property
    def mean(self) -> float:
        """Return the mean over the criteria that occur; NaN if none does."""
        return _mean(np.array(list(self.by_criterion.values())))

    def to_dict(self) -> dict[str, object]:
        """Return the numbers that JSON can hold."""
        criteria = {f"ap_{name}": _plain(value) for name, value in self.by_criterion.items()}
        return {"mean_average_precision": _plain(self.mean), **criteria, "prevalence": self.prevalence}

    def __str__(self) -> str:
        parts = "  ".join(
            f"{name} {value:.1%} (guessing {self.prevalence[name]:.1%})" for name, value in self.by_criterion.items()
        )
        return f"mAP {self.mean:.1%}: {parts}"


def cvs_metrics(
    labels: np.ndarray,
    scores: np.ndarray,
    *,
    criteria: Sequence[str] = ("two_structures", "hepatocystic_triangle_cleared", "cystic_plate_exposed"),
) -> CriteriaMetrics:
    """Compute the average precision of each criterion of the critical view of safety (Endoscapes, arXiv 2312.12429).

    Args:
        labels: (samples, criteria) of 0 and 1, or fractions of annotators, of whom at least half must agree.
        scores: (samples, criteria) scores, higher where a criterion is more likely fulfilled.
        criteria: names of the criteria.

    Returns:
        The result.

    Raises:
        InputError: the shapes do not fit together.

    Example:
        >>> cvs_metrics(np.eye(3), np.eye(3)).mean
        1.0
    """
    labels, scores = np.asarray(labels, np.float64), np.asarray(scores, np.float64)
    if labels.shape != scores.shape or labels.shape[1:] != (len(criteria),):
        raise InputError(
            f"labels {labels.shape} and scores {scores.shape}; (samples, {len(criteria)}) are needed twice"
        )
    if not ((labels >= 0) & (labels <= 1)).all():
        raise InputError("labels must be fractions in 0 … 1")
    positive = (labels >= 0.5).astype(int)
    ap = average_precision(positive, scores)
    return CriteriaMetrics(
        dict(zip(criteria, map(float, ap), strict=True)),
        dict(zip(criteria, map(float, positive.mean(axis=0)), strict=True)),
    )


@dataclass(frozen=True)
class PresenceMetrics:
    """Result of `presence_metrics`.

    Args:
        ranking: average precision and prevalence of each class.
        f1: F1 of each class at the threshold; NaN for a class that neither occurs nor is predicted.
        micro_f1: F1 of all decisions together.
        subset_accuracy: fraction of the samples in which every class is decided rightly.
        label_ranking_precision: mean over the samples that have a class of how well it is ranked among all classes (LRAP).
        video_mean_average_precision: mean over videos of the mean average precision within a video; NaN without videos.
    """

    ranking: CriteriaMetrics
    f1: dict[str, float]
    micro_f1: float
    subset_accuracy: float
    label_ranking_precision: float
    video_mean_average_precision: float

    @property
    def macro_f1(self) -> float:
        """Return the mean F1 over the classes that occur or are predicted; 0 where nothing is."""
        return _mean(np.array(list(self.f1.values())), otherwise=0.0)

    def to_dict(self) -> dict[str, object]:
        """Return the numbers that JSON can hold; what is not defined is `None`."""
        single = ("macro_f1", "micro_f1", "subset_accuracy", "label_ranking_precision", "video_mean_average_precision")
        return {
            **self.ranking.to_dict(),
            **{name: _plain(getattr(self, name)) for name in single},
            "f1": {name: _plain(value) for name, value in self.f1.items()},
        }

    def __str__(self) -> str:
        return (
            f"mAP {self.ranking.mean:.1%}  macro F1 {self.macro_f1:.1%}  micro F1 {self.micro_f1:.1%}  all classes right "
            f"{self.subset_accuracy:.1%}"
        )


def presence_metrics(
    labels: np.ndarray,
    probabilities: np.ndarray,
    *,
    names: Sequence[str],
    videos: np.ndarray | None = None,
    threshold: float = 0.5,
) -> PresenceMetrics:
    """Compute metrics of samples that may have several classes: tools in a frame, procedures of a video.

    Macro average precision over all samples, F1 at a threshold and subset accuracy are the numbers of LEMON's protocols for
    tool presence and procedures (arXiv 2503.19740).

    Args:
        labels: (samples, classes) of 0 and 1, or fractions of annotators, of whom at least half must agree.
        probabilities: (samples, classes) probabilities of each class by itself.
        names: names of the classes.
        videos: (samples,) names of the video of each sample, for the mean over videos.
        threshold: probability from which a class counts as predicted.

    Returns:
        The result.

    Raises:
        InputError: the shapes do not fit together.

    Example:
        >>> labels = np.array([[1, 0], [1, 1]])
        >>> result = presence_metrics(labels, np.array([[0.9, 0.6], [0.8, 0.7]]), names=("Grasper", "Hook"))
        >>> result.ranking.mean, round(result.macro_f1, 3), result.subset_accuracy
        (1.0, 0.833, 0.5)
    """
    labels, probabilities = np.asarray(labels, np.float64), np.asarray(probabilities, np.float64)
    ranking = cvs_metrics(labels, probabilities, criteria=names)
    truth, predicted = labels >= 0.5, probabilities >= threshold
    right, counted = (truth & predicted).sum(axis=0), truth.sum(axis=0) + predicted.sum(axis=0)
    with np.errstate(invalid="ignore"):
        f1 = 2 * right / counted
    return PresenceMetrics(
        ranking=ranking,
        f1=dict(zip(names, map(float, f1), strict=True)),
        micro_f1=float(2 * right.sum() / max(counted.sum(), 1)),
        subset_accuracy=float((truth == predicted).all(axis=1).mean()),
        label_ranking_precision=_mean(average_precision(truth.T.astype(int), probabilities.T)),
        video_mean_average_precision=_over_videos(truth, probabilities, videos),
    )


def _over_videos(truth: np.ndarray, scores: np.ndarray, videos: np.ndarray | None) -> float:
    if videos is None:
        return float("nan")
    masks = [videos == name for name in np.unique(videos)]
    return _mean(np.array([_mean(average_precision(truth[mask].astype(int), scores[mask])) for mask in masks]))


def _mean(values: np.ndarray, otherwise: float = float("nan")) -> float:
    """Return the mean of the numbers that are defined."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else otherwise


def _check(labels: np.ndarray, probabilities: np.ndarray) -> None:
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1] or not len(labels):
        raise InputError(
            f"labels {labels.shape} and probabilities {probabilities.shape}; (samples,) and (samples, classes) are needed"
        )
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= probabilities.shape[1]:
        raise InputError(f"labels must be class numbers in 0 … {probabilities.shape[1] - 1}")
    if not np.isfinite(probabilities).all() or np.abs(probabilities.sum(axis=1) - 1).max() > 1e-3:
        raise InputError("each row of probabilities must sum to 1; apply softmax to logits first")


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
