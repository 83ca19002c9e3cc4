"""A model's confidence, learned after training: a temperature from the validation, and the appearance of its videos."""

import logging
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import torch
from datasets import Dataset
from transformers import BaseVideoProcessor

from ...clips import ClipIndex
from ...clips.dataset import decode_image
from ...datasets_scripts.schema.info import DatasetInfo
from ...evaluation.metrics.calibration import Calibration, fit_temperature
from ...evaluation.tasks import ClipPredictions, Task
from ...modeling.confidence import Confidence
from ...modeling.errors_surgvista import VideoReadError
from ...modeling.familiarity import WINDOW_SECONDS, Familiarity, VideoAppearance, appearance
from ...modeling.processors import prepare_clips
from ...modeling.protocols import ClipProcessor
from ...util.batches import batched
from ...util.errors import InputError

logger = logging.getLogger(__name__)
_FRAMES = 20_000  # frames in all, which take one core a minute or two
_STRETCH_SECONDS = 2 * WINDOW_SECONDS
_MOST_STRETCHES = 8  # stretches of one video
_BATCH_SIZE = 32  # frames decoded and prepared together


def calibrate(validation: ClipPredictions | None, task: Task, *, selected_on_test: bool = False) -> Calibration | None:
    """Fit the temperature of a model's predictions (Guo et al., ICML 2017).

    Args:
        validation: predictions of the validation at temperature 1; `None`: there is no validation.
        task: task of the model.
        selected_on_test: the validation has videos of the test, which must not influence the temperature.

    Returns:
        The temperature, or `None` with a warning where there is nothing to fit it on.
    """
    if validation is None or selected_on_test:
        reason = "the validation has test videos" if selected_on_test else "there is no validation split"
        logger.warning("confidences are not calibrated: %s", reason)
        return None
    labels = (validation.labels >= 0.5).astype(int) if task.multi_label else validation.labels
    return fit_temperature(labels, validation.scores, multi_label=task.multi_label)


def build_confidence(
    calibration: Calibration | None, split: str | None, info: DatasetInfo, familiarity: Familiarity | None = None
) -> Confidence:
    """Combine calibration, familiarity and the origin of the training data into the record that is saved beside a model."""
    return Confidence(
        calibration.temperature if calibration else 1.0,
        None if calibration is None else {"split": split, **calibration.to_dict()},
        {"title": info.title, "procedure": info.procedure, "license": info.license, "rendered": info.rendered},
        familiarity,
    )


def learn_familiarity(
    training: Dataset, validation: Dataset | None, processor: ClipProcessor | BaseVideoProcessor
) -> Familiarity | None:
    """Summarize the appearance of the training videos; the summary depends on the frame sets and the processor only.

    Args:
        training: frame set of the training.
        validation: frame set of further videos, which the limit of familiarity is fitted on too.
        processor: processor of the model.

    Returns:
        The summary, or `None` with a warning where none can be made.
    """
    try:
        held_out = [] if validation is None else list(describe_videos(validation, processor))
        return Familiarity.fit(list(describe_videos(training, processor)), held_out)
    except InputError as error:
        logger.warning("whether a new video is like the training videos will be unknown: %s", error)
        return None


def describe_videos(frames: Dataset, processor: ClipProcessor | BaseVideoProcessor) -> Iterator[VideoAppearance]:
    """Describe the appearance of stretches of every video, one frame a second; of large sets fewer seconds and videos.

    Args:
        frames: frame set.
        processor: processor of the model that new videos will be given to.

    Yields:
        The appearance of one video at a time; frames that cannot be decoded are left out.
    """
    index = ClipIndex.from_frame_set(frames)
    stretches = max(_FRAMES // int(_STRETCH_SECONDS * len(index.starts)), 1)
    most = max(int(_FRAMES // _STRETCH_SECONDS), 1)
    chosen = np.unique(np.linspace(0, len(index.starts) - 1, min(most, len(index.starts))).astype(int))
    seconds = frames.with_format("arrow", columns=["timestamp"])
    images = frames.with_format("arrow", columns=["image"])
    for video in chosen:
        start, length = int(index.starts[video]), int(index.lengths[video])
        times = seconds[start : start + length]["timestamp"].to_numpy().astype(np.float64)
        rows = _chosen_frames(times, min(stretches, _MOST_STRETCHES))
        readable: list[int] = []
        values: list[np.ndarray] = []
        for part in batched(rows.tolist(), _BATCH_SIZE):
            decoded = {}
            for row, cell in zip(part, images[[start + row for row in part]]["image"].to_pylist(), strict=True):
                with suppress(VideoReadError):
                    decoded[row] = decode_image(cell, f"frame {row} of video {index.video_ids[video]}")
            if decoded:
                clip = torch.stack(list(decoded.values())).permute(0, 3, 1, 2)  # (frames, 3, height, width)
                values.append(appearance(prepare_clips(processor, clip)[0]))  # (frames, numbers)
                readable += decoded
        if readable:
            yield VideoAppearance(times[readable], np.concatenate(values))


def _chosen_frames(seconds: np.ndarray, stretches: int) -> np.ndarray:
    """Return the rows of the frames of a video that are described: the first of each second, in evenly spread stretches.

    Args:
        seconds: (frames,) times of the frames.
        stretches: number of stretches.
    """
    whole = np.flatnonzero(np.r_[True, np.diff(np.floor(seconds + 1e-3)) > 0])
    length = int(_STRETCH_SECONDS)
    if len(whole) <= stretches * length:
        return whole
    starts = np.linspace(0, len(whole) - length, stretches).astype(int)
    return whole[np.unique(np.concatenate([np.arange(start, start + length) for start in starts]))]
