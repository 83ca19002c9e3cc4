"""JSON files in the style of COCO: frames of videos with objects, and with labels of whole frames (as in Endoscapes).

Source of the format: "Data format" of the COCO data set (Lin et al., 2014), and its extensions to videos: `videos` with
`video_id` and a number of the frame in `images` (CocoVID, TAO), and one list of boxes for all frames of a video (YouTube-VIS).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..schema.info import AnnotationError
from .documents import Node, read_document, read_head
from .frame_names import split_frame_name
from .model import LabeledSpan, LabelTier, VideoLabels

FORMAT = "coco"

_CATEGORY = "category"
_FRAME_KEYS = ("frame_id", "frame_index", "frame_number", "frame_num", "frame")
_VIDEO_KEYS = ("video_id", "vid_id", "video", "video_name")
_OF_IMAGES = frozenset(
    """id file_name width height license coco_url flickr_url date_captured url path dataset_id
    order_in_video neg_category_ids not_exhaustive_category_ids""".split()
)


@dataclass(frozen=True)
class _Frame:
    """An image: its video, its number, and the entry of the file."""

    video: str
    number: int
    node: Node


_Tiers = dict[str, dict[str, list[LabeledSpan]]]  # spans by video and tier


def recognizes(path: Path) -> bool:
    """Return whether a file seems to be a JSON file in the style of COCO."""
    if not path.is_file() or path.suffix.lower() != ".json":
        return False
    head = read_head(path)
    lists = [key for key in ("images", "videos", "categories") if re.search(rf'"{key}"\s*:\s*\[', head)]
    objects = re.search(r'"annotations"\s*:\s*\[', head) is not None and '"category_id"' in head
    return bool(objects or lists) and '"from_name"' not in head


def read(path: Path) -> list[VideoLabels]:
    """Read the objects of frames as the tier `category`, in frames of the video.

    An image says its frame by a key such as `frame_id` or by the number in its file name, and its video by `video_id` or by
    what stands before that number. An image without objects gets an empty label: somebody has looked at it. Other keys of
    images with texts or numbers become tiers of their own, those with lists one for each number (`ds[0]`).

    Raises:
        AnnotationError: the file has no such format, an id is used twice, or an annotation names an image or a category that
            is not there.
    """
    document = read_document(path)
    if not isinstance(document.content, Mapping) or document.get("categories") is None:
        raise AnnotationError(f"{path} is no file in the style of COCO: it has no list of 'categories'")
    categories = {key: node.field("name").text() for key, node in _by_id(document.field("categories")).items()}
    videos = _by_id(listed) if (listed := document.get("videos")) is not None else {}
    names = {key: _video_name(node) for key, node in videos.items()}
    tiers: _Tiers = {name: {} for name in names.values()}
    if document.get("images") is None:
        if not videos:
            raise AnnotationError(f"{path} is no file in the style of COCO: it has neither 'images' nor 'videos'")
        _add_tracks(document, videos, names, categories, tiers)
    else:
        frames = {key: _frame(node, names) for key, node in _by_id(document.field("images")).items()}
        _check_once(frames)
        _add_objects(document, frames, categories, tiers)
        _add_attributes(frames, tiers)
    where = {name: videos[key].where for key, name in names.items()}
    return [
        VideoLabels(
            video,
            tuple(LabelTier(name, tuple(sorted(spans, key=_order)), rate=None) for name, spans in found.items()),
            where=where.get(video, path.name),
        )
        for video, found in tiers.items()
    ]


def _order(span: LabeledSpan) -> tuple[float, float]:
    return span.start, span.stop


def _by_id(node: Node) -> dict[str, Node]:
    found: dict[str, Node] = {}
    for each in node.elements():
        key = each.field("id").text()
        if key in found:
            raise each.error(f"the id {key} is there twice, first at {found[key].location}")
        found[key] = each
    return found


def _video_name(node: Node) -> str:
    for key in ("file_name", "name"):
        if (name := node.get(key)) is not None:
            return name.text()
    return node.field("id").text()


def _frame(node: Node, names: Mapping[str, str]) -> _Frame:
    file = node.field("file_name")
    parts = split_frame_name(file.text())
    keys = (found for key in _FRAME_KEYS if (found := node.get(key)) is not None and found.content != "")
    number = next((key.integer() for key in keys), None)
    if number is None:
        if parts is None:
            raise file.error(
                f"{file.text()!r} holds no number of a frame, and the image has none of {', '.join(_FRAME_KEYS)}"
            )
        number = parts[1]
    given = next((found.text() for key in _VIDEO_KEYS if (found := node.get(key)) is not None), None)
    if given is not None and names and given not in names and given not in names.values():
        raise node.error(f"there is no video {given!r}; known are {', '.join(list(names)[:20])}")
    video = names.get(given, given) if given is not None else parts[0] if parts else ""
    if not video:
        raise node.error(f"neither {' nor '.join(_VIDEO_KEYS)} nor the name {file.text()!r} says the video")
    return _Frame(video, number, node)


def _check_once(frames: Mapping[str, _Frame]) -> None:
    seen: dict[tuple[str, int], _Frame] = {}
    for frame in frames.values():
        other = seen.setdefault((frame.video, frame.number), frame)
        if other is not frame:
            raise frame.node.error(
                f"frame {frame.number} of the video {frame.video!r} is there twice, first at {other.node.location}"
            )


def _add_objects(document: Node, frames: Mapping[str, _Frame], categories: Mapping[str, str], tiers: _Tiers) -> None:
    empty = dict(frames)
    for annotation in found.elements() if (found := document.get("annotations")) is not None else ():
        image = annotation.field("image_id").text()
        if image not in frames:
            raise annotation.error(f"there is no image with the id {image}")
        frame = frames[image]
        empty.pop(image, None)
        _add(tiers, frame, _CATEGORY, _category(annotation, categories), annotation.where)
    for frame in empty.values():
        _add(tiers, frame, _CATEGORY, "", frame.node.where)


def _category(annotation: Node, categories: Mapping[str, str]) -> str:
    key = annotation.field("category_id").text()
    if key not in categories:
        raise annotation.error(f"there is no category with the id {key}; known are {', '.join(categories)}")
    return categories[key]


def _add(tiers: _Tiers, frame: _Frame, tier: str, value: str, where: str) -> None:
    span = LabeledSpan(frame.number, frame.number + 1, value, where)
    tiers.setdefault(frame.video, {}).setdefault(tier, []).append(span)


def _add_attributes(frames: Mapping[str, _Frame], tiers: _Tiers) -> None:
    for frame in frames.values():
        for key, node in frame.node.fields().items():
            if key in _OF_IMAGES or key in _FRAME_KEYS or key in _VIDEO_KEYS or node.content is None:
                continue
            for tier, value in _attribute(key, node):
                _add(tiers, frame, tier, value.text(), value.where)


def _attribute(key: str, node: Node) -> Iterator[tuple[str, Node]]:
    """Yield tier and value of a key of an image; nothing for objects and lists of them."""
    if isinstance(node.content, str | int | float):
        yield key, node
    elif isinstance(node.content, list) and all(isinstance(each, str) for each in node.content):
        yield from ((key, each) for each in node.elements())  # a set of labels
    elif isinstance(node.content, list) and all(isinstance(each, int | float) for each in node.content):
        yield from ((f"{key}[{number}]", each) for number, each in enumerate(node.elements()))


def _add_tracks(
    document: Node, videos: Mapping[str, Node], names: Mapping[str, str], categories: Mapping[str, str], tiers: _Tiers
) -> None:
    """Add objects that list a box for each frame of their video."""
    for annotation in found.elements() if (found := document.get("annotations")) is not None else ():
        key = annotation.field("video_id").text()
        if key not in videos:
            raise annotation.error(f"there is no video with the id {key}; known are {', '.join(list(videos)[:20])}")
        lists = [node for name in ("bboxes", "segmentations") if (node := annotation.get(name)) is not None]
        if not lists:
            raise annotation.error("there are no 'bboxes' and no 'segmentations' for the frames of the video")
        frames = _listed_frames(videos[key])
        boxes = lists[0].elements()
        if frames is not None and len(boxes) != len(frames):
            raise lists[0].error(f"here are {len(boxes)} frames, the video {names[key]!r} has {len(frames)}")
        for number, box in enumerate(boxes):
            if box.content is not None:
                frame = _Frame(names[key], frames[number] if frames else number, box)
                _add(tiers, frame, _CATEGORY, _category(annotation, categories), box.where)


def _listed_frames(video: Node) -> list[int] | None:
    """Return the numbers of the frames of a video by their file names; `None` where it lists none."""
    files = video.get("file_names")
    if files is None:
        return None
    numbers = []
    for file in files.elements():
        parts = split_frame_name(file.text())
        if parts is None:
            raise file.error(f"{file.text()!r} holds no number of a frame")
        numbers.append(parts[1])
    return numbers
