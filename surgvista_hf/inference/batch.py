"""Prediction and de-identification of whole folders: divided among processes, resumable, each result whole or absent."""

import json
import logging
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from glob import escape
from pathlib import Path
from typing import Any, TypeVar

from accelerate import PartialState

from ..modeling.errors_surgvista import VideoReadError
from ..modeling.video_frames_surgvista import Deinterlace
from ..modeling.video_reading_surgvista import Damaged
from ..util import file_search
from ..util.console import progress_bar
from ..util.errors import InputError, SurgVistaError
from ..util.executors import Executor, Lazy, check_executor, is_parallel, run_over
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
Value = TypeVar("Value")
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
    predictor: SurgicalVideoPredictor | Lazy[SurgicalVideoPredictor],
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    formats: Collection[str] = DEFAULT_FORMATS,
    pseudonyms: Pseudonyms | None = None,
    skip_unreadable: bool = False,
    progress: bool = False,
    num_proc: int = 1,
    executor: Executor = "local",
) -> BatchReport:
    """Predict every video below a folder; the same call goes on after an interruption.

    Processes of `accelerate launch`, or those of an executor, share the videos. The files of a video lie in `output`,
    in a folder with its relative path, and appear together; `source.json` beside them notes the content of the video. A video
    whose content has changed is predicted anew; a namesake in another folder is refused. Only one run at a time works on an
    output.

    Args:
        predictor: the predictor, with its models; where other processes work, a `Lazy` one, which each of them loads.
        folder: folder with videos at any depth.
        output: folder of the results, for these models and formats only.
        formats: formats of the files, as for `VideoPrediction.save`.
        pseudonyms: pseudonyms of the videos, which take the place of names in folders, files and report.
        skip_unreadable: note videos that cannot be decoded, or not be encoded again, in `unreadable_<process>.json` and go on.
        progress: show a progress bar.
        num_proc, executor: arguments of `run_over`.

    Returns:
        The videos that this process worked on.

    Raises:
        InputError: no videos, an unknown format, or an executor that cannot be used.
        OutputError: `output` holds predictions of other models, in other formats, or of namesakes in another folder; or
            another run is at work on it.
        VideoReadError, VideoWriteError: a video cannot be decoded, or not be encoded again, unless they are skipped.

    Example:
        >>> predictor = Lazy(partial(SurgicalVideoPredictor, "my-phase-model"))  # doctest: +SKIP
        >>> predict_folder(predictor, "videos", "results", executor=Ray(num_gpus=1), num_proc=0)  # doctest: +SKIP
    """
    check_formats(formats)
    lazy = _as_lazy(predictor, executor, num_proc)
    predictor = lazy.value
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
    job = _Prediction(output, settings, names, lazy, tuple(formats), is_pseudonymized=pseudonyms is not None)
    return _process_videos(Path(folder), job, pseudonyms, skip_unreadable, progress, num_proc, executor)


def deidentify_folder(
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str],
    detector: OutOfBodyDetector | Lazy[OutOfBodyDetector | None] | None,
    pseudonyms: Pseudonyms,
    *,
    covers: Sequence[Cover] = (),
    deinterlace: Deinterlace = "auto",
    damaged: Damaged = "skip",
    skip_unreadable: bool = False,
    progress: bool = False,
    num_proc: int = 1,
    executor: Executor = "local",
) -> BatchReport:
    """Write every video below a folder as it may leave the hospital, and beside each a JSON file of what was done.

    Args:
        folder: folder with videos at any depth, or a video.
        output: folder of the results, for this detector only.
        detector, covers, deinterlace, damaged: the arguments of `deidentify_video`; a detector for other processes is a
            `Lazy` one, which each of them loads.
        pseudonyms: pseudonyms of the videos, which name the results.
        skip_unreadable, progress, num_proc, executor: the arguments of `predict_folder`.

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
    lazy = _as_lazy(detector, executor, num_proc)
    settings = {
        "out_of_body": _detector_settings(lazy.value),
        "covers": [vars(cover) for cover in covers],
        "reading": {"deinterlace": deinterlace, "damaged": damaged},
    }
    job = _Deidentification(output, settings, {}, lazy, tuple(covers), deinterlace, damaged)
    return _process_videos(Path(folder), job, pseudonyms, skip_unreadable, progress, num_proc, executor)


# ------------------------------------------------------------------------------------------- all videos


@dataclass(frozen=True)
class _Job:
    """An operation on each video of a folder, as it is sent to other processes.

    Args:
        output: folder of the results.
        settings, names: the arguments of `files.check_settings`.
    """

    output: Path
    settings: Mapping[str, Any]
    names: Mapping[str, Any]

    def process(self, task: "_Task") -> None:
        """Process one video, and leave the fingerprint of its content in the note."""
        raise NotImplementedError

    def note(self, name: str) -> Path:
        """Return the file that holds the fingerprint of a result's content, by the name of the video."""
        raise NotImplementedError

    def result(self, name: str) -> Path:
        """Return the file of the result, or the folder that holds the note too, by the name of the video."""
        raise NotImplementedError

    def __call__(self, task: "_Task") -> "_Outcome":
        """Process one video; that it cannot be read or written again is a result too."""
        try:
            self.process(task)
        except (VideoReadError, VideoWriteError) as error:
            return _Outcome(task.name, error)
        return _Outcome(task.name)

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
class _Task:
    """A video, its name in the output, and the fingerprint of its content."""

    video: Path
    name: str
    source: str


@dataclass(frozen=True)
class _Outcome:
    """The name of a video that was processed, and the error that prevented it."""

    name: str
    error: SurgVistaError | None = None


@dataclass(frozen=True)
class _Prediction(_Job):
    """The prediction of each video into a folder of its own."""

    predictor: Lazy[SurgicalVideoPredictor]
    formats: tuple[str, ...]
    is_pseudonymized: bool

    def process(self, task: _Task) -> None:
        """Predict one video into its folder."""
        predictor = self.predictor.value
        model_info = {name: model.describe() for name, model in predictor.models.items()}
        with atomic_folder(self.output / task.name, replace=True) as temporary:
            found = predictor.predict_all(task.video, name=f"{task.name}.mp4" if self.is_pseudonymized else None)
            save_predictions(found, temporary, self.formats, video=task.video, model_info=model_info)
            write_json(temporary / _SOURCE, {"source": task.source}, indent=None)

    def note(self, name: str) -> Path:
        """Return the note in the folder of a video."""
        return self.output / name / _SOURCE

    def result(self, name: str) -> Path:
        """Return the folder of a video."""
        return self.output / name


@dataclass(frozen=True)
class _Deidentification(_Job):
    """The de-identification of each video into two files."""

    detector: Lazy[OutOfBodyDetector | None]
    covers: tuple[Cover, ...]
    deinterlace: Deinterlace
    damaged: Damaged

    def process(self, task: _Task) -> None:
        """De-identify one video into two files."""
        done = deidentify_video(
            task.video,
            self.result(task.name),
            self.detector.value,
            covers=self.covers,
            deinterlace=self.deinterlace,
            damaged=self.damaged,
        )
        for remark in done.remarks:
            logger.warning("%s: %s", task.name, remark)
        content = {**asdict(done), "source": task.source}
        write_json(self.note(task.name), content)  # written last: it marks the video as finished

    def note(self, name: str) -> Path:
        """Return the record of what was done to a video."""
        return self.output / f"{name}.json"

    def result(self, name: str) -> Path:
        """Return the copy of a video."""
        return self.output / f"{name}.mp4"


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
    folder: Path,
    job: _Job,
    pseudonyms: Pseudonyms | None,
    skip_unreadable: bool,
    progress: bool,
    num_proc: int,
    executor: Executor,
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
        report.earlier.extend(item.name for item in mine if job.source_of(item.name) == item.source)
        earlier = frozenset(report.earlier)
        tasks = [_Task(item.video, item.name, item.source) for item in mine if item.name not in earlier]
        outcomes = run_over(job, tasks, _crashed, num_proc=num_proc, executor=executor, name=lambda task: task.name)
        shown = progress and state.is_local_main_process
        paths = {task.name: str(task.video) for task in tasks}
        with progress_bar("videos", total=len(mine), initial=len(earlier), unit="videos", shown=shown) as bar:
            for outcome in outcomes:
                if outcome.error is None:
                    report.done.append(outcome.name)
                elif skip_unreadable:
                    reason = str(outcome.error)
                    report.unreadable[outcome.name] = (
                        reason if pseudonyms is None else reason.replace(paths[outcome.name], outcome.name)
                    )
                    write_json(job.output / f"unreadable_{state.process_index}.json", report.unreadable)
                else:
                    raise outcome.error
                bar.update()
        state.wait_for_everyone()
    # The order of the videos, whatever the order in which they were finished.
    order = {item.name: number for number, item in enumerate(items)}
    unreadable = {name: report.unreadable[name] for name in sorted(report.unreadable, key=order.__getitem__)}
    return BatchReport(sorted(report.done, key=order.__getitem__), report.earlier, unreadable)


def _crashed(task: _Task, reason: str) -> _Outcome:
    return _Outcome(task.name, VideoReadError(f"{task.video}: {reason}"))


def _as_lazy(value: Value | Lazy[Value], executor: Executor, num_proc: int) -> Lazy[Value]:
    """Return a model that each process loads for itself.

    Raises:
        InputError: other processes are to use a model that is loaded already.
    """
    check_executor(executor, num_proc)
    if isinstance(value, Lazy):
        return value
    if value is not None and is_parallel(executor, num_proc):
        raise InputError(
            f"other processes cannot use a loaded {type(value).__name__}; give a Lazy one, which each of them loads"
        )
    return Lazy.of(value)


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
