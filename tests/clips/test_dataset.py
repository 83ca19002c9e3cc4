"""Clips hold the right frames and labels, and are the same bit for bit however they are loaded."""

import hashlib
import importlib
import io
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from accelerate import skip_first_batches
from PIL import Image
from torch.utils.data import DataLoader

from surgvista_hf.clips import ClipDataset, FrameSetError, SourceBalancedSampler, collate_clips, online_seconds
from surgvista_hf.clips import dataset as dataset_module
from surgvista_hf.datasets_scripts.synthetic.surgery import PHASES, SyntheticOperation
from surgvista_hf.modeling.errors_surgvista import InputError, VideoReadError

from .frame_sets import encoded_image, frame_of, frame_set, from_rows, rows

pytestmark = [
    pytest.mark.filterwarnings("ignore:The image decoding:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
]
FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "odd_videos"


@pytest.fixture(scope="module")
def corpus() -> datasets.Dataset:
    return frame_set({"a": [30, 7], "b": [1, 20, 12]})


def seen(item: dict[str, Any]) -> list[tuple[int, int]]:
    return [frame_of(frame) for frame in item["pixel_values"].numpy()]


def digests(loader: DataLoader) -> list[tuple[int, str]]:
    """(sample, digest of everything in it) in the order of loading."""
    found = []
    for batch in loader:
        for number, index in enumerate(batch["index"].tolist()):
            pixels = batch["pixel_values"][number].numpy().tobytes()
            rest = [str(batch[name][number]) for name in sorted(batch) if name != "pixel_values"]
            found.append((index, hashlib.sha256(pixels + repr(rest).encode()).hexdigest()))
    return found


def load(clips: ClipDataset, workers: int, sampler: Any = None, **options: Any) -> DataLoader:
    return DataLoader(clips, batch_size=4, sampler=sampler, num_workers=workers, collate_fn=collate_clips, **options)


# ------------------------------------------------------------------------------------------- content


def test_every_frame_is_the_end_of_an_online_clip(corpus):
    clips = ClipDataset(corpus, num_frames=5, frame_stride=4, label="phase")
    assert len(clips) == len(corpus)
    for index in (0, 3, 4, 29, 30, 36, 37, 38, 69):
        item, row = clips[index], corpus[index]
        video = int(row["video_id"][-2:])
        assert item["pixel_values"].shape == (5, 3, 24, 32)
        assert item["pixel_values"].dtype == torch.uint8
        assert seen(item) == [(video, frame) for frame in online_seconds(row["frame_index"], 5, 4)]
        assert {name: item[name] for name in ("source", "video_id", "frame_index", "timestamp")} == {
            name: row[name] for name in ("source", "video_id", "frame_index", "timestamp")
        }
        assert (item["index"], item["epoch"], int(item["labels"])) == (index, 0, row["phase"])
    assert clips.label_names == list(PHASES)


def test_centered_clips_stay_in_their_video(corpus):
    clips = ClipDataset(corpus, num_frames=4, frame_stride=2, sampling="centered")
    assert seen(clips[30]) == [(1, 0), (1, 0), (1, 0), (1, 2)]
    assert seen(clips[36]) == [(1, 2), (1, 4), (1, 6), (1, 6)]


def test_with_uniform_sampling_every_video_is_one_sample(corpus):
    clips = ClipDataset(corpus, num_frames=3, sampling="uniform", label="phase")
    assert [seen(clip) for clip in clips] == [
        [(0, 5), (0, 15), (0, 25)],
        [(1, 1), (1, 3), (1, 5)],
        [(0, 0), (0, 0), (0, 0)],
        [(1, 3), (1, 10), (1, 16)],
        [(2, 2), (2, 6), (2, 10)],
    ]
    assert [int(clip["labels"]) for clip in clips] == [0, 1, 0, 1, 2]
    assert [clip["frame_index"] for clip in clips] == [0] * 5
    legacy = ClipDataset(corpus, num_frames=3, sampling="uniform_legacy")
    assert seen(legacy[1]) == [(1, 0), (1, 2), (1, 4)]


@pytest.fixture(params=["torchcodec", "torchvision", "pillow"])
def decoder(request, monkeypatch) -> Iterator[None]:
    """All ways to decode; the later ones are for installations without torchcodec, or whose torchvision has no decoder."""
    libraries = ["torchcodec", "torchvision", "pillow"]
    for library, module in {"torchcodec": "torchcodec.decoders", "torchvision": "torchvision.io"}.items():
        try:
            imported = importlib.import_module(module)
        except (ImportError, OSError, RuntimeError) as error:
            if library == request.param:
                pytest.skip(f"{library} cannot be loaded: {error}")
            continue
        if libraries.index(library) < libraries.index(request.param):
            monkeypatch.delattr(imported, "decode_jpeg")
    dataset_module._jpeg_decoder.cache_clear()
    yield
    dataset_module._jpeg_decoder.cache_clear()


@pytest.mark.usefixtures("decoder")
def test_pixels_are_those_of_pillow():
    frame = Image.fromarray(SyntheticOperation(3, duration_seconds=60).frame(20))
    buffer = io.BytesIO()
    frame.save(buffer, "JPEG", quality=90)
    clips = ClipDataset(from_rows(rows("a", [1], image={"bytes": buffer.getvalue(), "path": None})), num_frames=2)
    expected = np.asarray(Image.open(buffer).convert("RGB"))
    assert all(np.array_equal(pixels.permute(1, 2, 0), expected) for pixels in clips[0]["pixel_values"])


@pytest.mark.usefixtures("decoder")
def test_gray_images_become_rgb():
    buffer = io.BytesIO()
    Image.new("L", (32, 24), 77).save(buffer, "JPEG")
    clips = ClipDataset(from_rows(rows("a", [1], image={"bytes": buffer.getvalue(), "path": None})), num_frames=1)
    assert clips[0]["pixel_values"].unique().tolist() == [77]
    assert clips[0]["pixel_values"].shape == (1, 3, 24, 32)


def test_lists_of_classes_become_zeros_and_ones_and_numbers_stay(corpus):
    tools = ClipDataset(corpus, num_frames=1, label="tools")
    assert tools[0]["labels"].tolist() == [0.0, 0.0, 0.0]
    assert tools[1]["labels"].tolist() == [1.0, 0.0, 1.0]
    assert tools.label_names == ["grasper", "hook", "clipper"]
    cvs = ClipDataset(corpus, num_frames=1, label="cvs")
    assert cvs[0]["labels"].tolist() == [0.0, 0.5, 1.0]
    assert cvs[0]["labels"].dtype == tools[0]["labels"].dtype == torch.float32
    assert cvs.label_names is None


def test_frames_without_a_label_are_no_samples_but_are_in_clips():
    table = rows("a", [6])
    for frame, phase in enumerate([None, -1, 3, None, 0, -1]):
        table[frame]["phase"] = phase
    clips = ClipDataset(from_rows(table), num_frames=3, frame_stride=1, label="phase")
    assert [(item["frame_index"], int(item["labels"])) for item in clips] == [(2, 3), (4, 0)]
    assert seen(clips[1]) == [(0, 2), (0, 3), (0, 4)]


def test_the_source_of_each_sample_is_known(corpus):
    clips = ClipDataset(corpus, sampling="uniform")
    assert clips.sources.tolist() == [0, 0, 1, 1, 1]
    assert np.bincount(ClipDataset(corpus).sources).tolist() == [37, 33]


def test_selected_videos_are_read_through_the_selection(corpus):
    chosen = corpus.filter(lambda source: source == "b", input_columns="source")
    assert seen(ClipDataset(chosen, num_frames=2, frame_stride=3)[5]) == [(1, 1), (1, 4)]


def test_images_may_be_files_and_other_formats(tmp_path):
    table = rows("a", [3])
    (tmp_path / "0.jpg").write_bytes(encoded_image(0, 0))
    table[0]["image"] = {"bytes": None, "path": str(tmp_path / "0.jpg")}
    table[1]["image"] = {"bytes": encoded_image(0, 1, kind="PNG"), "path": None}
    clips = ClipDataset(from_rows(table), num_frames=3, frame_stride=1)
    assert seen(clips[2]) == [(0, 0), (0, 1), (0, 2)]


def test_clips_of_different_size_stay_apart_in_a_batch():
    table = rows("a", [2]) + rows("b", [2], image={"bytes": encoded_image(0, 0, (40, 24)), "path": None})
    clips = ClipDataset(from_rows(table), num_frames=2, label="phase")
    batch = collate_clips([clips[1], clips[2]])
    assert [tuple(clip.shape) for clip in batch["pixel_values"]] == [(2, 3, 24, 32), (2, 3, 24, 40)]
    assert batch["labels"].tolist() == [1, 0]
    assert collate_clips([clips[0], clips[1]])["pixel_values"].shape == (2, 2, 3, 24, 32)


# ------------------------------------------------------------------------------------------- the same however loaded


def test_samples_are_the_same_with_any_number_of_workers(corpus):
    expected = digests(load(ClipDataset(corpus, num_frames=4, frame_stride=-1, label="phase"), 0))
    assert len({digest for _, digest in expected}) == len(corpus)
    for workers in (1, 4):
        clips = ClipDataset(corpus, num_frames=4, frame_stride=-1, label="phase")
        assert digests(load(clips, workers)) == expected


def test_a_new_epoch_reaches_persistent_workers(corpus):
    clips = ClipDataset(corpus, num_frames=4, frame_stride=-1)
    fresh = ClipDataset(corpus, num_frames=4, frame_stride=-1)
    loader = load(clips, 2, persistent_workers=True)
    epochs = []
    for epoch in range(3):
        clips.set_epoch(epoch)
        fresh.set_epoch(epoch)
        epochs.append(digests(loader))
        assert epochs[-1] == digests(load(fresh, 0))
    assert epochs[0] != epochs[1] != epochs[2]


def _fraction(rank: int, world: int) -> list[tuple[int, str]]:
    """What one process of several loads in epoch 1."""
    clips = ClipDataset(frame_set({"a": [30, 7], "b": [1, 20, 12]}), num_frames=4, frame_stride=-1, label="phase")
    sampler = SourceBalancedSampler(clips.sources, [1, 1], num_samples=24, num_replicas=world, rank=rank)
    clips.set_epoch(1)
    sampler.set_epoch(1)
    return digests(load(clips, 1, sampler))


@pytest.mark.slow
def test_two_processes_load_together_what_one_loads():
    alone = _fraction(0, 1)
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        first, second = pool.map(_fraction, (0, 1), (2, 2))
    assert [sample for pair in zip(first, second, strict=True) for sample in pair] == alone


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_epoch_goes_on_with_the_same_samples(corpus, workers):
    def epoch_loader() -> DataLoader:
        clips = ClipDataset(corpus, num_frames=4, frame_stride=-1, label="phase")
        sampler = SourceBalancedSampler(clips.sources, [3, 1])
        clips.set_epoch(2)
        sampler.set_epoch(2)
        return load(clips, workers, sampler)

    assert digests(skip_first_batches(epoch_loader(), 3)) == digests(epoch_loader())[12:]


# ------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    "options",
    [
        {"num_frames": 0},
        {"frame_stride": -3},
        {"frame_stride": 0, "sampling": "centered"},
        {"sampling": "best"},
        {"label": "source"},
    ],
)
def test_impossible_options_are_refused(corpus, options):
    with pytest.raises(InputError):
        ClipDataset(corpus, **options)


def test_an_unknown_label_column_is_named(corpus):
    with pytest.raises(FrameSetError, match="triplets"):
        ClipDataset(corpus, label="triplets")


def test_a_frame_set_without_labels_is_refused():
    with pytest.raises(FrameSetError, match="phase"):
        ClipDataset(from_rows(rows("a", [2], phase=None)), label="phase")


def test_samples_end_where_the_data_set_ends(corpus):
    with pytest.raises(IndexError):
        ClipDataset(corpus)[len(corpus)]


def test_a_set_without_a_readable_clip_is_an_error_and_so_is_an_unknown_policy():
    table = [{**row, "image": {"bytes": b"text", "path": None}} for row in rows("a", [3])]
    with pytest.raises(VideoReadError, match="no sample can be decoded"):
        ClipDataset(from_rows(table), num_frames=2, frame_stride=1, on_unreadable="replace")[1]
    with pytest.raises(InputError, match="stop or replace"):
        ClipDataset(from_rows(table), on_unreadable="ignore")


@pytest.mark.usefixtures("decoder")
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no image",
        b"\xff\xd8\xff",
        encoded_image(0, 1)[:-60],
        encoded_image(0, 1, kind="PNG")[:40],
        (FIXTURES / "corrupt.jpg").read_bytes(),
        None,
    ],
    ids=["empty", "text", "head only", "cut JPEG", "cut PNG", "corrupt JPEG", "none"],
)
def test_a_broken_frame_is_named(data):
    table = rows("a", [3])
    table[1]["image"] = None if data is None else {"bytes": data, "path": None}
    clips = ClipDataset(from_rows(table), num_frames=2, frame_stride=1)
    assert seen(clips[0]) == [(0, 0), (0, 0)]
    with pytest.raises(VideoReadError, match="frame 1 of video video00"):
        clips[2]


def test_a_list_of_classes_may_not_hold_a_missing_one():
    clips = ClipDataset(from_rows(rows("a", [1], tools=[0, -1])), label="tools")
    with pytest.raises(FrameSetError, match="-1"):
        clips[0]


def test_frames_of_one_video_must_have_one_size():
    table = rows("a", [2])
    table[1]["image"] = {"bytes": encoded_image(0, 1, (40, 24)), "path": None}
    with pytest.raises(FrameSetError, match="video00 differ"):
        ClipDataset(from_rows(table), num_frames=2, frame_stride=1)[1]


def test_frames_with_an_empty_list_can_be_left_out_as_samples_but_stay_context():
    """Odd frames carry tools, even ones an empty list."""
    frames = frame_set({"a": [6]})
    kept = ClipDataset(frames, num_frames=2, frame_stride=1, label="tools")
    dropped = ClipDataset(frames, num_frames=2, frame_stride=1, label="tools", drop_empty=True)
    assert (len(kept), len(dropped)) == (6, 3)
    assert [dropped[number]["frame_index"] for number in range(3)] == [1, 3, 5]
    assert dropped.clip_frames(1) == [2, 3]
