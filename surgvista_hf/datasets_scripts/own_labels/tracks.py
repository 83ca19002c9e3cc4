"""Labels of one video as tracks of label columns, by a mapping."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from ...util.messages import did_you_mean, preview
from ..schema.info import AnnotationError
from ..schema.label_tracks import ConstantTrack, Interval, SortedIntervalTrack, Track
from .mapping import _ABSENT, _PRESENT, ColumnMapping, LabelMapping, component_classes
from .model import LabeledSpan, LabelTier, VideoLabels

_TOLERANCE = 1e-3  # seconds, or frames, by which two intervals may overlap
_LATE = 2.0  # seconds after the end of a file at which one of its labels may begin
_EVENT = 1.0  # seconds for which something that has no duration is labeled
Value = int | list[int] | list[float]


@dataclass(frozen=True)
class _Piece:
    """A part of time in which labels do not change."""

    start: float
    stop: float
    value: Value


def video_tracks(labels: VideoLabels, mapping: LabelMapping) -> list[Track]:
    """Return the label columns of one video over time.

    Args:
        labels: merged labels of the video.
        mapping: meaning of the labels.

    Returns:
        A track for each column that the labels of the video speak of.

    Raises:
        AnnotationError: a label is not in the mapping, or intervals overlap that must not; the message names the cells.
    """
    tiers = {tier.name: _counted_from(tier, mapping.first_frame) for tier in labels.tiers}
    tracks: list[Track] = []
    for name, column in mapping.columns.items():
        if column.properties:
            value = _property_value(labels, name, column)
            if value is not None:
                tracks.append(ConstantTrack({name: value}))
            continue
        found = [tiers[tier] for tier in column.tiers if tier in tiers]
        if not found:
            continue
        track = _track(name, column, _in_one_unit(found))
        tracks.append(track)
        tracks += _component_tracks(column, track, name, mapping)
    return tracks


def shift(labels: VideoLabels, seconds: float, rate: float, length: float) -> VideoLabels:
    """Return the labels of one file of a joined video, with times that count from the start of the first file.

    Args:
        labels: labels of one file.
        seconds: seconds that the files before it last.
        rate: source frames per second, for labels that count frames.
        length: seconds that the file lasts; what goes on after its end is cut.

    Raises:
        AnnotationError: a label begins after the end of the file.
    """
    tiers = []
    for tier in labels.tiers:
        unit = rate if tier.rate is None else tier.rate
        late = [span for span in tier.spans if span.start > (length + _LATE) * unit]
        if late:
            raise AnnotationError(
                f"{late[0].where} begins at {late[0].start / unit:g} s; {labels.video!r} ends at {length:g} s. Check that the "
                "times count from the start of each file"
            )
        spans = [
            replace(span, start=span.start + seconds * unit, stop=min(span.stop, length * unit) + seconds * unit)
            for span in tier.spans
            if span.start < length * unit
        ]
        tiers.append(replace(tier, spans=tuple(spans)))
    return replace(labels, tiers=tuple(tiers))


def _counted_from(tier: LabelTier, first: int) -> LabelTier:
    if tier.rate is not None or not first:
        return tier
    for span in tier.spans:
        if span.start < first:
            raise AnnotationError(
                f"{span.where} is about frame {span.start:g}; the mapping says that they count from {first}"
            )
    spans = tuple(replace(span, start=span.start - first, stop=span.stop - first) for span in tier.spans)
    return replace(tier, spans=spans)


def _in_one_unit(tiers: Sequence[LabelTier]) -> list[LabelTier]:
    """Return tiers with times in seconds, or all in frames."""
    counted = [tier for tier in tiers if tier.rate is None]
    if counted and len(counted) < len(tiers):
        other = next(tier for tier in tiers if tier.rate is not None)
        raise AnnotationError(
            f"{_first(counted[0])} counts frames and {_first(other)} seconds; one column cannot be made from both"
        )
    return [tier if tier.rate in (None, 1.0) else _in_seconds(tier, tier.rate) for tier in tiers]


def _in_seconds(tier: LabelTier, rate: float) -> LabelTier:
    spans = tuple(replace(span, start=span.start / rate, stop=span.stop / rate) for span in tier.spans)
    return LabelTier(tier.name, spans)


def _first(tier: LabelTier) -> str:
    return tier.spans[0].where if tier.spans else f"the tier {tier.name!r}"


def _track(name: str, column: ColumnMapping, tiers: Sequence[LabelTier]) -> SortedIntervalTrack:
    pieces = {"class": _class_pieces, "classes": _set_pieces, "numbers": _number_pieces}[column.kind](
        name, column, tiers
    )
    rows = tuple(Interval(piece.start, piece.stop, {name: piece.value}) for piece in _joined(pieces))
    return SortedIntervalTrack(rows, rate=tiers[0].rate)


def _joined(pieces: Iterable[_Piece]) -> list[_Piece]:
    """Merge adjacent parts with equal labels."""
    joined: list[_Piece] = []
    for piece in pieces:
        if joined and joined[-1].value == piece.value and piece.start <= joined[-1].stop + 1e-9:
            joined[-1] = _Piece(joined[-1].start, max(piece.stop, joined[-1].stop), piece.value)
        else:
            joined.append(piece)
    return joined


# ------------------------------------------------------------------------------------------- the meaning of a label


def _classes(column: ColumnMapping, name: str, tier: LabelTier, span: LabeledSpan) -> list[str] | None:
    """Return the classes that a span speaks of; `None` if it says that there is no label.

    Raises:
        AnnotationError: a label is not in the mapping.
    """
    if column.presence:
        present = _presence(column, tier, span)
        return None if present is None else [tier.name] * present
    texts = [part.strip() for part in span.value.split(column.separator)] if column.separator else [span.value]
    known = [text for text in texts if text.lower() not in column.no_label or text in column.classes]
    if not known:
        return None
    return [
        column.rename.get(text, text)
        for text in known
        if text not in column.drop and _check_known(column, name, text, span)
    ] or (None if column.kind == "class" else [])


def _check_known(column: ColumnMapping, name: str, text: str, span: LabeledSpan) -> bool:
    if text not in column.classes and text not in column.rename:
        hint = did_you_mean(text, column.classes, f"known are {preview(column.classes, 12)}")
        raise AnnotationError(
            f"{span.where} holds the label {text!r}, which the mapping of {name} has not in classes, rename or drop; {hint}"
        )
    return True


def _presence(column: ColumnMapping, tier: LabelTier, span: LabeledSpan) -> bool | None:
    text = span.value.lower()
    if text in _PRESENT or text == tier.name.lower():
        return True
    if text in _ABSENT:
        return False
    if text in column.no_label:
        # An annotation without a text on a tier of its own says that it is there; an empty cell of a table says nothing.
        return True if text == "" and all(not each.value for each in tier.spans) else None
    raise AnnotationError(f"{span.where} holds {span.value!r} where 0 or 1 says whether {tier.name} is present")


# ------------------------------------------------------------------------------------------- one class


def _class_pieces(name: str, column: ColumnMapping, tiers: Sequence[LabelTier]) -> Iterator[_Piece]:
    """Yield the class over time; no two may hold at once."""
    ids = {label: number for number, label in enumerate(column.classes)}
    found: list[tuple[LabeledSpan, int]] = []
    for tier in tiers:
        for span in _lasting(tier):
            classes = _classes(column, name, tier, span)
            if classes is None:
                continue
            # The classes of something that is there or not are `no` and `yes`.
            numbers = {int(bool(classes))} if column.presence else {ids[each] for each in classes}
            found += [(span, number) for number in sorted(numbers)]
    found.sort(key=lambda entry: entry[0].start)
    if column.overlaps == "inner":
        found = list(_inner(found))
    last: tuple[LabeledSpan, int] | None = None
    until = 0.0
    for span, number in found:
        start = span.start
        if last and span.start < until - _TOLERANCE and number != last[1]:
            raise AnnotationError(
                f"{span.where}: {span.value!r} begins at {span.start:g}, before {last[0].value!r} ends at {until:g} "
                f"({last[0].where}); {name} holds one class at a time: correct it, or write `kind: classes` or "
                "`overlaps: inner` in a mapping"
            )
        if last:
            if column.presence and column.gaps == "none" and start > until:
                yield _Piece(until, start, 0)
            start = max(start, until)
        elif column.presence and column.gaps == "none":
            yield _Piece(0.0, start, 0)
        if span.stop > start:
            yield _Piece(start, span.stop, number)
        if not last or span.stop >= until:
            last, until = (span, number), max(span.stop, until)
    if column.presence and column.gaps == "none" and until < math.inf:
        yield _Piece(until, math.inf, 0)


def _inner(found: Sequence[tuple[LabeledSpan, int]]) -> Iterator[tuple[LabeledSpan, int]]:
    """Yield intervals that do not overlap: of those that hold at a time the shortest, and of equal ones the last."""
    ends = sorted({end for span, _ in found for end in (span.start, span.stop)})
    active: list[tuple[LabeledSpan, int]] = []
    waiting = list(reversed(found))
    for start, stop in pairwise(ends):
        while waiting and waiting[-1][0].start <= start:
            active.append(waiting.pop())
        active = [entry for entry in active if entry[0].stop > start]
        if active:
            span, number = min(reversed(active), key=lambda entry: entry[0].stop - entry[0].start)
            yield replace(span, start=start, stop=stop), number


def _lasting(tier: LabelTier) -> Sequence[LabeledSpan]:
    """Return the spans of a class: an event without a duration holds for a moment, until the next span at the latest.

    Lists of changes are none of these: a table has given each row the end that the next one begins.
    """
    if all(span.stop > span.start for span in tier.spans):
        return tier.spans
    starts = sorted({span.start for span in tier.spans})
    following = dict(pairwise([*starts, math.inf]))
    moment = _EVENT * (tier.rate or 1)
    return [
        span if span.stop > span.start else replace(span, stop=min(span.start + moment, following[span.start]))
        for span in tier.spans
    ]


# ------------------------------------------------------------------------------------------- sets of classes, numbers


def _set_pieces(name: str, column: ColumnMapping, tiers: Sequence[LabelTier]) -> Iterator[_Piece]:
    """Yield the set of classes over time."""
    ids = {label: number for number, label in enumerate(column.classes)}
    spans: list[tuple[float, float, int, list[int]]] = []
    for number, tier in enumerate(tiers):
        for span in tier.spans:
            stop = span.stop if span.stop > span.start else span.start + _EVENT * (tier.rate or 1)
            classes = _classes(column, name, tier, span)
            if classes is not None:
                spans.append((span.start, stop, number, [_class_id(ids, column, each) for each in classes]))
    needed = len(tiers) if column.presence else 1
    for start, stop, covered, active in _sweep(spans):
        if len(covered) >= needed or column.gaps == "none":
            yield _Piece(start, stop, sorted(active))


def _class_id(ids: Mapping[str, int], column: ColumnMapping, name: str) -> int:
    name = column.rename.get(name, name)
    if name not in ids:
        raise AnnotationError(f"the tier {name!r} is none of the classes {preview(column.classes, 12)} of the mapping")
    return ids[name]


def _sweep(
    spans: Sequence[tuple[float, float, int, list[int]]],
) -> Iterator[tuple[float, float, Counter[int], Counter[int]]]:
    """Yield the parts of time between changes, from 0 to infinity, with the tiers that cover them and what holds in them."""
    changes: dict[float, list[tuple[int, int, list[int]]]] = {0.0: [], math.inf: []}
    for start, stop, tier, values in spans:
        changes.setdefault(start, []).append((1, tier, values))
        changes.setdefault(stop, []).append((-1, tier, values))
    covered: Counter[int] = Counter()
    active: Counter[int] = Counter()
    for start, stop in pairwise(sorted(changes)):
        for by, tier, values in changes[start]:
            covered[tier] += by
            active.update(dict.fromkeys(values, by))
        yield start, stop, +covered, +active


def _number_pieces(name: str, column: ColumnMapping, tiers: Sequence[LabelTier]) -> Iterator[_Piece]:
    """Yield the numbers over time, where all of them are known."""
    order = {tier: number for number, tier in enumerate(column.tiers)}
    spans: list[tuple[float, float, int, list[int]]] = []
    values: list[float] = []
    for tier in tiers:
        for span in tier.spans:
            value = _number(column, tier, span)
            if value is not None:
                spans.append((span.start, span.stop, order[tier.name], [len(values)]))
                values.append(value)
    holder = {index: tier for _, _, tier, (index,) in spans}
    for start, stop, covered, active in _sweep(spans):
        if len(covered) == len(column.tiers):
            by_tier = {holder[index]: values[index] for index in active}
            yield _Piece(start, stop, [by_tier[number] for number in range(len(column.tiers))])


def _number(column: ColumnMapping, tier: LabelTier, span: LabeledSpan) -> float | None:
    if span.value.lower() in column.no_label:
        return None
    if column.presence and span.value.lower() in _PRESENT | _ABSENT:
        return float(span.value.lower() in _PRESENT)
    return _as_number(span.value, span.where, tier.name)


def _as_number(text: str, where: str, name: str) -> float:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        raise AnnotationError(f"{where} holds {text!r} where a number is expected for {name}") from None


def _property_value(labels: VideoLabels, name: str, column: ColumnMapping) -> Value | None:
    """Return the label of a whole video; `None` if it has none."""
    texts = [labels.properties.get(each, "") for each in column.properties]
    if any(text.lower() in column.no_label for text in texts):
        return None
    if column.kind == "numbers":
        return [_as_number(text, labels.where, each) for text, each in zip(texts, column.properties, strict=True)]
    span = LabeledSpan(0.0, math.inf, texts[0], labels.where)
    classes = _classes(column, name, LabelTier(column.properties[0], (span,)), span)
    if classes is None:
        return None
    ids = [_class_id({label: number for number, label in enumerate(column.classes)}, column, each) for each in classes]
    return sorted(set(ids)) if column.kind == "classes" else ids[0]


def _component_tracks(
    column: ColumnMapping, track: SortedIntervalTrack, name: str, mapping: LabelMapping
) -> Iterator[SortedIntervalTrack]:
    """Yield the instruments, verbs and targets of triplets, unless other labels say them."""
    for number, (part, names) in enumerate(component_classes(column).items()):
        if part in mapping.columns:
            continue
        ids = {label: index for index, label in enumerate(names)}
        of_class = [ids.get(triplet.split(",")[number]) for triplet in column.classes]
        rows = []
        for each in track.intervals:
            found = {of_class[triplet] for triplet in each.row[name]} - {None}
            rows.append(replace(each, row={part: sorted(found)}))
        yield replace(track, intervals=tuple(rows))
