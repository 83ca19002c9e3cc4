"""Reading and writing annotation documents of ELAN (`.eaf`, EAF 2.0 to 3.0).

Source of the format: "EAF, ELAN Annotation Format, schema version 3.0" and the schemas of the Max Planck Institute for
Psycholinguistics. A tier holds annotations. Those with times refer to time slots in milliseconds, of which some have no value:
they divide the time between two others evenly. Those of a tier below another refer to an annotation of that tier.
"""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote

from ...util.file_search import VIDEO_SUFFIXES
from ...util.files import atomic_file
from .annotation_files import read_xml
from .info import AnnotationError

_SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
_INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"
_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_MILLISECONDS = re.compile(r"[0-9]{1,12}", re.ASCII)


@dataclass(frozen=True)
class ElanAnnotation:
    """One annotation.

    Args:
        name: id in the document.
        value: text of the label.
        start, stop: seconds of the video; `None` where the document does not say them.
        is_aligned: whether both times stand in the document; otherwise they follow from those of other annotations.
        refers: whether the annotation has no times but refers to another one.
    """

    name: str
    value: str
    start: float | None
    stop: float | None
    is_aligned: bool
    refers: bool


@dataclass(frozen=True)
class ElanTier:
    """A tier and its annotations in the order of the document."""

    name: str
    annotations: tuple[ElanAnnotation, ...]


@dataclass(frozen=True)
class ElanDocument:
    """The content of an annotation document.

    Args:
        path: path of the document.
        video: path or name of the video; empty where the document names none.
        tiers: tiers in the order of the document, including those without annotations.
    """

    path: Path
    video: str
    tiers: tuple[ElanTier, ...]


@dataclass(frozen=True)
class _Entry:
    """An annotation before its times are known: its slots, or the annotation that it refers to and the one before it."""

    name: str
    value: str
    slots: tuple[str, str] | None
    parent: str
    before: str


@dataclass(frozen=True)
class _Tier:
    name: str
    parent: str
    entries: tuple[_Entry, ...]


_Times = tuple[int | None, int | None]


def read_elan(path: Path) -> ElanDocument:
    """Read all tiers of an annotation document.

    Args:
        path: `.eaf` file.

    Returns:
        The tiers with times in seconds of the video: the part of it that ELAN was told to skip is added.

    Raises:
        AnnotationError: the file is no annotation document, an id is used twice, or a reference leads nowhere.
    """
    root = read_xml(path)
    if root.tag != "ANNOTATION_DOCUMENT":
        raise AnnotationError(f"{path} is not an annotation document of ELAN but a <{root.tag}>")
    header = root.find("HEADER")
    if header is not None and header.get("TIME_UNITS", "milliseconds") != "milliseconds":
        raise AnnotationError(f"{path} gives times in {header.get('TIME_UNITS')}; milliseconds are expected")
    video, origin = _video(path, header)
    tiers = _tiers(path, root)
    slots = _slots(path, root)
    times = _aligned_times(tiers, slots)
    _add_referring(path, tiers, times)

    read = (
        ElanTier(tier.name, tuple(_annotation(entry, times[entry.name], origin, slots) for entry in tier.entries))
        for tier in tiers
    )
    return ElanDocument(path, video, tuple(read))


def _annotation(entry: _Entry, times: _Times, origin: int, slots: Mapping[str, int | None]) -> ElanAnnotation:
    start, stop = (None if time is None else (time + origin) / 1000 for time in times)
    is_aligned = entry.slots is not None and all(slots.get(slot) is not None for slot in entry.slots)
    return ElanAnnotation(entry.name, entry.value, start, stop, is_aligned, refers=entry.slots is None)


def _video(path: Path, header: ElementTree.Element | None) -> tuple[str, int]:
    """Return the video and the milliseconds of it that come before the time 0 of the document."""
    if header is None:
        return "", 0
    media = list(header.iter("MEDIA_DESCRIPTOR"))
    chosen = next(
        iter(sorted(media, key=_is_no_video)), None
    )  # the first of several is the one that the others follow
    if chosen is None:
        return _local(header.get("MEDIA_FILE", "")), 0
    url, relative = chosen.get("MEDIA_URL", ""), chosen.get("RELATIVE_MEDIA_URL", "")
    name = _local(relative or url)
    origin = chosen.get("TIME_ORIGIN", "0")
    if not _MILLISECONDS.fullmatch(origin):
        raise AnnotationError(f"{path}: the video {name!r} has the time origin {origin!r}; milliseconds are expected")
    return unquote(name) if url.startswith("file:") and " " not in url else name, int(origin)


def _is_no_video(media: ElementTree.Element) -> bool:
    name = media.get("MEDIA_URL", "").lower()
    return not (media.get("MIME_TYPE", "").startswith("video") or name.endswith(VIDEO_SUFFIXES))


def _local(url: str) -> str:
    """Remove what marks a path as an address: `file:///C:/op1.mp4`, `./op1.mp4`."""
    return re.sub(r"^(?:file:/{0,2}(?:/(?=[A-Za-z]:))?)?(?:\./)?", "", url)


def _slots(path: Path, root: ElementTree.Element) -> dict[str, int | None]:
    slots: dict[str, int | None] = {}
    for slot in root.iter("TIME_SLOT"):
        name, value = slot.get("TIME_SLOT_ID", ""), slot.get("TIME_VALUE")
        if name in slots:
            raise AnnotationError(f"{path} has two time slots {name!r}")
        if value is not None and not _MILLISECONDS.fullmatch(value):
            raise AnnotationError(f"{path}: the time slot {name!r} has the time {value!r}; milliseconds are expected")
        slots[name] = None if value is None else int(value)
    return slots


def _tiers(path: Path, root: ElementTree.Element) -> list[_Tier]:
    tiers: list[_Tier] = []
    tier_names: set[str] = set()
    names: set[str] = set()
    for element in root.iter("TIER"):
        tier = _Tier(element.get("TIER_ID", ""), element.get("PARENT_REF", ""), tuple(_entries(element)))
        if tier.name in tier_names:
            raise AnnotationError(f"{path} has two tiers {tier.name!r}")
        tier_names.add(tier.name)
        for entry in tier.entries:
            if entry.name in names:
                raise AnnotationError(
                    f"{path} has two annotations {entry.name!r}, the second on the tier {tier.name!r}"
                )
            names.add(entry.name)
        tiers.append(tier)
    return tiers


def _entries(tier: ElementTree.Element) -> Iterator[_Entry]:
    for element in tier.iter():
        value = (element.findtext("ANNOTATION_VALUE") or "").strip()
        name = element.get("ANNOTATION_ID", "")
        if element.tag == "ALIGNABLE_ANNOTATION":
            slots = (element.get("TIME_SLOT_REF1", ""), element.get("TIME_SLOT_REF2", ""))
            yield _Entry(name, value, slots, "", "")
        elif element.tag == "REF_ANNOTATION":
            yield _Entry(name, value, None, element.get("ANNOTATION_REF", ""), element.get("PREVIOUS_ANNOTATION", ""))


def _aligned_times(tiers: Sequence[_Tier], slots: Mapping[str, int | None]) -> dict[str, _Times]:
    """Return the times of annotations with slots.

    Slots without a value lie evenly between those with one, along the annotations of their tier that follow each other. A
    tier comes after the one above it, whose slots its own annotations may share.
    """
    known = {slot: value for slot, value in slots.items() if value is not None}
    parents = {tier.name: tier.parent for tier in tiers}
    for tier in sorted(tiers, key=lambda tier: _depth(tier, parents)):
        following = {entry.slots[0]: entry.slots[1] for entry in tier.entries if entry.slots}
        for first in [slot for slot in following if slot in known]:
            run = [first, following[first]]
            while run[-1] not in known and run[-1] in following and len(run) <= len(following):
                run.append(following[run[-1]])
            if run[-1] in known:
                start, stop = known[first], known[run[-1]]
                for number, slot in enumerate(run[1:-1], 1):
                    known[slot] = start + round(number * (stop - start) / (len(run) - 1))
    return {
        entry.name: (known.get(entry.slots[0]), known.get(entry.slots[1]))
        for tier in tiers
        for entry in tier.entries
        if entry.slots
    }


def _depth(tier: _Tier, parents: Mapping[str, str]) -> int:
    depth, name = 0, tier.parent
    while name in parents and depth <= len(parents):  # a circle of tiers ends too
        depth, name = depth + 1, parents[name]
    return depth


def _add_referring(path: Path, tiers: Sequence[_Tier], times: dict[str, _Times]) -> None:
    """Add the times of annotations that refer to others: those of one parent on one tier share its time evenly."""
    groups: dict[str, list[tuple[str, list[_Entry]]]] = {}  # by parent, the groups of its children on each tier
    waiting = 0
    for tier in tiers:
        children: dict[str, list[_Entry]] = {}
        for entry in tier.entries:
            if not entry.slots:
                children.setdefault(entry.parent, []).append(entry)
                waiting += 1
        for parent, entries in children.items():
            groups.setdefault(parent, []).append((tier.name, _in_order(path, tier.name, entries)))
    ready = list(times)
    while ready:
        name = ready.pop()
        start, stop = times[name]
        for _, entries in groups.pop(name, ()):
            for number, entry in enumerate(entries):
                times[entry.name] = _part(start, stop, number, len(entries))
                ready.append(entry.name)
    if groups:
        parent, (group, *_) = next(iter(groups.items()))
        raise AnnotationError(
            f"{path}: the annotation {group[1][0].name!r} of the tier {group[0]!r} refers to {parent!r}, which leads to no "
            "annotation with times"
        )


def _part(start: int | None, stop: int | None, number: int, count: int) -> _Times:
    if start is None or stop is None:
        return None, None
    return start + round(number * (stop - start) / count), start + round((number + 1) * (stop - start) / count)


def _in_order(path: Path, tier: str, entries: Sequence[_Entry]) -> list[_Entry]:
    """Return the children of one annotation in the order in which each names the one before it."""
    if len(entries) == 1:
        return list(entries)
    following: dict[str, _Entry] = {}
    for entry in entries:
        if entry.before in following:
            raise AnnotationError(
                f"{path}: the annotations {following[entry.before].name!r} and {entry.name!r} of the tier {tier!r} have the "
                f"same place below {entry.parent!r}"
            )
        following[entry.before] = entry
    ordered: list[_Entry] = []
    while (last := ordered[-1].name if ordered else "") in following:
        ordered.append(following.pop(last))
    if len(ordered) < len(entries):
        raise AnnotationError(
            f"{path}: the annotations below {entries[0].parent!r} on the tier {tier!r} name no first one and its followers"
        )
    return ordered


def write_elan_document(
    path: str | Path,
    tiers: Mapping[str, Sequence[tuple[float, float, str]]],
    *,
    video: str,
    relative_path: str | None = None,
) -> None:
    """Write an annotation document (EAF 3.0).

    Args:
        path: `.eaf` file to write.
        tiers: start and stop in seconds and text of the annotations of each tier. Those of one tier must not overlap.
        video: file name of the video.
        relative_path: path of the video from the folder of the document; by default they lie in one folder.

    Raises:
        AnnotationError: a text holds a character that XML cannot hold.
    """
    root = ElementTree.Element(
        "ANNOTATION_DOCUMENT",
        {
            "AUTHOR": "surgvista_hf",
            "DATE": datetime.now(UTC).isoformat(timespec="seconds"),
            "FORMAT": "3.0",
            "VERSION": "3.0",
            f"{{{_INSTANCE}}}noNamespaceSchemaLocation": _SCHEMA,
        },
    )
    header = ElementTree.SubElement(root, "HEADER", {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"})
    media = {
        "MEDIA_URL": video,
        "RELATIVE_MEDIA_URL": relative_path or f"./{video}",
        "MIME_TYPE": "video/mp4" if video.lower().endswith(".mp4") else "unknown",
    }
    ElementTree.SubElement(header, "MEDIA_DESCRIPTOR", media)
    order = ElementTree.SubElement(root, "TIME_ORDER")
    numbered = list(enumerate((span for spans in tiers.values() for span in spans), 1))
    moments = sorted(
        (time, f"ts{2 * number - 1 + end}") for number, span in numbered for end, time in enumerate(span[:2])
    )
    for moment, slot in moments:
        ElementTree.SubElement(order, "TIME_SLOT", {"TIME_SLOT_ID": slot, "TIME_VALUE": str(round(1000 * moment))})
    number = 0
    for name, spans in tiers.items():
        tier = ElementTree.SubElement(root, "TIER", {"LINGUISTIC_TYPE_REF": "default-lt", "TIER_ID": name})
        for span in spans:
            number += 1
            _annotate(tier, span[2], number)
    kind = {"GRAPHIC_REFERENCES": "false", "LINGUISTIC_TYPE_ID": "default-lt", "TIME_ALIGNABLE": "true"}
    ElementTree.SubElement(root, "LINGUISTIC_TYPE", kind)
    for text in (video, *tiers, *(span[2] for spans in tiers.values() for span in spans)):
        if _NOT_IN_XML.search(text):
            raise AnnotationError(f"{text!r} holds a character that an ELAN document cannot hold; it is not written")
    ElementTree.register_namespace("xsi", _INSTANCE)
    ElementTree.indent(root)
    with atomic_file(path) as temporary:
        ElementTree.ElementTree(root).write(temporary, encoding="UTF-8", xml_declaration=True)


def _annotate(tier: ElementTree.Element, value: str, number: int) -> None:
    reference = {
        "ANNOTATION_ID": f"a{number}",
        "TIME_SLOT_REF1": f"ts{2 * number - 1}",
        "TIME_SLOT_REF2": f"ts{2 * number}",
    }
    inside = ElementTree.SubElement(ElementTree.SubElement(tier, "ANNOTATION"), "ALIGNABLE_ANNOTATION", reference)
    ElementTree.SubElement(inside, "ANNOTATION_VALUE").text = value
