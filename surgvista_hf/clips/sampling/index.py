"""Index of the videos of a frame set: where each begins and ends, as arrays over videos, with nothing per frame.

A frame set of a whole corpus (3.5 million rows) is opened in a second or two and takes kilobytes for each thousand videos.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...util.errors import InputError

KEY_COLUMNS = ("source", "video_id", "frame_index")
_ROWS_AT_ONCE = 1 << 17


class FrameSetError(InputError):
    """A data set is not a frame set: columns are missing, or rows are not sorted, consecutive or complete."""


@dataclass(frozen=True)
class ClipIndex:
    """The videos of a frame set, in the order of their rows.

    Args:
        starts: (videos,) int64, the first row of each video.
        lengths: (videos,) int64, the number of frames of each video.
        video_ids: (videos,) strings.
        sources: (videos,) int32, indices into `source_names`.
        source_names: names of the data sets that the videos come from, in the order of the rows.

    Example:
        >>> index = ClipIndex.from_frame_set(frame_set)  # doctest: +SKIP
        >>> index.locate(4711)  # doctest: +SKIP
        (2, 130)
    """

    starts: np.ndarray
    lengths: np.ndarray
    video_ids: np.ndarray
    sources: np.ndarray
    source_names: tuple[str, ...]

    @classmethod
    def from_frame_set(cls, frame_set: datasets.Dataset) -> "ClipIndex":
        """Read the key columns once and check them.

        Args:
            frame_set: rows sorted by (video_id, frame_index); frame sets of different sources may follow each other
                (`datasets.concatenate_datasets`).

        Returns:
            The index.

        Raises:
            FrameSetError: if a column is missing, there are no rows, or a video is unsorted, incomplete or scattered.
        """
        check_columns(frame_set, KEY_COLUMNS)
        if not len(frame_set):
            raise FrameSetError("the frame set has no rows")
        starts, names, ids, first_frames = [], [], [], []
        last: tuple[str, str, int] | None = None
        for offset, source, video, frame in _key_batches(frame_set):
            first = _first_rows(source, video, frame, last, offset)
            starts.append(first + offset)
            names += source.take(first).to_pylist()
            ids += video.take(first).to_pylist()
            first_frames.append(frame[first])
            last = (source[-1].as_py(), video[-1].as_py(), int(frame[-1]))
        _check_starts(np.concatenate(first_frames), ids)
        _check_order(names, ids)
        source_names = tuple(dict.fromkeys(names))
        begin = np.concatenate(starts)
        code = {name: number for number, name in enumerate(source_names)}
        return cls(
            starts=begin,
            lengths=np.diff(begin, append=len(frame_set)),
            video_ids=np.array(ids),
            sources=np.array([code[name] for name in names], np.int32),
            source_names=source_names,
        )

    @property
    def num_rows(self) -> int:
        """Return the number of frames of all videos."""
        return int(self.starts[-1] + self.lengths[-1])

    def locate(self, row: int) -> tuple[int, int]:
        """Return the index of the video that a row belongs to, and the index of the frame in this video.

        Raises:
            InputError: if there is no such row.
        """
        if not 0 <= row < self.num_rows:
            raise InputError(f"row {row} is not in a frame set of {self.num_rows} rows")
        video = int(np.searchsorted(self.starts, row, side="right")) - 1
        return video, int(row - self.starts[video])


def check_columns(frame_set: datasets.Dataset, needed: tuple[str, ...]) -> None:
    """Raise `FrameSetError` unless the frame set has these columns."""
    missing = [name for name in needed if name not in frame_set.column_names]
    if missing:
        raise FrameSetError(f"the data set has the columns {frame_set.column_names}; a frame set needs also {missing}")


def column_batches(frame_set: datasets.Dataset, columns: tuple[str, ...]) -> Iterator[tuple[int, pa.Table]]:
    """Yield consecutive parts of some columns as (first row, Arrow table), without reading other columns."""
    if frame_set._indices is None:
        # The columns as they are stored: choosing them through the data set would copy the description of every file.
        table = frame_set.data.table.select(list(columns))
        for offset in range(0, len(frame_set), _ROWS_AT_ONCE):
            yield offset, table.slice(offset, _ROWS_AT_ONCE)
        return
    selected: Any = frame_set.with_format("arrow", columns=list(columns))
    for offset in range(0, len(frame_set), _ROWS_AT_ONCE):
        yield offset, selected[offset : offset + _ROWS_AT_ONCE]


def _key_batches(frame_set: datasets.Dataset) -> Iterator[tuple[int, pa.Array, pa.Array, np.ndarray]]:
    for offset, table in column_batches(frame_set, KEY_COLUMNS):
        for name in KEY_COLUMNS:
            if table[name].null_count:
                raise FrameSetError(f"the column {name} has empty cells from row {offset} on; every frame needs one")
        source, video, frame = (table[name].combine_chunks() for name in KEY_COLUMNS)
        yield offset, _as_strings(source), _as_strings(video), frame.to_numpy(zero_copy_only=False).astype(np.int64)


def _as_strings(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _first_rows(
    source: pa.Array, video: pa.Array, frame: np.ndarray, last: tuple[str, str, int] | None, offset: int
) -> np.ndarray:
    """Return the rows of this part at which a video begins; `last` are the keys of the row before it."""
    changed = pc.or_(pc.not_equal(source[1:], source[:-1]), pc.not_equal(video[1:], video[:-1]))
    goes_on = last is not None and (source[0].as_py(), video[0].as_py()) == last[:2]
    first = np.concatenate([[not goes_on], changed.to_numpy(zero_copy_only=False)]).astype(bool)
    before = np.concatenate([[last[2] if last else -1], frame[:-1]])
    wrong = np.flatnonzero(~first & (frame != before + 1))
    if len(wrong):
        row = int(wrong[0])
        raise FrameSetError(
            f"row {offset + row}: frame_index {frame[row]} of video {video[row]} follows {before[row]}; frames must be "
            "sorted and consecutive. Take whole videos out of a frame set, not single frames"
        )
    return np.flatnonzero(first)


def _check_starts(first_frames: np.ndarray, ids: list[str]) -> None:
    wrong = np.flatnonzero(first_frames)
    if len(wrong):
        video = int(wrong[0])
        raise FrameSetError(f"video {ids[video]} begins with frame_index {first_frames[video]}; it must begin with 0")


def _check_order(names: list[str], ids: list[str]) -> None:
    """Check that the videos of a source are consecutive, and that none occurs twice."""
    finished: set[str] = set()
    seen: set[tuple[str, str]] = set()
    for number, (name, video) in enumerate(zip(names, ids, strict=True)):
        if number and name != names[number - 1]:
            finished.add(names[number - 1])
        if name in finished:
            raise FrameSetError(f"the videos of {name} do not stand together; concatenate whole frame sets")
        if (name, video) in seen:
            raise FrameSetError(
                f"video {video} of {name} comes twice; take it from one frame set only, or prepare frame sets of different "
                "recordings under names of their own (--set source=NAME)"
            )
        seen.add((name, video))
