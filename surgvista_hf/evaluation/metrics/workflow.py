"""Metrics of surgical workflow recognition, every variant by its name.

Published numbers cannot be compared without knowing what was averaged over what, whether frames near a transition were
forgiven, and how phases that a video does not have were counted ("Metrics Matter in Surgical Phase Recognition",
arXiv 2305.13961). Nothing is relaxed here unless a caller requests it. All results lie in 0-1.

With G the frames of phase c in a video, Q those predicted as c, and TP = |G ∩ Q|: precision TP / |Q|, recall TP / |G|, Jaccard
TP / |G ∪ Q|, F1 2 TP / (|G| + |Q|).
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ...util.errors import InputError
from ...util.messages import preview

Mode = Literal["strict", "relaxed_published", "relaxed_corrected"]
Absent = Literal["gt_only", "union"]
Average = Literal["phase_then", "video_then", "pooled"]
MODES: tuple[Mode, ...] = ("strict", "relaxed_published", "relaxed_corrected")
SCORES = ("precision", "recall", "jaccard", "f1")
_CHOICES = {"mode": MODES, "absent": ("gt_only", "union"), "average": ("phase_then", "video_then", "pooled")}
_TOLERANCE_SECONDS = 10

# Errors that the Matlab scripts of the M2CAI16 challenge forgive, by number of phases: phase (from 0) -> differences
# (prediction minus truth) that pass in its first and in its last ten seconds. Other phases: -1 and +1.
_EXCEPTIONS: dict[int, dict[int, tuple[tuple[int, ...], tuple[int, ...]]]] = {
    7: {3: ((-1,), (1, 2)), 4: ((-1,), (1, 2)), 5: ((-1, -2), (1, 2)), 6: ((-1, -2), (1, 2))},
    8: {4: ((-1,), (1, 2)), 5: ((-1,), (1, 2)), 6: ((-1, -2), (1, 2)), 7: ((-1, -2), (1, 2))},
}
_USUAL = ((-1,), (1,))


@dataclass(frozen=True)
class PhaseMetrics:
    """Result of `phase_metrics`, with the names of its variants.

    Args:
        mode, absent, average, fps, num_classes: the arguments of `phase_metrics`.
        image_accuracy: fraction of all frames that are right.
        accuracy_by_video: fraction of the frames of each video that are right.
        mean: precision, recall, jaccard and f1, by name.
        std: standard deviation of precision, recall and jaccard over phases, and of f1 over videos, with N - 1, as published;
            empty when pooled.
        by_phase: (num_classes,) scores of each phase by the name of the score, averaged over videos; NaN for a phase that
            never occurs.
    """

    mode: Mode
    absent: Absent
    average: Average
    fps: float
    num_classes: int
    image_accuracy: float
    accuracy_by_video: dict[str, float]
    mean: dict[str, float]
    std: dict[str, float]
    by_phase: dict[str, np.ndarray]

    @property
    def video_accuracy(self) -> float:
        """Return the mean over videos of the fraction of right frames."""
        return float(np.mean(list(self.accuracy_by_video.values())))

    @property
    def video_accuracy_std(self) -> float:
        """Return the standard deviation of the accuracy over videos, with N - 1; NaN for one video."""
        return _std(np.array(list(self.accuracy_by_video.values())))

    def to_dict(self) -> dict[str, object]:
        """Return the numbers and names that JSON can hold; what is not defined is `None`."""
        numbers = {
            "image_accuracy": self.image_accuracy,
            "video_accuracy": self.video_accuracy,
            "video_accuracy_std": self.video_accuracy_std,
            **{f"phase_{name}": self.mean[name] for name in SCORES},
            **{f"phase_{name}_std": value for name, value in self.std.items()},
        }
        return {
            "mode": self.mode,
            "absent": self.absent,
            "average": self.average,
            "fps": self.fps,
            **{name: _plain(value) for name, value in numbers.items()},
            "accuracy_by_video": self.accuracy_by_video,
            "by_phase": {name: [_plain(value) for value in values] for name, values in self.by_phase.items()},
        }

    def __str__(self) -> str:
        scores = "  ".join(f"{name} {self.mean[name]:.1%}" for name in SCORES)
        return (
            f"{self.mode} (average {self.average}, absent {self.absent}, {self.fps:g} fps): "
            f"image accuracy {self.image_accuracy:.1%}  video accuracy {self.video_accuracy:.1%} ± "
            f"{self.video_accuracy_std:.1%}  {scores}"
        )


def phase_metrics(
    labels: Mapping[str, np.ndarray],
    predictions: Mapping[str, np.ndarray],
    *,
    num_classes: int,
    fps: float = 1.0,
    mode: Mode = "strict",
    absent: Absent = "gt_only",
    average: Average = "phase_then",
) -> PhaseMetrics:
    """Compute accuracy, precision, recall, Jaccard and F1 of predicted phases.

    Args:
        labels, predictions: (frames,) class indices of all frames in order, by the name of the video.
        num_classes: number of phases.
        fps: frames a second, which the relaxed modes need.
        mode: `"strict"`: nothing is forgiven. `"relaxed_corrected"`: errors within 10 s of a transition are, where the
            prediction is a neighboring class number, as the Matlab scripts of the M2CAI16 challenge mean it.
            `"relaxed_published"`: as those scripts do it, which clears the wrong frames at the end of a phase; only to
            compare with numbers made with them. Both exist for 7 phases (Cholec80, AutoLaparo) and 8 (M2CAI16). Scores
            above 1, which forgiving makes, count as 1.
        absent: a phase that a video does not have is left out of its precision, recall, Jaccard and F1 (`"gt_only"`); or
            only if it was not predicted there either, and otherwise counts 0, except in recall (`"union"`).
        average: over videos for each phase, then over phases (`"phase_then"`); over phases for each video, then over videos
            (`"video_then"`); or over phases of one confusion matrix for all frames (`"pooled"`). A phase that was never
            predicted where it is has precision NaN, which is left out, as in the scripts.

    Returns:
        The result.

    Raises:
        InputError: videos or lengths differ, a class index is out of range, or a relaxed mode is requested for another number
            of phases.

    Example:
        >>> truth, prediction = {"a": np.repeat([0, 1], 10)}, {"a": np.repeat([0, 1, 0, 1], [8, 2, 2, 8])}
        >>> result = phase_metrics(truth, prediction, num_classes=7)
        >>> result.image_accuracy, round(result.mean["jaccard"], 4)
        (0.8, 0.6667)
    """
    given = {"mode": mode, "absent": absent, "average": average}
    for name, value in given.items():
        if value not in _CHOICES[name]:
            raise InputError(f"{name} is {value!r}; it must be one of {_CHOICES[name]}")
    if mode != "strict" and num_classes not in _EXCEPTIONS:
        raise InputError(
            f"relaxed boundaries are published for 7 and 8 phases, not for {num_classes}: use mode='strict'"
        )
    if not fps > 0:
        raise InputError(f"fps is {fps}; frames a second must be positive")
    pairs = checked_videos(labels, predictions, num_classes)
    counts, right = [], {}
    for video, (truth, predicted) in pairs.items():
        difference = forgiven(truth, predicted, num_classes, fps, mode)
        counts.append(_counts(truth, predicted, difference == 0, num_classes))
        right[video] = difference == 0
    table = np.stack(counts)  # (videos, classes, [TP, G, Q, union])
    by_video = _scores(table, absent)
    mean, std, by_phase = _average(table, by_video, absent, average)
    return PhaseMetrics(
        mode,
        absent,
        average,
        fps,
        num_classes,
        float(np.concatenate(list(right.values())).mean()),
        {video: float(values.mean()) for video, values in right.items()},
        mean,
        std,
        by_phase,
    )


def phase_report(
    labels: Mapping[str, np.ndarray], predictions: Mapping[str, np.ndarray], *, num_classes: int, **options: Any
) -> dict[str, PhaseMetrics]:
    """Compute `phase_metrics` in all modes that exist for this number of phases, strict first.

    Args:
        labels, predictions, num_classes: the arguments of `phase_metrics`.
        options: further arguments of `phase_metrics` except `mode`.

    Returns:
        The results by mode.
    """
    modes = MODES if num_classes in _EXCEPTIONS else MODES[:1]
    return {mode: phase_metrics(labels, predictions, num_classes=num_classes, mode=mode, **options) for mode in modes}


def checked_videos(
    labels: Mapping[str, np.ndarray], predictions: Mapping[str, np.ndarray], num_classes: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return truth and prediction of every video as int64 arrays, (frames,) each.

    Raises:
        InputError: videos or lengths differ, or something is no class index below `num_classes`.
    """
    if labels.keys() != predictions.keys() or not labels:
        odd = preview(sorted(map(str, set(labels) ^ set(predictions)))) or "there are no videos"
        raise InputError(f"labels and predictions must be of the same videos: {odd}")
    pairs = {}
    for video, truth in labels.items():
        arrays = np.asarray(truth), np.asarray(predictions[video])
        if arrays[0].shape != arrays[1].shape or arrays[0].ndim != 1 or not len(arrays[0]):
            raise InputError(f"{video}: labels of shape {arrays[0].shape}, predictions of shape {arrays[1].shape}")
        for name, array in zip(("labels", "predictions"), arrays, strict=True):
            if array.dtype.kind not in "iu" or array.min() < 0 or array.max() >= num_classes:
                raise InputError(
                    f"{video}: {name} must be class numbers in 0 … {num_classes - 1}, not {array.dtype} in {array.min()} … "
                    f"{array.max()}; leave out frames without a label"
                )
        pairs[str(video)] = (arrays[0].astype(np.int64), arrays[1].astype(np.int64))
    return pairs


def runs(labels: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """Yield the connected runs of one label: (label, first frame, frame after the last).

    Args:
        labels: (frames,) class indices.

    Example:
        >>> list(runs(np.array([4, 4, 1])))
        [(4, 0, 2), (1, 2, 3)]
    """
    edges = np.flatnonzero(np.diff(labels)) + 1
    for start, stop in zip((0, *edges), (*edges, len(labels)), strict=True):
        yield int(labels[start]), int(start), int(stop)


def forgiven(truth: np.ndarray, predicted: np.ndarray, num_classes: int, fps: float, mode: Mode) -> np.ndarray:
    """Return prediction minus truth, (frames,), with 0 where an error is forgiven; arguments as for `phase_metrics`."""
    difference = predicted - truth
    if mode == "strict":
        return difference
    result = difference.copy()
    for phase, start, stop in runs(truth):
        late, early = _EXCEPTIONS[num_classes].get(phase, _USUAL)
        width = min(round(_TOLERANCE_SECONDS * fps), stop - start)
        first, last = difference[start : start + width], difference[stop - width : stop]
        result[start : start + width][np.isin(first, late)] = 0
        # The published scripts index the last seconds from the start of the phase.
        offset = start if mode == "relaxed_published" else stop - width
        result[offset : offset + width][np.isin(last, early)] = 0
    return result


def _counts(truth: np.ndarray, predicted: np.ndarray, right: np.ndarray, num_classes: int) -> np.ndarray:
    """Count frames of each class, (classes, 4): right ones of the union, those of truth, prediction and union."""
    phases = np.arange(num_classes)[:, None]
    is_true, is_predicted = truth == phases, predicted == phases
    union = is_true | is_predicted
    return np.stack([part.sum(axis=1) for part in (union & right, is_true, is_predicted, union)], axis=1)


def _scores(table: np.ndarray, absent: Absent) -> dict[str, np.ndarray]:
    """Return the scores of each phase, in the leading shape of the table, (…, classes); NaN where they are not defined."""
    right, true, predicted, union = np.moveaxis(table.astype(np.float64), -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = {
            "precision": right / predicted,
            "recall": right / true,
            "jaccard": right / union,
            "f1": 2 * right / (true + predicted),
        }
    for name, values in scores.items():
        values[np.isinf(values)] = np.nan
        np.minimum(values, 1.0, out=values)
        values[(true == 0) & ((predicted == 0) | (absent == "gt_only") | (name == "recall"))] = np.nan
        if absent == "union" and name != "recall":
            values[(true == 0) & (predicted > 0)] = 0.0
    return scores


def _average(
    table: np.ndarray, by_video: dict[str, np.ndarray], absent: Absent, average: Average
) -> tuple[dict[str, float], dict[str, float], dict[str, np.ndarray]]:
    """Return means and standard deviations by the name of the score, and the scores of each phase."""
    if average == "pooled":
        by_phase = _scores(table.sum(axis=0), absent)
        return {name: _mean(values) for name, values in by_phase.items()}, {}, by_phase
    by_phase = {name: _means(values, axis=0) for name, values in by_video.items()}
    of_videos = {name: _means(values, axis=1) for name, values in by_video.items()}
    chosen = by_phase if average == "phase_then" else of_videos
    std = {name: _std(of_videos[name] if name == "f1" else by_phase[name]) for name in SCORES}
    return {name: _mean(values) for name, values in chosen.items()}, std, by_phase


def _means(values: np.ndarray, axis: int) -> np.ndarray:
    """Return the means of the defined values along an axis; NaN where none is."""
    defined = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(defined, values, 0.0).sum(axis=axis) / defined.sum(axis=axis)


def _mean(values: np.ndarray) -> float:
    return float(_means(values, axis=0))


def _std(values: np.ndarray) -> float:
    values = values[~np.isnan(values)]
    return float(values.std(ddof=1)) if len(values) > 1 else math.nan


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
