"""Predictions for whole operations and for streams: every frame is decoded and prepared once, memory does not grow."""

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from ..clips.windows import ClipWindow
from ..modeling.errors_surgvista import InputError, VideoReadError
from ..modeling.video_reading_surgvista import VideoReader
from ..util.batches import batched
from ..util.console import progress_bar
from .clip_model import ClipModel
from .export import OnnxClipModel
from .prediction import VideoPrediction
from .privacy import OutOfBodyDetector
from .temporal_head import TemporalHead

FRAMES_PER_SECOND = 1.0  # the rate at which surgical workflow is annotated and the published recipe samples
_FRAMES_AT_ONCE = 32  # frames decoded and prepared together
_TOLERANCE = 1.5e-3  # seconds by which a frame may begin late and still be meant
_ONLY = "model"  # name of a model that has none

Model = str | os.PathLike[str] | PreTrainedModel | ClipModel


@dataclass(frozen=True, eq=False)
class StreamStep:
    """What a stream of frames looks like at one moment.

    Args:
        second: time of the frame.
        probabilities: (classes,) of each model by its name.
        class_names: of each model.
        latency_seconds: from the frame's arrival to this answer.
        outside: probability that the camera is outside the patient, where the predictor has a detector.
    """

    second: float
    probabilities: dict[str, np.ndarray]
    class_names: dict[str, list[str]]
    latency_seconds: float
    outside: float | None = None

    @property
    def label(self) -> str:
        """Most probable class of the first model."""
        name = next(iter(self.probabilities))
        return self.class_names[name][int(self.probabilities[name].argmax())]

    @property
    def confidence(self) -> float:
        """Its probability."""
        return float(next(iter(self.probabilities.values())).max())


class SurgicalVideoPredictor:
    """Predicts once a second, from the present and past frames only, by the rule that the models are trained with.

    Args:
        model: a folder or Hub id with a trained video classifier, the folder of an adapter, or a model; or several by
            name, e.g. `{"phase": …, "triplets": …}`: each frame is still decoded once.
        processor: video processor of a model given as an object; loaded from the same place otherwise.
        temporal: a temporal model (MS-TCN) on the features of the model, folder or object; with several models a mapping with
            their names.
        device: where to run; a GPU if there is one.
        batch_size: clips at a time.
        dtype: `"float32"`, `"bfloat16"`, or `"auto"`: bfloat16 on a GPU that can.
        runtime: `"torch"`, or `"onnx"` for folders that `surgvista export` wrote.
        out_of_body: finds what must not be shown, in the same frames: a detector, or the folder or Hub id of one.

    Raises:
        InputError: no classifier can be loaded from there.

    Example:
        >>> predictor = SurgicalVideoPredictor("my-phase-model")  # doctest: +SKIP
        >>> prediction = predictor.predict("operation.mp4")  # doctest: +SKIP
        >>> prediction.segments[0]  # doctest: +SKIP
        Segment(start=0.0, end=41.0, label='Preparation', confidence=0.97)
        >>> for step in predictor.stream(camera):  # doctest: +SKIP
        ...     print(step.second, step.label, step.latency_seconds)
    """

    def __init__(
        self,
        model: Model | Mapping[str, Model],
        processor: Any = None,
        *,
        temporal: Any = None,
        device: str | torch.device | None = None,
        batch_size: int = 8,
        dtype: str = "auto",
        runtime: str = "torch",
        out_of_body: OutOfBodyDetector | str | os.PathLike[str] | None = None,
    ) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; at least 1 is needed")
        if runtime not in ("torch", "onnx"):
            raise InputError(f"runtime is {runtime!r}; it must be torch or onnx")
        named = model if isinstance(model, Mapping) else {_ONLY: model}
        if not named:
            raise InputError("no model is given")
        self.models = {name: _clip_model(each, processor, device, dtype, runtime) for name, each in named.items()}
        heads = (
            temporal if isinstance(temporal, Mapping) else {} if temporal is None else {next(iter(named)): temporal}
        )
        unknown = sorted(set(heads) - set(named))
        if unknown:
            raise InputError(f"temporal names {unknown[0]!r}; the models are {', '.join(named)}")
        self.heads = {name: TemporalHead(head) for name, head in heads.items()}
        for name, head in self.heads.items():
            head.begin().push(self.models[name].run(_blank(self.models[name]))[1])  # the widths fit, or it is said now
        if isinstance(out_of_body, str | os.PathLike):
            out_of_body = OutOfBodyDetector.load(out_of_body, device=device)
        self.out_of_body = out_of_body
        self.batch_size = batch_size

    @property
    def class_names(self) -> list[str]:
        """Of the first model."""
        return self._names(next(iter(self.models)))

    @property
    def num_frames(self) -> int:
        """Frames of a clip of the first model."""
        return next(iter(self.models.values())).num_frames

    def _names(self, name: str) -> list[str]:
        return self.heads[name].class_names if name in self.heads else self.models[name].class_names

    def predict(self, video: str | os.PathLike[str] | bytes, *, progress: bool = False) -> VideoPrediction:
        """Predicts every second of a video with the model, or the first of several.

        Args:
            video: path or content of a video file.
            progress: show a progress bar.

        Returns:
            Probabilities for each second.

        Raises:
            VideoReadError: the video cannot be decoded.
        """
        return next(iter(self.predict_all(video, progress=progress).values()))

    def predict_all(
        self, video: str | os.PathLike[str] | bytes, *, name: str | None = None, progress: bool = False
    ) -> dict[str, VideoPrediction]:
        """Predicts every second of a video with every model; arguments and errors are those of `predict`.

        Args:
            name: that the video has in the results; its file name otherwise.

        Returns:
            Predictions by the names of the models.
        """
        with VideoReader(video) as reader:
            total = int(reader.info.duration_seconds * FRAMES_PER_SECOND) or None
            with progress_bar("predicting", total=total, unit="s", shown=progress) as bar:
                frames = _counted(reader.iterate(1 / FRAMES_PER_SECOND), bar)
                return self.predict_frames(frames, name or _name(video))

    def predict_frames(
        self, frames: Iterable[tuple[float, np.ndarray]], name: str = "video"
    ) -> dict[str, VideoPrediction]:
        """Predicts a video whose frames come from elsewhere, with every model.

        Args:
            frames: times in seconds and images (height, width, 3), uint8, RGB, one a second; the next ones are fetched in
                another thread while these are used.
            name: of the video.

        Returns:
            Predictions by the names of the models.

        Raises:
            VideoReadError: there are no frames.
        """
        lines = {each: self._line(each, self.batch_size) for each in self.models}
        seconds: list[float] = []
        outside: list[np.ndarray] = []
        found: dict[str, list[np.ndarray]] = {each: [] for each in self.models}
        for chunk in _ahead(batched(frames, _FRAMES_AT_ONCE)):
            seconds += [second for second, _ in chunk]
            images = np.stack([image for _, image in chunk])
            if self.out_of_body is not None:
                outside.append(self.out_of_body.look(images))
            for each, line in lines.items():
                found[each] += line.push(images)
        if not seconds:
            raise VideoReadError(f"{name} holds no frames")
        times = np.asarray(seconds)
        hidden = self.out_of_body.hidden(times, np.concatenate(outside)) if self.out_of_body else None
        return {
            each: VideoPrediction(
                name,
                times,
                np.concatenate([*found[each], *line.flush()]),
                self._names(each),
                multi_label=self.models[each].multi_label and each not in self.heads,
                hidden=hidden,
            )
            for each, line in lines.items()
        }

    def stream(self, frames: Iterable[np.ndarray | tuple[float, np.ndarray]]) -> Iterator[StreamStep]:
        """Predicts while an operation goes on.

        Args:
            frames: images (height, width, 3), uint8, RGB, one a second; or, at any rate, pairs of a time in seconds from the
                start and an image. The image shown at each whole second is used, as in `predict`.

        Yields:
            One step a second. The clips are those of `predict`, so the probabilities are too: bit for bit where `predict`
            ran with `batch_size=1`, within rounding otherwise.

        Raises:
            InputError: something that is no image, or times that go back.
        """
        lines = {name: self._line(name, 1) for name in self.models}
        names = {name: self._names(name) for name in self.models}
        for second, image in _sampled(frames):
            began = time.perf_counter()
            probabilities = {name: line.push(image[None])[0][0] for name, line in lines.items()}
            outside = float(self.out_of_body.look(image[None])[0]) if self.out_of_body else None
            yield StreamStep(second, probabilities, names, time.perf_counter() - began, outside)

    def _line(self, name: str, batch_size: int) -> "_Line":
        head = self.heads.get(name)
        return _Line(self.models[name], head.begin() if head else None, batch_size)


class _Line:
    """Frames in, probabilities out, in order, in batches."""

    def __init__(self, model: ClipModel, head: TemporalHead | None, batch_size: int) -> None:
        self.model, self.head, self.batch_size = model, head, batch_size
        self.window = ClipWindow(model.num_frames, model.frame_stride)
        self.waiting: list[torch.Tensor] = []

    def push(self, images: np.ndarray) -> list[np.ndarray]:
        """Probabilities of the batches that these frames (frames, height, width, 3) complete."""
        done = []
        for frame in self.model.prepare(images):
            self.waiting.append(self.window.push(frame))
            if len(self.waiting) == self.batch_size:
                done += self.flush()
        return done

    def flush(self) -> list[np.ndarray]:
        """Those of the last batch, if there is one."""
        if not self.waiting:
            return []
        probabilities, features = self.model.run(torch.stack(self.waiting))
        self.waiting.clear()
        return [self.head.push(features) if self.head else probabilities]


def _sampled(frames: Iterable[np.ndarray | tuple[float, np.ndarray]]) -> Iterator[tuple[float, np.ndarray]]:
    """The image shown at each whole second: the last one that is not later, known when a later one comes."""
    due, shown = 0.0, None
    for number, item in enumerate(frames):
        second, image = item if isinstance(item, tuple) else (number / FRAMES_PER_SECOND, item)
        if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise InputError(f"frame {number} of the stream is no image (height, width, 3) of uint8")
        if shown is not None and second < shown[0]:
            raise InputError(f"frame {number} of the stream is of second {second:g}, the one before of {shown[0]:g}")
        while due < second - _TOLERANCE:
            yield due, image if shown is None else shown[1]
            due += 1 / FRAMES_PER_SECOND
        shown = (float(second), image)
        if due <= second + _TOLERANCE:
            yield due, image
            due += 1 / FRAMES_PER_SECOND


def _counted(frames: Iterable[tuple[float, np.ndarray]], bar: Any) -> Iterator[tuple[float, np.ndarray]]:
    for frame in frames:
        yield frame
        bar.update()


def _ahead(chunks: Iterator[list[tuple[float, np.ndarray]]]) -> Iterator[list[tuple[float, np.ndarray]]]:
    """The same; the next chunk is decoded while this one is used."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, chunks, None)
        while (chunk := coming.result()) is not None:
            coming = pool.submit(next, chunks, None)
            yield chunk


def _clip_model(model: Model, processor: Any, device: Any, dtype: str, runtime: str) -> ClipModel:
    if isinstance(model, ClipModel):
        return model
    if not isinstance(model, PreTrainedModel) and runtime == "onnx":
        return OnnxClipModel(os.fspath(model))
    if not isinstance(model, PreTrainedModel):
        return ClipModel.load(model, processor, device=device, dtype=dtype)
    if processor is None:
        raise InputError("a model given as an object needs its processor too")
    return ClipModel(model, processor, device=device, dtype=dtype)


def _blank(model: ClipModel) -> torch.Tensor:
    frame = model.prepare(np.zeros((1, 64, 64, 3), np.uint8))
    return frame.repeat(model.num_frames, 1, 1, 1)[None]


def _name(video: str | os.PathLike[str] | bytes) -> str:
    return "video" if isinstance(video, bytes) else Path(video).name
