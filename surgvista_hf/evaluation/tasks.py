"""Tasks (one class, several classes, action triplets) with their metrics, and the predictions that they evaluate.

Every protocol and every model gives `ClipPredictions`: a score for each class of each clip, with its video and frame.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.special import expit, softmax

from ..util.errors import InputError
from ..util.files import atomic_file
from .metrics.classification import classification_metrics, presence_metrics
from .metrics.ranking import average_precision
from .metrics.segments import edit_score, segmental_f1
from .metrics.triplets import component_table, triplet_metrics
from .metrics.workflow import phase_report

Kind = Literal["workflow", "classification", "triplet", "multi_label", "video_classification", "video_multi_label"]
_MAIN = {
    "workflow": "image_accuracy",
    "classification": "accuracy",
    "triplet": "ap_ivt",
    "multi_label": "mean_average_precision",
    "video_classification": "accuracy",
    "video_multi_label": "mean_average_precision",
}
_METRICS: dict[str, tuple[str, tuple[str, ...]]] = {
    "workflow": (
        "strict",
        ("image_accuracy", "video_accuracy", "phase_precision", "phase_recall", "phase_jaccard", "phase_f1"),
    ),
    "classification": (
        "classification",
        ("accuracy", "balanced_accuracy", "macro_f1", "mean_average_precision", "calibration_error"),
    ),
    "triplet": ("triplet", ("ap_i", "ap_v", "ap_t", "ap_iv", "ap_it", "ap_ivt")),
    "multi_label": (
        "multi_label",
        ("mean_average_precision", "macro_f1", "subset_accuracy", "video_mean_average_precision"),
    ),
    "video_classification": (
        "classification",
        ("accuracy", "balanced_accuracy", "macro_f1", "mean_average_precision", "calibration_error"),
    ),
    "video_multi_label": (
        "multi_label",
        ("mean_average_precision", "macro_f1", "micro_f1", "subset_accuracy", "label_ranking_precision"),
    ),
}


@dataclass(frozen=True)
class ClipPredictions:
    """Scores of clips, in the order of their frame set.

    Args:
        videos: (clips,) names of the videos, `source/video id`.
        frames: (clips,) indices of the labeled frames in their videos.
        seconds: (clips,) times of the labeled frames.
        labels: (clips,) class indices, or (clips, classes) of 0 to 1.
        scores: (clips, classes) probabilities.
    """

    videos: np.ndarray
    frames: np.ndarray
    seconds: np.ndarray
    labels: np.ndarray
    scores: np.ndarray

    def by_video(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """Return the rows of an array (clips, …) by the name of the video, in the order of the frames."""
        order = np.lexsort((self.frames, self.videos))  # by video, then by frame
        names, starts = np.unique(self.videos[order], return_index=True)
        return dict(zip(map(str, names), np.split(values[order], starts[1:]), strict=True))

    @classmethod
    def joined(cls, parts: "Sequence[ClipPredictions]") -> "ClipPredictions":
        """Return predictions of several tests one after the other; a video that comes again is left out.

        Args:
            parts: predictions, such as those of the folds of a cross-validation.

        Raises:
            InputError: there are none.
        """
        if not parts:
            raise InputError("there are no predictions to put together")
        seen: set[str] = set()
        kept: list[np.ndarray] = []
        for part in parts:
            kept.append(~np.isin(part.videos, list(seen)))  # (clips,)
            seen.update(map(str, part.videos))
        rows = [
            np.concatenate([getattr(part, name)[rows] for part, rows in zip(parts, kept, strict=True)])
            for name in ("videos", "frames", "seconds", "labels", "scores")
        ]
        return cls(*rows)

    @property
    def frames_per_second(self) -> float:
        """Return the rate of the labeled frames: one over the median time between two; 1 where videos have only one."""
        gaps = [np.diff(seconds) for seconds in self.by_video(self.seconds).values() if len(seconds) > 1]
        usual = float(np.median(np.concatenate(gaps))) if gaps else 1.0
        return round(1 / usual, 3) if usual > 0 else 1.0  # times are fp32

    @property
    def averaged(self) -> "ClipPredictions":
        """Return one row for each video: the mean of its clips' scores, and the label that its clips have in common.

        Raises:
            InputError: clips of one video have different labels.
        """
        rows = {name: self.by_video(getattr(self, name)) for name in ("frames", "seconds", "labels", "scores")}
        for video, values in rows["labels"].items():
            if (values != values[0]).any():
                raise InputError(f"the clips of {video} have different labels, but the task is about whole videos")
        videos = list(rows["labels"])
        first = {
            name: np.stack([rows[name][video][0] for video in videos]) for name in ("frames", "seconds", "labels")
        }
        scores = np.stack([rows["scores"][video].mean(axis=0) for video in videos])
        return ClipPredictions(np.array(videos), scores=scores, **first)

    def save(self, path: Path) -> None:
        """Write Parquet: source and id of the video, frame, second, label and scores of every clip."""
        columns = {
            "video": self.videos.tolist(),
            "frame_index": self.frames,
            "timestamp": self.seconds,
            "label": self.labels.tolist(),
            "scores": self.scores.astype(np.float32).tolist(),
        }
        with atomic_file(path) as temporary:
            pq.write_table(pa.table(columns), temporary)

    @classmethod
    def load(cls, path: Path) -> "ClipPredictions":
        """Read what `save` wrote."""
        table = pq.read_table(path)
        return cls(
            videos=np.array(table["video"].to_pylist()),
            frames=table["frame_index"].to_numpy(),
            seconds=table["timestamp"].to_numpy(),
            labels=np.array(table["label"].to_pylist()),
            scores=np.array(table["scores"].to_pylist(), np.float32),
        )


@dataclass(frozen=True)
class Task:
    """A kind of prediction with its classes and metrics.

    Args:
        kind: `"workflow"`: one class for each frame of a video; `"classification"`: one class a clip; `"triplet"`;
            `"multi_label"`: several classes or criteria, such as tools; `"video_classification"`, `"video_multi_label"`:
            classes of videos as a whole, with the scores of their clips averaged.
        names: names of the classes.
        components: name of the data set whose table says what triplets are made of, such as `"cholect50"`.

    Example:
        >>> Task("workflow", ("Preparation", "Dissection")).main_metric
        'image_accuracy'
    """

    kind: Kind
    names: tuple[str, ...]
    components: str = "cholect50"

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise InputError(f"there is no task {self.kind!r}; there are {', '.join(get_args(Kind))}")
        if len(self.names) < (1 if self.multi_label else 2):
            raise InputError(f"a task needs classes; got {list(self.names)}")
        if self.kind == "triplet" and len(self.parts) != len(self.names):
            raise InputError(
                f"the table of {self.components} has {len(self.parts)} triplets; the labels have {len(self.names)}"
            )

    @property
    def multi_label(self) -> bool:
        """Return whether several classes may be right at once."""
        return self.kind in ("triplet", "multi_label", "video_multi_label")

    @property
    def of_videos(self) -> bool:
        """Return whether a video has one label, however many of its clips are scored."""
        return self.kind in ("video_classification", "video_multi_label")

    @property
    def problem_type(self) -> str:
        """Return the `problem_type` of a transformers configuration."""
        return f"{'multi' if self.multi_label else 'single'}_label_classification"

    @property
    def main_metric(self) -> str:
        """Return the name of the metric that chooses the best checkpoint, as published."""
        return _MAIN[self.kind]

    @property
    def parts(self) -> np.ndarray:
        """Return (triplets, 3) indices of instrument, verb and target."""
        return component_table(self.components)[0]

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return softmax of logits (…, classes), or sigmoid where several classes may be right, in float64."""
        logits = np.asarray(logits, np.float64)
        return np.asarray(expit(logits) if self.multi_label else softmax(logits, axis=-1))

    def results(self, predictions: ClipPredictions) -> dict[str, Any]:
        """Compute all metrics of the task.

        Returns:
            The results by the name of the group of metrics, as JSON can hold them.

        Raises:
            InputError: the scores are of another number of classes.
        """
        if predictions.scores.shape[1] != len(self.names):
            raise InputError(
                f"the scores are of {predictions.scores.shape[1]} classes; the task has {len(self.names)}"
            )
        if self.of_videos:
            predictions = predictions.averaged
        labels, scores = predictions.labels, predictions.scores
        if self.kind == "workflow":
            return self._workflow(predictions)
        if self.kind == "triplet":
            truth, found = predictions.by_video(labels.astype(int)), predictions.by_video(scores)
            return {"triplet": triplet_metrics(truth, found, components=self.components).to_dict()}
        if self.multi_label:
            videos = None if self.of_videos else predictions.videos
            return {"multi_label": presence_metrics(labels, scores, names=self.names, videos=videos).to_dict()}
        return {"classification": classification_metrics(labels, scores).to_dict()}

    def _workflow(self, predictions: ClipPredictions) -> dict[str, Any]:
        truth = predictions.by_video(predictions.labels)
        found = predictions.by_video(predictions.scores.argmax(axis=1))
        classes = len(self.names)
        report = phase_report(truth, found, num_classes=classes, fps=predictions.frames_per_second)
        return {
            **{mode: result.to_dict() for mode, result in report.items()},
            "segments": self.segment_metrics(truth, found),
            "classification": classification_metrics(predictions.labels, predictions.scores).to_dict(),
        }

    def segment_metrics(self, truth: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Return edit score and F1 of segments; true and predicted classes are (frames,) by video."""
        classes = len(self.names)
        edit = edit_score(truth, found, num_classes=classes)
        return {"edit_score": edit, **segmental_f1(truth, found, num_classes=classes)}

    def metrics(self, results: Mapping[str, Any]) -> dict[str, float]:
        """Return the metrics that logs and tables show, from `results`; strict ones for workflow."""
        section, names = _METRICS[self.kind]
        chosen = {name: results[section][name] for name in names}
        if self.kind == "workflow":
            chosen |= {name: results["segments"][name] for name in ("edit_score", "f1@10")}
        return {name: float(value) for name, value in chosen.items() if value is not None}

    def by_video(self, predictions: ClipPredictions) -> dict[str, float]:
        """Return the main metric of each video, which tests of significance use: accuracy, or mean average precision.

        A video that has none of the classes has no average precision and is left out. Where a whole video is a sample of
        several classes, the metric is the average precision of its classes among all (LRAP).
        """
        if self.kind == "video_multi_label":
            whole = predictions.averaged
            ranked = average_precision((whole.labels >= 0.5).T.astype(int), whole.scores.T)
            return {
                video: float(value) for video, value in zip(whole.videos, ranked, strict=True) if not np.isnan(value)
            }
        if self.of_videos:
            predictions = predictions.averaged
        labels, scores = predictions.by_video(predictions.labels), predictions.by_video(predictions.scores)
        values = {}
        for video, truth in labels.items():
            if not self.multi_label:
                values[video] = float((scores[video].argmax(axis=1) == truth).mean())
                continue
            numbers = np.arange(len(truth))
            alone = ClipPredictions(np.full(len(truth), video), numbers, numbers, truth, scores[video])
            value = self.metrics(self.results(alone)).get(self.main_metric, np.nan)
            if not np.isnan(value):
                values[video] = value
        return values
