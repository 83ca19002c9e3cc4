"""The timeline of a predicted operation as an image: ribbons of the classes, their legend, and the confidence."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ...evaluation.reports.ribbons import draw_segment, legend_handles
from ...util.class_colors import UNFAMILIAR_COLOR
from ...util.errors import InputError
from ...util.files import atomic_file
from ..prediction.prediction import UNFAMILIAR_LABEL, VideoPrediction

NOTICE = "research use only, not a medical device"
_NUMBERED = 0.02  # fraction of the ribbon from which a segment is wide enough for the number of its class
_LEGEND_ROWS = 18


def draw_timeline(prediction: VideoPrediction, path: str | Path, truth: np.ndarray | None = None) -> None:
    """Draw ribbons of the predicted and, if known, the true phases, with the confidence below.

    The number of a class, which is its `label_id` in the CSV file, stands in the legend and in wide segments, so that many
    classes can be told apart in a gray print too. A multi-label prediction becomes one row of probabilities for each class.

    Args:
        prediction: the prediction to draw.
        path: `.png`, `.svg` or `.pdf` file; its suffix decides the format.
        truth: (steps,) true class indices.

    Raises:
        InputError: `truth` has another length than the prediction.
    """
    if truth is not None and len(truth) != len(prediction.seconds):
        raise InputError(f"truth has {len(truth)} steps, the prediction {len(prediction.seconds)}")
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    if prediction.multi_label:
        rows, band = _with_band(figure, prediction, [1.0])
        _draw_rows(rows[0], prediction)
        _draw_band(band, prediction)
    else:
        _draw_ribbons(figure, prediction, truth)
    title = f"{prediction.video}: predicted every second from past frames"
    if prediction.remark:
        title += (
            f"\nWARNING: {prediction.unfamiliar_fraction:.0%} of its seconds are unlike what the model was trained on"
        )
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, color=UNFAMILIAR_COLOR if prediction.remark else "black")
    figure.supxlabel(f"time (min:s)      {NOTICE}", fontsize=9, color="#555555")
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=130, metadata={"Title": f"Timeline of {prediction.video}"})


def _draw_ribbons(figure: Figure, prediction: VideoPrediction, truth: np.ndarray | None) -> None:
    ribbons = [("predicted", prediction.labels)] + ([("true", truth)] if truth is not None else [])
    heights = [1.0] * len(ribbons) + [1.0]
    rows, band = _with_band(figure, prediction, heights)
    for axes, (name, labels) in zip(rows, ribbons, strict=False):
        _draw_ribbon(axes, prediction, labels)
        axes.set_ylabel(name, rotation=0, ha="right", va="center")
    confidence = rows[-1]
    highest = np.where(
        prediction.regular_rows() < 0, np.nan, prediction.probabilities.max(axis=1)[prediction.regular_rows()]
    )
    edges = np.append(prediction.seconds[0] + prediction.step * np.arange(len(highest)), _end(prediction))
    confidence.fill_between(edges, np.append(highest, highest[-1]), step="post", color="#777777")
    confidence.set(ylim=(0, 1), yticks=(0, 0.5, 1))
    confidence.set_ylabel("confidence", rotation=0, ha="right", va="center")
    _time_axis(confidence, prediction)
    _draw_band(band, prediction)
    shown = sorted({int(label) for _, labels in ribbons for label in labels})
    figure.legend(
        handles=legend_handles(shown, prediction.class_names),
        loc="outside right upper",
        ncols=-(-len(shown) // _LEGEND_ROWS),
        frameon=False,
        fontsize=9 if len(shown) <= _LEGEND_ROWS else 7,
    )


def _draw_ribbon(axes: Axes, prediction: VideoPrediction, labels: np.ndarray) -> None:
    length = _end(prediction) - float(prediction.seconds[0])
    for start, end, label in prediction.spans(labels):
        draw_segment(axes, start, end - start, label, numbered=end - start >= _NUMBERED * length)
    axes.set(yticks=(), ylim=(0, 1))


def _with_band(figure: Figure, prediction: VideoPrediction, heights: list[float]) -> tuple[list[Axes], Axes | None]:
    """Return rows of axes above each other and, where it is known what the model was trained on, a thin one on top of them."""
    known = prediction.unfamiliar is not None
    heights = [0.15 * heights[0], *heights] if known else heights
    grid = {"height_ratios": heights}
    rows = list(figure.subplots(len(heights), 1, sharex=True, squeeze=False, gridspec_kw=grid)[:, 0])
    return (rows[1:], rows[0]) if known else (rows, None)


def _draw_band(axes: Axes | None, prediction: VideoPrediction) -> None:
    if axes is None:
        return
    for start, end in prediction.unfamiliar_spans:
        axes.axvspan(start, end, facecolor=UNFAMILIAR_COLOR, linewidth=0)
    axes.set(yticks=(), ylim=(0, 1), facecolor="#eeeeee")
    axes.tick_params(bottom=False)
    axes.set_ylabel(UNFAMILIAR_LABEL, rotation=0, ha="right", va="center", fontsize=8, color=UNFAMILIAR_COLOR)


def _draw_rows(axes: Axes, prediction: VideoPrediction) -> None:
    extent = (float(prediction.seconds[0]), _end(prediction), len(prediction.class_names) - 0.5, -0.5)
    rows = prediction.regular_rows()
    values = np.where(rows[:, None] < 0, np.nan, prediction.probabilities[rows])  # what is missing stays blank
    image = axes.imshow(values.T, aspect="auto", cmap="cividis", vmin=0, vmax=1, extent=extent)
    if len(prediction.class_names) <= 30:
        axes.set_yticks(range(len(prediction.class_names)), prediction.class_names, fontsize=8)
    else:
        axes.set_ylabel("class")
    axes.figure.colorbar(image, ax=axes, label="probability")
    _time_axis(axes, prediction)


def _time_axis(axes: Axes, prediction: VideoPrediction) -> None:
    axes.set_xlim(float(prediction.seconds[0]), _end(prediction))
    axes.xaxis.set_major_locator(MaxNLocator(10, steps=[1, 2, 3, 6, 10], integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{int(value) // 60}:{int(value) % 60:02d}"))


def _end(prediction: VideoPrediction) -> float:
    return float(prediction.seconds[-1] + prediction.step)
