"""Classification of whole videos from features of their frames: the head of LemonFM-Vid (arXiv 2503.19740) on `ClipTrainer`.

One sample is one video. It is pooled once, since pooling has no parameters.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Unpack

import numpy as np
import torch

from ...evaluation.tasks import ClipPredictions, Task
from ...modeling.modeling_video_head import VideoHeadForClassification
from ...util.errors import InputError
from ..common.arguments import ClipArguments
from ..common.protocols import Sample, TrainerOptions
from ..finetuning.trainer import seeded_dropout
from .extraction import VideoFeatures
from .trainer import WholeVideos, WholeVideoTrainer


@dataclass
class VideoHeadArguments(ClipArguments):
    """Arguments of heads over whole videos. No recipe is published; the defaults are this project's own."""

    reference_batch: ClassVar[int] = 32

    num_train_epochs: float = field(default=100.0, metadata={"help": "passes over all videos"})
    base_learning_rate: float = field(default=1e-3, metadata={"help": "peak learning rate for 32 videos"})
    base_min_learning_rate: float = field(default=1e-6, metadata={"help": "floor of the schedule, likewise"})
    warmup_epochs: float = field(default=5.0, metadata={"help": "epochs of linear warm-up"})
    per_device_train_batch_size: int = field(default=32, metadata={"help": "videos"})
    dataloader_drop_last: bool = field(default=False, metadata={"help": "leave out the last incomplete batch"})


class PooledVideos(WholeVideos):
    """Videos as one vector each.

    Args:
        videos: features of the frames; every frame that has a label has the one of the video.
        head: head that pools them.

    Raises:
        InputError: no videos, a video without a label, or with several different ones.
    """

    def __init__(self, videos: Sequence[VideoFeatures], head: VideoHeadForClassification) -> None:
        if not videos:
            raise InputError("a head over videos needs some")
        super().__init__(videos)
        self.labels = np.stack([_label(video) for video in videos])
        self.pooled = torch.stack([head.pool(torch.from_numpy(np.array(video.values))) for video in videos])

    def content(self, index: int) -> Sample:
        """Return the pooled features (width,) and the label of a video."""
        return {"pooled": self.pooled[index], "labels": torch.as_tensor(self.labels[index])}


@dataclass(frozen=True)
class PooledCollator:
    """Makes a batch of videos. The seed of its dropout is that of its first video.

    Args:
        seed: seed of the run.
    """

    seed: int = 0

    def __call__(self, items: Sequence[Sample]) -> dict[str, Any]:
        """Return `pooled` (B, width), `labels` (B,) or (B, classes), and `dropout_seed`."""
        first = items[0]
        return {
            "pooled": torch.stack([item["pooled"] for item in items]),
            "labels": torch.stack([item["labels"] for item in items]),
            "index": torch.tensor([item["index"] for item in items]),
            "dropout_seed": seeded_dropout(self.seed, first["epoch"], first["key"]),
        }


class VideoHeadTrainer(WholeVideoTrainer):
    """Trains `VideoHeadForClassification`.

    Args:
        model: the head.
        args: arguments of the run.
        train_dataset: pooled training videos.
        task: task with one label, or several, for each video.
        eval_dataset: pooled videos of the validation.
        kwargs: further options of `transformers.Trainer`, such as `callbacks`.

    Raises:
        InputError: another task, or fewer videos than a batch.

    Example:
        >>> trainer = VideoHeadTrainer(head, VideoHeadArguments("run"), PooledVideos(videos, head), task)  # doctest: +SKIP
        >>> trainer.train(resume_from_checkpoint=True)  # doctest: +SKIP
    """

    model: VideoHeadForClassification
    model_input = "pooled"

    def __init__(
        self,
        model: VideoHeadForClassification,
        args: VideoHeadArguments,
        train_dataset: PooledVideos,
        task: Task,
        *,
        eval_dataset: PooledVideos | None = None,
        **kwargs: Unpack[TrainerOptions],
    ) -> None:
        if not task.of_videos:
            raise InputError(f"a head over whole videos needs one label a video; the task is {task.kind}")
        super().__init__(
            model, args, train_dataset, task, PooledCollator(args.seed), eval_dataset=eval_dataset, **kwargs
        )

    def predictions(self, dataset: PooledVideos) -> ClipPredictions:
        """Predict videos."""
        return predict_pooled(self.model, dataset, self.task)


@torch.no_grad()
def predict_pooled(model: VideoHeadForClassification, videos: PooledVideos, task: Task) -> ClipPredictions:
    """Predict videos with a head; the predictions have one row for each video."""
    model.eval()
    logits = model(videos.pooled.to(model.device)).logits.float().cpu().numpy()
    firsts = np.array([video.labeled[0] for video in videos.videos])
    seconds = np.array([video.seconds[first] for video, first in zip(videos.videos, firsts, strict=True)])
    names = np.array([video.name for video in videos.videos])
    return ClipPredictions(names, firsts, seconds, videos.labels, task.probabilities(logits))


def _label(video: VideoFeatures) -> np.ndarray:
    """Return the only label of a video, as a class number () or (classes,)."""
    known = video.labels[video.labeled]
    if not len(known) or (known != known[0]).any():
        raise InputError(f"{video.name} has {'different labels' if len(known) else 'no label'}; one a video is needed")
    return np.asarray(known[0], np.float32 if known.ndim == 2 else np.int64)
