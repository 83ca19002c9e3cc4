"""Projects of the VGG Image Annotator for videos (VIA 3, JSON): temporal segments and labels of moments.

Source of the format: "Code Documentation for VIA Version 3" (Dutta and Zisserman, ACM Multimedia 2019). An entry of `metadata`
belongs to a view, which shows a file; `z` are its times in seconds, two for a segment, one for a region in a frame, none for
the file; `av` are the values of its attributes, of which `attribute` says the names and the options.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..schema.info import AnnotationError
from .documents import Node, read_document, read_head
from .model import LabeledSpan, LabelTier, VideoLabels

FORMAT = "via"

_CHECKBOX, _CHOICES = "2", ("2", "3", "4")  # types of attributes: checkbox; checkbox, radio, select
_DELETED = 1  # bit of the flags of an entry
_FILE_TYPES = {"2": "an image", "8": "a sound"}


@dataclass(frozen=True)
class _Attribute:
    name: str
    options: Mapping[str, str]  # text by id; empty for free text
    is_multiple: bool


def recognizes(path: Path) -> bool:
    """Return whether a file seems to be a project of the VGG Image Annotator."""
    if not path.is_file() or path.suffix.lower() != ".json":
        return False
    head = read_head(path)
    return '"_via_img_metadata"' in head or ('"project"' in head and ('"vid_list"' in head or '"anchor_id"' in head))


def read(path: Path) -> list[VideoLabels]:
    """Read the videos of a project.

    An attribute is a tier; an attribute of files is a property. Regions that were drawn in a frame are spans without a
    duration at the time of the frame.

    Raises:
        AnnotationError: the file is no such project, shows several files at once, or an entry names a view, an attribute or
            an option that is not there.
    """
    project = read_document(path)
    if project.get("_via_img_metadata") is not None:
        raise AnnotationError(
            f"{path} is a project of VIA 2, which holds images without times; VIA 3 annotates videos"
        )
    missing = [key for key in ("attribute", "file", "view", "metadata") if project.get(key) is None]
    if missing:
        raise AnnotationError(f"{path} is no project of VIA 3: it has no {' and no '.join(map(repr, missing))}")
    attributes = {key: _attribute(node) for key, node in project.field("attribute").fields().items()}
    files = project.field("file").fields()
    views = {key: _file(node, files) for key, node in project.field("view").fields().items()}
    tiers: dict[str, dict[str, list[LabeledSpan]]] = {view: {} for view in views}
    properties: dict[str, dict[str, str]] = {view: {} for view in views}
    for entry in project.field("metadata").fields().values():
        flags = entry.get("flg")
        if flags is not None and flags.integer() & _DELETED:
            continue
        view = entry.field("vid").text()
        if view not in views:
            raise entry.error(f"there is no view {view!r}; known are {', '.join(views)}")
        times = _times(entry)
        for name, value in _values(entry, attributes):
            if times is None:
                properties[view][name] = ", ".join(filter(None, (properties[view].get(name), value)))
            else:
                tiers[view].setdefault(name, []).append(LabeledSpan(*times, value, entry.where))
    return [
        VideoLabels(
            views[view].field("fname").text(),
            tuple(
                LabelTier(name, tuple(sorted(spans, key=lambda span: (span.start, span.stop))))
                for name, spans in tiers[view].items()
            ),
            properties[view],
            views[view].where,
        )
        for view in views
    ]


def _attribute(node: Node) -> _Attribute:
    kind = node.field("type").text()
    options: dict[str, str] = {}
    if kind in _CHOICES and (found := node.get("options")) is not None:
        options = {key: value.text() for key, value in found.fields().items()}
    return _Attribute(node.field("aname").text(), options, kind == _CHECKBOX)


def _file(view: Node, files: Mapping[str, Node]) -> Node:
    """Return the file that a view shows."""
    shown = [each.text() for each in view.field("fid_list").elements()]
    if len(shown) != 1:
        raise view.error(f"this view shows {len(shown)} files; views of one video are read")
    if shown[0] not in files:
        raise view.error(f"there is no file {shown[0]!r}")
    file = files[shown[0]]
    kind = file.get("type")
    if kind is not None and kind.text() in _FILE_TYPES:
        raise file.error(f"{file.field('fname').text()!r} is {_FILE_TYPES[kind.text()]}; videos are read")
    return file


def _times(entry: Node) -> tuple[float, float] | None:
    location = entry.get("z")
    times = [each.number() for each in location.elements()] if location is not None else []
    if location is None or not times:
        return None
    if len(times) > 2:
        raise location.error(f"a segment has a start and an end, here are {len(times)} times")
    if times[-1] < times[0] or (len(times) == 2 and times[0] == times[1]):
        raise location.error(f"the segment from {times[0]:g} to {times[-1]:g} s has no length")
    return times[0], times[-1]


def _values(entry: Node, attributes: Mapping[str, _Attribute]) -> Iterator[tuple[str, str]]:
    for key, node in entry.field("av").fields().items():
        if key not in attributes:
            raise node.error(f"there is no attribute {key!r}; known are {', '.join(attributes)}")
        attribute, value = attributes[key], node.text()
        chosen = value.split(",") if attribute.is_multiple and value not in attribute.options else [value]
        for option in chosen:
            yield attribute.name, _option(node, attribute, option.strip())


def _option(node: Node, attribute: _Attribute, option: str) -> str:
    """Return the text of a chosen option, which the file names by its id or by its text."""
    if not attribute.options or not option or option in attribute.options.values():
        return attribute.options.get(option, option)
    if option not in attribute.options:
        known = ", ".join(attribute.options.values())
        raise node.error(f"the attribute {attribute.name!r} has no option {option!r}; known are {known}")
    return attribute.options[option]
