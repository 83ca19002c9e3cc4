"""Labels over time: rows per frame, intervals, or one row for a whole clip, all of which are looked up by the second."""

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

Row = Mapping[str, Any]  # label column -> value; None where the frame has none


class Track(Protocol):
    """The labels of one video over time."""

    @property
    def exact(self) -> bool:
        """Return whether video and labels must cover the same time."""

    def at(self, second: float, rate: float) -> Row | None:
        """Return the labels at a time, `None` outside the labeled part.

        Args:
            second: time from the start of the video.
            rate: source frames per second, for tracks that count source frames.
        """

    def end(self, rate: float) -> float:
        """Return the second at which the labeled part ends."""

    def latest(self, rate: float) -> float:
        """Return the latest second that the labels name, as a beginning or an end; 0 where they name none.

        Labels that belong to another, longer video name a second after the end of this one.
        """


@dataclass(frozen=True)
class RowTrack:
    """Labels as rows at a fixed rate.

    Args:
        rows: the rows, by number; a sequence counts from 0.
        rate: rows per second. `None` means one row per source frame of the video.
        exact: `True` if video and labels must cover the same time.

    Example:
        >>> track = RowTrack([{"phase": 0}, {"phase": 1}], rate=1.0)
        >>> track.at(1.5, rate=25.0), track.end(rate=25.0)
        ({'phase': 1}, 2.0)
    """

    rows: Sequence[Row] | Mapping[int, Row]
    rate: float | None = None
    exact: bool = True

    def at(self, second: float, rate: float) -> Row | None:
        """Return the row that holds at a time."""
        # A row holds until the next one begins. Time stamps are rounded, so a frame may begin a little before its row.
        number = math.floor(second * (self.rate or rate) + 0.1)
        if isinstance(self.rows, Mapping):
            return self.rows.get(number)
        return self.rows[number] if number < len(self.rows) else None

    def end(self, rate: float) -> float:
        """Return the second at which the last row ends."""
        last = max(self.rows, default=-1) + 1 if isinstance(self.rows, Mapping) else len(self.rows)
        return last / (self.rate or rate)

    def latest(self, rate: float) -> float:
        """Return the second at which the last row ends."""
        return self.end(rate)


@dataclass(frozen=True)
class Interval:
    """Labels that hold from `start` until before `stop`, in the unit of their track."""

    start: float
    stop: float
    row: Row


@dataclass(frozen=True)
class IntervalTrack:
    """Labels as intervals. Where several hold at a time, their columns are merged and the last interval wins.

    Args:
        intervals: the intervals, in the order of rising importance.
        exact: `True` if video and labels must cover the same time.
        rate: units per second of the times: 1 for seconds. `None` means source frames of the video.
    """

    intervals: Sequence[Interval]
    exact: bool = False
    rate: float | None = 1.0

    def at(self, second: float, rate: float) -> Row | None:
        """Return the merged columns of the intervals that hold at a time."""
        # Time stamps are rounded, so a frame may begin a little before its label.
        position, early = (second * self.rate, 1e-3 * self.rate) if self.rate else (second * rate, 0.1)
        row: dict[str, Any] = {}
        for interval in self.intervals:
            if interval.start - early <= position < interval.stop - early:
                row.update(interval.row)
        return row or None

    def end(self, rate: float) -> float:
        """Return the second at which the last interval ends."""
        return max((interval.stop for interval in self.intervals), default=0.0) / (self.rate or rate)

    def latest(self, rate: float) -> float:
        """Return the latest second at which an interval starts or ends, infinity left out."""
        ends = [end for interval in self.intervals for end in (interval.start, interval.stop) if end < math.inf]
        return max(ends, default=0.0) / (self.rate or rate)


@dataclass(frozen=True)
class SortedIntervalTrack(IntervalTrack):
    """Labels as intervals in the order of time, no two of which overlap; found quickly also if there are thousands."""

    @cached_property
    def _starts(self) -> list[float]:
        return [interval.start for interval in self.intervals]

    def at(self, second: float, rate: float) -> Row | None:
        """Return the columns of the interval that holds at a time."""
        position, early = (second * self.rate, 1e-3 * self.rate) if self.rate else (second * rate, 0.1)
        number = bisect.bisect_right(self._starts, position + early) - 1
        if number < 0 or position >= self.intervals[number].stop - early:
            return None
        return self.intervals[number].row


@dataclass(frozen=True)
class ConstantTrack:
    """Labels that hold throughout: those of clips, and of videos labeled as a whole."""

    row: Row = field(default_factory=dict)
    exact: bool = False

    def at(self, second: float, rate: float) -> Row | None:
        """Return the labels, whatever the time."""
        return self.row

    def end(self, rate: float) -> float:
        """Return infinity: the labels never end."""
        return math.inf

    def latest(self, rate: float) -> float:
        """Return 0: the labels name no time."""
        return 0.0
