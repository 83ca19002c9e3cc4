"""Damaged stretches are left out where that is requested, and reported; what is given out is what the recorder stored."""

import math

import numpy as np
import pytest

from surgvista_hf import VideoReadError
from surgvista_hf.modeling.subprocess_decoding import SubprocessVideo
from surgvista_hf.modeling.video_reading_surgvista import VideoReader

from ..videos import damage, numbered_frame, write_numbered_video, write_pictures

GROUPS = {"g": "20", "keyint_min": "20", "sc_threshold": "0"}


@pytest.fixture(scope="module", params=["a.mp4", "a.mkv", "a.ts", "mpeg2.ts", "mpeg4.avi"])
def recording(request, tmp_path_factory):
    """Write a video of 60 frames in groups of 20, and the same with noise in the middle of the second group."""
    codec = {"mpeg2.ts": "mpeg2video", "mpeg4.avi": "mpeg4"}.get(request.param, "libx264")
    noise = np.random.default_rng(0).integers(0, 256, (64, 160, 3), np.uint8)
    images = [np.roll(noise, 3 * number, axis=1) // 2 + numbered_frame(number) // 2 for number in range(60)]
    path = tmp_path_factory.mktemp("damage") / request.param
    write_pictures(path, images, 10, codec, options=GROUPS)
    return path, damage(path, 27)


def test_what_is_damaged_is_left_out_up_to_the_next_key_frame_and_nothing_else(recording):
    path, content = recording
    with VideoReader(path) as whole, VideoReader(content, damaged="skip") as video:
        clean = list(whole.iterate(None))
        found = {round(second, 3): frame for second, frame in video.iterate(None)}
        assert 45 <= len(found) < 60
        for number, (second, frame) in enumerate(clean):
            given = found.get(round(second, 3))
            assert given is None or np.array_equal(given, frame), number
            assert (given is None) <= (23 < number < 42), number  # only the damaged group, and not its beginning
        ((start, end),) = video.lost
        assert 2.3 < start <= 2.8
        assert 3.9 < end < 4.3
        assert "cannot be decoded and are left out" in video.remarks[0]
        assert f"{start:.1f}–{end:.1f}" in video.remarks[0]
        assert whole.remarks == []


def test_a_damaged_second_is_left_out_and_the_others_are_those_of_the_whole_video(recording):
    path, content = recording
    with VideoReader(path) as whole, VideoReader(content, damaged="skip") as video:
        clean, found = dict(whole.iterate(0.5)), dict(video.iterate(0.5))
        ((start, end),) = video.lost
        assert list(found) == [second for second in clean if not start - 0.01 <= second < end - 0.01]
        assert len(clean) - len(found) >= 2
        assert all(np.array_equal(frame, clean[second]) for second, frame in found.items())
        blank = dict(video.iterate(0.5, blank_damaged=True))
        assert list(blank) == list(clean)
        assert not blank[3.0].any()


def test_a_frame_of_a_damaged_time_is_the_last_sound_one(recording):
    _, content = recording
    with VideoReader(content, damaged="skip") as video:
        frames = [frame for _, frame in video.iterate(None)]
        times = [second for second, _ in video.iterate(None)]
        before = max(number for number, second in enumerate(times) if second < 3.5)
        assert np.array_equal(video.frames_at([3.5])[0], frames[before])


def test_a_damaged_beginning_moves_nothing(tmp_path):
    path = write_numbered_video(tmp_path / "a.mp4", options=GROUPS)
    content = damage(path, 0)
    with VideoReader(path) as whole, VideoReader(content, damaged="skip") as video:
        clean, found = dict(whole.iterate(1.0)), dict(video.iterate(1.0))
        assert list(found) == [2.0, 3.0, 4.0, 5.0]
        assert all(np.array_equal(frame, clean[second]) for second, frame in found.items())
        assert video.lost == [(0.0, pytest.approx(2.0))]
        assert np.array_equal(video.frames_at([4.5])[0], whole.frames_at([4.5])[0])
        assert video.last_second == pytest.approx(5.9)
    with VideoReader(content) as video, pytest.raises(VideoReadError, match=r"damaged at second 0\.00"):
        list(video.iterate(1.0))


def test_damage_is_an_error_unless_asked_otherwise(recording):
    path, content = recording
    with VideoReader(content) as video, pytest.raises(VideoReadError, match="damaged"):
        list(video.iterate(None))
    with VideoReader(path, damaged="any") as video:
        assert len(list(video.iterate(None))) == 60
        assert video.lost == []


def test_more_than_half_lost_is_an_error_unless_any_is_asked_for(tmp_path):
    path = write_numbered_video(tmp_path / "a.mkv", options={"g": "10"})
    content = path.read_bytes()
    content = content[: int(len(content) * 0.4)]
    message = r"more than half; damaged='any' \(--damaged any\)"
    with VideoReader(content, damaged="skip") as video, pytest.raises(VideoReadError, match=message):
        list(video.iterate(1.0))
    with VideoReader(content, damaged="any") as video:
        found = list(video.iterate(1.0))
        assert 1 <= len(found) <= 3
        assert video.lost[-1][1] == pytest.approx(6.0)


def test_a_recording_that_breaks_off_is_read_up_to_there(tmp_path):
    path = write_numbered_video(tmp_path / "a.mkv", options={"g": "10"})
    content = path.read_bytes()
    with VideoReader(content[: int(len(content) * 0.7)], damaged="skip") as video:
        found = [second for second, _ in video.iterate(None)]
        assert 3 < found[-1] < 5
        assert video.last_second == pytest.approx(found[-1])
        assert video.lost == [(pytest.approx(found[-1] + 0.1), pytest.approx(6.0))]


def test_whether_damage_is_found_does_not_depend_on_threads(tmp_path):
    path = write_numbered_video(tmp_path / "a.mkv", options=GROUPS)
    content = damage(path, 27)
    found = []
    for _ in range(8):
        with VideoReader(content, damaged="skip") as video:
            found.append([second for second, _ in video.iterate(None)])
    assert all(each == found[0] for each in found)
    assert len(found[0]) < 60


def test_recordings_joined_end_to_end_are_not_taken_for_damage(tmp_path):
    parts = [write_numbered_video(tmp_path / f"{count}.ts", count, options=GROUPS).read_bytes() for count in (43, 59)]
    with VideoReader(parts[0] + parts[1]) as video:
        assert len(list(video.iterate(None))) == 102


def test_a_guarded_reader_leaves_damage_out_and_passes_the_remarks_on(tmp_path):
    path = write_numbered_video(tmp_path / "a.mkv", options=GROUPS)
    (tmp_path / "b.mkv").write_bytes(damage(path, 27))
    with SubprocessVideo(tmp_path / "b.mkv") as video, pytest.raises(VideoReadError, match="damaged"):
        list(video)
    with SubprocessVideo(tmp_path / "b.mkv", damaged="skip") as video:
        assert [second for second, _ in video] == [0.0, 1.0, 2.0, 4.0, 5.0]
        assert "left out" in video.remarks[0]


def test_a_real_damaged_recording_gives_what_is_sound(shared_data):
    path = shared_data / "odd_videos" / "recorder_02_corrupted_h264.mp4"
    with VideoReader(path, damaged="skip") as video:
        found = list(video.iterate(None))
        assert [round(second, 1) for second, _ in found] == [number / 10 for number in range(len(found))]
        assert 25 <= len(found) <= 28
        assert math.isclose(video.lost[-1][1], 5.0)
        assert [second for second, _ in video.iterate(1.0)] == [0.0, 1.0, 2.0]
