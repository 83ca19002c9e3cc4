"""Annotations of CVAT in XML: `CVAT for video 1.1`, and `CVAT for images 1.1` of a task with tags.

Source of the format: "XML annotation format" and "CVAT" in the manual of CVAT. A track is an object over frames of the video:
each shape holds until the next one of the track, and `outside` says that the object is not there. A tag holds for a frame.
CVAT writes tags in its format for images only.
"""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ..schema.annotation_files import read_xml
from ..schema.info import AnnotationError
from .documents import as_number, read_head
from .frame_names import split_frame_name
from .model import LabeledSpan, LabelTier, VideoLabels

FORMAT = "cvat"

_OBJECT, _TAG = "object", "tag"
_SHAPES = ("box", "polygon", "polyline", "points", "ellipse", "cuboid", "mask", "skeleton")


@dataclass(frozen=True)
class _Task:
    """The task or job: name of its video, the last frame, and the frames from one annotated frame to the next."""

    video: str
    last: int | None
    step: int

    def end(self, frame: int) -> int:
        """Return the frame until before which what is said of a frame holds."""
        return frame + self.step if self.last is None else max(min(frame + self.step, self.last + 1), frame + 1)


_Found = tuple[str, str, LabeledSpan]  # video, tier, span


def recognizes(path: Path) -> bool:
    """Return whether a file seems to be an XML file of CVAT."""
    if not path.is_file() or path.suffix.lower() != ".xml":
        return False
    head = read_head(path)
    return "<annotations>" in head and any(f"<{tag}" in head for tag in ("meta>", "track ", "image "))


def read(path: Path) -> list[VideoLabels]:
    """Read the tracks and tags of a task.

    The tier `object` holds the labels of tracks and shapes, `tag` those of tags, and a tier like `grasper: state` the values
    of an attribute. All are in frames of the video. Images of other names than CVAT gives to frames of a video are taken for
    extracted frames, see `split_frame_name`.

    Raises:
        AnnotationError: the file is no such document, is an export of several tasks, or a frame lies outside of the task.
    """
    root = read_xml(path)
    if root.tag != "annotations":
        raise AnnotationError(f"{path} is not of CVAT: it is a document <{root.tag}>, not <annotations>")
    task = _task(path, root)
    # A task is about its video, and an image about the one it was taken from, whether or not there are annotations.
    found: dict[str, dict[str, list[LabeledSpan]]] = {} if root.find("image") is not None else {task.video: {}}
    found |= {_image_frame(path, image, task)[0]: {} for image in root.findall("image")}
    for video, tier, span in (*_tracks(path, root, task), *_tags(path, root, task), *_images(path, root, task)):
        found.setdefault(video, {}).setdefault(tier, []).append(span)
    return [
        VideoLabels(video, tuple(_tier(name, spans) for name, spans in tiers.items()), where=path.name)
        for video, tiers in found.items()
    ]


def _tier(name: str, spans: list[LabeledSpan]) -> LabelTier:
    return LabelTier(name, tuple(sorted(spans, key=lambda span: (span.start, span.stop))), rate=None)


def _task(path: Path, root: ElementTree.Element) -> _Task:
    tasks = root.findall("meta/project/tasks/task")
    if len(tasks) > 1:
        raise AnnotationError(
            f"{path} is an export of a project of {len(tasks)} tasks, which numbers the frames of all of them in one row; "
            "export each task by itself"
        )
    locations = [root.find(location) for location in ("meta/task", "meta/job")] + tasks
    task = next((location for location in locations if location is not None), None)
    if task is None:
        return _Task(path.stem, None, 1)
    start, size, last = (
        _whole(path, f"<{name}>", task.findtext(name)) for name in ("start_frame", "size", "stop_frame")
    )
    step = re.search(r"step\s*=\s*([0-9]{1,6})", task.findtext("frame_filter") or "")
    every = max(int(step[1]), 1) if step else 1
    if last is None and size:
        last = (start or 0) + (size - 1) * every
    video = task.findtext("source") or root.findtext("meta/source") or task.findtext("name") or ""
    return _Task(video.strip() or path.stem, last, every)


def _tracks(path: Path, root: ElementTree.Element, task: _Task) -> Iterator[_Found]:
    ids: set[str] = set()
    for track in root.findall("track"):
        name = track.get("id", "")
        location = f"track {name}"
        if name in ids:
            raise AnnotationError(f"{path} has two tracks with the id {name!r}")
        ids.add(name)
        label = _label(path, track, location)
        shapes = [shape for shape in track if shape.tag in _SHAPES]
        found: list[_Found] = []
        frames = [_frame(path, shape, location) for shape in shapes]
        for number, (shape, frame) in enumerate(zip(shapes, frames, strict=True)):
            following = frames[number + 1] if number + 1 < len(frames) else None
            if following is not None and following <= frame:
                raise AnnotationError(f"{path}, {location}: frame {following} does not come after frame {frame}")
            if shape.get("outside") == "1":
                continue
            _check_frame(path, frame, task, location)
            if following is None:  # the object stays until the end of the task
                following = frame + task.step if task.last is None else task.last + 1
            found += _spans(
                task.video, _OBJECT, label, shape, (frame, following), f"{path.name}, {location}, frame {frame}"
            )
        yield from _joined(found)


def _joined(found: Iterable[_Found]) -> list[_Found]:
    """Join spans of one track that follow each other with the same value: CVAT writes a shape for each frame."""
    joined: list[_Found] = []
    last: dict[str, int] = {}  # index of the last span by its tier
    for video, tier, span in found:
        before = joined[last[tier]][2] if tier in last else None
        if before is not None and before.value == span.value and before.stop == span.start:
            joined[last[tier]] = (video, tier, replace(before, stop=span.stop))
        else:
            last[tier] = len(joined)
            joined.append((video, tier, span))
    return joined


def _tags(path: Path, root: ElementTree.Element, task: _Task) -> Iterator[_Found]:
    """Yield tags of frames as other programs write them into files of the format for videos."""
    for number, tag in enumerate(root.findall("tag")):
        location = f"tag {number}"
        frame = _frame(path, tag, location)
        _check_frame(path, frame, task, location)
        label = _label(path, tag, location)
        yield from _spans(
            task.video, _TAG, label, tag, (frame, task.end(frame)), f"{path.name}, {location}, frame {frame}"
        )


def _images(path: Path, root: ElementTree.Element, task: _Task) -> Iterator[_Found]:
    ids: set[str] = set()
    for image in root.findall("image"):
        video, frame = _image_frame(path, image, task)
        location = _image_location(image)
        if image.get("id", "") in ids:
            raise AnnotationError(f"{path}, {location}: there are two images with this id")
        ids.add(image.get("id", ""))
        for element in image:
            if element.tag == "tag" or element.tag in _SHAPES:
                tier, label = _TAG if element.tag == "tag" else _OBJECT, _label(path, element, location)
                yield from _spans(video, tier, label, element, (frame, task.end(frame)), f"{path.name}, {location}")


def _image_frame(path: Path, image: ElementTree.Element, task: _Task) -> tuple[str, int]:
    """Return the video and the number of the frame that an image is."""
    name = image.get("name", "")
    parts = split_frame_name(name)
    if parts is None:
        raise AnnotationError(f"{path}, {_image_location(image)}: its name holds no number of a frame")
    is_of_video = re.fullmatch(r"frame_\d+(?:\.\w+)?", name) is not None  # the name that CVAT gives
    return (task.video, parts[1]) if is_of_video or not parts[0] else parts


def _image_location(image: ElementTree.Element) -> str:
    return f"image {image.get('id', '')} ({image.get('name', '')})"


def _spans(
    video: str, tier: str, label: str, element: ElementTree.Element, frames: tuple[int, int], where: str
) -> Iterator[_Found]:
    yield video, tier, LabeledSpan(*frames, label, where)
    for attribute in element.findall("attribute"):
        value = (attribute.text or "").strip()
        yield video, f"{label}: {attribute.get('name', '')}", LabeledSpan(*frames, value, where)


def _label(path: Path, element: ElementTree.Element, location: str) -> str:
    label = element.get("label")
    if label is None:
        raise AnnotationError(f"{path}, {location}: there is no label")
    return label.strip()


def _frame(path: Path, element: ElementTree.Element, location: str) -> int:
    frame = _whole(path, f"{location}, frame", element.get("frame"))
    if frame is None:
        raise AnnotationError(f"{path}, {location}: <{element.tag}> says no frame")
    return frame


def _check_frame(path: Path, frame: int, task: _Task, location: str) -> None:
    if task.last is not None and frame > task.last:
        raise AnnotationError(f"{path}, {location}: frame {frame} comes after {task.last}, the last one of the task")


def _whole(path: Path, location: str, text: str | None) -> int | None:
    if text is None or not text.strip():
        return None
    value = as_number(text)
    if value is None or value < 0 or value != int(value):
        raise AnnotationError(f"{path}, {location}: {text!r} is no whole number of at least 0")
    return int(value)
