"""Streaming gives what random access gives: the same clips, each once, in a bounded window."""

import io
import itertools
import json
import tarfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from surgvista_hf.clips import (
    ClipDataset,
    FrameSetError,
    StreamingClipDataset,
    collate_clips,
    frames_from_webdataset,
    online_seconds,
)
from surgvista_hf.clips.sampling.frame_indices import longest_reach
from surgvista_hf.modeling.errors_surgvista import InputError, VideoReadError

from .frame_sets import FEATURES, frame_set, from_rows, rows

LENGTHS = {"a": [7, 1, 12], "b": [9, 5]}


def stream(frames: datasets.Dataset, cuts: Iterable[int] | None = None) -> datasets.IterableDataset:
    """Shards that begin at these rows; by default one for each video, as a prepared frame set has."""
    if cuts is None:
        cuts = ClipDataset(frames, num_frames=1).clip_index.starts.tolist()
    bounds = [*sorted({0, *cuts}), len(frames)]
    return datasets.concatenate_datasets(
        [frames.select(range(*pair)).to_iterable_dataset() for pair in itertools.pairwise(bounds)]
    )


@pytest.fixture(scope="module")
def parquet(tmp_path_factory) -> list[str]:
    """The frame set in files of two videos, as published."""
    folder = tmp_path_factory.mktemp("parquet")
    table = [row for source, lengths in LENGTHS.items() for row in rows(source, lengths)]
    videos = list(dict.fromkeys((row["source"], row["video_id"]) for row in table))
    files = []
    for number in range(0, len(videos), 2):
        path = folder / f"train-{number:05d}.parquet"
        from_rows(
            [row for row in table if (row["source"], row["video_id"]) in videos[number : number + 2]]
        ).to_parquet(path)
        files.append(str(path))
    return files


@pytest.fixture(scope="module")
def cut_parquet(tmp_path_factory) -> list[str]:
    """The frame set in files of five rows, as a stock export may cut it: the third video lies in three of them."""
    folder = tmp_path_factory.mktemp("cut")
    frames = frame_set(LENGTHS)
    files = [str(folder / f"train-{number:05d}.parquet") for number in range(7)]
    for number, file in enumerate(files):
        frames.shard(len(files), number, contiguous=True).to_parquet(file)
    return files


def read(files: list[str]) -> datasets.IterableDataset:
    return datasets.load_dataset("parquet", data_files=files, split="train", streaming=True)


def key(item: dict[str, Any]) -> tuple[str, str, int]:
    return item["source"], item["video_id"], int(item["frame_index"])


@pytest.mark.parametrize(
    "options",
    [{"label": "phase"}, {"frame_stride": 0}, {"frame_stride": -2, "label": "tools"}, {"sampling": "uniform"}],
)
@pytest.mark.parametrize("files", ["parquet", "cut_parquet"])
def test_clips_are_those_of_random_access(request, files, options):
    expected = {
        key(item): item for item in ClipDataset(frame_set(LENGTHS), num_frames=5, **{"frame_stride": 2, **options})
    }
    stored = read(request.getfixturevalue(files))
    found = list(StreamingClipDataset(stored, num_frames=5, **{"frame_stride": 2, **options}))
    assert [key(item) for item in found] == list(expected)
    for item in found:
        other = expected[key(item)]
        assert torch.equal(item["pixel_values"], other["pixel_values"])
        assert item["timestamp"] == other["timestamp"]
        if "label" in options:
            assert torch.equal(item["labels"], other["labels"])


@given(
    lengths=st.lists(st.integers(1, 14), min_size=1, max_size=4),
    num_frames=st.integers(1, 6),
    options=st.sampled_from([*({"frame_stride": stride} for stride in (-2, 0, 1, 2, 5)), {"sampling": "uniform"}]),
    cuts=st.sets(st.integers(1, 50), max_size=5),
    processes=st.integers(1, 3),
)
@settings(max_examples=40, deadline=None)
def test_any_videos_in_any_shards_stream_as_they_are_read_at_random(lengths, num_frames, options, cuts, processes):
    frames = frame_set({"a": lengths})
    mapped = ClipDataset(frames, num_frames=num_frames, **options)
    streamed = [
        item
        for rank in range(processes)
        for item in StreamingClipDataset(
            stream(frames, (cut for cut in cuts if cut < len(frames))),
            num_frames=num_frames,
            rank=rank,
            world_size=processes,
            **options,
        )
    ]
    for item, other in zip(streamed, mapped, strict=True):
        assert key(item) == key(other)
        assert torch.equal(item["pixel_values"], other["pixel_values"])


@given(num_frames=st.integers(1, 9), stride=st.sampled_from([-2, 0, 0.2, 1, 3, 7]), last=st.integers(0, 700))
@settings(max_examples=200, deadline=None)
def test_no_clip_reaches_back_beyond_what_a_stream_keeps(num_frames, stride, last):
    assert last - min(online_seconds(last, num_frames, stride)) <= longest_reach(num_frames, stride) + 1e-6


def test_random_strides_depend_on_seed_epoch_and_sample_only(parquet):
    def clips(epoch: int, seed: int = 3, workers: int = 0) -> dict[Any, torch.Tensor]:
        data = StreamingClipDataset(read(parquet), num_frames=4, frame_stride=-1, seed=seed)
        data.set_epoch(epoch)
        return {key(item): item["pixel_values"] for item in DataLoader(data, batch_size=None, num_workers=workers)}

    first, again, other = clips(0), clips(0, workers=2), clips(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("buffer", [0, 6])
@pytest.mark.parametrize("files", ["parquet", "cut_parquet"])
def test_every_sample_comes_once_whatever_the_workers_and_processes(request, files, workers, processes, buffer):
    seen: Counter[Any] = Counter()
    for rank in range(processes):
        data = StreamingClipDataset(
            read(request.getfixturevalue(files)),
            num_frames=2,
            shuffle_buffer=buffer,
            rank=rank,
            world_size=processes,
        )
        for batch in DataLoader(data, batch_size=4, num_workers=workers, collate_fn=collate_clips):
            seen.update(zip(batch["source"], batch["video_id"], batch["frame_index"].tolist(), strict=True))
    assert set(seen.values()) == {1}
    assert len(seen) == sum(map(sum, LENGTHS.values()))


def test_shuffling_changes_the_order_with_the_epoch_and_repeats_with_it(parquet):
    data = StreamingClipDataset(read(parquet), num_frames=1, shuffle_buffer=10, seed=1)
    first, again = ([key(item) for item in data] for _ in range(2))
    data.set_epoch(1)
    second = [key(item) for item in data]
    assert first == again != second
    assert sorted(first) == sorted(second)
    assert first != sorted(first)


@pytest.mark.parametrize("buffer", [0, 5])
def test_a_resumed_stream_goes_on_exactly(parquet, buffer):
    options = {"num_frames": 3, "frame_stride": 2, "shuffle_buffer": buffer}
    whole = StreamingClipDataset(read(parquet), **options)
    whole.set_epoch(2)
    expected = [key(item) for item in whole]
    stopped = StreamingClipDataset(read(parquet), **options)
    stopped.set_epoch(2)
    iterator = iter(stopped)
    begun = [key(next(iterator)) for _ in range(11)]
    resumed = StreamingClipDataset(read(parquet), **options)
    resumed.load_state_dict(json.loads(json.dumps(stopped.state_dict())))
    assert begun + [key(item) for item in resumed] == expected
    assert [key(item) for item in resumed] == expected  # the epoch after it is whole again


def test_each_image_of_a_window_is_decoded_once(parquet, monkeypatch):
    from surgvista_hf.clips import streaming

    decoded: Counter[str] = Counter()

    def counting(cell: Any, where: str) -> torch.Tensor:
        decoded[where] += 1
        return original(cell, where)

    original = streaming.decode_image
    monkeypatch.setattr(streaming, "decode_image", counting)
    assert len(list(StreamingClipDataset(read(parquet[:1]), num_frames=4, frame_stride=2))) == 8
    assert set(decoded.values()) == {1}


def test_keys_of_samples_fit_a_tensor_and_differ():
    data = StreamingClipDataset(stream(frame_set(LENGTHS)), num_frames=1)
    batch = collate_clips(list(data))
    assert batch["index"].dtype == torch.int64
    assert len(set(batch["index"].tolist())) == len(batch["index"])


def test_frames_without_a_label_are_context_but_no_samples():
    table = rows("a", [6])
    table[2]["phase"], table[4]["phase"] = None, -1
    data = StreamingClipDataset(stream(from_rows(table)), num_frames=2, frame_stride=1, label="phase")
    assert [item["frame_index"] for item in data] == [0, 1, 3, 5]
    dropped = StreamingClipDataset(stream(from_rows(rows("a", [6]))), num_frames=1, label="tools", drop_empty=True)
    assert [item["frame_index"] for item in dropped] == [1, 3, 5]


def test_webdataset_shards_become_the_same_clips(tmp_path):
    """The second video begins in the first shard; nothing in the first rows tells of what kind their labels are."""
    table = rows("a", [6, 4])
    for row in table[:5]:
        row["phase"] = None
    samples = webdataset(tmp_path, table[:8], table[8:])
    options = {"num_frames": 3, "frame_stride": 1, "label": "phase"}
    streamed = StreamingClipDataset(frames_from_webdataset(samples, FEATURES), **options)
    for item, other in zip(streamed, ClipDataset(from_rows(table), **options), strict=True):
        assert key(item) == key(other)
        assert torch.equal(item["pixel_values"], other["pixel_values"])
        assert torch.equal(item["labels"], other["labels"])


def test_webdataset_shards_must_hold_all_columns(tmp_path):
    table = rows("a", [7])
    for row in table:
        del row["phase"]
    with pytest.raises(FrameSetError, match=r"\['phase'\] are missing"):
        frames_from_webdataset(webdataset(tmp_path, table), FEATURES)
    with pytest.raises(FrameSetError, match=r"\['jpg', 'json'\] are missing"):
        frames_from_webdataset(stream(frame_set({"a": [1]})), FEATURES)


def webdataset(folder: Path, *shards: list[dict[str, Any]]) -> datasets.IterableDataset:
    for number, table in enumerate(shards):
        with tarfile.open(folder / f"shard-{number}.tar", "w") as tar:
            for row in table:
                columns = {name: value for name, value in row.items() if name != "image"}
                name = f"{row['video_id']}_{row['frame_index']:06d}"
                for kind, data in (("jpg", row["image"]["bytes"]), ("json", json.dumps(columns).encode())):
                    info = tarfile.TarInfo(f"{name}.{kind}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    return datasets.load_dataset("webdataset", data_files=str(folder / "*.tar"), split="train", streaming=True)


# ------------------------------------------------------------------------------------------- bad streams


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ([0, 2, 1, 3], "frame 2 of video video00 came where 1 is expected"),
        ([1, 2, 3], "frame 1 of video video00 came where 0 is expected"),
        ([0, 1, 3], "frame 3 of video video00 came where 2 is expected"),
        ([4, 5, 0, 1], "video video00 follows video01"),
        ([0, 1, 4, 0, 1], "video video00 follows video01"),
    ],
)
@pytest.mark.parametrize("shards", [1, 2])
def test_rows_out_of_order_are_refused(order, message, shards):
    table = rows("a", [4, 2])
    frames = from_rows([table[number] for number in order])
    with pytest.raises(FrameSetError, match=message):
        list(StreamingClipDataset(stream(frames, [len(order) // 2] if shards == 2 else []), num_frames=1))


@pytest.mark.parametrize("begin", [0, 1, 2])
def test_a_frame_that_is_lost_where_a_shard_begins_is_noticed_by_one_process(begin):
    table = rows("a", [4, 4, 4])
    lost = (0, 5, 9)[begin]
    cuts = [cut - (lost < cut) for cut in (5, 9)]
    frames = from_rows(table[:lost] + table[lost + 1 :])
    refused = []
    for rank in range(3):
        try:
            list(StreamingClipDataset(stream(frames, cuts), num_frames=1, rank=rank, world_size=3))
        except FrameSetError:
            refused.append(rank)
    assert len(refused) == 1


@pytest.mark.parametrize("column", ["source", "video_id", "frame_index"])
def test_a_row_without_a_key_is_refused(column):
    table = rows("a", [3])
    table[1][column] = None
    with pytest.raises(FrameSetError, match=f"a row has no {column}"):
        list(StreamingClipDataset(stream(from_rows(table), []), num_frames=1))


@pytest.mark.parametrize("cell", [None, {"bytes": b"no image", "path": None}])
def test_a_broken_image_is_named(cell):
    table = rows("a", [3])
    table[1]["image"] = cell
    clips = iter(StreamingClipDataset(stream(from_rows(table)), num_frames=1))
    assert next(clips)["frame_index"] == 0
    with pytest.raises(VideoReadError, match="frame 1 of video video00"):
        next(clips)


def test_streams_without_the_columns_and_impossible_options_are_refused(tmp_path: Path):
    frames = frame_set({"a": [3]})
    with pytest.raises(FrameSetError, match=r"needs also \['timestamp'\]"):
        StreamingClipDataset(frames.remove_columns("timestamp").to_iterable_dataset())
    for wrong in ({"sampling": "centered"}, {"rank": 2, "world_size": 2}, {"shuffle_buffer": -1}, {"num_frames": 0}):
        with pytest.raises(InputError):
            StreamingClipDataset(frames.to_iterable_dataset(), **wrong)
