"""The labels of a frame set by video and column, read without decoding an image: the basis of its inspection."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from datasets import ClassLabel, Dataset

from ...util.errors import InputError

_BASE_COLUMNS = ("source", "video_id", "frame_index", "timestamp", "image")
_GAP = 1.5  # steps between two frames from which on frames are missing


@dataclass(frozen=True)
class Stretch:
    """A time in which the labels of a video do not change.

    Args:
        start, stop: beginning and end in seconds.
        number: index of the class.
    """

    start: float
    stop: float
    number: int


@dataclass(frozen=True, eq=False)
class LabelColumn:
    """The labels of all frames in one column.

    Args:
        name: name of the column.
        kind: `"class"`: one class a frame; `"classes"`: a set of classes; `"numbers"`: a list of numbers.
        names: names of the classes or numbers.
        values: class indices (frames,), -1 without a label; or (frames, classes) bool; or (frames, numbers) fp32.
        labeled: (frames,) bool, whether a frame has a label.
    """

    name: str
    kind: str
    names: tuple[str, ...]
    values: np.ndarray
    labeled: np.ndarray

    def holds(self, number: int) -> np.ndarray:
        """Return whether each frame has a class, (frames,) bool."""
        return self.values == number if self.kind == "class" else self.values[:, number]


@dataclass(frozen=True, eq=False)
class VideoRows:
    """The frames of one video.

    Args:
        name: id of the video, after its source where a frame set has several.
        rows: rows of the frame set, in the order of time.
        seconds: (frames,) times of the frames.
        recorded: seconds of the recording, where they are known; the last frame may end before it.
    """

    name: str
    rows: np.ndarray
    seconds: np.ndarray
    recorded: float | None = None

    @cached_property
    def step(self) -> float:
        """Return the median of the seconds between two frames."""
        return float(np.median(np.diff(self.seconds))) if len(self.seconds) > 1 else 1.0

    @cached_property
    def durations(self) -> np.ndarray:
        """Return the seconds that each frame stands for, (frames,): until the next one, or a step before a gap."""
        steps = np.append(np.diff(self.seconds), self.step)
        return np.where(steps > _GAP * self.step, self.step, steps)

    @property
    def start(self) -> float:
        """Return the time of the first frame in seconds."""
        return float(self.seconds[0])

    @property
    def stop(self) -> float:
        """Return the end of the last frame in seconds."""
        return float(self.seconds[-1] + self.durations[-1])

    @property
    def length(self) -> float:
        """Return the length of the recording in seconds."""
        return max(self.stop, self.recorded or 0.0)

    @cached_property
    def gaps(self) -> list[tuple[float, float]]:
        """Return beginning and end in seconds of the times without frames."""
        ends = self.seconds + self.durations
        return [
            (float(end), float(start))
            for end, start in zip(ends[:-1], self.seconds[1:], strict=True)
            if start - end > 0.01 * self.step
        ]

    def stretches(self, values: np.ndarray) -> list[Stretch]:
        """Return the runs of equal values (frames,) of this video; a gap ends a run, and negative values belong to none."""
        ends = self.seconds + self.durations
        breaks = (values[1:] != values[:-1]) | (self.seconds[1:] - ends[:-1] > 0.01 * self.step)
        edges = [0, *(np.flatnonzero(breaks) + 1).tolist(), len(values)]
        return [
            Stretch(float(self.seconds[a]), float(ends[b - 1]), int(values[a]))
            for a, b in pairwise(edges)
            if values[a] >= 0
        ]


@dataclass(frozen=True, eq=False)
class LabelTable:
    """The videos and label columns of a frame set.

    Args:
        videos: videos in the order of the frame set.
        columns: label columns in their order.
    """

    videos: tuple[VideoRows, ...]
    columns: tuple[LabelColumn, ...]

    @classmethod
    def read(
        cls,
        frames: Dataset,
        lengths: Mapping[str, float] | None = None,
        names: Mapping[str, tuple[str, ...]] | None = None,
    ) -> "LabelTable":
        """Read the labels of a frame set.

        Args:
            frames: frame set.
            lengths: seconds of the recordings by the id of the video, where they are known.
            names: names of the numbers in columns of numbers, where they are known.

        Raises:
            InputError: it has no frames.
        """
        if not len(frames):
            raise InputError("the frame set has no frames")
        labels = [name for name in frames.column_names if name not in _BASE_COLUMNS]
        content = frames.select_columns(["source", "video_id", "timestamp", *labels]).with_format("arrow")[:]
        sources, ids = (np.array(content[name].to_pylist(), dtype=object) for name in ("source", "video_id"))
        seconds = content["timestamp"].to_numpy().astype(np.float64)
        many_sources = len(set(sources)) > 1
        starts = np.flatnonzero(np.r_[True, (ids[1:] != ids[:-1]) | (sources[1:] != sources[:-1])])
        videos = []
        for start, stop in pairwise([*starts.tolist(), len(ids)]):
            name = f"{sources[start]}/{ids[start]}" if many_sources else str(ids[start])
            recorded = (lengths or {}).get(str(ids[start]))
            videos.append(VideoRows(name, np.arange(start, stop), seconds[start:stop], recorded))
        columns = tuple(_column(frames, name, content[name].to_pylist(), (names or {}).get(name)) for name in labels)
        return cls(tuple(videos), columns)


def _column(frames: Dataset, name: str, cells: list[object], names: tuple[str, ...] | None) -> LabelColumn:
    """Return the labels of one column."""
    feature = frames.features[name]
    labeled = np.array([cell is not None for cell in cells])
    if isinstance(feature, ClassLabel):
        values = np.array([-1 if cell is None else cell for cell in cells], np.int64)
        return LabelColumn(name, "class", tuple(feature.names), values, labeled)
    inner = getattr(feature, "feature", None)
    lists: list[list[float]] = [list(cell) if isinstance(cell, list | tuple) else [] for cell in cells]
    if isinstance(inner, ClassLabel):
        members = np.zeros((len(cells), len(inner.names)), bool)
        for row, entries in enumerate(lists):
            members[row, [int(number) for number in entries]] = True
        return LabelColumn(name, "classes", tuple(inner.names), members, labeled)
    width = max(map(len, lists), default=0)
    numbers = np.full((len(cells), width), np.nan, np.float32)
    for row, entries in enumerate(lists):
        numbers[row, : len(entries)] = entries
    known = names if names and len(names) == width else tuple(f"{name} {number}" for number in range(width))
    return LabelColumn(name, "numbers", known, numbers, labeled)
