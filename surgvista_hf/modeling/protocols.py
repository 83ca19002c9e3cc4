"""What code that works with any family expects of models, their outputs and their processors, as types.

The classes of transformers, those of this package and peft's wrappers have no useful common base: a `PeftModel` is no
`PreTrainedModel`, and `BaseVideoProcessor` does not declare the fields that every video processor has. A function whose
argument is one of these protocols says what it needs of it and takes them all.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import nn
from transformers import PreTrainedConfig

Batch = Mapping[str, torch.Tensor]  # what a collator gives and a model takes


class TransformersModel(Protocol):
    """Describe a model of any family: its configuration, the name of its input, its device."""

    training: bool

    @property
    def config(self) -> PreTrainedConfig:
        """Return the configuration; it has whatever fields its family has."""

    @property
    def device(self) -> torch.device:
        """Return the device of the weights."""

    @property
    def main_input_name(self) -> str:
        """Return the name of the argument that takes clips: `"pixel_values"` or `"pixel_values_videos"`."""

    @property
    def input_modalities(self) -> str | Sequence[str]:
        """Return what the model takes: `"video"`, `"image"` or several."""

    def __call__(self, *args: object, **kwargs: object) -> Any:
        """Run the model and return a `ModelOutput`."""

    def eval(self) -> nn.Module:
        """Switch dropout and stochastic depth off and return the model."""


class EncoderOutput(Protocol):
    """Describe the output of an encoder."""

    @property
    def last_hidden_state(self) -> torch.Tensor:
        """Return the tokens, (B, N, D)."""


class Encoder(TransformersModel, Protocol):
    """Describe a model without a head."""

    def __call__(self, *args: object, **kwargs: object) -> EncoderOutput:
        """Encode a batch."""


class ClipProcessor(Protocol):
    """Describe a video processor: the size and the normalization of frames, and the call that prepares clips."""

    @property
    def size(self) -> Mapping[str, int]:
        """Return the `height` and `width` of a prepared frame, in pixels."""

    @property
    def image_mean(self) -> Sequence[float]:
        """Return the mean that is subtracted, one number a channel, of pixels in 0 … 1."""

    @property
    def image_std(self) -> Sequence[float]:
        """Return the standard deviation that pixels are divided by, one number a channel."""

    def __call__(self, videos: object, **kwargs: object) -> Mapping[str, Any]:
        """Prepare clips; the tensor is called as the model's main input."""
