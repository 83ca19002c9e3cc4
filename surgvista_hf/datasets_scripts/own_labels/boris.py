"""Projects of BORIS (`.boris`), and the tables of events that it exports (CSV or TSV): aggregated and tabular.

Source of the format: the user guide of BORIS (Friard and Gamba, Methods in Ecology and Evolution 7, 2016), "Create a new
project", "Observations" and "Export events". A state event starts and ends by the same behavior coded twice for the same
subject with the same modifiers; a point event has no duration. Files of one player are played one after another, and the time
of an event counts from the beginning of the first.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..schema.info import AnnotationError
from .documents import Node, as_number, read_document, read_head, read_rows
from .model import LabeledSpan, LabelTier, VideoLabels

FORMAT = "boris"

_BEHAVIOR = "behavior"  # tier of behaviors without a category
_NO_SUBJECT = ("", "No focal subject")
_NO_MODIFIER = ("", "None")
_ROUNDING = 5e-3  # seconds by which an event may come after the end that BORIS noted for a file
_AGGREGATED = ("Observation id", "Behavior", "Behavior type", "Start (s)", "Stop (s)")
_EVENTS = ("Time", "Behavior")
_MEDIA_COLUMNS = ("Media file path", "Media file name", "Media file", "Source")
_FIXED_COLUMNS = frozenset(
    """time start_s stop_s duration_s subject behavior behavioral_category behavior_type status modifiers comment
    comment_start comment_stop fps fps_frame_s total_length total_duration media_duration_s media_file media_file_path
    media_file_name source image_index image_index_start image_index_stop image_file_path image_file_path_start
    image_file_path_stop time_offset_s coding_duration observation_duration observation_type
    observation_duration_by_subject_by_observation""".split()
)


@dataclass(frozen=True)
class _Behavior:
    category: str
    is_state: bool
    modifiers: tuple[str, ...]  # names of the sets of modifiers


@dataclass(frozen=True)
class _Event:
    time: float
    subject: str
    behavior: str
    modifiers: tuple[str, ...]
    status: str  # START, STOP, POINT; empty where it follows from the order of the events
    where: str


@dataclass(frozen=True)
class _Occurrence:
    """An event with its duration, in seconds of the observation."""

    start: float
    stop: float
    event: _Event


def recognizes(path: Path) -> bool:
    """Return whether a file seems to be a project of BORIS or a table of events that it exported."""
    if not path.is_file():
        return False
    head = read_head(path)
    if path.suffix.lower() == ".boris" or ('"behaviors_conf"' in head and '"observations"' in head):
        return True
    if path.suffix.lower() not in (".csv", ".tsv", ".txt"):
        return False
    lines = [re.split("[\t;,]", line.replace('"', "")) for line in head.splitlines()[:60]]
    return any(_is_header(line) for line in lines)


def read(path: Path) -> list[VideoLabels]:
    """Read the observations of a project or of an exported table.

    A tier holds the behaviors of a category (`behavior` where they have none), of each subject apart (`surgeon: phase`);
    further tiers hold the modifiers of a behavior (`cut: instrument`). Point events are spans without a duration. Independent
    variables become properties. Of several players the first counts; an observation of several files, one after another,
    becomes one entry a file.

    Raises:
        AnnotationError: the file is neither, a state event lacks its end, or an event lies outside of the videos.
    """
    if path.suffix.lower() in (".csv", ".tsv", ".txt"):
        return _read_table(path)
    project = read_document(path)
    if project.get("observations") is None or project.get("behaviors_conf") is None:
        raise AnnotationError(f"{path} is no project of BORIS: it has no 'observations' and 'behaviors_conf'")
    ethogram = _ethogram(project.field("behaviors_conf"))
    return [
        labels
        for name, observation in project.field("observations").fields().items()
        for labels in _observation(name, observation, ethogram)
    ]


# ------------------------------------------------------------------------------------------- project


def _ethogram(node: Node) -> dict[str, _Behavior]:
    behaviors: dict[str, _Behavior] = {}
    for entry in node.fields().values():
        code, kind = entry.field("code").text(), entry.field("type").text().lower()
        if code in behaviors:
            raise entry.error(f"the behavior {code!r} is there twice")
        if not kind.startswith(("state", "point")):
            raise entry.error(f"the behavior {code!r} has the type {kind!r}; state and point events are known")
        category = entry.get("category")
        behaviors[code] = _Behavior(
            category.text() if category else "", kind.startswith("state"), _modifier_names(entry.get("modifiers"))
        )
    return behaviors


def _modifier_names(node: Node | None) -> tuple[str, ...]:
    if node is None or not isinstance(node.content, Mapping):  # old projects have a text here
        return ()
    sets = sorted(node.fields().items(), key=lambda item: as_number(item[0]) or 0.0)
    return tuple(name.text() if (name := each.get("name")) else "" for _, each in sets)


def _observation(name: str, node: Node, ethogram: Mapping[str, _Behavior]) -> Iterator[VideoLabels]:
    kind = node.get("type")
    if kind is not None and kind.text().upper() == "IMAGES":
        raise node.error("this observation is of single images; observations of videos are read")
    if (offset := node.get("time offset")) is not None and as_number(offset.content) != 0:
        raise offset.error(
            "the times of this observation are shifted against the video; set the time offset to 0 in BORIS"
        )
    events = [_event(each, ethogram) for each in node.field("events").elements()]
    occurrences = _occurrences(node, events, ethogram)
    properties: dict[str, str] = {}
    variables = node.get("independent_variables")
    if variables is not None:
        properties = {key: value.text() for key, value in variables.fields().items() if value.content is not None}
    files = _files(node)
    if len(files) < 2:
        video = files[0][0] if files else name
        yield VideoLabels(video, _tiers(occurrences, ethogram), properties, node.where)
        return
    start = 0.0
    for number, (file, length) in enumerate(files, 1):
        # What comes after the end of the last file by a rounding error belongs to it.
        stop = start + length if number < len(files) else float("inf")
        part = [_shifted(each, start, stop) for each in occurrences if _overlaps(each, start, stop)]
        yield VideoLabels(file, _tiers(part, ethogram), properties, node.where)
        start += length


def _event(node: Node, ethogram: Mapping[str, _Behavior]) -> _Event:
    values = node.elements()
    if len(values) < 3:
        raise node.error("an event has a time, a subject and a behavior")
    behavior = values[2].text()
    if behavior not in ethogram:
        raise values[2].error(f"the behavior {behavior!r} is not in the ethogram; known are {', '.join(ethogram)}")
    modifiers = values[3].text() if len(values) > 3 and values[3].content is not None else ""
    subject = values[1].text() if values[1].content is not None else ""
    return _Event(values[0].number(), _subject(subject), behavior, _modifiers(modifiers), "", node.where)


def _subject(text: str) -> str:
    return "" if text in _NO_SUBJECT else text


def _modifiers(text: str) -> tuple[str, ...]:
    return tuple("" if part.strip() in _NO_MODIFIER else part.strip() for part in text.split("|")) if text else ()


def _occurrences(node: Node, events: Sequence[_Event], ethogram: Mapping[str, _Behavior]) -> list[_Occurrence]:
    """Pair the beginnings and ends of state events, in the order of time."""
    found: list[_Occurrence] = []
    going: dict[tuple[str, str, tuple[str, ...]], _Event] = {}
    for event in sorted(events, key=lambda event: event.time):
        key = (event.subject, event.behavior, event.modifiers)
        if not ethogram[event.behavior].is_state:
            found.append(_Occurrence(event.time, event.time, event))
        elif key in going:
            found.append(_Occurrence(going[key].time, event.time, going.pop(key)))
        else:
            going[key] = event
    for event in going.values():
        raise node.error(
            f"the state event {event.behavior!r} that starts at {event.time:g} s has no end; 'Fix unpaired events' of BORIS "
            "adds it"
        )
    end = sum(length for _, length in _files(node)) + _ROUNDING
    late = next((each for each in found if each.stop > end), None)
    if late is not None and end > _ROUNDING:
        raise node.error(f"{late.event.behavior!r} ends at {late.stop:g} s, after the end of the video at {end:g} s")
    return sorted(found, key=lambda each: (each.start, each.stop))


def _files(node: Node) -> list[tuple[str, float]]:
    """Return the files of the first player and their lengths in seconds; one file may have the unknown length 0."""
    players = node.get("file")
    if players is None or not isinstance(players.content, Mapping):  # a live observation has an empty list
        return []
    first = players.get("1")
    files = [each.text() for each in first.elements()] if first is not None else []
    lengths = information.get("length") if (information := node.get("media_info")) is not None else None
    found = []
    for file in files:
        length = lengths.get(file) if lengths is not None else None
        if length is None and len(files) > 1:
            raise node.error(f"the length of {file!r} is unknown, so that the times of the files after it are, too")
        found.append((file, length.number() if length is not None else 0.0))
    return found


def _overlaps(each: _Occurrence, start: float, stop: float) -> bool:
    if each.start == each.stop:
        return start <= each.start < stop
    return each.start < stop and each.stop > start


def _shifted(each: _Occurrence, start: float, stop: float) -> _Occurrence:
    # Differences of times in milliseconds: rounding removes what the computer adds to them.
    return _Occurrence(round(max(each.start, start) - start, 6), round(min(each.stop, stop) - start, 6), each.event)


def _tiers(occurrences: Sequence[_Occurrence], ethogram: Mapping[str, _Behavior]) -> tuple[LabelTier, ...]:
    spans: dict[str, list[LabeledSpan]] = {}
    for each in sorted(occurrences, key=lambda each: (each.start, each.stop)):
        event, behavior = each.event, ethogram[each.event.behavior]
        subject = f"{event.subject}: " if event.subject else ""
        tier = f"{subject}{behavior.category or _BEHAVIOR}"
        spans.setdefault(tier, []).append(LabeledSpan(each.start, each.stop, event.behavior, event.where))
        for number, modifier in enumerate(event.modifiers):
            if modifier:
                known = behavior.modifiers[number] if number < len(behavior.modifiers) else ""
                name = f"{subject}{event.behavior}: {known or f'modifier {number + 1}'}"
                spans.setdefault(name, []).append(LabeledSpan(each.start, each.stop, modifier, event.where))
    return tuple(LabelTier(name, tuple(found)) for name, found in spans.items())


# ------------------------------------------------------------------------------------------- exported tables


def _is_header(cells: Sequence[str]) -> bool:
    names = {cell.strip() for cell in cells}
    return names.issuperset(_AGGREGATED) or (names.issuperset(_EVENTS) and bool(names & {"Status", "Behavior type"}))


def _read_table(path: Path) -> list[VideoLabels]:
    rows = read_rows(path)
    number = next((number for number, (_, cells) in enumerate(rows) if _is_header(cells)), None)
    if number is None:
        raise AnnotationError(
            f"{path} has no header of a table of events of BORIS: {', '.join(_AGGREGATED)}, or Time, Behavior, Status"
        )
    header = rows[number][1]
    above = _above(rows[:number])
    observations: dict[str, list[tuple[int, dict[str, str]]]] = {}
    for line, cells in rows[number + 1 :]:
        if len(cells) != len(header):
            raise AnnotationError(f"{path}:{line} has {len(cells)} cells, its header {len(header)}")
        row = above | dict(zip(header, cells, strict=True))
        observations.setdefault(row.get("Observation id", ""), []).append((line, row))
    return [_table_observation(path, name, found) for name, found in observations.items()]


def _above(rows: Sequence[tuple[int, list[str]]]) -> dict[str, str]:
    """Return what older versions write above the table: the observation, its date, files and independent variables."""
    found: dict[str, str] = {}
    for _, cells in rows:
        key, value = (*cells, "", "")[:2]
        if value and key not in ("variable", "independent variables"):
            found["Media file path" if key == "Player #1" else key] = value
    return found


def _table_observation(path: Path, name: str, rows: Sequence[tuple[int, dict[str, str]]]) -> VideoLabels:
    line, first = rows[0]
    where = f"{path.name}:{line}"
    if as_number(first.get("Time offset (s)")):
        raise AnnotationError(
            f"{path}:{line}: the times are shifted against the video; set the time offset to 0 in BORIS"
        )
    files = list(dict.fromkeys(_media(row) for _, row in rows))
    if len(files) > 1:
        raise AnnotationError(
            f"{path}:{line}: the observation {name!r} is of the files {', '.join(files)}, and a table does not say where each "
            "begins; give the project (.boris) instead"
        )
    ethogram: dict[str, _Behavior] = {}
    occurrences: list[_Occurrence] = []
    going: dict[tuple[str, str, tuple[str, ...]], _Event] = {}
    for line, row in sorted(rows, key=lambda item: as_number(item[1].get("Time")) or 0.0):
        event = _table_event(path, line, row)
        ethogram[event.behavior] = _Behavior(row.get("Behavioral category", ""), True, ())
        key = (event.subject, event.behavior, event.modifiers)
        if "Start (s)" in row:
            occurrences.append(_Occurrence(event.time, _time(path, line, row, "Stop (s)"), event))
        elif event.status == "POINT":
            occurrences.append(_Occurrence(event.time, event.time, event))
        elif event.status == "START" and key not in going:
            going[key] = event
        elif event.status == "STOP" and key in going:
            occurrences.append(_Occurrence(going[key].time, event.time, going.pop(key)))
        else:
            raise AnnotationError(
                f"{path}:{line}: {event.behavior!r} has the status {event.status!r} at {event.time:g} s, where it "
                f"{'goes on already' if key in going else 'does not go on'}"
            )
        if occurrences and occurrences[-1].stop < occurrences[-1].start:
            raise AnnotationError(f"{path}:{line}: {event.behavior!r} ends before it starts")
    for event in going.values():
        raise AnnotationError(f"{path}: the state event {event.behavior!r} that starts at {event.time:g} s has no end")
    properties = {key: value for key, value in first.items() if value and _is_variable(key)}
    return VideoLabels(files[0] or name or path.stem, _tiers(occurrences, ethogram), properties, where)


def _table_event(path: Path, line: int, row: Mapping[str, str]) -> _Event:
    modifiers = [row[key] for key in row if re.fullmatch(r"Modifier #\d+", key)]
    status = row.get("Status") or row.get("Behavior type", "")
    return _Event(
        _time(path, line, row, "Start (s)" if "Start (s)" in row else "Time"),
        _subject(row.get("Subject", "")),
        row["Behavior"],
        _modifiers("|".join(modifiers) if any(modifiers) else row.get("Modifiers", "")),
        status.upper().removesuffix(" EVENT"),
        f"{path.name}:{line}",
    )


def _time(path: Path, line: int, row: Mapping[str, str], column: str) -> float:
    value = as_number(row[column])
    if value is None or value < 0:
        raise AnnotationError(f"{path}:{line} holds {row[column]!r} as {column}; seconds are expected")
    return value


def _media(row: Mapping[str, str]) -> str:
    """Return the file of a row; `Source` names it with the player: `player #1:op1.mp4`."""
    text = next((row[column] for column in _MEDIA_COLUMNS if row.get(column)), "")
    return re.split(r";\s*|\s*player #[2-9]", re.sub("^player #1:", "", text))[0].strip()


def _is_variable(column: str) -> bool:
    """Return whether a column is none of BORIS but an independent variable of the project."""
    name = re.sub(r"\W+", "_", column.lower()).strip("_")
    fixed = (*_FIXED_COLUMNS, "observation_id", "observation_date", "description", "media_file_s", "")
    return name not in fixed and not name.startswith(("modifier", "player"))
