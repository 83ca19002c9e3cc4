"""The figure of label-efficiency curves: every variant has its own marker, line and color, and its interval."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from surgvista_hf.evaluation.label_efficiency import LabelEfficiency, LabelPoint
from surgvista_hf.evaluation.reports.label_efficiency_plot import draw_label_efficiency

VARIANTS = ("pixels", "untrained", "pre-trained", "from scratch", "pre-trained, fine-tuned")


@pytest.fixture
def result() -> LabelEfficiency:
    generator = np.random.default_rng(0)
    return LabelEfficiency(
        [
            LabelPoint(variant, seed, count, {"accuracy": {f"v{n}": generator.random() for n in range(6)}}, {})
            for variant in VARIANTS
            for seed in range(2)
            for count in (1, 2, 4)
        ]
    )


def test_curves_differ_by_more_than_color_and_carry_the_computed_intervals(result, tmp_path, monkeypatch):
    figures = []
    save = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *args, **kw: (figures.append(self), save(self, *args, **kw))[1]
    )
    draw_label_efficiency(result, tmp_path / "value.png", title="Phases")
    (figure,) = figures
    curves = figure.axes[0].containers
    assert [curve.get_label() for curve in curves] == list(VARIANTS)
    assert len({(curve[0].get_marker(), curve[0].get_linestyle()) for curve in curves}) == len(VARIANTS)
    assert len({curve[0].get_marker() for curve in curves}) == len(VARIANTS)
    for variant, curve in zip(VARIANTS, curves, strict=True):
        for count, bar in zip((1, 2, 4), curve[2][0].get_segments(), strict=True):
            interval = result.interval(variant, count)
            np.testing.assert_allclose(bar[:, 1], [100 * interval.low, 100 * interval.high])
    with Image.open(tmp_path / "value.png") as image:
        assert min(image.size) > 300
