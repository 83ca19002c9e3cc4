"""The folder of a collection: a small record of every video, and one Parquet table of all of them.

A collection is a folder:

    manifest.parquet         one row per video, written from the rest; without titles and names
    report.json              counts of each stage, with reasons
    overrides.json           decisions of a human that override the models
    records/<id>.json        the record of a video from collecting; of a removed one only that it is gone
    metadata/<id>.json       title, license and date as the site gives them; stays here, goes into no output
    videos/<id>.mp4          the file
    results/<stage>/<id>.json

Records and results are whole or absent. Nothing in the folder depends on time or on the order of work, so that a killed run
and its repetition give the same bytes as an uninterrupted one.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from ...modeling.errors_surgvista import VideoReadError
from ...modeling.subprocess_decoding import SubprocessVideo, VideoLimits
from ...util.errors import InputError
from ...util.files import OutputError, at_work, atomic_file, file_hash, write_json

Status = Literal["collected", "removed", "failed", "unreadable"]
JsonObject = dict[str, Any]
LIMITS = VideoLimits(megabytes=20_000, minutes=12 * 60, memory_gib=8.0, cpu_seconds=120)
_ID = re.compile(r"[\w-]{1,100}", re.ASCII)
_EARLIER_OVERRIDES = "overrules.json"  # the name of the file of overrides in earlier versions


class CurationError(InputError):
    """A collection is not as a stage needs it: no such folder, an earlier stage has not run, a broken file."""


@dataclass(frozen=True)
class Video:
    """One video of a collection. A row of the manifest begins with these columns.

    Args:
        video_id: id; letters, digits, `_` and `-`.
        url: address at which it was found.
        origin: kind of request: `labels`, `search`, `playlist`, `urls` or `folder`.
        status: `collected`; `removed`: a tombstone, it is gone and must not come back; `failed`: to be tried again;
            `unreadable`: the file found there is not a video.
        reason: reason why it is not there, in few words.
        file: name below `videos/`.
        sha256: SHA-256 of the file here.
        bytes: size of the file.
        format: container and coding, such as `mp4/h264`.
        width, height: size of its frames, in pixels.
        seconds: duration.
        frames_per_second: frame rate, as promised by the container.
        published_md5: MD5 of the authors' own download, for information; another format of the same video has another one.
    """

    video_id: str
    url: str = ""
    origin: str = ""
    status: Status = "collected"
    reason: str = ""
    file: str = ""
    sha256: str = ""
    bytes: int = 0
    format: str = ""
    width: int = 0
    height: int = 0
    seconds: float = 0.0
    frames_per_second: float = 0.0
    published_md5: str = ""


@dataclass(frozen=True)
class Verdict:
    """The decision about a video. These are the columns of the manifest after those of `Video`.

    Args:
        kept: whether it is part of the result; `None` if not decided yet.
        stage: the last stage that ran, or that dropped it.
        cause: reason why it was dropped.
        detail: details of the reason, for instance the video that it repeats.
        start, end: first second of the surgical part and the second at which it is over; 0 if not decided yet.
        surgical_seconds: number of surgical seconds in this part.
        overridden: whether a human decided something about it.
        models: fingerprints of the models that took part.
    """

    kept: bool | None = None
    stage: str = ""
    cause: str = ""
    detail: str = ""
    start: float = 0.0
    end: float = 0.0
    surgical_seconds: int = 0
    overridden: bool = False
    models: tuple[str, ...] = ()


_TYPES: dict[object, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    bool | None: pa.bool_(),
    Status: pa.string(),
    tuple[str, ...]: pa.list_(pa.string()),
}
SCHEMA = pa.schema([(field.name, _TYPES[field.type]) for kind in (Video, Verdict) for field in fields(kind)])


class Collection:
    """The folder of a collection.

    Args:
        folder: path of the folder, which need not exist yet.

    Example:
        >>> collection = Collection("corpus")  # doctest: +SKIP
        >>> [video.video_id for video in collection.videos("collected")]  # doctest: +SKIP
        ['-Ab3dEf6hIj', 'x_1zK0aQw2E']
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @property
    def manifest(self) -> Path:
        """Return the path of the table of all videos."""
        return self.folder / "manifest.parquet"

    @property
    def report(self) -> Path:
        """Return the path of the counts of each stage."""
        return self.folder / "report.json"

    @property
    def overrides(self) -> Path:
        """Return the path of the decisions of a human."""
        return self.folder / "overrides.json"

    def record(self, video_id: str) -> Path:
        """Return the path of the record of a video."""
        return self.folder / "records" / f"{check_id(video_id)}.json"

    def metadata(self, video_id: str) -> Path:
        """Return the path of the site's metadata of a video."""
        return self.folder / "metadata" / f"{check_id(video_id)}.json"

    def result(self, stage: str, video_id: str) -> Path:
        """Return the path of the result of a stage for a video."""
        return self.folder / "results" / stage / f"{check_id(video_id)}.json"

    def video_file(self, video: Video) -> Path:
        """Return the path of the file of a collected video."""
        return self.folder / "videos" / video.file

    @contextmanager
    def locked(self, *, create: bool = False) -> Iterator[None]:
        """Lock the folder for this process, and remove the half-written files of a killed run.

        Args:
            create: make the folder if there is none.

        Raises:
            CurationError: if there is no collection.
            OutputError: if something else is there, or another process works on it.
        """
        records = self.folder / "records"
        if create:
            if self.folder.exists() and not records.is_dir() and any(self.folder.iterdir()):
                raise OutputError(f"{self.folder} holds other files; choose an empty folder for the collection")
            records.mkdir(parents=True, exist_ok=True)
        self.check()
        with at_work(self.folder):
            for part in (self.folder, records, self.folder / "metadata", *self.folder.glob("results/*")):
                for left in part.glob(".*-*"):
                    left.unlink()
            yield

    def holds(self, video: Video) -> bool:
        """Return whether the file of a collected video is there, as large as it was when it was collected."""
        file = self.video_file(video)
        return video.status == "collected" and file.is_file() and file.stat().st_size == video.bytes

    def check(self) -> None:
        """Check that there is a collection, whose decisions have the name that is read.

        Raises:
            CurationError: if there is none, or its decisions are in the file of an earlier version.
        """
        if not (self.folder / "records").is_dir():
            raise CurationError(f"{self.folder} is no collection; `surgvista curate collect` begins one")
        earlier = self.folder / _EARLIER_OVERRIDES
        if earlier.exists():
            also = f" Both files are there: move the decisions of {earlier.name} into the other one by hand."
            raise CurationError(
                f"{earlier} holds decisions under the name that earlier versions used, so they would not count. Rename it to "
                f"{self.overrides.name}.{also if self.overrides.exists() else ''}"
            )

    def videos(self, status: Status | None = None) -> list[Video]:
        """Read the records of the videos, sorted by id.

        Args:
            status: return only videos with this status.

        Raises:
            CurationError: if there is no collection, or a record is broken.
        """
        self.check()
        found = (self.read_video(path) for path in (self.folder / "records").glob("[!.]*.json"))
        return sorted((video for video in found if status in (None, video.status)), key=lambda video: video.video_id)

    def find(self, video_id: str) -> Video | None:
        """Return the record of a video; `None` if it was never requested."""
        path = self.record(video_id)
        return self.read_video(path) if path.is_file() else None

    def read_video(self, path: Path) -> Video:
        """Read a record.

        Raises:
            CurationError: if it is broken.
        """
        content = read_object(path)
        try:
            video = Video(**content)
        except TypeError as error:
            raise CurationError(f"{path} is no record of a video: {error}") from error
        if video.video_id != path.stem or video.status not in get_args(Status):
            raise CurationError(f"{path} is a record of {video.video_id!r} with the status {video.status!r}")
        return video

    def write_video(self, video: Video) -> None:
        """Write a record."""
        write_json(self.record(video.video_id), asdict(video), ensure_ascii=False)

    def bury(self, video: Video, reason: str) -> Video:
        """Remove a video, its metadata and every result, and leave a tombstone.

        The tombstone is written first: after a kill in between the repetition finds it and removes the rest.
        """
        tombstone = Video(video.video_id, video.url, video.origin, "removed", reason)
        self.write_video(tombstone)
        self.forget(tombstone)
        return tombstone

    def forget(self, video: Video) -> None:
        """Remove the files of a video, all but its record."""
        self.metadata(video.video_id).unlink(missing_ok=True)
        for file in (self.folder / "videos").glob(f"{video.video_id}.*"):
            file.unlink()
        for stage in (self.folder / "results").glob("*"):
            self.result(stage.name, video.video_id).unlink(missing_ok=True)

    def write_manifest(self, verdicts: Mapping[str, Verdict]) -> None:
        """Write `manifest.parquet`.

        Args:
            verdicts: decisions by id; a video without one is not decided yet.
        """
        rows = [{**asdict(video), **asdict(verdicts.get(video.video_id, Verdict()))} for video in self.videos()]
        with atomic_file(self.manifest) as temporary:
            pq.write_table(pa.Table.from_pylist(rows, SCHEMA), temporary, compression="zstd")


def read_manifest(folder: str | Path) -> pa.Table:
    """Read the table of a collection, one row per video.

    Args:
        folder: folder of the collection.

    Returns:
        The columns of `Video` and `Verdict`.

    Raises:
        CurationError: if there is none, or it cannot be read.

    Example:
        >>> read_manifest("corpus").filter(pc.field("kept")).num_rows  # doctest: +SKIP
        4194
    """
    path = Collection(folder).manifest
    if not path.is_file():
        raise CurationError(f"there is no {path}; `surgvista curate collect` makes it")
    try:
        return pq.read_table(path, schema=SCHEMA)
    except (pa.ArrowException, OSError) as error:
        raise CurationError(f"{path} cannot be read: {error}") from error


def describe(video: Video, path: Path, limits: VideoLimits = LIMITS) -> Video:
    """Add hash, size, format and duration of a file to the record of a video.

    Args:
        video: the record so far.
        path: the file, which is not trusted: it is opened in a process of its own.
        limits: limits of that process.

    Returns:
        The record, collected or unreadable.
    """
    known = replace(video, file=path.name, sha256=file_hash(path), bytes=path.stat().st_size)
    try:
        with SubprocessVideo(path, limits) as opened:
            info = opened.info
    except VideoReadError as error:
        reason = " ".join(str(error).split()).replace(str(path), "the file")
        return replace(known, status="unreadable", reason=reason)
    return replace(
        known,
        status="collected",
        reason="",
        format=f"{path.suffix[1:]}/{info['codec']}",
        width=info["width"],
        height=info["height"],
        seconds=round(info["duration_seconds"], 3),
        frames_per_second=round(info["frames_per_second"], 4),
    )


def check_id(video_id: str) -> str:
    """Return an id if it can be the name of a file.

    Raises:
        CurationError: if it cannot.
    """
    if not _ID.fullmatch(video_id):
        raise CurationError(
            f"{video_id!r} cannot be the id of a video: letters, digits, _ and - are expected, up to 100"
        )
    return video_id


def read_object(path: Path) -> JsonObject:
    """Read a JSON object.

    Raises:
        CurationError: if there is no such file, or something else in it.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CurationError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise CurationError(f"{path} holds {type(content).__name__}, not an object")
    return content
