"""Whole videos judged from saved features of their frames: the head of LemonFM-Vid (arXiv 2503.19740) on the common trainer.

One sample is one video, pooled once: pooling has nothing to train.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch

from ...evaluation.tasks import ClipPredictions, Task
from ...modeling.modeling_video_head import VideoHeadForClassification
from ...util.errors import InputError
from ..common.arguments import ClipArguments
from ..finetuning.trainer import seeded_dropout
from .extraction import VideoFeatures
from .trainer import WholeVideos, WholeVideoTrainer


@dataclass
class VideoHeadArguments(ClipArguments):
    """Arguments of heads over whole videos. No recipe is published; the defaults are ours."""

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
        videos: features of their frames, with the label of the video on every frame that has one.
        head: says how they are pooled.

    Raises:
        InputError: no videos, a video without a label, or with several different ones.
    """

    def __init__(self, videos: Sequence[VideoFeatures], head: VideoHeadForClassification) -> None:
        if not videos:
            raise InputError("a head over videos needs some")
        super().__init__(videos)
        self.labels = np.stack([_label(video) for video in videos])
        self.pooled = torch.stack([head.pool(torch.from_numpy(np.array(video.values))) for video in videos])

    def content(self, index: int) -> dict[str, Any]:
        return {"pooled": self.pooled[index], "labels": torch.as_tensor(self.labels[index])}


@dataclass(frozen=True)
class PooledCollator:
    """A batch of videos, with the seed of its dropout: that of its first video."""

    seed: int = 0

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
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
        args: arguments.
        train_dataset: pooled training videos.
        task: of whole videos.
        kwargs: see `WholeVideoTrainer`.

    Raises:
        InputError: another task, or fewer videos than a batch.

    Example:
        >>> trainer = VideoHeadTrainer(head, VideoHeadArguments("run"), PooledVideos(videos, head), task)  # doctest: +SKIP
        >>> trainer.train(resume_from_checkpoint=True)  # doctest: +SKIP
    """

    model_input = "pooled"

    def __init__(
        self,
        model: VideoHeadForClassification,
        args: VideoHeadArguments,
        train_dataset: PooledVideos,
        task: Task,
        **kwargs: Any,
    ) -> None:
        if not task.of_videos:
            raise InputError(f"a head over whole videos needs one label a video; the task is {task.kind}")
        super().__init__(model, args, train_dataset, task, PooledCollator(args.seed), **kwargs)

    def predictions(self, dataset: PooledVideos) -> ClipPredictions:
        return predict_pooled(self.model, dataset, self.task)


@torch.no_grad()
def predict_pooled(model: Any, videos: PooledVideos, task: Task) -> ClipPredictions:
    """Predictions of a head, one row a video."""
    model.eval()
    logits = model(videos.pooled.to(model.device)).logits.float().cpu().numpy()
    firsts = np.array([video.labeled[0] for video in videos.videos])
    seconds = np.array([video.seconds[first] for video, first in zip(videos.videos, firsts, strict=True)])
    names = np.array([video.name for video in videos.videos])
    return ClipPredictions(names, firsts, seconds, videos.labels, task.probabilities(logits))


def _label(video: VideoFeatures) -> np.ndarray:
    known = video.labels[video.labeled]
    if not len(known) or (known != known[0]).any():
        raise InputError(f"{video.name} has {'different labels' if len(known) else 'no label'}; one a video is needed")
    return np.asarray(known[0], np.float32 if known.ndim == 2 else np.int64)
