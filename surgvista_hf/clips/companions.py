"""Single frames with companions: frames just before and after, and similar frames of other videos (LEMON, arXiv 2503.19740).

Every frame has four possible companions; a sample contains two of them.
"""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar, Unpack

import datasets
import numpy as np
import torch

from ..util.errors import InputError
from ..util.messages import preview
from .dataset import ClipDataset, ClipItem, ClipOptions
from .sampling.index import ClipIndex
from .sampling.randomness import keyed_generator
from .sampling.timeline import frame_times

NUM_COMPANIONS, NUM_CHOSEN = 4, 2
SECONDS = (-2.0, -1.0, 1.0, 2.0)
_FIRST_NEIGHBOR = 2  # entry 0 is the frame itself or the one before; its distance sets the scale
_NEAR = 3.0  # a neighbor is nearer than this many times that distance
_Frame = TypeVar("_Frame")


def four_companions(present: Sequence[_Frame], own: _Frame) -> list[_Frame]:
    """Fill up the companions that exist to four, by repeating them.

    Args:
        present: up to four frames.
        own: the frame itself, which replaces the companions if none exists.

    Returns:
        Four frames.

    Example:
        >>> [four_companions("abcd"[:count], "x") for count in range(4)]  # doctest: +NORMALIZE_WHITESPACE
        [['x', 'x', 'x', 'x'], ['a', 'a', 'a', 'a'], ['a', 'b', 'a', 'b'], ['a', 'b', 'c', 'b']]
    """
    frames = list(present) or [own]
    return (frames + (frames if len(frames) < 3 else [frames[1]]) * NUM_COMPANIONS)[:NUM_COMPANIONS]


def near_neighbors(distances: Sequence[float]) -> list[int]:
    """Choose which retrieved frames are accepted: from the third on, those nearer than three times the first distance.

    Args:
        distances: distance of each retrieved frame, in the order in which they were retrieved.

    Returns:
        Indices into `distances`, at most four.

    Example:
        >>> near_neighbors([0.1, 0.15, 0.2, 0.31, 0.29])
        [2, 4]
    """
    near = [index for index in range(_FIRST_NEIGHBOR, len(distances)) if distances[index] < _NEAR * distances[0]]
    return near[:NUM_COMPANIONS]


class CompanionDataset(ClipDataset):
    """Frames of a frame set, each with two of its four companions, for self-distillation.

    A companion is the frame of the same video whose time is nearest to `seconds` away, if one is nearer than half the
    smallest step between them. With `neighbors`, retrieved frames come first, and frames near in time fill up.
    The published program counts stored frames instead of seconds, so that its companions are 1/30 s away in videos stored at
    full rate.

    Args:
        frame_set: frame set as for `ClipDataset`.
        num_frames: must be 1.
        seconds: four different distances in time, in seconds; negative ones are before the frame.
        neighbors: JSON file, `{frame: [[frame, distance], …]}` with frames as `<video id>_<frame index>`, or with
            `<source>/` before where two or more sources have a video of that id. The first entry sets the scale: from the
            third on, neighbors nearer than three times its distance are companions.
        options: further options of `ClipDataset`.

    Raises:
        FrameSetError: if times are missing or do not ascend.
        InputError: if the number of frames or of companions is another, or the file has another form or names frames that
            are not in the frame set.

    An item is that of a `ClipDataset`, but `pixel_values` is a list of three images (3, height, width) uint8, the frame and
    its two companions, which may differ in size.

    Example:
        >>> frames = CompanionDataset(load_frame_set("cholec80", "frame_sets/cholec80"))  # doctest: +SKIP
    """

    def __init__(
        self,
        frame_set: datasets.Dataset,
        *,
        num_frames: int = 1,
        seconds: Sequence[float] = SECONDS,
        neighbors: str | Path | None = None,
        **options: Unpack[ClipOptions],
    ) -> None:
        if num_frames != 1:
            raise InputError(f"companions are of single frames; num_frames is {num_frames}")
        steps = np.diff(np.sort([*seconds, 0.0]))
        if len(seconds) != NUM_COMPANIONS or steps.min() <= 0:
            raise InputError(
                f"a frame has four companions at different distances in time; got {tuple(seconds)} seconds"
            )
        super().__init__(frame_set, num_frames=1, **options)
        self.seconds, self._reach = tuple(seconds), float(steps.min()) / 2 + 1e-3  # times are fp32
        self._times = frame_times(frame_set, self.clip_index, distinct=True)
        self._neighbors = read_neighbors(neighbors, self.clip_index) if neighbors else None

    def companions(self, row: int) -> list[int]:
        """Return the rows of the four companions of a frame, which is given as a row of the frame set."""
        in_time = four_companions(self._in_time(row), row)
        retrieved = [] if self._neighbors is None else [int(near) for near in self._neighbors[row] if near >= 0]
        return (retrieved + in_time)[:NUM_COMPANIONS]

    def _in_time(self, row: int) -> list[int]:
        """Return the rows of the frames that are `seconds` away, where there are any."""
        video, _ = self.clip_index.locate(row)
        start = int(self.clip_index.starts[video])
        times = self._times[start : start + int(self.clip_index.lengths[video])]
        found: list[int] = []
        for seconds in self.seconds:
            wanted = float(self._times[row]) + seconds
            after = int(np.searchsorted(times, wanted))
            near = min(
                (frame for frame in (after - 1, after) if 0 <= frame < len(times)), key=_distance(times, wanted)
            )
            if abs(times[near] - wanted) <= self._reach and start + near not in (row, *found):
                found.append(start + near)
        return found

    def _item(self, index: int, number: int) -> ClipItem:
        item = super()._item(index, number)
        row, own = int(self._rows[index]), item["pixel_values"][0]
        chosen = keyed_generator(self.seed, item["epoch"], item["key"], "companions").permutation(NUM_COMPANIONS)
        near = self.companions(row)
        rows = [near[companion] for companion in chosen[:NUM_CHOSEN]]
        return {**item, "pixel_values": [own, *(own if other == row else self._image(other) for other in rows)]}

    def _image(self, row: int) -> torch.Tensor:
        video, frame = self.clip_index.locate(row)
        return self._read(video, [frame])[0]


def read_neighbors(path: str | Path, index: ClipIndex) -> np.ndarray:
    """Read and check a file of retrieved frames.

    Args:
        path: JSON file, in the form that `CompanionDataset` describes.
        index: index of the frame set.

    Returns:
        (rows, 4) int32, rows of the accepted neighbors of each frame; -1 where there are fewer than four.

    Raises:
        InputError: if the file cannot be read, has another form, or names frames that are not in the frame set.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"the neighbors {path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no mapping from frames to lists of [frame, distance]")
    rows = _Rows(index)
    accepted = np.full((index.num_rows, NUM_COMPANIONS), -1, np.int32)
    for name, entries in content.items():
        _check_entries(path, name, entries)
        row = rows.find(name)
        found = [rows.find(entries[entry][0]) for entry in near_neighbors([distance for _, distance in entries])]
        near = [other for other in found if other is not None]
        if row is not None:
            accepted[row, : len(near)] = near
    if rows.unknown:
        raise InputError(
            f"{path} names frames that are not in the corpus: {preview(sorted(rows.unknown))}. Frames are written as "
            "<video id>_<frame index>, with <source>/ before it where several sources have a video of that id"
        )
    return accepted


class _Rows:
    """Finder of rows by the names of their frames, which collects the names that it does not find."""

    def __init__(self, index: ClipIndex) -> None:
        self.index = index
        self.unknown: set[str] = set()
        self._videos: dict[str, int | None] = {}
        for video, name in enumerate(map(str, index.video_ids)):
            self._videos[name] = None if name in self._videos else video  # an id of several sources is no name
            self._videos[f"{index.source_names[index.sources[video]]}/{name}"] = video

    def find(self, name: str) -> int | None:
        """Return the row of a frame, or `None` and remember the name in `unknown`."""
        video_id, _, number = name.rpartition("_")
        video = self._videos.get(video_id)
        if video is None or not number.isdecimal() or int(number) >= self.index.lengths[video]:
            self.unknown.add(name)
            return None
        return int(self.index.starts[video]) + int(number)


def _check_entries(path: str | Path, name: str, entries: object) -> None:
    sound = isinstance(entries, list) and all(
        isinstance(entry, list)
        and len(entry) == 2
        and isinstance(entry[0], str)
        and isinstance(entry[1], int | float)
        and math.isfinite(entry[1])
        and entry[1] >= 0
        for entry in entries
    )
    if not sound or not entries:
        raise InputError(f"{path}: the neighbors of {name!r} must be a list of at least one [frame, distance]")


def _distance(times: np.ndarray, wanted: float) -> Callable[[int], float]:
    return lambda frame: abs(times[frame] - wanted)
