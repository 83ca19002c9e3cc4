"""Reading phase labels of one's own operations from the files that people and annotation tools write.

A table has a row per time (`second,phase` or `frame,phase`) or a row per interval (`start,end,phase`), as text, CSV or Excel;
ELAN writes intervals on tiers. Times that no row covers have no label: labels may begin late, end early and have gaps.
"""

import csv
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from itertools import pairwise
from pathlib import Path
from statistics import median

from ...util.requirements import require
from .annotation_files import Line, read_text
from .info import AnnotationError
from .label_tracks import Interval, IntervalTrack

SUFFIXES = (".txt", ".csv", ".tsv", ".xlsx", ".eaf")
UNLABELED = frozenset(("", "-1", "nan", "na", "n/a", "null", "none", "unlabeled", "unlabelled", "no label"))

_ROLES = {
    "start": "start begin from onset starttime begintime startsec startsecond startframe startms",
    "stop": "stop end to until offset stoptime endtime stopsec endsec endsecond stopframe endframe endms",
    "duration": "duration length",
    "moment": "second time timestamp sec s t frame frameindex frameno framenumber ms millisecond",
    "label": "phase label name class category value annotation behavior behaviour step event activity",
}
_ROLE_OF = {name: role for role, names in _ROLES.items() for name in names.split()}
_TIERS = ("phase", "phases", "label", "labels", "prediction")
_CLOCK = re.compile(r"^(?:(\d+):)?(\d{1,3}):(\d{1,2}(?:[.,]\d+)?)$")


@dataclass(frozen=True)
class Span:
    """A label that holds from `start` until before `stop`.

    Args:
        line: line of the file, for messages; 0 for files without lines.
        start, stop: times in the unit of the file, see `PhaseSpans.rate`.
        label: text of the label in the file.
    """

    line: int
    start: float
    stop: float
    label: str

    @property
    def is_unlabeled(self) -> bool:
        """Return whether the label is a usual way to write that there is none; a class may still be called so."""
        return self.label.lower() in UNLABELED


@dataclass(frozen=True)
class PhaseSpans:
    """The labels of one file, in the order of time.

    Args:
        path: path of the file.
        spans: labels, including those that say that there is none.
        rate: units per second of their times: 1 for seconds. `None` means source frames of the video.
    """

    path: Path
    spans: tuple[Span, ...]
    rate: float | None

    def track(self, names: Sequence[str], column: str = "phase") -> IntervalTrack:
        """Return the labels as a track.

        Args:
            names: names of the classes. A label is one of them, or its number, counted from 0.
            column: label column of the frame set.

        Raises:
            AnnotationError: a label is neither a name nor a number of a class.
        """
        ids = {name: number for number, name in enumerate(names)}
        ids = {str(number): number for number in range(len(names))} | ids
        known = ", ".join(names)
        intervals = []
        for span in self.spans:
            if span.label not in ids and span.is_unlabeled:
                continue
            if span.label not in ids:
                raise AnnotationError(
                    f"{_where(self.path, span.line)} holds the label {span.label!r}; known are {known}"
                )
            intervals.append(Interval(span.start, span.stop, {column: ids[span.label]}))
        return IntervalTrack(_merged(intervals), rate=self.rate)


def read_phase_file(path: Path, tier: str = "") -> PhaseSpans:
    r"""Read the phases of one operation.

    Args:
        path: `.txt`, `.csv` or `.tsv` file (columns separated by tabs, semicolons, commas or blanks), `.xlsx`, or ELAN's
            `.eaf`. Columns are recognized by their names (`second`, `frame`, `start`, `end_ms`, `begin time`, `phase`,
            `label`, …). Without a header, two columns are `second, phase` and three are `start, end, phase`. Times are
            seconds, `HH:MM:SS`, milliseconds or source frames.
        tier: name of the tier to read, for ELAN files with several.

    Returns:
        The labels of the file.

    Raises:
        AnnotationError: columns, times or labels cannot be understood, or intervals overlap.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "op1.csv"
        >>> _ = file.write_text("start,end,phase\n0:00:10,0:01:00,cut\n")
        >>> [(span.start, span.stop, span.label) for span in read_phase_file(file).spans]
        [(10.0, 60.0, 'cut')]
    """
    if path.suffix.lower() == ".eaf":
        rate: float | None = 1.0
        spans = _elan_spans(path, tier)
    else:
        spans, rate = _table_spans(path, _excel_lines(path) if path.suffix.lower() == ".xlsx" else _text_lines(path))
    spans.sort(key=lambda span: span.start)
    for before, after in pairwise(span for span in spans if not span.is_unlabeled):
        if after.start < before.stop - 1e-3:
            raise AnnotationError(
                f"{_where(path, after.line)}: {after.label!r} begins at {after.start:g}, before {before.label!r} ends at "
                f"{before.stop:g}; an operation is in one phase at a time"
            )
    return PhaseSpans(path, tuple(spans), rate)


def read_label_spans(path: Path) -> dict[str, PhaseSpans]:
    """Read the labels of one operation that may hold at the same time, such as those of several instruments.

    Args:
        path: file in one of the formats of `read_phase_file`.

    Returns:
        Labels by the name of their tier in an ELAN file; a table is one tier without a name.

    Raises:
        AnnotationError: columns, times or labels cannot be understood.
    """
    if path.suffix.lower() != ".eaf":
        spans, rate = _table_spans(path, _excel_lines(path) if path.suffix.lower() == ".xlsx" else _text_lines(path))
        return {"": PhaseSpans(path, tuple(spans), rate)}
    entries, slots = _elan_tiers(path)
    return {
        name: PhaseSpans(path, tuple(_elan_span(path, entry, slots) for entry in own), 1.0)
        for name, own in entries.items()
    }


def class_names(files: Iterable[PhaseSpans]) -> list[str]:
    """Return the classes that files use: `phase_0`, … if all labels are numbers, otherwise the names as they first appear."""
    labels = list(dict.fromkeys(span.label for file in files for span in file.spans if not span.is_unlabeled))
    if all(label.isdigit() for label in labels):
        return [f"phase_{number}" for number in range(max(map(int, labels), default=0) + 1)]
    return labels


def _where(path: Path, line: int) -> str:
    return f"{path}:{line}" if line else str(path)


def _merged(intervals: Sequence[Interval]) -> list[Interval]:
    """Merge adjacent intervals with equal labels, so that a file with a row per frame becomes a few intervals."""
    merged: list[Interval] = []
    for interval in intervals:
        last = merged[-1] if merged else None
        if last and last.row == interval.row and abs(interval.start - last.stop) < 1e-6:
            merged[-1] = Interval(last.start, interval.stop, last.row)
        else:
            merged.append(interval)
    return merged


# ------------------------------------------------------------------------------------------- tables


def _text_lines(path: Path) -> list[Line]:
    """Return the rows of a text file, including the header, without blank lines."""
    lines = [(number, line) for number, line in enumerate(read_text(path).splitlines(), 1) if line.strip()]
    if not lines:
        raise AnnotationError(f"{path} has no rows")
    first = lines[0][1]
    delimiter = next((mark for mark in "\t;," if mark in first), None)
    if delimiter is None:  # the last column may hold blanks
        columns = len(first.split())
        return [Line(number, line.split(maxsplit=columns - 1)) for number, line in lines]
    return [
        Line(number, [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter))])
        for number, line in lines
    ]


def _excel_lines(path: Path) -> list[Line]:
    """Return the rows of the first sheet of a workbook that has any."""
    require("spreadsheet")
    import openpyxl

    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except Exception as error:  # openpyxl has no common error of its own
        raise AnnotationError(f"{path} is not a spreadsheet that openpyxl can read: {error}") from error
    for sheet in book.worksheets:
        rows = [
            Line(number, [_cell_text(cell) for cell in row])
            for number, row in enumerate(sheet.iter_rows(values_only=True), 1)
            if any(cell is not None for cell in row)
        ]
        if rows:
            width = max(number + 1 for row in rows for number, cell in enumerate(row.cells) if cell)
            return [Line(row.number, row.cells[:width]) for row in rows]
    raise AnnotationError(f"{path} has no rows")


def _cell_text(cell: object) -> str:
    """Convert a cell to text; Excel stores 0:01:02 as a time of day or as a duration."""
    if isinstance(cell, datetime):
        cell = cell.time()
    if isinstance(cell, time):
        return str(cell.hour * 3600 + cell.minute * 60 + cell.second + cell.microsecond / 1e6)
    if isinstance(cell, timedelta):
        return str(cell.total_seconds())
    return "" if cell is None else str(cell).strip()


def _table_spans(path: Path, lines: Sequence[Line]) -> tuple[list[Span], float | None]:
    header, rows = lines[0], list(lines[1:])
    if header.cells and _is_time(header.cells[0]):
        columns = {2: {"moment": 0, "label": 1}, 3: {"start": 0, "stop": 1, "label": 2}}.get(len(header.cells))
        if columns is None:
            raise AnnotationError(
                f"{path} has no header and {len(header.cells)} columns; name them, e.g. start,end,phase"
            )
        rate: float | None = 1.0
        rows = list(lines)
    else:
        columns, rate = _columns(path, header.cells)
    if not rows:
        raise AnnotationError(f"{path} has no rows")
    for row in rows:
        if len(row.cells) > len(header.cells) or len(row.cells) <= max(
            number for role, number in columns.items() if role != "label"
        ):
            raise AnnotationError(
                f"{_where(path, row.number)} has {len(row.cells)} columns, {len(header.cells)} are expected: "
                f"{' '.join(row.cells)[:80]!r}"
            )
    if "moment" in columns:
        return list(_from_moments(path, rows, columns, rate)), rate
    return [_from_interval(path, row, columns, rate) for row in rows], rate


def _columns(path: Path, cells: Sequence[str]) -> tuple[dict[str, int], float | None]:
    """Return the column of each role, and the units per second of the times."""
    columns: dict[str, int] = {}
    rates: dict[str, float | None] = {}
    for number, cell in enumerate(cells):
        parts = re.findall(r"[a-z]+", cell.lower())
        role = _role_of(("".join(parts), *parts))
        if role is None or role in columns:
            continue
        columns[role] = number
        if role != "label":
            rates[role] = _units_per_second(parts)
    if "start" in columns:
        columns.pop("moment", None)
        rates.pop("moment", None)
    if "label" not in columns and len(cells) - len(columns) == 1:
        columns["label"] = next(number for number in range(len(cells)) if number not in columns.values())
    intervals = "start" in columns and ("stop" in columns or "duration" in columns)
    if "label" not in columns or not (intervals or "moment" in columns):
        raise AnnotationError(
            f"{path} has the columns {', '.join(cells)}; expected are second,phase or frame,phase or start,end,phase"
        )
    if len(set(rates.values())) > 1:
        raise AnnotationError(f"{path}: the columns {', '.join(cells)} give times in different units")
    return columns, next(iter(rates.values()))


def _role_of(names: Iterable[str]) -> str | None:
    """Return the role of the first name that is known, in the singular or the plural."""
    forms = (form for name in names for form in (name, name.removesuffix("s")))
    return next((_ROLE_OF[form] for form in forms if form in _ROLE_OF), None)


def _units_per_second(parts: Sequence[str]) -> float | None:
    """Return the units per second of a column by the parts of its name, such as `start_ms`; `None` means source frames."""
    if any("frame" in part for part in parts):
        return None
    return 1000.0 if any(re.search("(?:ms|msec|milliseconds?)$", part) for part in parts) else 1.0


def _is_time(cell: str) -> bool:
    return bool(re.fullmatch(r"[-+]?[0-9]*[.,]?[0-9]+", cell) or _CLOCK.match(cell))


def _time(path: Path, line: int, cell: str, rate: float | None) -> float:
    """Convert a cell to a time in the unit of the table. Clock times are seconds, whatever the header says."""
    clock = _CLOCK.match(cell)
    if clock and rate is not None:
        hours, minutes, seconds = clock[1] or 0, clock[2], clock[3].replace(",", ".")
        return (int(hours) * 3600 + int(minutes) * 60 + float(seconds)) * rate
    try:
        value = float(cell.replace(",", "."))
    except ValueError:
        value = float("nan")
    if not 0 <= value < float("inf"):
        raise AnnotationError(f"{_where(path, line)} holds {cell!r} where a time is expected")
    return value


def _label_of(row: Line, columns: dict[str, int]) -> str:
    """Return the label of a row, empty if the row ends before it; 3.0, as spreadsheets write 3, is read as 3."""
    cell = row.cells[columns["label"]] if columns["label"] < len(row.cells) else ""
    return re.sub(r"^(-?\d+)\.0+$", r"\1", cell)


def _from_interval(path: Path, row: Line, columns: dict[str, int], rate: float | None) -> Span:
    start = _time(path, row.number, row.cells[columns["start"]], rate)
    stop = _time(path, row.number, row.cells[columns.get("stop", columns.get("duration", 0))], rate)
    if "stop" not in columns:
        stop += start
    elif rate is None:  # the last frame of an interval belongs to it
        stop += 1
    if stop <= start:
        raise AnnotationError(f"{_where(path, row.number)}: an interval from {start:g} to {stop:g} has no length")
    return Span(row.number, start, stop, _label_of(row, columns))


def _from_moments(path: Path, rows: Sequence[Line], columns: dict[str, int], rate: float | None) -> Iterator[Span]:
    """Yield a span per row. It ends at the next row, or after the median time between two rows where rows are missing."""
    times = [_time(path, row.number, row.cells[columns["moment"]], rate) for row in rows]
    for row, before, after in zip(rows[1:], times, times[1:], strict=False):
        if after <= before:
            raise AnnotationError(
                f"{_where(path, row.number)} is about {after:g}, which does not come after {before:g}"
            )
    steps = [after - before for before, after in pairwise(times)]
    step = median(steps) if steps else (rate or 1.0)
    for row, start, gap in zip(rows, times, [*steps, step], strict=True):
        yield Span(row.number, start, start + (gap if gap < 1.5 * step else step), _label_of(row, columns))


# ------------------------------------------------------------------------------------------- ELAN


def _elan_spans(path: Path, wanted: str) -> list[Span]:
    tiers, slots = _elan_tiers(path)
    name = _tier(path, {tier: len(entries) for tier, entries in tiers.items()}, wanted)
    return [_elan_span(path, entry, slots) for entry in tiers[name]]


def _elan_tiers(path: Path) -> tuple[dict[str, list[ElementTree.Element]], dict[str | None, str | None]]:
    """Return the annotations of each tier, and the times of the slots."""
    try:
        root = ElementTree.fromstring(read_text(path).encode())
    except ElementTree.ParseError as error:
        raise AnnotationError(f"{path} is not XML: {error}") from error
    if root.tag != "ANNOTATION_DOCUMENT":
        raise AnnotationError(f"{path} is not an annotation document of ELAN but a <{root.tag}>")
    header = root.find("HEADER")
    if header is not None and header.get("TIME_UNITS", "milliseconds") != "milliseconds":
        raise AnnotationError(f"{path} gives times in {header.get('TIME_UNITS')}; milliseconds are expected")
    slots = {slot.get("TIME_SLOT_ID"): slot.get("TIME_VALUE") for slot in root.iter("TIME_SLOT")}
    return {str(tier.get("TIER_ID")): list(tier.iter("ALIGNABLE_ANNOTATION")) for tier in root.iter("TIER")}, slots


def _tier(path: Path, tiers: dict[str, int], wanted: str) -> str:
    filled = [name for name, count in tiers.items() if count]
    chosen = [name for name in filled if name == wanted] if wanted else filled
    if len(chosen) > 1:
        chosen = [name for name in chosen if name.lower() in _TIERS]
    if len(chosen) != 1:
        what = f"no annotations on a tier {wanted!r}" if wanted else "no single tier that says the phase"
        raise AnnotationError(
            f"{path} has {what}; its tiers with annotations are {', '.join(filled) or 'none'}: name one with --set tier=NAME"
        )
    return chosen[0]


def _elan_span(path: Path, entry: ElementTree.Element, slots: dict[str | None, str | None]) -> Span:
    label = (entry.findtext("ANNOTATION_VALUE") or "").strip()
    times = [slots.get(entry.get(f"TIME_SLOT_REF{end}")) for end in (1, 2)]
    if not all(text and text.isdigit() for text in times):
        raise AnnotationError(
            f"{path}: the annotation {entry.get('ANNOTATION_ID')} ({label!r}) has no time; align it in ELAN"
        )
    start, stop = (int(str(text)) / 1000 for text in times)
    if stop <= start:
        raise AnnotationError(f"{path}: {label!r} from {start:g} to {stop:g} s has no length")
    return Span(0, start, stop, label)
