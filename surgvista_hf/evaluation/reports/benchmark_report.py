"""The report of a benchmark: tables in Markdown and LaTeX, significance, and plots, from the results of its cells."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ...util.environment import Environment, environment
from ...util.files import atomic_file, write_json
from ..metrics.statistics import Interval, PairedTest, bootstrap_interval, paired_wilcoxon
from ..tasks import ClipPredictions, Task
from .benchmark_plots import plot_confusion, plot_data_scale, plot_phase_jaccard, plot_ribbons


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
    """The result of one model on one data set under one protocol with one seed.

    Args:
        model, data, protocol, seed: names of the model, data set and protocol, and the seed.
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
    """A line of a table: one model under one protocol on one data set, all seeds together.

    Args:
        model, data, protocol: names of the model, data set and protocol.
        cells: results of its seeds.
        metrics: mean and standard deviation (N - 1) over seeds by the name of the metric; a single seed has no deviation.
        interval: 95 % interval of the mean over test videos of their main metric, from 1000 draws of videos, seeds averaged.
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


def seeds_averaged(cells: Sequence[CellResult]) -> dict[str, float]:
    """Return the main metric of each video that all seeds have, averaged over them."""
    videos = set.intersection(*(set(cell.by_video) for cell in cells))
    return {video: float(np.mean([cell.by_video[video] for cell in cells])) for video in sorted(videos)}


def summarize(cells: Iterable[CellResult], baseline: str | None = None) -> list[Row]:
    """Put seeds together, with intervals and tests against a baseline.

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
        metrics: dict[str, tuple[float, float | None]] = {}
        for name in group[0].metrics:
            values = [cell.metrics[name] for cell in group if name in cell.metrics]
            metrics[name] = (float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None)
        scores = seeds_averaged(group)
        interval = bootstrap_interval(_mean_of(scores), list(scores)) if scores else None
        other = groups.get((data, baseline, protocol)) or groups.get((data, model, baseline)) if baseline else None
        test = None
        if other is not None and other is not group:
            reference = seeds_averaged(other)
            shared = sorted(set(scores) & set(reference))
            if shared:
                test = paired_wilcoxon({v: scores[v] for v in shared}, {v: reference[v] for v in shared})
        rows.append(Row(model, data, protocol, tuple(group), metrics, interval, test))
    return rows


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
        parts.append("\n".join([*lines, "", *_notes(own, baseline), ""]))
    return "\n".join(parts)


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
    interval = row.interval
    mean = f"{100 * interval.value:.1f} ({100 * interval.low:.1f}-{100 * interval.high:.1f})" if interval else ""
    mark = _SEEN_MARKS.get(row.cells[0].seen, "")
    cells = [row.model + mark, row.protocol, trained, *metrics, mean]
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
    first, seeds = rows[0].cells[0], max(len(row.cells) for row in rows)
    spread = f"{seeds} seeds, ± standard deviation over them" if seeds > 1 else "one seed"
    notes = [
        f"Task: {first.task}, {len(first.classes)} classes, {len(first.by_video)} test videos; per cent; {spread}. "
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
                titles[id(row)]: np.mean(
                    [_floats(cell.results["strict"]["by_phase"]["jaccard"]) for cell in row.cells], axis=0
                )
                for row in phased
            }
            plot_phase_jaccard(jaccard, first.classes, plots / f"{data}_phase_jaccard.png")
            loaded = {
                titles[id(row)]: ClipPredictions.load(folder / file)
                for row in phased
                if (file := row.cells[0].predictions)
            }
            plot_ribbons(loaded, first.classes, plots / f"{data}_ribbons.png")
            for title, predictions in loaded.items():
                name = title.replace(" ", "_").replace("/", "_")
                plot_confusion(predictions, first.classes, title, plots / f"{data}_confusion_{name}.png")
        fractions = {row.cells[0].fraction for row in own}
        if len(fractions) > 1:
            points: dict[str, list[tuple[float, float, float]]] = {}
            for row in own:
                mean, spread = row.metrics[first.main_metric]
                points.setdefault(row.model, []).append((row.cells[0].fraction, mean, spread or 0.0))
            plot_data_scale(points, first.main_metric, plots / f"{data}_data_scale.png")


def _floats(values: Sequence[float | None]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values])
