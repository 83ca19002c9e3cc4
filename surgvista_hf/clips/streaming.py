"""Clips from a frame set that is read once, row by row: for corpora that stay on the Hub or a slow disk.

Random access (`ClipDataset`) decodes every frame of every clip anew. Here neighboring clips share decoded frames, and only a
window of one video is in memory.
"""

import math
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import chain, dropwhile, groupby, islice, takewhile
from typing import Any, NamedTuple

import datasets
import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from ..modeling.video_processing_surgvista import TOLERANCE
from ..util.errors import InputError
from ..util.gaps import bridged_sources
from .dataset import (
    ClipItem,
    ImageCell,
    Sampling,
    check_label,
    check_options,
    decode_image,
    label_tensor,
    stack_images,
)
from .sampling.frame_indices import RANDOM_STRIDE, longest_reach, online_seconds, uniform_indices
from .sampling.index import KEY_COLUMNS, FrameSetError
from .sampling.randomness import keyed_generator
from .sampling.timeline import FIRST_STEPS, Timeline, bridge, bridged_step, coarse_frames, is_coarse

_ROWS_AT_ONCE = 16
_DECODED = 256  # decoded images of a window that stay in memory

_Row = Mapping[str, Any]  # cells of a row of a frame set, by column


class _Clip(NamedTuple):
    """A clip that is not decoded yet: the row with its label, and the files of its frames by index."""

    row: _Row
    frames: list[int]
    images: Mapping[int, ImageCell]


class StreamingClipDataset(IterableDataset[ClipItem]):
    """Clips of a frame set that is streamed from its first row to its last.

    Items are those of `ClipDataset`, pixel for pixel, with one difference: `index` and `key` are a number made from source,
    video and frame (`sample_key`), since the position in the whole set is not known while streaming. So the steps of stride -1
    are other draws than those of `ClipDataset`.

    Shards are divided among processes and workers, so every sample comes once an epoch; the number of processes and workers
    changes the order and nothing else. A video belongs to the shard in which it begins: the reader of that shard reads on to
    the end of its last video, and rows that continue an earlier shard's video are skipped. Workers beyond the number of shards
    get none, and processes may get different numbers of clips: in distributed training bound the steps of an epoch.

    Args:
        frames: rows sorted by (video_id, frame_index); `load_frame_set(..., streaming=True)`, a stock
            `load_dataset(..., streaming=True)`, or `frames_from_webdataset`.
        num_frames, frame_stride, label, drop_empty, seed: the same as for `ClipDataset`.
        sampling: `"online"`, `"uniform"` or `"uniform_legacy"`.
        shuffle_buffer: number of clips that wait, undecoded, to be drawn at random; with it shards come in random order too.
        rank, world_size: index of this process and number of processes. Leave the defaults where accelerate or the Trainer
            divides the batches.

    Raises:
        FrameSetError: if columns are missing; while reading, if rows are not sorted and complete.
        InputError: if an option is out of range.

    Example:
        >>> frames = load_frame_set("cholec80", "hf://datasets/me/cholec80", "train", streaming=True)  # doctest: +SKIP
        >>> loader = DataLoader(
        ...     StreamingClipDataset(frames, label="phase"), batch_size=8, collate_fn=collate_clips
        ... )  # doctest: +SKIP
    """

    def __init__(
        self,
        frames: datasets.IterableDataset,
        *,
        num_frames: int = 16,
        frame_stride: float = 4,
        sampling: Sampling = "online",
        label: str | None = None,
        drop_empty: bool = False,
        shuffle_buffer: int = 0,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        check_options(num_frames, frame_stride, sampling)
        if sampling == "centered" or shuffle_buffer < 0 or not 0 <= rank < world_size:
            raise InputError(
                f"cannot stream {sampling!r} sampling with a buffer of {shuffle_buffer} for process {rank} of {world_size}"
            )
        needed = (*KEY_COLUMNS, "timestamp", "image", *([label] if label else []))
        missing = [name for name in needed if name not in (frames.features or {})]
        if missing:
            raise FrameSetError(
                f"the stream has the columns {list(frames.features or {})}; a frame set needs also {missing}"
            )
        self.frames = frames.select_columns(list(needed)).cast_column("image", datasets.Image(decode=False))
        self.num_frames, self.frame_stride, self.sampling, self.seed = num_frames, frame_stride, sampling, seed
        self.label, self.drop_empty, self.shuffle_buffer = label, drop_empty, shuffle_buffer
        self.rank, self.world_size = rank, world_size
        self._label_feature = check_label(frames.features[label]) if label else None
        self._bridged = bridged_sources(frames.info.description)
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._given = self._skip = 0

    @property
    def epoch(self) -> int:
        """Return the current epoch, from 0."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration, in this process and its workers."""
        self._epoch.fill_(int(epoch))

    def state_dict(self) -> dict[str, int]:
        """Return the position of the iteration, for loading without workers."""
        return {"epoch": self.epoch, "given": self._given}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Let the next iteration go on after the clips that were already yielded; they are skipped without being decoded."""
        self.set_epoch(state["epoch"])
        self._skip = state["given"]

    def __iter__(self) -> Iterator[ClipItem]:
        worker = get_worker_info()
        workers, number = (worker.num_workers, worker.id) if worker else (1, 0)
        consumers, consumer = self.world_size * workers, self.rank * workers + number
        runs = self._runs(consumers, consumer)
        clips: Iterator[_Clip] = chain.from_iterable(self._clips(self._videos(run)) for run in runs)
        if self.shuffle_buffer:
            clips = self._shuffled(clips, consumer)
        decoded: OrderedDict[tuple[str, str, int], torch.Tensor] = OrderedDict()
        self._given, skip = self._skip, self._skip
        self._skip = 0
        for position, clip in enumerate(clips):
            if position >= skip:
                self._given += 1
                yield self._item(clip, decoded)

    # ------------------------------------------------------------------------------------------- rows to clips

    def _runs(self, consumers: int, consumer: int) -> list[range]:
        """Return the shards of one consumer, as ranges of neighbors."""
        count = self.frames.num_shards
        if not self.shuffle_buffer:
            return [range(count * consumer // consumers, count * (consumer + 1) // consumers)]
        order = keyed_generator(self.seed, self.epoch, 0, "shards").permutation(count).tolist()
        return [range(shard, shard + 1) for shard in order[consumer::consumers]]

    def _videos(self, run: range) -> Iterator[_Row]:
        """Yield the rows of all videos that begin in a range of shards."""
        rows: Iterator[_Row] = chain.from_iterable(map(self._rows, run))
        begun = run.start == 0  # rows that continue a video in the first shard belong to no other: they are refused
        for row in rows if begun else dropwhile(_continues, rows):
            begun = True
            yield row
        if run and begun:
            following = chain.from_iterable(map(self._rows, range(run.stop, self.frames.num_shards)))
            yield from takewhile(_continues, following)

    def _rows(self, shard: int) -> Iterator[_Row]:
        # Row by row, the library would divide the shard among the workers once more.
        for batch in self.frames.shard(self.frames.num_shards, shard).iter(_ROWS_AT_ONCE):
            for row in zip(*batch.values(), strict=True):
                yield dict(zip(batch, row, strict=True))

    def _clips(self, rows: Iterable[_Row]) -> Iterator[_Clip]:
        """Yield the clips of whole videos, in the order of their labeled frames."""
        before: _Row | None = None
        for key, video in groupby(rows, _video):
            checked = self._checked(video, before)
            before = next(checked)
            own = chain([before], checked)
            if self.sampling == "online":
                yield from self._online_clips(key, own)
                continue
            images: dict[int, ImageCell] = {}
            times: list[float] = []
            for row in own:
                images[row["frame_index"]] = row["image"]
                times.append(_time(row, times))
            if self._is_sample(before):
                yield _clip(before, self._spread_frames(key, np.array(times)), images)

    def _checked(self, video: Iterable[_Row], before: _Row | None) -> Iterator[_Row]:
        """Check each row of a video and yield it."""
        for frame, row in enumerate(video):
            _check_row(row, frame, before)
            before = row if frame == 0 else before
            yield row

    def _online_clips(self, key: tuple[str, str], rows: Iterator[_Row]) -> Iterator[_Clip]:
        """Yield the clips of one video that end with its labeled frames; only frames that later clips need stay in memory."""
        images: dict[int, ImageCell] = {}
        seconds: list[float] = []  # the times of `images`
        for second, row in self._timed(key, rows):
            seconds.append(second)
            images[row["frame_index"]] = row["image"]
            if self._is_sample(row):
                first = row["frame_index"] + 1 - len(seconds)
                moments = self._moments(row, second)
                frames = [first + max(bisect_right(seconds, each + TOLERANCE) - 1, 0) for each in moments]
                yield _clip(row, frames, images)
            old = bisect_right(seconds, second - longest_reach(self.num_frames, self.frame_stride) + TOLERANCE) - 1
            for frame in range(row["frame_index"] + 1 - len(seconds), row["frame_index"] + 1 - len(seconds) + old):
                del images[frame]
            del seconds[: max(old, 0)]

    def _timed(self, key: tuple[str, str], rows: Iterator[_Row]) -> Iterator[tuple[float, _Row]]:
        """Yield each row of a video with its second from the first one; see `Timeline`."""
        head = list(islice(rows, FIRST_STEPS + 1))  # the usual step has to be known before the first gap
        times: list[float] = []
        for row in head:
            times.append(_time(row, times))
        usual = float(np.median(np.diff(times))) if len(times) > 1 else 1.0
        if self.num_frames > 1 and len(times) > 1 and is_coarse(usual, self.frame_stride):
            raise coarse_frames("/".join(key), usual, self.frame_stride)
        second, before = 0.0, times[0]
        for row in chain(head, rows):
            time = float(row["timestamp"])
            step = _time(row, [before]) - before if row["frame_index"] else 0.0
            second += bridged_step(step, usual) if key[0] in self._bridged else step
            before = time
            yield second, row

    def _moments(self, row: _Row, second: float) -> list[float]:
        generator = None
        if self.frame_stride == RANDOM_STRIDE:
            generator = keyed_generator(self.seed, self.epoch, sample_key(*_video(row), row["frame_index"]), "stride")
        return online_seconds(second, self.num_frames, self.frame_stride, generator)

    def _spread_frames(self, key: tuple[str, str], times: np.ndarray) -> list[int]:
        """Return the frames of a clip over a whole video."""
        if self.sampling == "uniform_legacy":
            return uniform_indices(len(times), self.num_frames, legacy=True)
        if key[0] in self._bridged and len(times) > 1:
            times = bridge(times, float(np.median(np.diff(times[: FIRST_STEPS + 1]))))
        return Timeline.of_video(times).spread(0, self.num_frames)

    def _is_sample(self, row: _Row) -> bool:
        if not self.label:
            return True
        value = row[self.label]
        unknown = isinstance(self._label_feature, datasets.ClassLabel) and value == -1
        return not (value is None or unknown or (self.drop_empty and value == []))

    def _shuffled(self, clips: Iterator[_Clip], consumer: int) -> Iterator[_Clip]:
        generator = keyed_generator(self.seed, self.epoch, consumer, "buffer")
        waiting: list[_Clip] = []
        for clip in clips:
            waiting.append(clip)
            if len(waiting) > self.shuffle_buffer:
                yield waiting.pop(int(generator.integers(len(waiting))))
        generator.shuffle(waiting)
        yield from waiting

    # ------------------------------------------------------------------------------------------- clips to items

    def _item(self, clip: _Clip, decoded: OrderedDict[tuple[str, str, int], torch.Tensor]) -> ClipItem:
        source, video = _video(clip.row)
        images = []
        for frame in clip.frames:
            key = (source, video, frame)
            if key not in decoded:
                decoded[key] = decode_image(clip.images[frame], f"frame {frame} of video {video}")
            decoded.move_to_end(key)
            images.append(decoded[key])
        while len(decoded) > max(_DECODED, self.num_frames):
            decoded.popitem(last=False)
        number = sample_key(source, video, clip.row["frame_index"])
        item = {
            "pixel_values": stack_images(images, video),
            "index": number,
            "key": number,
            "epoch": self.epoch,
            "source": source,
            "video_id": video,
            "frame_index": clip.row["frame_index"],
            "timestamp": clip.row["timestamp"],
        }
        if self.label:
            item["labels"] = label_tensor(clip.row[self.label], self._label_feature)
        return item


def sample_key(source: str, video_id: str, frame_index: int) -> int:
    """Return a number below 2⁶³ for a sample, the same wherever and in whatever order it is read."""
    text = f"{source}\0{video_id}\0{frame_index}".encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "little") >> 1


def frames_from_webdataset(samples: datasets.IterableDataset, features: datasets.Features) -> datasets.IterableDataset:
    """Turn a streamed WebDataset (`jpg` and `json` per frame) into the columns of a frame set.

    Args:
        samples: `load_dataset("webdataset", ..., streaming=True)`; the JSON contains all columns but the image, and null
            where a label is unknown.
        features: features of the frame set.

    Returns:
        The rows in their order.

    Raises:
        FrameSetError: if there is no `jpg` or `json`, or the JSON of the first frames lacks a column.

    Example:
        >>> shards = load_dataset("webdataset", data_files="shards/*.tar", split="train", streaming=True)  # doctest: +SKIP
        >>> frames = frames_from_webdataset(shards, features)  # doctest: +SKIP
    """
    found = samples.features or {}
    missing = [name for name in ("jpg", "json") if name not in found]
    if missing:
        raise FrameSetError(f"the WebDataset has the columns {list(found)}; {missing} are missing")
    lacking = [name for name in features if name != "image" and name not in found["json"]]
    if lacking:
        raise FrameSetError(f"the JSON of the first frames has {list(found['json'])}; {lacking} are missing")
    raw = samples.cast_column("jpg", datasets.Image(decode=False))

    def _to_row(sample: _Row) -> _Row:
        return {**{name: sample["json"].get(name) for name in features}, "image": sample["jpg"]}

    undecoded = datasets.Features({**features, "image": datasets.Image(decode=False)})
    return raw.map(_to_row, remove_columns=list(samples.features), features=undecoded).cast(features)


def _video(row: _Row) -> tuple[str, str]:
    return row["source"], row["video_id"]


def _continues(row: _Row) -> bool:
    return row["frame_index"] != 0


def _time(row: _Row, before: Sequence[float]) -> float:
    """Return the second of a row, which must not be before the last of the earlier times in its video."""
    time = row["timestamp"]
    if time is None or not math.isfinite(time) or (before and time < before[-1]):
        raise FrameSetError(
            f"frame {row['frame_index']} of video {row['video_id']} is at {time} seconds; times must ascend in a video"
        )
    return float(time)


def _clip(row: _Row, frames: list[int], images: Mapping[int, ImageCell]) -> _Clip:
    return _Clip(row, frames, {frame: images[frame] for frame in set(frames)})


def _check_row(row: _Row, expected: int, before: _Row | None) -> None:
    """Check that a row has its keys and the expected frame index.

    Args:
        row: the row.
        expected: its index in the video.
        before: first row of the same video, or of the video before it if this row begins one.
    """
    missing = [name for name in KEY_COLUMNS if row[name] is None]
    if missing:
        raise FrameSetError(f"a row has no {', '.join(missing)}: {[row[name] for name in KEY_COLUMNS]}")
    name = row["video_id"]
    if row["frame_index"] != expected:
        raise FrameSetError(
            f"frame {row['frame_index']} of video {name} came where {expected} is expected; frames must be sorted and "
            "consecutive. Take whole videos out of a frame set, not single frames, and leave its shards in their order"
        )
    if expected == 0 and before is not None and row["source"] == before["source"] and name < before["video_id"]:
        raise FrameSetError(f"video {name} follows {before['video_id']}; sort by (video_id, frame_index)")
