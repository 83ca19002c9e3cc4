"""JSON files of CAMMA's published labels: intervals (MultiBypass140), and instances by frame (CholecT50), for own labels too.

Source of the formats: the files and `README` pages of the data sets (Lavanchy et al., IJCARS 2024; Nwoye et al., Medical Image
Analysis 2022). Intervals are in milliseconds. An instance is a row of numbers: triplet, instrument, probability and box of the
instrument, verb, target, probability and box of the target, phase; `categories` says their names, −1 stands for none.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from ..schema.info import AnnotationError
from .documents import Node, read_document, read_head
from .model import LabeledSpan, LabelTier, VideoLabels

FORMAT = "camma"

_KEYS = ("start", "end", "label_name")
_COLUMNS = {"triplet": 0, "instrument": 1, "verb": 7, "target": 8, "phase": 14}
_WIDTH = 15


def recognizes(path: Path) -> bool:
    """Return whether a file seems to be of this kind."""
    if not path.is_file() or path.suffix.lower() != ".json":
        return False
    head = read_head(path)
    return all(f'"{key}"' in head for key in _KEYS) or re.search(r'"triplet"\s*:\s*\{', head) is not None


def read(path: Path) -> list[VideoLabels]:
    """Read the labels of the video that a file is about, which is called as the file (`op1.mp4.json`, `VID01.json`).

    Each list of intervals is a tier, with times in milliseconds; of instances each component is one, in frames at the rate
    that the file says. A frame without instances has empty labels: somebody has looked at it.

    Raises:
        AnnotationError: the file has neither format, an interval has no length, or a number has no name.
    """
    document = read_document(path)
    if isinstance(document.content, Mapping) and document.get("categories") is not None:
        tiers = _instances(document)
    else:
        lists = [(name, node) for name, node in document.fields().items() if _is_intervals(node)]
        if not lists:
            raise AnnotationError(f"{path} holds neither 'categories' nor lists of intervals with {', '.join(_KEYS)}")
        tiers = tuple(LabelTier(name, _intervals(node), rate=1000.0) for name, node in lists)
    return [VideoLabels(path.stem, tiers, where=path.name)]


def _is_intervals(node: Node) -> bool:
    return isinstance(node.content, list) and all(
        isinstance(each, Mapping) and "label_name" in each for each in node.content
    )


def _intervals(node: Node) -> tuple[LabeledSpan, ...]:
    spans = []
    for each in node.elements():
        start, stop, label = each.field("start").number(), each.field("end").number(), each.field("label_name").text()
        if stop < start:
            raise each.error(f"{label!r} ends at {stop:g} ms, before it starts at {start:g} ms")
        spans.append(LabeledSpan(start, stop, label, each.where))
    return tuple(sorted(spans, key=lambda span: (span.start, span.stop)))


def _instances(document: Node) -> tuple[LabelTier, ...]:
    names = {
        kind: {number: name.text() for number, name in node.fields().items()}
        for kind, node in document.field("categories").fields().items()
        if kind in _COLUMNS
    }
    if not names:
        raise document.field("categories").error(f"there are none of {', '.join(_COLUMNS)}")
    rate = document.field("fps").number()
    if rate == 0:
        raise document.field("fps").error("a rate above 0 is expected")
    spans: dict[str, list[LabeledSpan]] = {kind: [] for kind in names}
    for frame, node in document.field("annotations").fields().items():
        if not re.fullmatch("[0-9]{1,12}", frame):
            raise node.error(f"{frame!r} is no number of a frame")
        rows = node.elements()
        for kind, known in names.items():
            labels = dict.fromkeys(label for row in rows if (label := _label(row, kind, known)) is not None)
            # An instance whose phase or verb is not known says nothing of it; a frame without instances does.
            for label in labels if rows else ("",):
                spans[kind].append(LabeledSpan(int(frame), int(frame) + 1, label, node.where))
    return tuple(
        LabelTier(kind, tuple(sorted(found, key=lambda span: span.start)), rate) for kind, found in spans.items()
    )


def _label(row: Node, kind: str, known: Mapping[str, str]) -> str | None:
    values = row.elements()
    if len(values) != _WIDTH:
        raise row.error(f"an instance has {_WIDTH} numbers, here are {len(values)}")
    value = values[_COLUMNS[kind]]
    if value.content == -1:
        return None
    number = str(value.integer())
    if number not in known:
        raise value.error(f"there is no {kind} with the number {number}; known are {', '.join(known)}")
    return known[number]
