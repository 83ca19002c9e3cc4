"""Prediction and de-identification of whole folders: sharded over processes, resumable, each result whole or absent."""

import json
import logging
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from glob import escape
from pathlib import Path
from typing import Any

from accelerate import PartialState

from ..modeling.errors_surgvista import VideoReadError
from ..modeling.video_frames_surgvista import Deinterlace
from ..modeling.video_reading_surgvista import Damaged
from ..util import file_search
from ..util.console import track
from ..util.errors import InputError
from ..util.file_search import VIDEO_SUFFIXES, SkippedFiles
from ..util.files import OutputError, at_work, atomic_folder, check_settings, write_json
from ..util.fingerprint import file_fingerprint
from ..util.source_records import SourceRecords
from .deidentification import Cover, Pseudonyms, deidentify_video
from .models.clip_model import ClipModel
from .models.out_of_body import OutOfBodyDetector
from .models.temporal_head import TemporalHead
from .prediction.prediction import DEFAULT_FORMATS, check_formats
from .predictor import SurgicalVideoPredictor
from .writers.save_predictions import save_predictions
from .writers.video_writing import VideoWriteError

logger = logging.getLogger(__name__)
_SOURCE = "source.json"  # note of the content, in the folder of a video's results


@dataclass(frozen=True)
class BatchReport:
    """The videos that one process worked on.

    Args:
        done: names of the videos that this run finished.
        earlier: names of the videos that were finished before.
        unreadable: reason by the name of each video that cannot be decoded, or not be encoded again.
    """

    done: list[str]
    earlier: list[str]
    unreadable: dict[str, str]


def find_videos(folder: Path, *, tell: bool = True) -> list[Path]:
    """Find the videos below a folder by the rules of `util.file_search`; or return the file that `folder` is.

    Args:
        folder: folder to search, or a video.
        tell: log a remark that names what is passed over.

    Raises:
        InputError: there are no videos, or the folder does not exist.
    """
    if not folder.exists():
        raise InputError(f"there is no video at {folder}")
    if folder.is_file():
        return [folder]
    passed = SkippedFiles()
    found = file_search.find_videos(folder, passed)
    if not found:
        raise InputError(f"{folder} holds no videos ({' '.join(VIDEO_SUFFIXES)}){passed}")
    if tell:
        passed.tell()
    return found


def predict_folder(
    predictor: SurgicalVideoPredictor,
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    formats: Collection[str] = DEFAULT_FORMATS,
    pseudonyms: Pseudonyms | None = None,
    skip_unreadable: bool = False,
    progress: bool = False,
) -> BatchReport:
    """Predict every video below a folder; the same call goes on after an interruption.

    Processes that `accelerate launch` started share the videos. The files of a video lie in `output`, in a folder with its
    relative path, and appear together; `source.json` beside them notes the content of the video. A video whose content has
    changed is predicted anew; a namesake in another folder is refused. Only one run at a time works on an output.

    Args:
        predictor: the predictor, with its models.
        folder: folder with videos at any depth.
        output: folder of the results, for these models and formats only.
        formats: formats of the files, as for `VideoPrediction.save`.
        pseudonyms: pseudonyms of the videos, which take the place of names in folders, files and report.
        skip_unreadable: note videos that cannot be decoded, or not be encoded again, in `unreadable_<process>.json` and go on.
        progress: show a progress bar.

    Returns:
        The videos that this process worked on.

    Raises:
        InputError: no videos, or an unknown format.
        OutputError: `output` holds predictions of other models, in other formats, or of namesakes in another folder; or
            another run is at work on it.
        VideoReadError, VideoWriteError: a video cannot be decoded, or not be encoded again, unless they are skipped.
    """
    check_formats(formats)
    output, detector = Path(output), predictor.out_of_body
    models, heads = predictor.models, predictor.heads
    settings = {
        "models": {name: model.fingerprint for name, model in models.items()},
        "frame_stride": {name: model.frame_stride for name, model in models.items()},
        "temporal": {name: head.fingerprint for name, head in heads.items()},
        "formats": sorted(formats),
        "out_of_body": _detector_settings(detector),
        "reading": predictor.reading,
        **predictor.computing,  # nothing of float32 every second, which earlier versions did not note
    }
    names = {
        "models": {name: _display_name(model) for name, model in models.items()},
        "temporal": {name: _display_name(head) for name, head in heads.items()},
    }
    model_info = {name: model.describe() for name, model in models.items()}

    def predict(video: Path, name: str, source: str) -> None:
        """Predict one video into its folder."""
        with atomic_folder(output / name, replace=True) as temporary:
            shown = None if pseudonyms is None else f"{name}.mp4"
            found = predictor.predict_all(video, name=shown)
            save_predictions(found, temporary, formats, video=video, model_info=model_info)
            write_json(temporary / _SOURCE, {"source": source}, indent=None)

    job = _Job(output, settings, names, predict, lambda name: output / name / _SOURCE, lambda name: output / name)
    return _process_videos(Path(folder), job, pseudonyms, skip_unreadable, progress)


def deidentify_folder(
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str],
    detector: OutOfBodyDetector | None,
    pseudonyms: Pseudonyms,
    *,
    covers: Sequence[Cover] = (),
    deinterlace: Deinterlace = "auto",
    damaged: Damaged = "skip",
    skip_unreadable: bool = False,
    progress: bool = False,
) -> BatchReport:
    """Write every video below a folder as it may leave the hospital, and beside each a JSON file of what was done.

    Args:
        folder: folder with videos at any depth, or a video.
        output: folder of the results, for this detector only.
        detector, covers, deinterlace, damaged: the arguments of `deidentify_video`.
        pseudonyms: pseudonyms of the videos, which name the results.
        skip_unreadable, progress: the arguments of `predict_folder`.

    Returns:
        The videos that this process worked on.

    Raises:
        InputError: no videos, `output` is the folder of the originals, or a rectangle lies outside the image.
        OutputError: as for `predict_folder`.
        VideoReadError, VideoWriteError: a video cannot be decoded, or not be encoded again, unless they are skipped.
    """
    output, source = Path(output), Path(folder).resolve()
    if output.resolve() == (source if source.is_dir() else source.parent):
        raise InputError(f"{output} holds the originals: copies that may be shared need a folder of their own")
    settings = {
        "out_of_body": _detector_settings(detector),
        "covers": [vars(cover) for cover in covers],
        "reading": {"deinterlace": deinterlace, "damaged": damaged},
    }

    def deidentify(video: Path, name: str, source: str) -> None:
        """De-identify one video into two files."""
        done = deidentify_video(
            video, output / f"{name}.mp4", detector, covers=covers, deinterlace=deinterlace, damaged=damaged
        )
        for remark in done.remarks:
            logger.warning("%s: %s", name, remark)
        content = {**asdict(done), "source": source}
        write_json(output / f"{name}.json", content)  # written last: it marks the video as finished

    job = _Job(
        output, settings, {}, deidentify, lambda name: output / f"{name}.json", lambda name: output / f"{name}.mp4"
    )
    return _process_videos(Path(folder), job, pseudonyms, skip_unreadable, progress)


# ------------------------------------------------------------------------------------------- all videos


@dataclass(frozen=True)
class _Job:
    """An operation on each video of a folder.

    Args:
        output: folder of the results.
        settings, names: the arguments of `files.check_settings`.
        process: function of a video, its name in the output and the fingerprint of its content, which it must leave in the
            note.
        note: gives the file that holds the fingerprint of a result's content, by the name of the video.
        result: gives the file of the result, or the folder that holds the note too, by the name of the video.
    """

    output: Path
    settings: Mapping[str, Any]
    names: Mapping[str, Any]
    process: Callable[[Path, str, str], None]
    note: Callable[[str], Path]
    result: Callable[[str], Path]

    def source_of(self, name: str) -> str | None:
        """Return the fingerprint of the content that a result was made of; `None` if there is no whole result.

        Raises:
            OutputError: something else has the name of the result.
        """
        result, note = self.result(name), self.note(name)
        if not result.exists() or (note.parent != result and not note.exists()):
            return None
        try:
            return str(json.loads(note.read_text(encoding="utf-8"))["source"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OutputError(
                f"{result} is there and does not note the content that it was made of; remove it, or give another output"
            ) from error


@dataclass(frozen=True)
class _Item:
    """A video, its name in the output, and the mapping of its pseudonym."""

    video: Path
    name: str
    pseudonyms: Pseudonyms | None

    @cached_property
    def source(self) -> str:
        """Return the fingerprint of its content, keyed where others may see it."""
        try:
            fingerprint = file_fingerprint(self.video)
        except OSError as error:
            raise InputError(f"{self.video} cannot be read: {error}") from error
        return fingerprint if self.pseudonyms is None else self.pseudonyms.keyed(fingerprint)


def _process_videos(
    folder: Path, job: _Job, pseudonyms: Pseudonyms | None, skip_unreadable: bool, progress: bool
) -> BatchReport:
    """Process the videos of this process that are not finished in the output, or whose content has changed."""
    state, report = PartialState(), BatchReport([], [], {})
    videos = find_videos(folder, tell=state.is_main_process)
    root = folder.parent if folder.is_file() else folder
    with at_work(job.output):
        # Every process lists all videos, so that all agree on which video is whose.
        items = list(_items(videos, root, pseudonyms))
        if state.is_main_process:
            # Settings that others may see get no names of this machine's folders.
            check_settings(job.output, job.settings, names=job.names if pseudonyms is None else None)
            _check_sources(job, items, root, has_names=pseudonyms is None)
        state.wait_for_everyone()
        mine = items[state.process_index :: state.num_processes]
        for item in track(mine, "videos", shown=progress and state.is_local_main_process):
            if job.source_of(item.name) == item.source:
                report.earlier.append(item.name)
                continue
            try:
                job.process(item.video, item.name, item.source)
            except (VideoReadError, VideoWriteError) as error:
                if not skip_unreadable:
                    raise
                reason = str(error)
                report.unreadable[item.name] = (
                    reason if pseudonyms is None else reason.replace(str(item.video), item.name)
                )
                write_json(job.output / f"unreadable_{state.process_index}.json", report.unreadable)
                continue
            report.done.append(item.name)
        state.wait_for_everyone()
    return report


def _items(videos: Sequence[Path], root: Path, pseudonyms: Pseudonyms | None) -> Iterator[_Item]:
    """Yield each video with its name in the output; of several with one content, and so one pseudonym, only the first."""
    names = set()
    for video in videos:
        name = video.relative_to(root).as_posix() if pseudonyms is None else pseudonyms.of(video, root)
        if name not in names:
            names.add(name)
            yield _Item(video, name, pseudonyms)


def _check_sources(job: _Job, items: Sequence[_Item], root: Path, *, has_names: bool) -> None:
    """Refuse namesakes of another folder, warn of stale results, and delete what a killed run left.

    Raises:
        OutputError: the output holds results of namesakes.
    """
    changed = {
        item.name: (before, item.source)
        for item in items
        if (before := job.source_of(item.name)) is not None and before != item.source
    }
    if has_names:
        origins = SourceRecords(job.output, root)
        origins.check(changed)
        origins.note(item.name for item in items)
    for name in changed:
        logger.warning("%s has another content than before: it is done anew", name)
    for left in job.output.glob("unreadable_*.json"):
        left.unlink()
    for item in items:
        path = job.output / item.name
        for left in path.parent.glob(f".{escape(path.name)}-????????"):
            shutil.rmtree(left, ignore_errors=True)
        for suffix in (".mp4", ".json"):
            for left in path.parent.glob(f".{escape(path.name)}-????????{suffix}"):
                left.unlink(missing_ok=True)


def _detector_settings(detector: OutOfBodyDetector | None) -> dict[str, Any] | None:
    return None if detector is None else {**detector.describe(), "model": detector.model.fingerprint}


def _display_name(model: ClipModel | TemporalHead) -> str:
    """Return what people call a model: its folder without the path, or its Hub id."""
    return Path(model.source).name if Path(model.source).exists() else str(model.source)
