"""Exports of Label Studio (JSON and JSON-MIN): labels on the timeline of a video, tracked regions, and choices for a video.

Source of the format: "Label Studio JSON format of annotated tasks" and the pages of the tags `<TimelineLabels>`,
`<VideoRectangle>`, `<Labels>` and `<Choices>` in the documentation of Label Studio. Frames count from 1, and the last frame of
a range belongs to it. A tracked region is there from a key frame that is enabled until one that is not.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from ...util.file_search import VIDEO_SUFFIXES
from ..schema.info import AnnotationError
from .documents import Node, as_number, read_document, read_head
from .model import LabeledSpan, LabelTier, VideoLabels

FORMAT = "label_studio"

_OF_MIN = (
    "id",
    "annotator",
    "annotation_id",
    "created_at",
    "updated_at",
    "lead_time",
    "agreement",
)  # keys of JSON-MIN
_Spans = dict[tuple[str, float | None], list[LabeledSpan]]  # by name and rate of the tier


def recognizes(path: Path) -> bool:
    """Return whether a file seems to be an export of Label Studio about videos."""
    if not path.is_file() or path.suffix.lower() != ".json":
        return False
    head = read_head(path).lstrip()
    if not head.startswith(("[", "{")):
        return False
    keys = ('"annotations"', '"result"', '"from_name"')
    return '"timelinelabels"' in head or '"annotation_id"' in head or (all(key in head for key in keys))


def read(path: Path) -> list[VideoLabels]:
    """Read the annotated tasks.

    A control of the labeling interface is a tier, called by its name; choices for the whole video are properties. Of several
    annotations of a task the one that is marked as ground truth counts. Cancelled annotations, drafts and predictions are
    not read.

    Raises:
        AnnotationError: the file is no such export, a task names no video, or several people annotated a task and none is
            marked as ground truth.
    """
    document = read_document(path)
    tasks = document.elements() if isinstance(document.content, list) else [document]
    if not tasks:
        raise AnnotationError(f"{path} holds no tasks")
    found = []
    ids: dict[str, Node] = {}
    for task in tasks:
        is_min = task.get("data") is None
        if is_min and not any(key in ("annotation_id", "annotator", "lead_time") for key in task.fields()):
            raise task.error("this is no task of Label Studio: it has no 'data' and no 'annotation_id'")
        number = task.get("id")
        name = number.text() if number is not None else task.location
        if name in ids and not is_min:
            raise task.error(f"there are two tasks with the id {name!r}, the other at {ids[name].location}")
        if name in ids:
            raise task.error(f"the task {name!r} has several annotations; mark one as ground truth and export as JSON")
        ids[name] = task
        found.append(_minimal_task(task) if is_min else _task(task))
    return found


def _task(task: Node) -> VideoLabels:
    data = task.field("data").fields()
    spans: _Spans = {}
    properties: dict[str, str] = {}
    annotation = _annotation(task)
    for result in annotation.field("result").elements() if annotation is not None else ():
        value = result.get("value")
        if value is None:  # a relation between regions
            continue
        control = name.text() if (name := result.get("from_name")) is not None else "label"
        if value.get("choices") is not None:
            _add_choices(control, value.field("choices"), properties, spans, value)
        else:
            for rate, span in _result(value):
                spans.setdefault((control, rate), []).append(span)
    video, key = _video(task, data)
    properties |= {
        name: node.text() for name, node in data.items() if name != key and isinstance(node.content, str | int | float)
    }
    return VideoLabels(video, _tiers(spans), properties, task.where)


def _annotation(task: Node) -> Node | None:
    """Return the annotation that counts; `None` if nobody has finished one."""
    entries = task.get("annotations") or task.get("completions")
    if entries is None:
        return None
    done = [each for each in entries.elements() if not _is_true(each.get("was_cancelled"))]
    if len(done) > 1:
        done = [each for each in done if _is_true(each.get("ground_truth"))]
        if len(done) != 1:
            raise entries.error(
                f"there are {len(entries.elements())} annotations, {len(done)} of them marked as ground truth; mark one"
            )
    return done[0] if done else None


def _is_true(node: Node | None) -> bool:
    return node is not None and node.content is True


def _minimal_task(task: Node) -> VideoLabels:
    """Read a task of JSON-MIN, where the values of a control stand below its name."""
    fields = {name: node for name, node in task.fields().items() if name not in _OF_MIN and node.content is not None}
    video, key = _video(task, fields)
    spans: _Spans = {}
    properties: dict[str, str] = {}
    for name, node in fields.items():
        if name == key:
            continue
        if isinstance(node.content, list) and all(isinstance(each, Mapping) for each in node.content):
            for value in node.elements():
                for rate, span in _result(value):
                    spans.setdefault((name, rate), []).append(span)
        elif isinstance(node.content, Mapping) and node.get("choices") is not None:
            _add_choices(name, node.field("choices"), properties, spans, node)
        elif isinstance(node.content, str | int | float):
            properties[name] = node.text()
    return VideoLabels(video, _tiers(spans), properties, task.where)


def _tiers(spans: _Spans) -> tuple[LabelTier, ...]:
    """Return the tiers; a control whose labels are in seconds and in frames gives two."""
    names = [name for name, _ in spans]
    return tuple(
        LabelTier(
            f"{name} (seconds)" if rate and names.count(name) > 1 else name,
            tuple(sorted(found, key=lambda span: (span.start, span.stop))),
            rate,
        )
        for (name, rate), found in spans.items()
    )


def _video(task: Node, data: Mapping[str, Node]) -> tuple[str, str]:
    """Return the name of the video, and the key of the data that holds it."""
    texts = {key: node.text() for key, node in data.items() if isinstance(node.content, str)}
    files = {key: _file(text) for key, text in texts.items()}
    videos = [key for key, file in files.items() if file.lower().endswith(VIDEO_SUFFIXES)]
    key = next((key for key in ("video", "video_url", *videos) if key in files), None)
    if key is None:
        raise task.error(f"none of {', '.join(data) or 'its data'} names a video")
    return files[key], key


def _file(url: str) -> str:
    """Return the path of a file without what Label Studio adds: addresses of storages, the prefix of uploaded files."""
    if re.search(r"<(?:video|source)\b", url):  # older interfaces show a video as a piece of HTML
        url = source[1] if (source := re.search(r"""src=["']?([^"'\s>]+)""", url)) else url
    try:
        parts = urlsplit(url)
    except ValueError:  # brackets that are no address of a machine
        return url
    if parts.path.endswith("/local-files/") and "d" in (query := parse_qs(parts.query)):
        return query["d"][0]
    if not (parts.scheme in ("http", "https", "s3", "gs", "azure-blob") or "/upload/" in parts.path):
        return url
    name = unquote(parts.path).lstrip("/")
    return re.sub(r"^[0-9a-f]{8}-", "", name.rpartition("/")[2]) if "/upload/" in parts.path else name


def _add_choices(control: str, choices: Node, properties: dict[str, str], spans: _Spans, value: Node) -> None:
    """Add what was chosen to the properties of the video, or as a span where it was chosen for a region."""
    texts = [each.text() for each in (choices.elements() if isinstance(choices.content, list) else [choices])]
    times = list(_times(value))
    for rate, start, stop in times:
        for text in texts:
            spans.setdefault((control, rate), []).append(LabeledSpan(start, stop, text, value.where))
    if not times:
        properties[control] = ", ".join(texts)


def _result(value: Node) -> Iterator[tuple[float | None, LabeledSpan]]:
    """Yield the spans of a region, and the units per second of their times."""
    labels = _labels(value)
    for rate, start, stop in _times(value):
        for label in labels:
            yield rate, LabeledSpan(start, stop, label, value.where)


def _labels(value: Node) -> list[str]:
    for key in ("timelinelabels", "labels", "videorectanglelabels", "timeserieslabels"):
        if (node := value.get(key)) is not None:
            return [each.text() for each in (node.elements() if isinstance(node.content, list) else [node])]
    return []


def _times(value: Node) -> Iterator[tuple[float | None, float, float]]:
    """Yield units per second, start and stop of the parts of a region."""
    if (ranges := value.get("ranges")) is not None:
        for each in ranges.elements():
            start, end = each.field("start").integer(), each.field("end").integer()
            if end < start:
                raise each.error(f"the range ends at frame {end}, before it starts at frame {start}")
            # Programs that write annotations for Label Studio count from 0 at times; there is no frame before the first.
            yield None, max(start - 1, 0), max(end, 1)
    elif (sequence := value.get("sequence")) is not None:
        yield from _visible(value, sequence)
    elif value.get("start") is not None and value.get("end") is not None:
        begin, stop = value.field("start").number(), value.field("end").number()
        if stop <= begin:
            raise value.error(f"the region from {begin:g} to {stop:g} s has no length")
        yield 1.0, begin, stop


def _visible(value: Node, sequence: Node) -> Iterator[tuple[float | None, float, float]]:
    """Yield the ranges in which a tracked region is there."""
    keys: Sequence[Node] = sequence.elements()
    frames = [key.field("frame").integer() for key in keys]
    count = (
        as_number(value.content["framesCount"])
        if isinstance(value.content, Mapping) and value.get("framesCount")
        else None
    )
    begin: int | None = None
    for number, (key, frame) in enumerate(zip(keys, frames, strict=True)):
        if number and frame <= frames[number - 1]:
            raise key.error(f"frame {frame} does not come after frame {frames[number - 1]}")
        if count is not None and frame > count:
            raise key.error(f"frame {frame} comes after {count:g}, the last one of the video")
        enabled = key.get("enabled")
        begin = frame if begin is None else begin
        if enabled is not None and enabled.content is False:  # the last frame in which it is there
            yield None, max(begin - 1, 0), max(frame, 1)
            begin = None
    if begin is not None:
        last = max(int(count) if count is not None else 0, frames[-1])
        yield None, max(begin - 1, 0), max(last, 1)
