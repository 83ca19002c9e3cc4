"""The clips of a stream are those of the online rule, and memory does not grow."""

import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from surgvista_hf.clips.sampling.windows import ClipWindow
from surgvista_hf.modeling.errors_surgvista import InputError
from surgvista_hf.modeling.video_processing_surgvista import online_clip_seconds


@given(st.integers(1, 60), st.integers(1, 6), st.integers(1, 5))
@settings(deadline=None)
def test_a_stream_gives_the_clips_of_the_rule(length, num_frames, stride):
    window = ClipWindow(num_frames, stride)
    clips = [window.push(float(second), frame).tolist() for second, frame in enumerate(torch.arange(length))]
    assert clips == [online_clip_seconds(last, num_frames, stride) for last in range(length)]


def test_frames_that_no_later_clip_needs_are_let_go():
    alive: list[weakref.ref] = []
    window = ClipWindow(3, 2)
    for second in range(50):
        frame = torch.zeros(2)
        alive.append(weakref.ref(frame))
        window.push(float(second), frame)
        del frame
        assert sum(ref() is not None for ref in alive) <= 5


def test_clips_of_finer_or_uneven_frames_hold_those_shown_at_their_moments():
    window = ClipWindow(3, 0.5)
    for second in (0.0, 0.2, 0.7, 1.9, 2.4):
        window.add(second, torch.tensor(second))
    assert window.clip(2.5).tolist() == pytest.approx([0.7, 1.9, 2.4])
    assert ClipWindow(2, 0.5, frame_interval=0.2).push(0.0, torch.tensor(1.0)).tolist() == [1.0, 1.0]


def test_frames_come_in_order():
    window = ClipWindow(2, 1.0)
    window.add(1.0, torch.zeros(1))
    with pytest.raises(InputError, match=r"a frame of second 0\.5 follows one of second 1"):
        window.add(0.5, torch.zeros(1))
