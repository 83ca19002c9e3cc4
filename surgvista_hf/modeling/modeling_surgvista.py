"""SurgVISTA: a video vision transformer with a pixel decoder and a teacher decoder.

Written from the paper (arXiv 2506.02692, npj Digital Medicine 2026: "SurgVISTA") and its published numbers. This file
travels with a checkpoint, so that `trust_remote_code=True` works without the package.

Tokens are numbered (time, row, column); a temporal index stands for `tubelet_size` frames. Shapes in comments use B clips,
N tokens, of which T · R · C in time, rows and columns, V visible and M masked tokens, D the width of the encoder, d that of a
decoder, P = channels · tubelet · patch² values of a tubelet.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutput, ImageClassifierOutput
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .configuration_surgvista import SurgVistaConfig
from .errors_surgvista import InputError, explain_missing_weights, folder_or_hub_name
from .losses_surgvista import classification_loss

Grid = tuple[int, int, int]  # temporal indices, rows and columns of tokens
_TOKENS_IN_CACHE = 784  # of one pass through an MLP on a CPU


@dataclass
class SurgVistaDecoderOutput(ModelOutput):
    """Output of a decoder.

    Args:
        logits: predictions, (B, M, output size), one row a masked token, in ascending token order.
        hidden_states: tokens before the first block and after each, (B, N, d): visible tokens first, then the masked ones.
        attentions: attention weights of each block, (B, heads, N, N).
    """

    logits: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class SurgVistaForPreTrainingOutput(ModelOutput):
    """Output of `SurgVistaForPreTraining`.

    Args:
        loss: scalar, `video_loss_weight · video_loss + image_loss_weight · image_loss`.
        video_loss: scalar, mean squared error of the reconstructed tubelets.
        image_loss: scalar, distance to the teacher's features; `None` without teacher features.
        video_logits: predicted tubelets, (B, M, P), each in (frame, row, column, channel) order.
        image_logits: predicted teacher features, (B, M, image_target_size); `None` without teacher features.
        hidden_states, attentions: intermediate values of the encoder, (B, V, D) and (B, heads, V, V): visible tokens only.
        video_decoder_hidden_states, video_decoder_attentions: intermediate values of the pixel decoder.
        image_decoder_hidden_states, image_decoder_attentions: intermediate values of the teacher decoder.
    """

    loss: torch.Tensor | None = None
    video_loss: torch.Tensor | None = None
    image_loss: torch.Tensor | None = None
    video_logits: torch.Tensor | None = None
    image_logits: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    video_decoder_hidden_states: tuple[torch.Tensor, ...] | None = None
    video_decoder_attentions: tuple[torch.Tensor, ...] | None = None
    image_decoder_hidden_states: tuple[torch.Tensor, ...] | None = None
    image_decoder_attentions: tuple[torch.Tensor, ...] | None = None


# ---------------------------------------------------------------------------------------------- position tables


def _concatenated_sinusoid(num_positions: int, width: int, device: torch.device | None) -> torch.Tensor:
    """Return a table (positions, width): all sines, then all cosines, with frequencies 10000^(-k / (width / 2)).

    NumPy's fp32 repeats the table of the published program bit for bit; PyTorch's differs in the last digit.
    """
    frequencies = np.float32(1) / np.float32(10000) ** (
        np.arange(width // 2, dtype=np.float32) / np.float32(width / 2)
    )
    angles = np.outer(np.arange(num_positions, dtype=np.float32), frequencies)  # (positions, width / 2)
    return torch.from_numpy(np.concatenate([np.sin(angles), np.cos(angles)], axis=1)).to(device)


def sincos_3d_table(grid: Grid, width: int, device: torch.device | None = None) -> torch.Tensor:
    """Return SurgVISTA's fixed position table: a quarter of the columns encode time, then 3/8 the column, 3/8 the row.

    Args:
        grid: temporal indices, rows and columns of tokens.
        width: number of columns of the table, a multiple of 16.
        device: device of the table.

    Returns:
        Table (T · R · C, width), fp32.

    Example:
        >>> table = sincos_3d_table((8, 14, 14), 768)
        >>> round(float(table[1, 192]), 4), round(float(table[14, 480]), 4)  # sin(1) of column 1 and of row 1
        (0.8415, 0.8415)
    """
    time, rows, columns = grid
    of_time = _concatenated_sinusoid(time, width // 4, device)[:, None, None].expand(-1, rows, columns, -1)
    of_column = _concatenated_sinusoid(columns, width * 3 // 8, device)[None, None].expand(time, rows, -1, -1)
    of_row = _concatenated_sinusoid(rows, width * 3 // 8, device)[None, :, None].expand(time, -1, columns, -1)
    # (T, R, C, width / 4), (T, R, C, 3/8 width), (T, R, C, 3/8 width) -> (T · R · C, width)
    return torch.cat([of_time, of_column, of_row], dim=-1).reshape(-1, width)


def sincos_1d_table(grid: Grid, width: int, device: torch.device | None = None) -> torch.Tensor:
    """Return VideoMAE's fixed position table (NeurIPS 2022): one sinusoid over the flat token index.

    Even columns are sines, odd ones cosines.

    Args:
        grid: temporal indices, rows and columns of tokens.
        width: number of columns of the table.
        device: device of the table.

    Returns:
        Table (T · R · C, width), fp32, computed in fp64.
    """
    time, rows, columns = grid
    angles = np.arange(time * rows * columns)[:, None] / 10000 ** (np.arange(width) // 2 * 2 / width)
    table = np.where(np.arange(width) % 2 == 0, np.sin(angles), np.cos(angles))
    return torch.from_numpy(table.astype(np.float32)).to(device)


def sincos_3d_equal_table(grid: Grid, width: int, device: torch.device | None = None) -> torch.Tensor:
    """Return the fixed position table of V-JEPA 1 (arXiv 2404.08471): a third of the columns for time, the row, the column.

    Args:
        grid: temporal indices, rows and columns of tokens.
        width: number of columns of the table. Thirds are rounded up to even numbers, and the last is cut.
        device: device of the table.

    Returns:
        Table (T · R · C, width), fp32.
    """
    third = 2 * -(-width // 6)
    axes = [_concatenated_sinusoid(length, third, device) for length in grid]
    shapes = [[-1 if other == axis else 1 for other in range(3)] + [third] for axis in range(3)]
    parts = [part.view(shape).expand(*grid, -1) for part, shape in zip(axes, shapes, strict=True)]
    return torch.cat(parts, dim=-1).flatten(0, 2)[:, :width].contiguous()


POSITION_TABLES: dict[str, Callable[[Grid, int, torch.device | None], torch.Tensor]] = {
    "sincos_3d": sincos_3d_table,
    "sincos_3d_equal": sincos_3d_equal_table,
    "sincos_1d": sincos_1d_table,
}


class SurgVistaPositions(nn.Module):
    """Gives the fixed position table, stored for the configured grid and computed for any other. `grid -> (N, width)`."""

    table: torch.Tensor

    def __init__(self, config: SurgVistaConfig, width: int) -> None:
        super().__init__()
        self.kind, self.width = config.position_embedding_type, width
        self.grid = config.token_grid(config.num_frames, *config.frame_size)
        # Not persistent, hence empty after from_pretrained until _init_weights fills it again.
        self.register_buffer("table", self.compute(self.grid), persistent=False)

    def compute(self, grid: Grid, device: torch.device | None = None) -> torch.Tensor:
        """Compute the table of any grid, (N, width), fp32."""
        return POSITION_TABLES[self.kind](grid, self.width, device)

    def forward(self, grid: Grid) -> torch.Tensor:
        """Return the table of a grid, (N, width), fp32."""
        return self.table if grid == self.grid else self.compute(grid, self.table.device)


# ---------------------------------------------------------------------------------------------- masks and tokens


def split_tokens(bool_masked_pos: torch.Tensor, num_masked: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the indices of the visible (B, V) and of the masked (B, M) tokens, both ascending.

    Args:
        bool_masked_pos: mask (B, N), True where a token is masked.
        num_masked: M, the same in every clip. Given as a number, it spares a synchronization with the device.
    """
    # A stable sort of the mask keeps the tokens of each kind in order: (B, N), the visible ones first.
    order = bool_masked_pos.to(torch.uint8).argsort(dim=1, stable=True)
    num_visible = bool_masked_pos.shape[1] - num_masked
    return order[:, :num_visible], order[:, num_visible:]


def pick_tokens(tokens: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """Return the tokens (B, K, width) that stand at `indices` (B, K) of `tokens` (B, N, width)."""
    return tokens.gather(1, indices[:, :, None].expand(-1, -1, tokens.shape[2]))


def count_masked(bool_masked_pos: torch.Tensor, expected: int) -> int:
    """Return the number of masked tokens of each clip.

    A mask in host memory is counted. Elsewhere, and in a traced graph, counting would stop the device, so the number is
    the configured one and the device checks it by itself.

    Args:
        bool_masked_pos: mask (B, N), True where a token is masked.
        expected: the number by `mask_ratio` and `mask_type` of the configuration.

    Raises:
        InputError: the clips of a batch have different numbers of masked tokens.
    """
    counts = bool_masked_pos.sum(dim=1)
    if torch.compiler.is_compiling() or bool_masked_pos.device.type != "cpu":
        torch._assert_async(
            (counts == expected).all(),
            f"the mask does not hide {expected} tokens in every clip, as mask_ratio and mask_type of the config say",
        )
        return expected
    fewest, most = counts.min().item(), counts.max().item()
    if fewest != most:
        raise InputError(f"every clip needs the same number of masked tokens; found {fewest} to {most} in one batch")
    return int(most)


def _check_mask(bool_masked_pos: torch.Tensor, batch: int, grid: Grid) -> torch.Tensor:
    expected = (batch, grid[0] * grid[1] * grid[2])
    if tuple(bool_masked_pos.shape) != expected:
        raise InputError(
            f"bool_masked_pos has shape {tuple(bool_masked_pos.shape)}; {expected} is needed: "
            f"{grid[0]} temporal indices of {grid[1]}×{grid[2]} tokens for each of {batch} clips"
        )
    return bool_masked_pos.bool()


# ---------------------------------------------------------------------------------------------- transformer blocks


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: object,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute attention step by step, as transformers' interface for attention wants it.

    Args:
        module: attention layer, for its training mode.
        query, key, value: projected tokens, (B, heads, N, head width).
        attention_mask: numbers that are added to the scores, or `None`.
        scaling: factor on the queries.
        dropout: dropout rate of the attention weights.
        kwargs: options of other implementations, which are ignored.

    Returns:
        Context (B, N, heads, head width) and attention weights (B, heads, N, N).
    """
    scores = torch.matmul(query * scaling, key.transpose(2, 3))  # (B, heads, N, N)
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = F.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = F.dropout(weights, p=dropout, training=module.training)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


class SurgVistaAttention(nn.Module):
    """Applies multi-head self-attention. `(B, N, width) -> (B, N, width), weights or None`."""

    def __init__(self, config: SurgVistaConfig, width: int, num_heads: int) -> None:
        super().__init__()
        self.config = config
        self.head_width = width // num_heads
        self.scaling = self.head_width**-0.5
        self.dropout = config.attention_probs_dropout_prob
        self.is_causal = False
        self.q_proj = nn.Linear(width, width, bias=config.qkv_bias)
        self.k_proj = nn.Linear(width, width, bias=config.key_bias)
        self.v_proj = nn.Linear(width, width, bias=config.qkv_bias)
        for projection in (self.q_proj, self.k_proj, self.v_proj):
            projection.init_scheme = "fused"  # type: ignore[assignment]
        self.o_proj = nn.Linear(width, width)

    def forward(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Let tokens (B, N, width) attend to each other; return them and the weights, (B, heads, N, N), where computed."""
        shape = (*hidden_states.shape[:-1], -1, self.head_width)
        query = self.q_proj(hidden_states).view(shape).transpose(1, 2)  # (B, heads, N, head width), as key and value
        key = self.k_proj(hidden_states).view(shape).transpose(1, 2)
        value = self.v_proj(hidden_states).view(shape).transpose(1, 2)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        context, weights = attend(
            self,
            query,
            key,
            value,
            None,
            is_causal=False,
            scaling=self.scaling,
            dropout=self.dropout if self.training else 0.0,
        )
        # (B, N, heads, head width) -> (B, N, width)
        return self.o_proj(context.reshape(*hidden_states.shape[:-1], -1)), weights


class SurgVistaMLP(nn.Module):
    """Applies two linear layers with an activation between. `(B, N, width) -> (B, N, width)`."""

    def __init__(self, config: SurgVistaConfig, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, int(width * config.mlp_ratio))
        self.activation = ACT2FN[config.hidden_act]
        self.fc2 = nn.Linear(int(width * config.mlp_ratio), width)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Transform each token by itself."""
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or hidden_states.device.type != "cpu":
            return self.fc2(self.activation(self.fc1(hidden_states)))
        # In inference on a CPU it is faster to take so few tokens at a time that the wide inner layer stays in the cache.
        pieces = hidden_states.flatten(0, 1).split(_TOKENS_IN_CACHE)  # (B · N, width) in parts
        return torch.cat([self.fc2(self.activation(self.fc1(piece))) for piece in pieces]).view_as(hidden_states)


class SurgVistaDropPath(nn.Module):
    """Drops a residual branch for whole clips or images: stochastic depth (Huang et al., ECCV 2016). Keeps shapes.

    With `keys` (B,), int64, whether a clip's branch is dropped is a function of its key and of `index`, the number of this
    module in the model, instead of PyTorch's global generator: the same in any batch, process or resumed run.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.index = 0
        self.keys: torch.Tensor | None = None

    def forward(self, branch: torch.Tensor) -> torch.Tensor:
        """Set the branches of some clips to zero and scale the others, so that the expectation stays."""
        if self.rate == 0.0 or not self.training:
            return branch
        keep = 1.0 - self.rate
        if self.keys is None:
            uniform = torch.rand(branch.shape[0], device=branch.device)
        else:
            uniform = keyed_uniform(self.keys, self.index)
        survives = (uniform < keep).view(-1, *(1,) * (branch.ndim - 1))  # (B, 1, …)
        return branch * (survives.to(branch.dtype) / keep)


def keyed_uniform(keys: torch.Tensor, index: int) -> torch.Tensor:
    """Return the numbers in [0, 1) that are a function of (key, index): splitmix64 (Steele et al., OOPSLA 2014).

    Args:
        keys: int64 numbers in any shape, on any device.
        index: number that distinguishes what is drawn with one key.

    Returns:
        Numbers in the shape of `keys`, fp32.

    Example:
        >>> keyed_uniform(torch.tensor([0, 1]), 0).tolist() == keyed_uniform(torch.tensor([0, 1]), 0).tolist()
        True
    """
    state = keys + _wrapped((index + 1) * 0x9E3779B97F4A7C15)
    state = (state ^ _shifted(state, 30)) * _wrapped(0xBF58476D1CE4E5B9)
    state = (state ^ _shifted(state, 27)) * _wrapped(0x94D049BB133111EB)
    return _shifted(state ^ _shifted(state, 31), 40).to(torch.float32) / 2**24


def _wrapped(number: int) -> int:
    """Return the signed 64-bit number with the same bits."""
    return (number + 2**63) % 2**64 - 2**63


def _shifted(state: torch.Tensor, bits: int) -> torch.Tensor:
    """Shift to the right and fill with zeros; torch's own shift repeats the sign."""
    return (state >> bits) & (2 ** (64 - bits) - 1)


class SurgVistaLayer(GradientCheckpointingLayer):
    """A pre-norm transformer block. `(B, N, width) -> (B, N, width)`."""

    def __init__(self, config: SurgVistaConfig, width: int, num_heads: int, drop_path_rate: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.attention = SurgVistaAttention(config, width, num_heads)
        self.norm2 = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.mlp = SurgVistaMLP(config, width)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.attention_drop_path = SurgVistaDropPath(drop_path_rate)
        self.mlp_drop_path = SurgVistaDropPath(drop_path_rate)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Add attention, then the MLP, to the tokens."""
        attended, _ = self.attention(self.norm1(hidden_states))
        hidden_states = hidden_states + self.attention_drop_path(self.dropout(attended))
        return hidden_states + self.mlp_drop_path(self.dropout(self.mlp(self.norm2(hidden_states))))


class SurgVistaEncoder(nn.Module):
    """A stack of blocks. `(B, N, width) -> (B, N, width)`."""

    def __init__(self, config: SurgVistaConfig, width: int, num_layers: int, num_heads: int) -> None:
        super().__init__()
        rates = [config.drop_path_rate * i / max(num_layers - 1, 1) for i in range(num_layers)]
        self.layers = nn.ModuleList(SurgVistaLayer(config, width, num_heads, rate) for rate in rates)
        self.gradient_checkpointing = False

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Pass tokens through all blocks."""
        for layer in self.layers:
            hidden_states = layer(hidden_states)
        return hidden_states


class SurgVistaPatchEmbeddings(nn.Module):
    """Cuts a clip into tubelets and projects them: a convolution with kernel = stride, as the matrix product it is.

    The weight is the convolution's, flattened: (D, P) with P in (channel, frame, row, column) order.
    """

    def __init__(self, config: SurgVistaConfig) -> None:
        super().__init__()
        self.config = config
        self.projection = nn.Linear(
            config.num_channels * config.tubelet_size * config.patch_size**2, config.hidden_size
        )
        self.projection.init_scheme = "convolution"  # type: ignore[assignment]

    def cut(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Cut clips (B, frames, channels, height, width) into tubelets (B, N, channels, tubelet · patch²)."""
        tubelet, patch = self.config.tubelet_size, self.config.patch_size
        time, rows, columns = self.config.token_grid(pixel_values.shape[1], *pixel_values.shape[3:])
        blocks = pixel_values.unflatten(4, (columns, patch)).unflatten(3, (rows, patch)).unflatten(1, (time, tubelet))
        # (B, T, tubelet, channels, R, patch, C, patch) -> (B, T, R, C, channels, tubelet, patch, patch) -> (B, N, channels, …)
        return blocks.permute(0, 1, 4, 6, 3, 2, 5, 7).flatten(5).flatten(1, 3)

    def forward(self, pixel_values: torch.Tensor, visible_indices: torch.Tensor | None = None) -> torch.Tensor:
        """Embed the tubelets of clips, (B, N, D), or only those at `visible_indices` (B, V): (B, V, D)."""
        patches = self.cut(pixel_values.to(self.projection.weight.dtype)).flatten(2)  # (B, N, P)
        if visible_indices is not None:
            patches = pick_tokens(patches, visible_indices)  # (B, V, P): masked tokens cost nothing
        return self.projection(patches)


class SurgVistaEmbeddings(nn.Module):
    """Adds positions to embedded patches. `(B, frames, channels, height, width) -> (B, V, D)`."""

    def __init__(self, config: SurgVistaConfig) -> None:
        super().__init__()
        self.patch_embeddings = SurgVistaPatchEmbeddings(config)
        self.positions = SurgVistaPositions(config, config.hidden_size)

    def forward(self, pixel_values: torch.Tensor, grid: Grid, visible_indices: torch.Tensor | None) -> torch.Tensor:
        """Embed the visible tokens of clips, or all where `visible_indices` is `None`."""
        embeddings = self.patch_embeddings(pixel_values, visible_indices)
        positions = self.positions(grid).to(embeddings.dtype)  # (N, D)
        return embeddings + (positions if visible_indices is None else positions[visible_indices])


# ---------------------------------------------------------------------------------------------- models


class SurgVistaPreTrainedModel(PreTrainedModel):
    """Holds what all SurgVISTA models share: loading, initialization and stochastic depth by keys."""

    config: SurgVistaConfig
    base_model_prefix = "surgvista"
    main_input_name = "pixel_values"
    input_modalities = "video"
    supports_gradient_checkpointing = True
    _no_split_modules = ["SurgVistaEmbeddings", "SurgVistaLayer"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _can_record_outputs = {"hidden_states": SurgVistaLayer, "attentions": SurgVistaAttention}

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str] | None, *args: object, **kwargs: Any
    ) -> Self:
        """Load a model as `PreTrainedModel.from_pretrained` does, with a helpful error where weights are unpublished."""
        name = pretrained_model_name_or_path
        with explain_missing_weights(name):
            return super().from_pretrained(name if name is None else folder_or_hub_name(name), *args, **kwargs)

    def set_drop_path_keys(self, keys: torch.Tensor | None) -> None:
        """Let stochastic depth depend on the clips of the next batch instead of PyTorch's global generator.

        Args:
            keys: int64 numbers (B,), one a clip; `None` goes back to the generator.
        """
        drop_paths = (module for module in self.modules() if isinstance(module, SurgVistaDropPath))
        for index, module in enumerate(drop_paths):
            module.index, module.keys = index, keys

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Initialize as published: Xavier-uniform with q, k and v as one matrix; patches as PyTorch's convolution."""
        super()._init_weights(module)
        if isinstance(module, nn.Linear):
            self._init_linear(module)
        elif isinstance(module, SurgVistaPositions):
            init.copy_(module.table, module.compute(module.grid, module.table.device))
        elif isinstance(module, SurgVistaDecoder):
            std = self.config.initializer_range if self.config.initialization == "xavier" else 0.0
            init.trunc_normal_(module.mask_token, std=std, a=-std, b=std) if std else init.zeros_(module.mask_token)
        elif isinstance(module, SurgVistaForPreTraining):
            init.copy_(module.pixel_mean, torch.tensor(self.config.image_mean)[:, None])
            init.copy_(module.pixel_std, torch.tensor(self.config.image_std)[:, None])

    def _init_linear(self, linear: nn.Linear) -> None:
        # transformers does not visit modules of foreign packages that own no tensors, so the layer itself says what it is.
        scheme = getattr(linear, "init_scheme", None)
        if self.config.initialization == "normal" and scheme != "classifier":
            init.trunc_normal_(linear.weight, std=self.config.initializer_range)
        elif scheme == "fused":
            bound = (6 / (linear.in_features + 3 * linear.out_features)) ** 0.5
            init.uniform_(linear.weight, -bound, bound)
        elif scheme == "convolution":
            bound = linear.in_features**-0.5
            init.uniform_(linear.weight, -bound, bound)
            init.uniform_(linear.bias, -bound, bound)
        elif scheme == "classifier":
            std = self.config.classifier_init_scale * self.config.initializer_range
            init.trunc_normal_(linear.weight, std=std) if std else init.zeros_(linear.weight)
        else:
            init.xavier_uniform_(linear.weight)


def mean_tokens(tokens: torch.Tensor, groups: int) -> torch.Tensor:
    """Return the means (B, groups, D) over consecutive groups of tokens (B, N, D), such as those of each tubelet."""
    return tokens.unflatten(1, (groups, -1)).mean(dim=2)


class SurgVistaModel(SurgVistaPreTrainedModel):
    r"""Encodes clips into tokens. `(B, frames, channels, height, width) -> (B, N, D)`.

    Args:
        config: the configuration.
        add_final_norm: apply the final layer normalization, by default as `config.final_norm` says. The classification model
            goes without: it normalizes after pooling.

    Example:
        >>> import torch
        >>> from surgvista_hf import SurgVistaConfig, SurgVistaModel
        >>> model = SurgVistaModel(SurgVistaConfig(image_size=32, num_frames=4, num_hidden_layers=1)).eval()
        >>> model(torch.zeros(1, 4, 3, 32, 32)).last_hidden_state.shape
        torch.Size([1, 8, 768])
    """

    def __init__(self, config: SurgVistaConfig, add_final_norm: bool | None = None) -> None:
        super().__init__(config)
        add_final_norm = config.final_norm if add_final_norm is None else add_final_norm
        self.embeddings = SurgVistaEmbeddings(config)
        self.encoder = SurgVistaEncoder(
            config, config.hidden_size, config.num_hidden_layers, config.num_attention_heads
        )
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps) if add_final_norm else None
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the layer that embeds the input."""
        return self.embeddings.patch_embeddings.projection

    def token_grid(self, pixel_values: torch.Tensor) -> Grid:
        """Return the temporal indices, rows and columns of tokens in `pixel_values` (B, frames, channels, height, width).

        Raises:
            InputError: a wrong shape.
        """
        if pixel_values.ndim != 5 or pixel_values.shape[2] != self.config.num_channels:
            raise InputError(
                f"pixel_values has shape {tuple(pixel_values.shape)}; "
                f"(batch, frames, {self.config.num_channels} channels, height, width) is needed"
            )
        return self.config.token_grid(pixel_values.shape[1], *pixel_values.shape[3:])

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        pixel_values: torch.Tensor,
        bool_masked_pos: torch.Tensor | None = None,
        visible_indices: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> BaseModelOutput:
        """Encode clips.

        Args:
            pixel_values: normalized frames (B, frames, channels, height, width). Any frame count that is a multiple of the
                tubelet, any frame size that is a multiple of the patch.
            bool_masked_pos: mask (B, N), True where a token is masked, the same number in every clip. On an accelerator and
                in a compiled graph that number must be the configured one.
            visible_indices: visible tokens (B, V) in ascending order, instead of `bool_masked_pos`: any number.
            kwargs: `output_hidden_states`, `output_attentions`, `return_dict`.

        Returns:
            `last_hidden_state` (B, V, D), after the final norm. `hidden_states` are taken before it.

        Raises:
            InputError: shapes that do not fit.
        """
        grid = self.token_grid(pixel_values)
        if bool_masked_pos is not None:
            mask = _check_mask(bool_masked_pos, pixel_values.shape[0], grid)
            num_masked = count_masked(mask, self.config.num_masked_tokens(grid))
            visible_indices, _ = split_tokens(mask.to(pixel_values.device), num_masked)
        hidden_states = self.encoder(self.embeddings(pixel_values, grid, visible_indices))  # (B, V, D), or (B, N, D)
        if self.layernorm is not None:
            hidden_states = self.layernorm(hidden_states)
        return BaseModelOutput(last_hidden_state=hidden_states)

    def extract_features(
        self, pixel_values: torch.Tensor, *, per_tubelet: bool = False, normalize: bool = True
    ) -> torch.Tensor:
        """Return one feature vector for each clip, or for each tubelet of `tubelet_size` frames.

        Args:
            pixel_values: normalized frames (B, frames, channels, height, width).
            per_tubelet: keep time: one vector a tubelet, for temporal models.
            normalize: average tokens after the final norm; otherwise before it.

        Returns:
            (B, D), or (B, tubelets, D) with `per_tubelet`.
        """
        if normalize:
            tokens = self(pixel_values).last_hidden_state
        else:
            tokens = self.encoder(self.embeddings(pixel_values, self.token_grid(pixel_values), None))
        return mean_tokens(tokens, self.token_grid(pixel_values)[0]) if per_tubelet else tokens.mean(dim=1)


class SurgVistaDecoder(SurgVistaPreTrainedModel):
    """Predicts pixels or features of every masked token from the visible ones. `(B, V, D) -> (B, M, output size)`.

    Args:
        config: the configuration.
        width, num_layers, num_heads: size of the decoder.
        output_size: width of the prediction for one token.
        num_mask_tokens: number of different mask tokens.
    """

    def __init__(
        self,
        config: SurgVistaConfig,
        *,
        width: int,
        num_layers: int,
        num_heads: int,
        output_size: int,
        num_mask_tokens: int = 1,
    ) -> None:
        super().__init__(config)
        self.projection = nn.Linear(config.hidden_size, width)
        self.mask_token = nn.Parameter(torch.zeros(num_mask_tokens, 1, width))
        self.positions = SurgVistaPositions(config, width)
        self.encoder = SurgVistaEncoder(config, width, num_layers, num_heads)
        self.layernorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.head = nn.Linear(width, output_size)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the layer that embeds the input."""
        return self.projection

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        visible_tokens: torch.Tensor,
        visible_indices: torch.Tensor,
        masked_indices: torch.Tensor,
        grid: Grid,
        mask_token: int = 0,
        **kwargs: Unpack[TransformersKwargs],
    ) -> SurgVistaDecoderOutput:
        """Predict the masked tokens.

        Args:
            visible_tokens: the encoder's output (B, V, D).
            visible_indices, masked_indices: indices of the tokens, (B, V) and (B, M), ascending.
            grid: temporal indices, rows and columns of tokens.
            mask_token: index of the mask token that stands for the masked tokens.
            kwargs: `output_hidden_states`, `output_attentions`, `return_dict`.

        Returns:
            `logits` (B, M, output size); of all tokens when none is masked.
        """
        visible = self.projection(visible_tokens)  # (B, V, d)
        positions = self.positions(grid).to(visible.dtype)  # (N, d)
        masked = self.mask_token[mask_token] + positions[masked_indices]  # (B, M, d)
        hidden_states = self.encoder(torch.cat([visible + positions[visible_indices], masked], dim=1))
        num_masked = masked_indices.shape[1]
        # The reference predicts every token when nothing is masked; -0 keeps all of them.
        return SurgVistaDecoderOutput(logits=self.head(self.layernorm(hidden_states[:, -num_masked:])))


_IMAGE_LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "smooth_l1": F.smooth_l1_loss,
    "l1": F.l1_loss,
    "l2": F.mse_loss,
}


class SurgVistaForPreTraining(SurgVistaPreTrainedModel):
    r"""Trains the encoder with its two decoders: masked video reconstruction and distillation of an image teacher.

    Example:
        >>> import torch
        >>> from surgvista_hf import SurgVistaConfig, SurgVistaForPreTraining
        >>> config = SurgVistaConfig(image_size=32, num_frames=4, num_hidden_layers=1, mask_ratio=0.5)
        >>> mask = torch.tensor([[True, False, True, False] * 2])
        >>> SurgVistaForPreTraining(config)(torch.zeros(1, 4, 3, 32, 32), mask).video_logits.shape
        torch.Size([1, 4, 1536])
    """

    # The Trainer divides the loss by the batches of a step; every clip has as many masked tokens.
    accepts_loss_kwargs = False
    pixel_mean: torch.Tensor
    pixel_std: torch.Tensor

    def __init__(self, config: SurgVistaConfig) -> None:
        super().__init__(config)
        self.surgvista = SurgVistaModel(config)
        self.video_decoder = SurgVistaDecoder(
            config,
            width=config.video_decoder_hidden_size,
            num_layers=config.video_decoder_num_hidden_layers,
            num_heads=config.video_decoder_num_attention_heads,
            output_size=config.num_channels * config.tubelet_size * config.patch_size**2,
        )
        self.image_decoder = None
        if config.image_decoder_num_hidden_layers:
            self.image_decoder = SurgVistaDecoder(
                config,
                width=config.image_decoder_hidden_size,
                num_layers=config.image_decoder_num_hidden_layers,
                num_heads=config.image_decoder_num_attention_heads,
                output_size=config.image_target_size,
            )
        self.register_buffer("pixel_mean", torch.tensor(config.image_mean)[:, None], persistent=False)
        self.register_buffer("pixel_std", torch.tensor(config.image_std)[:, None], persistent=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the layer that embeds the input."""
        return self.surgvista.get_input_embeddings()

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        bool_masked_pos: torch.Tensor,
        teacher_features: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> SurgVistaForPreTrainingOutput:
        """Reconstruct masked tubelets and, given teacher features, predict those of the masked tokens.

        Args:
            pixel_values: normalized frames (B, frames, channels, height, width).
            bool_masked_pos: mask (B, N), True where a token is masked, the same number in every clip.
            teacher_features: the teacher's features of all tokens, (B, N, image_target_size); those of the masked ones are
                picked here. Without them the image decoder does not run: a plain masked autoencoder.
            kwargs: `output_hidden_states`, `output_attentions`, `return_dict`.

        Raises:
            InputError: shapes that do not fit, or teacher features for a model without an image decoder.
        """
        grid = self.surgvista.token_grid(pixel_values)
        mask = _check_mask(bool_masked_pos, pixel_values.shape[0], grid)
        num_masked = count_masked(mask, self.config.num_masked_tokens(grid))
        visible, masked = split_tokens(mask.to(pixel_values.device), num_masked)

        encoded = self.surgvista(pixel_values, visible_indices=visible, **kwargs)
        video = self.video_decoder(encoded.last_hidden_state, visible, masked, grid, **kwargs)
        # The decoders speak of all tokens when nothing is masked, so the targets do too.
        predicted = masked if num_masked else visible
        video_loss = F.mse_loss(video.logits.float(), self.video_targets(pixel_values, predicted))
        loss = self.config.video_loss_weight * video_loss

        image, image_loss = SurgVistaDecoderOutput(), None
        if teacher_features is not None:
            decoder = self._image_decoder_for(teacher_features, mask)
            image = decoder(encoded.last_hidden_state, visible, masked, grid, **kwargs)
            image_loss = _IMAGE_LOSSES[self.config.image_loss_type](
                image.logits.float(), self.image_targets(teacher_features, predicted)
            )
            loss = loss + self.config.image_loss_weight * image_loss

        return SurgVistaForPreTrainingOutput(
            loss=loss,
            video_loss=video_loss,
            image_loss=image_loss,
            video_logits=video.logits,
            image_logits=image.logits,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
            video_decoder_hidden_states=video.hidden_states,
            video_decoder_attentions=video.attentions,
            image_decoder_hidden_states=image.hidden_states,
            image_decoder_attentions=image.attentions,
        )

    def _image_decoder_for(self, teacher_features: torch.Tensor, mask: torch.Tensor) -> SurgVistaDecoder:
        if self.image_decoder is None:
            raise InputError("teacher_features were given, but image_decoder_num_hidden_layers is 0: no image decoder")
        expected = (*mask.shape, self.config.image_target_size)
        if tuple(teacher_features.shape) != expected:
            raise InputError(
                f"teacher_features has shape {tuple(teacher_features.shape)}; {expected} is needed: "
                "(batch, all tokens, image_target_size)"
            )
        return self.image_decoder

    def _pixels(self, pixel_values: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        """Return the pixels in [0, 1] of the tokens at `indices` (B, K): (B, K, channels, tubelet · patch²), fp32."""
        patches = self.surgvista.embeddings.patch_embeddings.cut(pixel_values)
        picked = pick_tokens(patches.flatten(2), indices).unflatten(2, patches.shape[2:])
        return picked.float() * self.pixel_std + self.pixel_mean

    @torch.no_grad()
    def video_targets(self, pixel_values: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        """Return the targets of the pixel decoder for the tokens at `indices`.

        With `norm_pix_loss` every token is normalized per color channel: minus its mean, over its standard deviation
        (unbiased) plus 1e-6.

        Args:
            pixel_values: normalized frames (B, frames, channels, height, width).
            indices: indices of K tokens of each clip, (B, K).

        Returns:
            Targets (B, K, P), fp32, each row in (frame, row, column, channel) order.
        """
        pixels = self._pixels(pixel_values, indices)
        if self.config.norm_pix_loss:
            std, mean = torch.std_mean(pixels, dim=3, keepdim=True)
            pixels = (pixels - mean) / (std + 1e-6)
        return pixels.transpose(2, 3).flatten(2)  # (B, K, channels, tubelet · patch²) -> (B, K, P)

    @torch.no_grad()
    def image_targets(self, teacher_features: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        """Return the targets of the image decoder: the teacher's features (B, N, width) at `indices` (B, K), fp32."""
        features = pick_tokens(teacher_features, indices).float()
        if self.config.norm_teacher_features:
            features = F.layer_norm(features, features.shape[-1:], eps=1e-6)
        return features

    @torch.no_grad()
    def reconstruct(self, pixel_values: torch.Tensor, bool_masked_pos: torch.Tensor) -> torch.Tensor:
        """Replace the masked tubelets of clips by the predicted ones.

        With `norm_pix_loss` the decoder predicts normalized tubelets; they get the true mean and deviation back, as is
        usual in reconstruction figures (He et al., CVPR 2022).

        Args:
            pixel_values: normalized frames (B, frames, channels, height, width).
            bool_masked_pos: mask (B, N), True where a token is masked.

        Returns:
            Normalized frames of the same shape; visible tubelets are those of `pixel_values`, unchanged.

        Example:
            >>> clip = model.reconstruct(inputs["pixel_values"], mask)  # doctest: +SKIP
        """
        logits = self(pixel_values, bool_masked_pos).video_logits.float()  # (B, M, P)
        grid = self.surgvista.token_grid(pixel_values)
        mask = bool_masked_pos.bool()
        _, masked = split_tokens(mask.to(pixel_values.device), count_masked(mask, self.config.num_masked_tokens(grid)))
        if not masked.shape[1]:
            return pixel_values.clone()
        # (B, M, P) -> (B, M, channels, tubelet · patch²), the order in which `cut` gives tubelets
        predicted = logits.unflatten(2, (-1, self.config.num_channels)).transpose(2, 3)
        if self.config.norm_pix_loss:
            std, mean = torch.std_mean(self._pixels(pixel_values, masked), dim=3, keepdim=True)
            predicted = predicted * (std + 1e-6) + mean
        predicted = ((predicted - self.pixel_mean) / self.pixel_std).to(pixel_values.dtype)
        patches = self.surgvista.embeddings.patch_embeddings.cut(pixel_values).flatten(2)  # (B, N, P)
        index = masked[:, :, None].expand(-1, -1, patches.shape[2])
        return self._join(patches.scatter(1, index, predicted.flatten(2)), grid)

    def _join(self, patches: torch.Tensor, grid: Grid) -> torch.Tensor:
        """Join tubelets (B, N, P) to clips (B, frames, channels, height, width); the inverse of `cut`."""
        patch, (time, rows, columns) = self.config.patch_size, grid
        channels, tubelet = self.config.num_channels, self.config.tubelet_size
        blocks = patches.reshape(-1, time, rows, columns, channels, tubelet, patch, patch)
        frames = blocks.permute(0, 1, 5, 4, 2, 6, 3, 7)  # (B, T, tubelet, channels, R, patch, C, patch)
        return frames.reshape(-1, time * tubelet, channels, rows * patch, columns * patch)


class SurgVistaForVideoClassification(SurgVistaPreTrainedModel):
    r"""Classifies clips: the encoder, the mean over all tokens, layer normalization, dropout, one linear layer.

    `config.problem_type` chooses the loss: `"single_label_classification"` (labels (B,), integers) or
    `"multi_label_classification"` (labels (B, classes), floats).

    Example:
        >>> import torch
        >>> from surgvista_hf import SurgVistaConfig, SurgVistaForVideoClassification
        >>> config = SurgVistaConfig(image_size=32, num_frames=4, num_hidden_layers=1, num_labels=7)
        >>> SurgVistaForVideoClassification(config)(torch.zeros(1, 4, 3, 32, 32)).logits.shape
        torch.Size([1, 7])
    """

    # The final norm of a pre-trained encoder is not used here: the recipe normalizes after pooling.
    _keys_to_ignore_on_load_unexpected = [
        r"^(surgvista\.)?layernorm\.",
        r"^(video_decoder|image_decoder|predictor|target_encoder)\.",
    ]

    def __init__(self, config: SurgVistaConfig) -> None:
        super().__init__(config)
        self.num_labels = int(config.num_labels or 0)
        self.surgvista = SurgVistaModel(config, add_final_norm=False)
        self.fc_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(config.hidden_size, self.num_labels)
        self.classifier.init_scheme = "classifier"  # type: ignore[assignment]
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the layer that embeds the input."""
        return self.surgvista.get_input_embeddings()

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ImageClassifierOutput:
        """Classify clips.

        Args:
            pixel_values: normalized frames (B, frames, channels, height, width).
            labels: class numbers (B,), or floats (B, classes) for a multi-label problem.
            kwargs: `num_items_in_batch` of the Trainer, `output_hidden_states`, `output_attentions`, `return_dict`.

        Returns:
            `logits` (B, classes) and, with labels, `loss`.
        """
        num_items = kwargs.pop("num_items_in_batch", None)  # of a whole optimizer step, see `classification_loss`
        outputs = self.surgvista(pixel_values, **kwargs)
        pooled = self.fc_norm(outputs.last_hidden_state.mean(dim=1))  # (B, N, D) -> (B, D)
        logits = self.classifier(self.dropout(pooled))
        loss = None if labels is None else classification_loss(logits, labels, self.config, num_items)
        return ImageClassifierOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )

    def extract_features(self, pixel_values: torch.Tensor, *, per_tubelet: bool = False) -> torch.Tensor:
        """Return the input of the classifier: tokens averaged, then normalized.

        Args:
            pixel_values: normalized frames (B, frames, channels, height, width).
            per_tubelet: keep time: one vector for each tubelet of `tubelet_size` frames, for temporal models.

        Returns:
            (B, D), or (B, tubelets, D) with `per_tubelet`.
        """
        return self.fc_norm(self.surgvista.extract_features(pixel_values, per_tubelet=per_tubelet))
