"""Prediction of whole videos and of streams. Every frame is decoded and prepared once, and memory does not grow."""

import itertools
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from transformers import PreTrainedModel
from transformers.video_processing_utils import BaseVideoProcessor

from ..clips.sampling.windows import ClipWindow
from ..modeling.clip_spacing import needed_seconds
from ..modeling.errors_surgvista import VideoReadError
from ..modeling.familiarity import RunningMean, appearance
from ..modeling.modeling_ms_tcn import MsTcnForFrameClassification
from ..modeling.video_frames_surgvista import Deinterlace
from ..modeling.video_reading_surgvista import Damaged, VideoReader
from ..util.batches import batched
from ..util.console import Bar, progress_bar
from ..util.errors import InputError
from .models.clip_model import ClipModel
from .models.fast_graph import load_fast
from .models.onnx_export import OnnxClipModel
from .models.out_of_body import OutOfBodyDetector, scan_video
from .models.temporal_head import FRAMES_PER_SECOND, TemporalHead
from .prediction.prediction import VideoPrediction
from .prediction.redaction import OutOfBodyMask

logger = logging.getLogger(__name__)
_FRAMES_AT_ONCE = 32  # frames decoded and prepared together
_TOLERANCE = 1.5e-3  # seconds by which a frame may begin late and still count as the frame of a moment
_T = TypeVar("_T")
_SPARSE = 3  # whole seconds in a row without any frame between them: not a damaged stretch, but too few frames
_ONLY = "model"  # name of a model that is given without one

Model = str | os.PathLike[str] | PreTrainedModel | ClipModel
Temporal = str | os.PathLike[str] | MsTcnForFrameClassification
# Called with the name of a model, seconds, and what its classifier saw of the clips that end there, (seconds, width).
FeatureListener = Callable[[str, Sequence[float], np.ndarray], object]


@dataclass(frozen=True, eq=False)
class StreamStep:
    """The prediction for one moment of a stream.

    Args:
        second: time of the frame.
        probabilities: (classes,) probabilities by the name of the model.
        class_names: names of the classes by the name of the model.
        latency_seconds: seconds from the frame's arrival to this prediction.
        outside: probability that the camera is outside the patient, where the predictor has a detector.
        unfamiliarity: score by the name of the model of how unlike its training videos the last seconds are: above 1 they
            are beyond what held-out training videos look like; `None`: it is unknown what those look like.
    """

    second: float
    probabilities: dict[str, np.ndarray]
    class_names: dict[str, list[str]]
    latency_seconds: float
    outside: float | None = None
    unfamiliarity: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Return the most probable class of the first model."""
        name = next(iter(self.probabilities))
        return self.class_names[name][int(self.probabilities[name].argmax())]

    @property
    def confidence(self) -> float:
        """Return the probability of the most probable class of the first model."""
        return float(next(iter(self.probabilities.values())).max())

    @property
    def unfamiliar(self) -> bool | None:
        """Return whether the last seconds are unlike the training videos of the first model; `None`: unknown."""
        score = next(iter(self.unfamiliarity.values()), None)
        return None if score is None else score > 1


class SurgicalVideoPredictor:
    """Predict once a second, from present and past frames only, with clips chosen as in training.

    Args:
        model: a folder or Hub id with a trained video classifier, the folder of an adapter, or a model; or several by
            name, e.g. `{"phase": …, "triplets": …}`: each frame is still decoded once.
        processor: video processor of a model given as an object; otherwise it is loaded with the model.
        temporal: a temporal model (MS-TCN) on the features of the model, folder or object; with several models a mapping with
            their names.
        device: device that runs the models; a GPU if there is one.
        batch_size: clips at a time.
        dtype: `"float32"`, `"bfloat16"`, or `"auto"`: bfloat16 where the device has it in hardware, float32 elsewhere.
        runtime: `"torch"`, or `"onnx"` for folders that `surgvista export` wrote.
        out_of_body: a detector of times that must not be shown, or the folder or Hub id of one.
        deinterlace: `"auto"` or `"off"`; the argument of `VideoReader`.
        damaged: treatment of damaged videos: `"skip"` predicts nothing for the damaged seconds, if at least half of the
            video is sound; `"any"` does so however little is sound; `"refuse"` raises an error.
        frame_stride: seconds between two frames of a clip, for models whose configuration does not hold it.
        every: seconds from one prediction to the next; what was predicted is held for the seconds in between.
        fast: compute in 8 bits on the processor, with a graph that is exported at first use and cached; see `load_fast`.

    Raises:
        InputError: no classifier can be loaded, `frame_stride` contradicts what a model was trained with, or `fast` is asked
            for together with another precision, runtime or device, or for a model that is not saved.

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
        processor: BaseVideoProcessor | None = None,
        *,
        temporal: Temporal | Mapping[str, Temporal] | None = None,
        device: str | torch.device | None = None,
        batch_size: int = 8,
        dtype: str = "auto",
        runtime: str = "torch",
        out_of_body: OutOfBodyDetector | str | os.PathLike[str] | None = None,
        frame_stride: float | None = None,
        deinterlace: Deinterlace = "auto",
        damaged: Damaged = "skip",
        every: int = 1,
        fast: bool = False,
    ) -> None:
        for argument, number in (("batch_size", batch_size), ("every", every)):
            if number < 1 or int(number) != number:
                raise InputError(f"{argument} is {number}; a whole number, at least 1, is needed")
        if runtime not in ("torch", "onnx"):
            raise InputError(f"runtime is {runtime!r}; it must be torch or onnx")
        if fast:
            _check_fast(device, dtype, runtime)
        named = model if isinstance(model, Mapping) else {_ONLY: model}
        if not named:
            raise InputError("no model is given")
        self.models = {
            name: _fast_model(each, frame_stride)
            if fast
            else _clip_model(each, processor, device, dtype, runtime, frame_stride)
            for name, each in named.items()
        }
        heads = (
            temporal if isinstance(temporal, Mapping) else {} if temporal is None else {next(iter(named)): temporal}
        )
        unknown = sorted(set(heads) - set(named))
        if unknown:
            raise InputError(f"temporal names {unknown[0]!r}; the models are {', '.join(named)}")
        self.heads = {name: TemporalHead(head) for name, head in heads.items()}
        for name, head in self.heads.items():
            head.begin().push(
                self.models[name].run(_blank(self.models[name]))[1]
            )  # raises now, not after hours, if the widths differ
            head.check_features(self.models[name].fingerprints, self.models[name].source)
        if isinstance(out_of_body, str | os.PathLike):
            out_of_body = OutOfBodyDetector.load(out_of_body, device=device)
        self.out_of_body = out_of_body
        self.batch_size, self.every = batch_size, int(every)
        self.reading: dict[str, Any] = {"deinterlace": deinterlace, "damaged": damaged}

    @property
    def computing(self) -> dict[str, Any]:
        """Return what results depend on beside models and videos, as JSON can hold it, where it differs from the least hasty.

        Returns:
            `dtype`, the precision of each model that does not compute in float32, and `every`, where that is not 1.
        """
        dtypes = {name: model.dtype for name, model in self.models.items() if model.dtype != "float32"}
        return {**({"dtype": dtypes} if dtypes else {}), **({"every": self.every} if self.every > 1 else {})}

    @property
    def computing_text(self) -> str:
        """Return a few words on how it computes, such as `bfloat16 (AMX), every 2 s`."""
        precisions = list(dict.fromkeys(model.precision for model in self.models.values()))
        return ", ".join([*precisions, *([f"every {self.every} s"] if self.every > 1 else [])])

    @property
    def class_names(self) -> list[str]:
        """Return the names of the classes of the first model."""
        return self._names(next(iter(self.models)))

    @property
    def is_multi_label(self) -> bool:
        """Return whether the classes of the first model are independent of each other."""
        return self._is_multi_label(next(iter(self.models)))

    @property
    def num_frames(self) -> int:
        """Return the number of frames in a clip of the first model."""
        return next(iter(self.models.values())).num_frames

    def _is_multi_label(self, name: str) -> bool:
        return self.models[name].multi_label and name not in self.heads

    def _names(self, name: str) -> list[str]:
        return self.heads[name].class_names if name in self.heads else self.models[name].class_names

    def predict(self, video: str | os.PathLike[str] | bytes, *, progress: bool = False) -> VideoPrediction:
        """Predict every second of a video with the model, or the first of several.

        Args:
            video: path or content of a video file.
            progress: show a progress bar.

        Returns:
            The probabilities for each second.

        Raises:
            VideoReadError: the video cannot be decoded.
        """
        return next(iter(self.predict_all(video, progress=progress).values()))

    def predict_all(
        self,
        video: str | os.PathLike[str] | bytes,
        *,
        name: str | None = None,
        progress: bool = False,
        on_features: FeatureListener | None = None,
    ) -> dict[str, VideoPrediction]:
        """Predict every second of a video with every model; arguments and errors are those of `predict`.

        Args:
            video: path or content of a video file.
            name: name of the video in the results; its file name by default.
            progress: show a progress bar.
            on_features: takes the features of the clips, batch by batch, so that nobody has to hold those of a whole video.

        Returns:
            Predictions by the names of the models. The detector classified every frame for the out-of-body mask, or as many
            a second as it is set to.
        """
        name = name or _name(video)
        with VideoReader(video, **self.reading) as reader:
            mask = scan_video(self.out_of_body, reader, progress=progress) if self.out_of_body else None
            total = int(reader.info.duration_seconds * FRAMES_PER_SECOND) or None
            with progress_bar("predicting", total=total, unit="s", shown=progress) as bar:
                frames = _advance_bar(self._read(reader), bar)
                found = self._predict_frames(frames, name, mask, 0.0, on_features)
            remarks = tuple(reader.remarks)
        for remark in remarks:
            logger.warning("%s: %s", name, remark)
        deinterlace = self.reading["deinterlace"]
        return {each: replace(one, remarks=remarks, deinterlace=deinterlace) for each, one in found.items()}

    @property
    def needs_whole_seconds_only(self) -> bool:
        """Return whether frames at one a second are all that the models need."""
        return all(model.spacing.is_whole for model in self.models.values())

    def needed_seconds(self) -> Iterator[float]:
        """Yield the moments in seconds at which the models need frames to predict every second: ascending, without end.

        Example:
            >>> list(itertools.islice(predictor.needed_seconds(), 4))  # doctest: +SKIP
            [0.0, 1.0, 2.0, 3.0]
        """
        return needed_seconds([model.spacing.seconds() for model in self.models.values()])

    def _read(self, reader: VideoReader) -> Iterator[tuple[float, np.ndarray]]:
        """Return the frames that the models need, with their seconds."""
        if self.needs_whole_seconds_only:
            return reader.iterate(1 / FRAMES_PER_SECOND)
        return ((second, pixels) for second, _, pixels in reader.shown_at(self.needed_seconds()))

    def predict_frames(
        self,
        frames: Iterable[tuple[float, np.ndarray]],
        name: str = "video",
        *,
        origin: float | None = None,
        on_features: FeatureListener | None = None,
    ) -> dict[str, VideoPrediction]:
        """Predict a video whose frames come from elsewhere, with every model.

        The detector sees these frames only: what lies between two of them counts as inside where both are inside.

        Args:
            frames: times in seconds and images (height, width, 3), uint8, RGB, one a second, or those of `needed_seconds` for
                models that need others too; the next ones are fetched in another thread while these are used. Some may be
                missing: a second without a frame has no prediction, and the frame before takes its place in later clips.
            name: name of the video.
            origin: second that the moments count from; by default that of the first frame.
            on_features: the argument of `predict_all`; seconds count from the origin.

        Returns:
            Predictions by the names of the models.

        Raises:
            InputError: an item is no image, or the frames are of other seconds than the models need.
            VideoReadError: there are no frames.
        """
        return self._predict_frames(frames, name, None, origin, on_features)

    def _predict_frames(
        self,
        frames: Iterable[tuple[float, np.ndarray]],
        name: str,
        mask: OutOfBodyMask | None,
        origin: float | None = None,
        on_features: FeatureListener | None = None,
    ) -> dict[str, VideoPrediction]:
        """Predict frames; without a mask of the video, let the detector classify them too."""
        moments = _Moments(self, origin)
        pipelines = {each: self._pipeline(each, self.batch_size, on_features) for each in self.models}
        seconds: list[float] = []
        outside: list[np.ndarray] = []
        found: dict[str, list[np.ndarray]] = {each: [] for each in self.models}
        sound: list[bool] = []
        # A frame belongs to a moment; only moments at whole seconds are predicted, the others are needed for clips.
        for chunk in _prefetch(batched(_fill_missing(frames, self.needed_seconds(), origin), _FRAMES_AT_ONCE)):
            for second, image, _ in chunk:
                _check_image(image, f"the frame of second {second:g} of {name}")
            due = [moments.match(second, is_sound) for second, _, is_sound in chunk]
            predicted = [second % 1 == 0 for second in due]
            seconds += [second for (second, _, _), is_whole in zip(chunk, predicted, strict=True) if is_whole]
            sound += [is_sound for (_, _, is_sound), is_whole in zip(chunk, predicted, strict=True) if is_whole]
            images = np.stack([image for _, image, _ in chunk])  # (frames, height, width, 3)
            if self.out_of_body is not None and mask is None and any(predicted):
                outside.append(self.out_of_body.predict_proba(images[predicted]))
            for each, pipeline in pipelines.items():
                found[each] += pipeline.push(due, images, [is_sound for _, _, is_sound in chunk])
        if not seconds:
            raise VideoReadError(f"{name} holds no frames")
        # Stand-ins for missing frames filled the clips of later seconds; they have no prediction of their own.
        answered = np.asarray(sound)
        shown = np.asarray(seconds)[answered]
        if outside:
            assert self.out_of_body is not None
            mask = self.out_of_body.mask(shown, np.concatenate(outside)[answered], 1 / FRAMES_PER_SECOND)
        predictions = {
            each: VideoPrediction(
                name,
                shown,
                np.concatenate([*found[each], *pipeline.flush()])[answered],
                self._names(each),
                multi_label=self._is_multi_label(each),
                out_of_body_mask=mask,
                unfamiliarity=None if pipeline.unfamiliarity is None else pipeline.unfamiliarity[answered],
                dtype=self.models[each].dtype,
                every=self.every,
            )
            for each, pipeline in pipelines.items()
        }
        for each, prediction in predictions.items():
            if prediction.remark:
                logger.warning("%s%s", f"{each}: " if len(predictions) > 1 else "", prediction.remark)
        return predictions

    def stream(self, frames: Iterable[np.ndarray | tuple[float, np.ndarray]]) -> Iterator[StreamStep]:
        """Predict while an operation goes on.

        Args:
            frames: images (height, width, 3), uint8, RGB, one a second; or, at any rate, pairs of a time in seconds from the
                start and an image. The images shown at the moments that the models need are used, as in `predict`.

        Yields:
            One step a second. The clips are those of `predict`, so the probabilities are too: bit for bit where `predict`
            ran with `batch_size=1`, within rounding otherwise.

        Raises:
            InputError: an item is no image, or the times go back.
        """
        pipelines = {name: self._pipeline(name, 1) for name in self.models}
        names = {name: self._names(name) for name in self.models}
        for second, image in sample_stream(self._check_times(frames), self.needed_seconds()):
            began = time.perf_counter()
            answers = {name: pipeline.push([second], image[None]) for name, pipeline in pipelines.items()}
            if second % 1:  # needed for the clips of later seconds only
                continue
            probabilities = {name: answer[0][0] for name, answer in answers.items()}
            unfamiliarity = {name: pipeline.last_unfamiliarity for name, pipeline in pipelines.items()}
            outside = float(self.out_of_body.predict_proba(image[None])[0]) if self.out_of_body else None
            yield StreamStep(second, probabilities, names, time.perf_counter() - began, outside, unfamiliarity)

    def _check_times(
        self, frames: Iterable[np.ndarray | tuple[float, np.ndarray]]
    ) -> Iterator[np.ndarray | tuple[float, np.ndarray]]:
        """Yield the frames of a stream, and refuse one whose frames come more seldom than the models need them."""
        step = min(model.spacing.step for model in self.models.values())
        for number, item in enumerate(frames):
            if not self.needs_whole_seconds_only and not isinstance(item, tuple):
                raise InputError(
                    f"frame {number} of the stream has no time: images alone count as one a second, but the frames of a clip "
                    f"are {step:g} s apart. Give pairs of a time in seconds and an image, at least every {step:g} s"
                )
            yield item

    def _pipeline(self, name: str, batch_size: int, on_features: FeatureListener | None = None) -> "_ClipPipeline":
        head = self.heads.get(name)
        listener = None if on_features is None else partial(on_features, name)
        return _ClipPipeline(self.models[name], head.begin() if head else None, batch_size, listener, self.every)


class _ClipPipeline:
    """A model with its clip window: it takes frames in order and gives a row of probabilities for each second, in batches.

    Only the clips that end `every` seconds after the last one are computed. The seconds up to the next one have the same row,
    and a temporal head the same features: it knows one row a second.
    """

    def __init__(
        self,
        model: ClipModel,
        head: TemporalHead | None,
        batch_size: int,
        on_features: Callable[[Sequence[float], np.ndarray], object] | None = None,
        every: int = 1,
    ) -> None:
        self.model, self.head, self.batch_size, self.on_features = model, head, batch_size, on_features
        self.every, self.last = every, -math.inf
        self.window = ClipWindow(*model.spacing)
        self.waiting: list[torch.Tensor] = []
        self.waiting_seconds: list[
            list[float]
        ] = []  # of each waiting clip: its own, and those that hold its prediction
        self.held: tuple[np.ndarray, np.ndarray] | None = None  # the last row of probabilities and of features
        self.mean_distance = RunningMean()
        self.scores: list[float] = []

    def push(
        self, seconds: Sequence[float], images: np.ndarray, sound: Sequence[bool] | None = None
    ) -> list[np.ndarray]:
        """Return the probabilities of the batches that frames (frames, height, width, 3) of these seconds complete.

        Args:
            seconds: moment of each frame.
            images: frames (frames, height, width, 3), uint8.
            sound: whether each frame is one itself and does not stand in for a missing one; all are by default.
        """
        done, prepared = [], self.model.prepare(images)
        whole = [number for number, second in enumerate(seconds) if second % 1 == 0]
        self._compare(prepared[whole], [seconds[number] for number in whole])
        for number, (second, frame) in enumerate(zip(seconds, prepared, strict=True)):
            self.window.add(second, frame)
            if second % 1:
                continue
            # A prediction that falls due at a missing frame is made of the next one that is there.
            is_due = second - self.last >= self.every and (self.every == 1 or sound is None or sound[number])
            if not is_due and self.last > -math.inf:
                done += self._hold(second)
                continue
            self.last = second
            self.waiting.append(self.window.clip(second))  # (frames of a clip, channels, height, width)
            self.waiting_seconds.append([second])
            if len(self.waiting) == self.batch_size:
                done += self.flush()
        return done

    def _hold(self, second: float) -> list[np.ndarray]:
        """Let a second have the prediction before it, and return its row if that one is known."""
        if self.waiting:
            self.waiting_seconds[-1].append(second)
            return []
        assert self.held is not None
        probabilities, features = self.held
        return self._rows([second], probabilities, features)

    def _rows(self, seconds: Sequence[float], probabilities: np.ndarray, features: np.ndarray) -> list[np.ndarray]:
        if self.on_features is not None:
            self.on_features(tuple(seconds), features)
        return [self.head.push(features) if self.head else probabilities]

    def _compare(self, prepared: torch.Tensor, seconds: list[float]) -> None:
        """Note how unlike the training videos the seconds up to each frame are."""
        known = self.model.confidence.familiarity
        if known is not None and seconds:
            distances = known.distances(appearance(prepared))
            means = map(self.mean_distance.push, seconds, distances.tolist())
            self.scores += [known.unfamiliarity(mean) for mean in means]

    @property
    def unfamiliarity(self) -> np.ndarray | None:
        """Return the scores so far, (seconds,); `None`: unknown."""
        return None if self.model.confidence.familiarity is None else np.array(self.scores)

    @property
    def last_unfamiliarity(self) -> float | None:
        """Return the score of the last frame, and drop those before it: a stream has no end."""
        del self.scores[:-1]
        return self.scores[-1] if self.scores else None

    def flush(self) -> list[np.ndarray]:
        """Return the probabilities of the last, incomplete batch, if there is one."""
        if not self.waiting:
            return []
        probabilities, features = self.model.run(torch.stack(self.waiting))  # (clips, classes), (clips, width)
        self.held = probabilities[-1:], features[-1:]
        seconds = [second for each in self.waiting_seconds for second in each]
        if self.every > 1:
            counts = [len(each) for each in self.waiting_seconds]
            probabilities, features = probabilities.repeat(counts, axis=0), features.repeat(counts, axis=0)
        self.waiting.clear()
        self.waiting_seconds.clear()
        return self._rows(seconds, probabilities, features)


class _Moments:
    """The needed moments in order, matched to the frames that arrive one after the other.

    Args:
        predictor: the predictor whose models need the frames.
        origin: second from which moments count; by default that of the first frame.
    """

    def __init__(self, predictor: SurgicalVideoPredictor, origin: float | None = None) -> None:
        self._needed, self._trusts = predictor.needed_seconds(), predictor.needs_whole_seconds_only
        self._first, self._begun = origin, False
        self._whole = self._between = 0  # frames that came, at whole seconds and between them
        self._needs_between = False  # models of an uneven spacing may still need whole seconds only

    def match(self, second: float, is_sound: bool = True) -> float:
        """Return the moment of the next frame, in seconds from the first; whole seconds are predicted.

        Args:
            second: time of the frame.
            is_sound: whether it is a frame itself and does not stand in for a missing one.

        Raises:
            InputError: the frame is not of the moment that is needed next.
        """
        self._first = second if self._first is None else self._first
        expected = next(self._needed)
        while not self._begun and self._first + expected < second - _TOLERANCE:  # a damaged beginning has no frames
            expected = next(self._needed)
        self._begun = True
        self._whole += is_sound and expected % 1 == 0
        self._between += is_sound and expected % 1 != 0
        self._needs_between |= expected % 1 != 0
        if not self._trusts and self._needs_between and self._whole >= _SPARSE and not self._between:
            raise InputError(
                "frames come at whole seconds only, but the models need frames between them. Give those of "
                "SurgicalVideoPredictor.needed_seconds()"
            )
        if not self._trusts and abs(second - self._first - expected) > _TOLERANCE:
            raise InputError(
                f"a frame of second {second:g} came where one of second {self._first + expected:g} is needed: the models need "
                "frames between whole seconds too. Give those of SurgicalVideoPredictor.needed_seconds()"
            )
        return expected


def sample_stream(
    frames: Iterable[np.ndarray | tuple[float, np.ndarray]], needed: Iterator[float] | None = None
) -> Iterator[tuple[float, np.ndarray]]:
    """Yield the image shown at each needed moment: the last one not later, which is known when a later one comes.

    Args:
        frames: images (height, width, 3), uint8, one a second; or pairs of a time in seconds and an image, in order.
        needed: the moments in ascending order; by default every second.

    Raises:
        InputError: an item is no image, or the times go back.
    """
    moments = map(float, itertools.count()) if needed is None else needed
    due, shown = next(moments), None
    for number, item in enumerate(frames):
        second, image = item if isinstance(item, tuple) else (number / FRAMES_PER_SECOND, item)
        _check_image(image, f"frame {number} of the stream")
        if shown is not None and second < shown[0]:
            raise InputError(f"frame {number} of the stream is of second {second:g}, the one before of {shown[0]:g}")
        while due < second - _TOLERANCE:
            yield due, image if shown is None else shown[1]
            due = next(moments)
        shown = (float(second), image)
        if due <= second + _TOLERANCE:
            yield due, image
            due = next(moments)


def _check_image(image: object, what: str) -> None:
    if isinstance(image, np.ndarray) and image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8:
        return
    found = f"{image.dtype} of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
    raise InputError(
        f"{what} is no image (height, width, 3) of uint8 but {found}; numbers in 0 … 1 become one by "
        "(image * 255).round().astype('uint8')"
    )


def _fill_missing(
    frames: Iterable[tuple[float, np.ndarray]], moments: Iterator[float], origin: float | None
) -> Iterator[tuple[float, np.ndarray, bool]]:
    """Yield the frames, for a missing moment the frame before it, and whether it is a frame of that moment itself."""
    first = origin
    due, shown = next(moments), None
    for second, image in frames:
        first = second if first is None else first  # moments count from there
        while first + due < second - _TOLERANCE:
            if shown is not None:
                yield first + due, shown, False
            due = next(moments)
        yield second, image, True
        shown = image
        if first + due <= second + _TOLERANCE:
            due = next(moments)


def _advance_bar(frames: Iterable[tuple[float, np.ndarray]], bar: Bar) -> Iterator[tuple[float, np.ndarray]]:
    for frame in frames:
        yield frame
        bar.update(frame[0] % 1 == 0)


def _prefetch(chunks: Iterator[list[_T]]) -> Iterator[list[_T]]:
    """Yield the same chunks; the next one is decoded while this one is used."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, chunks, None)
        while (chunk := coming.result()) is not None:
            coming = pool.submit(next, chunks, None)
            yield chunk


def _clip_model(
    model: Model,
    processor: BaseVideoProcessor | None,
    device: str | torch.device | None,
    dtype: str,
    runtime: str,
    frame_stride: float | None,
) -> ClipModel:
    if isinstance(model, ClipModel):
        return model
    if not isinstance(model, PreTrainedModel) and runtime == "onnx":
        return OnnxClipModel(os.fspath(model), frame_stride)
    if not isinstance(model, PreTrainedModel):
        return ClipModel.load(model, processor, device=device, dtype=dtype, frame_stride=frame_stride)
    if processor is None:
        raise InputError("a model given as an object needs its processor too")
    return ClipModel(model, processor, device=device, dtype=dtype, frame_stride=frame_stride)


def _check_fast(device: str | torch.device | None, dtype: str, runtime: str) -> None:
    """Refuse what cannot be had together with 8 bits."""
    if runtime != "torch" or dtype != "auto":
        other = f"runtime {runtime}" if runtime != "torch" else f"dtype {dtype}"
        raise InputError(
            f"fast computes in 8 bits in ONNX Runtime, so {other} cannot be had with it; give one of them"
        )
    if device is not None and torch.device(device).type != "cpu":
        raise InputError(f"fast computes on the processor, not on {device}; leave out one of them")


def _fast_model(model: Model, frame_stride: float | None) -> ClipModel:
    if isinstance(model, ClipModel | PreTrainedModel):
        raise InputError("fast needs the folder or Hub id of a saved model, not a model in memory")
    return load_fast(model, frame_stride)


def _blank(model: ClipModel) -> torch.Tensor:
    frame = model.prepare(np.zeros((1, 64, 64, 3), np.uint8))
    return frame.repeat(model.num_frames, 1, 1, 1)[None]


def _name(video: str | os.PathLike[str] | bytes) -> str:
    return "video" if isinstance(video, bytes) else Path(video).name
