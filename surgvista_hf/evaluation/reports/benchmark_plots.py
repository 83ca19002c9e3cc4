"""Plots of a benchmark, in a palette that color-blind readers can tell apart (Paul Tol's)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ...util.files import atomic_file
from ..tasks import ClipPredictions

COLORS = (
    "#332288", "#88CCEE", "#44AA99", "#117733", "#999933", "#DDCC77", "#CC6677", "#882255", "#AA4499", "#BBBBBB",
)  # fmt: skip
_VIDEOS_SHOWN = 4


def plot_phase_jaccard(jaccard: Mapping[str, np.ndarray], classes: Sequence[str], path: Path) -> None:
    """Bars of the Jaccard index of each phase.

    Args:
        jaccard: by model, (classes,) 0-1; NaN where a phase never occurs.
        classes: their names.
        path: of the picture.
    """
    figure, axes = _figure(max(6.0, 0.35 * len(classes) * len(jaccard) + 3), 4.2)
    width = 0.8 / len(jaccard)
    for number, (name, values) in enumerate(jaccard.items()):
        places = np.arange(len(classes)) + (number - (len(jaccard) - 1) / 2) * width
        axes.bar(places, values, width, label=name, color=COLORS[number % len(COLORS)])
    axes.set_xticks(range(len(classes)), classes, rotation=30, ha="right")
    axes.set(ylabel="Jaccard index, strict", ylim=(0, 1))
    axes.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=min(3, len(jaccard)), frameon=False)
    _save(figure, path)


def plot_confusion(predictions: ClipPredictions, classes: Sequence[str], title: str, path: Path) -> None:
    """The confusion matrix of all frames; each row, a true class, sums to 100 %.

    Args:
        predictions: of all test videos.
        classes: their names.
        title: of the picture.
        path: of the picture.
    """
    count = len(classes)
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
    """Truth and predictions along the first test videos, one ribbon each.

    Args:
        predictions: by model, of the same videos; where only some frames were asked about, the last answer goes on.
        classes: their names.
        path: of the picture.
    """
    truth = max(predictions.values(), key=lambda found: len(found.labels))
    labels, frames = truth.by_video(truth.labels), truth.by_video(truth.frames)
    said = {name: _continued(found, frames) for name, found in predictions.items()}
    videos = list(labels)[:_VIDEOS_SHOWN]
    lines = 1 + len(said)
    figure = Figure(figsize=(10, len(videos) * (0.26 * lines + 0.45) + 0.9), layout="constrained")
    FigureCanvasAgg(figure)
    palette = [COLORS[number % len(COLORS)] for number in range(len(classes))]
    colors, norm = ListedColormap(palette), BoundaryNorm(np.arange(len(classes) + 1) - 0.5, len(classes))
    for axes, video in zip(np.atleast_1d(figure.subplots(len(videos), 1)), videos, strict=True):
        rows = np.stack([labels[video], *(found[video] for found in said.values())])
        axes.imshow(rows, aspect="auto", interpolation="nearest", cmap=colors, norm=norm)
        axes.set_yticks(range(lines), ["truth", *said], fontsize=8)
        axes.set_title(video, fontsize=9, loc="left")
        axes.set_yticks(np.arange(lines - 1) + 0.5, minor=True)
        axes.grid(which="minor", axis="y", color="white", linewidth=2)
        axes.tick_params(which="minor", length=0)
    axes.set_xlabel("labeled frame")
    handles = [Patch(color=color, label=name) for color, name in zip(palette, classes, strict=True)]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    _save(figure, path)


def _continued(found: ClipPredictions, frames: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The predicted class at each of these frames, or at the last one before it that has a prediction."""
    own, said = found.by_video(found.frames), found.by_video(found.scores.argmax(axis=1))
    places = {video: np.searchsorted(own[video], numbers, side="right") - 1 for video, numbers in frames.items()}
    return {video: said[video][np.maximum(place, 0)] for video, place in places.items()}


def plot_data_scale(points: Mapping[str, Sequence[tuple[float, float, float]]], metric: str, path: Path) -> None:
    """The main number over the share of the training videos.

    Args:
        points: by model, (share, mean, deviation over seeds).
        metric: name of the number.
        path: of the picture.
    """
    figure, axes = _figure(5.6, 4.2)
    for number, (name, values) in enumerate(points.items()):
        fractions, means, spreads = (np.array(column) for column in zip(*sorted(values), strict=True))
        axes.errorbar(
            100 * fractions, means, spreads, marker="o", capsize=3, label=name, color=COLORS[number % len(COLORS)]
        )
    axes.set_xscale("log")
    ticks = sorted({100 * fraction for values in points.values() for fraction, *_ in values})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
    axes.set_xticks([], minor=True)
    axes.set(xlabel="training videos, %", ylabel=metric.replace("_", " "))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    _save(figure, path)


def _figure(width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def _save(figure: Figure, path: Path) -> None:
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=130)
