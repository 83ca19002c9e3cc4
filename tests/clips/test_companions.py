"""Companions of a frame: which there are, how few become four, retrieved ones first, and two of them drawn by keys."""

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from surgvista_hf.clips import Draw, FrameSetError
from surgvista_hf.clips.companions import CompanionDataset, four_companions, near_neighbors
from surgvista_hf.modeling.errors_surgvista import InputError, VideoReadError

from . import frame_sets


def dataset(lengths: tuple[int, ...] = (9, 6), step: float = 1.0, **options: Any) -> CompanionDataset:
    rows = [{**row, "timestamp": row["frame_index"] * step} for row in frame_sets.rows("cholec80", lengths)]
    return CompanionDataset(frame_sets.from_rows(rows), **options)


@pytest.mark.parametrize(
    ("present", "four"),
    [("", "xxxx"), ("a", "aaaa"), ("ab", "abab"), ("abc", "abcb"), ("abcd", "abcd")],
)
def test_few_become_four_by_the_published_rules(present, four):
    assert "".join(four_companions(present, "x")) == four


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (4, [2, 3, 5, 6]),
        (0, [1, 2, 1, 2]),  # the first frame: two after it
        (1, [0, 2, 3, 2]),  # three
        (8, [6, 7, 6, 7]),  # the last frame of its video, not those of the next
        (9, [10, 11, 10, 11]),
    ],
)
def test_companions_are_two_before_and_two_after_in_the_same_video(row, expected):
    assert dataset().companions(row) == expected


def test_a_video_of_one_or_two_frames_still_has_four_companions():
    assert dataset((1, 2)).companions(0) == [0, 0, 0, 0]
    assert dataset((1, 2)).companions(1) == [2, 2, 2, 2]


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0.25, [2, 6, 14, 18]),  # four frames a second: still seconds away, unlike the published numbers
        (0.4, [5, 7, 12, 15]),  # nearest: 4.0 - 2 = 2.0, then 2.8, 4.8, 6.0
        (2.0, [9, 11, 9, 11]),  # every two seconds: there is none one second away
        (5.0, [10, 10, 10, 10]),
    ],
)
def test_companions_are_seconds_away_at_any_rate(step, expected):
    assert dataset((30,), step).companions(10) == expected


@given(st.lists(st.floats(0.05, 3.0), min_size=1, max_size=30), st.data())
def test_companions_are_never_further_off_than_half_a_step(gaps, data):
    times = np.cumsum([0.0, *gaps])
    rows = frame_sets.rows("cholec80", (len(times),))
    frames = CompanionDataset(
        frame_sets.from_rows([{**row, "timestamp": float(time)} for row, time in zip(rows, times, strict=True)])
    )
    row = data.draw(st.integers(0, len(times) - 1))
    for other in set(frames.companions(row)) - {row}:
        assert min(abs(times[other] - times[row] - seconds) for seconds in (-2, -1, 1, 2)) <= 0.502


# ------------------------------------------------------------------------------------------- retrieved


def test_neighbors_from_the_third_entry_on_nearer_than_three_times_the_first_are_accepted():
    assert near_neighbors([1.0, 0.1, 2.9, 3.0, 2.0]) == [2, 4]
    assert near_neighbors([0.1]) == []
    assert near_neighbors([1, *[0] * 9]) == [2, 3, 4, 5]  # four at most, where the published program fails


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_retrieved_companions_come_first_and_those_in_time_fill_up(tmp_path):
    entries = [["video00_3", 0.1], ["video00_5", 0.1], ["video01_2", 0.2], ["video01_4", 0.5], ["video01_0", 0.25]]
    file = write(tmp_path / "near.json", {"video00_4": entries, "video01_0": [["video00_1", 0.0]]})
    frames = dataset(neighbors=file)
    assert frames.companions(4) == [11, 9, 2, 3]
    assert frames.companions(5) == [3, 4, 6, 7]  # not in the file
    assert frames.companions(9) == [10, 11, 10, 11]


def test_an_id_of_several_sources_needs_its_source(tmp_path):
    both = frame_sets.frame_set({"cholec80": (4,), "m2cai16": (4,)})
    near = [["cholec80/video00_1", 0.1], ["cholec80/video00_1", 0.1], ["m2cai16/video00_3", 0.1]]
    file = write(tmp_path / "near.json", {"cholec80/video00_0": near})
    assert CompanionDataset(both, neighbors=file).companions(0) == [7, 1, 2, 1]
    with pytest.raises(InputError, match=r"not in the corpus: video00_0.*<source>/"):
        CompanionDataset(both, neighbors=write(file, {"video00_0": near}))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "holds no mapping"),
        ({"video00_0": []}, "'video00_0' must be a list of at least one"),
        ({"video00_0": "video00_1"}, "must be a list"),
        ({"video00_0": [["video00_1"]]}, "must be a list"),
        ({"video00_0": [["video00_1", -0.1]]}, "must be a list"),
        ({"video00_0": [["video00_1", "0.1"]]}, "must be a list"),
        ({"video00_0": [[1, 0.1]]}, "must be a list"),
        ({"video00_99": [["video00_1", 0.1]]}, "not in the corpus: video00_99"),
        ({"video00_0": [["x", 1], ["x", 1], ["video07_0", 1]]}, "not in the corpus: video07_0"),
        ({"video00_x": [["video00_1", 0.1]]}, "not in the corpus: video00_x"),
    ],
)
def test_a_file_of_neighbors_is_checked(content, message, tmp_path):
    with pytest.raises(InputError, match=message):
        dataset(neighbors=write(tmp_path / "near.json", content))


def test_a_file_of_neighbors_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "near.json").write_text("{")
    for path in (tmp_path / "near.json", tmp_path / "nowhere.json"):
        with pytest.raises(InputError, match=f"the neighbors {path} cannot be read"):
            dataset(neighbors=path)


# ------------------------------------------------------------------------------------------- samples


def shown(frames: CompanionDataset, index: Any) -> list[tuple[int, int]]:
    """Video and frame of each of a sample's images."""
    return [frame_sets.frame_of(image.numpy()) for image in frames[index]["pixel_values"]]


def test_a_sample_is_its_frame_and_two_of_its_companions(tmp_path):
    near = [["video00_3", 0.1], ["video00_5", 0.1], ["video01_2", 0.2]]
    frames = dataset(neighbors=write(tmp_path / "near.json", {"video00_4": near}))
    own, *others = shown(frames, 4)
    assert own == (0, 4)
    assert set(others) <= {(1, 2), (0, 2), (0, 3), (0, 5)}
    assert shown(dataset((1, 2)), 0) == [(0, 0)] * 3
    item = frames[4]
    assert [image.dtype for image in item["pixel_values"]] == [torch.uint8] * 3
    assert (item["index"], item["key"], item["video_id"], item["frame_index"]) == (4, 4, "video00", 4)


def test_which_two_depends_on_seed_epoch_and_draw_only_and_all_pairs_come():
    frames = dataset()
    first = shown(frames, 4)
    shown(frames, 7)
    assert shown(frames, 4) == first
    pairs = Counter()
    for epoch in range(120):
        frames.set_epoch(epoch)
        pairs[tuple(shown(frames, 4)[1:])] += 1
    assert set(pairs) == set(itertools.permutations([(0, 2), (0, 3), (0, 5), (0, 6)], 2))
    assert len({tuple(shown(frames, Draw(4, number))) for number in range(20)}) > 5
    assert len({tuple(shown(dataset(seed=seed), 4)) for seed in range(20)}) > 5


def test_a_companion_that_cannot_be_read_is_named_or_its_sample_replaced():
    rows = frame_sets.rows("cholec80", (2,))
    rows[1]["image"] = {"bytes": b"\xff\xd8\xffnot an image", "path": None}
    broken = frame_sets.from_rows(rows)
    with pytest.raises(VideoReadError, match="frame 1 of video video00"):
        CompanionDataset(broken)[0]
    with pytest.raises(VideoReadError, match="no sample can be decoded"):
        CompanionDataset(broken, on_unreadable="replace")[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_frames": 2}, "num_frames is 2"),
        ({"seconds": (-1, 1)}, "four companions at different distances"),
        ({"seconds": (-1, 0, 1, 2)}, "four companions"),
        ({"seconds": (-1, -1, 1, 2)}, "four companions"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        dataset(**options)


@pytest.mark.parametrize("times", [(0.0, 2.0, 1.0), (0.0, 1.0, 1.0), (0.0, None, 2.0), (None, 1.0, 2.0)])
def test_times_must_ascend_in_a_video(times):
    rows = [{**row, "timestamp": time} for row, time in zip(frame_sets.rows("cholec80", (3,)), times, strict=True)]
    with pytest.raises(FrameSetError, match="times must ascend in a video"):
        CompanionDataset(frame_sets.from_rows(rows))
