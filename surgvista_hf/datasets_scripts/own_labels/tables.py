"""Tables with labels, as people write them: text, CSV and Excel.

A table has a row for each interval (`start,end,label`), for each moment (`second,label`, `frame,label`), for each change of
the label (`start,label`), or for each video (`video,patient,skill`). Every column that names neither a time, nor a video, nor
a property of it is a tier of labels: there may be several, such as a phase and a step, or a column of 0 and 1 for each tool.

Blocks of columns side by side may have times of their own: `start,end,phase,start,end,step`. Rows of `time,label` are changes,
each of which holds until the next, if in the whole table every row differs from the one before it and the steps are irregular
and usually at least a second long; otherwise they are moments.
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median

from ..schema.annotation_files import Line
from ..schema.info import AnnotationError
from .model import LabeledSpan, LabelTier, VideoLabels
from .spreadsheets import EXCEL_SUFFIXES, TEXT_SUFFIXES, Table, read_tables

FORMAT = "table"
SUFFIXES = (*TEXT_SUFFIXES, *EXCEL_SUFFIXES)
EXPECTED = "expected are second,phase or frame,phase or start,end,phase"

_ROLES = {
    "start": "start begin from onset starttime begintime startsec startsecond startframe startms beginn anfang von debut "
    "inicio inizio startzeit beginnzeit anfangszeit startpunkt desde",
    "stop": "stop end to until offset stoptime endtime stopsec endsec endsecond stopframe endframe endms ende bis fin fine "
    "schluss stopp finish finished ended endzeit schlusszeit stoppzeit endpunkt hasta",
    "duration": "duration length dauer duree duracion durata",
    "moment": "second time timestamp sec s t frame frameindex frameno framenumber frameid ms millisecond min minute zeit "
    "sekunde timecode",
    "label": "phase label name class category value annotation behavior behaviour step event activity etape fase schritt",
    "tier": "tier track layer",
    "video": "video videoid videoname videofile videopath filename filepath file clip recording operation operationid op case "
    "caseid casenumber surgery fall fallid fallnr fallnummer",
    "patient": "patient patientid patientno subject subjectid pat patid patno patnr patnummer patientnr patientennr "
    "patientennummer patientenid patientnumber patientnum patientcode patientencode mrn pseudonym",
    "hospital": "hospital hospitalid center centre centerid centreid site clinic klinik institution hopital standort zentrum "
    "krankenhaus spital",
    "split": "split subset partition",
    "instrument": "instrument tool",
    "verb": "verb",
    "target": "target",
    "ignored": "id nr no number index row unnamed comment note remark bemerkung kommentar annotator "
    "notiz notizen anmerkung bemerkungen kommentare",
}
_ROLE_OF = {name: role for role, names in _ROLES.items() for name in names.split()}
_VIDEO_ORDER = _ROLES["video"].split()
# Numbers of a case, which tell the patient where another column names the video.
_CASES = ("caseid", "casenumber", "fallid", "fallnr", "fallnummer")
# Names of properties as the mapping knows them; those that it does not know are called after their role.
_KNOWN_PROPERTIES = frozenset(
    "patient patientid patientno subject subjectid hospital hospitalid center centre centerid site clinic klinik institution "
    "split subset partition".split()
)
# Names of the video that may also be an instrument or a state, which is there or not: a clip, the recording.
_MAY_BE_SEEN = ("clip", "clips", "recording", "surgery")
_TIMES = ("start", "stop", "duration", "moment")
_PROPERTIES = ("patient", "hospital", "split")
# Words that may stand beside `start` or `end` in the name of a column of times: `phase start (ms)`, `Begin Time - hh:mm:ss`.
_BESIDE_TIMES = frozenset(
    "time times timestamp in of the at video s sec secs second seconds ms msec millisecond milliseconds min minute minutes h "
    "hh mm ss ff hms frame frames number no index id phase step label event segment interval annotation activity zeit "
    "sek sekunde sekunden".split()
)
_UNITS = re.compile(
    r"^(?:s|secs?|seconds?|ms|msec|milliseconds?|min|minutes?|frames?|h+:?m+:?s*|m+:?s+)$", re.IGNORECASE
)
_CLOCK = re.compile(r"^(?:(\d+):)?(\d{1,3}):(\d{1,2}(?:[.,]\d+)?)$")
_NUMBER = re.compile(r"^([-+]?\d*[.,]?\d+(?:[eE][-+]?\d+)?)\s*(s|sec|ms|min)?$")
_THOUSANDS = re.compile(r"^[1-9]\d{0,2}[.,]\d{3}\s*(?:ms)?$")
# Numbers whose mark can only be a decimal one.
_DECIMALS = re.compile(r"^(?:\d{4,}[.,]\d+|0[.,]\d+|\d+[.,](?:\d{1,2}|\d{4,}))\s*(?:ms)?$")
_CLOCK_NAME = re.compile(r"\b(?:mm?|min)\s*[:.]\s*(?:ss?|sec|sek)\b", re.IGNORECASE)
_SECONDS_IN = {"s": 1.0, "sec": 1.0, "ms": 0.001, "min": 60.0}
_DASHES = ("-", "\N{EN DASH}", "\N{EM DASH}", "\N{MINUS SIGN}")
_TITLE_ROWS = 6  # rows above the header that may say whose operation it is
_DATE = re.compile(r"^\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?)?$|^\d{1,2}[./]\d{1,2}[./]\d{2,4}( .*)?$")
_EXCEL_DATE = re.compile(r"^\d{4}-\d{2}-\d{2} 00:00:00$")
_EXCEL_ERROR = re.compile(r"^#(?:REF!|NAME\?|VALUE!|DIV/0!|NUM!|NULL!)$")
_TIER_SHEETS = frozenset(
    "phase phases step steps tool tools instrument instruments triplet triplets action actions phasen schritt schritte "
    "instrumente werkzeug werkzeuge tripel aktion aktionen".split()
)
_NOTE_SHEETS = frozenset(
    "note notes notiz notizen comment comments kommentar kommentare bemerkung bemerkungen remarks readme info legend legende "
    "hinweise".split()
)


@dataclass(frozen=True)
class Layout:
    """The meaning of the columns of a table.

    Args:
        names: names of the columns.
        roles: column of each role (`start`, `stop`, `duration`, `moment`, `video`, `tier`, `label`, …).
        tiers: columns of labels.
        properties: columns of properties of the video.
        rate: units per second of the times; `None` means source frames of the video.
        factor: seconds per unit in the file, for minutes; otherwise 1.
        rows: rows below the header.
        problem: sentence on names of columns that contradict each other; empty if there is none.
        has_changes: whether rows of moments say what holds until the next row, and not what is seen at a moment.
    """

    names: tuple[str, ...]
    roles: Mapping[str, int]
    tiers: tuple[int, ...]
    properties: tuple[int, ...]
    rate: float | None
    factor: float
    rows: tuple[Line, ...]
    problem: str = ""
    has_changes: bool = False

    @property
    def has_times(self) -> bool:
        """Return whether the rows are about times, and not about whole videos."""
        return "start" in self.roles or "moment" in self.roles

    @property
    def has_intervals(self) -> bool:
        """Return whether each row has a beginning and an end."""
        return "start" in self.roles and ("stop" in self.roles or "duration" in self.roles)

    @property
    def time_columns(self) -> tuple[int, ...]:
        """Return the columns of times that are read."""
        return tuple(self.roles[role] for role in _TIMES if role in self.roles)


@dataclass(frozen=True)
class TimedRow:
    """A row with its times in the unit of the layout."""

    line: Line
    start: float
    stop: float


def recognizes(path: Path) -> bool:
    """Return whether a file is a table; of `.txt` files only those whose first rows look like labels."""
    if not path.is_file() or path.suffix.lower() not in SUFFIXES:
        return False
    if path.suffix.lower() != ".txt":
        return True
    try:
        (table,) = read_tables(path)
        find_layout(table)
    except AnnotationError:
        return False
    return True


def read(path: Path) -> list[VideoLabels]:
    r"""Read the labels of all videos of a table.

    A column `video` names the video of each row. Without it every sheet of a workbook with several is a video, unless
    the sheets are called phases, tools or the like, and any other file is the video of its name.

    Args:
        path: text file, `.csv`, `.tsv` or workbook.

    Returns:
        Labels by video, in the order of the file.

    Raises:
        AnnotationError: columns, times or properties cannot be understood; the message names the cell.

    Example:
        >>> import tempfile
        >>> file = Path(tempfile.mkdtemp()) / "op1.csv"
        >>> _ = file.write_text("start,end,phase,step\n0:00:10,0:01:00,cut,open\n")
        >>> (labels,) = read(file)
        >>> labels.video, [(tier.name, tier.spans[0].start, tier.spans[0].value) for tier in labels.tiers]
        ('op1', [('phase', 10.0, 'cut'), ('step', 10.0, 'open')])
    """
    tables = read_tables(path)
    tables = [table for table in tables if _plain(table.sheet) not in _NOTE_SHEETS] or tables
    layouts: list[tuple[Table, tuple[Layout, ...]]] = []
    problems: list[AnnotationError] = []
    for table in tables:
        try:
            layouts.append((table, find_layouts(table)))
        except AnnotationError as error:
            problems.append(error)
            # A sheet of notes is passed over; one that has times or videos is not.
            if _seems_labels(table):
                raise
    if not layouts:
        raise problems[0]
    named = [table for table, blocks in layouts if "video" not in blocks[0].roles]
    are_tiers = len(named) > 1 and all(_plain(table.sheet) in _TIER_SHEETS for table in named)
    videos: dict[str, list[VideoLabels]] = {}
    for table, blocks in layouts:
        name = table.sheet if len(named) > 1 and not are_tiers else path.stem
        for layout in blocks:
            for labels in _videos(table, layout, name, _plain(table.sheet) if are_tiers and len(blocks) == 1 else ""):
                videos.setdefault(labels.video, []).append(labels)
    return [merge_labels(name, each) for name, each in videos.items()]


def merge_labels(name: str, parts: Sequence[VideoLabels]) -> VideoLabels:
    """Merge labels of one video that several files or sheets hold.

    Args:
        name: name of the video.
        parts: its labels, in order. Spans of tiers of equal name are put together in the order of time.

    Raises:
        AnnotationError: two parts give a property different values, or the times of a tier different units.
    """
    if len(parts) == 1 and parts[0].video == name:
        return parts[0]
    tiers: dict[str, LabelTier] = {}
    properties: dict[str, str] = {}
    for part in parts:
        for tier in part.tiers:
            before = tiers.get(tier.name)
            if before is None:
                tiers[tier.name] = tier
                continue
            if before.rate != tier.rate:
                raise AnnotationError(
                    f"{_cell_of(tier, part)} and {_cell_of(before, part)} give the times of {tier.name!r} in different units"
                )
            spans = sorted((*before.spans, *tier.spans), key=lambda span: span.start)
            tiers[tier.name] = LabelTier(tier.name, tuple(spans), tier.rate)
        for key, value in part.properties.items():
            if properties.setdefault(key, value) != value:
                raise AnnotationError(
                    f"{part.where} says that {key} of {name!r} is {value!r}; {parts[0].where} says {properties[key]!r}"
                )
    where = next((part.where for part in parts if part.where), "")
    return VideoLabels(name, tuple(tiers.values()), properties, where)


def _cell_of(tier: LabelTier, labels: VideoLabels) -> str:
    return tier.spans[0].where if tier.spans else labels.where


# ------------------------------------------------------------------------------------------- columns


def find_layout(table: Table) -> Layout:
    """Find what the columns of a table mean; of several blocks with times of their own, the first that names a label.

    Raises:
        AnnotationError: the columns cannot be understood, or there are no rows below them.
    """
    blocks = find_layouts(table)
    return next((layout for layout in blocks if "label" in layout.roles), blocks[0])


def find_layouts(table: Table) -> tuple[Layout, ...]:
    """Find the header of a table, which may have titles above it and two rows, and what its columns mean.

    A table may have several blocks of columns side by side, each with times of its own: `start,end,phase,start,end,step`.

    Returns:
        The meaning of the columns of each block; usually there is one.

    Raises:
        AnnotationError: the columns cannot be understood, or there are no rows below them.
    """
    rows = table.rows
    if rows[0].cells and is_time(rows[0].cells[0]):
        return (_without_header(table),)
    fallback: tuple[Layout, ...] = ()
    for above in range(min(_TITLE_ROWS, len(rows))):
        for depth in (1, 2):
            if above + depth > len(rows):
                continue
            names = _header(rows[above : above + depth])
            upper = rows[above].cells if depth == 2 else rows[above - 1].cells if above else ()
            blocks = _layouts(table, names, rows[above + depth - 1].number, rows[above + depth :], upper)
            if not blocks:
                continue
            fallback = fallback or blocks
            if blocks[0].has_times and (not blocks[0].rows or any(map(_begins_with_times, blocks))):
                return tuple(_checked(table, layout) for layout in blocks)
    if fallback:
        return tuple(_checked(table, layout) for layout in fallback)
    raise AnnotationError(f"{table.title} has the columns {', '.join(rows[0].cells)}; {EXPECTED}")


def _without_header(table: Table) -> Layout:
    width = max(len(row.cells) for row in table.rows[:3])
    if width not in (2, 3):
        raise AnnotationError(f"{table.title} has no header and {width} columns; name them, e.g. start,end,phase")
    names, roles = (
        (("second", "label"), {"moment": 0, "label": 1})
        if width == 2
        else (("start", "end", "label"), {"start": 0, "stop": 1, "label": 2})
    )
    return Layout(names, roles, (roles["label"],), (), 1.0, 1.0, table.rows)


def _header(rows: Sequence[Line]) -> list[str]:
    """Return the names of the columns; of two rows the lower one, with the upper one where the lower only gives a unit."""
    if len(rows) == 1:
        return list(rows[0].cells)
    upper, lower = (row.cells for row in rows)
    names = []
    for number in range(max(len(upper), len(lower))):
        above = upper[number] if number < len(upper) else ""
        below = lower[number] if number < len(lower) else ""
        names.append(f"{above} {below}" if _UNITS.match(below.strip("()[] ")) and above else below or above)
    return names


def _layouts(
    table: Table, names: Sequence[str], header: int, rows: Sequence[Line], upper: Sequence[str]
) -> tuple[Layout, ...]:
    """Return what columns of these names mean, for each block; nothing if they name neither times nor videos."""
    shared: dict[str, int] = {}
    times: dict[int, str] = {}
    others: list[int] = []
    videos: dict[int, str] = {}
    further: list[int] = []
    for number, name in enumerate(names):
        role = _role(name)[0]
        if role == "video" and not (_plain(name) in _MAY_BE_SEEN and _is_presence(_plain(name), rows, number)):
            videos[number] = _plain(name)
        elif role in _TIMES:
            times[number] = role
        elif role in ("tier", *_PROPERTIES) and role not in shared:
            shared[role] = number
        elif role in _PROPERTIES:
            further.append(number)
        elif role != "ignored":
            others.append(number)
    if videos:
        shared["video"] = min(videos, key=lambda number: _video_rank(videos[number]))
    for number in [number for number in videos if number != shared["video"] and videos[number] in _CASES]:
        del videos[number]
        if "patient" in shared:
            further.append(number)
        shared.setdefault("patient", number)
    # Of other names of the video only those of files are left out: `operation` may also be its kind.
    others += [
        number for number in videos if number != shared["video"] and not videos[number].startswith(("file", "clip"))
    ]
    labels = sorted(number for number in others if names[number])
    called = {
        number: _called_after(names[number], [names[other] for other in labels if other != number])
        for number in labels
    }
    times |= {number: role for number, role in called.items() if role}
    times = {number: times[number] for number in sorted(times)}
    labels = [number for number in labels if not called[number]]
    names = list(names)
    for role in _PROPERTIES:
        if role in shared and _plain(names[shared[role]]) not in _KNOWN_PROPERTIES and role not in names:
            names[shared[role]] = role
    properties = [*(shared[role] for role in _PROPERTIES if role in shared), *further]
    blocks, problem = _time_blocks(table, names, header, rows, times, labels)
    if not blocks:
        if "video" not in shared or sum(bool(name) for name in names) < 2:  # a title is no header
            return ()
        properties = sorted((*properties, *labels))
        problem = _repeated_name(table, names, header, properties)
        return (Layout(tuple(names), shared, (), tuple(properties), 1.0, 1.0, tuple(rows), problem),)
    if not all(tiers for _, tiers in blocks):
        return ()
    if len(blocks) > 1:
        names = _names_in_blocks(names, upper, [tiers for _, tiers in blocks])
    problem = problem or _repeated_name(table, names, header, [*labels, *properties])
    return tuple(_block(table, names, rows, {**shared, **own}, tiers, properties, problem) for own, tiers in blocks)


def _block(
    table: Table,
    names: Sequence[str],
    rows: Sequence[Line],
    roles: dict[str, int],
    tiers: Sequence[int],
    properties: Sequence[int],
    problem: str,
) -> Layout:
    """Return the layout of the columns that share their times."""
    found = [(number, *_role(names[number])) for number in tiers]
    for number, role, _ in found:
        if role in ("instrument", "verb", "target"):
            roles.setdefault(role, number)
    exact = [number for number, role, is_exact in found if role == "label" and is_exact]
    named = exact or [number for number, role, _ in found if role == "label"] or (tiers if len(tiers) == 1 else [])
    if named:
        roles["label"] = named[0]
    rates = {number: _rate(names[number]) for role, number in roles.items() if role in _TIMES}
    rate, factor = next(iter(rates.values()))
    if len(set(rates.values())) > 1:
        problem = f"{table.title}: the columns {', '.join(names)} give times in different units"
    return Layout(tuple(names), roles, tuple(tiers), tuple(properties), rate, factor, tuple(rows), problem)


def _is_presence(name: str, rows: Sequence[Line], column: int) -> bool:
    """Return whether a column holds nothing but 0 and 1, and so says whether something is there."""
    found = {label_text(line, column) for line in rows}
    return found <= {"", "0", "1"} and ("0" in found or name.startswith("clip"))  # one surgery may be number 1


def _video_rank(plain: str) -> int:
    """Return how surely a column of this name names the video: small numbers are sure."""
    return next((rank for rank, word in enumerate(_VIDEO_ORDER) if plain in (word, f"{word}s")), len(_VIDEO_ORDER))


# A block is the columns of its times by their role, and the columns of its labels.
_Block = tuple[dict[str, int], list[int]]


def _time_blocks(
    table: Table,
    names: Sequence[str],
    header: int,
    rows: Sequence[Line],
    times: Mapping[int, str],
    labels: Sequence[int],
) -> tuple[list[_Block], str]:
    """Return the blocks of columns that share their times, and a sentence if that is not clear; no blocks without times."""
    times = _numbered_ends(names, rows, times)
    begins = [number for role in ("start", "moment") for number, own in times.items() if own == role]
    if not begins:
        return [], ""
    first: dict[str, int] = {_FAMILY["start"]: begins[0]}
    used = {begins[0]: times[begins[0]]}
    candidates = dict(used)  # of blocks: with those that only happen to be equal
    for number, role in times.items():
        before = first.setdefault(_FAMILY[role], number)
        is_repeated = before != number and _says_the_same(names, rows, before, number, labels)
        if not is_repeated:
            used[number] = role
        if not (is_repeated and (_are_neighbors(before, number, labels) or not _pairs(names, rows, before, number))):
            candidates[number] = role
    used, candidates = ({number: each[number] for number in sorted(each)} for each in (used, candidates))
    if len({_FAMILY[role] for role in used.values()}) == len(used):
        return [(_time_roles(used), list(labels))], ""
    blocks = _blocks_by_name(names, candidates, labels) or _blocks_by_position(candidates, labels)
    if blocks and not any(_role(name)[0] == "tier" for name in names):
        return blocks, ""
    families = [_FAMILY[role] for role in used.values()]
    second = next(number for index, number in enumerate(used) if families[index] in families[:index])
    problem = (
        f"{table.cell(header, second)} is a second column of times ({names[second]!r}), and it is not clear which labels "
        f"it is about; put its labels right behind it, or into rows of their own with the columns tier,start,end,label"
    )
    return [(_time_roles({begins[0]: times[begins[0]]}), list(labels))], problem


_FAMILY = {"start": "begin", "moment": "begin", "stop": "stop", "duration": "duration"}


def _time_roles(times: Mapping[int, str]) -> dict[str, int]:
    """Return the columns of times by their role: a moment with an end or a duration is a start."""
    roles = {role: number for number, role in times.items()}
    if "moment" in roles and ("stop" in roles or "duration" in roles):
        roles["start"] = roles.pop("moment")
    if "stop" in roles:
        roles.pop("duration", None)
    return {role: roles[role] for role in _TIMES if role in roles}


def _numbered_ends(names: Sequence[str], rows: Sequence[Line], times: Mapping[int, str]) -> Mapping[int, str]:
    """Return the roles of columns of times, with `t0,t1` as a beginning and an end."""
    if len(times) != 2 or set(times.values()) != {"moment"}:
        return times
    first, last = times
    digits = [re.sub(r"\D", "", names[number]) for number in times]
    if not all(digits) or int(digits[1]) != int(digits[0]) + 1 or _plain(names[first]) != _plain(names[last]):
        return times
    pairs = _pairs(names, rows, first, last)
    if not pairs or any(stop < start for start, stop in pairs):
        return times
    return {first: "start", last: "stop"}


def _pairs(names: Sequence[str], rows: Sequence[Line], first: int, second: int) -> list[tuple[float, float]]:
    """Return the times of two columns in seconds or frames, in the rows where both have some."""
    found = [(_seconds(line, first, names[first]), _seconds(line, second, names[second])) for line in rows]
    return [pair for pair in found if not math.isnan(pair[0]) and not math.isnan(pair[1])]


def _seconds(line: Line, column: int, name: str) -> float:
    """Return a time in seconds, or in frames where the name of its column says so; NaN if it is none."""
    rate, factor = _rate(name)
    return _value(line.cells[column] if column < len(line.cells) else "", rate, factor) / (rate or 1.0)


def _says_the_same(names: Sequence[str], rows: Sequence[Line], first: int, second: int, labels: Sequence[int]) -> bool:
    """Return whether the second of two columns only repeats the times of the first, perhaps in another unit."""
    are_neighbors = _are_neighbors(first, second, labels)
    alone = [
        line
        for line in rows
        if math.isnan(_seconds(line, first, names[first])) and not math.isnan(_seconds(line, second, names[second]))
    ]
    pairs = _pairs(names, rows, first, second)
    if alone:
        return False
    in_frames = [_rate(names[number])[0] is None for number in (first, second)]
    if in_frames[0] == in_frames[1]:
        # One of two neighbors may be rounded to seconds.
        is_rounded = are_neighbors and any(all(pair[side].is_integer() for pair in pairs) for side in (0, 1))
        return all(abs(one - other) < (1.0 if is_rounded else 1e-3) for one, other in pairs)
    if are_neighbors or not pairs:
        return True
    most = [max(pair[side] for pair in pairs) for side in (0, 1)]
    ratio = most[1] / most[0] if most[0] else 0.0
    return all(abs(other - ratio * one) <= 1.5 * max(ratio, 1.0) for one, other in pairs)


def _are_neighbors(first: int, second: int, labels: Sequence[int]) -> bool:
    """Return whether no labels stand between two columns."""
    return not any(first < number < second or second < number < first for number in labels)


def _blocks_by_name(names: Sequence[str], times: Mapping[int, str], labels: Sequence[int]) -> list[_Block]:
    """Return blocks of one label each, where each column of times is called after it: `phase start`, `step start`."""
    parts = {number: set(re.findall(r"[^\W\d]+", names[number].lower())) for number in (*times, *labels)}
    blocks: dict[int, dict[int, str]] = {}
    for number, role in times.items():
        meant = [label for label in labels if parts[label] and parts[label] <= parts[number]]
        if not meant:
            return []
        blocks.setdefault(max(meant, key=lambda label: len(parts[label])), {})[number] = role
    if set(blocks) != set(labels) or not all(_is_complete(own.values()) for own in blocks.values()):
        return []
    return [(_time_roles(own), [label]) for label, own in sorted(blocks.items())]


def _blocks_by_position(times: Mapping[int, str], labels: Sequence[int]) -> list[_Block]:
    """Return blocks of times that all stand before their labels, or all behind them."""
    runs: list[list[int]] = []
    for number in sorted((*times, *labels)):
        if runs and (runs[-1][-1] in times) == (number in times):
            runs[-1].append(number)
        else:
            runs.append([number])
    if len(runs) % 2:
        return []
    blocks: list[_Block] = []
    for one, other in zip(runs[::2], runs[1::2], strict=True):
        own, tiers = (one, other) if one[0] in times else (other, one)
        if not _is_complete([times[number] for number in own]):
            return []
        blocks.append((_time_roles({number: times[number] for number in own}), tiers))
    return blocks


def _is_complete(roles: Iterable[str]) -> bool:
    """Return whether roles of times are a beginning, and no two say the same."""
    families = [_FAMILY[role] for role in roles]
    return "begin" in families and len(set(families)) == len(families)


def _names_in_blocks(names: Sequence[str], upper: Sequence[str], blocks: Sequence[Sequence[int]]) -> list[str]:
    """Return the names of columns, those of equal name called after the title above their block."""
    named = list(names)
    counts = Counter(names[number] for tiers in blocks for number in tiers)
    titles: list[str] = []
    for number in range(len(names)):
        titles.append((upper[number] if number < len(upper) else "") or (titles[-1] if titles else ""))
    for tiers in blocks:
        for number in tiers:
            if counts[names[number]] > 1 and titles[number]:
                named[number] = titles[number] if len(tiers) == 1 else f"{titles[number]} {names[number]}"
    return named


def _repeated_name(table: Table, names: Sequence[str], header: int, used: Iterable[int]) -> str:
    """Return a sentence on two columns of the same name; empty if there are none."""
    first: dict[str, int] = {}
    for number in used:
        if names[number] in first:
            return (
                f"{table.cell(header, first[names[number]])} and {table.cell(header, number)} both call a column "
                f"{names[number]!r}; rename one"
            )
        first[names[number]] = number
    return ""


def _begins_with_times(layout: Layout) -> bool:
    """Return whether the first row below the header has a time, where times are expected."""
    cells = layout.rows[0].cells
    return any(number < len(cells) and is_time(cells[number]) for number in layout.time_columns)


def _checked(table: Table, layout: Layout) -> Layout:
    if not layout.rows:
        raise AnnotationError(f"{table.title} has no rows")
    if layout.problem:
        raise AnnotationError(layout.problem)
    _check_spelling(table, layout)
    if not layout.has_times:
        return layout
    _check_numbers(table, layout)
    _check_ends(table, layout)
    return replace(layout, has_changes=_has_changes(layout))


def _check_spelling(table: Table, layout: Layout) -> None:
    """Check that every patient and hospital is spelled one way.

    Raises:
        AnnotationError: two names differ in blanks, capitals or a mark before the number only.
    """
    for column in {layout.roles[role] for role in ("patient", "hospital") if role in layout.roles}:
        first: dict[str, tuple[str, int]] = {}
        for line in layout.rows:
            name = label_text(line, column)
            key = re.sub(r"(?<=[^\W\d_])[\s_-]+(?=\d)", "", re.sub(r"\s+", " ", name.casefold()))
            before, row = first.setdefault(key, (name, line.number))
            if before != name:
                raise AnnotationError(
                    f"{table.cell(line.number, column)} holds {name!r} for {layout.names[column]} and "
                    f"{table.cell(row, column)} holds {before!r}; write them alike if they are the same, and more "
                    f"differently if they are not"
                )


def _check_numbers(table: Table, layout: Layout) -> None:
    """Check that numbers in the columns of times can mean only one time.

    Raises:
        AnnotationError: `5.000` may be five thousand, `5.30` stands where a clock time is expected, or times seem to be parts
            of a day.
    """
    lines = [line for line in layout.rows if is_filled(layout, line)]
    cells = [
        (table.cell(line.number, column), column, text)
        for line in lines
        for column in layout.time_columns
        if (text := label_text(line, column, whole=False))
    ]
    exact = any(_DECIMALS.match(text) for *_, text in cells)
    for where, column, text in cells:
        in_units = layout.rate != 1.0 or text.endswith("ms")
        if in_units and not exact and _THOUSANDS.match(text):
            raise AnnotationError(
                f"{where} holds {text!r} in the column {layout.names[column]!r}, which may be {re.split('[.,]', text)[0]} or "
                f"a thousand times as much; write it without a mark for thousands"
            )
        number = _NUMBER.match(text)
        if number and not number[2] and _CLOCK_NAME.search(layout.names[column]) and re.search("[1-9]", text):
            raise AnnotationError(
                f"{where} holds {text!r} where the column {layout.names[column]!r} says minutes and seconds; write it with a "
                f"colon"
            )
    values = [float(number[1].replace(",", ".")) for *_, text in cells if (number := _NUMBER.match(text))]
    parts = [
        (where, text)
        for where, _, text in cells
        if re.match(r"^0?[.,]\d|^\d+(?:[.,]\d+)?[eE]-", text) and _NUMBER.match(text)
    ]
    long = [part for part in parts if re.search(r"[.,]\d{4,}|[eE]-", part[1])]
    if len(values) == len(cells) and max(values, default=2.0) <= 1 and long and 2 * len(long) >= len(parts):
        raise AnnotationError(
            f"{long[0][0]} holds {long[0][1]!r}, and all times lie between 0 and 1, as if they were fractions of a day; "
            f"format the times as [h]:mm:ss, or write seconds"
        )


def _check_ends(table: Table, layout: Layout) -> None:
    """Check that no column of labels seems to be times.

    Raises:
        AnnotationError: a column called like `hook end` holds numbers, or one of an unknown name holds times that grow and
            never lie before the beginning of their row.
    """
    for number in layout.tiers:
        cells = [label_text(line, number) for line in layout.rows]
        parts = re.findall(r"[a-z]+", layout.names[number].lower())
        says_times = any(_ROLE_OF.get(part) in ("start", "stop") and len(part) > 2 for part in parts)
        if says_times and all(is_time(cell) for cell in cells if cell) and not set(cells) <= {"", "0", "1"}:
            row = next(line.number for line, cell in zip(layout.rows, cells, strict=True) if cell)
            raise AnnotationError(
                f"{table.cell(row, number)}: the column {layout.names[number]!r} seems to hold times of something that no "
                f"other column names; write them into rows of their own with the columns tier,start,end,label"
            )
    if layout.has_intervals or len(layout.tiers) < 2:
        return
    first = layout.time_columns[0]
    for number in layout.tiers:
        if _role(layout.names[number])[0]:
            continue
        lines = [line for line in layout.rows if is_filled(layout, line)]
        own = [_value(label_text(line, number), layout.rate, layout.factor) for line in lines]
        starts = [_value(label_text(line, first), layout.rate, layout.factor) for line in lines]
        videos = [label_text(line, layout.roles["video"]) if "video" in layout.roles else "" for line in lines]
        steps = [
            after - before
            for before, after, old, new in zip(own, own[1:], videos, videos[1:], strict=False)
            if new in ("", old)
        ]
        grows = all(step >= 0 for step in steps) and 2 * sum(step > 0 for step in steps) > len(steps)
        if grows and all(start <= stop for start, stop in zip(starts, own, strict=True)) and own[-1] > 1:
            raise AnnotationError(
                f"{table.cell(lines[0].number, number)}: the column {layout.names[number]!r} holds times after those of "
                f"{layout.names[first]!r} in every row; name it `end` if it says when the rows end, otherwise leave it out"
            )


def _seems_labels(table: Table) -> bool:
    """Return whether one of the first rows names a column of times or videos, though the table cannot be understood."""
    roles = [{_role(cell)[0] for cell in row.cells} for row in table.rows[:_TITLE_ROWS]]
    return any(found & {"start", "moment", "video"} and len(found) > 1 for found in roles) or is_time(
        table.rows[0].cells[0]
    )


def _plain(name: str) -> str:
    """Return the letters of a name, in lower case and without accents."""
    text = unicodedata.normalize("NFKD", name).lower()
    return "".join(re.findall(r"[a-z]+", text))


def _role(name: str) -> tuple[str, bool]:
    """Return the role of a column by its name, and whether the whole name says so; empty if it has none."""
    text = unicodedata.normalize("NFKD", name).lower()
    parts = re.findall(r"[a-z]+", "".join(letter for letter in text if not unicodedata.combining(letter)))
    whole = "".join(parts)
    if not parts:
        return "ignored" if not re.search(r"\w", name) else "", True
    for form in (whole, whole.removesuffix("s")):
        if form in _ROLE_OF and not (_ROLE_OF[form] == "ignored" and re.search(r"\d", name)):
            return _ROLE_OF[form], True
    times = [_ROLE_OF[part] for part in parts if _ROLE_OF.get(part) in ("start", "stop", "duration")]
    if times and all(part in _BESIDE_TIMES or _ROLE_OF.get(part) in ("start", "stop", "duration") for part in parts):
        return times[0], False
    roles = [_ROLE_OF.get(part, _ROLE_OF.get(part.removesuffix("s"), "")) for part in parts]
    if roles[0] == "moment" and all(part in _BESIDE_TIMES for part in parts):
        return "moment", False
    if parts[-1] in ("id", "name") and roles[0] in ("video", *_PROPERTIES):
        return roles[0], False
    if "label" in roles and not {"moment", "start", "stop"} & set(roles):
        return "label", False
    return "", False


def _called_after(name: str, others: Sequence[str]) -> str:
    """Return the role of a column of times that is called after another one: `hook start` beside `hook`; empty for others."""
    if _role(name)[0]:
        return ""
    parts = re.findall(r"[^\W\d_]+", name.lower())
    found = {_ROLE_OF[part] for part in parts if _ROLE_OF.get(part) in ("start", "stop", "duration")}
    rest = [part for part in parts if part not in _BESIDE_TIMES and _ROLE_OF.get(part) not in _TIMES]
    if len(found) != 1 or not rest or not any(re.findall(r"[^\W\d_]+", other.lower()) == rest for other in others):
        return ""
    return found.pop()


def _rate(name: str) -> tuple[float | None, float]:
    """Return the units per second of a column by its name, such as `start_ms`, and the seconds per unit for minutes."""
    parts = re.findall(r"[a-z]+", re.sub(r"\bs{1,2}\.ms(?:ec)?\b", "s", name.lower()))  # ELAN: `ss.msec` are seconds
    if any("frame" in part for part in parts):
        return None, 1.0
    if any(re.search("(?:ms|msec|milliseconds?)$", part) and part != "hms" for part in parts):
        return 1000.0, 1.0
    return 1.0, 60.0 if any(part in ("min", "mins", "minute", "minutes") for part in parts) else 1.0


# ------------------------------------------------------------------------------------------- times


def is_time(cell: str) -> bool:
    """Return whether a cell holds a number or a clock time."""
    return bool(_NUMBER.match(cell) or _CLOCK.match(cell))


def _time(table: Table, line: Line, column: int, layout: Layout) -> float:
    """Convert a cell to a time in the unit of the table. Clock times are seconds, whatever the header says."""
    cell = line.cells[column] if column < len(line.cells) else ""
    value = _value(cell, layout.rate, layout.factor)
    if not 0 <= value < math.inf:
        hint = "; dates and local times say nothing about the time in a video" if _DATE.match(cell) else ""
        name = f" (column {layout.names[column]!r})" if column < len(layout.names) else ""
        raise AnnotationError(f"{table.cell(line.number, column)} holds {cell!r} where a time is expected{name}{hint}")
    return value


def _value(cell: str, rate: float | None, factor: float) -> float:
    """Convert a cell to a time in the unit of its column; NaN if it is none."""
    clock = _CLOCK.match(cell)
    if clock and rate is not None:
        hours, minutes, seconds = clock[1] or 0, clock[2], clock[3].replace(",", ".")
        return (int(hours) * 3600 + int(minutes) * 60 + float(seconds)) * rate
    number = _NUMBER.match(cell)
    if not number:
        return math.nan
    value = float(number[1].replace(",", "."))
    if number[2] and rate is not None:  # `90 s` is in seconds whatever the header says
        return value * (_SECONDS_IN[number[2]] * rate)
    return value * factor


def check_width(table: Table, layout: Layout, line: Line) -> None:
    """Check that a row is as wide as the header.

    Raises:
        AnnotationError: it has further cells, or ends before its times.
    """
    needed = max(layout.time_columns, default=0)
    if len(line.cells) > len(layout.names) or (len(line.cells) <= needed and not table.sheet):
        raise AnnotationError(
            f"{table.cell(line.number)} has {len(line.cells)} columns, {len(layout.names)} are expected: "
            f"{' '.join(line.cells)[:80]!r}"
        )


def timed_rows(table: Table, layout: Layout, lines: Sequence[Line], *, distinct: bool = False) -> list[TimedRow]:
    """Return the rows of one video with their beginnings and ends.

    Args:
        table: table that they stand in.
        layout: meaning of its columns.
        lines: rows of one video.
        distinct: refuse two rows about one moment, which say that several labels hold.

    Raises:
        AnnotationError: a time is none, an interval has no length, or moments are out of order.
    """
    if layout.has_intervals:
        return _intervals(table, layout, lines)
    role = "start" if "start" in layout.roles else "moment"
    column = layout.roles[role]
    times = [_time(table, line, column, layout) for line in lines]
    for line, before, after in zip(lines[1:], times, times[1:], strict=False):
        if after < before or (distinct and after == before):
            raise AnnotationError(
                f"{table.cell(line.number, column)} is about {after:g}, which does not come after {before:g}"
            )
    moments = list(dict.fromkeys(times))
    until = _ends(moments, layout, open_end=role == "start" or layout.has_changes)
    return [TimedRow(line, start, until[start]) for line, start in zip(lines, times, strict=True)]


def _ends(moments: Sequence[float], layout: Layout, *, open_end: bool) -> dict[float, float]:
    """Return the end of what begins at each moment: the next moment, or the usual step where rows are missing."""
    steps = [after - before for before, after in pairwise(moments)]
    if open_end:  # each row is a change, so the last one holds until the end of the video
        return dict(zip(moments, [*moments[1:], math.inf], strict=True))
    step = median(steps) if steps else (layout.rate or 1.0)
    if 2 * sum(abs(each - step) < 0.1 * step for each in steps) < len(steps):  # single moments of a finer grid
        step = min(steps)
    ends = [after if after - before < 1.5 * step else before + step for before, after in pairwise(moments)]
    return dict(zip(moments, [*ends, *(last + step for last in moments[-1:])], strict=True))


def _has_changes(layout: Layout) -> bool:
    """Return whether rows of moments are changes of a label, and no samples; the table decides as a whole.

    They are changes if every row of a video differs from the row before it, the usual step is at least a second (ten frames),
    and the steps are irregular: none makes up more than half of them. A single step is irregular if it is longer than that.
    """
    if "moment" not in layout.roles:
        return False
    column = layout.roles["moment"]
    second = layout.rate or 10.0
    steps: list[float] = []
    last: dict[str, tuple[float, tuple[str, ...]]] = {}
    video = ""
    for line in layout.rows:
        if "video" in layout.roles:
            video = label_text(line, layout.roles["video"]) or video
        if not is_filled(layout, line):
            continue
        labels = tuple(label_text(line, number) for number in layout.tiers)
        time = _value(label_text(line, column, whole=False), layout.rate, layout.factor)
        before = last.get(video)
        last[video] = (time, labels)
        if before is None:
            continue
        if not time > before[0] or labels == before[1]:
            return False
        steps.append(round(time - before[0], 3))
    if len(steps) == 1:
        return steps[0] > second
    return bool(steps) and median(steps) >= second and 2 * Counter(steps).most_common(1)[0][1] <= len(steps)


def _intervals(table: Table, layout: Layout, lines: Sequence[Line]) -> list[TimedRow]:
    first, last = layout.roles["start"], layout.roles.get("stop", layout.roles.get("duration", 0))
    times = [(_time(table, line, first, layout), _time(table, line, last, layout)) for line in lines]
    if "stop" not in layout.roles:
        times = [(start, start + duration) for start, duration in times]
    elif len(times) > 1 and all(stop < start for start, stop in times):
        raise AnnotationError(
            f"{table.cell(lines[0].number, first)}: every interval ends before it begins; exchange the names of the columns "
            f"{layout.names[first]!r} and {layout.names[last]!r}"
        )
    elif layout.rate is None and not _share_ends(times):  # the last frame of an interval belongs to it
        times = [(start, stop + 1) for start, stop in times]
    for line, (start, stop) in zip(lines, times, strict=True):
        if stop <= start:
            raise AnnotationError(
                f"{table.cell(line.number, last)}: an interval from {start:g} to {stop:g} has no length"
            )
    return [TimedRow(line, start, stop) for line, (start, stop) in zip(lines, times, strict=True)]


def _share_ends(times: Sequence[tuple[float, float]]) -> bool:
    """Return whether intervals of frames begin with the last frame of the one before, which then does not belong to that."""
    ordered = sorted(set(times))
    return any(before[1] == after[0] for before, after in pairwise(ordered)) and not any(
        before[1] + 1 == after[0] for before, after in pairwise(ordered)
    )


# ------------------------------------------------------------------------------------------- labels


def label_text(line: Line, column: int, *, whole: bool = True) -> str:
    """Return the label in a column, empty if the row ends before it; 3.0, as spreadsheets write 3, is read as 3.

    A dash alone is no label.

    Args:
        line: row.
        column: number of the column, counted from 0.
        whole: read 3.0 as 3; otherwise the cell is returned as it stands there.
    """
    cell = line.cells[column] if column < len(line.cells) else ""
    if not whole:
        return cell
    return "" if cell in _DASHES else re.sub(r"^(-?\d+)\.0+$", r"\1", cell)


def _videos(table: Table, layout: Layout, name: str, tier: str) -> Iterator[VideoLabels]:
    """Yield the labels of each video of a table.

    Args:
        table: table.
        layout: meaning of its columns.
        name: name of the video, where no column names it.
        tier: name of the tier, if the sheet has only one column of labels; empty means that of the column.
    """
    groups: dict[str, list[Line]] = {}
    above = ""
    for line in layout.rows:
        if "video" in layout.roles:
            above = label_text(line, layout.roles["video"]) or above  # a name may stand in the first of its rows only
        if not is_filled(layout, line):
            continue
        check_width(table, layout, line)
        if "video" in layout.roles and not above:
            raise AnnotationError(f"{table.cell(line.number, layout.roles['video'])} names no video")
        groups.setdefault(above or name, []).append(line)
    for video, lines in groups.items():
        where = table.cell(lines[0].number, layout.roles.get("video"))
        properties = _properties(table, layout, video, lines)
        tiers = _tiers(table, layout, lines, tier) if layout.has_times else ()
        yield VideoLabels(video, tiers, properties, where)


def is_filled(layout: Layout, line: Line) -> bool:
    """Return whether a row holds a time, a label, or anything of a video."""
    columns = {*layout.time_columns, *layout.tiers, *(layout.properties if not layout.has_times else ())}
    return any(number < len(line.cells) and line.cells[number] for number in columns) or (
        not layout.has_times and bool(label_text(line, layout.roles["video"]))
    )


def _properties(table: Table, layout: Layout, video: str, lines: Sequence[Line]) -> dict[str, str]:
    found: dict[str, tuple[str, int]] = {}
    for line in lines:
        for number in layout.properties:
            value = label_text(line, number)
            if not value:
                continue
            name = layout.names[number]
            before, row = found.setdefault(name, (value, line.number))
            if before != value:
                raise AnnotationError(
                    f"{table.cell(line.number, number)} holds {value!r} for {name} of {video!r}; {table.cell(row, number)} "
                    f"holds {before!r}"
                )
    return {name: value for name, (value, _) in found.items()}


def _tiers(table: Table, layout: Layout, lines: Sequence[Line], name: str) -> tuple[LabelTier, ...]:
    rows = timed_rows(table, layout, lines)
    rows.sort(key=lambda row: row.start)
    spans: dict[str, list[LabeledSpan]] = {}
    for tier, columns in _label_columns(layout):
        for row in rows:
            if tier:
                key = name if name and len(layout.tiers) == 1 else tier
            else:
                key = label_text(row.line, layout.roles["tier"])
                if not key:
                    raise AnnotationError(f"{table.cell(row.line.number, layout.roles['tier'])} names no tier")
            spans.setdefault(key, []).append(_span(table, row, columns))
    joined = not layout.has_intervals
    return tuple(
        LabelTier(key, tuple(_merged(each) if joined else each), layout.rate)
        for key, each in spans.items()
        if any(span.value for span in each)
    )


def _label_columns(layout: Layout) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the name of each tier, empty if another column names it, and its columns: three for triplets."""
    triplet = tuple(layout.roles[part] for part in ("instrument", "verb", "target") if part in layout.roles)
    if len(triplet) == 3:
        yield "triplets", triplet
    for number in layout.tiers:
        if len(triplet) == 3 and number in triplet:
            continue
        yield (
            ("" if "tier" in layout.roles and number == layout.roles.get("label") else layout.names[number]),
            (number,),
        )


def _span(table: Table, row: TimedRow, columns: Sequence[int]) -> LabeledSpan:
    parts = [label_text(row.line, number) for number in columns]
    where = table.cell(row.line.number, columns[0])
    for part in parts:
        if table.sheet and _EXCEL_DATE.match(part):
            raise AnnotationError(
                f"{where} holds the date {part[:10]} where a label is expected; format the column as text"
            )
        if _EXCEL_ERROR.match(part):
            raise AnnotationError(f"{where} holds {part}, an error of the spreadsheet, where a label is expected")
    value = ",".join(parts) if any(parts) else ""
    return LabeledSpan(row.start, row.stop, value, where)


def _merged(spans: Sequence[LabeledSpan]) -> list[LabeledSpan]:
    """Merge adjacent spans with equal labels, so that a table with a row per frame becomes a few spans."""
    merged: list[LabeledSpan] = []
    for span in spans:
        last = merged[-1] if merged else None
        if last and last.value == span.value and abs(span.start - last.stop) < 1e-6:
            merged[-1] = LabeledSpan(last.start, span.stop, last.value, last.where)
        else:
            merged.append(span)
    return merged
