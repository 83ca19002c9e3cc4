"""Plots of a benchmark, in colors that color-blind readers can tell apart."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ...util.class_colors import class_color
from ...util.files import atomic_file
from ..metrics.workflow import runs
from ..tasks import ClipPredictions
from .ribbons import draw_segment, legend_handles

_VIDEOS_SHOWN = 4
_NUMBERED = 0.02  # fraction of a ribbon from which a segment is wide enough for the number of its class


def plot_class_scores(
    scores: Mapping[str, np.ndarray],
    classes: Sequence[str],
    path: Path,
    *,
    metric: str = "Jaccard index, strict",
    chance: np.ndarray | None = None,
) -> None:
    """Draw bars of a metric of each class.

    Args:
        scores: (classes,) values of the metric, 0-1, by the name of the model; NaN where a class never occurs.
        classes: names of the classes.
        path: image file to write.
        metric: name of the metric.
        chance: (classes,) values of guessing, marked by lines.
    """
    figure, axes = _figure(max(6.0, 0.35 * len(classes) * len(scores) + 3), 4.2)
    width = 0.8 / len(scores)
    for number, (name, values) in enumerate(scores.items()):
        centers = np.arange(len(classes)) + (number - (len(scores) - 1) / 2) * width
        axes.bar(centers, values, width, label=name, color=class_color(number))
    if chance is not None:
        middle = np.arange(len(classes))
        axes.hlines(chance, middle - 0.42, middle + 0.42, color="black", linestyles="dotted", label="guessing")
    axes.set_xticks(range(len(classes)), classes, rotation=30, ha="right")
    axes.set(ylabel=metric, ylim=(0, 1))
    axes.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=min(3, len(scores) + (chance is not None)), frameon=False)
    _save(figure, path)


def plot_confusion(predictions: ClipPredictions, classes: Sequence[str], title: str, path: Path) -> None:
    """Draw the confusion matrix of all frames; each row, a true class, sums to 100 %.

    Args:
        predictions: predictions of all test videos.
        classes: names of the classes.
        title: title of the plot.
        path: image file to write.
    """
    count = len(classes)
    # One number for each pair of classes, so that a single bincount fills the matrix.
    pairs = predictions.labels * count + predictions.scores.argmax(axis=1)
    table = np.bincount(pairs, minlength=count**2).reshape(count, count).astype(float)
    fractions = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    figure, axes = _figure(0.62 * count + 3.2, 0.62 * count + 2.4)
    axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    for row in range(count):
        for column in range(count):
            if fractions[row, column] >= 0.005:
                color = "white" if fractions[row, column] > 0.5 else "black"
                text = f"{100 * fractions[row, column]:.0f}"
                axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)
    axes.set_xticks(range(count), classes, rotation=40, ha="right")
    axes.set_yticks(range(count), classes)
    axes.set(xlabel="predicted", ylabel="true, % of its frames", title=title)
    _save(figure, path)


def plot_ribbons(predictions: Mapping[str, ClipPredictions], classes: Sequence[str], path: Path) -> None:
    """Draw the truth and the predictions along the first test videos, one ribbon each.

    Args:
        predictions: predictions for the same videos by the name of the model. Where a model answered for some of the frames
            only, its last answer goes on.
        classes: names of the classes.
        path: image file to write.
    """
    truth = max(predictions.values(), key=lambda found: len(found.labels))
    labels, frames = truth.by_video(truth.labels), truth.by_video(truth.frames)
    ribbons = {"truth": labels, **{name: _carry_forward(found, frames) for name, found in predictions.items()}}
    videos = list(labels)[:_VIDEOS_SHOWN]
    shown = sorted(
        {int(label) for ribbon in ribbons.values() for video in videos for label in np.unique(ribbon[video])}
    )
    columns = 4 if len(shown) <= 20 else 6
    height = len(videos) * (0.26 * len(ribbons) + 0.45) + 0.4 + 0.2 * -(-len(shown) // columns)
    figure = Figure(figsize=(10, height), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, video in zip(np.atleast_1d(figure.subplots(len(videos), 1)), videos, strict=True):
        count = len(labels[video])
        for line, ribbon in enumerate(ribbons.values()):
            for label, start, stop in runs(ribbon[video]):
                wide = stop - start >= _NUMBERED * count
                draw_segment(axes, start, stop - start, label, bottom=line - 0.45, height=0.9, numbered=wide)
        axes.set(xlim=(0, count), ylim=(len(ribbons) - 0.5, -0.5))
        axes.set_yticks(range(len(ribbons)), ribbons, fontsize=8)
        axes.set_title(video, fontsize=9, loc="left")
    axes.set_xlabel("labeled frame")
    handles, size = legend_handles(shown, classes), 8 if len(shown) <= 20 else 6.5
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=size, frameon=False)
    _save(figure, path)


def _carry_forward(found: ClipPredictions, frames: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the predicted class at each of these frames, or at the last one before it that has a prediction."""
    own, predicted = found.by_video(found.frames), found.by_video(found.scores.argmax(axis=1))
    rows = {video: np.searchsorted(own[video], numbers, side="right") - 1 for video, numbers in frames.items()}
    return {video: predicted[video][np.maximum(row, 0)] for video, row in rows.items()}


def plot_data_scale(points: Mapping[str, Sequence[tuple[float, float, float]]], metric: str, path: Path) -> None:
    """Draw the main metric over the fraction of the training videos.

    Args:
        points: (fraction, mean, standard deviation over seeds) of each run, by the name of the model.
        metric: name of the main metric.
        path: image file to write.
    """
    figure, axes = _figure(5.6, 4.2)
    for number, (name, values) in enumerate(points.items()):
        fractions, means, spreads = (np.array(column) for column in zip(*sorted(values), strict=True))
        axes.errorbar(100 * fractions, means, spreads, marker="o", capsize=3, label=name, color=class_color(number))
    axes.set_xscale("log")
    ticks = sorted({100 * fraction for values in points.values() for fraction, *_ in values})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
    axes.set_xticks([], minor=True)
    axes.set(xlabel="training videos, %", ylabel=metric.replace("_", " "))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    _save(figure, path)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def _save(figure: Figure, path: Path) -> None:
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=130)
