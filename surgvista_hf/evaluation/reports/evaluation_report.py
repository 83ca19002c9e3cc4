"""The report of one evaluation: a page with intervals, variants, classes and videos, the same as tables, and plots."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...util.files import atomic_file
from ..breakdown import Scores, class_scores, metric_intervals, metric_variants, needs_scores, video_scores
from ..metrics.statistics import Interval
from ..tasks import ClipPredictions, Task
from .benchmark_plots import plot_class_scores

_RELAXED = ("relaxed_corrected", "relaxed_published")
_COUNTS = ("samples",)
_COMPONENTS = ("instrument ", "verb ", "target ")


@dataclass(frozen=True)
class Breakdown:
    """The numbers behind the metrics of an evaluation.

    Args:
        classes: metrics of each class.
        videos: metrics of each video.
        variants: metrics by the name of the variant.
        intervals: 95 % intervals of the metrics, from draws of whole videos; none for a single video.
    """

    classes: Scores
    videos: Scores
    variants: Scores
    intervals: Mapping[str, Interval]

    @classmethod
    def compute(
        cls, task: Task, predictions: ClipPredictions, *, is_scored: bool = True, resamples: int = 1000
    ) -> "Breakdown":
        """Compute all of them.

        Args:
            task: task of the predictions.
            predictions: predictions of the test.
            is_scored: whether the predictions are scores of all classes; otherwise metrics that need them are left out.
            resamples: number of draws of videos for the intervals.
        """
        intervals = metric_intervals(task, predictions, resamples=resamples)
        found = cls(
            class_scores(task, predictions),
            video_scores(task, predictions),
            metric_variants(task, predictions),
            intervals,
        )
        if is_scored:
            return found
        left = {name: interval for name, interval in intervals.items() if not needs_scores(name)}
        return cls(_unranked(found.classes), _unranked(found.videos), _unranked(found.variants), left)

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers, as JSON can hold them."""
        return {
            "classes": self.classes,
            "videos": self.videos,
            "variants": self.variants,
            "intervals": {name: [interval.low, interval.high] for name, interval in self.intervals.items()},
        }


def _unranked(scores: Scores) -> Scores:
    return {
        row: {name: value for name, value in values.items() if not needs_scores(name)}
        for row, values in scores.items()
    }


def write_evaluation(
    folder: Path,
    task: Task,
    metrics: Mapping[str, float],
    results: Mapping[str, Any],
    breakdown: Breakdown,
    *,
    title: str,
) -> None:
    """Write `report.md`, `classes.csv`, `videos.csv`, and for triplets a plot of their components.

    Args:
        folder: output folder.
        task: task of the evaluation.
        metrics: metrics of a table, 0-1.
        results: results of all metrics, as `Task.results` gives them.
        breakdown: numbers behind them.
        title: title of the report.
    """
    for name, scores in (("classes", breakdown.classes), ("videos", breakdown.videos)):
        with atomic_file(folder / f"{name}.csv") as temporary:
            _write_csv(temporary, scores, name.removesuffix("s").replace("classe", "class"))
    with atomic_file(folder / "report.md") as temporary:
        temporary.write_text(_markdown(task, metrics, results, breakdown, title), encoding="utf-8")
    components = {name: row for name, row in breakdown.classes.items() if name.startswith(_COMPONENTS)}
    if task.kind == "triplet" and components:
        values = [row.get("average_precision") for row in components.values()]
        precision = np.array([np.nan if value is None else value for value in values])
        plot = folder / "plots" / "components_average_precision.png"
        plot_class_scores({"within videos": precision}, list(components), plot, metric="average precision")


def _columns(scores: Scores) -> list[str]:
    return list(dict.fromkeys(name for row in scores.values() for name in row))


def _write_csv(path: Path, scores: Scores, first: str) -> None:
    columns = _columns(scores)
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow([first, *columns])
        for name, row in scores.items():
            table.writerow([name, *("" if row.get(column) is None else row[column] for column in columns)])


def _markdown(
    task: Task, metrics: Mapping[str, float], results: Mapping[str, Any], breakdown: Breakdown, title: str
) -> str:
    labels = sum(int(row["samples"] or 0) for row in breakdown.videos.values())
    relaxed = {name: results[name] for name in _RELAXED if name in results}
    header = [
        "metric",
        "strict" if relaxed else "value",
        "95 % interval",
        *(name.replace("_", " ") for name in relaxed),
    ]
    rows = []
    for name, value in metrics.items():
        interval = breakdown.intervals.get(name)
        between = f"{100 * interval.low:.1f}-{100 * interval.high:.1f}" if interval else ""
        others = [_cell(name, result.get(name)) for result in relaxed.values()]
        rows.append([name.replace("_", " "), _cell(name, value), between, *others])
    parts = [
        f"# {title}",
        f"{task.kind.replace('_', ' ')} of {len(task.names)} classes; {labels} labels of {len(breakdown.videos)} videos; per "
        "cent. Intervals are from bootstrap draws of whole videos"
        + ("." if len(breakdown.videos) > 1 else ", so a single video has none."),
        _table(header, rows),
    ]
    if breakdown.variants:
        parts += ["## Variants", _table(*_cells("variant", breakdown.variants))]
    parts += ["## Classes", _table(*_cells("class", breakdown.classes))]
    parts += ["## Videos", _table(*_cells("video", breakdown.videos))]
    return "\n\n".join(parts) + "\n"


def _cells(first: str, scores: Scores) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of a table; classes that neither occur nor are predicted are left out."""
    columns = _columns(scores)
    rows = [
        [name.replace("|", "\\|"), *(_cell(column, row.get(column)) for column in columns)]
        for name, row in scores.items()
        if row.get("samples") != 0 or any(row.get(column) for column in columns)
    ]
    return [first, *(column.replace("_", " ") for column in columns)], rows


def _cell(metric: str, value: object) -> str:
    if not isinstance(value, (int, float)):
        return ""
    return str(value) if metric in _COUNTS else f"{100 * value:.1f}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines)
