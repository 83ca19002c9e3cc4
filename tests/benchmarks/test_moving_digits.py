"""The control of pre-training: what is drawn, and that its programs run to the end."""

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn", reason="the digits are those of scikit-learn")

from benchmarks import pretraining_control as control
from benchmarks.moving_digits import FRAMES, MOTIONS, SIDE, _digits, digit_clips, digit_frames, draw_clips


def test_clips_are_a_function_of_their_seed():
    first, again, other = draw_clips(6, 1), draw_clips(6, 1), draw_clips(6, 2)
    for one, same in zip(first, again, strict=True):
        assert np.array_equal(one, same)
    assert not torch.equal(first[0], other[0])
    assert first[0].shape == (6, FRAMES, SIDE, SIDE)


def test_every_clip_has_two_different_digits_and_every_motion_occurs():
    _, digits, motion = draw_clips(300, 3)
    assert (digits[:, 0] != digits[:, 1]).all()
    assert set(motion) == set(range(MOTIONS))


def test_digits_move_along_their_axis_and_the_rest_stands_still():
    """Find where clips change from the first frame to the last: more along the axis of the motion than across it."""
    clips, _, motion = draw_clips(400, 4)
    change = (clips[:, 0].float() - clips[:, -1].float()).abs()
    assert (change == 0).float().mean() > 0.3  # clutter
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")

    def spread(chosen: np.ndarray, places: torch.Tensor) -> float:
        weight = change[torch.from_numpy(chosen)] / change[torch.from_numpy(chosen)].sum((1, 2), keepdim=True)
        mean = (weight * places).sum((1, 2), keepdim=True)
        return float((weight * (places - mean) ** 2).sum((1, 2)).mean())

    horizontal, vertical = motion // 2 == 0, motion // 2 == 2
    assert spread(horizontal, columns) > 1.2 * spread(horizontal, rows)
    assert spread(vertical, rows) > 1.2 * spread(vertical, columns)


def test_digits_of_tests_are_of_other_writers():
    training, _ = _digits(False)
    tested, _ = _digits(True)
    assert len(training) + len(tested) == 1797
    assert len(training) in {1029, 1157, 1287, 1415, 1545, 1667}  # where a writer of scikit-learn's images begins
    assert not {image.numpy().tobytes() for image in training} & {image.numpy().tobytes() for image in tested}


def test_samples_are_whole_clips_or_frames_with_companions():
    clips, frames = digit_clips(3, 5), digit_frames(3, 5)
    assert len(clips) == 3
    assert clips[2]["pixel_values"].shape == (FRAMES, 3, SIDE, SIDE)
    assert len(frames) == 3 * FRAMES
    assert torch.equal(frames[2 * FRAMES + 1]["pixel_values"][0], clips[2]["pixel_values"][1])


@pytest.mark.slow
@pytest.mark.parametrize("name", list(control.OBJECTIVES))
def test_every_objective_runs_and_is_probed_before_and_after(name, tmp_path, monkeypatch):
    monkeypatch.setattr(control, "CORPUS", 16)
    monkeypatch.setattr(control, "LABELED", 40)
    monkeypatch.setattr(control, "TESTED", 30)
    monkeypatch.setattr(control, "BATCH", 8)
    data = control.ProbeData()
    if control.OBJECTIVES[name].teacher:
        control.train_teacher(tmp_path / "vit", updates=2)
    found = control.run(name, 0, 1, data, tmp_path, {})
    scores = {"digits_linear", "digits_knn", "motion_linear", "motion_knn"}
    assert set(found["untrained"]) == set(found["trained"]) == scores
    assert all(0 <= value <= 100 for value in (*found["untrained"].values(), *found["trained"].values()))
    assert found["curve"]
    assert np.isfinite(found["curve"][-1]["loss"])
    summary = control.summary({name: {"0": found}}, data)
    assert summary["gain_in_points"][name]["seeds"] == 1
