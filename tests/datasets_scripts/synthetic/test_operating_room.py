"""Rendered rooms and recordings: always the same for a seed, outside where they say so."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surgvista_hf import load_frame_set
from surgvista_hf.datasets_scripts.frame_sets.prepare import prepare_frame_set
from surgvista_hf.datasets_scripts.synthetic.operating_room import SCENES, SyntheticRecording, draw_room
from surgvista_hf.datasets_scripts.synthetic.surgery import SyntheticOperation

SMALL = {"videos": "5", "seconds": "20", "height": "48", "width": "64"}


@pytest.mark.parametrize("scene", SCENES)
def test_an_image_depends_on_seed_time_and_scene_only(scene):
    first = draw_room(4, 1.5, 60, 80, scene=scene)
    assert first.shape == (60, 80, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, draw_room(4, 1.5, 60, 80, scene=scene))
    assert not np.array_equal(first, draw_room(4, 9.0, 60, 80, scene=scene))
    assert not np.array_equal(first, draw_room(5, 1.5, 60, 80, scene=scene))


def test_masks_can_be_asked_for():
    on, off = (draw_room(6, 0.0, scene="people", masked=masked) for masked in (True, False))
    assert not np.array_equal(on, off)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(20, 5000))
def test_a_recording_begins_and_ends_outside_and_is_inside_for_most_of_the_time(seed, duration):
    recording = SyntheticRecording(seed, duration_seconds=duration)
    spans = recording.outside_spans
    assert spans[0][0] == 0
    assert spans[-1][1] == duration
    assert all(start < end for start, end in spans)
    assert all(first[1] < second[0] for first, second in itertools.pairwise(spans))
    assert sum(end - start for start, end in spans) < 0.6 * duration
    assert recording.outside(0.0)
    assert not recording.outside((spans[0][1] + spans[1][0]) / 2)


def test_inside_it_shows_the_operation_and_outside_it_does_not():
    recording, operation = SyntheticRecording(1, 30.0, 48, 64), SyntheticOperation(1, 30.0, 48, 64)
    same = [np.array_equal(recording.frame(second), operation.frame(second)) for second in range(30)]
    assert same == [not recording.outside(second) for second in range(30)]


def test_the_frame_set_says_where_the_camera_is(tmp_path: Path):
    prepare_frame_set("synthetic_views", None, tmp_path / "out", settings=SMALL)
    frames = load_frame_set("synthetic_views", tmp_path / "out", "all")
    assert frames.features["view"].names == ["inside", "outside"]
    views = np.array(frames["view"]).reshape(5, 20)
    assert views[:, [0, -1]].all()
    assert 0.05 < views.mean() < 0.6
