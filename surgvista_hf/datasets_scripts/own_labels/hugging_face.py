"""Data sets of Hugging Face users: folders of videos (`videofolder`), and data sets with a column of the type `Video`.

Source of the formats: "Create a video dataset" and "Load a dataset" in the documentation of Datasets. A folder of videos has a
folder for each class, or a file `metadata.csv`, `.jsonl` or `.parquet` whose column `file_name` names the video of a row.
A data set with a column of videos was saved by `save_to_disk` or in Parquet files, or lies on the Hub.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, TypeAlias

from ...util.file_search import VIDEO_SUFFIXES, is_video, walk
from ...util.files import atomic_file
from ...util.messages import first_line
from ..schema.annotation_files import read_text
from ..schema.info import SPLITS, AnnotationError, split_name
from .documents import Node, as_number, read_head, read_rows
from .model import LabeledSpan, LabelTier, VideoLabels

if TYPE_CHECKING:
    import datasets

FORMAT = "hugging_face"

_METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_OF_LABELS = (".boris", ".csv", ".eaf", ".json", ".tsv", ".txt", ".xlsx", ".xml")  # files that readers of labels open
_SAVED = ("dataset_dict.json", "dataset_info.json", "state.json")
_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
_START, _STOP, _LABEL = (
    ("start", "begin", "start_time"),
    ("end", "stop", "end_time"),
    ("label", "name", "class", "phase"),
)


def recognizes(path: Path) -> bool:
    """Return whether a path seems to be a folder of videos with labels, a saved data set, or the name of one on the Hub."""
    if path.is_file():
        return path.suffix.lower() == ".parquet" or (path.name in _METADATA and _names_files(path))
    if path.is_dir():
        if _metadata(path) or _is_saved(path) or _parquet(path):
            return True
        # Beside files with labels, folders are of operations or hospitals.
        names = [name for _, _, found in walk(path) for name in found]
        return not any(name.lower().endswith(_OF_LABELS) for name in names) and bool(_classes(_videos(path), path))
    return _is_hub_name(path)


def read(path: Path) -> list[VideoLabels]:
    """Read the labels of the videos of a folder or data set.

    Columns of texts and numbers, the class (`label`) and the part of a split (`split`) become properties. A column of
    objects with a start, an end and a label, in seconds, becomes a tier.

    Args:
        path: folder, metadata file, Parquet file, or the name of a data set on the Hub (`user/name`), which is downloaded.

    Raises:
        AnnotationError: nothing of this kind is there, or two rows are about the same video.
    """
    if path.is_file() and path.name not in _METADATA:
        return list(_rows_of(path, _load_parquet(path, {"train": [path]})))
    if path.is_file():
        return _checked(_metadata_rows(path, path.parent))
    if not path.is_dir():
        return list(_rows_of(path, _load_hub(path)))
    if _is_saved(path):
        return list(_rows_of(path, _load_saved(path)))
    if files := _metadata(path):
        return _checked(labels for file in files for labels in _metadata_rows(file, path))
    if parquet := _parquet(path):
        return list(_rows_of(path, _load_parquet(path, parquet)))
    videos = _videos(path)
    classes = _classes(videos, path)
    if not classes:
        raise AnnotationError(
            f"{path} is no folder of videos with labels: it needs a folder for each class, or one of {', '.join(_METADATA)}"
        )
    return [
        VideoLabels(
            video.relative_to(path).as_posix(), (), _folder_properties(video, path), str(video.relative_to(path))
        )
        for video in videos
    ]


def extract_videos(path: Path, folder: Path) -> list[Path]:
    """Write the videos that a data set holds in itself to files, called as `read` calls them.

    Args:
        path: a data set with a column of videos, as for `read`.
        folder: folder to write to. Files that are there already with the same size are left alone.

    Returns:
        Paths of the written files; none for videos that the data set does not hold but only names.

    Raises:
        AnnotationError: the path is no such data set.
    """
    if path.is_dir() and _is_saved(path):
        parts = _load_saved(path)
    elif path.is_dir() or path.is_file():
        parts = _load_parquet(path, _parquet(path) if path.is_dir() else {"train": [path]})
    else:
        parts = _load_hub(path)
    written = []
    for *_, name, content in _videos_of(path, parts):
        if content is None:
            continue
        target = folder / name
        if not target.is_file() or target.stat().st_size != len(content):
            with atomic_file(target) as temporary:
                temporary.write_bytes(content)
        written.append(target)
    return written


# ------------------------------------------------------------------------------------------- folders


def _metadata(folder: Path) -> list[Path]:
    """Return the metadata files of a folder that name files: one in it, or one in each folder of a split or class."""
    found = (file for name in _METADATA for file in (*folder.glob(name), *folder.glob(f"*/{name}")))
    return sorted(filter(_names_files, found))


def _names_files(file: Path) -> bool:
    return file.suffix == ".parquet" or "file_name" in read_head(file)


def _videos(folder: Path) -> list[Path]:
    return sorted(path for here, _, names in walk(folder) for name in names if is_video(path := here / name))


def _classes(videos: Iterable[Path], folder: Path) -> set[str]:
    """Return the classes: the folders that hold videos, if there are several and all lie equally deep."""
    parts = [video.relative_to(folder).parts[:-1] for video in videos]
    depths, names = {len(part) for part in parts}, {part[-1] for part in parts if part}
    is_of_splits = depths == {1} and all(_is_split(name) for name in names)
    return names if len(depths) == 1 and len(names) > 1 and not is_of_splits else set()


def _is_split(name: str) -> bool:
    return split_name(name.lower()) in SPLITS


def _folder_properties(video: Path, folder: Path) -> dict[str, str]:
    *above, label = video.relative_to(folder).parts[:-1]
    split = next((split_name(name.lower()) for name in above if _is_split(name)), None)
    return {"label": label} | ({"split": split} if split else {})


def _metadata_rows(file: Path, folder: Path) -> Iterator[VideoLabels]:
    """Yield the rows of a metadata file; its paths start at its folder, those of the labels at `folder`."""
    above = file.parent.relative_to(folder).as_posix()
    split = split_name(file.parent.name.lower()) if above != "." and _is_split(file.parent.name) else None
    for node in _table(file):
        fields = node.fields()
        key = next((key for key in fields if key == "file_name" or key.endswith("_file_name")), None)
        if key is None:
            raise node.error(f"there is no column 'file_name'; the columns are {', '.join(fields)}")
        name = fields.pop(key).text().replace("\\", "/")
        if not name:
            raise node.error("the file name is empty")
        properties = {"split": split} if split else {}
        properties |= {
            name: node.text() for name, node in fields.items() if isinstance(node.content, str | int | float)
        }
        video = name if above == "." else f"{above}/{name}"
        yield VideoLabels(video, tuple(_segment_tiers(fields)), properties, node.where)


def _table(file: Path) -> Iterator[Node]:
    if file.suffix == ".jsonl":
        for number, line in enumerate(read_text(file).splitlines(), 1):
            if line.strip():
                yield Node(file, f"line {number}", _json_line(file, number, line))
    elif file.suffix == ".csv":
        rows = read_rows(file)
        if not rows:
            raise AnnotationError(f"{file} has no rows")
        header = rows[0][1]
        for number, cells in rows[1:]:
            if len(cells) != len(header):
                raise AnnotationError(f"{file}:{number} has {len(cells)} cells, its header {len(header)}")
            yield Node(file, f"line {number}", dict(zip(header, cells, strict=True)))
    else:
        (part,) = _load_parquet(file, {"train": [file]}).values()
        for number, row in enumerate(_read_rows(file, part)):
            yield Node(file, f"row {number}", {key: _plain(value) for key, value in row.items()})


def _json_line(file: Path, number: int, line: str) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"{file}:{number} is not JSON: {error}") from error


def _checked(found: Iterable[VideoLabels]) -> list[VideoLabels]:
    seen: dict[str, VideoLabels] = {}
    for labels in found:
        other = seen.setdefault(labels.video, labels)
        if other is not labels:
            raise AnnotationError(f"{labels.where}: {labels.video!r} is there twice, first at {other.where}")
    return list(seen.values())


def _segment_tiers(fields: Mapping[str, Node]) -> Iterator[LabelTier]:
    """Yield a tier for each column of segments: a list of objects, or an object of lists, as Datasets stores it."""
    for name, node in fields.items():
        rows = _objects(node)
        first = next(iter(rows), None)
        if first is None or not isinstance(first.content, Mapping):
            continue
        keys = [next((key for key in known if key in first.content), None) for known in (_START, _STOP, _LABEL)]
        if None not in keys:
            start, stop, label = map(str, keys)
            yield LabelTier(name, tuple(_segments(rows, start, stop, label)))


def _objects(node: Node) -> Sequence[Node]:
    if isinstance(node.content, list):
        return node.elements()
    if (
        isinstance(node.content, Mapping)
        and node.content
        and all(isinstance(each, list) for each in node.content.values())
    ):
        columns = node.content
        count = min(len(column) for column in columns.values())
        return [
            Node(node.path, f"{node.location}[{number}]", {key: column[number] for key, column in columns.items()})
            for number in range(count)
        ]
    return []


def _segments(rows: Iterable[Node], start: str, stop: str, label: str) -> Iterator[LabeledSpan]:
    spans = []
    for row in rows:
        begin, end = row.field(start).number(), row.field(stop).number()
        if end < begin:
            raise row.error(f"the segment ends at {end:g}, before it starts at {begin:g}")
        value = row.get(label)
        spans.append(LabeledSpan(begin, end, value.text() if value is not None else "", row.where))
    yield from sorted(spans, key=lambda span: (span.start, span.stop))


# ------------------------------------------------------------------------------------------- data sets

_Part: TypeAlias = "datasets.Dataset | datasets.IterableDataset"
_Parts = Mapping[str, _Part]


def _is_saved(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _SAVED)


def _parquet(folder: Path) -> dict[str, list[Path]]:
    """Return the Parquet files of a folder by split, which their names or folders say: `data/train-00000-of-00002.parquet`."""
    found: dict[str, list[Path]] = {}
    for file in sorted((*folder.glob("*.parquet"), *folder.glob("*/*.parquet"))):
        if file.name in _METADATA:
            continue
        names = (re.split(r"[-_.]", file.name)[0], file.parent.name if file.parent != folder else "")
        split = next((split_name(name.lower()) for name in names if _is_split(name)), "train")
        found.setdefault(split, []).append(file)
    return found


def _is_hub_name(path: Path) -> bool:
    """Return whether a path that does not exist can be the name of a data set on the Hub."""
    name = path.as_posix()
    is_file = path.suffix.lower() in (
        *VIDEO_SUFFIXES,
        ".csv",
        ".tsv",
        ".txt",
        ".xlsx",
        ".json",
        ".jsonl",
        ".xml",
        ".eaf",
    )
    return _HUB_NAME.fullmatch(name) is not None and not path.exists() and not path.parent.exists() and not is_file


def _load_saved(path: Path) -> _Parts:
    import datasets

    with _readable(path):
        loaded = datasets.load_from_disk(str(path))
    return loaded if isinstance(loaded, datasets.DatasetDict) else {"": loaded}


def _load_parquet(path: Path, files: Mapping[str, Sequence[Path]]) -> _Parts:
    import datasets

    if not files:
        raise AnnotationError(f"{path} holds no data set with a column of videos")
    listed = {split: [str(file) for file in found] for split, found in files.items()}
    with _readable(path):  # streamed, so that videos in the files are not copied into a cache
        return dict(datasets.load_dataset("parquet", data_files=listed, streaming=True))


def _load_hub(path: Path) -> _Parts:
    if not _is_hub_name(path):
        raise AnnotationError(f"{path} does not exist")
    import datasets

    try:
        return dict(datasets.load_dataset(path.as_posix(), streaming=True))
    except Exception as error:  # a network, a server, a library: each has errors of its own
        raise AnnotationError(
            f"{path} is neither here nor a data set that can be loaded from the Hub: {first_line(error)}"
        ) from error


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # Datasets and Arrow have no common error for a damaged file
        raise AnnotationError(f"{path} cannot be read as a data set: {first_line(error)}") from error


def _rows_of(path: Path, parts: _Parts) -> Iterator[VideoLabels]:
    for split, row, name, _ in _videos_of(path, parts):
        properties = {"split": split_name(split)} if split and len(parts) > 1 else {}
        fields = row.fields()
        properties |= {key: node.text() for key, node in fields.items() if isinstance(node.content, str | int | float)}
        properties |= {
            key: ", ".join(each.text() for each in node.elements())
            for key, node in fields.items()
            if isinstance(node.content, list) and node.content and all(isinstance(each, str) for each in node.content)
        }
        yield VideoLabels(name, tuple(_segment_tiers(fields)), properties, row.where)


def _videos_of(path: Path, parts: _Parts) -> Iterator[tuple[str, Node, str, bytes | None]]:
    """Yield split, other columns, name of the video and, where the data set holds it, its content, for each row."""
    names: set[str] = set()
    for split, part in parts.items():
        column = _video_column(path, part)
        plain = _without_decoding(part, column)
        for number, row in enumerate(_read_rows(path, plain)):
            location = f"{split} row {number}".strip()
            video = Node(path, f"{location}.{column}", row.pop(column))
            given, content = (
                video.get("path"),
                video.content.get("bytes") if isinstance(video.content, Mapping) else None,
            )
            held = content if isinstance(content, bytes) else None
            name = _name(
                given.text() if given is not None else "", held is not None, f"{split or 'video'}-{number:05d}"
            )
            if name in names:
                raise video.error(f"two rows are about the video {name!r}")
            names.add(name)
            yield split, Node(path, location, _with_class_names(row, plain.features)), name, held


def _read_rows(path: Path, part: _Part) -> Iterator[dict[str, object]]:
    with _readable(path):
        for row in part:
            yield dict(row)


def _video_column(path: Path, part: _Part) -> str:
    import datasets

    column = next((name for name, kind in part.features.items() if isinstance(kind, datasets.Video)), None)
    if column is None:
        column = next(
            (name for name, kind in part.features.items() if name == "video" and isinstance(kind, dict)), None
        )
    if column is None:
        raise AnnotationError(f"{path} has no column of videos; its columns are {', '.join(part.features)}")
    return column


def _without_decoding(part: _Part, column: str) -> _Part:
    import datasets

    part = part.cast_column(column, datasets.Video(decode=False))
    media = {name for name, kind in part.features.items() if isinstance(kind, datasets.Image | datasets.Audio)}
    return part.remove_columns(sorted(media))


def _name(given: str, is_held: bool, otherwise: str) -> str:
    """Return the name of a video; of one that the data set holds only the last part, by which it can be written."""
    if not is_held:
        return given or otherwise
    name = PurePosixPath(PureWindowsPath(given).name).name
    return name if name.strip(".") else f"{otherwise}.mp4"


def _with_class_names(row: Mapping[str, object], features: "datasets.Features") -> dict[str, object]:
    return {key: _plain(_named(value, features[key])) for key, value in row.items()}


def _named(value: object, kind: object) -> object:
    """Replace numbers of classes by their names, as far as they have one."""
    import datasets

    if isinstance(kind, datasets.ClassLabel) and isinstance(value, int):
        return kind.names[value] if 0 <= value < len(kind.names) else ""
    if isinstance(kind, datasets.List) and isinstance(value, list):
        return [_named(each, kind.feature) for each in value]
    if isinstance(kind, dict) and isinstance(value, Mapping):
        return {key: _named(each, kind.get(key)) for key, each in value.items()}
    return value


def _plain(value: object) -> object:
    """Return a value as JSON has it: dates as text, numbers that are none as an empty text."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, float) and as_number(value) is None:
        return ""
    return value if value is None or isinstance(value, str | int | float) else str(value)
