"""What curation does with one video: times, decisions, hashes that find copies and nothing else."""

import io
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from surgvista_hf.curation.stages.seconds import (
    HASHES_PER_SECOND,
    STORYBOARD_FRAMES,
    candidate_pairs,
    collage,
    frames_by_second,
    mask_boxes,
    perceptual_hashes,
    shared_seconds,
    storyboard,
    trim,
    video_hashes,
)
from surgvista_hf.datasets_scripts.synthetic.surgery import SyntheticOperation, write_video
from surgvista_hf.datasets_scripts.synthetic.web_videos import SyntheticWebVideo, write_web_video
from surgvista_hf.modeling.errors_surgvista import InputError, VideoReadError

from ...videos import read_number, write_numbered_video

CLIPS = Path(__file__).resolve().parents[3] / ".." / "shared" / "data" / "clips"


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


# ------------------------------------------------------------------------------------- copies


def coded_again(frame: np.ndarray, scale: float, quality: int) -> np.ndarray:
    image = Image.fromarray(frame)
    image = image.resize((round(scale * image.width), round(scale * image.height)), Image.Resampling.BILINEAR)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


OPERATIONS = [SyntheticWebVideo(seed, operation_start=10.0 * seed, height=96, width=128) for seed in range(4)]


def seen(which: int, times: np.ndarray) -> Iterator[np.ndarray]:
    """An operation without what is around and over it."""
    return (OPERATIONS[which]._camera_view(10.0 * which + time) for time in times)


@cache
def operation_hashes() -> list[np.ndarray]:
    times = np.arange(0, 40, 1 / HASHES_PER_SECOND)
    return [perceptual_hashes(seen(which, times)) for which in range(4)]


@pytest.fixture
def hashes() -> list[np.ndarray]:
    return operation_hashes()


@pytest.mark.slow
@settings(max_examples=4, deadline=None, derandomize=True)
@given(
    which=st.integers(0, 3),
    offset=st.floats(0, 25),
    scale=st.floats(0.5, 2.0),
    quality=st.integers(25, 95),
    length=st.integers(9, 14),
)
def test_a_copy_is_found_at_any_offset_size_and_quality(which, offset, scale, quality, length):
    times = offset + np.arange(0, length, 1 / HASHES_PER_SECOND)
    copy = perceptual_hashes(coded_again(frame, scale, quality) for frame in seen(which, times))
    assert shared_seconds(copy, operation_hashes()[which]) >= length - 1
    assert shared_seconds(operation_hashes()[which], copy) >= length - 1
    for other in set(range(4)) - {which}:
        assert shared_seconds(copy, operation_hashes()[other]) == 0
    assert (0, 1 + which) in candidate_pairs([copy, *operation_hashes()])


def test_other_videos_share_nothing_with_one_another(hashes):
    for first in range(4):
        for second in range(4):
            assert shared_seconds(hashes[first], hashes[second]) == (40 if first == second else 0)


def test_pieces_in_another_order_count_and_short_ones_do_not(hashes):
    per_second = HASHES_PER_SECOND
    cut = np.r_[
        hashes[0][20 * per_second : 32 * per_second], hashes[1][: 10 * per_second], hashes[0][: 12 * per_second]
    ]
    assert shared_seconds(cut, hashes[0]) == pytest.approx(24, abs=2)
    assert shared_seconds(cut, hashes[1]) == pytest.approx(10, abs=2)
    assert shared_seconds(hashes[0][: 5 * per_second], hashes[0]) == 0


def test_black_is_like_nothing(hashes):
    black = perceptual_hashes([np.full((40, 60, 3), gray, np.uint8) for gray in (0, 0, 90)])
    assert black.tolist() == [0, 0, 0]
    assert shared_seconds(np.zeros(400, np.uint64), np.zeros(400, np.uint64)) == 0
    assert candidate_pairs([np.zeros(400, np.uint64)] * 2) == []
    hidden = hashes[0].copy()
    hidden[10 * HASHES_PER_SECOND :] = 0
    assert shared_seconds(hidden, hashes[0]) <= 11


def test_candidates_are_all_pairs_that_share_and_few_others():
    random = np.random.default_rng(0)
    videos = [random.integers(1, 2**63, 800, np.uint64) for _ in range(30)]
    videos[7][100:110] = videos[3][500:510]
    upper = np.uint64(2**64 - 2**32)
    videos[9][100:102] = (videos[4][500:502] & upper) | (videos[9][100:102] & ~upper)  # two upper halves are too few
    assert candidate_pairs(videos) == [(3, 7)]
    assert candidate_pairs(videos, least=2) == [(3, 7), (4, 9)]
    assert candidate_pairs([]) == []


def test_what_everybody_shows_makes_no_candidates():
    card = np.random.default_rng(0).integers(1, 2**63, 50, np.uint64)
    assert candidate_pairs([card] * 101) == []
    assert len(candidate_pairs([card] * 5)) == 10


@pytest.mark.parametrize("wrong", [{"run": 0}, {"per_second": 0}])
def test_a_repetition_lasts_at_least_a_second(wrong):
    with pytest.raises(InputError, match="at least 1"):
        shared_seconds(np.ones(9, np.uint64), np.ones(9, np.uint64), **wrong)


@pytest.mark.slow
def test_copies_of_coded_videos_are_found(tmp_path, hashes):
    """Through files: the copy begins between two frames of the grid of hashes and is coded coarsely."""
    upload = SyntheticWebVideo(
        9, operation_seed=2, operation_start=23.6, surgical_seconds=16, height=128, width=170, frames_per_second=12
    )
    write_web_video(upload, tmp_path / "a.mp4", crf=32)
    start, end = upload.truth()["surgical_part"]
    found = video_hashes(tmp_path / "a.mp4", start=start + 0.03, end=end)
    assert shared_seconds(found, hashes[2]) >= 14
    assert shared_seconds(found, hashes[1]) == 0


@pytest.mark.slow
@pytest.mark.skipif(not CLIPS.exists(), reason="the real clips are not here")
def test_real_clips_are_found_again_and_do_not_resemble_one_another():
    clips = [video_hashes(path) for path in sorted(CLIPS.glob("*.mp4"))]
    path = CLIPS / "cholecystectomy_720p_25fps.mp4"
    coarse = [coded_again(frame, 0.4, 40) for _, frame in frames_by_second(path, HASHES_PER_SECOND, start=1.03)]
    copy = perceptual_hashes(coarse)
    assert shared_seconds(copy, clips[-1], run=4) >= 8
    for number, other in enumerate(clips[:-1]):
        assert shared_seconds(copy, other, run=4) == 0
        for another in clips[number + 1 :]:
            assert shared_seconds(other, another, run=4) == 0


def test_what_is_painted_over_a_corner_does_not_hide_a_copy(hashes):
    """A picture-in-picture inset in one upload, a caption in the other."""
    times = 5 + np.arange(0, 12, 1 / HASHES_PER_SECOND)
    covered = []
    for frame in seen(1, times):
        frame = frame.copy()
        frame[55:80, 12:45] = (200, 190, 60)
        frame[12:20, 40:110:3] = 255
        covered.append(frame)
    copy = perceptual_hashes(covered)
    assert shared_seconds(copy, hashes[1]) >= 11
    assert [shared_seconds(copy, hashes[other]) for other in (0, 2, 3)] == [0, 0, 0]
    assert (0, 2) in candidate_pairs([copy, *hashes])


def test_long_videos_are_compared_quickly_and_still_ones_end():
    hour = np.random.default_rng(0).integers(1, 2**63, 3600 * HASHES_PER_SECOND, np.uint64)
    assert shared_seconds(hour, hour[12345:]) >= 3600 - 12345 // HASHES_PER_SECOND - 2
    still = np.full(3600 * HASHES_PER_SECOND, 77, np.uint64)
    assert shared_seconds(still, still) == 0
