"""Synthetic web videos: their truth is what is in their frames, and they repeat."""

import json
from itertools import pairwise

import numpy as np
import pytest

from surgvista_hf.datasets_scripts.synthetic.web_videos import KINDS, SyntheticWebVideo, write_web_video
from surgvista_hf.modeling.errors_surgvista import InputError
from surgvista_hf.modeling.video_reading_surgvista import VideoReader

SEEDS = range(12)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("informative", [True, False])
def test_segments_follow_one_another_and_surgery_lasts_as_long_as_asked(seed, informative):
    video = SyntheticWebVideo(seed, informative=informative, surgical_seconds=20)
    edges = [(segment.start, segment.end) for segment in video.segments]
    assert edges[0][0] == 0
    assert all(one[1] == other[0] for one, other in pairwise(edges))
    assert {segment.kind for segment in video.segments} <= set(KINDS)
    pieces = [segment.end - segment.start for segment in video.segments if segment.kind == "surgical"]
    if informative:
        assert sum(pieces) == pytest.approx(20, abs=0.2)
        assert min(pieces) >= 4.9
    else:
        assert max(pieces, default=0) < 2


def test_the_same_seed_gives_the_same_frames_and_another_one_others():
    one, same, other = SyntheticWebVideo(3), SyntheticWebVideo(3), SyntheticWebVideo(4)
    times = np.linspace(0, min(one.duration_seconds, other.duration_seconds) - 0.1, 7)
    assert one.truth() == same.truth() != other.truth()
    assert all(np.array_equal(one.frame(time), same.frame(time)) for time in times[::-1])
    assert not any(np.array_equal(one.frame(time), other.frame(time)) for time in times)


def test_boxes_hold_exactly_what_lies_over_the_operation():
    """The frame of the operation itself, from a video of the same operation, differs within the boxes only."""
    compared = 0
    for seed in range(6):
        video = SyntheticWebVideo(seed)
        object.__setattr__(bare := SyntheticWebVideo(seed), "_overlays", ())
        for second in np.arange(0, video.duration_seconds, 3.3):
            segment = video._segment(second)
            if segment.kind != "surgical" or second - segment.start < 0.5:
                assert segment.kind == "surgical" or len(video.boxes(second)) == 0
                continue
            differs = (video.frame(second) != bare.frame(second)).any(axis=2)
            inside = np.zeros_like(differs)
            for x1, y1, x2, y2 in video.boxes(second).astype(int):
                assert 0 <= x1 < x2 <= video.width
                assert 0 <= y1 < y2 <= video.height
                assert differs[y1:y2, x1:x2].mean() > 0.1
                inside[y1:y2, x1:x2] = True
            assert not (differs & ~inside).any()
            compared += inside.any()
    assert compared > 10


def test_two_uploads_of_one_operation_show_the_same_at_other_times():
    first = SyntheticWebVideo(5, operation_start=10)
    second = SyntheticWebVideo(6, operation_seed=5, operation_start=13.5)
    for video in (first, second):
        object.__setattr__(video, "_overlays", ())
    starts = [next(each.start for each in video.segments if each.kind == "surgical") for video in (first, second)]
    assert np.array_equal(first.frame(starts[0] + 3.5 + 1), second.frame(starts[1] + 1))


def test_the_written_video_and_its_truth_fit_together(tmp_path):
    video = SyntheticWebVideo(2, surgical_seconds=6, height=96, width=128, frames_per_second=4)
    path = write_web_video(video, tmp_path / "a.mp4")
    again = write_web_video(video, tmp_path / "b.mp4")
    assert path.read_bytes() == again.read_bytes()
    truth = json.loads((tmp_path / "a.json").read_text())
    assert truth == video.truth()
    with VideoReader(path) as reader:
        assert reader.info.duration_seconds == pytest.approx(truth["duration_seconds"], abs=0.3)
        for second, frame in reader.iterate(5.0):
            assert np.abs(frame.astype(float) - video.frame(second)).mean() < 12
    assert len(truth["kinds"]) == len(truth["boxes"]) == int(np.ceil(truth["duration_seconds"]))
    start, end = truth["surgical_part"]
    assert truth["kinds"][int(np.ceil(start))] == truth["kinds"][int(np.ceil(end)) - 1] == "surgical"


@pytest.mark.parametrize(
    "options",
    [{"height": 61}, {"width": 0}, {"frames_per_second": 0}, {"surgical_seconds": 2}, {"operation_start": -1}],
)
def test_what_cannot_be_rendered_is_refused(options):
    with pytest.raises(InputError, match="are needed"):
        SyntheticWebVideo(0, **options)
