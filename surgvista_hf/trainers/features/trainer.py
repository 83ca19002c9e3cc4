"""The common part of trainers over the features of whole videos: one sample is one video."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Unpack

import torch
from torch.utils.data import Dataset
from transformers import PreTrainedModel

from ...evaluation.tasks import ClipPredictions, Task
from ..common.arguments import ClipArguments
from ..common.clip_trainer import ClipTrainer
from ..common.protocols import ClipBatch, Loss, Sample, TrainerOptions
from ..finetuning.trainer import log_metrics, seeded_rng
from .extraction import VideoFeatures


class WholeVideos(Dataset[Sample]):
    """Features of videos as samples of a `ClipTrainer`. A subclass chooses the input of the model (`content`).

    Args:
        videos: features of the frames of each video.
    """

    def __init__(self, videos: Sequence[VideoFeatures]) -> None:
        self.videos = list(videos)
        self.epoch = 0
        self.unreadable: list[int] = []

    def __len__(self) -> int:
        return len(self.videos)

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch, on which the dropout of every sample depends."""
        self.epoch = epoch

    def name(self, index: int) -> str:
        """Return the name of a sample: `source/video id`."""
        return self.videos[index].name

    @abstractmethod
    def content(self, index: int) -> Sample:
        """Return the model's input and the labels of a video."""

    def __getitem__(self, index: int) -> Sample:
        return {**self.content(index), "index": index, "key": index, "epoch": self.epoch}


class WholeVideoTrainer(ClipTrainer):
    """Trains a model over whole videos. A subclass names the model's input (`model_input`) and computes `predictions`.

    Args:
        model: model that takes `labels` and the input.
        args: arguments of the run.
        train_dataset: training videos.
        task: task of the model.
        collator: function that makes a batch of samples, with its `dropout_seed`.
        eval_dataset: videos of the validation.
        kwargs: further options of `transformers.Trainer`, such as `callbacks`.
    """

    model_input: ClassVar[str]

    def __init__(
        self,
        model: PreTrainedModel,
        args: ClipArguments,
        train_dataset: WholeVideos,
        task: Task,
        collator: Callable[[Sequence[Sample]], dict[str, Any]],
        *,
        eval_dataset: WholeVideos | None = None,
        **kwargs: Unpack[TrainerOptions],
    ) -> None:
        self.task = task
        super().__init__(
            model,
            args,
            train_dataset,  # type: ignore[arg-type]  # it has everything that the trainer uses of clips
            data_collator=collator,
            eval_dataset=eval_dataset,
            **kwargs,
        )

    def clip_loss(self, model: torch.nn.Module, batch: ClipBatch) -> Loss:
        """Return the model's own loss; its dropout is that of the samples, whatever process they are on."""
        inputs = {self.model_input: batch[self.model_input], "labels": batch["labels"]}
        with seeded_rng(batch["dropout_seed"], self.args.device):
            return model(**inputs).loss, {}

    @abstractmethod
    def predictions(self, dataset: Any) -> ClipPredictions:
        """Predict all labeled frames of videos, or the videos themselves; `dataset` is of the subclass's own kind."""

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Compute and log the metrics of the task; every process evaluates all videos, which takes no time."""
        return log_metrics(self, self.task, self.predictions(eval_dataset or self.eval_dataset), metric_key_prefix)
