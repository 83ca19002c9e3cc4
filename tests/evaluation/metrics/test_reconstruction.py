"""Reconstruction metrics: errors by hand, one scale for all models, shapes that fit."""

import numpy as np
import pytest
from PIL import Image

from surgvista_hf.evaluation.metrics.reconstruction import Reconstruction, draw_reconstruction
from surgvista_hf.modeling.errors_surgvista import InputError


@pytest.fixture
def clip() -> Reconstruction:
    original = np.linspace(0, 1, 4 * 8 * 8 * 3).reshape(4, 8, 8, 3)
    hidden = np.zeros((4, 8, 8), bool)
    hidden[:, :4, 4:] = True
    near, far = original.copy(), original.copy()
    near[hidden] += 0.1
    far[hidden] -= 0.3
    return Reconstruction(original, hidden, {"near": near, "far": far}, 4)


def test_errors_are_those_of_the_hidden_patches(clip):
    assert clip.mean_error("near") == pytest.approx(0.01)
    assert clip.mean_error("far") == pytest.approx(0.09)
    expected = np.zeros((4, 2, 2))
    expected[:, 0, 1] = 0.09
    np.testing.assert_allclose(clip.errors("far"), expected, atol=1e-12)


def test_what_is_hidden_is_gray_and_the_rest_is_seen(clip):
    assert np.array_equal(clip.masked[~clip.mask], clip.original[~clip.mask])
    assert len(np.unique(clip.masked[clip.mask])) == 1


def test_a_figure_has_rows_for_every_model(clip, tmp_path):
    draw_reconstruction(clip, tmp_path / "two.png")
    draw_reconstruction(
        Reconstruction(clip.original, clip.mask, {"near": clip.reconstructed["near"]}, 4), tmp_path / "one.png"
    )
    with Image.open(tmp_path / "two.png") as two, Image.open(tmp_path / "one.png") as one:
        assert two.height > one.height


def test_clips_that_do_not_fit_together_are_refused(clip):
    with pytest.raises(InputError, match="do not fit together"):
        Reconstruction(clip.original, clip.mask, {"x": clip.original[:2]}, 4)
    with pytest.raises(InputError, match="do not fit together"):
        Reconstruction(clip.original, clip.mask, {}, 3)
