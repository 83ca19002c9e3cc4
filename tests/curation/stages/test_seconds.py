"""What curation does with one video: times, boxes, decisions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from surgvista_hf.curation.stages.seconds import (
    STORYBOARD_FRAMES,
    collage,
    frames_by_second,
    mask_boxes,
    storyboard,
    trim,
    video_hashes,
)
from surgvista_hf.datasets_scripts.synthetic.surgery import SyntheticOperation, write_video
from surgvista_hf.modeling.errors_surgvista import InputError, VideoReadError

from ...videos import read_number, write_numbered_video

# ------------------------------------------------------------------------------------- reading


def test_a_storyboard_shows_the_middle_of_each_sixteenth_row_by_row(tmp_path):
    board = storyboard(write_numbered_video(tmp_path / "a.mp4", count=160))
    assert (board.shape, board.dtype) == ((384, 384, 3), np.uint8)
    tiles = board.reshape(4, 96, 4, 96, 3).swapaxes(1, 2).reshape(16, 96, 96, 3)
    wide = [np.asarray(Image.fromarray(tile).resize((160, 64), Image.Resampling.NEAREST)) for tile in tiles]
    assert [read_number(tile) for tile in wide] == list(range(5, 160, 10))


def test_a_collage_takes_images_of_any_size():
    frames = [np.full((40 + number, 64, 3), 10 * number, np.uint8) for number in range(STORYBOARD_FRAMES)]
    board = collage(frames)
    assert [int(board[48 + 96 * (n // 4), 48 + 96 * (n % 4), 0]) for n in range(16)] == list(range(0, 160, 10))


def test_frames_are_those_shown_at_the_seconds(tmp_path):
    path = write_numbered_video(tmp_path / "a.mp4", count=95)
    found = [(second, read_number(frame)) for second, frame in frames_by_second(path)]
    assert found == [(second, 10 * second) for second in range(10)]
    found = [(second, read_number(frame)) for second, frame in frames_by_second(path, 2.0, start=3, end=4.5)]
    assert found == [(3, 30), (3.5, 35), (4, 40)]


def test_a_broken_rate_does_not_drift(tmp_path):
    """At 29.97 frames/s every 29th frame, as published, would be more than a second off at the end."""
    path = tmp_path / "a.mp4"
    operation = SyntheticOperation(0, 40, 32, 64, frames_per_second=30000 / 1001)
    write_video(operation, path)
    seconds = [second for second, _ in frames_by_second(path)]
    assert seconds[:40] == list(range(40))
    assert len(seconds) <= 41


@pytest.mark.parametrize("rate", [0, -1, float("nan")])
def test_a_rate_has_to_be_positive(rate, tmp_path):
    with pytest.raises(InputError, match="positive"):
        next(frames_by_second(write_numbered_video(tmp_path / "a.mp4", count=10), rate))


def test_what_is_no_video_is_said_so(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"nothing" * 100)
    for read in (storyboard, video_hashes, lambda path: next(frames_by_second(path))):
        with pytest.raises(VideoReadError):
            read(tmp_path / "a.mp4")


# ------------------------------------------------------------------------------------- trim and mask


@pytest.mark.parametrize(
    ("flags", "kept"),
    [
        ("0001110", (3, 5)),
        ("1101011", None),
        ("", None),
        ("0000", None),
        ("1111", (0, 3)),
        ("1011101011110110", (2, 11)),
        ("0111001", (1, 3)),
    ],
)
def test_trim_goes_from_the_first_run_to_the_last(flags, kept):
    assert trim(np.array([flag == "1" for flag in flags], bool)) == kept


@given(arrays.arrays(bool, st.integers(0, 60)), st.integers(1, 6))
def test_trim_agrees_with_looking_at_every_window(flags, run):
    starts = [place for place in range(len(flags) - run + 1) if flags[place : place + run].all()]
    assert trim(flags, run) == ((starts[0], starts[-1] + run - 1) if starts else None)


@pytest.mark.parametrize(("flags", "run"), [(np.zeros((2, 2), bool), 3), (np.zeros(4, bool), 0)])
def test_trim_refuses_what_is_no_vector_or_no_run(flags, run):
    with pytest.raises(InputError, match="trim needs"):
        trim(flags, run)


def test_boxes_are_filled_with_black_up_to_whole_pixels():
    frame = np.full((20, 30, 3), 9, np.uint8)
    masked = mask_boxes(frame, np.array([[1.9, 2.9, 5.9, 4.2], [-5, 10, 3, 99]], np.float32))
    expected = frame.copy()
    expected[2:4, 1:5] = 0
    expected[10:, :3] = 0
    assert np.array_equal(masked, expected)
    assert frame.min() == 9
    assert np.array_equal(mask_boxes(frame, np.empty((0, 4))), frame)
    with pytest.raises(InputError, match=r"\(k, 4\)"):
        mask_boxes(frame, np.zeros(4))
