"""Several stages of one video in one decode, with the results that the stages alone would write.

Frames are decoded once, in order, and go to every stage that needs them: the hashes take all of them, the classifier one a
second, and the detector of regions those seconds that are surgical and certain to lie inside the operation. Only numbers are
kept of what was seen. Where an operation begins is known as soon as its first run of surgical seconds is over, and that a
second belongs to it as soon as a later run is over; until then its frame waits. Few frames ever wait, and where more would,
the regions of the video are left to the stage alone, as is everything of a video that cannot be decoded.

Batches are the same as those of the stages alone, so the results are equal to the byte.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...modeling.errors_surgvista import VideoReadError
from ...util.batches import batched
from ..collection.manifest import Collection, JsonObject, Video
from ..collection.overrides import Override, corrected
from ..collection.results import Result, can_be_kept, read_result, write_result
from .seconds import HASHES_PER_SECOND, frames_by_second, hashes_and_seconds, trim
from .video_work import Moment, RegionSearch, SurgicalSearch, Task, as_flags, hash_result, kept_part, run_task

DECODING = ("classify-frames", "hash", "mask")  # stages that look at all seconds, and so can share a decode
_WAITING_BATCHES = 2  # batches of frames that may wait until it is certain that they belong to the operation


@dataclass(frozen=True)
class PassTask:
    """The work of several stages on one video, which is sent to other processes.

    Args:
        video: record of the video.
        tasks: work of each stage, by name and in order. It reads the results that the ones before have written.
        decided: all overrides about the video.
    """

    video: Video
    tasks: Mapping[str, Task]
    decided: tuple[Override, ...] = ()

    @property
    def collection(self) -> Collection:
        """Return the collection of the video."""
        return Collection(self._any.collection)

    @property
    def path(self) -> Path:
        """Return the path of the video's file."""
        return self._any.path

    @property
    def batch_size(self) -> int:
        """Return the number of frames at once."""
        return self._any.options.batch_size

    def before(self, stage: str) -> JsonObject:
        """Return the values that an earlier stage found."""
        return self._any.before(stage)

    @property
    def _any(self) -> Task:
        return next(iter(self.tasks.values()))


def early(stage: str) -> str:
    """Return the name under which a result waits until the stages before have run on all videos."""
    return f"{stage}-early"


def run_pass(task: PassTask) -> Video:
    """Do the work of several stages on a video and write their results.

    A video that cannot be decoded gets no result from here: its stages tell so when they run alone.

    Args:
        task: the work; at least two of the stages in `DECODING`.

    Returns:
        The video.
    """
    is_classified = "classify-frames" not in task.tasks
    decided_without_decode = ["classify-videos", "trim"] if is_classified else ["classify-videos"]
    if all(_goes_on(task, stage) for stage in decided_without_decode):
        try:
            if is_classified:
                _search_part(task)
            else:
                _search_whole(task)
        except VideoReadError:
            pass  # what is damaged may be needed by only one of the stages
    return task.video


def _goes_on(task: PassTask, stage: str) -> bool:
    """Run a stage, if it is part of the work, and return whether the video goes on to the ones after it."""
    if stage not in task.tasks:
        return True
    run_task(task.tasks[stage])
    result = read_result(task.collection, stage, task.video.video_id)
    assert result is not None  # it was just written
    return result.kept or can_be_kept(result, task.decided)


def _search_part(task: PassTask) -> None:
    """Find hashes and regions of an operation of which beginning and end are known."""
    trimmed = task.before("trim")
    first, last, flags = trimmed["first"], trimmed["last"], as_flags(trimmed["surgical"])
    hashes: list[int] = []
    regions = RegionSearch(task.tasks["mask"])
    seconds = _whole_seconds(task.path, hashes, start=float(first), end=float(last + 1))
    for batch in batched((each for each in seconds if flags[each[0]]), task.batch_size):
        regions.add(batch)
    _write(task, "hash", hash_result(task.tasks["hash"], np.array(hashes, np.uint64)))
    _write(task, early("mask"), regions.result())


def _search_whole(task: PassTask) -> None:
    """Classify all seconds, and find hashes and regions of the operation while it becomes known."""
    hashes: list[int] | None = [] if "hash" in task.tasks else None
    surgical = SurgicalSearch(task.tasks["classify-frames"])
    regions = _WaitingRegions(task.tasks["mask"], task.decided) if "mask" in task.tasks else None
    for batch in batched(_whole_seconds(task.path, hashes), task.batch_size):
        surgical.add([frame for _, frame in batch])
        if regions is not None:
            regions.add(batch, as_flags(surgical.flags))
    _write(task, "classify-frames", surgical.result())
    if not _goes_on(task, "trim"):
        return
    trimmed = task.before("trim")
    if hashes is not None:
        part = slice(HASHES_PER_SECOND * trimmed["first"], HASHES_PER_SECOND * (trimmed["last"] + 1))
        _write(task, "hash", hash_result(task.tasks["hash"], np.array(hashes[part], np.uint64)))
    if regions is not None and (found := regions.result(trimmed)) is not None:
        _write(task, early("mask"), found)


def _whole_seconds(
    path: Path, hashes: list[int] | None, *, start: float = 0.0, end: float | None = None
) -> Iterator[Moment]:
    """Yield the frame of each whole second, and in passing add the hashes of all moments to a list."""
    if hashes is None:
        yield from ((round(second), frame) for second, frame in frames_by_second(path, start=start, end=end))
        return
    for second, found, frame in hashes_and_seconds(path, start=start, end=end):
        hashes.append(found)
        if frame is not None:
            yield round(second), frame


def _write(task: PassTask, name: str, result: Result) -> None:
    write_result(task.collection, name, task.video.video_id, result)


class _WaitingRegions:
    """Searches surgical seconds for regions as soon as they are certain to lie inside the operation.

    Args:
        task: the work of `mask`.
        decided: all overrides about the video.
    """

    def __init__(self, task: Task, decided: Sequence[Override]) -> None:
        self._search, self._decided = RegionSearch(task), decided
        self._size, self._run = task.options.batch_size, task.options.run
        self._waiting: list[Moment] = []
        self._gave_up = False

    def add(self, batch: Sequence[Moment], flags: np.ndarray) -> None:
        """Take the next seconds.

        Args:
            batch: the seconds with their frames.
            flags: (n,) bool, whether each second of the video so far is surgical, by the models.
        """
        if self._gave_up:
            return
        flags = corrected(flags, self._decided)
        part = self._certain(flags)
        # Before the first run is over, only the seconds that may become one can belong to the operation.
        first = part[0] if part else int(np.flatnonzero(np.r_[True, ~flags])[-1])
        waiting = [*self._waiting, *(each for each in batch if flags[each[0]])]
        self._waiting = [each for each in waiting if each[0] >= first]
        certain = sum(second <= part[1] for second, _ in self._waiting) if part else 0
        for begin in range(0, certain - self._size + 1, self._size):
            self._search.add(self._waiting[begin : begin + self._size])
        del self._waiting[: certain // self._size * self._size]
        if len(self._waiting) > _WAITING_BATCHES * self._size:
            self._waiting, self._gave_up = [], True

    def result(self, trimmed: JsonObject) -> Result | None:
        """Return the result of `mask` for the operation that was found; `None` if other seconds were searched."""
        first, last = trimmed["first"], trimmed["last"]
        for batch in batched((each for each in self._waiting if each[0] <= last), self._size):
            self._search.add(batch)
        wanted = np.flatnonzero(as_flags(trimmed["surgical"])[first : last + 1]) + first
        return self._search.result() if self._search.seconds == wanted.tolist() else None

    def _certain(self, flags: np.ndarray) -> tuple[int, int] | None:
        """Return first and last second of what will belong to the operation, whatever comes."""
        keep = kept_part(self._decided)
        if keep is None or (keep.start is None and keep.end is None):
            return trim(flags, self._run)
        chosen = range(len(flags))[keep.during(len(flags))]
        return (chosen[0], chosen[-1]) if chosen else None
