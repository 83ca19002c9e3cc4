"""The detector of frames outside the body, which must not be shown.

Any classifier that this package trains and that has a class for the outside is a detector; `surgvista finetune out_of_body`
trains a small one. No detector is perfect, and one trained on rendered images has never seen a real operating room.
"""

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ...modeling.video_reading_surgvista import VideoReader
from ...util.batches import batched
from ...util.console import track
from ...util.errors import InputError
from ..prediction.redaction import TIME_TOLERANCE, OutOfBodyMask
from .clip_model import ClipModel

OUTSIDE = ("outside", "out_of_body", "out of body", "non_surgical", "non-surgical")
_BATCH_SIZE = 32


class OutOfBodyDetector:
    """A classifier of frames inside and outside the patient.

    Every frame is classified by itself, since a history of frames would delay the answer. A model of clips gets the same
    frame several times.

    Args:
        model: a classifier with a class for the outside, one of `OUTSIDE`.
        threshold, margin: the arguments of `OutOfBodyMask`.
        frames_per_second: number of frames of a video to classify in a second; `None`: every frame. A camera that is outside
            for no longer than the time between two classified frames may be missed.

    Raises:
        InputError: no class of the model means the outside, or a setting out of range.

    Example:
        >>> detector = OutOfBodyDetector.load("runs/out_of_body/model")  # doctest: +SKIP
        >>> detector.predict_proba(frames)  # doctest: +SKIP
        array([0.98, 0.03], dtype=float32)
    """

    def __init__(
        self,
        model: ClipModel,
        *,
        threshold: float = 0.5,
        margin: float = 1.0,
        frames_per_second: float | None = None,
    ) -> None:
        if frames_per_second is not None and not frames_per_second > 0:
            raise InputError(f"{frames_per_second} frames a second cannot be classified; give a positive number")
        self.model, self.threshold, self.margin = model, threshold, margin
        self.frames_per_second = frames_per_second
        self.classes = [number for number, name in enumerate(model.class_names) if name.lower() in OUTSIDE]
        if not self.classes:
            raise InputError(
                f"no class of {model.source} means that the camera is outside: it knows {', '.join(model.class_names)}; a "
                f"detector has one of {', '.join(OUTSIDE)}"
            )
        self.mask(np.zeros(1), np.zeros(1))  # refuses a wrong threshold or margin before a video is read

    @classmethod
    def load(
        cls,
        name: str | os.PathLike[str],
        *,
        threshold: float = 0.5,
        margin: float = 1.0,
        frames_per_second: float | None = None,
        device: str | torch.device | None = None,
    ) -> "OutOfBodyDetector":
        """Load a detector from a folder or the Hub; the other arguments are those of the class.

        Raises:
            InputError: no classifier can be loaded, or it is no detector.
        """
        # What must not be shown is the same on every machine.
        model = ClipModel.load(name, device=device, dtype="float32")
        return cls(model, threshold=threshold, margin=margin, frames_per_second=frames_per_second)

    def describe(self) -> dict[str, Any]:
        """Return the settings that the predictions depend on, as JSON can hold them."""
        return {
            "model": self.model.source,
            "threshold": self.threshold,
            "margin": self.margin,
            "frames_per_second": self.frames_per_second,
        }

    def predict_proba(self, images: np.ndarray) -> np.ndarray:
        """Return the probabilities (frames,) that images (frames, height, width, 3), uint8, are from outside the patient."""
        frames = self.model.prepare(images)
        clips = frames[:, None].expand(-1, self.model.num_frames, -1, -1, -1)  # (B, frames of a clip, C, H, W)
        probabilities = self.model.run(clips)[0][:, self.classes]
        return np.asarray(probabilities.max(axis=1) if self.model.multi_label else probabilities.sum(axis=1))

    def mask(self, seconds: np.ndarray, outside: np.ndarray, step: float | None = None) -> OutOfBodyMask:
        """Return the mask that follows from probabilities; the arguments are those of `OutOfBodyMask`."""
        return OutOfBodyMask(seconds, outside, self.threshold, self.margin, step)

    def scan(self, frames: Iterable[tuple[float, np.ndarray]]) -> OutOfBodyMask:
        """Classify frames in order: all of them, or `frames_per_second`; the first and the last in any case.

        Args:
            frames: times in seconds and images (height, width, 3), uint8, as `VideoReader.iterate` gives them.

        Returns:
            The times that must not be shown.

        Raises:
            InputError: there are no frames.
        """
        rate = self.frames_per_second
        seconds: list[float] = []
        outside: list[np.ndarray] = []
        for chunk in batched(frames if rate is None else _thin(frames, 1 / rate), _BATCH_SIZE):
            seconds += [second for second, _ in chunk]
            outside.append(self.predict_proba(np.stack([image for _, image in chunk])))
        if not seconds:
            raise InputError("there are no frames to classify")
        return self.mask(np.asarray(seconds), np.concatenate(outside), None if rate is None else 1 / rate)


def scan_video(
    detector: OutOfBodyDetector,
    reader: VideoReader,
    *,
    start: float = 0.0,
    stop: float | None = None,
    progress: bool = False,
) -> OutOfBodyMask:
    """Scan a video with a detector, the last frame included.

    Args:
        detector: the detector, with the number of frames a second that it classifies.
        reader: the open video.
        start, stop: first and last second, for a part of the video.
        progress: show a progress bar.

    Returns:
        The times that must not be shown. Where the detector classified every frame, no time of the video is unseen.

    Raises:
        VideoReadError: the video cannot be decoded.
    """
    count = 0

    def every_frame() -> Iterator[tuple[float, np.ndarray]]:
        """Yield the frames of the video, and count them."""
        nonlocal count
        frames, total = reader.iterate(None, start=start, stop=stop), reader.info.num_frames or None
        for frame in track(frames, "looking for the outside", total=total, unit="frames", shown=progress):
            count += 1
            yield frame

    mask = detector.scan(every_frame())
    return replace(mask, step=math.inf) if len(mask.seconds) == count else mask


def _thin(frames: Iterable[tuple[float, np.ndarray]], step: float) -> Iterator[tuple[float, np.ndarray]]:
    """Yield the first frame, the last, and as few as possible between, so that no two are further apart than `step`.

    Frames of one time are yielded together, since a file may show any of them.
    """
    last = -math.inf  # time of the last frame that was yielded
    waiting: list[tuple[float, np.ndarray]] = []  # the frames of the latest time since then
    for frame in frames:
        if frame[0] == last:
            yield frame
            continue
        if waiting and frame[0] > last + step + TIME_TOLERANCE:
            last = waiting[0][0]
            yield from waiting
            waiting = []
        if frame[0] >= last + step - TIME_TOLERANCE:
            last, waiting = frame[0], []
            yield frame
        else:
            waiting = [*waiting, frame] if waiting and waiting[0][0] == frame[0] else [frame]
    yield from waiting
