"""Labels over time. Annotations come as rows per frame, as intervals or for a whole clip; pictures ask by the second."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Row = Mapping[str, Any]  # label column -> value; None where the frame has none


class Track(Protocol):
    """Labels of one video."""

    @property
    def exact(self) -> bool:
        """Whether pictures and labels must cover the same time."""

    def at(self, second: float, rate: float) -> Row | None:
        """The labels at a time, `None` beyond the labeled part.

        Args:
            second: from the start of the video.
            rate: source frames a second, for tracks that count source frames.
        """

    def end(self, rate: float) -> float:
        """Seconds after the start at which the labeled part is over."""

    def latest(self, rate: float) -> float:
        """Return the latest second that the labels name, as a beginning or an end; 0 where they name none.

        Labels that belong to another, longer video name one beyond the end of this one.
        """


@dataclass(frozen=True)
class RowTrack:
    """Rows at a fixed rate.

    Args:
        rows: by number; a sequence counts from 0.
        rate: rows a second; `None`: one per source frame of the video.
        exact: whether pictures and labels must cover the same time.
    """

    rows: Sequence[Row] | Mapping[int, Row]
    rate: float | None = None
    exact: bool = True

    def at(self, second: float, rate: float) -> Row | None:
        # A row holds until the next one begins. Time stamps are rounded, so a frame may begin a little before its row.
        number = math.floor(second * (self.rate or rate) + 0.1)
        if isinstance(self.rows, Mapping):
            return self.rows.get(number)
        return self.rows[number] if number < len(self.rows) else None

    def end(self, rate: float) -> float:
        last = max(self.rows, default=-1) + 1 if isinstance(self.rows, Mapping) else len(self.rows)
        return last / (self.rate or rate)

    def latest(self, rate: float) -> float:
        return self.end(rate)


@dataclass(frozen=True)
class Interval:
    """Labels from `start` to before `stop`, in units of their track."""

    start: float
    stop: float
    row: Row


@dataclass(frozen=True)
class IntervalTrack:
    """Intervals; where several hold at a time, their columns are merged and the last of the sequence wins.

    Args:
        intervals: in order of rising importance.
        exact: whether pictures and labels must cover the same time.
        rate: units a second in which the intervals are given: 1 for seconds; `None`: source frames of the video.
    """

    intervals: Sequence[Interval]
    exact: bool = False
    rate: float | None = 1.0

    def at(self, second: float, rate: float) -> Row | None:
        # Time stamps are rounded, so a frame may begin a little before its label.
        position, early = (second * self.rate, 1e-3 * self.rate) if self.rate else (second * rate, 0.1)
        row: dict[str, Any] = {}
        for interval in self.intervals:
            if interval.start - early <= position < interval.stop - early:
                row.update(interval.row)
        return row or None

    def end(self, rate: float) -> float:
        return max((interval.stop for interval in self.intervals), default=0.0) / (self.rate or rate)

    def latest(self, rate: float) -> float:
        ends = [end for interval in self.intervals for end in (interval.start, interval.stop) if end < math.inf]
        return max(ends, default=0.0) / (self.rate or rate)


@dataclass(frozen=True)
class ConstantTrack:
    """The same labels throughout: clips, and videos labeled as a whole."""

    row: Row = field(default_factory=dict)
    exact: bool = False

    def at(self, second: float, rate: float) -> Row | None:
        return self.row

    def end(self, rate: float) -> float:
        return math.inf

    def latest(self, rate: float) -> float:
        return 0.0
