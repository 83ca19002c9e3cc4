"""The numbers behind a number: each class, each video, every named variant, and intervals over videos."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..util.errors import InputError
from .metrics.classification import classification_metrics, presence_metrics
from .metrics.statistics import Interval, bootstrap_interval
from .metrics.triplets import COMPONENTS, triplet_metrics
from .metrics.workflow import MODES, phase_metrics, phase_report, runs
from .tasks import ClipPredictions, Task

Scores = dict[str, dict[str, float | None]]  # metrics by name, of each class or video; `None` where one is not defined
_POOLED_RESAMPLES = 200  # draws for metrics that are computed anew from the frames of every draw
_RANKING = ("average_precision", "calibration_error", "label_ranking_precision")


def needs_scores(metric: str) -> bool:
    """Return whether a metric needs a score of each class and not only the chosen one.

    Example:
        >>> needs_scores("video_mean_average_precision"), needs_scores("top_3_accuracy"), needs_scores("macro_f1")
        (True, True, False)
    """
    ranks = metric.startswith(("ap_", "top_")) or any(name in metric for name in _RANKING)
    return ranks and metric != "prevalence"


def without_ranking(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return results without the metrics that need a score of each class, for predictions that are chosen classes.

    Args:
        results: results by the name of the group of metrics, as `Task.results` gives them; groups may be nested.
    """
    return {
        name: without_ranking(value) if isinstance(value, Mapping) else value
        for name, value in results.items()
        if not needs_scores(name)
    }


# ------------------------------------------------------------------------------------------- classes and videos


def class_scores(task: Task, predictions: ClipPredictions) -> Scores:
    """Compute the metrics of each class.

    Args:
        task: task of the predictions.
        predictions: predictions of the test.

    Returns:
        Metrics by class. Triplets are followed by their instruments, verbs and targets, such as `instrument hook`.

    Example:
        >>> rows = np.arange(4)
        >>> scores = np.eye(2)[[0, 0, 1, 0]]
        >>> found = ClipPredictions(np.full(4, "a"), rows, rows, np.array([0, 0, 1, 1]), scores)
        >>> class_scores(Task("workflow", ("cut", "sew")), found)["sew"]["recall"]
        0.5
    """
    if task.of_videos:
        predictions = predictions.averaged
    if task.kind == "triplet":
        return _triplet_scores(task, predictions)
    if task.multi_label:
        labels, scores = predictions.labels, predictions.scores
        found = presence_metrics(labels, scores, names=task.names)
        return {
            name: {
                "samples": int((labels[:, number] >= 0.5).sum()),
                "prevalence": found.ranking.prevalence[name],
                "average_precision": _plain(found.ranking.by_criterion[name]),
                "f1": _plain(found.f1[name]),
            }
            for number, name in enumerate(task.names)
        }
    of_frames = classification_metrics(predictions.labels, predictions.scores).by_class
    columns: dict[str, np.ndarray] = {"samples": of_frames["samples"]}
    if task.kind == "workflow":
        truth, chosen = _chosen(predictions)
        report = phase_report(truth, chosen, num_classes=len(task.names), fps=predictions.frames_per_second)
        columns |= report["strict"].by_phase
        columns |= {
            f"jaccard_{mode}": result.by_phase["jaccard"] for mode, result in report.items() if mode != "strict"
        }
        columns["average_precision"] = of_frames["average_precision"]
    else:
        columns |= {name: of_frames[name] for name in ("precision", "recall", "f1", "average_precision")}
    return {
        name: {metric: _plain(values[number]) for metric, values in columns.items()}
        for number, name in enumerate(task.names)
    }


def _triplet_scores(task: Task, predictions: ClipPredictions) -> Scores:
    truth, found = predictions.by_video(predictions.labels.astype(int)), predictions.by_video(predictions.scores)
    by_class = triplet_metrics(truth, found, components=task.components).by_class
    samples = predictions.labels.astype(int).sum(axis=0)
    rows: Scores = {
        name: {"samples": int(samples[number]), "average_precision": _plain(by_class["ivt"][number])}
        for number, name in enumerate(task.names)
    }
    for column, (short, kind) in enumerate((("i", "instrument"), ("v", "verb"), ("t", "target"))):
        member = task.parts[:, column]  # (triplets,)
        for number, part in enumerate(np.unique(member)):
            own = member == part
            named = task.names[int(np.flatnonzero(own)[0])].split(",")  # instrument,verb,target
            name = named[column] if len(named) == 3 else str(part)
            present = predictions.labels[:, own].astype(int).max(axis=1)
            rows[f"{kind} {name}"] = {
                "samples": int(present.sum()),
                "average_precision": _plain(by_class[short][number]),
            }
    return rows


def video_scores(task: Task, predictions: ClipPredictions) -> Scores:
    """Compute the metrics of a table for each video by itself.

    Args:
        task: task of the predictions.
        predictions: predictions of the test.

    Returns:
        Metrics by video, with its number of labeled moments as `samples`. Tasks of whole videos have their main metric only.
    """
    counts = {video: len(rows) for video, rows in predictions.by_video(predictions.frames).items()}
    if task.of_videos:
        values = task.by_video(predictions)
        return {video: {"samples": count, task.main_metric: values.get(video)} for video, count in counts.items()}
    rows: Scores = {}
    for video, count in counts.items():
        alone = _select(predictions, np.flatnonzero(predictions.videos == video))
        values = table_metrics(task, alone)
        rows[video] = {"samples": count, **{name: _plain(value) for name, value in values.items()}}
    return rows


def table_metrics(task: Task, predictions: ClipPredictions) -> dict[str, float]:
    """Return the metrics of a table, as `Task.metrics` does, without computing the others."""
    if task.kind != "workflow":
        return task.metrics(task.results(predictions))
    truth, found = _chosen(predictions)
    strict = phase_metrics(truth, found, num_classes=len(task.names)).to_dict()
    return task.metrics({"strict": strict, "segments": task.segment_metrics(truth, found)})


def _chosen(predictions: ClipPredictions) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return true and chosen classes by video, (frames,) each."""
    return predictions.by_video(predictions.labels), predictions.by_video(predictions.scores.argmax(axis=1))


def _select(predictions: ClipPredictions, rows: np.ndarray, videos: np.ndarray | None = None) -> ClipPredictions:
    """Return some rows, with other names of their videos if they are given."""
    names = predictions.videos[rows] if videos is None else videos
    parts = (getattr(predictions, name)[rows] for name in ("frames", "seconds", "labels", "scores"))
    return ClipPredictions(names, *parts)


def _plain(value: float | np.number | None) -> float | None:
    if value is None or np.isnan(value):
        return None
    return int(value) if isinstance(value, (int, np.integer)) else float(value)


# ------------------------------------------------------------------------------------------- variants


def metric_variants(task: Task, predictions: ClipPredictions) -> dict[str, dict[str, float | None]]:
    """Compute the metrics of a task in every variant that is published somewhere.

    Args:
        task: task of the predictions.
        predictions: predictions of the test.

    Returns:
        Metrics by the name of the variant. Phases: what is forgiven near transitions, how a phase counts that a video lacks,
        and what is averaged first, see `phase_metrics`. Triplets: average precision within videos or over all frames, with and
        without null classes. Other tasks have one variant.

    Example:
        >>> rows = np.arange(4)
        >>> found = ClipPredictions(np.full(4, "a"), rows, rows, np.array([0, 0, 1, 1]), np.eye(2)[[0, 0, 1, 0]])
        >>> list(metric_variants(Task("workflow", ("cut", "sew")), found))[:2]
        ['strict, absent gt_only, average phase_then', 'strict, absent gt_only, average video_then']
    """
    variants: dict[str, dict[str, float | None]] = {}
    if task.kind == "workflow":
        truth, found = _chosen(predictions)
        modes = phase_report(truth, found, num_classes=len(task.names), fps=predictions.frames_per_second)
        for mode in MODES:
            if mode not in modes:
                continue
            for absent in ("gt_only", "union"):
                for average in ("phase_then", "video_then", "pooled"):
                    result = phase_metrics(
                        truth,
                        found,
                        num_classes=len(task.names),
                        fps=predictions.frames_per_second,
                        mode=mode,
                        absent=absent,
                        average=average,
                    )
                    means = {f"phase_{name}": _plain(value) for name, value in result.mean.items()}
                    accuracies = {"image_accuracy": result.image_accuracy, "video_accuracy": result.video_accuracy}
                    variants[f"{mode}, absent {absent}, average {average}"] = {**accuracies, **means}
    elif task.kind == "triplet":
        truth, scores = predictions.by_video(predictions.labels.astype(int)), predictions.by_video(predictions.scores)
        for protocol, pooling in (("video", "within videos"), ("global", "over all frames")):
            for ignore, null in ((True, "without null classes"), (False, "with null classes")):
                triplets = triplet_metrics(
                    truth,
                    scores,
                    components=task.components,
                    protocol=protocol,  # type: ignore[arg-type]  # likewise
                    ignore_null=ignore,
                )
                means = {f"ap_{name}": _plain(triplets.mean(name)) for name in COMPONENTS}
                variants[f"{pooling}, {null}"] = means
    return variants


# ------------------------------------------------------------------------------------------- intervals


def metric_intervals(
    task: Task, predictions: ClipPredictions, *, resamples: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """Compute the 95 % interval of each metric of a table over bootstrap draws of whole videos.

    Metrics that are computed video by video (all of phases, of segments and of triplets) take all draws. Those that pool the
    frames of all videos, as average precision of tools does, are computed anew for each draw, of which there are 200 at most.

    Args:
        task: task of the predictions.
        predictions: predictions of the test.
        resamples: number of draws.
        seed: seed of the draws.

    Returns:
        Intervals by metric; none for fewer than two videos.

    Raises:
        InputError: the number of draws is not positive.

    Example:
        >>> rows = np.tile(np.arange(4), 2)
        >>> videos, labels = np.repeat(["a", "b"], 4), np.tile([0, 0, 1, 1], 2)
        >>> found = ClipPredictions(videos, rows, rows, labels, np.eye(2)[[0, 0, 1, 1, 0, 0, 1, 0]])
        >>> print(metric_intervals(Task("workflow", ("cut", "sew")), found)["video_accuracy"])
        0.875 (0.750-1.000)
    """
    if resamples < 1:
        raise InputError(f"{resamples} draws make no interval; at least 1 is needed")
    if task.of_videos:
        predictions = predictions.averaged
    videos = sorted(predictions.by_video(predictions.frames))
    if len(videos) < 2:
        return {}
    statistics = _statistics_of_videos(task, predictions, videos)
    if statistics:
        return {
            name: bootstrap_interval(statistic, videos, resamples=resamples, seed=seed)
            for name, statistic in statistics.items()
        }
    return _pooled_intervals(task, predictions, videos, min(resamples, _POOLED_RESAMPLES), seed)


Statistic = Callable[[Sequence[str]], float]


def _statistics_of_videos(task: Task, predictions: ClipPredictions, videos: Sequence[str]) -> dict[str, Statistic]:
    """Return the metrics of a table as functions of the drawn videos, where each follows from numbers of single videos."""
    number = {video: index for index, video in enumerate(videos)}
    if task.kind == "triplet":
        truth, found = predictions.by_video(predictions.labels.astype(int)), predictions.by_video(predictions.scores)
        alone = [
            triplet_metrics({video: truth[video]}, {video: found[video]}, components=task.components)
            for video in videos
        ]
        tables = {
            name: np.stack([result.by_class[name] for result in alone]) for name in COMPONENTS
        }  # (videos, classes)
        tables["ivt"] = np.delete(tables["ivt"], alone[0].null_classes, axis=1)
        return {f"ap_{name}": _mean_of_classes(table, number) for name, table in tables.items()}
    if task.kind != "workflow":
        return {}
    truth, chosen = _chosen(predictions)
    count = len(task.names)
    strict = [phase_metrics({video: truth[video]}, {video: chosen[video]}, num_classes=count) for video in videos]
    segments = [task.segment_metrics({video: truth[video]}, {video: chosen[video]}) for video in videos]
    accuracy = np.array([result.image_accuracy for result in strict])
    frames = np.array([len(truth[video]) for video in videos], float)
    pieces = np.array([len(list(runs(truth[video]))) + len(list(runs(chosen[video]))) for video in videos], float)
    statistics = {"image_accuracy": _weighted(accuracy, frames, number)}
    statistics["video_accuracy"] = _weighted(accuracy, np.ones(len(videos)), number)
    for name in ("precision", "recall", "jaccard", "f1"):
        table = np.stack([result.by_phase[name] for result in strict])  # (videos, phases)
        statistics[f"phase_{name}"] = _mean_of_classes(table, number)
    edit, f1 = (np.array([own[name] for own in segments]) for name in ("edit_score", "f1@10"))
    statistics["edit_score"] = _weighted(edit, np.ones(len(videos)), number)
    statistics["f1@10"] = _weighted(f1, pieces, number)  # of all segments together
    return statistics


def _weighted(values: np.ndarray, weights: np.ndarray, number: Mapping[str, int]) -> Statistic:
    def mean(drawn: Sequence[str]) -> float:
        """Return the mean over the drawn videos."""
        rows = [number[video] for video in drawn]
        return float((values[rows] * weights[rows]).sum() / weights[rows].sum())

    return mean


def _mean_of_classes(table: np.ndarray, number: Mapping[str, int]) -> Statistic:
    """Return the mean over classes of the mean over the drawn videos that have the class; the table is (videos, classes)."""
    defined = ~np.isnan(table)
    filled = np.where(defined, table, 0.0)

    def mean(drawn: Sequence[str]) -> float:
        """Return the mean over the drawn videos."""
        rows = [number[video] for video in drawn]
        counts = defined[rows].sum(axis=0)  # (classes,)
        if not counts.any():
            return float("nan")
        return float((filled[rows].sum(axis=0)[counts > 0] / counts[counts > 0]).mean())

    return mean


def _pooled_intervals(
    task: Task, predictions: ClipPredictions, videos: Sequence[str], resamples: int, seed: int
) -> dict[str, Interval]:
    rows = {video: np.flatnonzero(predictions.videos == video) for video in videos}
    generator = np.random.default_rng(seed)
    whole = table_metrics(task, predictions)
    found: dict[str, list[float]] = {name: [] for name in whole}
    for draw in generator.integers(len(videos), size=(resamples, len(videos))):
        chosen = [rows[videos[index]] for index in draw]
        # A video that is drawn twice is two videos.
        names = np.concatenate([np.full(len(own), f"{turn}") for turn, own in enumerate(chosen)])
        values = table_metrics(task, _select(predictions, np.concatenate(chosen), names))
        for name in found:
            found[name].append(values.get(name, np.nan))
    intervals = {}
    for name, value in whole.items():
        if not np.isnan(found[name]).all():
            low, high = np.nanquantile(found[name], [0.025, 0.975])
            intervals[name] = Interval(value, float(low), float(high), 0.95)
    return intervals
