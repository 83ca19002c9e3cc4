"""The agreement of one predicted video with its labels: by second, in the metrics of evaluation, and in sentences."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from ...datasets_scripts.own_labels.phase_files import PhaseSpans
from ...datasets_scripts.schema.label_tracks import IntervalTrack
from ...evaluation.metrics.segments import edit_score, segmental_f1
from ...evaluation.metrics.workflow import PhaseMetrics, phase_metrics
from ...util.errors import InputError
from .prediction import VideoPrediction

_CONFUSIONS = 3  # confusions that are told
_OVERLAP = 0.5  # intersection over union from which on a segment counts as found


@dataclass(frozen=True, eq=False)
class LabelComparison:
    """A prediction beside the labels of the same video.

    Args:
        truth: (steps,) class indices of the labels at the seconds of the prediction; -1 where there is no label.
        predicted: (steps,) predicted class indices.
        class_names: names of the classes.
        step: seconds between two predictions.

    Example:
        >>> comparison = LabelComparison(np.array([0, 0, 1, -1]), np.array([0, 1, 1, 1]), ["Preparation", "Dissection"], 1.0)
        >>> round(comparison.accuracy, 2)
        0.67
        >>> comparison.sentences[0]
        'Right in 67 % of 3 labeled seconds; 1 second without a label does not count.'
    """

    truth: np.ndarray
    predicted: np.ndarray
    class_names: list[str]
    step: float

    @property
    def labeled(self) -> np.ndarray:
        """Return whether each step has a label, (steps,) bool."""
        return self.truth >= 0

    @property
    def accuracy(self) -> float:
        """Return the fraction of the labeled steps that are predicted correctly, 0-1."""
        return float((self.truth == self.predicted)[self.labeled].mean())

    @property
    def metrics(self) -> PhaseMetrics:
        """Return the strict metrics of `surgvista evaluate` over the labeled steps."""
        truth, predicted = self._labeled_video()
        return phase_metrics(truth, predicted, num_classes=len(self.class_names), fps=1 / self.step)

    @property
    def edit_score(self) -> float:
        """Return how well the order of the segments agrees, 0-1; see `metrics.segments.edit_score`."""
        return edit_score(*self._labeled_video(), num_classes=len(self.class_names))

    @property
    def segments_found(self) -> float:
        """Return the F1 score of segments that overlap with a true one by half, 0-1."""
        found = segmental_f1(*self._labeled_video(), num_classes=len(self.class_names), overlaps=(_OVERLAP,))
        return float(next(iter(found.values())))

    def _labeled_video(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        return {"video": self.truth[self.labeled]}, {"video": self.predicted[self.labeled]}

    @property
    def confusions(self) -> list[tuple[str, str, float]]:
        """Return true class, predicted class and seconds of each confusion, the longest first."""
        wrong = self.labeled & (self.truth != self.predicted)
        pairs = Counter(zip(self.truth[wrong].tolist(), self.predicted[wrong].tolist(), strict=True))
        names = self.class_names
        return [(names[true], names[found], count * self.step) for (true, found), count in pairs.most_common()]

    @property
    def sentences(self) -> list[str]:
        """Return what the metrics say, for people."""
        count, without = int(self.labeled.sum()), int((~self.labeled).sum())
        left = f"; {_seconds(without)} without a label {'does' if without == 1 else 'do'} not count" if without else ""
        mean = self.metrics.mean
        told = [
            f"Right in {_percent(self.accuracy)} of {count:,} labeled seconds{left}.",
            f"Over the classes that the labels hold: precision {_percent(mean['precision'])}, recall "
            f"{_percent(mean['recall'])}, F1 {_percent(mean['f1'])}, Jaccard {_percent(mean['jaccard'])}.",
            f"Segments: the order agrees to {_percent(self.edit_score)} (edit score), and F1 is "
            f"{_percent(self.segments_found)} where a segment counts as found if it overlaps by half with a true one.",
        ]
        if self.confusions:
            pairs = [f"{_seconds(length)} of {true} as {found}" for true, found, length in self.confusions]
            told.append(f"Most often mistaken: {'; '.join(pairs[:_CONFUSIONS])}.")
        return told


def compare_with_labels(
    prediction: VideoPrediction, labels: PhaseSpans, *, frames_per_second: float | None = None
) -> LabelComparison:
    """Look the labels of a video up at the seconds of its prediction.

    Args:
        prediction: a prediction of one class a second.
        labels: labels of the same video, as `read_phase_file` returns them; classes are called as in the model, or by number.
        frames_per_second: frame rate of the video, for labels that count frames.

    Returns:
        Both, second by second.

    Raises:
        InputError: the model has independent classes, the labels count frames and the rate is unknown, or no predicted
            second has a label.
        AnnotationError: a label is no class of the model.
    """
    if prediction.multi_label:
        raise InputError(
            "the model says of each class by itself whether it is there; labels of one class a second differ"
        )
    if labels.rate is None and frames_per_second is None:
        raise InputError(f"{labels.path} counts frames, and the frame rate of the video is unknown")
    track = labels.track(_spelled_as(labels, prediction.class_names))
    truth = _classes_at(track, prediction.seconds, frames_per_second or 1.0)
    if (truth < 0).all():
        raise InputError(
            f"{labels.path} has no label for any predicted second, which are {prediction.seconds[0]:g} to "
            f"{prediction.seconds[-1]:g}: it may belong to another video"
        )
    return LabelComparison(truth, prediction.labels, prediction.class_names, prediction.step)


def _classes_at(track: IntervalTrack, seconds: np.ndarray, frames_per_second: float) -> np.ndarray:
    """Return the class (steps,) that `track.at` gives at each second, -1 for none, in one pass over all."""
    if not track.intervals:
        return np.full(len(seconds), -1)
    starts, stops = (np.array([getattr(each, end) for each in track.intervals]) for end in ("start", "stop"))
    classes = np.array([each.row["phase"] for each in track.intervals])
    early = 1e-3 * track.rate if track.rate else 0.1  # the tolerance of `track.at`: time stamps are rounded
    positions = seconds * (track.rate or frames_per_second) + early
    # The intervals are in the order of time, and none begins before the one before it ends.
    found = np.searchsorted(starts, positions, side="right") - 1
    return np.where((found >= 0) & (positions < stops[found]), classes[found], -1)


def _spelled_as(labels: PhaseSpans, names: list[str]) -> list[str]:
    """Return the names of the classes as the labels write them: upper and lower case make no difference."""
    written = {span.label.casefold(): span.label for span in labels.spans}
    return [name if name in written.values() else written.get(name.casefold(), name) for name in names]


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.0f} %"


def _seconds(count: float) -> str:
    return f"{count:,.0f} second{'' if count == 1 else 's'}"
