"""Fingerprints of frame sets and of the raw videos they are made from; see `util.fingerprint`."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset

from ...util.files import content_hash, file_hash
from ...util.fingerprint import file_fingerprint, files_fingerprint, settings_fingerprint
from ..schema.builder import FRAMES, VIDEO, RawVideo
from ..schema.label_tracks import Track
from ..schema.media import numbered_files

_ROWS_AT_ONCE = 256


def raw_fingerprint(video: RawVideo, tracks: Sequence[Track]) -> str:
    """Return the fingerprint of what the frames and labels of a video are made from.

    Labels count as they were read, so a file with the labels of all videos may change without affecting the other videos.

    Args:
        video: video of a raw download.
        tracks: its labels.

    Returns:
        16 hexadecimal digits.

    Raises:
        OSError: its frames cannot be read.
    """
    if VIDEO in video.files:
        content = file_fingerprint(video.files[VIDEO])
    elif video.numbered:
        content = files_fingerprint([path for _, path in video.numbered])
    elif FRAMES in video.files:
        content = files_fingerprint([path for _, path in numbered_files(video.files[FRAMES])])
    else:
        content = ""
    own = {field.name: getattr(video, field.name) for field in dataclasses.fields(video)}
    own["numbered"] = [number for number, _ in video.numbered]
    if not own["continued"]:  # fingerprints of earlier versions, which could not join files, stay the same
        del own["continued"]
    return settings_fingerprint([content, {name: own[name] for name in own if name != "files"}, list(tracks)])


def frames_fingerprint(frames: Dataset) -> str:
    """Return the fingerprint of a frame set, or of a part of one: the content of its videos and the names of its classes.

    Args:
        frames: frame set, as `load_frame_set` returns it.

    Returns:
        `<n> videos <16 hexadecimal digits>`.

    Example:
        >>> frames_fingerprint(load_frame_set("cholec80", "frame_sets/cholec80", "test"))  # doctest: +SKIP
        '40 videos 3f786850e387550f'
    """
    videos = video_fingerprints(frames)
    features = {name: str(feature) for name, feature in frames.features.items()}
    return f"{len(videos)} videos {content_hash([videos, features])}"


def video_fingerprints(frames: Dataset) -> dict[str, str]:
    """Return the fingerprint of each video of a frame set: of its frames, their times and their labels.

    `surgvista prepare` notes them beside the videos. For other data sets they are computed from every row.

    Args:
        frames: frame set.

    Returns:
        16 hexadecimal digits each, by `source/video id`.
    """
    counts = _row_counts(frames)
    digests = stored_digests(Path(file["filename"]) for file in frames.cache_files)
    if not counts.keys() <= digests.keys():
        digests = _row_digests(frames)
    return {name: content_hash([digests[name], count]) for name, count in counts.items()}


def folder_of(frames: Dataset) -> Path | None:
    """Return the folder that the files of a frame set lie in; `None` if there is not exactly one."""
    folders = {Path(file["filename"]).parent for file in frames.cache_files}
    return folders.pop() if len(folders) == 1 else None


def _row_counts(frames: Dataset) -> dict[str, int]:
    table: Any = frames.with_format("arrow", columns=["source", "video_id"])[:]
    counted = table.group_by(["source", "video_id"], use_threads=False).aggregate([([], "count_all")])
    names = zip(counted["source"].to_pylist(), counted["video_id"].to_pylist(), strict=True)
    return dict(
        sorted(
            (f"{source}/{video}", count)
            for (source, video), count in zip(names, counted["count_all"].to_pylist(), strict=True)
        )
    )


def stored_digests(files: Iterable[Path]) -> dict[str, str]:
    """Return the hash of the stored frames and labels of each video, as `surgvista prepare` noted it beside the file.

    Args:
        files: `videos/*.arrow` of frame sets; others are left out.

    Returns:
        16 hexadecimal digits each, by `source/video id`.
    """
    found = {}
    for path in files:
        record = path.with_suffix(".json")
        if path.suffix == ".arrow" and record.is_file():
            content = json.loads(record.read_text(encoding="utf-8"))
            if isinstance(content, Mapping) and "video_id" in content and (source := _source(path)) is not None:
                found[f"{source}/{content['video_id']}"] = content.get("digest") or file_hash(path)[:16]
    return found


def _source(path: Path) -> str | None:
    """Return the source that the first row of a stored video names."""
    with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as reader:
        for batch in reader:
            if batch.num_rows:
                return str(batch["source"][0].as_py())
    return None


def _row_digests(frames: Dataset) -> dict[str, str]:
    """Compute a hash of the rows of each video, by `source/video id`."""
    digests: dict[str, hashlib._Hash] = {}
    for row in _rows(frames):
        name = f"{row['source']}/{row['video_id']}"
        digest = digests.setdefault(name, hashlib.sha256())
        image = row.pop("image", None)
        digest.update(json.dumps(row, sort_keys=True, default=str).encode())
        digest.update(image_bytes(image))
    return {name: digest.hexdigest()[:16] for name, digest in digests.items()}


def _rows(frames: Dataset) -> Iterator[dict[str, Any]]:
    table: Any = frames.with_format("arrow")
    for start in range(0, len(frames), _ROWS_AT_ONCE):
        yield from table[start : start + _ROWS_AT_ONCE].to_pylist()


def image_bytes(image: Mapping[str, Any] | bytes | None) -> bytes:
    """Return the bytes of a stored image, or those of the file that it names."""
    if isinstance(image, Mapping):
        if image.get("bytes") is None and image.get("path"):
            return Path(image["path"]).read_bytes()
        return bytes(image.get("bytes") or b"")
    return b"" if image is None else bytes(image)
