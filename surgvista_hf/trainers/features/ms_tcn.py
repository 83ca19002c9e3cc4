"""Temporal models over frozen features of whole videos: MS-TCN as in TeCNO (arXiv 2003.10751), on the common trainer.

One sample is one video. A frame's prediction depends on the features of the past only, so the chain of encoder and temporal
model works online.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Unpack

import numpy as np
import torch

from ...evaluation.tasks import ClipPredictions, Task
from ...modeling.modeling_ms_tcn import MsTcnForFrameClassification
from ...util.errors import InputError
from ..common.arguments import ClipArguments
from ..common.protocols import Sample, TrainerOptions
from ..finetuning.trainer import seeded_dropout
from .extraction import VideoFeatures
from .trainer import WholeVideos, WholeVideoTrainer

_NO_LABEL = -100
_SAME_RATE = 1.05


@dataclass
class TemporalArguments(ClipArguments):
    """Arguments of temporal models; the defaults are TeCNO's for Cholec80: Adam at one rate, one video a step, 50 epochs."""

    reference_batch: ClassVar[int] = 1

    num_train_epochs: float = field(default=50.0, metadata={"help": "passes over all videos"})
    base_learning_rate: float = field(default=7e-5, metadata={"help": "learning rate"})
    base_min_learning_rate: float = field(default=7e-5, metadata={"help": "learning rate at the end"})
    warmup_epochs: float = field(default=0.0, metadata={"help": "epochs of linear warm-up"})
    weight_decay: float = field(default=0.0, metadata={"help": "of matrices"})
    per_device_train_batch_size: int = field(default=1, metadata={"help": "videos; more are not supported"})
    metric_for_best_model: str | None = field(default="video_accuracy", metadata={"help": "chooses the checkpoint"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.per_device_train_batch_size != 1:
            raise InputError("videos differ in length: per_device_train_batch_size must be 1; accumulate instead")


class FeatureVideos(WholeVideos):
    """Features of videos as samples of a `ClipTrainer`.

    Args:
        videos: features of the videos, with one class for each frame.

    Raises:
        InputError: no videos, or several labels for a frame.
    """

    def __init__(self, videos: Sequence[VideoFeatures]) -> None:
        if not videos or any(video.labels.ndim != 1 for video in videos):
            raise InputError("temporal models need videos with one class a frame")
        super().__init__(videos)

    def content(self, index: int) -> Sample:
        """Return the features (frames, width) and the class numbers (frames,) of a video."""
        return {"features": self.videos[index].values, "labels": self.videos[index].labels}


@dataclass(frozen=True)
class VideoCollator:
    """Makes a batch of one video, with the seed of its dropout.

    Args:
        seed: seed of the run.
    """

    seed: int = 0

    def __call__(self, items: Sequence[Sample]) -> dict[str, Any]:
        """Return `features` (1, frames, width), `labels` (1, frames) with -100 where a frame has none, and `dropout_seed`."""
        (item,) = items
        labels = torch.from_numpy(np.where(item["labels"] < 0, _NO_LABEL, item["labels"]))
        return {
            "features": torch.from_numpy(np.array(item["features"]))[None],
            "labels": labels[None],
            "index": torch.tensor([item["index"]]),
            "dropout_seed": seeded_dropout(self.seed, item["epoch"], item["key"]),
        }


class TemporalTrainer(WholeVideoTrainer):
    """Trains `MsTcnForFrameClassification` over whole videos.

    Args:
        model: the temporal model; the rate of the features is stored in its configuration.
        args: arguments of the run.
        train_dataset: features of the training videos.
        task: task of the model: a workflow.
        eval_dataset: features of the validation.
        kwargs: further options of `transformers.Trainer`, such as `callbacks`.

    Raises:
        InputError: videos with features at different rates.

    Example:
        >>> trainer = TemporalTrainer(model, TemporalArguments("run"), FeatureVideos(videos), task)  # doctest: +SKIP
        >>> trainer.train(resume_from_checkpoint=True)  # doctest: +SKIP
    """

    model: MsTcnForFrameClassification
    model_input = "features"

    def __init__(
        self,
        model: MsTcnForFrameClassification,
        args: TemporalArguments,
        train_dataset: FeatureVideos,
        task: Task,
        *,
        eval_dataset: FeatureVideos | None = None,
        **kwargs: Unpack[TrainerOptions],
    ) -> None:
        model.config.frames_per_second = feature_rate(train_dataset.videos)
        super().__init__(
            model, args, train_dataset, task, VideoCollator(args.seed), eval_dataset=eval_dataset, **kwargs
        )

    def predictions(self, dataset: FeatureVideos) -> ClipPredictions:
        """Predict all labeled frames of videos."""
        return predict_videos(self.model, dataset.videos, self.task)


def feature_rate(videos: Sequence[VideoFeatures]) -> float | None:
    """Return the number of features per second; `None` where no video has two.

    Raises:
        InputError: the videos differ.
    """
    rates = {video.name: video.frames_per_second for video in videos}
    known = {name: rate for name, rate in rates.items() if rate is not None}
    if not known:
        return None
    slow, fast = min(known, key=lambda name: known[name]), max(known, key=lambda name: known[name])
    if known[fast] > known[slow] * _SAME_RATE:
        raise InputError(
            f"{fast} has {known[fast]:.3g} features a second, {slow} has {known[slow]:.3g}: a temporal model needs one rate. "
            "Extract features of frame sets that were prepared alike"
        )
    return round(float(np.median(list(known.values()))), 3)


@torch.no_grad()
def predict_videos(model: MsTcnForFrameClassification, videos: Sequence[VideoFeatures], task: Task) -> ClipPredictions:
    """Predict all labeled frames of videos with a temporal model.

    Args:
        model: the temporal model.
        videos: features of the videos.
        task: task of the model.

    Raises:
        InputError: features at another rate than the model was trained on.
    """
    trained, rate = model.config.frames_per_second, feature_rate(videos)
    if trained is not None and rate is not None and not 1 / _SAME_RATE <= rate / trained <= _SAME_RATE:
        raise InputError(
            f"the temporal model was trained on {trained:g} features a second; these have {rate:g} a second"
        )
    model.eval()
    names, frames, seconds, labels, logits = [], [], [], [], []
    for video in videos:
        known = video.labeled
        features = torch.from_numpy(np.array(video.values))[None].to(model.device)  # (1, frames, width)
        output = model(features=features).logits[0]  # (frames, classes)
        names += [video.name] * len(known)
        frames.append(known)
        seconds.append(video.seconds[known])
        labels.append(video.labels[known])
        logits.append(output.float().cpu().numpy()[known])
    scores = task.probabilities(np.concatenate(logits))
    return ClipPredictions(
        np.array(names), np.concatenate(frames), np.concatenate(seconds), np.concatenate(labels), scores
    )
