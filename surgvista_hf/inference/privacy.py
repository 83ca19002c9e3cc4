"""Seconds that must not be shown: before and after the operation, and whenever it is cleaned, the camera films people.

Any classifier that this package trains and that has a class for the outside is a detector; `surgvista finetune out_of_body`
trains a small one. No detector is perfect, and one trained on rendered pictures has never seen a real room.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..modeling.errors_surgvista import InputError
from ..util.batches import batched
from .clip_model import ClipModel

OUTSIDE = ("outside", "out_of_body", "out of body", "non_surgical", "non-surgical")
_COLUMNS = 8  # of the mosaic that is left of a hidden picture
_AT_ONCE = 32


@dataclass(frozen=True, eq=False)
class HiddenSeconds:
    """Which times of a video must not be shown.

    Args:
        seconds: (steps,), ascending times that were looked at.
        outside: (steps,), the probability that the camera is outside the patient.
        threshold: probability from which a time is hidden.
        margin: seconds before and after it that are hidden too.

    Example:
        >>> hidden = HiddenSeconds(np.arange(5.0), np.array([0.9, 0.1, 0.1, 0.0, 0.2]), margin=0.0)
        >>> hidden.spans
        [(0.0, 1.0)]
        >>> hidden.hides(0.7), hidden.hides(1.0), hidden.hides(99.0)  # nobody looked at second 99
        (True, False, True)
    """

    seconds: np.ndarray
    outside: np.ndarray
    threshold: float = 0.5
    margin: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1 or self.margin < 0:
            raise InputError(f"threshold {self.threshold} must lie in 0 … 1, and margin {self.margin} not be negative")

    @cached_property
    def _step(self) -> float:
        return float(np.diff(self.seconds).max()) if len(self.seconds) > 1 else 1.0

    @cached_property
    def spans(self) -> list[tuple[float, float]]:
        """[start, end) in seconds of what is hidden, in order; with everything up to the looks before and after."""
        spans: list[tuple[float, float]] = []
        for second in self.seconds[self.outside >= self.threshold]:
            start = max(float(second) - self._step - self.margin, 0.0)
            end = min(float(second) + self.margin, float(self.seconds[-1])) + self._step
            if spans and start <= spans[-1][1]:
                spans[-1] = (spans[-1][0], end)
            else:
                spans.append((start, end))
        return spans

    def hides(self, second: float) -> bool:
        """Whether a time must not be shown; also true where nobody has looked."""
        looked = self.seconds[0] - self._step < second < self.seconds[-1] + self._step
        return not looked or any(start <= second < end for start, end in self.spans)

    def veiled(self, pixels: np.ndarray, second: float) -> np.ndarray:
        """A picture (height, width, 3), uint8, as it may be shown: hidden ones are blurred beyond recognition."""
        return blurred(pixels) if self.hides(second) else pixels


def blurred(pixels: np.ndarray) -> np.ndarray:
    """What is left of a hidden picture: a few colours, from which no face can be made again.

    Args:
        pixels: (height, width, 3), uint8.

    Returns:
        The same shape: the means of eight columns of squares, smoothly enlarged.
    """
    height, width = pixels.shape[:2]
    few = (_COLUMNS, max(round(_COLUMNS * height / width), 1))
    image = Image.fromarray(pixels).resize(few, Image.Resampling.BOX)
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


class OutOfBodyDetector:
    """Says of each picture how probable it is that the camera is outside the patient.

    Every picture is judged by itself: history would make it late. A model of several frames sees it several times.

    Args:
        model: a classifier with a class for the outside, see `OUTSIDE`.
        threshold, margin: see `HiddenSeconds`.

    Raises:
        InputError: no class of the model means the outside.

    Example:
        >>> detector = OutOfBodyDetector.load("runs/out_of_body/model")  # doctest: +SKIP
        >>> detector.look(frames)  # doctest: +SKIP
        array([0.98, 0.03], dtype=float32)
    """

    def __init__(self, model: ClipModel, *, threshold: float = 0.5, margin: float = 1.0) -> None:
        self.model, self.threshold, self.margin = model, threshold, margin
        self.classes = [number for number, name in enumerate(model.class_names) if name.lower() in OUTSIDE]
        if not self.classes:
            raise InputError(
                f"no class of {model.source} means that the camera is outside: it knows {', '.join(model.class_names)}; a "
                f"detector has one of {', '.join(OUTSIDE)}"
            )
        self.hidden(np.zeros(1), np.zeros(1))  # threshold and margin are known to be right before a video is read

    @classmethod
    def load(
        cls,
        name: str | os.PathLike[str],
        *,
        threshold: float = 0.5,
        margin: float = 1.0,
        device: str | torch.device | None = None,
    ) -> "OutOfBodyDetector":
        """Loads a detector from a folder or the Hub.

        Raises:
            InputError: no classifier can be loaded, or it is no detector.
        """
        return cls(ClipModel.load(name, device=device), threshold=threshold, margin=margin)

    def facts(self) -> dict[str, Any]:
        """What its answers depend on, as JSON can hold it."""
        return {"model": self.model.source, "threshold": self.threshold, "margin": self.margin}

    def look(self, images: np.ndarray) -> np.ndarray:
        """Probabilities (frames,) that pictures (frames, height, width, 3), uint8, are from outside."""
        frames = self.model.prepare(images)
        clips = frames[:, None].expand(-1, self.model.num_frames, -1, -1, -1)
        probabilities = self.model.run(clips)[0][:, self.classes]
        return np.asarray(probabilities.max(axis=1) if self.model.multi_label else probabilities.sum(axis=1))

    def hidden(self, seconds: np.ndarray, outside: np.ndarray) -> HiddenSeconds:
        """What its answers hide."""
        return HiddenSeconds(seconds, outside, self.threshold, self.margin)

    def watch(self, frames: Iterable[tuple[float, np.ndarray]]) -> HiddenSeconds:
        """Looks at a video.

        Args:
            frames: times in seconds and pictures, as `VideoReader.iterate` gives them.

        Raises:
            InputError: there are no frames.
        """
        seconds: list[float] = []
        outside: list[np.ndarray] = []
        for chunk in batched(frames, _AT_ONCE):
            seconds += [second for second, _ in chunk]
            outside.append(self.look(np.stack([image for _, image in chunk])))
        if not seconds:
            raise InputError("there are no frames to look at")
        return self.hidden(np.asarray(seconds), np.concatenate(outside))
