"""Predictions for whole operations: every frame is decoded and prepared once, memory does not grow with the length."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import AutoModelForVideoClassification, AutoVideoProcessor, PreTrainedModel

from ..clips.windows import online_windows
from ..modeling.adapters import merge_adapter
from ..modeling.errors_surgvista import InputError, VideoReadError
from ..modeling.video_reading_surgvista import VideoReader
from .prediction import VideoPrediction

FRAMES_PER_SECOND = 1.0  # the rate at which surgical workflow is annotated and the published recipe samples
_FRAMES_AT_ONCE = 32  # frames prepared together


class SurgicalVideoPredictor:
    """Predicts once a second, from the present and past frames only, by the rule that the models are trained with.

    Args:
        model: a folder or Hub id with a trained video classifier, the folder of an adapter, or a model.
        processor: its video processor; loaded from the same place when `model` is a name.
        device: where to run; a GPU if there is one.
        batch_size: clips at a time.

    Raises:
        InputError: no classifier can be loaded from there.

    Example:
        >>> predictor = SurgicalVideoPredictor("my-phase-model")  # doctest: +SKIP
        >>> prediction = predictor.predict("operation.mp4")  # doctest: +SKIP
        >>> prediction.segments[0]  # doctest: +SKIP
        Segment(start=0.0, end=41.0, label='Preparation', confidence=0.97)
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | PreTrainedModel,
        processor: Any = None,
        *,
        device: str | torch.device | None = None,
        batch_size: int = 8,
    ) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}; at least 1 is needed")
        if not isinstance(model, PreTrainedModel):
            model, processor = _load(os.fspath(model), processor)
        if processor is None:
            raise InputError("a model given as an object needs its processor too")
        self.model: Any = model.eval()
        try:
            self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
            self.model.to(self.device)
        except (RuntimeError, AssertionError) as error:
            raise InputError(f"device {device} cannot be used: {str(error).splitlines()[0]}") from error
        self.processor = processor
        self.batch_size = batch_size
        self.num_frames = int(getattr(self.model.config, "num_frames", None) or self.model.config.frames_per_clip)
        self.frame_stride = int(getattr(processor, "frame_stride", None) or 4)
        labels = self.model.config.id2label
        self.class_names = [labels[i] for i in range(self.model.config.num_labels)]
        self.multi_label = self.model.config.problem_type == "multi_label_classification"

    def predict(self, video: str | os.PathLike[str] | bytes, *, progress: bool = False) -> VideoPrediction:
        """Predicts every second of a video.

        Args:
            video: path or content of a video file.
            progress: show a progress bar.

        Returns:
            Probabilities for each second.

        Raises:
            VideoReadError: the video cannot be decoded.
        """
        seconds: list[float] = []
        batches: list[np.ndarray] = []
        with VideoReader(video) as reader:
            total = int(reader.info.duration_seconds * FRAMES_PER_SECOND) or None
            clips = self._clips(reader, seconds)
            with tqdm(total=total, unit="s", desc="predicting", disable=not progress) as bar:
                while batch := list(itertools.islice(clips, self.batch_size)):
                    batches.append(self._probabilities(torch.stack(batch)))
                    bar.update(len(batch))
        if not batches:
            raise VideoReadError(f"{_name(video)} holds no frames")
        return VideoPrediction(
            _name(video), np.asarray(seconds), np.concatenate(batches), self.class_names, multi_label=self.multi_label
        )

    def _clips(self, reader: VideoReader, seconds: list[float]) -> Iterator[torch.Tensor]:
        """One clip (frames, channels, height, width) for each sampled frame, whose time is appended to `seconds`."""

        def frames() -> Iterator[torch.Tensor]:
            for second, frame in self._prepared_frames(reader):
                seconds.append(second)
                yield frame

        return online_windows(frames(), self.num_frames, self.frame_stride)

    def _prepared_frames(self, reader: VideoReader) -> Iterator[tuple[float, torch.Tensor]]:
        frames = reader.iterate(1 / FRAMES_PER_SECOND)
        while some := list(itertools.islice(frames, _FRAMES_AT_ONCE)):
            images = np.stack([image for _, image in some])
            prepared = self.processor(images, do_sample_frames=False, return_tensors="pt")["pixel_values"][0]
            yield from zip((second for second, _ in some), prepared, strict=True)

    @torch.inference_mode()
    def _probabilities(self, clips: torch.Tensor) -> np.ndarray:
        logits = self.model(**{self.model.main_input_name: clips.to(self.device)}).logits.float()
        probabilities = logits.sigmoid() if self.multi_label else logits.softmax(dim=-1)
        return probabilities.cpu().numpy()


def _load(name: str, processor: Any) -> tuple[PreTrainedModel, Any]:
    """Model and processor; refuses a model whose classifier would have to be made up."""
    try:
        if (Path(name) / "adapter_config.json").is_file():
            return merge_adapter(name), processor or AutoVideoProcessor.from_pretrained(name)
        model, info = AutoModelForVideoClassification.from_pretrained(name, output_loading_info=True)
        processor = processor or AutoVideoProcessor.from_pretrained(name)
    except (OSError, ValueError) as error:
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise InputError(f"no video classifier with its processor can be loaded from {name}: {reason}") from error
    if info["missing_keys"]:
        missing = ", ".join(sorted(info["missing_keys"])[:4])
        raise InputError(f"{name} holds no trained classifier; it lacks {missing}. Fine-tune it first")
    return model, processor


def _name(video: str | os.PathLike[str] | bytes) -> str:
    return "video" if isinstance(video, bytes) else Path(video).name
