"""The pipeline of stages. Each runs on the videos that the stages before it have kept; finished work is not done again.

It is the published pipeline (Surg-3M/LEMON, arXiv 2503.19740) with its order, but decisions are stored as numbers (seconds,
boxes), and images are changed once, at the export.
"""

import base64
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...modeling.errors_surgvista import VideoReadError
from ...util.batches import batched
from ...util.console import progress_bar
from ...util.errors import InputError
from ...util.executors import Executor, check_executor, run_over
from ...util.files import content_hash
from ...util.messages import did_you_mean, first_line
from ..collection.manifest import Collection, CurationError, JsonObject, Video
from ..collection.overrides import Override, corrected
from ..collection.reports import StageReport
from ..collection.results import (
    BY_NAME,
    STAGES,
    UNREADABLE,
    Result,
    Stage,
    State,
    read_result,
    summarize,
    write_result,
)
from .border import content_box
from .duplicates import find_repeats
from .seconds import HASHES_PER_SECOND, frames_by_second, storyboard, trim, video_hashes

logger = logging.getLogger(__name__)

if TYPE_CHECKING:  # torch takes seconds to import, in every process; half of the stages need no models
    from ..models.classifiers import FrameClassifier, RegionDetector


@dataclass(frozen=True)
class CurationOptions:
    """Models and rules of all stages.

    Args:
        video_models: image classifiers of storyboards, folders or Hub ids.
        frame_models: image classifiers of frames.
        region_models: detectors of regions without tissue.
        informative: class of storyboards that is kept.
        surgical: class of frames that is kept.
        run: number of surgical seconds in a row that begin the operation, and end it.
        threshold: lowest confidence of a box.
        overlap: largest intersection over union of two boxes; where it is larger, the one with the higher confidence is kept.
        max_distance: mean number of bits by which the hashes of repeated images may differ.
        repeat_run: number of seconds in a row that must be repeated to count.
        repeat_fraction: smallest fraction of its surgical seconds that a video must share with another one to be dropped.
        batch_size: number of frames at once.
        device: device of the models; the first accelerator by default, or else the CPU.

    Raises:
        InputError: if a number is out of range.
    """

    video_models: tuple[str, ...] = ()
    frame_models: tuple[str, ...] = ()
    region_models: tuple[str, ...] = ()
    informative: str = "informative"
    surgical: str = "surgical"
    run: int = 3
    threshold: float = 0.25
    overlap: float = 0.7
    max_distance: float = 4.0
    repeat_run: int = 8
    repeat_fraction: float = 0.5
    batch_size: int = 16
    device: str | None = None

    def __post_init__(self) -> None:
        fractions = (self.threshold, self.overlap, self.repeat_fraction)
        if min(self.run, self.repeat_run, self.batch_size) < 1 or not all(
            0 <= fraction <= 1 for fraction in fractions
        ):
            raise InputError(f"runs and batches must be at least 1, fractions must lie in 0-1: {self}")
        if not 0 <= self.max_distance <= 64:
            raise InputError(f"hashes have 64 bits; a distance of {self.max_distance} makes no sense")


@dataclass(frozen=True)
class Task:
    """The work of one stage on one video, which is sent to other processes.

    Args:
        collection: folder of the collection.
        stage: name of the stage.
        video: record of the video.
        result: the result before the work, with its key and the keys of the results that it is made from.
        decided: overrides that concern the stage.
        options: models and rules of all stages.
    """

    collection: Path
    stage: str
    video: Video
    result: Result
    decided: tuple[Override, ...]
    options: CurationOptions

    @property
    def path(self) -> Path:
        """Return the path of the video's file."""
        return Collection(self.collection).video_file(self.video)

    def before(self, stage: str) -> JsonObject:
        """Return the values that an earlier stage found."""
        result = read_result(Collection(self.collection), stage, self.video.video_id)
        assert result is not None  # the stage was not begun otherwise
        return result.content


# --------------------------------------------------------------------------------------------- one video


def classify_video(task: Task) -> Result:
    """Classify the storyboard of a video."""
    classifier, wanted = _classifier("classify-videos", task.options)
    probabilities = classifier([storyboard(task.path)])[0]
    kept = int(probabilities.argmax()) == wanted
    content = {"probability": round(float(probabilities[wanted]), 4)}
    return replace(task.result, kept=kept, cause="" if kept else "uninformative", content=content)


def classify_frames(task: Task) -> Result:
    """Classify one frame a second as surgical or not."""
    classifier, wanted = _classifier("classify-frames", task.options)
    flags, probabilities = "", []
    for batch in batched(frames_by_second(task.path), task.options.batch_size):
        found = classifier([frame for _, frame in batch])
        flags += "".join("01"[int(row.argmax()) == wanted] for row in found)
        probabilities += [round(float(row[wanted]), 3) for row in found]
    return replace(task.result, content={"surgical": flags, "probability": probabilities})


def trim_video(task: Task) -> Result:
    """Find first and last second of the operation; decisions of a human take precedence."""
    flags = corrected(as_flags(task.before("classify-frames")["surgical"]), task.decided)
    keep = next((each for each in task.decided if each.decision == "keep"), None)
    part = trim(flags, task.options.run)
    if keep is not None and (part is None or keep.start is not None or keep.end is not None):
        chosen = range(len(flags))[keep.during(len(flags))]
        part = (chosen[0], chosen[-1]) if chosen else None
    if part is None:
        return replace(task.result, kept=False, cause="no surgical content")
    first, last = part
    content = {
        "first": first,
        "last": last,
        "surgical": "".join("01"[flag] for flag in flags.astype(int)),
        "surgical_seconds": int(flags[first : last + 1].sum()),
    }
    return replace(task.result, content=content)


def hash_video(task: Task) -> Result:
    """Compute the hashes of the operation.

    They are 0 where it is not surgical, as in the intro cards that the videos of a channel share.
    """
    trimmed = task.before("trim")
    first, last = trimmed["first"], trimmed["last"]
    hashes = video_hashes(task.path, start=float(first), end=float(last + 1))
    counting = np.repeat(as_flags(trimmed["surgical"])[first : last + 1], HASHES_PER_SECOND)[: len(hashes)]
    hashes[: len(counting)] *= counting
    hashes[len(counting) :] = 0
    return replace(task.result, content={"hashes": base64.b64encode(hashes.astype("<u8").tobytes()).decode()})


def mask_video(task: Task) -> Result:
    """Find boxes in each surgical second of the operation, and the border that all of them share."""
    detector = _detector(task.options)
    trimmed = task.before("trim")
    first, last, flags = trimmed["first"], trimmed["last"], as_flags(trimmed["surgical"])
    boxes: dict[str, list[list[int]]] = {}
    borders = []
    frames = frames_by_second(task.path, start=float(first), end=last + 0.5)
    wanted = ((round(second), frame) for second, frame in frames if flags[round(second)])
    for batch in batched(wanted, task.options.batch_size):
        for (second, frame), found in zip(batch, detector([frame for _, frame in batch]), strict=True):
            borders.append(content_box(frame))
            whole = _whole_boxes(found, frame.shape) + _decided_boxes(task.decided, second)
            if _is_unmasked(task.decided, second):
                whole = _decided_boxes(task.decided, second)
            if whole:
                boxes[str(second)] = whole
    border = np.median(np.array(borders), axis=0).astype(int).tolist() if borders else None
    return replace(task.result, content={"boxes": boxes, "border": border})


def _whole_boxes(found: np.ndarray, shape: Sequence[int]) -> list[list[int]]:
    """Return boxes in whole pixels, as published: fractions and parts outside the frame are cut off."""
    limits = np.array([shape[1], shape[0], shape[1], shape[0]])
    whole = np.clip(found, 0, limits).astype(int)
    return [box for box in whole.tolist() if box[0] < box[2] and box[1] < box[3]]


def _decided_boxes(decided: Sequence[Override], second: int) -> list[list[int]]:
    return [list(each.box) for each in decided if each.box and each.first <= second < each.stop]


def _is_unmasked(decided: Sequence[Override], second: int) -> bool:
    return any(each.decision == "unmask" and each.first <= second < each.stop for each in decided)


def as_flags(text: str) -> np.ndarray:
    """Return a text of 0 and 1 as (n,) bool."""
    return np.frombuffer(text.encode(), np.uint8) == ord("1")


def as_hashes(text: str) -> np.ndarray:
    """Return the hashes, (n,) uint64, that were stored as bytes in base 64."""
    return np.frombuffer(base64.b64decode(text), "<u8").astype(np.uint64)


WORK: Mapping[str, Callable[[Task], Result]] = {
    "classify-videos": classify_video,
    "classify-frames": classify_frames,
    "trim": trim_video,
    "hash": hash_video,
    "mask": mask_video,
}


def run_task(task: Task) -> tuple[Video, str]:
    """Do the work of a stage on a video and write the result; that it cannot be read is a result too.

    Returns:
        The video, and the reason why there is no result; empty if there is one.
    """
    try:
        result = WORK[task.stage](task)
    except VideoReadError as error:
        reason = " ".join(first_line(error).split()).replace(str(task.path), "the file")
        result = replace(task.result, kept=False, cause=UNREADABLE, detail=reason)
    write_result(Collection(task.collection), task.stage, task.video.video_id, result)
    return task.video, ""


def _task_name(task: Task) -> str:
    return f"{task.stage} {task.video.video_id}"


def _crashed(task: Task, reason: str) -> tuple[Video, str]:
    return task.video, reason


# --------------------------------------------------------------------------------------------- models


@cache
def _load_classifier(models: tuple[str, ...], device: str | None, batch_size: int) -> "FrameClassifier":
    from ..models.classifiers import FrameClassifier

    return FrameClassifier.from_pretrained(models, device=device, batch_size=batch_size)


def _classifier(stage: str, options: CurationOptions) -> "tuple[FrameClassifier, int]":
    """Return the classifier of a stage, and the number of the class that is kept.

    Raises:
        InputError: if there are no models, or they do not have this class.
    """
    is_video = stage == "classify-videos"
    models, wanted, kind = (
        (options.video_models, options.informative, "video")
        if is_video
        else (options.frame_models, options.surgical, "frame")
    )
    if not models:
        raise InputError(f"{stage} needs a classifier: --{kind}-model FOLDER, once for each member of the ensemble")
    classifier = _load_classifier(models, options.device, options.batch_size)
    if wanted not in classifier.names:
        flag = "--informative" if is_video else "--surgical"
        raise InputError(
            f"the {kind} models know no class {wanted!r} but {', '.join(classifier.names)}; name it: {flag}"
        )
    return classifier, classifier.names.index(wanted)


@cache
def _load_detector(
    models: tuple[str, ...], device: str | None, batch_size: int, threshold: float, overlap: float
) -> "RegionDetector":
    from ..models.classifiers import RegionDetector

    return RegionDetector.from_pretrained(
        models, device=device, batch_size=batch_size, threshold=threshold, overlap=overlap
    )


def _detector(options: CurationOptions) -> "RegionDetector":
    if not options.region_models:
        raise InputError("mask needs a detector: --region-model FOLDER, once for each member of the ensemble")
    return _load_detector(
        options.region_models, options.device, options.batch_size, options.threshold, options.overlap
    )


def _settings(stage: Stage, options: CurationOptions) -> tuple[JsonObject, str]:
    """Return the options that a stage depends on, and the fingerprint of its models."""
    if stage.models == "classifier":
        classifier, wanted = _classifier(stage.name, options)
        return {"class": classifier.names[wanted]}, classifier.fingerprint
    if stage.models == "detector":
        return {"threshold": options.threshold, "overlap": options.overlap}, _detector(options).fingerprint
    names = {"trim": ("run",), "hash": (), "deduplicate": ("max_distance", "repeat_run", "repeat_fraction")}[
        stage.name
    ]
    return {name: getattr(options, name) for name in names}, ""


# --------------------------------------------------------------------------------------------- all videos


@dataclass
class _Waiting:
    """Videos that reach a stage, with their results before the work."""

    videos: list[Video] = field(default_factory=list)
    results: dict[str, Result] = field(default_factory=dict)


def run_stage(
    folder: Path | str,
    name: str,
    options: CurationOptions | None = None,
    *,
    num_proc: int = 1,
    executor: Executor = "local",
    progress: bool = False,
) -> StageReport:
    """Run one stage on every video that the stages before it have kept.

    Args:
        folder: folder of the collection.
        name: name of the stage, one of `STAGES`.
        options: models and rules.
        num_proc: number of videos at a time; with two or more a file that crashes the decoder costs only its own process.
        executor: an argument of `run_over`.
        progress: show a bar.

    Returns:
        Counts of the stage.

    Raises:
        CurationError: if there is no such stage or collection, or an earlier stage has not run.
        InputError: if models are missing or do not fit.

    Example:
        >>> run_stage("corpus", "classify-frames", CurationOptions(frame_models=("frames-a",)))  # doctest: +SKIP
    """
    if name not in BY_NAME:
        raise CurationError(f"there is no stage {name!r}; {did_you_mean(name, BY_NAME, f'there are {list(BY_NAME)}')}")
    stage, options, collection = BY_NAME[name], options or CurationOptions(), Collection(folder)
    check_executor(executor, num_proc)
    with collection.locked():
        state = State(collection)
        _check_files(collection, state.videos)
        missing = [each for each in stage.needs if BY_NAME[each] not in state.stages]
        if missing:
            raise CurationError(f"{name} needs the results of {missing[0]}; run `surgvista curate {missing[0]}` first")
        settings, model = _settings(stage, options)
        waiting = _reaching(state, stage, {**settings, "version": stage.version}, model)
        if name == "deduplicate":
            _deduplicate(state, waiting, options, progress)
        else:
            _run_each(state, stage, waiting, options, num_proc, executor, progress)
        reports = summarize(collection)
    return next((report for report in reports if report.stage == name), StageReport(name))


def _check_files(collection: Collection, videos: Sequence[Video]) -> None:
    """Refuse files that were changed after they were collected: results would describe other videos."""
    for video in videos:
        file = collection.video_file(video)
        if video.status == "collected" and file.is_file() and not collection.holds(video):
            raise CurationError(
                f"{file} has {file.stat().st_size} bytes; when it was collected it had {video.bytes} (sha256 "
                f"{video.sha256[:16]}). Collect it again, or put the collected file back"
            )


def run_pipeline(
    folder: Path | str,
    options: CurationOptions,
    *,
    num_proc: int = 1,
    executor: Executor = "local",
    progress: bool = False,
) -> list[StageReport]:
    """Run all stages; the optional classification of storyboards only if there are models for it.

    Args:
        folder: folder of the collection.
        options: models and rules.
        num_proc: number of videos at a time.
        executor: an argument of `run_over`.
        progress: show bars.

    Returns:
        Counts of all stages.

    Raises:
        CurationError: if there is no such collection.
        InputError: if models are missing or do not fit.
    """
    check_executor(executor, num_proc)
    Collection(folder).check()
    chosen = [stage for stage in STAGES if stage.name != "classify-videos" or options.video_models]
    for stage in chosen:
        _settings(stage, options)  # so that nothing is begun that cannot be finished
    for stage in chosen:
        run_stage(folder, stage.name, options, num_proc=num_proc, executor=executor, progress=progress)
    return State(Collection(folder)).reports()


def _reaching(state: State, stage: Stage, settings: JsonObject, model: str) -> _Waiting:
    waiting = _Waiting()
    for video in state.videos:
        if video.status != "collected":
            continue
        steps = list(state.steps(video, before=stage.name))
        if steps and steps[-1].outcome != "kept":
            continue
        found = {step.stage: step.result.key for step in steps if step.result}
        after = {name: found[name] for name in stage.needs}
        overrides_hash = state.overrides_hash(stage, video.video_id)
        key = content_hash([stage.name, dict(settings), model, video.sha256, after, overrides_hash])
        waiting.videos.append(video)
        waiting.results[video.video_id] = Result(key, video.sha256, after, overrides_hash, model)
    return waiting


def _run_each(
    state: State,
    stage: Stage,
    waiting: _Waiting,
    options: CurationOptions,
    num_proc: int,
    executor: Executor,
    progress: bool,
) -> None:
    collection = state.collection
    tasks = []
    for video in waiting.videos:
        new, old = waiting.results[video.video_id], read_result(collection, stage.name, video.video_id)
        if old is None or old.key != new.key:
            decided = tuple(
                each for each in state.overrides.about(video.video_id) if each.decision in stage.overridden_by
            )
            tasks.append(Task(collection.folder, stage.name, video, new, decided, options))
    hours = sum(video.seconds for video in waiting.videos) / 3600
    before = hours - sum(task.video.seconds for task in tasks) / 3600
    with progress_bar(stage.name, total=max(hours, 1e-9), unit="h of video", initial=before, shown=progress) as bar:
        if stage.name == "trim":  # no work for a process
            num_proc, executor = 1, "local"
        for video, problem in run_over(
            run_task, tasks, _crashed, num_proc=num_proc, executor=executor, name=_task_name
        ):
            bar.update(video.seconds / 3600)
            if problem:
                logger.warning("%s: %s", video.video_id, problem)


def _deduplicate(state: State, waiting: _Waiting, options: CurationOptions, progress: bool) -> None:
    """Compare all videos with each other and write their results."""
    hashes, seconds, rank = {}, {}, {}
    for video in waiting.videos:
        found, trimmed = (read_result(state.collection, name, video.video_id) for name in ("hash", "trim"))
        assert found is not None  # the stage was not begun otherwise
        assert trimmed is not None
        hashes[video.video_id] = as_hashes(found.content["hashes"])
        seconds[video.video_id] = trimmed.content["surgical_seconds"]
        is_kept = state.overrides.says(video.video_id, "keep")
        # Of videos that repeat each other, the one with most surgical seconds, then with most pixels, is kept.
        rank[video.video_id] = (not is_kept, -seconds[video.video_id], -video.width * video.height, video.video_id)
    repeats = find_repeats(
        hashes,
        seconds,
        sorted(rank, key=lambda name: rank[name]),
        never=frozenset(name for name in rank if state.overrides.says(name, "keep")),
        max_distance=options.max_distance,
        run=options.repeat_run,
        fraction=options.repeat_fraction,
        progress=progress,
    )
    # A result depends on every video, so each key covers the keys of all.
    all_keys = content_hash(sorted((name, result.key) for name, result in waiting.results.items()))
    for name, result in waiting.results.items():
        keeper, shared = repeats.get(name, ("", 0))
        done = replace(
            result,
            key=content_hash([result.key, all_keys]),
            kept=not keeper,
            cause="repeats another video" if keeper else "",
            detail=keeper,
            content={"shared_seconds": shared} if keeper else {},
        )
        if read_result(state.collection, "deduplicate", name) != done:
            write_result(state.collection, "deduplicate", name, done)
