"""The picture of a predicted operation: who would rather look than read a table, looks here."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ...util.errors import InputError
from ...util.files import atomic_file
from ..prediction.prediction import UNFAMILIAR_LABEL, VideoPrediction

# Paul Tol's "muted" and "light" schemes, made to be told apart by color-blind people; further classes repeat them hatched.
_COLORS = (
    *("#332288", "#88CCEE", "#44AA99", "#117733", "#999933", "#DDCC77", "#CC6677", "#882255", "#AA4499"),
    *("#77AADD", "#EE8866", "#EEDD88", "#FFAABB", "#99DDFF", "#BBCC33", "#AAAA00", "#DDDDDD"),
)
_HATCHES = ("", "///", "...", "xxx")
NOTICE = "research use only, not a medical device"
UNFAMILIAR = "#d55e00"  # what is unlike the training videos; no class has this color


def draw_timeline(prediction: "VideoPrediction", path: str | Path, truth: np.ndarray | None = None) -> None:
    """Draw ribbons of the predicted and, if known, the true phases, with the confidence below.

    A multi-label prediction becomes one row of probabilities a class.

    Args:
        prediction: what to draw.
        path: `.png`, `.svg` or `.pdf`; its suffix decides.
        truth: (steps,) true class numbers.

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
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, color=UNFAMILIAR if prediction.remark else "black")
    figure.supxlabel(f"time (min:s)      {NOTICE}", fontsize=9, color="#555555")
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=130, metadata={"Title": f"Timeline of {prediction.video}"})


def _draw_ribbons(figure: Figure, prediction: "VideoPrediction", truth: np.ndarray | None) -> None:
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
    legend = [
        Patch(facecolor=class_color(i), hatch=_hatch(i), edgecolor="white", label=prediction.class_names[i])
        for i in shown
    ]
    figure.legend(handles=legend, loc="outside right upper", frameon=False, fontsize=9)


def _draw_ribbon(axes: Axes, prediction: "VideoPrediction", labels: np.ndarray) -> None:
    for start, end, label in prediction.spans(labels):
        axes.axvspan(start, end, facecolor=class_color(label), hatch=_hatch(label), edgecolor="white", linewidth=0)
    axes.set(yticks=(), ylim=(0, 1))


def _with_band(figure: Figure, prediction: "VideoPrediction", heights: list[float]) -> tuple[list[Axes], Axes | None]:
    """Return rows of axes above each other and, where it is known what the model was trained on, a thin one on top of them."""
    known = prediction.unfamiliar is not None
    heights = [0.15 * heights[0], *heights] if known else heights
    grid = {"height_ratios": heights}
    rows = list(figure.subplots(len(heights), 1, sharex=True, squeeze=False, gridspec_kw=grid)[:, 0])
    return (rows[1:], rows[0]) if known else (rows, None)


def _draw_band(axes: Axes | None, prediction: "VideoPrediction") -> None:
    if axes is None:
        return
    for start, end in prediction.unfamiliar_spans:
        axes.axvspan(start, end, facecolor=UNFAMILIAR, linewidth=0)
    axes.set(yticks=(), ylim=(0, 1), facecolor="#eeeeee")
    axes.tick_params(bottom=False)
    axes.set_ylabel(UNFAMILIAR_LABEL, rotation=0, ha="right", va="center", fontsize=8, color=UNFAMILIAR)


def _draw_rows(axes: Axes, prediction: "VideoPrediction") -> None:
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


def _time_axis(axes: Axes, prediction: "VideoPrediction") -> None:
    axes.set_xlim(float(prediction.seconds[0]), _end(prediction))
    axes.xaxis.set_major_locator(MaxNLocator(10, steps=[1, 2, 3, 6, 10], integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{int(value) // 60}:{int(value) % 60:02d}"))


def _end(prediction: "VideoPrediction") -> float:
    return float(prediction.seconds[-1] + prediction.step)


def class_color(label: int) -> str:
    """Color of a class, the same in every picture."""
    return _COLORS[label % len(_COLORS)]


def _hatch(label: int) -> str:
    return _HATCHES[label // len(_COLORS) % len(_HATCHES)]
