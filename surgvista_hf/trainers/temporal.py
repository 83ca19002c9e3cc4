"""Temporal models over frozen features of whole videos: MS-TCN as in TeCNO (arXiv 2003.10751), on the common trainer.

One sample is one video. A frame's prediction depends on the features of the past only, so the chain of encoder and temporal
model works online.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch.utils.data import Dataset

from ..evaluation.tasks import ClipPredictions, Task
from ..modeling.errors_surgvista import InputError
from ..modeling.modeling_ms_tcn import MsTcnForFrameClassification
from .arguments import ClipArguments
from .base import ClipTrainer
from .finetuning import drawn_from, keyed_dropout, log_figures
from .video_features import VideoFeatures

_NO_LABEL = -100


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


class FeatureVideos(Dataset[dict[str, Any]]):
    """Features of videos as samples of a `ClipTrainer`.

    Args:
        videos: with one class a frame.

    Raises:
        InputError: no videos, or several labels a frame.
    """

    def __init__(self, videos: Sequence[VideoFeatures]) -> None:
        if not videos or any(video.labels.ndim != 1 for video in videos):
            raise InputError("temporal models need videos with one class a frame")
        self.videos = list(videos)
        self.epoch = 0
        self.unreadable: list[int] = []

    def __len__(self) -> int:
        return len(self.videos)

    def set_epoch(self, epoch: int) -> None:
        """Says which epoch begins."""
        self.epoch = epoch

    def name(self, index: int) -> str:
        """What people call a sample."""
        return self.videos[index].name

    def __getitem__(self, index: int) -> dict[str, Any]:
        video = self.videos[index]
        return {"features": video.values, "labels": video.labels, "index": index, "key": index, "epoch": self.epoch}


@dataclass(frozen=True)
class VideoCollator:
    """One video as a batch of one, with the seed of its dropout."""

    seed: int = 0

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        (item,) = items
        labels = torch.from_numpy(np.where(item["labels"] < 0, _NO_LABEL, item["labels"]))
        return {
            "features": torch.from_numpy(np.array(item["features"]))[None],
            "labels": labels[None],
            "index": torch.tensor([item["index"]]),
            "dropout_seed": keyed_dropout(self.seed, item["epoch"], item["key"]),
        }


class TemporalTrainer(ClipTrainer):
    """Trains `MsTcnForFrameClassification` over whole videos.

    Args:
        model: the temporal model.
        args: arguments.
        train_dataset: features of the training videos.
        task: workflow.
        eval_dataset: features of the validation.
        kwargs: see `ClipTrainer` and `transformers.Trainer`.

    Example:
        >>> trainer = TemporalTrainer(model, TemporalArguments("run"), FeatureVideos(videos), task)  # doctest: +SKIP
        >>> trainer.train(resume_from_checkpoint=True)  # doctest: +SKIP
    """

    def __init__(
        self,
        model: MsTcnForFrameClassification,
        args: TemporalArguments,
        train_dataset: FeatureVideos,
        task: Task,
        *,
        eval_dataset: FeatureVideos | None = None,
        **kwargs: Any,
    ) -> None:
        self.task = task
        super().__init__(
            model,
            args,
            train_dataset,  # type: ignore[arg-type]  # what the trainer asks of clips, these videos answer
            data_collator=VideoCollator(args.seed),
            eval_dataset=eval_dataset,
            **kwargs,
        )

    def clip_loss(
        self, model: torch.nn.Module, batch: Mapping[str, Any]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        with drawn_from(batch["dropout_seed"], self.args.device):
            return model(features=batch["features"], labels=batch["labels"]).loss, {}

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """The figures of the task; every process works on all videos, which takes it no time."""
        predictions = predict_videos(
            self.model, cast(FeatureVideos, eval_dataset or self.eval_dataset).videos, self.task
        )
        return log_figures(self, self.task, predictions, metric_key_prefix)


@torch.no_grad()
def predict_videos(model: Any, videos: Sequence[VideoFeatures], task: Task) -> ClipPredictions:
    """Predictions of a temporal model for all labelled frames of videos."""
    model.eval()
    names, frames, seconds, labels, logits = [], [], [], [], []
    for video in videos:
        known = video.labelled
        output = model(features=torch.from_numpy(np.array(video.values))[None].to(model.device)).logits[0]
        names += [video.name] * len(known)
        frames.append(known)
        seconds.append(video.seconds[known])
        labels.append(video.labels[known])
        logits.append(output.float().cpu().numpy()[known])
    scores = task.probabilities(np.concatenate(logits))
    return ClipPredictions(
        np.array(names), np.concatenate(frames), np.concatenate(seconds), np.concatenate(labels), scores
    )
