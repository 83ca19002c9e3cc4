"""Types of samples, batches and losses, and protocols of the parts that a trainer over clips works with."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypedDict

import torch
from transformers import TrainerCallback

# One sample of a data set of clips: `pixel_values` (frames, 3, height, width) uint8, `index`, `key` and `epoch` of the draw,
# where it is from (`source`, `video_id`, `frame_index`, `timestamp`), and `labels` if the data set has them.
Sample = dict[str, Any]

# The batch that a collator makes of samples: `index`, `key` and `epoch` as tensors (B,); `pixel_values` as one tensor, or as a
# list where the frames of the clips differ in size; and what the collator drew, such as `boxes` (a list for each sample) or
# `masks` (a mapping of tensors). The entries are of several types, hence no narrower one.
ClipBatch = Mapping[str, Any]

# A collator takes samples and returns a `ClipBatch`.
Collator = Callable[[list[Any]], dict[str, Any]]

# Groups of parameters for an optimizer of `torch.optim`: `params`, `weight_decay` and, where it is not the common one, `lr`.
ParameterGroups = list[dict[str, Any]]

# The loss of a batch, (), and further numbers for the log by their names, () each.
Loss = tuple[torch.Tensor, dict[str, torch.Tensor]]


class EpochListener(Protocol):
    """Describe a data set or sampler whose random choices depend on the epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch."""


class TrainerOptions(TypedDict, total=False):
    """Name the options that a trainer over clips hands on to `transformers.Trainer`."""

    callbacks: list[TrainerCallback] | None
