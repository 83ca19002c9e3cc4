"""Whole videos judged from the features of their frames: weighted by typicality, with a perceptron on top.

After LemonFM-Vid (arXiv 2503.19740): ω_j = 1 / mean cosine distance of frame j to its K nearest frames of the same video,
normalized to sum to 1; v = Σ ω_j φ_j. Shapes in comments use B videos, T frames, D features.
"""

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from .configuration_video_head import VideoHeadConfig
from .errors_surgvista import InputError
from .losses_surgvista import classification_loss

_ROWS_AT_ONCE = 1024  # of the similarities of all frames to all others


def typicality_weights(features: torch.Tensor, num_neighbors: int, smallest_distance: float = 1e-3) -> torch.Tensor:
    """Return how much each frame of a video counts: more where it looks like others.

    Args:
        features: features of the frames of one video, (T, D).
        num_neighbors: K; where a video has fewer other frames, all of them.
        smallest_distance: smaller mean distances count as this one.

    Returns:
        Weights (T,), fp32, with sum 1.

    Raises:
        InputError: no frames, or features of another shape.

    Example:
        >>> typicality_weights(torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]), 1).argmin().item()
        2
    """
    if features.ndim != 2 or not len(features):
        raise InputError(f"features have the shape {tuple(features.shape)}; (frames, width) of one video is expected")
    frames = len(features)
    if frames == 1:
        return torch.ones(1, device=features.device)
    unit = F.normalize(features.float(), dim=1)  # (T, D)
    distances = []
    for start in range(0, frames, _ROWS_AT_ONCE):
        similarity = unit[start : start + _ROWS_AT_ONCE] @ unit.T  # (rows, T)
        rows = torch.arange(len(similarity), device=features.device)
        similarity[rows, rows + start] = -torch.inf  # a frame is no neighbor of itself
        nearest = similarity.topk(min(num_neighbors, frames - 1), dim=1).values
        distances.append(1 - nearest.mean(dim=1))
    weights = torch.cat(distances).clamp_min(smallest_distance).reciprocal()
    return weights / weights.sum()


class VideoHeadForClassification(PreTrainedModel):
    r"""Classifies videos by pooled features of their frames. `(B, D) -> (B, classes)`.

    Example:
        >>> head = VideoHeadForClassification(VideoHeadConfig(input_size=16, num_labels=35))
        >>> head(head.pool(torch.randn(100, 16))[None]).logits.shape
        torch.Size([1, 35])
    """

    config_class = VideoHeadConfig
    config: VideoHeadConfig
    base_model_prefix = "video_head"
    main_input_name = "pooled"

    def __init__(self, config: VideoHeadConfig) -> None:
        super().__init__(config)
        self.norm = nn.LayerNorm(config.input_size)
        width = config.hidden_size or config.input_size
        self.fc1 = nn.Linear(config.input_size, width) if config.hidden_size else None
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(width, int(config.num_labels or 0))
        self.post_init()

    @torch.no_grad()
    def pool(self, features: torch.Tensor) -> torch.Tensor:
        """Return one vector for a video.

        Args:
            features: features of all its frames, (T, D).

        Returns:
            Weighted mean (D,), fp32.
        """
        if self.config.pooling == "mean":
            return features.float().mean(dim=0)
        weights = typicality_weights(features, self.config.num_neighbors, self.config.smallest_distance)
        return weights @ features.float()

    def forward(
        self,
        pooled: torch.Tensor,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: object,
    ) -> SequenceClassifierOutput:
        """Classify videos.

        Args:
            pooled: features of the videos, (B, D), see `pool`.
            labels: class numbers (B,), or 0 and 1 (B, classes) where a video has several labels.
            num_items_in_batch: number of labels of a whole optimizer step, see `classification_loss`.
            kwargs: further arguments of the Trainer, which are ignored.

        Returns:
            `logits` (B, classes) and, with labels, `loss`.

        Raises:
            InputError: features of another width.
        """
        if pooled.ndim != 2 or pooled.shape[1] != self.config.input_size:
            raise InputError(
                f"pooled features have the shape {tuple(pooled.shape)}; (videos, {self.config.input_size}) is expected"
            )
        features = self.norm(pooled)
        if self.fc1 is not None:
            features = self.dropout(F.gelu(self.fc1(features)))  # (B, hidden_size)
        logits = self.classifier(features)
        loss = None if labels is None else classification_loss(logits, labels, self.config, num_items_in_batch)
        return SequenceClassifierOutput(loss=loss, logits=logits)
