"""The data set of clips from which training, evaluation and feature extraction load."""

import io
import math
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypedDict, cast

import datasets
import numpy as np
import pyarrow.compute as pc
import torch
from PIL import Image
from torch.utils.data import Dataset, default_collate

from ..modeling.errors_surgvista import VideoReadError
from ..util.errors import InputError
from .sampling.balance import Draw
from .sampling.frame_indices import RANDOM_STRIDE, SPECIAL_STRIDES, centered_seconds, online_seconds, uniform_indices
from .sampling.index import ClipIndex, FrameSetError, check_columns, column_batches
from .sampling.randomness import keyed_generator
from .sampling.timeline import Timeline

Sampling = Literal["online", "centered", "uniform", "uniform_legacy"]
_SAMPLINGS = ("online", "centered", "uniform", "uniform_legacy")
_JPEG = b"\xff\xd8\xff"
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")

ClipItem = dict[str, Any]  # an item of `ClipDataset`: tensors, numbers and strings by name
LabelFeature: TypeAlias = "datasets.ClassLabel | datasets.Value | datasets.List"
LabelCell = int | float | list[int] | list[float]


class ImageCell(TypedDict):
    """A cell of an undecoded `Image` column: the bytes of a file, or its path."""

    bytes: bytes | None
    path: str | None


class ClipOptions(TypedDict, total=False):
    """The options of `ClipDataset` that subclasses pass on."""

    frame_stride: float
    sampling: Sampling
    label: str | None
    drop_empty: bool
    on_unreadable: Literal["stop", "replace"]
    seed: int


class ClipDataset(Dataset[ClipItem]):
    """Clips of a frame set.

    With `"online"` and `"centered"` sampling every frame is a sample; with `"uniform"` every video is. With a `label`, only
    frames (or videos) that have one are samples, though their clips may contain frames that have none. A label is missing
    where the cell is empty or, as usual for `ClassLabel`, -1.

    The content of a sample depends on (seed, epoch, index) only: not on workers, processes or what was loaded before. The
    epoch lies in shared memory, so `set_epoch` reaches persistent workers; call it before iterating over the loader.

    Args:
        frame_set: one or more frame sets of different sources, one after the other.
        num_frames: number of frames of a clip.
        frame_stride: seconds between two frames of a clip, also below one; -1, 0 and -2 are the special rules of
            `online_seconds`. A clip contains the frames shown at its moments, by the column `timestamp`; the rate of the
            frame set matters only in that it must be high enough. Not used by uniform sampling.
        sampling: `"online"`: the clip ends with the sample's frame; `"centered"`: this frame is in the middle; `"uniform"` and
            `"uniform_legacy"`: the frames are spread over the video, see `uniform_indices`.
        label: column to predict. A class becomes an int64 number, a list of classes a float32 vector of zeros and ones, a
            list of numbers a float32 vector.
        on_unreadable: if a clip cannot be decoded, `"stop"` raises; `"replace"` takes the next sample that can be decoded,
            in the order of the frame set, and adds the first to `unreadable`.
        drop_empty: frames whose list of classes is empty are no samples either, though they stay context. Published programs
            do so for CholecT50, also in the test, which raises its average precision.
        seed: seed of the run.

    Raises:
        FrameSetError: if columns are missing, the rows are not sorted and complete, or frames of the set are further apart
            than those of a clip.
        InputError: if an option is out of range, or the label column is of another kind.

    An item is a dictionary: `pixel_values` (frames, 3, height, width) uint8; `labels` if there is a `label`; `index`; `key`
    and `epoch`, of which all further randomness is a function (`key` is `index`, unless the sample is drawn again: `Draw`);
    `source`, `video_id`, `frame_index` and `timestamp` (seconds) of the labeled frame, which is the first with uniform
    sampling. Frames that cannot be decoded raise `VideoReadError`.

    Example:
        >>> clips = ClipDataset(frame_set, num_frames=16, frame_stride=4, label="phase")  # doctest: +SKIP
        >>> loader = DataLoader(clips, batch_size=8, num_workers=2, collate_fn=collate_clips)  # doctest: +SKIP
    """

    def __init__(
        self,
        frame_set: datasets.Dataset,
        *,
        num_frames: int = 16,
        frame_stride: float = 4,
        sampling: Sampling = "online",
        label: str | None = None,
        drop_empty: bool = False,
        on_unreadable: Literal["stop", "replace"] = "stop",
        seed: int = 0,
    ) -> None:
        if on_unreadable not in ("stop", "replace"):
            raise InputError(f"on_unreadable is {on_unreadable!r}; it must be stop or replace")
        check_options(num_frames, frame_stride, sampling)
        check_columns(frame_set, ("image", "timestamp", *([label] if label else [])))
        self.num_frames, self.frame_stride, self.sampling, self.seed = num_frames, frame_stride, sampling, seed
        self.label, self.drop_empty = label, drop_empty
        self.clip_index = ClipIndex.from_frame_set(frame_set)
        self.timeline = Timeline.from_frame_set(frame_set, self.clip_index)
        if num_frames > 1 and sampling in ("online", "centered"):
            self.timeline.check_stride(frame_stride, self.clip_index)
        self._label_feature = check_label(frame_set.features[label]) if label else None
        self._frame_set = frame_set
        columns = ["image", "timestamp", *([label] if label else [])]
        self._table: Any = frame_set.with_format("arrow", columns=columns)
        self._rows = self._sample_rows(frame_set)
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._replaces = on_unreadable == "replace"
        self._unreadable = torch.zeros(len(self) if self._replaces else 0, dtype=torch.bool).share_memory_()

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int | Draw) -> ClipItem:
        index, number = index if isinstance(index, Draw) else Draw(int(index))
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        if not self._replaces:
            return self._item(index, number)
        for other in (*range(index, len(self)), *range(index)):
            try:
                return self._item(other, number)
            except VideoReadError as error:
                self._unreadable[other] = True
                reason = error
        raise VideoReadError(f"no sample can be decoded; the last: {reason}") from reason

    def _item(self, index: int, number: int) -> ClipItem:
        row = int(self._rows[index])
        video, frame = self.clip_index.locate(row)
        # Each repetition of a sample in an epoch gets a key, and with it random numbers, of its own.
        key = index + number * len(self)
        frames = self.clip_frames(index, key)
        values = self._table[row]
        item = {
            "pixel_values": self._read(video, frames),
            "index": index,
            "key": key,
            "epoch": self.epoch,
            "source": self.clip_index.source_names[self.clip_index.sources[video]],
            "video_id": str(self.clip_index.video_ids[video]),
            "frame_index": frame,
            "timestamp": values["timestamp"][0].as_py(),
        }
        if self.label:
            item["labels"] = label_tensor(values[self.label][0].as_py(), self._label_feature)
        return item

    @property
    def epoch(self) -> int:
        """Return the current epoch, from 0."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration over a loader, in this process and its workers."""
        self._epoch.fill_(int(epoch))

    @property
    def unreadable(self) -> list[int]:
        """Return the samples that could not be decoded so far, in this process and its workers."""
        return self._unreadable.nonzero().flatten().tolist()

    def name(self, index: int) -> str:
        """Return a readable name of a sample: source, video and frame."""
        _, frame = self.clip_index.locate(int(self._rows[index]))
        return f"{self.video_name(index)} frame {frame}"

    def video_name(self, index: int) -> str:
        """Return a readable name of the video of a sample: source and id."""
        video, _ = self.clip_index.locate(int(self._rows[index]))
        return f"{self.clip_index.source_names[self.clip_index.sources[video]]}/{self.clip_index.video_ids[video]}"

    @property
    def sources(self) -> np.ndarray:
        """Return the source of each sample, (samples,) int32, as an index into `clip_index.source_names`."""
        videos = np.searchsorted(self.clip_index.starts, self._rows, side="right") - 1
        return self.clip_index.sources[videos]

    @property
    def label_names(self) -> list[str] | None:
        """Return the names of the classes, if the label has classes."""
        feature = getattr(self._label_feature, "feature", self._label_feature)
        return list(feature.names) if isinstance(feature, datasets.ClassLabel) else None

    @property
    def multi_label(self) -> bool:
        """Return whether the label is a list: of classes, or of numbers."""
        return isinstance(self._label_feature, datasets.List)

    def sample_labels(self) -> np.ndarray:
        """Return the class of each sample, (samples,) int64, without decoding any.

        Raises:
            InputError: if there is no label, or it is not a single class.
        """
        if not isinstance(self._label_feature, datasets.ClassLabel):
            raise InputError(f"the label {self.label!r} is no single class a frame")
        parts = [
            pc.fill_null(table[self.label], -1).to_numpy()
            for _, table in column_batches(self._frame_set, (str(self.label),))
        ]
        return np.concatenate(parts)[self._rows].astype(np.int64)

    def clip_frames(self, index: int, key: int | None = None) -> list[int]:
        """Return the frame indices of a sample's clip in its video, in the current epoch.

        Args:
            index: index of the sample.
            key: `key` of the item; the index by default.
        """
        video, frame = self.clip_index.locate(int(self._rows[index]))
        if self.sampling == "uniform_legacy":
            return uniform_indices(int(self.clip_index.lengths[video]), self.num_frames, legacy=True)
        if self.sampling == "uniform":
            return self.timeline.spread(video, self.num_frames)
        second = self.timeline.second(video, frame)
        if self.sampling == "centered":
            last = self.timeline.last_second(video)
            return self.timeline.frames(video, centered_seconds(second, last, self.num_frames, self.frame_stride))
        generator = None
        if self.frame_stride == RANDOM_STRIDE:
            generator = keyed_generator(self.seed, self.epoch, index if key is None else key, "stride")
        return self.timeline.frames(video, online_seconds(second, self.num_frames, self.frame_stride, generator))

    def _sample_rows(self, frame_set: datasets.Dataset) -> np.ndarray:
        """Return the row of each sample, (samples,) int64: that of the frame whose label it has."""
        every_frame = self.sampling in ("online", "centered")
        rows = np.arange(self.clip_index.num_rows, dtype=np.int64) if every_frame else self.clip_index.starts
        if not self.label:
            return rows
        rows = rows[_is_labeled(frame_set, self.label, self.drop_empty)[rows]]
        if not len(rows):
            raise FrameSetError(f"no frame that would be a sample has a label in the column {self.label!r}")
        return rows

    def _read(self, video: int, frames: list[int]) -> torch.Tensor:
        """Decode frames of a video to (frames, 3, height, width) uint8; a frame that repeats is decoded once."""
        distinct, inverse = np.unique(frames, return_inverse=True)
        cells = self._table[(self.clip_index.starts[video] + distinct).tolist()]["image"].to_pylist()
        name = self.clip_index.video_ids[video]
        images = [
            decode_image(cell, f"frame {frame} of video {name}") for frame, cell in zip(distinct, cells, strict=True)
        ]
        return stack_images([images[number] for number in inverse], name)


def collate_clips(items: Sequence[ClipItem]) -> dict[str, Any]:
    """Make a batch of items of `ClipDataset`.

    Args:
        items: items of one data set.

    Returns:
        Tensors with a batch axis first and lists of strings. `pixel_values` is a list of clips if these differ in height or
        width (videos of several sources do); `MultiScaleCrop` takes both.
    """
    clips: list[torch.Tensor] = [item["pixel_values"] for item in items]
    rest = [{name: value for name, value in item.items() if name != "pixel_values"} for item in items]
    if len({clip.shape for clip in clips}) > 1:
        return {"pixel_values": clips, **default_collate(rest)}
    # Colors stay last in memory while the clips are copied, as decoders wrote them.
    batch = default_collate([clip.permute(0, 2, 3, 1) for clip in clips])  # (B, frames, height, width, 3)
    return {"pixel_values": batch.permute(0, 1, 4, 2, 3), **default_collate(rest)}


def check_options(num_frames: int, frame_stride: float, sampling: str) -> None:
    """Raise `InputError` for options that no clip can have."""
    if sampling not in _SAMPLINGS:
        raise InputError(f"sampling is {sampling!r}; it must be one of {_SAMPLINGS}")
    if num_frames < 1:
        raise InputError(f"num_frames is {num_frames}; it must be at least 1")
    if isinstance(frame_stride, bool) or not isinstance(frame_stride, int | float) or not math.isfinite(frame_stride):
        raise InputError(f"frame_stride is {frame_stride!r}; it must be a number of seconds")
    known = frame_stride > 0 or (sampling == "online" and frame_stride in SPECIAL_STRIDES)
    if sampling in ("online", "centered") and not known:
        raise InputError(f"frame_stride is {frame_stride}, which {sampling} sampling does not know")


# ------------------------------------------------------------------------------------------- labels


def check_label(feature: LabelFeature) -> LabelFeature:
    """Return the feature of a label column, if it can be a label.

    Raises:
        InputError: if it holds neither classes nor numbers, nor lists of them.
    """
    kind = getattr(feature, "feature", feature)
    if isinstance(kind, datasets.ClassLabel):
        return feature
    if isinstance(kind, datasets.Value) and kind.dtype.startswith(("int", "uint", "float", "bool")):
        return feature
    raise InputError(f"the label column holds {feature}; it must hold classes or numbers, or lists of them")


def _is_labeled(frame_set: datasets.Dataset, label: str, drop_empty: bool) -> np.ndarray:
    """Return whether each row has a label, (rows,) bool."""
    parts = []
    for _, table in column_batches(frame_set, (label,)):
        valid = pc.is_valid(table[label])
        if isinstance(frame_set.features[label], datasets.ClassLabel):
            valid = pc.and_(valid, pc.greater_equal(pc.fill_null(table[label], -1), 0))
        if drop_empty and isinstance(frame_set.features[label], datasets.List):
            valid = pc.and_(valid, pc.greater(pc.fill_null(pc.list_value_length(table[label]), 0), 0))
        parts.append(valid.to_numpy())
    return np.concatenate(parts)


def label_tensor(value: LabelCell, feature: "LabelFeature | None") -> torch.Tensor:
    """Return the cell of a label column as the tensor that an item of `ClipDataset` contains.

    Args:
        value: cell of the column: a class, a number, or a list of them.
        feature: feature of the column.

    Returns:
        A number as int64 or float32, (numbers,) float32, or for a list of classes (classes,) float32 of zeros and ones.

    Raises:
        FrameSetError: if a list of classes contains a negative number.
    """
    if not isinstance(value, list):
        return torch.tensor(value, dtype=torch.float32 if isinstance(value, float) else torch.int64)
    classes = getattr(feature, "feature", None)
    if not isinstance(classes, datasets.ClassLabel):
        return torch.tensor(value, dtype=torch.float32)
    if value and min(value) < 0:
        raise FrameSetError(
            f"a list of classes holds {value}; leave out what is absent, and the list where it is unknown"
        )
    active = torch.zeros(classes.num_classes)
    active[torch.tensor(value, dtype=torch.int64)] = 1
    return active


# ------------------------------------------------------------------------------------------- images


def decode_image(cell: ImageCell | None, where: str) -> torch.Tensor:
    """Decode a cell of an undecoded `Image` column.

    Args:
        cell: bytes of a file, or its path.
        where: name of the frame for messages, such as "frame 3 of video 1".

    Returns:
        (height, width, 3) uint8, RGB.

    Raises:
        VideoReadError: if there is no image, or it cannot be decoded.
    """
    if cell is None or (cell["bytes"] is None and cell["path"] is None):
        raise VideoReadError(f"{where} has no image")
    try:
        data = cell["bytes"] if cell["bytes"] is not None else Path(str(cell["path"])).read_bytes()
        decode_jpeg = _jpeg_decoder() if data.startswith(_JPEG) else None
        if decode_jpeg is not None:
            return decode_jpeg(data).permute(1, 2, 0)
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            return torch.from_numpy(np.array(image.convert("RGB")))
    except (OSError, RuntimeError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise VideoReadError(f"{where} cannot be decoded: {error}. Prepare the video again") from error


@cache
def _jpeg_decoder() -> Callable[[bytes], torch.Tensor] | None:
    """Return a decoder of JPEG files to (3, height, width) uint8 in two thirds of Pillow's time, with the same pixels.

    It is torchcodec's; where torchcodec or its FFmpeg is not installed, torchvision's, which is deprecated in its favor.
    """
    try:
        from torchcodec import decoders

        return cast(Callable[[bytes], torch.Tensor], decoders.decode_jpeg)
    except (AttributeError, ImportError, OSError, RuntimeError):
        pass
    try:
        from torchvision.io import ImageReadMode, decode_jpeg
    except ImportError:
        return None

    def _decode(data: bytes) -> torch.Tensor:
        coded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        return cast(torch.Tensor, decode_jpeg(coded, mode=ImageReadMode.RGB))

    return _decode


def stack_images(images: Sequence[torch.Tensor], video_id: str) -> torch.Tensor:
    """Stack the decoded images (height, width, 3) of a clip to (frames, 3, height, width).

    Raises:
        FrameSetError: if the images differ in size; `video_id` names the video in the message.
    """
    sizes = {tuple(image.shape[:2]) for image in images}
    if len(sizes) > 1:
        raise FrameSetError(f"the frames of video {video_id} differ in (height, width): {sorted(sizes)}")
    # Colors stay last in memory, as decoders write them: moving them here would cost half as much as decoding.
    return torch.stack(list(images)).permute(0, 3, 1, 2)
