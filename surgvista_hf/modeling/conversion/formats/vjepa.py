"""V-JEPA 1 and 2, SurgRec-JEPA and SurgMotion: the keys say which of the two a checkpoint is.

| | paper | weights | license |
|---|---|---|---|
| SurgRec-JEPA | arXiv 2603.29966 | SichengLu/SurgRec on the Hub, `surgrec_jepa.pt` | CC BY-NC 4.0 |
| SurgMotion | arXiv 2602.05638 | CAIR-HKISI on the Hub, on request | look it up |
| V-JEPA | arXiv 2404.08471 | github.com/facebookresearch/jepa | CC BY-NC 4.0 |
| V-JEPA 2 | arXiv 2506.09985 | github.com/facebookresearch/vjepa2; converted: facebook/vjepa2-vitl-fpc64-256 | MIT |

| all | |
|---|---|
| key layout | `encoder`, `predictor`, `target_encoder`, each after `module.backbone.`; fused `attn.qkv` with bias |
| with `pos_embed` | `SurgVistaModel` with V-JEPA's fixed table (`sincos_3d_equal`), checked against the stored; no predictor |
| without | positions are rotary: `VJEPA2Model`, encoder and predictor |
| preprocessing | ImageNet's mean and deviation; 16 frames of 224², every 4th (V-JEPA), or 256² (V-JEPA 2) |

The release of SurgRec reads `encoder`, the network that was trained, not `target_encoder`, its slow average; `part=` chooses
another.
"""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from transformers import VJEPA2Config, VJEPA2Model

from ...configuration_surgvista import SurgVistaConfig
from ...modeling_surgvista import SurgVistaModel, sincos_3d_equal_table
from ...processors import make_processor, make_surgvista_processor
from ..family import (
    Blueprint,
    Family,
    HubFile,
    Tensors,
    encoder_sizes,
    make_config,
    num_blocks,
    parameter_shapes,
    prefix_of,
    refuse_class_token,
    shape_of,
    tubelet_of,
)
from ..mapping import Naming, Source, fused_source, renamed, surgvista_naming, unmap_tensors
from ..reading import CONTAINERS
from .surgvista import check_tables

_PREDICTOR = "predictor."
_PREDICTOR_DEFAULTS = {384: 12}  # width -> heads, as published

_FRAME_STRIDE = 4  # seconds, see surgrec.py


def _plan(tensors: Tensors, said: Mapping[str, Any], **usual: Any) -> Blueprint:
    encoder = {name: tensor for name, tensor in tensors.items() if not name.startswith(_PREDICTOR)}
    refuse_class_token(encoder)
    prefix = prefix_of(encoder, "patch_embed.proj.weight")
    if f"{prefix}pos_embed" in tensors:
        return _plan_fixed(tensors, said, prefix)
    return _plan_rotary(tensors, {**usual, **said}, prefix)


# ------------------------------------------------------------------------------------- a stored table: V-JEPA 1


def _plan_fixed(tensors: Tensors, said: Mapping[str, Any], prefix: str) -> Blueprint:
    found = {
        **encoder_sizes(tensors, prefix),
        "tubelet_size": tubelet_of(tensors, prefix),
        "position_embedding_type": "sincos_3d_equal",
        "key_bias": True,
        "initialization": "normal",
    }
    config = make_config(SurgVistaConfig, found, said)
    check_tables(tensors, config, prefix)
    return Blueprint(
        SurgVistaModel,
        config,
        tensors,
        parameter_shapes(SurgVistaModel, config),
        surgvista_naming(prefix, fused_bias=True),
        make_surgvista_processor(config, frame_stride=_FRAME_STRIDE),
        ignored=(
            (r"predictor\.", "only used in pre-training"),
            (r".*pos_embed", "fixed table, computed; checked against the stored one"),
        ),
    )


def _restore_fixed(tensors: Tensors, config: SurgVistaConfig) -> dict[str, torch.Tensor]:
    patch = (config.num_channels, config.tubelet_size, config.patch_size, config.patch_size)
    table = sincos_3d_equal_table(config.token_grid(config.num_frames, *config.frame_size), config.hidden_size)
    original = unmap_tensors(tensors, surgvista_naming("backbone.", fused_bias=True), patch)
    return {**original, "backbone.pos_embed": table[None]}


# ------------------------------------------------------------------------------------- rotary: V-JEPA 2


def _plan_rotary(tensors: Tensors, said: Mapping[str, Any], prefix: str) -> Blueprint:
    sizes = encoder_sizes(tensors, prefix)
    found = {
        **{name: sizes[name] for name in ("hidden_size", "patch_size", "num_hidden_layers", "mlp_ratio")},
        "in_chans": sizes["num_channels"],
        "tubelet_size": tubelet_of(tensors, prefix),
    }
    heads: tuple[str, ...] = ("",)
    predictor = _PREDICTOR
    has_predictor = any(name.startswith(_PREDICTOR) for name in tensors)
    if has_predictor:
        heads = ("", "pred_")
        predictor = prefix_of(tensors, "predictor_embed.weight")
        found |= _predictor_sizes(tensors, predictor)
        if found["pred_hidden_size"] in _PREDICTOR_DEFAULTS:
            said = {"pred_num_attention_heads": _PREDICTOR_DEFAULTS[found["pred_hidden_size"]], **said}
        tensors = _with_stacked_mask_tokens(tensors, predictor)
    config = make_config(VJEPA2Config, found, said, heads)
    return Blueprint(
        VJEPA2Model,
        config,
        tensors,
        parameter_shapes(VJEPA2Model, config),
        _rotary_naming(prefix, predictor),
        make_processor("vjepa2", (config.crop_size, config.crop_size), config.frames_per_clip),
        may_be_absent=() if has_predictor else (_PREDICTOR,),
        ignored=((r".*mask_tokens\.\d+$", "stacked into one tensor"),),
    )


def _predictor_sizes(tensors: Tensors, prefix: str) -> dict[str, Any]:
    width = shape_of(tensors, f"{prefix}predictor_embed.weight")[0]
    return {
        "pred_hidden_size": width,
        "pred_num_hidden_layers": num_blocks(tensors, f"{prefix}predictor_blocks."),
        "pred_mlp_ratio": shape_of(tensors, f"{prefix}predictor_blocks.0.mlp.fc1.weight")[0] / width,
        "pred_num_mask_tokens": len(_mask_tokens(tensors, prefix)),
    }


def _mask_tokens(tensors: Tensors, prefix: str) -> list[str]:
    names = [name for name in tensors if re.fullmatch(rf"{re.escape(prefix)}mask_tokens\.\d+", name)]
    return sorted(names, key=lambda name: int(name.rpartition(".")[2]))


def _with_stacked_mask_tokens(tensors: Tensors, prefix: str) -> Tensors:
    names = _mask_tokens(tensors, prefix)
    return {**tensors, f"{prefix}mask_tokens": torch.stack([tensors[name] for name in names])} if names else tensors


def _rotary_naming(prefix: str, predictor: str) -> Naming:
    """V-JEPA 2's names for those of `VJEPA2Model`."""

    def source(target: str) -> Source:
        rules = (
            (r"^encoder\.embeddings\.patch_embeddings\.", f"{prefix}patch_embed."),
            (r"^encoder\.layer\.", f"{prefix}blocks."),
            (r"^encoder\.layernorm\.", f"{prefix}norm."),
            (r"^predictor\.embeddings\.predictor_embeddings\.", f"{predictor}predictor_embed."),
            (r"^predictor\.embeddings\.mask_tokens$", f"{predictor}mask_tokens"),
            (r"^predictor\.layer\.", f"{predictor}predictor_blocks."),
            (r"^predictor\.layernorm\.", f"{predictor}predictor_norm."),
            (r"^predictor\.proj\.", f"{predictor}predictor_proj."),
            (r"\.attention\.", ".attn."),
        )
        return fused_source(renamed(target, rules))

    return source


def _restore_rotary(tensors: Tensors, config: VJEPA2Config) -> dict[str, torch.Tensor]:
    """Encoder under `backbone.`, predictor under `predictor.backbone.`, mask tokens one by one."""
    prefix = f"{_PREDICTOR}backbone."
    original = unmap_tensors(tensors, _rotary_naming("backbone.", prefix))
    stacked = original.pop(f"{prefix}mask_tokens")
    return original | {f"{prefix}mask_tokens.{i}": token for i, token in enumerate(stacked.clone().unbind())}


_restore: dict[str, Any] = {SurgVistaConfig.model_type: _restore_fixed, VJEPA2Config.model_type: _restore_rotary}
_joint_embedding = partial(
    Family,
    restore=_restore,
    becomes="SurgVistaModel where `pos_embed` is stored, else VJEPA2Model",
    checked="tokens of V-JEPA's formulas, written out, on a tiny model, with fixed and with rotary positions",
    containers=("encoder", "target_encoder", *CONTAINERS),
    beside=("predictor",),
)

FAMILIES = (
    _joint_embedding(
        "surgrec-jepa",
        "SurgRec-JEPA",
        "Scaling Video Pretraining for Surgical Foundation Models (SurgRec), arXiv 2603.29966",
        "huggingface.co/SichengLu/SurgRec",
        "cc-by-nc-4.0",
        partial(_plan, crop_size=224, frames_per_clip=16),
        input="16 frames of 224×224, every 4th",
        unknown="which V-JEPA it is: its keys will say",
        hub=HubFile("SichengLu/SurgRec", "surgrec_jepa.pt"),
    ),
    _joint_embedding(
        "surgmotion",
        "SurgMotion",
        "SurgMotion: A Video-Native Foundation Model for Universal Understanding of Surgical Videos, arXiv 2602.05638",
        "huggingface.co/CAIR-HKISI/SurgMotion-vitl",
        "other",
        partial(_plan, crop_size=256, frames_per_clip=16),
        input="256×256, as V-JEPA 2; the number of frames was not found",
        unknown="key names, frame size and number, license of the released files, which are given out on request",
    ),
    _joint_embedding(
        "vjepa",
        "V-JEPA",
        "Revisiting Feature Prediction for Learning Visual Representations from Video (V-JEPA), arXiv 2404.08471",
        "github.com/facebookresearch/jepa",
        "cc-by-nc-4.0",
        partial(_plan, crop_size=224, frames_per_clip=16),
        input="16 frames of 224×224, every 4th",
    ),
    _joint_embedding(
        "vjepa2",
        "V-JEPA 2",
        "V-JEPA 2: Self-Supervised Video Models Enable Understanding, Prediction and Planning, arXiv 2506.09985",
        "github.com/facebookresearch/vjepa2",
        "mit",
        partial(_plan, crop_size=256, frames_per_clip=64),
        input="64 frames of 256×256",
    ),
)
