"""The index finds every video of a frame set, stays small, and refuses what is no frame set."""

import datasets
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surgvista_hf.clips import ClipIndex, FrameSetError
from surgvista_hf.clips.sampling import index as index_module
from surgvista_hf.modeling.errors_surgvista import InputError

from ..frame_sets import frame_set


def keys(rows: list[tuple[str, str, int | None]]) -> datasets.Dataset:
    source, video, frame = zip(*rows, strict=True) if rows else ((), (), ())
    return datasets.Dataset(
        pa.table(
            {
                "source": pa.array(source, pa.string()),
                "video_id": pa.array(video, pa.string()),
                "frame_index": pa.array(frame, pa.int32()),
            }
        )
    )


def video(name: str, length: int, source: str = "s") -> list[tuple[str, str, int | None]]:
    return [(source, name, frame) for frame in range(length)]


def test_videos_of_several_sources_are_found():
    index = ClipIndex.from_frame_set(frame_set({"b": [3, 1], "a": [2]}))
    assert index.starts.tolist() == [0, 3, 4]
    assert index.lengths.tolist() == [3, 1, 2]
    assert index.video_ids.tolist() == ["video00", "video01", "video00"]
    assert index.source_names == ("b", "a")
    assert index.sources.tolist() == [0, 0, 1]
    assert [index.locate(row) for row in range(6)] == [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (2, 1)]
    for row in (-1, 6):
        with pytest.raises(InputError, match="row"):
            index.locate(row)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 7))
def test_the_parts_in_which_it_is_read_do_not_matter(lengths, rows_at_once):
    data = keys([row for number, length in enumerate(lengths) for row in video(f"v{number:02d}", length)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_module, "_ROWS_AT_ONCE", rows_at_once)
        index = ClipIndex.from_frame_set(data)
    assert index.lengths.tolist() == lengths
    assert index.num_rows == sum(lengths)


def test_whole_videos_may_be_selected():
    data = frame_set({"a": [3, 2, 4]}).filter(lambda name: name != "video01", input_columns="video_id")
    assert ClipIndex.from_frame_set(data).lengths.tolist() == [3, 4]


def test_videos_may_stand_in_any_order():
    """Two frame sets of one data set beside each other, whatever their videos are called."""
    index = ClipIndex.from_frame_set(keys([*video("v2", 2), *video("v1", 3)]))
    assert (index.video_ids.tolist(), index.lengths.tolist()) == (["v2", "v1"], [2, 3])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no rows"),
        ([*video("v1", 3)[1:]], "begins with frame_index 1"),
        ([*video("v1", 3), *video("v2", 3)[1:]], "video v2 begins with frame_index 1"),
        ([("s", "v1", 0), ("s", "v1", 2)], "row 1: frame_index 2 of video v1 follows 0"),
        ([("s", "v1", 0), ("s", "v1", 0)], "follows 0"),
        ([*video("v1", 2), *video("v2", 2), *video("v1", 2)], "video v1 of s comes twice"),
        ([*video("v1", 2, "a"), *video("v1", 2, "b"), *video("v2", 2, "a")], "videos of a do not stand together"),
        ([("s", "v1", 0), ("s", "v1", None)], "column frame_index has empty cells"),
    ],
)
@pytest.mark.parametrize("rows_at_once", [1, 1000])
def test_what_is_no_frame_set_is_refused(rows, message, rows_at_once, monkeypatch):
    monkeypatch.setattr(index_module, "_ROWS_AT_ONCE", rows_at_once)
    with pytest.raises(FrameSetError, match=message):
        ClipIndex.from_frame_set(keys(rows))


def test_a_missing_column_is_named():
    with pytest.raises(FrameSetError, match="video_id"):
        ClipIndex.from_frame_set(keys(video("v", 2)).remove_columns("video_id"))


def test_the_index_of_a_corpus_of_3_5_million_frames_is_small():
    frames, videos = 3_500_000, 3650
    number = np.arange(frames) * videos // frames
    starts = np.searchsorted(number, np.arange(videos))
    names = pa.array([f"video{name:05d}" for name in range(videos)])
    table = pa.table(
        {
            "source": pa.repeat("corpus", frames),
            "video_id": names.take(pa.array(number)),
            "frame_index": pa.array((np.arange(frames) - starts[number]).astype(np.int32)),
        }
    )
    pool = pa.total_allocated_bytes()
    index = ClipIndex.from_frame_set(datasets.Dataset(table))
    assert index.starts.tolist() == starts.tolist()
    assert index.num_rows == frames
    held = sum(array.nbytes for array in (index.starts, index.lengths, index.video_ids, index.sources))
    assert held < 1_000_000
    assert pa.total_allocated_bytes() - pool < 1_000_000
