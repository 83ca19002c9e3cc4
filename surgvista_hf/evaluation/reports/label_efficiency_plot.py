"""The figure of label-efficiency curves, readable in gray print and by color-blind readers."""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ...util.files import atomic_file
from ..label_efficiency import LabelEfficiency, measure_name

# Okabe and Ito's colors without yellow, which is lost on white paper; class colors are for classes.
_COLORS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#666666")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (8, 2)), (0, (3, 1)))
_DODGE = 0.035  # of the distance between two numbers of videos, so that intervals do not lie on each other


def draw_label_efficiency(result: LabelEfficiency, path: Path, *, title: str = "", measure: str | None = None) -> None:
    """Draw the curve of each variant over the number of labeled videos, with intervals over test videos and seeds.

    Curves differ by marker and line as well as by color.

    Args:
        result: curves to draw.
        path: image file to write.
        title: title of the figure.
        measure: name of the measure; the main one by default.
    """
    measure, counts = measure or result.measures[0], result.labeled
    figure = Figure(figsize=(6.8, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for number, variant in enumerate(result.variants):
        own = [count for count in counts if result.scores(variant, count, measure)]
        found = [result.interval(variant, count, measure) for count in own]
        values = 100 * np.array([interval.value for interval in found])
        ends = 100 * np.array([(interval.low, interval.high) for interval in found]).T  # (2, counts)
        axes.errorbar(
            np.array(own) * 2 ** (_DODGE * (number - (len(result.variants) - 1) / 2)),
            values,
            np.maximum([values - ends[0], ends[1] - values], 0),
            label=variant,
            color=_COLORS[number % len(_COLORS)],
            marker=_MARKERS[number % len(_MARKERS)],
            linestyle=_LINES[number % len(_LINES)],
            markersize=6,
            linewidth=1.6,
            elinewidth=1,
            capsize=3,
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, [str(count) for count in counts], minor=False)
    axes.set_xticks([], minor=True)
    axes.set(xlabel="labeled videos", ylabel=f"{measure_name(measure)} of a test video, %", title=title)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=9, handlelength=3.4)
    seeds, videos = len(result.seeds), len(result.test_videos)
    note = f"mean of {seeds} seed{'s' if seeds != 1 else ''} and {videos} test videos; bars: 95 % interval over both"
    figure.supxlabel(note, fontsize=8)
    with atomic_file(path) as temporary:
        figure.savefig(temporary, dpi=150)
