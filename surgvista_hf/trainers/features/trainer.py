"""What trainers of models over features of whole videos have in common: one sample is one video."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch.utils.data import Dataset
from transformers import PreTrainedModel

from ...evaluation.tasks import ClipPredictions, Task
from ..common.arguments import ClipArguments
from ..common.clip_trainer import ClipTrainer
from ..finetuning.trainer import log_metrics, seeded_rng
from .extraction import VideoFeatures


class WholeVideos(Dataset[dict[str, Any]]):
    """Features of videos as samples of a `ClipTrainer`. A subclass says what of them a model gets.

    Args:
        videos: features of their frames.
    """

    def __init__(self, videos: Sequence[VideoFeatures]) -> None:
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

    @abstractmethod
    def content(self, index: int) -> dict[str, Any]:
        """Input and labels of a video."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**self.content(index), "index": index, "key": index, "epoch": self.epoch}


class WholeVideoTrainer(ClipTrainer):
    """Trains a model over whole videos. A subclass names the model's input and says what it predicts.

    Args:
        model: takes `labels` and what `model_input` names.
        args: arguments.
        train_dataset: training videos.
        task: what is predicted.
        collator: makes a batch, with its `dropout_seed`.
        eval_dataset: videos of the validation.
        kwargs: see `ClipTrainer` and `transformers.Trainer`.
    """

    model_input: ClassVar[str]

    def __init__(
        self,
        model: PreTrainedModel,
        args: ClipArguments,
        train_dataset: WholeVideos,
        task: Task,
        collator: Callable[[Sequence[dict[str, Any]]], dict[str, Any]],
        *,
        eval_dataset: WholeVideos | None = None,
        **kwargs: Any,
    ) -> None:
        self.task = task
        super().__init__(
            model,
            args,
            train_dataset,  # type: ignore[arg-type]  # what the trainer asks of clips, these videos answer
            data_collator=collator,
            eval_dataset=eval_dataset,
            **kwargs,
        )

    def clip_loss(
        self, model: torch.nn.Module, batch: Mapping[str, Any]
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        inputs = {self.model_input: batch[self.model_input], "labels": batch["labels"]}
        with seeded_rng(batch["dropout_seed"], self.args.device):
            return model(**inputs).loss, {}

    @abstractmethod
    def predictions(self, dataset: Any) -> ClipPredictions:
        """What the model says of videos."""

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """The metrics of the task; every process works on all videos, which takes it no time."""
        return log_metrics(self, self.task, self.predictions(eval_dataset or self.eval_dataset), metric_key_prefix)
