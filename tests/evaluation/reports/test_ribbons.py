"""Ribbons of many classes: each in its color, numbered where there is room, named with its number in the legend."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from surgvista_hf.evaluation.reports.benchmark_plots import plot_ribbons
from surgvista_hf.evaluation.reports.ribbons import draw_segment, legend_handles
from surgvista_hf.evaluation.tasks import ClipPredictions
from surgvista_hf.util.class_colors import class_color, class_hatch

CLASSES = 46


def test_a_segment_has_the_color_the_hatch_and_where_wanted_the_number_of_its_class():
    axes = Figure().subplots()
    draw_segment(axes, 10.0, 5.0, 14, numbered=True)
    draw_segment(axes, 15.0, 1.0, 3)
    first, second = axes.collections
    assert to_hex(first.get_facecolor()[0]) == class_color(14).lower()
    assert first.get_hatch() == class_hatch(14)
    assert first.get_datalim(axes.transData).bounds == pytest.approx((10, 0, 5, 1))
    assert second.get_hatch() in (None, "")
    assert [text.get_text() for text in axes.texts] == ["14"]


def test_a_legend_names_classes_with_their_numbers():
    names = [f"class {number}" for number in range(CLASSES)]
    assert [handle.get_label() for handle in legend_handles([0, 45], names)] == ["0 class 0", "45 class 45"]


def test_46_classes_have_their_colors_in_the_plot_of_a_benchmark(tmp_path):
    frames = np.arange(CLASSES * 20)
    labels = frames // 20
    found = ClipPredictions(np.full(len(frames), "a/1"), frames, frames, labels, np.eye(CLASSES)[labels])
    plot_ribbons({"model": found}, [f"class {number}" for number in range(CLASSES)], tmp_path / "ribbons.png")
    pixels = np.asarray(Image.open(tmp_path / "ribbons.png").convert("RGB")).reshape(-1, 3)
    drawn = {f"#{red:02X}{green:02X}{blue:02X}" for red, green, blue in np.unique(pixels, axis=0)}
    assert {class_color(number) for number in range(CLASSES)} <= drawn
