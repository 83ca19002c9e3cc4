"""What is known of every video of a collection: one small record each, and one Parquet table of all of them.

A collection is a folder:

    manifest.parquet         one row per video, written from the rest; without titles and names
    report.json              counts of each stage, with reasons
    overrides.json           what a human decided otherwise
    records/<id>.json        what collecting found out of a video; of a removed one only that it is gone
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
LIMITS = VideoLimits(megabytes=20_000, minutes=12 * 60, memory_gib=8.0, cpu_seconds=120)
_ID = re.compile(r"[\w-]{1,100}", re.ASCII)


class CurationError(InputError):
    """A collection is not what a stage needs: no such folder, an earlier stage has not run, a broken file."""


@dataclass(frozen=True)
class Video:
    """One video of a collection. A row of the manifest begins with these columns.

    Args:
        video_id: id; letters, digits, `_` and `-`.
        url: where it was found.
        origin: what asked for it: `labels`, `search`, `playlist`, `urls` or `folder`.
        status: `collected`; `removed`: a tombstone, it is gone and must not come back; `failed`: to be tried again;
            `unreadable`: what was found there is no video.
        reason: why it is not there, in few words.
        file: name below `videos/`.
        sha256: of the file here.
        bytes: its size.
        format: container and coding, such as `mp4/h264`.
        width, height: of its pictures, in pixels.
        seconds: its length.
        frames_per_second: as promised by the container.
        published_md5: of the authors' own download, for information; another format of the same video has another one.
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
    """What became of a video. The columns of the manifest after those of `Video`.

    Args:
        kept: whether it is part of the result; `None`: not decided yet.
        stage: the last stage that ran, or that dropped it.
        cause: why it was dropped.
        detail: for instance the video that it repeats.
        start, end: first second of the surgical part and the second at which it is over; 0 if not decided yet.
        surgical_seconds: of these, how many are surgical.
        overridden: whether a human decided something about it.
        models: fingerprints of the models that had a say.
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


_TYPES: dict[Any, pa.DataType] = {
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
        folder: where it is, or shall be.

    Example:
        >>> collection = Collection("corpus")  # doctest: +SKIP
        >>> [video.video_id for video in collection.videos("collected")]  # doctest: +SKIP
        ['-Ab3dEf6hIj', 'x_1zK0aQw2E']
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @property
    def manifest(self) -> Path:
        return self.folder / "manifest.parquet"

    @property
    def report(self) -> Path:
        return self.folder / "report.json"

    @property
    def overrides(self) -> Path:
        return self.folder / "overrides.json"

    def record(self, video_id: str) -> Path:
        """File with what is known of a video."""
        return self.folder / "records" / f"{check_id(video_id)}.json"

    def metadata(self, video_id: str) -> Path:
        """File with what the site says of a video."""
        return self.folder / "metadata" / f"{check_id(video_id)}.json"

    def result(self, stage: str, video_id: str) -> Path:
        """File with what a stage found out of a video."""
        return self.folder / "results" / stage / f"{check_id(video_id)}.json"

    def video_file(self, video: Video) -> Path:
        """The file of a collected video."""
        return self.folder / "videos" / video.file

    @contextmanager
    def locked(self, *, create: bool = False) -> Iterator[None]:
        """The folder, for this process alone; what a killed run left half-written is removed.

        Args:
            create: make the folder if there is none.

        Raises:
            CurationError: no collection there.
            OutputError: something else is there, or another process works on it.
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
        """Whether the file of a collected video is there, as large as it was when it was collected."""
        file = self.video_file(video)
        return video.status == "collected" and file.is_file() and file.stat().st_size == video.bytes

    def check(self) -> None:
        """Make sure that there is a collection.

        Raises:
            CurationError: there is none.
        """
        if not (self.folder / "records").is_dir():
            raise CurationError(f"{self.folder} is no collection; `surgvista curate collect` begins one")

    def videos(self, status: Status | None = None) -> list[Video]:
        """Its videos, sorted by id.

        Args:
            status: only these.

        Raises:
            CurationError: no collection, or a broken record.
        """
        self.check()
        found = (self.read_video(path) for path in (self.folder / "records").glob("[!.]*.json"))
        return sorted((video for video in found if status in (None, video.status)), key=lambda video: video.video_id)

    def find(self, video_id: str) -> Video | None:
        """What is known of a video; `None` if it was never asked for."""
        path = self.record(video_id)
        return self.read_video(path) if path.is_file() else None

    def read_video(self, path: Path) -> Video:
        """Read a record.

        Raises:
            CurationError: it is broken.
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
        """Remove a video, its metadata and every result, and leaves a tombstone.

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
            verdicts: by id; a video without one is not decided yet.
        """
        rows = [{**asdict(video), **asdict(verdicts.get(video.video_id, Verdict()))} for video in self.videos()]
        with atomic_file(self.manifest) as temporary:
            pq.write_table(pa.Table.from_pylist(rows, SCHEMA), temporary, compression="zstd")


def read_manifest(folder: str | Path) -> pa.Table:
    """The table of a collection, one row per video.

    Args:
        folder: of the collection.

    Returns:
        The columns of `Video` and `Verdict`.

    Raises:
        CurationError: there is none, or it cannot be read.

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
    """Add what a file is: hash, size, format, length. It is looked at in a process of its own, with limits.

    Args:
        video: what is known.
        path: the file, which nobody trusts.
        limits: what it may cost.

    Returns:
        The video, collected or unreadable.
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
    """An id that can be the name of a file.

    Raises:
        CurationError: it cannot.
    """
    if not _ID.fullmatch(video_id):
        raise CurationError(
            f"{video_id!r} cannot be the id of a video: letters, digits, _ and - are expected, up to 100"
        )
    return video_id


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        CurationError: no such file, or something else in it.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CurationError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise CurationError(f"{path} holds {type(content).__name__}, not an object")
    return content
