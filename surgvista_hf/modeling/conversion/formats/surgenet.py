"""SurgeNet and SurgeNetXL: image encoders of three architectures, told apart by their keys.

| | |
|---|---|
| paper | SurgeNetXL, arXiv 2501.09436; SurgeNet, workshop DEMI at MICCAI 2024 |
| weights | TimJaspersTue/SurgeNetModels on the Hub; by its page: |
| CAFormer-S18 | `SurgeNetXL_checkpoint_epoch0050_teacher.pth`, and with `SurgeNet`, `SurgeNetSmall`, `CHOLEC`, `RAMIE`, … |
| ConvNeXt V2 Tiny | `SurgeNet_ConvNextv2_checkpoint_epoch0050_teacher.pth` |
| PVT v2 B2 | `SurgeNet_PVTv2_checkpoint_epoch0050_teacher.pth` |
| license | CC BY-NC 4.0 (its page on the Hub) |
| key layout | read: those of the architectures' authors, and timm's, after any prefix, under `teacher` or at the top |
| preprocessing | 224² squeezed, ImageNet's mean and deviation: the usual one, not stated on its page |
| becomes | CAFormer: `TimmWrapperModel`; ConvNeXt V2: `ConvNextV2Model`; PVT v2: `PvtV2Model` |
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from transformers import ConvNextV2Config, ConvNextV2Model, PvtV2Config, PvtV2Model, TimmWrapperConfig

from ..family import (
    Blueprint,
    Family,
    HubFile,
    Tensors,
    image_processor,
    make_config,
    num_blocks,
    parameter_shapes,
    prefix_of,
    shape_of,
)
from ..mapping import Naming, Source, fused_source, renamed, unmap_tensors
from ..reading import CONTAINERS, CheckpointError
from .convnext import LAYOUTS, convnext_naming, plan_convnext
from .timm_models import plan_timm

_HEADS = (
    (r"(.*\.)?head\.(mlp|last_layer)\.", "the projection head of self-distillation"),
    (r"(.*\.)?head\.", "a classifier; it is no part of the encoder"),
)
_CAFORMERS = ("caformer_s18", "caformer_s36", "caformer_m36", "caformer_b36")
_PVT_HEADS = [1, 2, 5, 8]  # in every published size


def _plan(tensors: Tensors, said: Mapping[str, Any]) -> Blueprint:
    names = tuple(tensors)
    if any(name.endswith((".grn.gamma", ".grn.weight")) for name in names):
        return plan_convnext(ConvNextV2Model, tensors, said, _HEADS)
    if any(".token_mixer." in name for name in names):
        return _plan_caformer(tensors, said)
    if any(".attn.kv." in name for name in names):
        return _plan_pvt(tensors, said)
    raise CheckpointError("the checkpoint is no CAFormer, ConvNeXt V2 or PVT v2: it is not of this family")


# ------------------------------------------------------------------------------------- CAFormer


def _plan_caformer(tensors: Tensors, said: Mapping[str, Any]) -> Blueprint:
    authors = any("downsample_layers." in name for name in tensors)
    prefix = prefix_of(tensors, "downsample_layers.0.conv.weight" if authors else "stem.conv.weight")
    naming = (
        _authors_caformer(prefix) if authors else lambda target: Source(prefix + target.removeprefix("timm_model."))
    )
    return plan_timm(_CAFORMERS, tensors, said, naming, _HEADS)


def _authors_caformer(prefix: str) -> Naming:
    """The names of MetaFormer's authors for those of timm."""

    def source(target: str) -> Source:
        rules = (
            (r"^stem\.conv\.", "downsample_layers.0.conv."),
            (r"^stem\.norm\.", "downsample_layers.0.post_norm."),
            (r"^stages\.(\d+)\.downsample\.norm\.", r"downsample_layers.\1.pre_norm."),
            (r"^stages\.(\d+)\.downsample\.conv\.", r"downsample_layers.\1.conv."),
            (r"^stages\.(\d+)\.blocks\.", r"stages.\1."),
            (r"^head\.norm\.", "norm."),
        )
        return Source(prefix + renamed(target.removeprefix("timm_model."), rules))

    return source


# ------------------------------------------------------------------------------------- PVT v2


def _plan_pvt(tensors: Tensors, said: Mapping[str, Any]) -> Blueprint:
    """The layout of PVT v2's authors; each stage has a patch embedding, blocks and a norm, counted from 1."""
    prefix = prefix_of(tensors, "patch_embed1.proj.weight")
    patches = [shape_of(tensors, f"{prefix}patch_embed{stage}.proj.weight") for stage in range(1, 5)]
    widths = [shape[0] for shape in patches]
    hidden = [shape_of(tensors, f"{prefix}block{stage}.0.mlp.fc1.weight")[0] for stage in range(1, 5)]
    found = {
        "num_channels": patches[0][1],
        "hidden_sizes": widths,
        "patch_sizes": [shape[-1] for shape in patches],
        "depths": [num_blocks(tensors, f"{prefix}block{stage}.") for stage in range(1, 5)],
        "mlp_ratios": [inner // width for inner, width in zip(hidden, widths, strict=True)],
        "sr_ratios": [_reduction(tensors, f"{prefix}block{stage}.0.attn.sr.weight") for stage in range(1, 5)],
    }
    defaults = {"num_attention_heads": _PVT_HEADS, "layer_norm_eps": 1e-6, "image_size": 224}
    config = make_config(PvtV2Config, found, {**defaults, **said}, ())
    targets, processor = parameter_shapes(PvtV2Model, config), image_processor(config.image_size)
    return Blueprint(PvtV2Model, config, tensors, targets, _pvt_naming(prefix), processor, ignored=_HEADS)


def _reduction(tensors: Tensors, name: str) -> int:
    return tensors[name].shape[-1] if name in tensors else 1


def _pvt_naming(prefix: str) -> Naming:
    def source(target: str) -> Source:
        name = re.sub(r"^encoder\.layers\.(\d+)\.", lambda match: f"{int(match[1]) + 1}|", target)
        rules = (
            (r"^(\d)\|patch_embedding\.layer_norm\.", r"patch_embed\1.norm."),
            (r"^(\d)\|patch_embedding\.", r"patch_embed\1."),
            (r"^(\d)\|layer_norm\.", r"norm\1."),
            (r"^(\d)\|blocks\.", r"block\1."),
            (r"\.attention\.query\.", ".attn.q."),
            (r"\.attention\.spatial_reduction\.", ".attn.sr."),
            (r"\.attention\.layer_norm\.", ".attn.norm."),
            (r"\.attention\.", ".attn."),
            (r"\.layer_norm_(\d)\.", r".norm\1."),
            (r"\.mlp\.dense(\d)\.", r".mlp.fc\1."),
        )
        return fused_source(prefix + renamed(name, rules), ("key", "value"), "kv")

    return source


# ------------------------------------------------------------------------------------- the way back


def _restore_caformer(tensors: Tensors, config: TimmWrapperConfig) -> dict[str, torch.Tensor]:
    """Point-wise convolutions are linear layers in the authors' program."""
    original = unmap_tensors(tensors, _authors_caformer(""))
    linear = re.compile(r"\.(pwconv\d|fc\d|qkv|proj)\.weight$")
    return {name: tensor.flatten(1) if linear.search(name) else tensor for name, tensor in original.items()}


def _restore_convnext(tensors: Tensors, config: ConvNextV2Config) -> dict[str, torch.Tensor]:
    return unmap_tensors(tensors, convnext_naming(LAYOUTS[2], ""))


def _restore_pvt(tensors: Tensors, config: PvtV2Config) -> dict[str, torch.Tensor]:
    return unmap_tensors(tensors, _pvt_naming(""))


FAMILIES = (
    Family(
        "surgenet",
        "SurgeNet, SurgeNetXL",
        "Scaling up self-supervised learning for improved surgical foundation models (SurgeNetXL), arXiv 2501.09436",
        "huggingface.co/TimJaspersTue/SurgeNetModels",
        "cc-by-nc-4.0",
        _plan,
        {
            TimmWrapperConfig.model_type: _restore_caformer,
            ConvNextV2Config.model_type: _restore_convnext,
            PvtV2Config.model_type: _restore_pvt,
        },
        input="224×224",
        becomes="TimmWrapperModel (CAFormer), ConvNextV2Model or PvtV2Model",
        checked="features of timm's CAFormer, ConvNeXt V2 and PVT v2, in the layouts of their authors as timm reads them",
        unknown="key names, prefixes and normalization of the released files",
        hub=HubFile("TimJaspersTue/SurgeNetModels", "SurgeNetXL_checkpoint_epoch0050_teacher.pth"),
        containers=("teacher", *CONTAINERS),
        image_teacher=True,
    ),
)
