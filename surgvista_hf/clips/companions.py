"""Single frames with companions: frames just before and after, and similar frames of other videos (LEMON, arXiv 2503.19740).

A frame has four possible companions, of which a sample brings two.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import datasets
import numpy as np

from ..util.errors import InputError
from ..util.messages import preview
from .dataset import ClipDataset
from .sampling.index import ClipIndex
from .sampling.randomness import keyed_generator
from .sampling.timeline import frame_times

NUM_COMPANIONS, NUM_CHOSEN = 4, 2
SECONDS = (-2.0, -1.0, 1.0, 2.0)
_FIRST_NEIGHBOR = 2  # entry 0 is the frame itself or the one before; its distance is the measure
_NEAR = 3.0  # neighbors are nearer than so many times that distance
_Frame = TypeVar("_Frame")


def four_companions(present: Sequence[_Frame], own: _Frame) -> list[_Frame]:
    """Four companions from those that are there.

    Args:
        present: up to four frames.
        own: stands in where there is none.

    Returns:
        Four frames.

    Example:
        >>> [four_companions("abcd"[:count], "x") for count in range(4)]  # doctest: +NORMALIZE_WHITESPACE
        [['x', 'x', 'x', 'x'], ['a', 'a', 'a', 'a'], ['a', 'b', 'a', 'b'], ['a', 'b', 'c', 'b']]
    """
    frames = list(present) or [own]
    return (frames + (frames if len(frames) < 3 else [frames[1]]) * NUM_COMPANIONS)[:NUM_COMPANIONS]


def near_neighbors(distances: Sequence[float]) -> list[int]:
    """Which entries of a list of retrieved frames are accepted: from the third on, nearer than three times the first.

    Example:
        >>> near_neighbors([0.1, 0.15, 0.2, 0.31, 0.29])
        [2, 4]
    """
    return [place for place in range(_FIRST_NEIGHBOR, len(distances)) if distances[place] < _NEAR * distances[0]][
        :NUM_COMPANIONS
    ]


class CompanionDataset(ClipDataset):
    """Frames of a frame set, each with two of its four companions: what self-distillation learns from.

    A companion is the frame of the same video whose time is nearest to `seconds` away, if one is nearer than half the
    smallest step between them. With `neighbors`, retrieved frames come first, and those in time fill up.
    The published program counts stored frames instead of seconds, so that its companions are 1/30 s away in videos stored at
    full rate.

    Args:
        frame_set: see `ClipDataset`.
        num_frames: 1.
        seconds: four distances in time.
        neighbors: JSON file, `{frame: [[frame, distance], …]}` with frames as `<video id>_<frame index>`, or with
            `<source>/` before where several sources have a video of that id. The first entry is the measure: from the third
            on, neighbors nearer than three times its distance are companions.
        options: see `ClipDataset`.

    Raises:
        FrameSetError: times that are missing or do not ascend.
        InputError: another number of frames or of companions, or a file that is not of that form or names other frames.

    An item is that of a `ClipDataset`, but `pixel_values` is a list of three pictures (3, height, width) uint8, the frame and
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
        **options: Any,
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
        """Rows of the four companions of a frame, itself given as a row of the frame set."""
        in_time = four_companions(self._in_time(row), row)
        retrieved = [] if self._neighbors is None else [int(near) for near in self._neighbors[row] if near >= 0]
        return (retrieved + in_time)[:NUM_COMPANIONS]

    def _in_time(self, row: int) -> list[int]:
        """Rows of the frames so many seconds away, where there are any."""
        video, _ = self.clip_index.locate(row)
        start = int(self.clip_index.starts[video])
        times = self._times[start : start + int(self.clip_index.lengths[video])]
        found: list[int] = []
        for seconds in self.seconds:
            wanted = float(self._times[row]) + seconds
            after = int(np.searchsorted(times, wanted))
            near = min(
                (place for place in (after - 1, after) if 0 <= place < len(times)), key=_distance(times, wanted)
            )
            if abs(times[near] - wanted) <= self._reach and start + near not in (row, *found):
                found.append(start + near)
        return found

    def _item(self, index: int, number: int) -> dict[str, Any]:
        item = super()._item(index, number)
        row, own = int(self._rows[index]), item["pixel_values"][0]
        chosen = keyed_generator(self.seed, item["epoch"], item["key"], "companions").permutation(NUM_COMPANIONS)
        near = self.companions(row)
        rows = [near[place] for place in chosen[:NUM_CHOSEN]]
        return {**item, "pixel_values": [own, *(own if other == row else self._picture(other) for other in rows)]}

    def _picture(self, row: int) -> Any:
        video, frame = self.clip_index.locate(row)
        return self._read(video, [frame])[0]


def read_neighbors(path: str | Path, index: ClipIndex) -> np.ndarray:
    """Read and checks a file of retrieved frames.

    Args:
        path: see `CompanionDataset`.
        index: of the frame set.

    Returns:
        (rows, 4) int32, rows of the accepted neighbors of each frame; -1 where there are fewer.

    Raises:
        InputError: the file cannot be read, is not of that form, or names frames that are not there.
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
        row = rows.of(name)
        found = [rows.of(entries[place][0]) for place in near_neighbors([distance for _, distance in entries])]
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
    """Finds the rows of frames by their names, and remembers what it does not find."""

    def __init__(self, index: ClipIndex) -> None:
        self.index = index
        self.unknown: set[str] = set()
        self._videos: dict[str, int | None] = {}
        for video, name in enumerate(map(str, index.video_ids)):
            self._videos[name] = None if name in self._videos else video  # an id of several sources is no name
            self._videos[f"{index.source_names[index.sources[video]]}/{name}"] = video

    def of(self, name: str) -> int | None:
        """The row, or `None`."""
        video_id, _, number = name.rpartition("_")
        video = self._videos.get(video_id)
        if video is None or not number.isdecimal() or int(number) >= self.index.lengths[video]:
            self.unknown.add(name)
            return None
        return int(self.index.starts[video]) + int(number)


def _check_entries(path: str | Path, name: str, entries: Any) -> None:
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


def _distance(times: np.ndarray, wanted: float) -> Any:
    return lambda place: abs(times[place] - wanted)
