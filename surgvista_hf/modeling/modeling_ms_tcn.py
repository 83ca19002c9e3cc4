"""MS-TCN over frozen features of whole videos: TeCNO (arXiv 2003.10751), the causal form of MS-TCN (arXiv 1903.01945).

Shapes in comments use B videos, T frames, K classes, F feature maps.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.utils import ModelOutput

from .configuration_ms_tcn import MsTcnConfig
from .errors_surgvista import InputError
from .losses_surgvista import cross_entropy


@dataclass
class MsTcnOutput(ModelOutput):
    """Output of `MsTcnForFrameClassification`.

    Args:
        loss: scalar, mean over stages of the weighted cross-entropy.
        logits: scores of the last stage, (B, T, K).
        stage_logits: scores of all stages, (stages, B, T, K).
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    stage_logits: torch.Tensor | None = None


class MsTcnLayer(nn.Module):
    """A dilated convolution over time and its residual. `(B, F, T) -> (B, F, T)`."""

    def __init__(self, config: MsTcnConfig, dilation: int) -> None:
        super().__init__()
        self.reach = (2 * dilation, 0) if config.causal else (dilation, dilation)
        width = config.num_feature_maps
        self.conv_dilated = nn.Conv1d(width, width, kernel_size=3, dilation=dilation)
        self.conv_1x1 = nn.Conv1d(width, width, kernel_size=1)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Add the convolved features to the features (B, F, T)."""
        padded = F.pad(maps, self.reach)  # (B, F, T + 2 · dilation), so that the convolution keeps T
        return maps + self.dropout(self.conv_1x1(F.relu(self.conv_dilated(padded))))


class MsTcnStage(nn.Module):
    """A stack of layers, each of which looks twice as far as the one before. `(B, input, T) -> (B, K, T)`."""

    def __init__(self, config: MsTcnConfig, input_size: int, classes: int) -> None:
        super().__init__()
        self.conv_1x1 = nn.Conv1d(input_size, config.num_feature_maps, kernel_size=1)
        self.layers = nn.ModuleList(MsTcnLayer(config, 2**number) for number in range(config.num_layers))
        self.conv_out_classes = nn.Conv1d(config.num_feature_maps, classes, kernel_size=1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Score all frames of features, or of the probabilities of the stage before."""
        maps = self.conv_1x1(inputs)  # (B, F, T)
        for layer in self.layers:
            maps = layer(maps)
        return self.conv_out_classes(maps)


class MsTcnForFrameClassification(PreTrainedModel):
    r"""Classifies all frames of a video by its features; each stage refines the probabilities of the one before.

    Example:
        >>> model = MsTcnForFrameClassification(MsTcnConfig(input_size=16, num_labels=7))
        >>> model(torch.zeros(1, 100, 16)).logits.shape
        torch.Size([1, 100, 7])
    """

    config_class = MsTcnConfig
    config: MsTcnConfig
    class_weights: torch.Tensor | None
    base_model_prefix = "ms_tcn"
    main_input_name = "features"

    def __init__(self, config: MsTcnConfig) -> None:
        super().__init__(config)
        classes = int(config.num_labels or 0)
        self.stage1 = MsTcnStage(config, config.input_size, classes)
        self.stages = nn.ModuleList(MsTcnStage(config, classes, classes) for _ in range(config.num_stages - 1))
        weights = None if config.class_weights is None else torch.tensor(config.class_weights)
        self.register_buffer("class_weights", weights, persistent=False)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialize convolutions as PyTorch does."""
        if isinstance(module, nn.Conv1d):
            bound = (module.in_channels * module.kernel_size[0]) ** -0.5
            init.uniform_(module.weight, -bound, bound)
            init.uniform_(module.bias, -bound, bound)  # type: ignore[arg-type]  # these have one
        elif module is self and self.class_weights is not None and self.config.class_weights is not None:
            init.copy_(self.class_weights, torch.tensor(self.config.class_weights))

    def forward(
        self,
        features: torch.Tensor,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: object,
    ) -> MsTcnOutput:
        """Classify every frame.

        Args:
            features: features of whole videos or of their beginnings, (B, T, input_size).
            labels: class numbers (B, T), -100 where a frame has none.
            num_items_in_batch: number of labeled frames of a whole optimizer step, see `cross_entropy`.
            kwargs: further arguments of the Trainer, which are ignored.

        Returns:
            `logits` (B, T, K), those of all stages and, with labels, `loss`.

        Raises:
            InputError: features of another width.
        """
        if features.ndim != 3 or features.shape[2] != self.config.input_size:
            raise InputError(
                f"features have the shape {tuple(features.shape)}; (videos, frames, {self.config.input_size}) is expected"
            )
        outputs = [self.stage1(features.transpose(1, 2))]  # (B, T, input_size) -> (B, K, T)
        for stage in self.stages:
            outputs.append(stage(outputs[-1].softmax(dim=1)))
        stacked = torch.stack(outputs).transpose(2, 3)  # (stages, B, T, K)
        loss = None
        if labels is not None:
            loss = torch.stack([self._loss(each, labels, num_items_in_batch) for each in outputs]).mean()
        return MsTcnOutput(loss=loss, logits=stacked[-1], stage_logits=stacked)

    def _loss(
        self, logits: torch.Tensor, labels: torch.Tensor, num_items: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        scores = logits.softmax(dim=1) if self.config.legacy_double_softmax else logits
        return cross_entropy(scores.float(), labels, self.class_weights, num_items)
