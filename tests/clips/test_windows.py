"""The clips of a stream are those of the online rule, and memory does not grow."""

import weakref

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from surgvista_hf.clips.windows import online_windows
from surgvista_hf.modeling.video_processing_surgvista import online_clip_indices


@given(st.integers(1, 60), st.integers(1, 6), st.integers(1, 5))
@settings(deadline=None)
def test_a_stream_gives_the_clips_of_the_rule(length, num_frames, stride):
    clips = [clip.tolist() for clip in online_windows(torch.arange(length), num_frames, stride)]
    assert clips == [online_clip_indices(last, num_frames, stride) for last in range(length)]


def test_frames_that_no_later_clip_needs_are_let_go():
    alive: list[weakref.ref] = []

    def frames():
        for _ in range(50):
            frame = torch.zeros(2)
            alive.append(weakref.ref(frame))
            yield frame

    for _ in online_windows(frames(), 3, 2):
        assert sum(ref() is not None for ref in alive) <= 7
