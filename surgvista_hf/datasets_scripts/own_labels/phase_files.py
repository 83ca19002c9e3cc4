"""Reading phase labels of one's own operations from the files that people and annotation tools write.

A table has a row per time (`second,phase` or `frame,phase`) or a row per interval (`start,end,phase`), as text, CSV or Excel;
ELAN writes intervals on tiers. Times that no row covers have no label: labels may begin late, end early and have gaps.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from ..schema.elan import ElanAnnotation, read_elan
from ..schema.info import AnnotationError
from ..schema.label_tracks import Interval, IntervalTrack
from .spreadsheets import read_tables
from .tables import EXPECTED, check_width, find_layout, is_filled, label_text, timed_rows

SUFFIXES = (".txt", ".csv", ".tsv", ".xlsx", ".eaf")
UNLABELED = frozenset(("", "-1", "nan", "na", "n/a", "null", "none", "unlabeled", "unlabelled", "no label"))

_TIERS = ("phase", "phases", "label", "labels", "prediction")


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
        spans, rate = _table_spans(path)
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
        spans, rate = _table_spans(path)
        return {"": PhaseSpans(path, tuple(spans), rate)}
    return {
        name: PhaseSpans(path, tuple(_elan_span(path, entry) for entry in own), 1.0)
        for name, own in _elan_tiers(path).items()
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


def _table_spans(path: Path) -> tuple[list[Span], float | None]:
    """Return the phases of a table, or of the first sheet of a workbook that is not empty."""
    table = read_tables(path)[0]
    layout = find_layout(table)
    if "label" not in layout.roles or not layout.has_times:
        raise AnnotationError(f"{table.title} has the columns {', '.join(layout.names)}; {EXPECTED}")
    lines = [line for line in layout.rows if is_filled(layout, line)]
    for line in lines:
        check_width(table, layout, line)
    rows = timed_rows(table, layout, lines, distinct=True)
    label = layout.roles["label"]
    spans = [Span(row.line.number, row.start, row.stop, label_text(row.line, label)) for row in rows]
    return spans, layout.rate


# ------------------------------------------------------------------------------------------- ELAN


def _elan_spans(path: Path, wanted: str) -> list[Span]:
    tiers = _elan_tiers(path)
    name = _tier(path, {tier: len(entries) for tier, entries in tiers.items()}, wanted)
    return [_elan_span(path, entry) for entry in tiers[name]]


def _elan_tiers(path: Path) -> dict[str, list[ElanAnnotation]]:
    """Return the annotations of each tier that have times of their own."""
    # A tier of annotations that refer to others says something of a phase, not the phase itself.
    return {tier.name: [each for each in tier.annotations if not each.refers] for tier in read_elan(path).tiers}


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


def _elan_span(path: Path, entry: ElanAnnotation) -> Span:
    if not entry.is_aligned or entry.start is None or entry.stop is None:
        raise AnnotationError(f"{path}: the annotation {entry.name} ({entry.value!r}) has no time; align it in ELAN")
    if entry.stop <= entry.start:
        raise AnnotationError(f"{path}: {entry.value!r} from {entry.start:g} to {entry.stop:g} s has no length")
    return Span(0, entry.start, entry.stop, entry.value)
