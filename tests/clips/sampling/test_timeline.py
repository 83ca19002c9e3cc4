"""Moments become rows by the time stamps; where frames were left out on purpose, clips bridge the gap as published."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgvista_hf import ClipDataset, load_frame_set
from surgvista_hf.clips import ClipIndex, FrameSetError, Timeline, keyed_generator
from surgvista_hf.datasets_scripts.frame_sets.prepare import prepare_frame_set
from surgvista_hf.datasets_scripts.schema.media import PreparationOptions
from surgvista_hf.modeling.errors_surgvista import InputError
from surgvista_hf.util.gaps import bridged_sources, bridging_note

from ...videos import write_numbered_video
from ..frame_sets import from_rows, rows


def at_times(*videos: list[float], bridged: bool = False):
    """A frame set of source `a` whose videos have frames at these seconds."""
    every = [time for times in videos for time in times]
    table = [{**row, "timestamp": time} for row, time in zip(rows("a", [len(v) for v in videos]), every, strict=True)]
    frames = from_rows(table)
    if bridged:
        frames.info.description = f"Phases.{bridging_note('a')}"
    return frames


def published(last: int, num_frames: int, stride: int, generator=None) -> list[int]:
    """The published rule on a list of frames, written as its program does."""
    frames, frame = [], last
    for step in range(num_frames):
        frames.append(frame)
        length = stride if stride > 0 else 2**step if stride == 0 else (2 * step or 1) if stride == -2 else None
        length = int(generator.integers(1, 6)) if length is None else length
        if frame - length >= 0:
            frame -= length
    return sorted(frames)


@pytest.mark.parametrize("stride", [1, 3, 4, 0, -1, -2])
def test_at_one_frame_a_second_clips_are_those_of_the_published_program(stride):
    times = [float(second) for second in range(60)]
    clips = ClipDataset(at_times(times, times[:7]), num_frames=5, frame_stride=stride, seed=3)
    for index in range(len(clips)):
        last = index if index < 60 else index - 60
        generator = keyed_generator(3, 0, index, "stride") if stride == -1 else None
        assert clips.clip_frames(index) == published(last, 5, stride, generator)


@pytest.mark.parametrize("bridged", [False, True])
def test_gaps_count_unless_frames_were_left_out_on_purpose(bridged):
    times = [0.0, 1.0, 2.0, 3.0, 15.0, 16.0, 17.0, 18.0]
    clips = ClipDataset(at_times(times, bridged=bridged), num_frames=3, frame_stride=2)
    assert clips.clip_frames(7) == ([3, 5, 7] if not bridged else published(7, 3, 2))
    assert clips.clip_frames(5) == ([3, 3, 5] if not bridged else published(5, 3, 2))
    assert bool(clips.timeline.uneven) == (not bridged)


def test_labeled_frames_five_seconds_apart_make_clips_of_twenty(tmp_path):
    """Endoscapes: one annotated frame in five seconds, some missing; the published stride is four of them."""
    times = [5.0 * frame for frame in range(30) if frame not in (7, 8, 20)]
    clips = ClipDataset(at_times(times, bridged=True), num_frames=4, frame_stride=20)
    assert [clips.clip_frames(index) for index in (3, 9, 26)] == [published(last, 4, 4) for last in (3, 9, 26)]
    with pytest.raises(
        FrameSetError, match=r"a/video00 are 5 s apart, those of a clip 4 s .*--frames-per-second 0\.25"
    ):
        ClipDataset(at_times(times, bridged=True), num_frames=4, frame_stride=4)


@pytest.mark.parametrize("rate", [29.97, 30000 / 1001 / 30, 24.0, 59.94])
def test_sets_of_source_frames_keep_the_published_clips(rate):
    """Every ⌈rate⌉-th frame, or the first one after each second as older versions took it: spacing is not quite a second."""
    every = [frame * np.ceil(rate) / rate for frame in range(120)]
    late = [np.ceil(second * rate) / rate for second in range(120)] if rate > 1 else every
    for times in (every, late):
        clips = ClipDataset(at_times(list(map(float, times))), num_frames=16, frame_stride=4)
        assert not clips.timeline.uneven
        assert [clips.clip_frames(index) for index in range(119)] == [published(index, 16, 4) for index in range(119)]


@given(
    gaps=st.lists(st.floats(0.04, 3.0), min_size=1, max_size=40),
    seconds=st.lists(st.floats(0, 130), min_size=1, max_size=8),
)
def test_the_frame_of_a_moment_is_the_last_that_began(gaps, seconds):
    times = np.concatenate([[0.0], np.cumsum(gaps)])
    timeline = Timeline.of_video(times)
    if not timeline.uneven:  # evenly spaced but for jitter
        times = np.arange(len(times)) * timeline.intervals[0]
    for second, frame in zip(seconds, timeline.frames(0, seconds), strict=True):
        assert frame == max(number for number, time in enumerate(times) if time <= second + 1.5e-3)


def test_videos_of_different_rates_are_clips_of_the_same_seconds():
    frames = at_times([0.2 * k for k in range(60)], [float(k) for k in range(12)], [0.0])
    clips = ClipDataset(frames, num_frames=3, frame_stride=4)
    assert clips.clip_frames(59) == [15 + 4, 39, 59]
    assert clips.clip_frames(60 + 11) == [3, 7, 11]
    assert clips.clip_frames(72) == [0, 0, 0]
    assert clips.timeline.interval is None
    assert ClipDataset(frames.select(range(60)), num_frames=1).timeline.interval == pytest.approx(0.2)
    with pytest.raises(FrameSetError, match="a/video01 are 1 s apart"):
        ClipDataset(frames, num_frames=3, frame_stride=0.4)


def test_centered_and_uniform_clips_go_by_seconds_too():
    even = ClipDataset(at_times([0.5 * k for k in range(40)]), num_frames=5, frame_stride=2, sampling="centered")
    assert even.clip_frames(20) == [12, 16, 20, 24, 28]
    uneven = [0.0, 1.0, 2.0, 3.0, 9.0, 10.0]
    spread = ClipDataset(at_times(uneven), num_frames=4, sampling="uniform")
    assert spread.clip_frames(0) == [1, 3, 3, 4]  # seconds 1.375, 4.125, 6.875, 9.625


def test_of_two_frames_of_the_same_time_the_second_is_shown():
    clips = ClipDataset(at_times([0.0, 1.0, 1.0, 2.0, 3.0], [2.0, 2.0]), num_frames=2, frame_stride=1)
    assert clips.clip_frames(3) == [2, 3]
    assert clips.clip_frames(6) == [1, 1]


def test_times_must_ascend_and_strides_be_numbers():
    with pytest.raises(FrameSetError, match=r"frame 2 of video video00 is at 0\.5 seconds; times must ascend"):
        ClipDataset(at_times([0.0, 1.0, 0.5]))
    for wrong in ("four", None, True, float("nan"), float("inf")):
        with pytest.raises(InputError, match=r"frame_stride is .*; it must be a number of seconds"):
            ClipDataset(at_times([0.0, 1.0]), frame_stride=wrong)
    with pytest.raises(InputError, match=r"frame_stride is -0\.5, which online"):
        ClipDataset(at_times([0.0, 1.0]), frame_stride=-0.5)


def test_a_frame_set_notes_its_spacing_and_whether_clips_bridge_what_it_leaves_out(tmp_path):
    data = tmp_path / "data"
    for part in ("videos", "phases"):
        (data / part).mkdir(parents=True)
    write_numbered_video(data / "videos" / "op1.mp4", count=100)
    labeled = [0, 1, 2, 6, 7, 8, 9]
    (data / "phases" / "op1.txt").write_text("s p\n" + "".join(f"{second} 0\n" for second in labeled))
    for unlabeled, clip in (("keep", [5, 7, 9]), ("drop", [0, 2, 4])):
        folder = tmp_path / unlabeled
        prepare_frame_set("phase_folder", data, folder, options=PreparationOptions(unlabeled=unlabeled))
        frames = load_frame_set("phase_folder", folder, "all")
        assert bridged_sources(frames.info.description) == ({"phase_folder"} if unlabeled == "drop" else set())
        clips = ClipDataset(frames, num_frames=3, frame_stride=2)
        seconds = [frames[frame]["timestamp"] for frame in clips.clip_frames(len(frames) - (1 if clip[0] else 3))]
        assert seconds == ([5.0, 7.0, 9.0] if unlabeled == "keep" else [0.0, 2.0, 7.0])
        assert '"frame_interval": 1.0' in (folder / "frame_set.json").read_text()


def test_the_index_of_a_corpus_keeps_two_numbers_a_video():
    frames = at_times([float(k) for k in range(50)], [float(k) for k in range(50)])
    timeline = Timeline.from_frame_set(frames, ClipIndex.from_frame_set(frames))
    assert not timeline.uneven
    assert timeline.intervals.tolist() == [1.0, 1.0]
