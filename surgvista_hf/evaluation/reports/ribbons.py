"""Ribbons of classes over time, as the plots of a benchmark and the timeline of a prediction draw them."""

from collections.abc import Iterable, Sequence

from matplotlib.axes import Axes
from matplotlib.patches import Patch

from ...util.class_colors import class_color, class_hatch, ink_on


def draw_segment(
    axes: Axes,
    start: float,
    length: float,
    number: int,
    *,
    bottom: float = 0.0,
    height: float = 1.0,
    numbered: bool = False,
) -> None:
    """Draw a stretch of one class as a rectangle in the color and hatch of the class.

    Args:
        axes: the axes to draw on.
        start, length: extent along the x-axis, in its units.
        number: index of the class.
        bottom, height: extent along the y-axis, in its units.
        numbered: write the number of the class into the rectangle.
    """
    color = class_color(number)
    axes.broken_barh(
        [(start, length)],
        (bottom, height),
        facecolor=color,
        hatch=class_hatch(number),
        edgecolor=ink_on(color),
        linewidth=0,
    )
    if numbered:
        axes.text(
            start + length / 2,
            bottom + height / 2,
            str(number),
            ha="center",
            va="center",
            color=ink_on(color),
            fontsize=7,
            clip_on=True,
            bbox={"facecolor": color, "edgecolor": "none", "pad": 0.5},  # no hatch behind the digits
        )


def legend_handles(numbers: Iterable[int], names: Sequence[str]) -> list[Patch]:
    """Return the entries of a legend: the color and hatch of each class, with its number and name.

    Args:
        numbers: indices of the classes that the legend names.
        names: names of all classes.
    """
    return [
        Patch(
            facecolor=class_color(number),
            hatch=class_hatch(number),
            edgecolor=ink_on(class_color(number)),
            linewidth=0,
            label=f"{number} {names[number]}",
        )
        for number in numbers
    ]
