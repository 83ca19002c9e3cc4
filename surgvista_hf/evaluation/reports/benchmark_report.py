"""The report of a benchmark: tables in Markdown and LaTeX, significance, and plots, from the results of its cells."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ...util.environment import Environment, environment
from ...util.files import atomic_file, write_json
from ..metrics.statistics import Interval, PairedTest, bootstrap_interval, paired_wilcoxon
from ..tasks import ClipPredictions, Task
from .benchmark_plots import plot_class_scores, plot_confusion, plot_data_scale, plot_ribbons


class Evaluated(Protocol):
    """Describe the outcome of a test: everything that a cell's result takes from it."""

    @property
    def task(self) -> Task:
        """Return the task."""

    @property
    def metrics(self) -> dict[str, float]:
        """Return the numbers of a table, 0-1, by their names."""

    @property
    def results(self) -> dict[str, Any]:
        """Return the results of all metrics, as JSON can hold them."""

    @property
    def by_video(self) -> dict[str, float]:
        """Return the main metric of each test video."""


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """The result of one model on one data set under one protocol with one seed, in one fold if there are folds.

    Args:
        model, data, protocol, seed: names of the model, data set and protocol, and the seed.
        fold: number of the fold; `None` without folds.
        task: kind of the task.
        classes: names of the classes.
        main_metric: name of the main metric of the task.
        metrics: metrics of a table, 0-1.
        results: results of all metrics.
        by_video: main metric of each test video.
        parameters: numbers of trained and of all parameters, and bytes of all.
        selected_on_test: whether the validation had videos of the test.
        fraction: fraction of the training videos that was used.
        seconds: duration of the run.
        environment: versions, revision and device, see `environment`; by default those of this process.
        predictions: file of all predictions, below the folder of the suite; `None`: they are not stored.
        seen: knowledge about test videos in the training of the model's weights: "", "seen", "maybe seen" or "unknown".
    """

    model: str
    data: str
    protocol: str
    seed: int = 0
    fold: int | None = None
    task: str
    classes: list[str]
    main_metric: str
    metrics: dict[str, float]
    results: dict[str, Any]
    by_video: dict[str, float]
    parameters: dict[str, int]
    selected_on_test: bool = False
    fraction: float = 1.0
    seconds: float = 0.0
    environment: Environment = field(default_factory=environment)
    predictions: str | None = None
    seen: str = ""

    @classmethod
    def from_evaluation(cls, evaluation: Evaluated, **fields: Any) -> "CellResult":
        """Make the result of a cell from the outcome of a test.

        Args:
            evaluation: the outcome.
            fields: the fields that an outcome does not know, such as `model`, `data` and `protocol`.
        """
        task = evaluation.task
        return cls(
            task=task.kind,
            classes=list(task.names),
            main_metric=task.main_metric,
            metrics=evaluation.metrics,
            results=evaluation.results,
            by_video=evaluation.by_video,
            **fields,
        )

    def save(self, file: Path) -> None:
        """Write a JSON file."""
        write_json(file, asdict(self))

    @classmethod
    def load(cls, file: Path) -> "CellResult":
        """Read what `save` wrote."""
        content = json.loads(file.read_text(encoding="utf-8"))
        if "metrics" in content:  # the name of the key in earlier versions
            content["metrics"] = content.pop("metrics")
        return cls(**content)


@dataclass(frozen=True)
class Row:
    """A line of a table: one model under one protocol on one data set, all folds and seeds together.

    Args:
        model, data, protocol: names of the model, data set and protocol.
        cells: results of its folds and seeds.
        metrics: mean and standard deviation (N - 1) by the name of the metric: over folds, seeds averaged in each, or without
            folds over seeds. A single value has no deviation.
        interval: 95 % interval of the mean over test videos of their main metric, from 1000 draws of videos, seeds averaged.
            With folds these are the videos of all of them.
        test: test of whether it is better than the baseline on the same videos; `None` without a baseline, or for itself.
    """

    model: str
    data: str
    protocol: str
    cells: tuple[CellResult, ...]
    metrics: dict[str, tuple[float, float | None]]
    interval: Interval | None
    test: PairedTest | None = None

    @property
    def by_video(self) -> dict[str, float]:
        """Return the main metric of each video, averaged over seeds."""
        return seeds_averaged(self.cells)

    @property
    def folds(self) -> "tuple[Row, ...]":
        """Return a row for each fold; none without folds."""
        return tuple(
            _row(self.model, self.data, self.protocol, own)
            for fold, own in _by_fold(self.cells).items()
            if fold is not None
        )


def _by_fold(cells: Sequence[CellResult]) -> dict[int | None, list[CellResult]]:
    folds: dict[int | None, list[CellResult]] = {}
    for cell in cells:
        folds.setdefault(cell.fold, []).append(cell)
    return folds


def seeds_averaged(cells: Sequence[CellResult]) -> dict[str, float]:
    """Return the main metric of each video that all seeds of a fold have, averaged over them.

    The videos of all folds stand side by side; one that several folds test is averaged over these too.
    """
    found: dict[str, list[float]] = {}
    for own in _by_fold(cells).values():
        for video in set.intersection(*(set(cell.by_video) for cell in own)):
            found.setdefault(video, []).append(float(np.mean([cell.by_video[video] for cell in own])))
    return {video: float(np.mean(values)) for video, values in sorted(found.items())}


def summarize(cells: Iterable[CellResult], baseline: str | None = None) -> list[Row]:
    """Put folds and seeds together, with intervals and tests against a baseline.

    Args:
        cells: results of all cells.
        baseline: name of a model, to compare under the same protocol, or of a protocol, to compare on the same model.

    Returns:
        Rows, in the order of the cells.
    """
    groups: dict[tuple[str, str, str], list[CellResult]] = {}
    for cell in cells:
        groups.setdefault((cell.data, cell.model, cell.protocol), []).append(cell)
    rows = []
    for (data, model, protocol), group in groups.items():
        scores = seeds_averaged(group)
        other = groups.get((data, baseline, protocol)) or groups.get((data, model, baseline)) if baseline else None
        test = None
        if other is not None and other is not group:
            reference = seeds_averaged(other)
            shared = sorted(set(scores) & set(reference))
            if shared:
                test = paired_wilcoxon({v: scores[v] for v in shared}, {v: reference[v] for v in shared})
        rows.append(replace(_row(model, data, protocol, group), test=test))
    return rows


def _row(model: str, data: str, protocol: str, cells: Sequence[CellResult]) -> Row:
    """Return the row of some results, without a test against others."""
    metrics: dict[str, tuple[float, float | None]] = {}
    parts = list(_by_fold(cells).values())
    for name in dict.fromkeys(name for cell in cells for name in cell.metrics):
        of_seeds = [[cell.metrics[name] for cell in part if name in cell.metrics] for part in parts]
        values = of_seeds[0] if len(parts) == 1 else [float(np.mean(own)) for own in of_seeds if own]
        metrics[name] = (float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None)
    scores = seeds_averaged(cells)
    interval = bootstrap_interval(_mean_of(scores), list(scores)) if scores else None
    return Row(model, data, protocol, tuple(cells), metrics, interval)


def _mean_of(scores: Mapping[str, float]) -> Callable[[Sequence[str]], float]:
    return lambda drawn: float(np.mean([scores[video] for video in drawn]))


def markdown(rows: Sequence[Row], baseline: str | None = None) -> str:
    """Format the rows as Markdown tables, one for each data set; numbers in per cent, ± over seeds.

    Args:
        rows: rows of the tables.
        baseline: name of the baseline that the rows were tested against.
    """
    parts = []
    for data in dict.fromkeys(row.data for row in rows):
        own = [row for row in rows if row.data == data]
        names = _columns(own)
        cells = [_cells(row, names, baseline) for row in own]
        header = ["model", "protocol", "trained", *[name.replace("_", " ") for name in names], "videos: mean (95 %)"]
        header += ["p"] if baseline else []
        lines = [f"### {data}", "", f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
        lines += [f"| {' | '.join(cell)} |" for cell in cells]
        parts.append("\n".join([*lines, "", *_notes(own, baseline), "", *_fold_lines(own, names)]))
    return "\n".join(parts)


def _fold_lines(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    """Return a Markdown table with a line for each fold; nothing without folds."""
    if not any(row.folds for row in rows):
        return []
    header = [
        "model",
        "protocol",
        "fold",
        "videos",
        *[name.replace("_", " ") for name in names],
        "videos: mean (95 %)",
    ]
    lines = ["Fold by fold:", "", f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for row in rows:
        for own in row.folds:
            metrics = [_per_cent(*own.metrics[name]) if name in own.metrics else "" for name in names]
            start = [row.model, row.protocol, str(own.cells[0].fold), str(len(own.by_video))]
            lines.append(f"| {' | '.join([*start, *metrics, _mean_text(own)])} |")
    return [*lines, ""]


def _mean_text(row: Row) -> str:
    """Return the mean over videos with its interval; a single video has none."""
    if row.interval is None:
        return ""
    mean, low, high = (f"{100 * value:.1f}" for value in (row.interval.value, row.interval.low, row.interval.high))
    return mean if len(row.by_video) == 1 else f"{mean} ({low}-{high})"


def latex(rows: Sequence[Row], baseline: str | None = None) -> str:
    """Format the rows as LaTeX tables with booktabs; the arguments are those of `markdown`."""
    parts = []
    for data in dict.fromkeys(row.data for row in rows):
        own = [row for row in rows if row.data == data]
        names = _columns(own)
        header = ["Model", "Protocol", "Trained", *names, "Videos: mean (95\\,\\%)", *(["$p$"] if baseline else [])]
        body = [" & ".join(_escape(cell) for cell in _cells(row, names, baseline)) + r" \\" for row in own]
        parts.append(
            "\n".join(
                [
                    r"\begin{table}",
                    rf"\caption{{{_escape(data)}. {_escape(' '.join(_notes(own, baseline)))}}}",
                    rf"\begin{{tabular}}{{ll{'r' * (len(header) - 2)}}}",
                    r"\toprule",
                    " & ".join(
                        name if "\\" in name or "$" in name else _escape(name.replace("_", " ")) for name in header
                    )
                    + r" \\",
                    r"\midrule",
                    *body,
                    r"\bottomrule",
                    r"\end{tabular}",
                    r"\end{table}",
                    "",
                ]
            )
        )
    return "\n".join(parts)


def _columns(rows: Sequence[Row]) -> list[str]:
    """Return the names of the metrics that any row has."""
    return list(dict.fromkeys(name for row in rows for name in row.metrics))


def _cells(row: Row, names: Sequence[str], baseline: str | None) -> list[str]:
    parameters = row.cells[0].parameters
    # Predictions of another program have no parameters that are known.
    trained = f"{parameters['trained'] / parameters['all']:.2%}" if parameters["all"] else "unknown"
    metrics = [_per_cent(*row.metrics[name]) if name in row.metrics else "" for name in names]
    mark = _SEEN_MARKS.get(row.cells[0].seen, "")
    cells = [row.model + mark, row.protocol, trained, *metrics, _mean_text(row)]
    if baseline:
        cells.append("" if row.test is None else f"{row.test.p_value:.3g}")
    return cells


_SEEN_MARKS = {"seen": " §", "maybe seen": " (§)", "unknown": " (?)"}
_SEEN_NOTES = {
    "seen": "§: the model's weights were trained on videos of this test.",
    "maybe seen": "(§): the model's weights were trained on data that may hold videos of this test; nobody lists which.",
    "unknown": "(?): nobody has published all data that the model's weights were trained on.",
}


def _per_cent(mean: float, spread: float | None) -> str:
    return f"{100 * mean:.1f}" + ("" if spread is None else f" ± {100 * spread:.1f}")


def _notes(rows: Sequence[Row], baseline: str | None) -> list[str]:
    first = rows[0].cells[0]
    seeds, folds = max(len({cell.seed for cell in row.cells}) for row in rows), max(len(row.folds) for row in rows)
    spread = f"{seeds} seeds, ± standard deviation over them" if seeds > 1 else "one seed"
    if folds:
        averaged = f", {seeds} seeds averaged in each" if seeds > 1 else ""
        spread = f"{folds} folds{averaged}; mean and ± standard deviation over folds"
    videos = len(rows[0].by_video) if folds else len(first.by_video)
    notes = [
        f"Task: {first.task}, {len(first.classes)} classes, {videos} test videos; per cent; {spread}. "
        "Trained: share of the parameters of encoder and head that the protocol itself trains."
    ]
    if first.task == "workflow":
        notes.append(
            "Nothing is relaxed; phases that a video does not have are left out; averaged over videos, then phases."
        )
    if any("zero_shot" in cell.results for row in rows for cell in row.cells):
        notes.append(
            "Zero-shot: an answer that cannot be read is wrong, except in valid accuracy; most frequent: always saying the "
            "most frequent class of the test; prompt sensitivity: the best prompt less the worst."
        )
    if baseline:
        notes.append(
            f"p: one-sided Wilcoxon signed-rank test over videos against {baseline}, not corrected for several tests."
        )
    if any(cell.selected_on_test for row in rows for cell in row.cells):
        notes.append("The validation has test videos, as published: these numbers are too good.")
    marked = {cell.seen for row in rows for cell in row.cells}
    notes += [note for verdict, note in _SEEN_NOTES.items() if verdict in marked]
    return notes


def _escape(text: str) -> str:
    for character in "&%_#":
        text = text.replace(character, f"\\{character}")
    return text.replace("±", r"$\pm$").replace("§", r"\S{}")


def write_report(results: Sequence[CellResult], folder: Path, *, baseline: str | None = None) -> list[Row]:
    """Write `summary.json`, `tables.md`, `tables.tex` and `plots/`.

    Args:
        results: results of all cells.
        folder: folder of the suite.
        baseline: the argument of `summarize`.

    Returns:
        The rows of the tables.
    """
    rows = summarize(results, baseline)
    content = [
        {
            "model": row.model,
            "data": row.data,
            "protocol": row.protocol,
            "seeds": [cell.seed for cell in row.cells],
            **({"folds": [_fold_summary(own) for own in row.folds]} if row.folds else {}),
            "metrics": {name: {"mean": mean, "std": spread} for name, (mean, spread) in row.metrics.items()},
            "interval": asdict(row.interval) if row.interval else None,
            "test": row.test.to_dict() if row.test else None,
            "by_video": row.by_video,
            "parameters": row.cells[0].parameters,
            "selected_on_test": any(cell.selected_on_test for cell in row.cells),
            "environment": row.cells[0].environment,
        }
        for row in rows
    ]
    for name, text in (
        ("summary.json", json.dumps({"baseline": baseline, "rows": content}, indent=1) + "\n"),
        ("tables.md", markdown(rows, baseline)),
        ("tables.tex", latex(rows, baseline)),
    ):
        with atomic_file(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    _plot(rows, folder)
    return rows


def _fold_summary(row: Row) -> dict[str, Any]:
    return {
        "fold": row.cells[0].fold,
        "metrics": {name: {"mean": mean, "std": spread} for name, (mean, spread) in row.metrics.items()},
        "interval": asdict(row.interval) if row.interval else None,
        "by_video": row.by_video,
    }


def _predictions(row: Row, folder: Path) -> ClipPredictions | None:
    """Return the predictions of a row's first seed, of all folds one after the other; `None` if they are not stored."""
    cells = [own[0] for own in _by_fold(row.cells).values()]
    loaded = [ClipPredictions.load(folder / cell.predictions) for cell in cells if cell.predictions]
    return ClipPredictions.joined(loaded) if loaded else None


def _plot(rows: Sequence[Row], folder: Path) -> None:
    for data in dict.fromkeys(row.data for row in rows):
        own = [row for row in rows if row.data == data]
        first = own[0].cells[0]
        models = {row.model for row in own}
        titles = {id(row): f"{row.model} {row.protocol}" if len(models) > 1 else row.protocol for row in own}
        plots = folder / "plots"
        phased = [row for row in own if "strict" in row.cells[0].results]  # answers of language models have no ribbon
        if phased:
            jaccard = {
                titles[id(row)]: _mean_defined(
                    [_floats(cell.results["strict"]["by_phase"]["jaccard"]) for cell in row.cells]
                )
                for row in phased
            }
            plot_class_scores(jaccard, first.classes, plots / f"{data}_phase_jaccard.png")
            found = {titles[id(row)]: _predictions(row, folder) for row in phased}
            loaded = {title: predictions for title, predictions in found.items() if predictions is not None}
            plot_ribbons(loaded, first.classes, plots / f"{data}_ribbons.png")
        if first.task in ("workflow", "classification", "video_classification"):
            # Answers of language models have no scores to choose a class by.
            scored = [row for row in own if {"strict", "classification"} & row.cells[0].results.keys()]
            _plot_confusions(scored, titles, folder)
        precision = {
            titles[id(row)]: _mean_defined([_class_precision(cell) for cell in row.cells])
            for row in own
            if all("multi_label" in cell.results for cell in row.cells)
        }
        if any(not np.isnan(values).all() for values in precision.values()):
            # Folds have other tests, so guessing is averaged over them as the metric is.
            judged = next(row for row in own if titles[id(row)] in precision)
            found_in = [cell.results["multi_label"]["prevalence"] for cell in judged.cells]
            chance = np.array([np.mean([prevalence[name] for prevalence in found_in]) for name in first.classes])
            file = plots / f"{data}_average_precision.png"
            plot_class_scores(precision, first.classes, file, metric="average precision", chance=chance)
        fractions = {row.cells[0].fraction for row in own}
        if len(fractions) > 1:
            points: dict[str, list[tuple[float, float, float]]] = {}
            for row in own:
                mean, spread = row.metrics[first.main_metric]
                points.setdefault(row.model, []).append((row.cells[0].fraction, mean, spread or 0.0))
            plot_data_scale(points, first.main_metric, plots / f"{data}_data_scale.png")


def _plot_confusions(rows: Sequence[Row], titles: Mapping[int, str], folder: Path) -> None:
    for row in rows:
        predictions, title = _predictions(row, folder), titles[id(row)]
        if predictions is None:
            continue
        if row.cells[0].task == "video_classification":
            predictions = predictions.averaged
        name = title.replace(" ", "_").replace("/", "_")
        path = folder / "plots" / f"{row.data}_confusion_{name}.png"
        plot_confusion(predictions, row.cells[0].classes, title, path)


def _class_precision(cell: CellResult) -> np.ndarray:
    """Return the average precision of each class (classes,); NaN where it is not defined."""
    found = cell.results["multi_label"]
    return _floats([found.get(f"ap_{name}") for name in cell.classes])


def _floats(values: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values])


def _mean_defined(values: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean of the defined values of each class (classes,); NaN for a class that no fold or seed has."""
    stacked = np.stack(values)  # (cells, classes)
    defined = ~np.isnan(stacked)
    with np.errstate(invalid="ignore"):
        mean: np.ndarray = np.where(defined, stacked, 0).sum(axis=0) / defined.sum(axis=0)
    return mean
