"""Models in a form that costs a fraction of the time, for the same answers: what is linear in a row is one step.

Normalization after a convolution is a factor and an offset for each channel, which the convolution can have itself.

The published head of SegFormer projects the features of each stage to D channels, upsamples all to the resolution of the
first, joins them to 4·D channels and fuses these to D by a 1×1 convolution with batch normalization. That convolution at the
highest resolution is most of the work of the smaller models. Every step before the activation is linear, and a 1×1
convolution commutes with bilinear upsampling, whose weights sum to 1. So projection, fusion and normalization of a stage are
one 1×1 convolution of its own channels at its own resolution, and the upsampled results are added.

Source: Xie et al., SegFormer (arXiv 2105.15203), section 3.2, of which this is a rearrangement.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol, cast

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval
from transformers import PreTrainedModel, SegformerForSemanticSegmentation


class _Projection(Protocol):
    """Describes what projects the features of a stage."""

    proj: nn.Linear


class _Norm(Protocol):
    """Describes batch normalization with statistics."""

    weight: torch.Tensor
    bias: torch.Tensor
    running_mean: torch.Tensor
    running_var: torch.Tensor
    eps: float


class _PublishedHead(Protocol):
    """Describes the head of a `SegformerForSemanticSegmentation`, as far as it is used here."""

    linear_projections: Iterable[_Projection]
    linear_fuse: nn.Conv2d
    batch_norm: _Norm
    classifier: nn.Conv2d


class FoldedHead(nn.Module):
    """Computes what the head of a SegFormer computes in evaluation, with fewer multiplications.

    Args:
        head: the head of a `SegformerForSemanticSegmentation` in evaluation.

    Example:
        >>> from transformers import SegformerConfig
        >>> config = SegformerConfig(hidden_sizes=[4, 4, 8, 8], depths=[1] * 4, decoder_hidden_size=16)
        >>> head = SegformerForSemanticSegmentation(config).eval().decode_head
        >>> features = [torch.randn(1, channels, side, side) for channels, side in zip([4, 4, 8, 8], [32, 16, 8, 4])]
        >>> torch.allclose(FoldedHead(head)(features), head(features), atol=1e-5)
        True
    """

    def __init__(self, head: _PublishedHead) -> None:
        super().__init__()
        norm, projections = head.batch_norm, [each.proj for each in head.linear_projections]
        scale = norm.weight.double() * (norm.running_var.double() + norm.eps).rsqrt()  # (D,)
        # The head joins the stages from the last to the first: one (D, D) block of the fusing weights for each.
        blocks = head.linear_fuse.weight.double()[:, :, 0, 0].chunk(len(projections), dim=1)[::-1]
        weights = []
        bias = norm.bias.double() - scale * norm.running_mean.double()
        for block, projection in zip(blocks, projections, strict=True):
            weights.append(scale[:, None] * block @ projection.weight.double())  # (D, channels of the stage)
            bias = bias + scale * (block @ projection.bias.double())
        dtype = head.classifier.weight.dtype
        self.weights = nn.ParameterList(nn.Parameter(weight.to(dtype), requires_grad=False) for weight in weights)
        self.bias = nn.Parameter(bias[:, None].to(dtype), requires_grad=False)  # (D, 1)
        self.classifier = head.classifier

    def forward(self, encoder_hidden_states: Sequence[torch.Tensor], **kwargs: object) -> torch.Tensor:
        """Return the logits, (batch, classes, rows, columns), from the features of each stage, (batch, channels, ...)."""
        finest, *coarser = encoder_hidden_states
        batch, _, *shape = finest.shape
        first, *others = self.weights
        fused = torch.baddbmm(self.bias, first.expand(batch, -1, -1), finest.flatten(2))  # (batch, D, rows * columns)
        planes = fused.view(-1, *shape)  # (batch * D, rows, columns)
        for weight, features in zip(others, coarser, strict=True):
            small = torch.bmm(weight.expand(batch, -1, -1), features.flatten(2))
            small = small.view(-1, *features.shape[2:])  # (batch * D, fewer rows, fewer columns)
            down, across = (_upsampling(*sizes, small) for sizes in zip(small.shape[1:], shape, strict=True))
            larger = torch.bmm(down.expand(len(small), -1, -1), small)  # (batch * D, rows, fewer columns)
            planes.baddbmm_(larger, across.T.expand(len(small), -1, -1))
        decide = self.classifier.weight[:, :, 0, 0].expand(batch, -1, -1)
        assert self.classifier.bias is not None  # the published head has it
        logits = torch.baddbmm(self.classifier.bias[:, None], decide, fused.relu_())
        return logits.view(batch, -1, *shape)


def _upsampling(size: int, larger: int, like: torch.Tensor) -> torch.Tensor:
    """Return the matrix (larger, size) that interpolates linearly between the values of a row, as bilinear upsampling does."""
    unit = torch.eye(size, dtype=like.dtype, device=like.device)
    return functional.interpolate(unit[None], size=larger, mode="linear")[0].T


@torch.no_grad()
def fold_head(model: PreTrainedModel) -> None:
    """Replace the head of a model in evaluation by its cheaper form, if it is the published head of SegFormer.

    Other models are left as they are.
    """
    if isinstance(model, SegformerForSemanticSegmentation) and model.config.reshape_last_stage:
        model.decode_head = FoldedHead(cast(_PublishedHead, model.decode_head))  # type: ignore[assignment]


def fold_norms(model: PreTrainedModel) -> None:
    """Give the convolutions of a model in evaluation the batch normalization that follows them.

    Those that are found are pairs with the names that convolutional networks of transformers give them (ResNet, RegNet).
    """
    for block in model.modules():
        convolution, norm = getattr(block, "convolution", None), getattr(block, "normalization", None)
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            block.convolution = fuse_conv_bn_eval(convolution, norm)
            block.normalization = nn.Identity()
