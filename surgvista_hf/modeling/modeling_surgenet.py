"""CAFormer and PVT v2 as SurgeNet trained them; transformers has no equal class. This file travels with a checkpoint.

CAFormer is "MetaFormer Baselines for Vision", arXiv 2210.13452; PVT v2 is arXiv 2106.13797.
"""

import torch
from torch import nn
from transformers import PreTrainedModel, PvtV2Model
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndNoAttention

from .configuration_surgenet import CaformerConfig, SurgeNetPvtConfig


class CaformerStarRelu(nn.Module):
    """Compute scale · relu(x)² + bias with one learned scale and bias (arXiv 2210.13452, equation 6)."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Activate a tensor of any shape."""
        return self.scale * x.relu() ** 2 + self.bias


def _activation(config: CaformerConfig) -> nn.Module:
    return nn.ReLU() if config.hidden_act == "relu" else CaformerStarRelu()


class CaformerDownsampling(nn.Module):
    """Reduce the resolution by a convolution, with a norm behind it (the first) or before it (the others)."""

    def __init__(self, config: CaformerConfig, channels: int, width: int, first: bool) -> None:
        super().__init__()
        kernel, stride, padding = (7, 4, 2) if first else (3, 2, 1)
        self.first = first
        self.convolution = nn.Conv2d(channels, width, kernel, stride, padding)
        self.layernorm = nn.LayerNorm(width if first else channels, eps=config.layer_norm_eps, bias=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Turn (B, rows, columns, channels) into (B, fewer rows, fewer columns, width)."""
        if not self.first:
            hidden = self.layernorm(hidden)
        hidden = self.convolution(hidden.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self.layernorm(hidden) if self.first else hidden


class CaformerSeparableConvolution(nn.Module):
    """Mix tokens by an inverted separable convolution of 7 × 7: widen, activate, convolve each channel, narrow."""

    def __init__(self, config: CaformerConfig, width: int) -> None:
        super().__init__()
        inner = int(config.expansion_ratio * width)
        self.expansion = nn.Linear(width, inner, bias=False)
        self.activation = _activation(config)
        self.depthwise = nn.Conv2d(inner, inner, 7, padding=3, groups=inner, bias=False)
        self.projection = nn.Linear(inner, width, bias=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Mix the tokens of (B, rows, columns, width)."""
        hidden = self.activation(self.expansion(hidden)).permute(0, 3, 1, 2)
        return self.projection(self.depthwise(hidden).permute(0, 2, 3, 1))


class CaformerAttention(nn.Module):
    """Mix tokens by self-attention without biases."""

    def __init__(self, config: CaformerConfig, width: int) -> None:
        super().__init__()
        self.head_size = config.head_size
        inner = max(width // config.head_size, 1) * config.head_size
        self.qkv = nn.Linear(width, 3 * inner, bias=False)
        self.projection = nn.Linear(inner, width, bias=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Mix the tokens of (B, rows, columns, width)."""
        fused = self.qkv(hidden.flatten(1, 2))  # (B, N, 3 · heads · head_size)
        parts = (part.unflatten(2, (-1, self.head_size)).transpose(1, 2) for part in fused.chunk(3, dim=2))
        mixed = nn.functional.scaled_dot_product_attention(*parts)  # (B, heads, N, head_size)
        return self.projection(mixed.transpose(1, 2).flatten(2)).view_as(hidden)


class CaformerLayer(GradientCheckpointingLayer):
    """Apply a token mixer and an MLP, each after a norm; in the stages with attention the shortcuts are scaled."""

    def __init__(self, config: CaformerConfig, width: int, attends: bool) -> None:
        super().__init__()
        self.layernorm_before = nn.LayerNorm(width, eps=config.layer_norm_eps, bias=False)
        self.mixer = (CaformerAttention if attends else CaformerSeparableConvolution)(config, width)
        self.layernorm_after = nn.LayerNorm(width, eps=config.layer_norm_eps, bias=False)
        self.mlp_in = nn.Linear(width, int(config.mlp_ratio * width), bias=False)
        self.activation = _activation(config)
        self.mlp_out = nn.Linear(int(config.mlp_ratio * width), width, bias=False)
        self.mixer_shortcut, self.mlp_shortcut = (
            nn.Parameter(torch.ones(width)) if attends else None for _ in range(2)
        )

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Transform (B, rows, columns, width)."""
        shortcut = hidden if self.mixer_shortcut is None else hidden * self.mixer_shortcut
        hidden = shortcut + self.mixer(self.layernorm_before(hidden))
        shortcut = hidden if self.mlp_shortcut is None else hidden * self.mlp_shortcut
        return shortcut + self.mlp_out(self.activation(self.mlp_in(self.layernorm_after(hidden))))


class CaformerStage(nn.Module):
    """Downsample, then apply the blocks of one stage."""

    def __init__(self, config: CaformerConfig, number: int) -> None:
        super().__init__()
        width = int(config.hidden_sizes[number])
        channels = int(config.hidden_sizes[number - 1]) if number else config.num_channels
        self.downsample = CaformerDownsampling(config, channels, width, first=number == 0)
        self.layers = nn.ModuleList(
            CaformerLayer(config, width, attends=number >= 2) for _ in range(config.depths[number])
        )

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Turn the output of the stage before, (B, rows, columns, channels), into this stage's."""
        hidden = self.downsample(hidden)
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden


class CaformerModel(PreTrainedModel):
    r"""CAFormer: two stages of separable convolutions, then two of attention; the feature is the normalized mean of the last.

    Example:
        >>> config = CaformerConfig(hidden_sizes=[8, 8, 32, 32], depths=[1, 1, 1, 1])
        >>> CaformerModel(config)(torch.zeros(1, 3, 64, 64)).pooler_output.shape
        torch.Size([1, 32])
    """

    config_class = CaformerConfig
    config: CaformerConfig
    _auto_class = "AutoModel"  # saving writes the code along: transformers has no such class
    base_model_prefix = "caformer"
    main_input_name = "pixel_values"
    input_modalities = "image"
    supports_gradient_checkpointing = True
    _no_split_modules = ["CaformerLayer"]

    def __init__(self, config: CaformerConfig) -> None:
        super().__init__(config)
        self.stages = nn.ModuleList(CaformerStage(config, number) for number in range(len(config.depths)))
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the first convolution with its norm."""
        return self.stages[0].get_submodule("downsample")

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, CaformerStarRelu):
            init.ones_(module.scale)
            init.zeros_(module.bias)
        elif isinstance(module, CaformerLayer):
            for shortcut in (module.mixer_shortcut, module.mlp_shortcut):
                if shortcut is not None:
                    init.ones_(shortcut)

    def forward(self, pixel_values: torch.Tensor, **kwargs: object) -> BaseModelOutputWithPoolingAndNoAttention:
        """Encode images.

        Args:
            pixel_values: Normalized images, (B, channels, height, width).

        Returns:
            `last_hidden_state`, (B, D, rows, columns), and `pooler_output`, (B, D).
        """
        hidden = pixel_values.to(self.layernorm.weight.dtype).permute(0, 2, 3, 1)  # (B, rows, columns, channels)
        for stage in self.stages:
            hidden = stage(hidden)
        pooled = self.layernorm(hidden.mean(dim=(1, 2)))
        return BaseModelOutputWithPoolingAndNoAttention(
            last_hidden_state=hidden.permute(0, 3, 1, 2).contiguous(), pooler_output=pooled
        )


class SurgeNetPvtModel(PvtV2Model):
    r"""PVT v2 with the epsilon of its authors in patch embeddings and spatial reductions; else transformers' own.

    Example:
        >>> sizes = {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 1, 1]}
        >>> model = SurgeNetPvtModel(SurgeNetPvtConfig(**sizes, layer_norm_eps=1e-6))
        >>> sorted({module.eps for module in model.modules() if isinstance(module, nn.LayerNorm)})
        [1e-06, 1e-05]
    """

    config_class = SurgeNetPvtConfig
    config: SurgeNetPvtConfig  # type: ignore[assignment]  # it has the same fields
    _auto_class = "AutoModel"

    def __init__(self, config: SurgeNetPvtConfig) -> None:
        super().__init__(config)  # type: ignore[arg-type]  # it reads the same fields
        for name, module in self.named_modules():
            if name.endswith(("patch_embedding.layer_norm", "attention.layer_norm")):
                module.eps = config.reduction_norm_eps
