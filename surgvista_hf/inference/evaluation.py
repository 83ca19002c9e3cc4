"""Evaluation of what exists: a finished model on a frame set, or predictions of any program against labels.

Nothing is trained. The results have the form of a benchmark's, so tables, plots and intervals are the same.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import numpy as np
from datasets import Dataset
from torch.utils.data import DataLoader

from ..clips import ClipDataset
from ..clips.dataset import Sampling
from ..datasets_scripts.frame_sets.training_videos import check_unseen
from ..datasets_scripts.own_labels.phase_files import SUFFIXES, class_names, read_phase_file
from ..datasets_scripts.schema.info import MissingFilesError
from ..datasets_scripts.schema.label_mapping import map_classes
from ..evaluation.breakdown import without_ranking
from ..evaluation.metrics.classification import presence_metrics
from ..evaluation.prediction_files import PredictedVideo, find_predictions, has_class_columns, read_predictions
from ..evaluation.reports.benchmark_report import CellResult, write_report
from ..evaluation.reports.evaluation_report import Breakdown, write_evaluation
from ..evaluation.tasks import ClipPredictions, Task
from ..modeling.adapters import count_parameters
from ..trainers.finetuning.trainer import EvaluationCollator
from ..util.console import track
from ..util.errors import InputError
from ..util.messages import did_you_mean, preview
from .label_files import check_one_video
from .models.clip_model import ClipModel

logger = logging.getLogger(__name__)
_LONGER, _MORE_ROWS = 0.2, 5  # an array may be so much longer than its video, by fraction and by rows
_CHOSEN_METRIC = "macro_f1"  # main metric of several classes where only the chosen ones are known


RESAMPLES = 1000  # draws of videos for an interval


@dataclass(frozen=True)
class Evaluation:
    """The agreement of predictions with labels.

    Args:
        task: the task that the predictions are for.
        predictions: predictions for every labeled clip or moment.
        results: results of all metrics, as `Task.results` gives them.
        metrics: the metrics of a table, 0-1.
        by_video: main metric of each video.
        parameters: numbers of parameters of the model: trained here (none) and all, and bytes of all; zeros for files.
        seconds: duration of the evaluation.
        breakdown: metrics of each class and video, named variants and intervals.
        main_metric: name of the metric in `by_video`.
    """

    task: Task
    predictions: ClipPredictions
    results: dict[str, Any]
    metrics: dict[str, float]
    by_video: dict[str, float]
    parameters: dict[str, int]
    seconds: float
    breakdown: Breakdown
    main_metric: str

    def save(self, folder: Path, *, name: str, data: str) -> None:
        """Write `report.md`, `classes.csv`, `videos.csv`, and the results, predictions, tables and plots of a benchmark.

        Args:
            folder: output folder, made if needed; files of an earlier evaluation are replaced.
            name: name of the model or program in the tables.
            data: name of the data set in the tables.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.predictions.save(folder / "predictions.parquet")
        cell = CellResult.from_evaluation(
            self,
            model=name,
            data=data,
            protocol="evaluate",
            parameters=self.parameters,
            seconds=round(self.seconds, 1),
            predictions="predictions.parquet",
        )
        cell = replace(cell, main_metric=self.main_metric, results={**self.results, **self.breakdown.to_dict()})
        cell.save(folder / "results.json")
        write_report([cell], folder)
        title = f"{name} on {data}"
        write_evaluation(folder, self.task, self.metrics, self.results, self.breakdown, title=title)


def evaluate_model(
    model: ClipModel,
    frames: Dataset,
    task: Task,
    label: str,
    *,
    classes: Mapping[str, str | None] | None = None,
    batch_size: int = 16,
    progress: bool = False,
    resamples: int = RESAMPLES,
    on_overlap: Literal["error", "warn"] = "error",
) -> Evaluation:
    """Test a finished classifier on the labeled frames of a frame set.

    Args:
        model: a classifier with its processor.
        frames: a split of a frame set.
        task: the task of its labels; `trainers.finetune.task_of` gives it.
        label: name of the label column.
        classes: class of the frame set -> class of the model, where names differ; `None` leaves the class out.
        batch_size: clips at a time.
        progress: show a progress bar.
        resamples: number of draws of videos for the intervals.
        on_overlap: `"error"`, or `"warn"` to test a model on videos that it was trained on; see `check_unseen`.

    Returns:
        The evaluation, in the classes of the model.

    Raises:
        OverlapError: the model was trained on videos of the frame set.
        InputError: the model predicts one class a frame and the labels hold several, or the other way round.
        DatasetError: a class has no counterpart in the model.
    """
    start = perf_counter()
    if model.multi_label != task.multi_label:
        kinds = ("one class", "several classes")
        raise InputError(
            f"{model.source} predicts {kinds[model.multi_label]} a frame; the column {label!r} holds {kinds[task.multi_label]}"
        )
    check_unseen(model.source, frames, on_overlap=on_overlap)
    names = model.class_names[: len(task.names)] if task.kind == "triplet" else model.class_names
    task = replace(task, names=tuple(names))
    clips = ClipDataset(
        map_classes(frames, label, names, classes),
        num_frames=model.num_frames,
        frame_stride=model.frame_stride,
        sampling=sampling_of(model),
        label=label,
    )
    predictions = _predict_clips(model, clips, len(names), batch_size, progress)
    counted = count_parameters(model.model)
    parameters = {"trained": 0, "all": counted.all, "bytes": counted.bytes}
    return measure_predictions(task, predictions, parameters, start=start, resamples=resamples)


def sampling_of(model: ClipModel) -> Sampling:
    """Return how the clips of a model are chosen, as its processor says: `"online"` or `"uniform"`."""
    return getattr(model.processor, "frame_sampling", None) or "online"


def _predict_clips(
    model: ClipModel, clips: ClipDataset, outputs: int, batch_size: int, progress: bool
) -> ClipPredictions:
    """Return the scores of every clip, in the order of the frame set."""
    loader = DataLoader(clips, batch_size=batch_size, collate_fn=EvaluationCollator(model.processor))
    scores, labels, frames, seconds = [], [], [], []
    for batch in track(loader, "clips", unit="batches", shown=progress):
        scores.append(model.run(batch["pixel_values"])[0][:, :outputs])
        labels.append(batch["labels"].numpy())
        frames.append(batch["frame_index"].numpy())
        seconds.append(batch["timestamp"].numpy())
    names = np.array([clips.video_name(number) for number in range(len(clips))])
    return ClipPredictions(names, *(np.concatenate(part) for part in (frames, seconds, labels, scores)))


@dataclass(frozen=True)
class LabeledMoments:
    """The labels of one video.

    Args:
        seconds: (moments,) times of the labeled frames.
        labels: (moments,) class indices, or (moments, classes) of 0 and 1.
        end: time in seconds until which the frames of the video, or its labels, are known to go; `None`: unknown.
    """

    seconds: np.ndarray
    labels: np.ndarray
    end: float | None = None


def evaluate_files(
    predictions: str | os.PathLike[str],
    labels: Mapping[str, LabeledMoments],
    task: Task,
    *,
    every: float | None = None,
    resamples: int = RESAMPLES,
    is_ordered: bool = True,
) -> Evaluation:
    """Compare predictions of any program with labels.

    Args:
        predictions: folder or file in a format that `evaluation.prediction_files` reads.
        labels: labels by the name of the video, `source/video id` or its id alone.
        task: the task of the labels.
        every: seconds between two rows of arrays, 1 by default; and between two frames in files that count frames.
        resamples: number of draws of videos for the intervals.
        is_ordered: whether the order of the classes was given, so that predictions may tell them by number; not where the
            names stand as they first appeared in label files.

    Returns:
        The evaluation. Metrics that need scores of all classes are left out where a file holds only chosen classes.

    Raises:
        InputError: a video has no predictions, nothing was predicted for a labeled moment, triplets have no scores,
            predictions tell classes by numbers whose order is not given, or an array is much longer than its video.
    """
    start = perf_counter()
    found = find_predictions(Path(predictions))
    ids = {name: _match_video(name, found, len(labels)) for name in labels}
    missing = [name for name, key in ids.items() if key is None]
    if missing:
        raise InputError(
            f"{predictions} holds no predictions of {len(missing)} of {len(labels)} videos: {preview(sorted(missing))}; "
            f"it has {preview(sorted(found))}"
        )
    left = sorted(set(found) - {str(key) for key in ids.values()})
    if left:
        logger.warning("predictions of %d videos have no labels here and are left out: %s", len(left), preview(left))
    read: dict[str, PredictedVideo] = {
        name: read_predictions(found[str(key)], task.names, every=every, multi_label=task.multi_label)
        for name, key in ids.items()
    }
    _check_class_numbers(list(read.values()), task, is_ordered=is_ordered)
    for name, moments in labels.items():
        _check_length(read[name], moments, is_given=every is not None)
    rows = [(name, moments, read[name].at(moments.seconds)) for name, moments in labels.items()]
    together = ClipPredictions(
        videos=np.concatenate([np.full(len(moments.seconds), name) for name, moments, _ in rows]),
        frames=np.concatenate([np.arange(len(moments.seconds)) for _, moments, _ in rows]),
        seconds=np.concatenate([moments.seconds for _, moments, _ in rows]),
        labels=np.concatenate([moments.labels for _, moments, _ in rows]),
        scores=np.concatenate([scores for _, _, scores in rows]),
    )
    graded = all(video.are_probabilities for video in read.values())
    if task.kind == "triplet" and not graded:
        raise InputError(f"triplets are ranked by a score of each class; {predictions} holds chosen classes only")
    nobody = dict.fromkeys(("trained", "all", "bytes"), 0)
    return measure_predictions(task, together, nobody, start=start, graded=graded, resamples=resamples)


def _check_class_numbers(predictions: Sequence[PredictedVideo], task: Task, *, is_ordered: bool) -> None:
    """Say which class each number means, where predictions tell classes by number.

    Raises:
        InputError: nobody gave the order of the classes, and it is not in their names.
    """
    numbered = [video.path for video in predictions if video.is_numbered]
    if not numbered:
        return
    order = preview([f"{number} = {name}" for number, name in enumerate(task.names)], 30)
    if not is_ordered and any(name != f"phase_{number}" for number, name in enumerate(task.names)):
        raise InputError(
            f"{numbered[0]} tells classes by number, and nothing says which number is which class of the labels "
            f"({preview(list(task.names))}): put classes.txt beside the labels, with a class in each line, from number 0 on"
        )
    logger.warning("classes by number in %s: %s; classes.txt beside the labels changes the order", numbered[0], order)


def _check_length(predictions: PredictedVideo, moments: LabeledMoments, *, is_given: bool) -> None:
    """Check that an array, whose rows have no times, is about as long as its video.

    Args:
        predictions: predictions of the video.
        moments: labels of the video.
        is_given: whether a person said how far two rows are apart; then too many rows are only remarked on.

    Raises:
        InputError: it has more rows than the video is long.
    """
    if predictions.spacing is None or moments.end is None:
        return
    rows, expected = len(predictions.seconds), moments.end / predictions.spacing
    if rows - expected <= max(_MORE_ROWS, _LONGER * expected):
        return
    text = (
        f"{predictions.path} has {rows} rows, which are {rows * predictions.spacing:g} s at {predictions.spacing:g} s a row, "
        f"and its labels end at {moments.end:g} s"
    )
    if not is_given:
        raise InputError(
            f"{text}: say with --every how many seconds lie between two rows, such as --every {moments.end / rows:.3g}"
        )
    logger.warning("%s: is --every right?", text)


def _match_video(name: str, found: Mapping[str, Path], videos: int) -> str | None:
    """Return the key of the predictions of a video, found by its id or file name; a single file belongs to a single video."""
    identifier = name.partition("/")[2] or name
    candidates = [key for key in found if key in (name, identifier, identifier.rpartition("/")[2])]
    candidates = candidates or [key for key in found if key.rpartition("/")[2] == identifier]
    if len(candidates) > 1:
        raise InputError(f"{', '.join(map(str, (found[key] for key in candidates)))} may all belong to {name}")
    if not candidates and len(found) == videos == 1:
        return next(iter(found))
    return candidates[0] if candidates else None


def labels_of_frames(frames: Dataset, label: str, task: Task) -> dict[str, LabeledMoments]:
    """Return the labels of a frame set by video, without decoding an image.

    Raises:
        InputError: no frame has a label.
    """
    columns: Any = frames.select_columns(["source", "video_id", "timestamp", label]).with_format(None)[:]
    videos: dict[str, tuple[list[float], list[Any]]] = {}
    times: dict[str, list[float]] = {}
    for source, video, second, value in zip(*columns.values(), strict=True):
        times.setdefault(f"{source}/{video}", []).append(second)
        if value is None or (not task.multi_label and value < 0):
            continue
        seconds, values = videos.setdefault(f"{source}/{video}", ([], []))
        seconds.append(second)
        values.append(_multi_hot(value, len(task.names)) if task.multi_label else value)
    if not videos:
        raise InputError(f"no frame has a label in the column {label!r}")
    return {
        name: LabeledMoments(np.array(seconds), np.array(values), _end(times[name]))
        for name, (seconds, values) in videos.items()
    }


def _end(seconds: Sequence[float]) -> float:
    """Return the time at which the last of some frames ends."""
    return float(seconds[-1] + (np.median(np.diff(seconds)) if len(seconds) > 1 else 1.0))


def _multi_hot(classes: list[int], count: int) -> np.ndarray:
    """Return (count,) zeros with a one for each of these classes."""
    row = np.zeros(count)
    row[classes] = 1
    return row


def map_labels(
    labels: Mapping[str, LabeledMoments], task: Task, classes: Mapping[str, str | None]
) -> tuple[dict[str, LabeledMoments], Task]:
    """Translate labels into the classes of predictions whose classes have other names.

    Args:
        labels: labels by the name of the video.
        task: the task of the labels.
        classes: class of the predictions by the class of the labels, where names differ; several labels may be one class, and
            `None` leaves a class out. Its moments count for nothing, or where several classes hold at once, only the class.

    Returns:
        The labels and their task.

    Raises:
        InputError: a class does not exist, no class or moment is left, or the classes are triplets.

    Example:
        >>> labels = {"op1": LabeledMoments(np.arange(3.0), np.array([0, 1, 2]))}
        >>> mapped, task = map_labels(labels, Task("workflow", ("cut", "sew", "idle")), {"sew": "Suturing", "idle": None})
        >>> task.names, mapped["op1"].labels.tolist()
        (('cut', 'Suturing'), [0, 1])
    """
    if not classes:
        return dict(labels), task
    if task.kind == "triplet":
        raise InputError("triplets cannot be renamed; their numbers belong to the table of the data set")
    for source in classes:
        if source not in task.names:
            hint = did_you_mean(source, task.names, f"they are {', '.join(task.names)}")
            raise InputError(f"the labels have no class {source!r}; {hint}")
    targets = [classes.get(name, name) for name in task.names]
    names = tuple(dict.fromkeys(name for name in targets if name is not None))
    task = replace(task, names=names)
    numbers = np.array([-1 if name is None else names.index(name) for name in targets])
    mapped = {}
    for video, moments in labels.items():
        if task.multi_label:
            columns = [moments.labels[:, numbers == number].max(axis=1) for number in range(len(names))]
            mapped[video] = replace(moments, labels=np.stack(columns, axis=1))
            continue
        renamed = numbers[moments.labels]
        if (renamed >= 0).any():
            mapped[video] = LabeledMoments(moments.seconds[renamed >= 0], renamed[renamed >= 0], moments.end)
    if not mapped:
        raise InputError("no labeled moment is left after the classes were renamed")
    return mapped, task


def labels_of_files(
    folder: Path, names: list[str] | None = None, *, every: float | None = None
) -> tuple[dict[str, LabeledMoments], Task]:
    """Read one's own label files, one a video, in a format that `datasets_scripts.own_labels.phase_files` reads.

    Files with a column for each class (0 or 1, such as instruments), whose names are given, hold several classes at once.

    Args:
        folder: folder with the files, or one file.
        names: names of the classes; by default those of the labels.
        every: seconds between two frames, for files that count frames.

    Returns:
        The labels of every whole second (or of every row of a file with a column for each class) by the name of the file, and
        their task.

    Raises:
        MissingFilesError: there are no label files.
        InputError: labels count frames, not seconds, or a file holds the labels of several videos.
        AnnotationError: a file cannot be understood.
    """
    paths = (
        [folder] if folder.is_file() else sorted(path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES)
    )
    paths = [path for path in paths if path.name != "classes.txt"]
    if not paths:
        raise MissingFilesError(f"{folder} holds no label files ({', '.join(SUFFIXES)})")
    if names and all(has_class_columns(path, names) for path in paths):
        return _presence_of_files(paths, names, every)
    for path in paths:
        check_one_video(path, "divide it, or make a frame set of it (`surgvista prepare own`) and use --data")
    files = {path.stem: read_phase_file(path) for path in paths}
    counted = [str(file.path) for file in files.values() if file.rate is None]
    if counted and every is None:
        raise InputError(
            f"{preview(counted)}: labels count frames; say with --every how many seconds lie between two, or make a frame set "
            "of the videos and use --data"
        )
    names = names or class_names(files.values())
    moments = {}
    for video, file in files.items():
        track, rate = file.track(names), 1.0 if every is None else 1 / every
        rows = {second: track.at(float(second), rate) for second in range(int(track.end(rate)) + 1)}
        known = {second: row["phase"] for second, row in rows.items() if row}
        seconds, classes = np.array(list(known), np.float64), np.array(list(known.values()))
        moments[video] = LabeledMoments(seconds, classes, track.end(rate))
    return moments, Task("workflow", tuple(names))


def _presence_of_files(
    paths: Sequence[Path], names: Sequence[str], every: float | None
) -> tuple[dict[str, LabeledMoments], Task]:
    """Read files with a column of 0 and 1 for each class."""
    moments = {}
    for path in paths:
        video = read_predictions(path, names, every=every, multi_label=True)
        if not np.isin(video.scores, (0, 1)).all():
            raise InputError(f"{path} holds numbers other than 0 and 1, which are no labels")
        moments[path.stem] = LabeledMoments(video.seconds, video.scores, _end(video.seconds.tolist()))
    return moments, Task("multi_label", tuple(names))


def measure_predictions(
    task: Task,
    predictions: ClipPredictions,
    parameters: dict[str, int],
    *,
    start: float,
    graded: bool = True,
    resamples: int = RESAMPLES,
) -> Evaluation:
    """Compute all metrics of predictions.

    Args:
        task: the task that the predictions are for.
        predictions: predictions for every labeled clip or moment.
        parameters: numbers of parameters of the model, see `Evaluation`.
        start: `perf_counter()` when the evaluation began.
        graded: whether the scores are probabilities; otherwise 1 is a chosen class, and metrics that rank are left out.
        resamples: number of bootstrap draws of the intervals.
    """
    results = task.results(predictions)
    metrics = task.metrics(results)
    main_metric, by_video = task.main_metric, task.by_video(predictions)
    if not graded:
        results = without_ranking(results)
        metrics = without_ranking(metrics)
        if task.multi_label:
            main_metric, by_video = _CHOSEN_METRIC, _f1_by_video(task, predictions)
    breakdown = Breakdown.compute(task, predictions, is_scored=graded, resamples=resamples)
    seconds = perf_counter() - start
    return Evaluation(task, predictions, results, metrics, by_video, parameters, seconds, breakdown, main_metric)


def _f1_by_video(task: Task, predictions: ClipPredictions) -> dict[str, float]:
    """Return the macro F1 of each video in which a class occurs or was predicted."""
    labels, scores = predictions.by_video(predictions.labels), predictions.by_video(predictions.scores)
    return {
        video: presence_metrics(truth, scores[video], names=task.names).macro_f1
        for video, truth in labels.items()
        if (truth >= 0.5).any() or (scores[video] >= 0.5).any()
    }
