"""SurgeNet and SurgeNetXL: image encoders of three architectures, told apart by their keys.

| | |
|---|---|
| paper | SurgeNetXL, arXiv 2501.09436; SurgeNet, workshop DEMI at MICCAI 2024 |
| weights | TimJaspersTue/SurgeNetModels on the Hub; by its page: |
| CAFormer-S18 | `SurgeNetXL_checkpoint_epoch0050_teacher.pth`, and with `SurgeNet`, `SurgeNetSmall`, `CHOLEC`, `RAMIE`, … |
| ConvNeXt V2 Tiny | `SurgeNet_ConvNextv2_checkpoint_epoch0050_teacher.pth` |
| PVT v2 B2 | `SurgeNet_PVTv2_checkpoint_epoch0050_teacher.pth` |
| license | CC BY-NC-SA 4.0 (LICENSE_MODELS.txt of its repository) |
| key layout | read: those of the architectures' authors, and timm's, after any prefix, under `teacher` or at the top |
| preprocessing | not stated; 224² squeezed, bilinear with antialiasing, ImageNet's mean and deviation are ours |
| CAFormer | `CaformerModel`, plain ReLU: the program has no learned activations, and ignores those that a file may hold |
| PVT v2 | `SurgeNetPvtModel`: eight norms have another epsilon than the rest, for which transformers has no option |
| ConvNeXt V2 | `ConvNextV2Model` |
"""

import re
from typing import NamedTuple

import torch
from transformers import ConvNextV2Config, ConvNextV2Model
from transformers.utils import logging

from ...configuration_surgenet import CaformerConfig, SurgeNetPvtConfig
from ...loading import frame_size
from ...modeling_surgenet import CaformerModel, SurgeNetPvtModel
from ..family import (
    Blueprint,
    Family,
    HubFile,
    Sizes,
    Tensors,
    Values,
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

logger = logging.get_logger(__name__)

_HEADS = (
    (r"(.*\.)?head\.(mlp|last_layer)\.", "the projection head of self-distillation"),
    (r"(.*\.)?head\.", "a classifier; it is no part of the encoder"),
)
_PVT_HEADS = [1, 2, 5, 8]  # in every published size


def _plan(tensors: Tensors, overrides: Values) -> Blueprint:
    names = tuple(tensors)
    if any(name.endswith((".grn.gamma", ".grn.weight")) for name in names):
        return plan_convnext(ConvNextV2Model, tensors, overrides, _HEADS)
    if any(".token_mixer." in name for name in names):
        return _plan_caformer(tensors, overrides)
    if any(".attn.kv." in name for name in names):
        return _plan_pvt(tensors, overrides)
    raise CheckpointError("the checkpoint is no CAFormer, ConvNeXt V2 or PVT v2: it is not of this family")


# ------------------------------------------------------------------------------------- CAFormer


def _plan_caformer(tensors: Tensors, overrides: Values) -> Blueprint:
    """Plan a CAFormer with plain ReLU, as SurgeNet's program builds it; the published CAFormer's has learned activations."""
    if "architecture" in overrides:  # what the converter asked for when it built timm's networks
        logger.warning("architecture is not needed: the sizes of a CAFormer are read from its tensors")
        overrides = {name: value for name, value in overrides.items() if name not in ("architecture", "model_args")}
    authors = any("downsample_layers." in name for name in tensors)
    names = _AUTHORS_NAMES if authors else _TIMM_NAMES
    prefix = prefix_of(tensors, names.first)
    found = _caformer_sizes(tensors, prefix, names)
    act = overrides.get("hidden_act", "relu")
    learned = [name for name in tensors if re.fullmatch(rf"{re.escape(prefix)}stages\..+\.act\d?\.(scale|bias)", name)]
    if learned and act == "relu":
        raise CheckpointError(
            f"the checkpoint has learned activations ({learned[0]}), which SurgeNet's networks, built with plain ReLU, do not "
            "use. If it is a CAFormer with StarReLU, say config={'hidden_act': 'star_relu'}"
        )
    config = make_config(CaformerConfig, found, overrides, ())
    return Blueprint(
        CaformerModel,
        config,
        tensors,
        parameter_shapes(CaformerModel, config),
        _caformer_naming(prefix, names),
        image_processor(frame_size(config)[0]),
        ignored=_HEADS,
    )


class _CaformerNames(NamedTuple):
    """Names of a program's CAFormer; `{s}` is the number of a stage.

    Args:
        first: The weight of the first convolution.
        first_norm: The norm behind it.
        downsampling, downsampling_norm: The convolution and the norm before a later stage.
        blocks: The beginning of a name before the number of a block.
        norm: The norm of the features.
    """

    first: str
    first_norm: str
    downsampling: str
    downsampling_norm: str
    blocks: str
    norm: str


_AUTHORS_NAMES = _CaformerNames(
    "downsample_layers.0.conv.weight",
    "downsample_layers.0.post_norm.",
    "downsample_layers.{s}.conv.",
    "downsample_layers.{s}.pre_norm.",
    "stages.{s}.",
    "norm.",
)
_TIMM_NAMES = _CaformerNames(
    "stem.conv.weight",
    "stem.norm.",
    "stages.{s}.downsample.conv.",
    "stages.{s}.downsample.norm.",
    "stages.{s}.blocks.",
    "head.norm.",
)
_PARTS_OF_CAFORMER = {
    "layernorm_before.": "norm1.",
    "layernorm_after.": "norm2.",
    "mixer.expansion.": "token_mixer.pwconv1.",
    "mixer.activation.": "token_mixer.act1.",
    "mixer.depthwise.": "token_mixer.dwconv.",
    "mixer.projection.": "token_mixer.pwconv2.",
    "mixer.qkv.": "token_mixer.qkv.",
    "mlp_in.": "mlp.fc1.",
    "activation.": "mlp.act.",
    "mlp_out.": "mlp.fc2.",
    "mixer_shortcut": "res_scale1.scale",
    "mlp_shortcut": "res_scale2.scale",
}
_STAGES_WITH_ATTENTION = 2  # from this stage on


def _caformer_sizes(tensors: Tensors, prefix: str, names: _CaformerNames) -> Sizes:
    stages: list[str] = []
    while num_blocks(tensors, prefix + names.blocks.format(s=len(stages))):
        stages.append(prefix + names.blocks.format(s=len(stages)))
    widths = [shape_of(tensors, f"{stage}0.norm1.weight")[0] for stage in stages]
    return {
        "num_channels": shape_of(tensors, prefix + names.first)[1],
        "hidden_sizes": widths,
        "depths": [num_blocks(tensors, stage) for stage in stages],
        "mlp_ratio": shape_of(tensors, f"{stages[0]}0.mlp.fc1.weight")[0] / widths[0],
        "expansion_ratio": shape_of(tensors, f"{stages[0]}0.token_mixer.pwconv1.weight")[0] / widths[0],
    }


def _caformer_naming(prefix: str, names: _CaformerNames) -> Naming:
    def _name(target: str) -> str:
        if match := re.fullmatch(r"stages\.(\d+)\.downsample\.(convolution|layernorm)\.(.+)", target):
            stage, kind, rest = match.groups()
            if stage == "0":
                return names.first.removesuffix("weight") + rest if kind == "convolution" else names.first_norm + rest
            return (names.downsampling if kind == "convolution" else names.downsampling_norm).format(s=stage) + rest
        if match := re.fullmatch(r"stages\.(\d+)\.layers\.(\d+)\.(.+)", target):
            stage, block, part = match.groups()
            if int(stage) >= _STAGES_WITH_ATTENTION:
                part = part.replace("mixer.projection.", "token_mixer.proj.")
            ours = next((name for name in _PARTS_OF_CAFORMER if part.startswith(name)), "")
            return f"{names.blocks.format(s=stage)}{block}.{_PARTS_OF_CAFORMER.get(ours, '')}{part.removeprefix(ours)}"
        return re.sub(r"^layernorm\.", names.norm, target)

    return lambda target: Source(prefix + _name(target))


# ------------------------------------------------------------------------------------- PVT v2


def _plan_pvt(tensors: Tensors, overrides: Values) -> Blueprint:
    """Plan a PVT v2 in the layout of its authors; each stage has a patch embedding, blocks and a norm, counted from 1."""
    prefix = prefix_of(tensors, "patch_embed1.proj.weight")
    patches = [shape_of(tensors, f"{prefix}patch_embed{stage}.proj.weight") for stage in range(1, 5)]
    widths = [shape[0] for shape in patches]
    inner_widths = [shape_of(tensors, f"{prefix}block{stage}.0.mlp.fc1.weight")[0] for stage in range(1, 5)]
    found = {
        "num_channels": patches[0][1],
        "hidden_sizes": widths,
        "patch_sizes": [shape[-1] for shape in patches],
        "depths": [num_blocks(tensors, f"{prefix}block{stage}.") for stage in range(1, 5)],
        "mlp_ratios": [inner // width for inner, width in zip(inner_widths, widths, strict=True)],
        "sr_ratios": [_reduction(tensors, f"{prefix}block{stage}.0.attn.sr.weight") for stage in range(1, 5)],
    }
    defaults = {"num_attention_heads": _PVT_HEADS, "layer_norm_eps": 1e-6, "image_size": 224}
    config = make_config(SurgeNetPvtConfig, found, {**defaults, **overrides}, ())
    targets, processor = parameter_shapes(SurgeNetPvtModel, config), image_processor(frame_size(config)[0])
    return Blueprint(SurgeNetPvtModel, config, tensors, targets, _pvt_naming(prefix), processor, ignored=_HEADS)


def _reduction(tensors: Tensors, name: str) -> int:
    return tensors[name].shape[-1] if name in tensors else 1


def _pvt_naming(prefix: str) -> Naming:
    def _source(target: str) -> Source:
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

    return _source


# ------------------------------------------------------------------------------------- the way back


def _restore_caformer(tensors: Tensors, config: CaformerConfig) -> dict[str, torch.Tensor]:
    return unmap_tensors(tensors, _caformer_naming("", _AUTHORS_NAMES))


def _restore_convnext(tensors: Tensors, config: ConvNextV2Config) -> dict[str, torch.Tensor]:
    return unmap_tensors(tensors, convnext_naming(LAYOUTS[2], ""))


def _restore_pvt(tensors: Tensors, config: SurgeNetPvtConfig) -> dict[str, torch.Tensor]:
    return unmap_tensors(tensors, _pvt_naming(""))


FAMILIES = (
    Family(
        "surgenet",
        "SurgeNet, SurgeNetXL",
        "Scaling up self-supervised learning for improved surgical foundation models (SurgeNetXL), arXiv 2501.09436",
        "huggingface.co/TimJaspersTue/SurgeNetModels",
        "cc-by-nc-sa-4.0",
        _plan,
        {
            CaformerConfig.model_type: _restore_caformer,
            ConvNextV2Config.model_type: _restore_convnext,
            SurgeNetPvtConfig.model_type: _restore_pvt,
        },
        input="224×224",
        becomes="CaformerModel, ConvNextV2Model or SurgeNetPvtModel",
        checked="SurgeNet's CAFormer, ConvNeXt V2 and PVT v2, and its whole training file: features",
        preparation="not stated by its authors; here squeezed, bilinear with antialiasing; ImageNet's mean and deviation",
        unknown="the released files and how their authors prepare images",
        hub=HubFile("TimJaspersTue/SurgeNetModels", "SurgeNetXL_checkpoint_epoch0050_teacher.pth"),
        containers=("teacher", *CONTAINERS),
        image_teacher=True,
    ),
)
