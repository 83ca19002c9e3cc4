"""Clips hold the frames that the published rules say."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgvista_hf.clips import centered_seconds, keyed_generator, online_seconds, uniform_indices
from surgvista_hf.modeling.errors_surgvista import InputError

# Rows of the table of the published rule, clips of 16 frames: (last frame, stride) -> frames.
PUBLISHED = {
    (3, 4): [3] * 16,
    (4, 4): [0] * 15 + [4],
    (10, 4): [2] * 14 + [6, 10],
    (59, 4): [3, *range(3, 60, 4)],
    (60, 4): list(range(0, 61, 4)),
    (100, 0): [37] * 10 + [69, 85, 93, 97, 99, 100],
    (300, -2): [89, 117, 143, 167, 189, 209, 227, 243, 257, 269, 279, 287, 293, 297, 299, 300],
}


@pytest.mark.parametrize(("case", "frames"), PUBLISHED.items())
def test_published_clips(case, frames):
    assert online_seconds(case[0], 16, case[1]) == frames


def test_growing_steps_stop_at_the_first_that_does_not_fit():
    assert online_seconds(5, 6, 0) == [2, 2, 2, 2, 4, 5]
    assert online_seconds(8, 6, -2) == [1, 1, 1, 5, 7, 8]
    assert online_seconds(0, 3, 0) == online_seconds(0, 3, -2) == [0, 0, 0]


@given(st.integers(0, 400), st.integers(1, 32), st.integers(0, 1000))
def test_random_strides_are_fresh_steps_of_one_to_five_into_the_past(last, count, seed):
    clip = online_seconds(last, count, -1, keyed_generator(seed, 0, last, "stride"))
    steps = np.diff(clip)
    assert len(clip) == count
    assert clip[-1] == last
    assert min(clip) >= 0
    assert set(steps) <= {0, 1, 2, 3, 4, 5}
    assert all(frame < 5 for frame, step in zip(clip[1:], steps, strict=True) if step == 0)
    assert clip == online_seconds(last, count, -1, keyed_generator(seed, 0, last, "stride"))


def test_random_strides_take_every_step_alike():
    generator = keyed_generator(0, 0, 0, "stride")
    steps = np.concatenate([np.diff(online_seconds(1000, 16, -1, generator)) for _ in range(400)])
    counts = np.bincount(steps, minlength=6)
    assert counts[0] == 0
    assert np.abs(counts[1:] / len(steps) - 0.2).max() < 0.03


@given(st.integers(0, 300), st.integers(1, 32), st.integers(-2, 12))
def test_online_clips_never_look_ahead(last, count, stride):
    clip = online_seconds(last, count, stride, keyed_generator(0, 0, last, "stride"))
    assert clip == sorted(clip)
    assert len(clip) == count
    assert 0 <= clip[0] <= clip[-1] == last


def test_centered_clips_by_hand():
    assert centered_seconds(5, 11, 6, 2) == [1, 1, 3, 5, 7, 9]
    assert centered_seconds(20, 99, 4, 4) == [12, 16, 20, 24]
    assert centered_seconds(99, 99, 5, 4) == [91, 95, 99, 99, 99]
    assert centered_seconds(0, 0, 4, 4) == [0, 0, 0, 0]


@given(st.data())
def test_a_centered_clip_mirrors_when_the_video_does(data):
    length = data.draw(st.integers(1, 100))
    center, half, stride = (
        data.draw(st.integers(0, length - 1)),
        data.draw(st.integers(0, 8)),
        data.draw(st.integers(1, 9)),
    )
    clip = centered_seconds(center, length - 1, 2 * half + 1, stride)
    mirrored = centered_seconds(length - 1 - center, length - 1, 2 * half + 1, stride)
    assert clip[half] == center
    assert clip == [length - 1 - frame for frame in reversed(mirrored)]


def test_uniform_clips_by_hand():
    assert uniform_indices(11, 4) == [1, 4, 6, 9]
    assert uniform_indices(2, 4) == [0, 0, 1, 1]
    assert uniform_indices(11, 4, legacy=True) == [0, 2, 4, 6]
    assert uniform_indices(3, 5, legacy=True) == [0, 1, 2, 2, 2]
    assert uniform_indices(16, 16) == uniform_indices(16, 16, legacy=True) == list(range(16))


@given(st.integers(1, 500), st.integers(1, 40))
def test_uniform_clips_spread_evenly(length, count):
    clip = uniform_indices(length, count)
    assert len(clip) == count
    assert clip[0] >= 0
    assert clip[-1] < length
    assert {b - a for a, b in itertools.pairwise(clip)} <= {length // count, length // count + 1}
    assert abs(clip[0] - (length - 1 - clip[-1])) <= 1


@pytest.mark.parametrize(
    "call",
    [
        lambda: online_seconds(-1, 16, 4),
        lambda: online_seconds(-1, 16, 0),
        lambda: online_seconds(5, 0, -2),
        lambda: online_seconds(5, 4, -3),
        lambda: online_seconds(5, 4, -1),
        lambda: centered_seconds(6, 5, 4, 1),
        lambda: centered_seconds(1, 5, 4, 0),
        lambda: uniform_indices(0, 4),
        lambda: uniform_indices(4, 0),
    ],
)
def test_impossible_clips_are_refused(call):
    with pytest.raises(InputError):
        call()


def test_each_key_makes_other_randomness():
    keys = [(0, 0, 0, "a"), (1, 0, 0, "a"), (0, 1, 0, "a"), (0, 0, 1, "a"), (0, 0, 0, "b"), (2**64 - 1, 0, 0, "a")]
    draws = [tuple(keyed_generator(*key).integers(2**63, size=4)) for key in keys]
    assert len({number for draw in draws for number in draw}) == 4 * len(keys)
    assert draws == [tuple(keyed_generator(*key).integers(2**63, size=4)) for key in keys]


def test_neighboring_keys_share_no_numbers():
    streams = [
        keyed_generator(0, epoch, index, "x").integers(2**63, size=50) for epoch in range(4) for index in range(50)
    ]
    assert len(np.unique(streams)) == 4 * 50 * 50


@pytest.mark.parametrize("key", [(-1, 0, 0), (0, -1, 0), (0, 0, -1), (2**64, 0, 0)])
def test_keys_out_of_range_are_refused(key):
    with pytest.raises(InputError, match="seed"):
        keyed_generator(*key, "x")
