"""The work of the stages on one video, with the models and rules that it needs.

Decisions are stored as numbers (seconds, boxes); images are changed once, at the export.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...modeling.errors_surgvista import VideoReadError
from ...util.batches import batched
from ...util.errors import InputError
from ...util.messages import first_line
from ..collection.manifest import Collection, JsonObject, Video
from ..collection.overrides import Override, corrected
from ..collection.results import NO_SECONDS, UNREADABLE, Result, Stage, read_result, write_result
from .border import content_box
from .seconds import HASHES_PER_SECOND, frames_by_second, storyboard, trim, video_hashes

if TYPE_CHECKING:  # torch takes seconds to import, in every process; half of the stages need no models
    from ..models.classifiers import FrameClassifier, Precision, RegionDetector

Moment = tuple[int, np.ndarray]  # a whole second of a video, and the frame that is shown then


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
        dtype: number format of the models: `"float32"`, `"bfloat16"`, or `"auto"`: bfloat16 for classifiers on a CPU that has
            it in hardware, else float32. With `"auto"` what classifiers found in the other format is not made again.

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
    dtype: "Precision" = "auto"

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
    content = {"probability": round(float(probabilities[wanted]), 4), **_format(classifier)}
    return replace(task.result, kept=kept, cause="" if kept else "uninformative", content=content)


def classify_frames(task: Task) -> Result:
    """Classify one frame a second as surgical or not."""
    search = SurgicalSearch(task)
    for batch in batched(frames_by_second(task.path), task.options.batch_size):
        search.add([frame for _, frame in batch])
    return search.result()


class SurgicalSearch:
    """Collects which seconds of a video are surgical.

    Args:
        task: the work of the stage.

    Attributes:
        flags: a digit for each second so far, 1 where it is surgical.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._classifier, self._wanted = _classifier("classify-frames", task.options)
        self._probabilities: list[float] = []
        self.flags = ""

    def add(self, frames: Sequence[np.ndarray]) -> None:
        """Classify the frames of the next seconds, a batch."""
        found = self._classifier(frames)  # (frames, classes)
        self.flags += "".join("01"[int(row.argmax()) == self._wanted] for row in found)
        self._probabilities += [round(float(row[self._wanted]), 3) for row in found]

    def result(self) -> Result:
        """Return the result of the stage, after all seconds."""
        content = {"surgical": self.flags, "probability": self._probabilities, **_format(self._classifier)}
        return replace(self._task.result, content=content)


def trim_video(task: Task) -> Result:
    """Find first and last second of the operation; decisions of a human take precedence."""
    flags = corrected(as_flags(task.before("classify-frames")["surgical"]), task.decided)
    keep = kept_part(task.decided)
    part = trim(flags, task.options.run)
    if keep is not None and (part is None or keep.start is not None or keep.end is not None):
        chosen = range(len(flags))[keep.during(len(flags))]
        part = (chosen[0], chosen[-1]) if chosen else None
    if part is None:
        return replace(task.result, kept=False, cause=NO_SECONDS)
    first, last = part
    content = {
        "first": first,
        "last": last,
        "surgical": "".join("01"[flag] for flag in flags.astype(int)),
        "surgical_seconds": int(flags[first : last + 1].sum()),
    }
    return replace(task.result, content=content)


def kept_part(decided: Sequence[Override]) -> Override | None:
    """Return the decision of a human to keep a video or a part of it; `None` if there is none."""
    return next((each for each in decided if each.decision == "keep"), None)


def hash_video(task: Task) -> Result:
    """Compute the hashes of the operation.

    They are 0 where it is not surgical, as in the intro cards that the videos of a channel share.
    """
    trimmed = task.before("trim")
    first, last = trimmed["first"], trimmed["last"]
    return hash_result(task, video_hashes(task.path, start=float(first), end=float(last + 1)))


def hash_result(task: Task, hashes: np.ndarray) -> Result:
    """Return the result of the stage from the hashes of all moments of the operation, (n,) uint64."""
    trimmed = task.before("trim")
    first, last = trimmed["first"], trimmed["last"]
    hashes = hashes.copy()
    counting = np.repeat(as_flags(trimmed["surgical"])[first : last + 1], HASHES_PER_SECOND)[: len(hashes)]
    hashes[: len(counting)] *= counting
    hashes[len(counting) :] = 0
    return replace(task.result, content={"hashes": base64.b64encode(hashes.astype("<u8").tobytes()).decode()})


def mask_video(task: Task) -> Result:
    """Find boxes in each surgical second of the operation, and the border that all of them share."""
    trimmed = task.before("trim")
    first, last, flags = trimmed["first"], trimmed["last"], as_flags(trimmed["surgical"])
    frames = frames_by_second(task.path, start=float(first), end=last + 0.5)
    wanted = ((round(second), frame) for second, frame in frames if flags[round(second)])
    search = RegionSearch(task)
    for batch in batched(wanted, task.options.batch_size):
        search.add(batch)
    return search.result()


class RegionSearch:
    """Collects the boxes in the surgical seconds of an operation, and their border.

    Args:
        task: the work of the stage.

    Attributes:
        seconds: seconds that were searched so far.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._detector = _detector(task.options)
        self._boxes: dict[str, list[list[int]]] = {}
        self._borders: list[tuple[int, int, int, int]] = []
        self.seconds: list[int] = []

    def add(self, batch: Sequence[Moment]) -> None:
        """Search the next surgical seconds, a batch."""
        decided = self._task.decided
        for (second, frame), found in zip(batch, self._detector([frame for _, frame in batch]), strict=True):
            self.seconds.append(second)
            self._borders.append(content_box(frame))
            whole = _whole_boxes(found, frame.shape) + _decided_boxes(decided, second)
            if _is_unmasked(decided, second):
                whole = _decided_boxes(decided, second)
            if whole:
                self._boxes[str(second)] = whole

    def result(self) -> Result:
        """Return the result of the stage, after all seconds."""
        border = np.median(np.array(self._borders), axis=0).astype(int).tolist() if self._borders else None
        content = {"boxes": self._boxes, "border": border, **_format(self._detector)}
        return replace(self._task.result, content=content)


def _format(models: "FrameClassifier | RegionDetector") -> JsonObject:
    """Return the number format for the record, if it is not the one that results had before there was a choice."""
    return {} if models.dtype == "float32" else {"dtype": models.dtype}


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


# --------------------------------------------------------------------------------------------- models


@cache
def _load_classifier(
    models: tuple[str, ...], device: str | None, batch_size: int, dtype: "Precision"
) -> "FrameClassifier":
    from ..models.classifiers import FrameClassifier

    return FrameClassifier.from_pretrained(models, device=device, batch_size=batch_size, dtype=dtype)


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
    classifier = _load_classifier(models, options.device, options.batch_size, options.dtype)
    if wanted not in classifier.names:
        flag = "--informative" if is_video else "--surgical"
        raise InputError(
            f"the {kind} models know no class {wanted!r} but {', '.join(classifier.names)}; name it: {flag}"
        )
    return classifier, classifier.names.index(wanted)


@cache
def _load_detector(
    models: tuple[str, ...], device: str | None, batch_size: int, threshold: float, overlap: float, dtype: "Precision"
) -> "RegionDetector":
    from ..models.classifiers import RegionDetector

    return RegionDetector.from_pretrained(
        models, device=device, batch_size=batch_size, threshold=threshold, overlap=overlap, dtype=dtype
    )


def _detector(options: CurationOptions) -> "RegionDetector":
    if not options.region_models:
        raise InputError("mask needs a detector: --region-model FOLDER, once for each member of the ensemble")
    return _load_detector(
        options.region_models, options.device, options.batch_size, options.threshold, options.overlap, options.dtype
    )


def with_precision(stage: Stage, options: CurationOptions) -> CurationOptions:
    """Return options that say in which precision the models of a stage run: the same on every machine of a cluster."""
    if options.dtype != "auto" or not stage.models:
        return options
    from ..models.classifiers import resolve_precision

    # Boxes move by up to 12 pixels in bfloat16, so that has to be asked for; decisions of classifiers stay the same.
    is_classifier = stage.models == "classifier"
    return replace(options, dtype=resolve_precision("auto", options.device) if is_classifier else "float32")


def stage_settings(stage: Stage, options: CurationOptions) -> tuple[JsonObject, str]:
    """Return the options that a stage depends on, and the fingerprint of its models.

    Raises:
        InputError: if models are missing or do not fit.
    """
    if stage.models == "classifier":
        classifier, wanted = _classifier(stage.name, options)
        return {"class": classifier.names[wanted], **_format(classifier)}, classifier.fingerprint
    if stage.models == "detector":
        detector = _detector(options)
        settings = {"threshold": options.threshold, "overlap": options.overlap, **_format(detector)}
        return settings, detector.fingerprint
    names = {"trim": ("run",), "hash": (), "deduplicate": ("max_distance", "repeat_run", "repeat_fraction")}[
        stage.name
    ]
    return {name: getattr(options, name) for name in names}, ""
