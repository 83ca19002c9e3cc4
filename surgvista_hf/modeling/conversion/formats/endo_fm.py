"""Endo-FM, a video transformer for endoscopy that becomes transformers' `TimesformerModel`.

| | |
|---|---|
| paper | MICCAI 2023, arXiv 2306.16741 |
| weights | github.com/med-air/Endo-FM, a link to Google Drive |
| license | Apache-2.0 |
| key layout | TimeSformer's under `teacher`, after `backbone.`: `time_embed`, `temporal_attn`, `temporal_fc`; `head.*` |
| preprocessing | 8 frames, every 32nd; short side 256 (bilinear, in fp32), middle 224²; mean 0.45, deviation 0.225 |
| feature | class token after the final norm |
"""

import torch
from transformers import TimesformerConfig, TimesformerModel

from ..family import (
    Blueprint,
    Family,
    Tensors,
    Values,
    make_config,
    parameter_shapes,
    prefix_of,
    shape_of,
    short_side_processor,
)
from ..mapping import Naming, Source, renamed, unmap_tensors
from ..reading import CONTAINERS
from .vit import vit_sizes

_FRAME_STRIDE = 1  # seconds: 32 frames of videos with about 30 a second


def _plan(tensors: Tensors, overrides: Values) -> Blueprint:
    prefix = prefix_of(tensors, "time_embed")
    shape_of(tensors, f"{prefix}blocks.0.temporal_fc.weight")
    shape_of(tensors, f"{prefix}blocks.0.attn.qkv.bias")
    found = {
        **vit_sizes(tensors, shape_of(tensors, f"{prefix}pos_embed")[1] - 1, prefix),
        "num_frames": shape_of(tensors, f"{prefix}time_embed")[1],
        "attention_type": "divided_space_time",
    }
    config = make_config(TimesformerConfig, found, {"layer_norm_eps": 1e-6, **overrides})
    config.frame_feature = "first"
    processor = short_side_processor(
        config,
        scale=256 / 224,
        arithmetic="float",
        crop_rounding="up",
        mean=(0.45, 0.45, 0.45),
        std=(0.225, 0.225, 0.225),
        frame_stride=_FRAME_STRIDE,
    )
    targets = parameter_shapes(TimesformerModel, config)
    ignored = ((r"head\.", "the projection head of self-distillation"),)
    return Blueprint(TimesformerModel, config, tensors, targets, _naming(prefix), processor, ignored=ignored)


def _naming(prefix: str) -> Naming:
    """Return where the tensors of a `TimesformerModel` lie after a prefix."""
    rules = (
        (r"^embeddings\.position_embeddings$", "pos_embed"),
        (r"^embeddings\.time_embeddings$", "time_embed"),
        (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
        (r"^embeddings\.", ""),
        (r"^encoder\.layer\.", "blocks."),
        (r"^layernorm\.", "norm."),
        (r"\.(temporal_)?attention\.attention\.qkv\.", r".\1attn.qkv."),
        (r"\.(temporal_)?attention\.output\.dense\.", r".\1attn.proj."),
        (r"\.temporal_dense\.", ".temporal_fc."),
        (r"\.temporal_layernorm\.", ".temporal_norm1."),
        (r"\.layernorm_before\.", ".norm1."),
        (r"\.layernorm_after\.", ".norm2."),
        (r"\.intermediate\.dense\.", ".mlp.fc1."),
        (r"\.output\.dense\.", ".mlp.fc2."),
    )
    return lambda target: Source(prefix + renamed(target, rules))


def _restore(tensors: Tensors, config: TimesformerConfig) -> dict[str, torch.Tensor]:
    return unmap_tensors(tensors, _naming("backbone."))


FAMILIES = (
    Family(
        "endo-fm",
        "Endo-FM",
        "Foundation Model for Endoscopy Video Analysis via Large-scale Self-supervised Pre-train, MICCAI 2023, "
        "arXiv 2306.16741",
        "github.com/med-air/Endo-FM",
        "apache-2.0",
        _plan,
        {TimesformerConfig.model_type: _restore},
        input="8 frames of 224×224, every 32nd",
        becomes="TimesformerModel",
        checked="its network and evaluation transform: all tokens and pixels",
        preparation="short side 256 (bilinear, unrounded), middle 224×224; mean 0.45, deviation 0.225",
        unknown="the released file",
        containers=("teacher", *CONTAINERS),
        usage="A clip's feature is its class token, `last_hidden_state[:, 0]`.\n",
    ),
)
