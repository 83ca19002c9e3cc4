"""Preparing a frame set from raw videos: one file per video, complete or absent, so that a killed run can be continued.

The result is a folder that `datasets.load_from_disk` reads: `videos/<id>.arrow` (memory-mapped, nothing is copied), each
with a `videos/<id>.json` beside it that marks a finished video, and at the end the manifest `frame_set.json`.
"""

import hashlib
import json
import logging
import math
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import datasets
import numpy as np
import pyarrow as pa

from ...modeling.errors_surgvista import VideoReadError
from ...util.console import progress_bar
from ...util.errors import SurgVistaError
from ...util.executors import Executor, check_executor, run_over
from ...util.files import LOCK, OutputError, at_work, atomic_file, content_hash, write_json
from ...util.gaps import bridging_note
from ...util.messages import preview
from ...util.source_records import SourceRecords
from ..schema.builder import FRAMES, VIDEO, FrameSetBuilder, RawVideo
from ..schema.info import DatasetError, DatasetInfo, Parts
from ..schema.label_tracks import IntervalTrack, RowTrack, Track
from ..schema.media import EncodedFrame, Media, PreparationOptions, check_labels_within, check_same_length
from .fingerprints import raw_fingerprint
from .registry import get_builder

logger = logging.getLogger(__name__)
FORMAT = 2  # of the JSON files; raised when their keys change
_LONGEST_NAME = 150  # file systems allow 255, of which temporary files take some
MANIFEST, PLAN, REPORT = "frame_set.json", "preparation.json", "report.json"
ROWS_AT_ONCE, _BYTES_AT_ONCE = 1024, 64_000_000  # of a record batch: few of them make a frame set quick to open


class PreparationError(DatasetError):
    """Some videos could not be prepared; the others are finished, and the report names every failed one."""


@dataclass(frozen=True)
class VideoReport:
    """Result of preparing one video.

    Args:
        video_id: id of the video.
        frames: number of rows in the frame set.
        labeled: number of rows that have the main label.
        seconds: length of the video.
        parts: splits that the video is in, by protocol, where the raw download says so.
        labels: numbers of the classes that all its frames have, by column.
        remarks: sentences on tolerated mismatches, on what was done to the frames, and on missing ones.
        version: `RawVideo.version` of the video it was made from.
        digest: hash of the stored file, so that the fingerprint of the frame set depends on frames and labels.
        interval: median of the seconds between two rows; `None` if there is only one.
        bridged: `True` if frames were left out, so that clips bridge the gap.
        made_from: fingerprint of the raw video and its labels. If it changes, the video is prepared again.
        error: reason of the failure; `None` if the video was prepared.
    """

    video_id: str
    frames: int = 0
    labeled: int = 0
    seconds: float = 0.0
    parts: Parts = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    version: str = ""
    digest: str = ""
    interval: float | None = None
    bridged: bool = False
    made_from: str = ""
    error: str | None = None


@dataclass(frozen=True)
class PreparationReport:
    """Result of preparing all videos.

    Args:
        videos: a report per video, sorted by id, including the videos that an earlier run finished.
        resumed: number of videos that an earlier run finished.
        removed: ids of videos that left the frame set, since the raw data no longer hold them.
        kept: ids of videos of other folders, which stay in the frame set.
    """

    videos: tuple[VideoReport, ...]
    resumed: int = 0
    removed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[VideoReport, ...]:
        """Return the reports of the videos that could not be prepared."""
        return tuple(video for video in self.videos if video.error)

    def to_dict(self) -> dict[str, Any]:
        """Return the content of `report.json`."""
        done = [video for video in self.videos if not video.error]
        return {
            "videos": len(done),
            "frames": sum(video.frames for video in done),
            "labeled": sum(video.labeled for video in done),
            "hours": round(sum(video.seconds for video in done) / 3600, 4),
            "failed": {video.video_id: video.error for video in self.failed},
            "remarks": {video.video_id: list(video.remarks) for video in done if video.remarks},
            "removed": list(self.removed),
            "kept": list(self.kept),
        }


@dataclass(frozen=True)
class _Task:
    info: DatasetInfo
    tracks: Callable[[RawVideo], Sequence[Track]]
    video: RawVideo
    options: PreparationOptions
    folder: Path


def default_options(info: DatasetInfo) -> PreparationOptions:
    """Return the options that are usual for a data set."""
    return PreparationOptions(frames_per_second=info.frames_per_second, every=info.every, unlabeled=info.unlabeled)


def prepare_frame_set(
    name: str,
    data_dir: Path | str | None,
    output: Path | str,
    *,
    options: PreparationOptions | None = None,
    settings: Mapping[str, str] | None = None,
    videos: Iterable[str] | None = None,
    num_proc: int = 1,
    executor: Executor = "local",
    skip_unreadable: bool = False,
    progress: bool = False,
    wait: bool = False,
) -> PreparationReport:
    """Turn the raw videos of a data set into a frame set.

    Videos that an earlier run finished are not prepared again, so after a crash or a kill the same call completes the work.
    The result is byte for byte that of an uninterrupted run, whatever `num_proc` and `executor`. A video whose raw file or
    labels have changed is prepared again; a video of the same name in another folder is refused. A video that the raw data no
    longer hold, or that has left the labels of own videos, leaves the frame set; those of other folders stay.

    Args:
        name: name of the data set, see `list_datasets`.
        data_dir: folder of the raw download; `None` for synthetic data.
        output: folder of the frame set.
        options: sampling and storage of the frames; by default `default_options` of the data set.
        settings: further options of this data set, such as `{"videos": "20"}` for synthetic surgery.
        videos: ids of the videos to prepare, by default all; a later call may add others.
        num_proc, executor: arguments of `run_over`.
        skip_unreadable: leave out videos that cannot be prepared, instead of failing at the end.
        progress: show a progress bar.
        wait: wait for another run that is at work on `output`, instead of raising an error.

    Returns:
        The result for each video, which is also written to `report.json`.

    Raises:
        MissingFilesError, DatasetError: the raw folder does not hold the data set as published.
        OutputError: `output` holds something else, was prepared with other options, by another version or from videos of the
            same name in another folder, or another run is at work on it.
        PreparationError: some videos failed. The others are finished.

    Example:
        >>> prepare_frame_set("cholec80", "downloads/cholec80", "frame_sets/cholec80", num_proc=8)  # doctest: +SKIP
    """
    root = None if data_dir is None else Path(data_dir)
    check_executor(executor, num_proc)
    builder = get_builder(name).configured(root, settings or {})
    found = builder.find(root)
    return prepare_videos(
        builder,
        _select_videos(found, videos),
        Path(output),
        options or default_options(builder.info),
        present=[video.video_id for video in found],
        num_proc=num_proc,
        executor=executor,
        skip_unreadable=skip_unreadable,
        progress=progress,
        root=root,
        wait=wait,
    )


def prepare_videos(
    builder: FrameSetBuilder,
    found: Sequence[RawVideo],
    folder: Path,
    options: PreparationOptions,
    *,
    only_these: bool = False,
    present: Iterable[str] | None = None,
    num_proc: int = 1,
    executor: Executor = "local",
    skip_unreadable: bool = False,
    progress: bool = False,
    root: Path | None = None,
    wait: bool = False,
) -> PreparationReport:
    """Turn videos that were already found into a frame set; otherwise like `prepare_frame_set`.

    Args:
        builder: configured builder of the data set.
        found: the videos to prepare.
        folder: folder of the frame set.
        options: sampling and storage of the frames.
        only_these: first remove videos from the folder that are not among `found`, or have another `RawVideo.version`.
        present: ids of all videos of the raw data, by default those of `found`; finished videos that are not among them are
            removed, unless they came from another folder than `root`.
        num_proc, executor, skip_unreadable, progress, wait: arguments of `prepare_frame_set`.
        root: folder of the raw data. If it is given, videos of the same name in another folder are refused.

    Returns:
        The result for each video.

    Raises:
        OutputError, PreparationError: see `prepare_frame_set`.
    """
    name = builder.info.name
    _warn_of_assumed_rate(found, options)
    with _locked(folder, wait=wait):
        _check_plan(folder, builder, options)
        for file, text in builder.records.items():
            with atomic_file(folder / file) as temporary:
                temporary.write_text(text, encoding="utf-8")
        if only_these:
            _remove_others(folder, {video.video_id: video.version for video in found})
        finished = {report.video_id: report for report in _finished_reports(folder)}
        origins = SourceRecords(folder, root)
        _remove_changed(folder, builder, found, finished, origins)
        ids = {video.video_id for video in found} if present is None else set(present)
        removed, kept = _remove_gone(folder, ids, finished, origins)
        # A task gets no more of the builder than it needs, which may hold the labels of all videos.
        tasks = [
            _Task(builder.info, builder.tracks, video, options, folder)
            for video in found
            if video.video_id not in finished
        ]
        reports = [finished[video.video_id] for video in found if video.video_id in finished]
        resumed = len(reports)
        results: Iterator[VideoReport] = run_over(
            _prepare_video, tasks, _crash_report, num_proc=num_proc, executor=executor, name=_task_name
        )
        with progress_bar(name, total=len(found), unit="videos", initial=resumed, shown=progress) as bar:
            for report in results:
                reports.append(report)
                bar.update()
                if report.error:
                    logger.warning("%s: %s", report.video_id, report.error)
        report_all = PreparationReport(
            tuple(sorted(reports, key=lambda report: report.video_id)), resumed, removed, kept
        )
        write_json(folder / REPORT, report_all.to_dict(), ensure_ascii=False)
        if report_all.failed and not skip_unreadable:
            first = str(report_all.failed[0].error).rstrip(".")
            raise PreparationError(
                f"{len(report_all.failed)} of {len(found)} videos could not be prepared, the first: {first}. All are in "
                f"{folder / REPORT}. Replace them and run again, or leave them out with --skip-unreadable"
            )
        write_manifest(folder, builder.info, options)
    return report_all


def _warn_of_assumed_rate(found: Sequence[RawVideo], options: PreparationOptions) -> None:
    """Log the rate that extracted frames are assumed to have, since nothing in a folder tells it."""
    assumed = [
        video.video_id for video in found if VIDEO not in video.files and FRAMES in video.files and not video.rate
    ]
    if assumed:
        logger.warning(
            "the extracted frames of %s are taken to be %g a second; --folder-frames-per-second says otherwise",
            preview(assumed, shown=3),
            options.folder_frames_per_second,
        )


def _select_videos(found: list[RawVideo], videos: Iterable[str] | None) -> list[RawVideo]:
    if videos is None:
        return found
    wanted = set(videos)
    missing = sorted(wanted - {video.video_id for video in found})
    if missing:
        raise DatasetError(f"{preview(missing)}: no such videos in the raw data ({len(found)} found)")
    return [video for video in found if video.video_id in wanted]


# ------------------------------------------------------------------------------------------- one video


def _prepare_video(task: _Task) -> VideoReport:
    """Write the frame set of one video, and report the reason if that is not possible."""
    try:
        tracks = task.tracks(task.video)
        return _write_video(task, tracks, raw_fingerprint(task.video, tracks))
    except OutputError:  # a full disk, for example, concerns all videos
        raise
    except SurgVistaError as error:
        return VideoReport(task.video.video_id, error=" ".join(str(error).split()))
    except OSError as error:
        raise OutputError(f"{task.video.video_id}: {error}") from error


def _task_name(task: _Task) -> str:
    return f"prepare {task.video.video_id}"


def _crash_report(task: _Task, reason: str) -> VideoReport:
    return VideoReport(task.video.video_id, error=reason)


def _write_video(task: _Task, tracks: Sequence[Track], made_from: str) -> VideoReport:
    video, options, info = task.video, task.options, task.info
    media = video.open(options)
    rows = _RowBuffer(info, video.video_id)
    shard = video_file(task.folder, video.video_id)
    with atomic_file(shard) as temporary:
        with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_stream(file, info.features.arrow_schema) as writer:
            for frame in media.frames(options):
                rows.add(frame, _labels(tracks, frame.second, media.rate), options)
                if rows.full:
                    writer.write_batch(rows.flush())
            if len(rows):
                writer.write_batch(rows.flush())
        if not rows.frames:  # raised inside the block, so that no empty file is left
            raise DatasetError(f"{video.video_id}: no frame is left" + (" that has a label" if tracks else ""))
        remarks = (
            *media.remarks,
            *_remark_on_counted_labels(media, tracks),
            *_check_alignment(video, media, options, tracks),
        )
        with temporary.open("rb") as written:
            digest = hashlib.file_digest(written, "sha256").hexdigest()[:16]
    report = VideoReport(
        video.video_id,
        rows.frames,
        rows.labeled,
        round(media.seconds, 3),
        video.parts,
        rows.constant_labels,
        remarks,
        video.version,
        digest,
        rows.interval,
        media.leaves_out or options.unlabeled == "drop",
        made_from,
    )
    write_json(shard.with_suffix(".json"), asdict(report), ensure_ascii=False)  # last: it marks the video as finished
    return report


def _labels(tracks: Sequence[Track], second: float, rate: float) -> dict[str, Any] | None:
    """Return the labels at a time; `None` if a track that must cover all frames has ended."""
    merged: dict[str, Any] = {}
    for track in tracks:
        row = track.at(second, rate)
        # Half a frame of tolerance, since time stamps are rounded.
        if row is None and track.exact and second >= track.end(rate) - 0.5 / rate:
            return None
        merged.update(row or {})
    return merged


def _remark_on_counted_labels(media: Media, tracks: Sequence[Track]) -> Iterator[str]:
    """Yield a remark if labels count source frames and the recorder left some frames out."""
    counted = any(isinstance(track, RowTrack | IntervalTrack) and track.rate is None for track in tracks)
    if media.stands_still and counted:
        yield (
            f"its labels count source frames, which are not evenly spaced: they were placed at {media.rate:g} a second, the "
            "mean rate. Give them by second, or check them"
        )


def _check_alignment(
    video: RawVideo, media: Media, options: PreparationOptions, tracks: Sequence[Track]
) -> Iterator[str]:
    """Yield remarks on labels and frames that do not cover the same time; raise an error if they differ too much."""
    for track in tracks:
        if track.exact:
            remark = check_same_length(video.video_id, media, track.end(media.rate), options.tolerance_seconds)
            if remark:
                yield remark
    if video.stop < math.inf:  # the labels of a part may cover the whole video
        return
    latest = [track.latest(media.rate) for track in tracks if not track.exact]
    remark = check_labels_within(video.video_id, media, max(latest, default=0.0), options.tolerance_seconds)
    if remark:
        yield remark


class _RowBuffer:
    """Buffer for the rows of a video until they are written, with the statistics of all rows."""

    def __init__(self, info: DatasetInfo, video_id: str) -> None:
        self.info, self.video_id = info, video_id
        self.schema = info.features.arrow_schema
        self.main = next(iter(info.labels), None)
        self.frames = self.labeled = 0
        self._size: tuple[int, int] | None = None
        self._classes = {name: Counter[Any]() for name, label in info.labels.items() if label.kind == "class"}
        self._rows: list[dict[str, Any]] = []
        self._seconds = array("d")
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def full(self) -> bool:
        """Return whether it is time to write the rows."""
        return len(self._rows) >= ROWS_AT_ONCE or self._bytes >= _BYTES_AT_ONCE

    def add(self, frame: EncodedFrame, labels: Mapping[str, Any] | None, options: PreparationOptions) -> None:
        """Append a frame, unless it is to be left out.

        Args:
            frame: the frame.
            labels: its label columns; `None` leaves it out.
            options: rule for frames without a label.

        Raises:
            VideoReadError: the size of the frames changes.
        """
        main = labels.get(self.main) if labels and self.main else None
        if labels is None or (main is None and self.main and options.unlabeled == "drop"):
            return
        if self._size not in (None, frame.size):
            raise VideoReadError(
                f"{self.video_id}: the frames change from {self._size} to {frame.size} pixels at second {frame.second}"
            )
        self._size = frame.size
        for name, counter in self._classes.items():
            counter[labels.get(name)] += 1
        self._rows.append(
            {
                "source": self.info.source or self.info.name,
                "video_id": self.video_id,
                "frame_index": self.frames,
                "timestamp": frame.second,
                "image": {"bytes": frame.data, "path": None},
                **{name: labels.get(name) for name in self.info.labels},
            }
        )
        self._seconds.append(frame.second)
        self.frames += 1
        self.labeled += main is not None
        self._bytes += len(frame.data)

    def flush(self) -> pa.RecordBatch:
        """Return the rows since the last call, and empty the buffer."""
        batch = pa.RecordBatch.from_pylist(self._rows, schema=self.schema)
        self._rows, self._bytes = [], 0
        return batch

    @property
    def interval(self) -> float | None:
        """Return the median of the seconds between two rows."""
        return round(float(np.median(np.diff(self._seconds))), 6) if self.frames > 1 else None

    @property
    def constant_labels(self) -> dict[str, int]:
        """Return the numbers of the classes that all frames have, by column."""
        single = {name: next(iter(counter)) for name, counter in self._classes.items() if len(counter) == 1}
        return {name: value for name, value in single.items() if value is not None}


# ------------------------------------------------------------------------------------------- the folder


def video_file(folder: Path, video_id: str) -> Path:
    """Return the file in which the frames of a video are stored; an id may have any characters and any length."""
    name = quote(video_id, safe=" ")
    if len(name) > _LONGEST_NAME:
        name = f"{name[:_LONGEST_NAME]}-{content_hash(video_id)}"
    return folder / "videos" / f"{name}.arrow"


def other_version(what: object, content: Mapping[str, Any], remedy: str) -> str:
    """Return a sentence for users if a file of a frame set was written by another version of this package, or else nothing.

    Args:
        what: name of the file, folder or address, for the message.
        content: content of the file, which names its `format`.
        remedy: advice for a file of an earlier version.

    Example:
        >>> other_version("published.json", {"format": FORMAT}, "publish it again")
        ''
    """
    found = content.get("format")
    if found == FORMAT:
        return ""
    later = isinstance(found, int) and found > FORMAT
    return (
        f"{what} was written by {'a later' if later else 'an earlier'} version of surgvista_hf (format {found}; this version "
        f"has format {FORMAT}): {'update surgvista_hf' if later else remedy}"
    )


def read_record(path: Path, error: type[SurgVistaError]) -> dict[str, Any]:
    """Read the manifest or the plan of a frame set.

    Args:
        path: `frame_set.json` or `preparation.json`.
        error: class of the error that is raised.

    Raises:
        SurgVistaError: of that class: another version wrote the file, or it cannot be read.
    """
    try:
        content = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as reason:
        raise error(f"{path} cannot be read: {reason}; remove {path.parent} and prepare it again") from reason
    remedy = "prepare the videos again, into another folder or after removing this one"
    if problem := other_version(path.parent, content, remedy):
        raise error(problem)
    return content


@contextmanager
def _locked(folder: Path, *, wait: bool) -> Iterator[None]:
    """Lock the output folder for this process, and remove what a killed run left half-written."""
    with at_work(folder, wait=wait):
        (folder / "videos").mkdir(exist_ok=True)
        for part in (folder, folder / "videos"):
            for left in part.glob(".*-*"):
                left.unlink()
        yield


def _check_plan(folder: Path, builder: FrameSetBuilder, options: PreparationOptions) -> None:
    """Write the plan of a frame set to its folder, or check that it is that of an earlier run.

    Raises:
        OutputError: the folder holds something else, or a frame set with another plan.
    """
    plan = {
        "format": FORMAT,
        "name": builder.info.name,
        "options": asdict(options),
        "settings": dict(builder.settings),
        "labels": {name: asdict(label) for name, label in builder.info.labels.items()},
    }
    plan = json.loads(json.dumps(plan))
    path = folder / PLAN
    if path.exists():
        before = read_record(path, OutputError)
        if before != plan:
            was, requested = (
                {key: each.get(key) for key in plan if before.get(key) != plan[key]} for each in (before, plan)
            )
            raise OutputError(
                f"{folder} was begun with {was}, now {requested} is requested; choose another output or remove it"
            )
        return
    others = sorted(file.name for file in folder.iterdir() if file.name not in ("videos", LOCK))
    if others or any((folder / "videos").iterdir()):
        raise OutputError(f"{folder} holds other files ({', '.join(others[:3]) or 'videos'}); choose an empty folder")
    write_json(path, plan, ensure_ascii=False)


def _finished_reports(folder: Path) -> Iterator[VideoReport]:
    """Yield the reports of the videos whose files are complete."""
    for mark in sorted((folder / "videos").glob("*.json")):
        if mark.with_suffix(".arrow").exists():
            content = json.loads(mark.read_text(encoding="utf-8"))
            yield VideoReport(**{**content, "remarks": tuple(content["remarks"])})


def _remove_others(folder: Path, versions: Mapping[str, str]) -> None:
    """Remove finished videos that are not requested, or have another version."""
    for report in list(_finished_reports(folder)):
        if versions.get(report.video_id) != report.version:
            _remove(folder, report.video_id)


def _remove(folder: Path, video_id: str) -> None:
    """Remove a finished video. Its mark is removed first, so that a kill in between does no harm."""
    (folder / MANIFEST).unlink(missing_ok=True)  # it lists the video
    shard = video_file(folder, video_id)
    shard.with_suffix(".json").unlink()
    shard.unlink()


def _remove_changed(
    folder: Path,
    builder: FrameSetBuilder,
    found: Sequence[RawVideo],
    finished: dict[str, VideoReport],
    origins: SourceRecords,
) -> None:
    """Remove finished videos whose raw files or labels have changed, so that they are prepared again.

    Args:
        folder: folder of the frame set.
        builder: builder of the data set, which reads the labels.
        found: raw videos.
        finished: reports of finished videos by id; those that are removed are also removed here.
        origins: record of the folder that each video came from.

    Raises:
        OutputError: they come from another folder, so both may be needed. Nothing is removed then.
    """
    changed: dict[str, tuple[str, str]] = {}
    for video in found:
        before = finished.get(video.video_id)
        if before is not None and before.made_from != (now := _raw_fingerprint(builder, video)):
            changed[video.video_id] = (before.made_from or "not noted", now)
    origins.check(changed)
    origins.note(video.video_id for video in found)
    for name, (was, _) in changed.items():
        why = "was prepared by a version that did not note its content" if was == "not noted" else "has changed"
        logger.warning("%s %s: it is prepared again", name, why)
        _remove(folder, name)
        del finished[name]


def _remove_gone(
    folder: Path, present: Collection[str], finished: dict[str, VideoReport], origins: SourceRecords
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Remove finished videos that the raw data no longer hold, such as those of patients who have withdrawn their consent.

    Args:
        folder: folder of the frame set.
        present: ids of all videos of the raw data.
        finished: reports of finished videos by id; those that are removed are also removed here.
        origins: record of the folder that each video came from.

    Returns:
        The ids of the removed videos, and of those of other folders, of which nothing is known here: they are kept.
    """
    absent = [name for name in sorted(finished) if name not in present]
    kept = origins.from_elsewhere(absent)
    removed = tuple(name for name in absent if name not in kept)
    for name in removed:
        _remove(folder, name)
        del finished[name]
    origins.forget(removed)
    if removed:
        logger.warning(
            "%s: no longer among the videos and labels of %s, so removed from the frame set",
            preview(removed),
            origins.root or "the data set",
        )
    if kept:
        logger.warning(
            "%s: prepared from another folder (%s), so kept in the frame set; if they must leave it, prepare into another "
            "output",
            preview([*kept]),
            preview(sorted(set(kept.values()))),
        )
    return removed, tuple(kept)


def _raw_fingerprint(builder: FrameSetBuilder, video: RawVideo) -> str:
    """Return the fingerprint of a raw video; empty if it cannot be read, which preparing it will explain."""
    try:
        return raw_fingerprint(video, builder.tracks(video))
    except (SurgVistaError, OSError):
        return ""


def _fingerprinted_fields(report: VideoReport) -> dict[str, Any]:
    """Return the part of a report that the fingerprint of the frame set depends on.

    The raw video may have changed in ways that do not affect the frames; intervals and gaps follow from the stored file.
    """
    return {name: value for name, value in asdict(report).items() if name not in ("made_from", "interval", "bridged")}


def write_manifest(folder: Path, info: DatasetInfo, options: PreparationOptions) -> None:
    """Write the files that make the finished videos of a folder one data set.

    Args:
        folder: folder of the frame set.
        info: description of the data set.
        options: options that the videos were prepared with.
    """
    reports = sorted(_finished_reports(folder), key=lambda report: report.video_id)
    bridged = bridging_note(info.source or info.name) if any(report.bridged for report in reports) else ""
    dataset_info = datasets.DatasetInfo(
        description=info.notes + bridged,
        citation=info.citation,
        homepage=info.homepage,
        license=info.license,
        features=info.features,
        dataset_name=info.name,
    )
    dataset_info.write_to_directory(str(folder), pretty_print=True)
    files = [video_file(folder, report.video_id).relative_to(folder).as_posix() for report in reports]
    fingerprint = content_hash([_fingerprinted_fields(report) for report in reports])
    state: dict[str, Any] = {
        "_data_files": [{"filename": file} for file in files],
        "_fingerprint": fingerprint,
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    write_json(folder / "state.json", state, ensure_ascii=False)
    manifest = {
        "format": FORMAT,
        "name": info.name,
        "license": info.license,
        "fingerprint": fingerprint,
        "options": asdict(options),
        "frame_interval": _common_interval(reports),
        "bridged": bridged,
        "labels": {name: asdict(label) for name, label in info.labels.items()},
        "videos": [
            {
                "video_id": report.video_id,
                "frames": report.frames,
                "parts": dict(report.parts),
                "labels": dict(report.labels),
            }
            for report in reports
        ],
    }
    write_json(folder / MANIFEST, manifest, ensure_ascii=False)


def _common_interval(reports: Sequence[VideoReport]) -> float | None:
    """Return the seconds between two frames if all videos have about the same, otherwise `None`."""
    known = [report.interval for report in reports if report.interval]
    return known[0] if known and max(known) - min(known) < 0.01 * known[0] else None
