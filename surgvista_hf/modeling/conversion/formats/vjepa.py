"""V-JEPA 1 and 2, and SurgRec-JEPA and SurgMotion, which are their networks: the family decides which of the two.

| | paper | weights | license | positions |
|---|---|---|---|---|
| SurgRec-JEPA | arXiv 2603.29966 | SichengLu/SurgRec on the Hub, `surgrec_jepa.pt` | CC BY-NC 4.0 | fixed |
| SurgMotion | arXiv 2602.05638 | CAIR-HKISI/SurgMotion on the Hub, on request | look it up | rotary |
| V-JEPA | arXiv 2404.08471 | github.com/facebookresearch/jepa | CC BY-NC 4.0 | fixed |
| V-JEPA 2 | arXiv 2506.09985 | github.com/facebookresearch/vjepa2; converted: facebook/vjepa2-vitl-fpc64-256 | MIT | rotary |

| all | |
|---|---|
| key layout | `encoder`, `predictor`, `target_encoder`, each after `module.backbone.`; fused `attn.qkv` with bias |
| fixed | `SurgVistaModel` with V-JEPA's table (`sincos_3d_equal`), checked against the stored one; no predictor |
| rotary | `VJEPA2Model`, encoder and predictor; a stored `pos_embed` is left over from the program and never added |
| preprocessing | V-JEPA 1, 2: short side of 256/224 of the crop, bilinear without antialiasing, then the middle |
| SurgMotion's files | `SurgMotion-vitl.pt`, `SurgMotion-vitg-xformer.pt` (width 1408, depth 40, 22 heads) |
| SurgMotion's | frames are squeezed to 512² first (PIL, bicubic); 64 frames one second apart |
| SurgRec-JEPA's | squeezed to 224², bilinear with antialiasing (PIL) |

The evaluations of V-JEPA 1 read `target_encoder`, the slow average, and so does this converter. The releases of SurgRec,
SurgMotion and V-JEPA 2 read `encoder`. `part=` chooses the other. SurgRec's own fine-tuning program reads its file into a
VideoMAE network with other positions and without the final norm; what is converted here is the network that was trained.
"""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from transformers import VJEPA2Config, VJEPA2Model

from ...configuration_surgvista import SurgVistaConfig
from ...modeling_surgvista import SurgVistaModel, sincos_3d_equal_table
from ...processors import make_encoder_processor
from ...video_processing_encoder_surgvista import SurgicalVideoProcessor
from ..family import (
    Blueprint,
    Family,
    HubFile,
    Processor,
    Sizes,
    Tensors,
    Values,
    encoder_sizes,
    make_config,
    num_blocks,
    parameter_shapes,
    prefix_of,
    refuse_class_token,
    shape_of,
    short_side_processor,
    tubelet_of,
)
from ..mapping import Naming, Source, fused_source, renamed, surgvista_naming, unmap_tensors
from ..reading import CONTAINERS, CheckpointError
from .surgvista import check_tables

_PREDICTOR = "predictor."
_PREDICTOR_DEFAULTS = {384: 12}  # width -> heads, as published
_MOST_MASKS_OF_FIRST = 4  # V-JEPA 1 has one mask token for each of its two kinds of mask, V-JEPA 2 has ten
_ROTARY_NAMES = {"image_size": "crop_size", "num_frames": "frames_per_clip"}  # other families' names for the same
_FRAME_STRIDE = 4  # seconds, see surgrec.py
_EVALUATION_SCALE = 256 / 224  # short side over crop in the evaluations of V-JEPA 1 and 2
_STORED_SIZE = {"height": 512, "width": 512}  # SurgMotion's data set class squeezes every frame to this first


def _encoder_prefix(tensors: Tensors) -> str:
    """Return what stands before the encoder's names."""
    encoder = {name: tensor for name, tensor in tensors.items() if not name.startswith(_PREDICTOR)}
    refuse_class_token(encoder)
    return prefix_of(encoder, "patch_embed.proj.weight")


def _count_mask_tokens(tensors: Tensors) -> int:
    return sum(re.fullmatch(r"predictor\.(.*\.)?mask_tokens\.\d+", name) is not None for name in tensors)


# ------------------------------------------------------------------------------------- fixed positions: V-JEPA 1


def _plan_fixed(tensors: Tensors, overrides: Values, make: Callable[[SurgVistaConfig], Processor]) -> Blueprint:
    """Plan a V-JEPA 1, which stores its fixed table and adds it; a file without one was trained with rotary positions."""
    prefix = _encoder_prefix(tensors)
    if f"{prefix}pos_embed" not in tensors:
        raise CheckpointError(
            "the checkpoint stores no pos_embed, which every V-JEPA 1 does: its positions are rotary, so it is a V-JEPA 2"
        )
    if _count_mask_tokens(tensors) > _MOST_MASKS_OF_FIRST:
        raise CheckpointError(
            f"the predictor has {_count_mask_tokens(tensors)} mask tokens; V-JEPA 1 has two, V-JEPA 2 has ten. "
            "The positions of V-JEPA 2 are rotary, whether or not it stores a table"
        )
    found = {
        **encoder_sizes(tensors, prefix),
        "tubelet_size": tubelet_of(tensors, prefix),
        "position_embedding_type": "sincos_3d_equal",
        "key_bias": True,
        "initialization": "normal",
    }
    config = make_config(SurgVistaConfig, found, overrides)
    check_tables(tensors, config, prefix)
    return Blueprint(
        SurgVistaModel,
        config,
        tensors,
        parameter_shapes(SurgVistaModel, config),
        surgvista_naming(prefix, fused_bias=True),
        make(config),
        ignored=(
            (r"predictor\.", "only used in pre-training"),
            (r".*pos_embed", "fixed table, computed; checked against the stored one"),
        ),
        twins=("surgrec-jepa", "vjepa"),
    )


def _restore_fixed(tensors: Tensors, config: SurgVistaConfig) -> dict[str, torch.Tensor]:
    patch = (config.num_channels, config.tubelet_size, config.patch_size, config.patch_size)
    table = sincos_3d_equal_table(config.token_grid(config.num_frames, *config.frame_size), config.hidden_size)
    original = unmap_tensors(tensors, surgvista_naming("backbone.", fused_bias=True), patch)
    return {**original, "backbone.pos_embed": table[None]}


# ------------------------------------------------------------------------------------- rotary: V-JEPA 2


def _plan_rotary(
    tensors: Tensors, overrides: Values, make: Callable[[VJEPA2Config], Processor], **usual: Any
) -> Blueprint:
    """Plan a V-JEPA 2. Its programs may store a table of fixed positions; the network does not use it."""
    prefix = _encoder_prefix(tensors)
    if "pred_num_mask_tokens" not in overrides:
        _refuse_first_v_jepa(tensors, prefix)
    overrides = {**usual, **{_ROTARY_NAMES.get(name, name): value for name, value in overrides.items()}}
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
            overrides = {"pred_num_attention_heads": _PREDICTOR_DEFAULTS[found["pred_hidden_size"]], **overrides}
        tensors = _with_stacked_mask_tokens(tensors, predictor)
    config = make_config(VJEPA2Config, found, overrides, heads)
    return Blueprint(
        VJEPA2Model,
        config,
        tensors,
        parameter_shapes(VJEPA2Model, config),
        _rotary_naming(prefix, predictor),
        make(config),
        may_be_absent=() if has_predictor else (_PREDICTOR,),
        ignored=(
            (r".*mask_tokens\.\d+$", "stacked into one tensor"),
            (r".*pos_embed$", "a fixed table that the network does not use: its positions are rotary"),
        ),
        twins=("surgmotion", "vjepa2"),
    )


def _refuse_first_v_jepa(tensors: Tensors, prefix: str) -> None:
    """Refuse what looks like V-JEPA 1: a stored table and a predictor for two kinds of mask."""
    count = _count_mask_tokens(tensors)
    if f"{prefix}pos_embed" in tensors and 0 < count <= _MOST_MASKS_OF_FIRST:
        raise CheckpointError(
            f"the checkpoint stores a table of positions and {count} mask tokens, as V-JEPA 1 does, whose positions are "
            "fixed; V-JEPA 2 has ten. If its positions are rotary all the same, say "
            f"config={{'pred_num_mask_tokens': {count}}}"
        )


def _predictor_sizes(tensors: Tensors, prefix: str) -> Sizes:
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
    """Return V-JEPA 2's names for those of `VJEPA2Model`."""

    def _source(target: str) -> Source:
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

    return _source


def _restore_rotary(tensors: Tensors, config: VJEPA2Config) -> dict[str, torch.Tensor]:
    """Put the encoder under `backbone.`, the predictor under `predictor.backbone.`, mask tokens one by one."""
    prefix = f"{_PREDICTOR}backbone."
    original = unmap_tensors(tensors, _rotary_naming("backbone.", prefix))
    stacked = original.pop(f"{prefix}mask_tokens")
    return original | {f"{prefix}mask_tokens.{i}": token for i, token in enumerate(stacked.clone().unbind())}


def _short_side(config: SurgVistaConfig | VJEPA2Config, **fields: Any) -> SurgicalVideoProcessor:
    return short_side_processor(config, scale=_EVALUATION_SCALE, **fields)


def _squeezed(config: SurgVistaConfig) -> SurgicalVideoProcessor:
    options: Sizes = {"frame_stride": _FRAME_STRIDE, "arithmetic": "pillow", "antialias": True}
    return make_encoder_processor(config.model_type, config.frame_size, config.num_frames, **options)


_first = partial(
    Family,
    restore={SurgVistaConfig.model_type: _restore_fixed},
    becomes="SurgVistaModel",
    beside=("predictor",),
)
_second = partial(
    Family,
    restore={VJEPA2Config.model_type: _restore_rotary},
    becomes="VJEPA2Model",
    containers=("encoder", "target_encoder", *CONTAINERS),
    beside=("predictor",),
)

FAMILIES = (
    _first(
        "surgrec-jepa",
        "SurgRec-JEPA",
        "Scaling Video Pretraining for Surgical Foundation Models (SurgRec), arXiv 2603.29966",
        "huggingface.co/SichengLu/SurgRec",
        "cc-by-nc-4.0",
        partial(_plan_fixed, make=_squeezed),
        input="16 frames of 224×224, every 4th",
        preparation="squeezed, bilinear with antialiasing (PIL); ImageNet's mean and deviation",
        checked="V-JEPA 1's network and SurgRec's validation transform: tokens and pixels",
        hub=HubFile("SichengLu/SurgRec", "surgrec_jepa.pt"),
        containers=("encoder", "target_encoder", *CONTAINERS),
    ),
    _second(
        "surgmotion",
        "SurgMotion",
        "SurgMotion: A Video-Native Foundation Model for Universal Understanding of Surgical Videos, arXiv 2602.05638",
        "huggingface.co/CAIR-HKISI/SurgMotion (SurgMotion-vitl.pt, SurgMotion-vitg-xformer.pt)",
        "other",
        partial(
            _plan_rotary,
            make=partial(_short_side, storage_size=_STORED_SIZE, frame_stride=1),
            crop_size=256,
            frames_per_clip=64,
        ),
        input="64 frames of 256×256, one a second",
        preparation="squeezed to 512×512 (bicubic), short side 292 (bilinear), middle 256×256; ImageNet's mean and deviation",
        checked="SurgMotion's network and evaluation transform: tokens and pixels, with and without a stored table",
        unknown="the released files, which are given out on request: their predictor, and whether they store a table",
        hub=HubFile("CAIR-HKISI/SurgMotion", "SurgMotion-vitl.pt"),
    ),
    _first(
        "vjepa",
        "V-JEPA",
        "Revisiting Feature Prediction for Learning Visual Representations from Video (V-JEPA), arXiv 2404.08471",
        "github.com/facebookresearch/jepa",
        "cc-by-nc-4.0",
        partial(_plan_fixed, make=partial(_short_side, frame_stride=_FRAME_STRIDE)),
        input="16 frames of 224×224, every 4th",
        preparation="short side 256 (bilinear), middle 224×224; ImageNet's mean and deviation",
        checked="V-JEPA 1's network and evaluation transform: tokens and pixels",
        containers=("target_encoder", "encoder", *CONTAINERS),
    ),
    _second(
        "vjepa2",
        "V-JEPA 2",
        "V-JEPA 2: Self-Supervised Video Models Enable Understanding, Prediction and Planning, arXiv 2506.09985",
        "github.com/facebookresearch/vjepa2",
        "mit",
        partial(_plan_rotary, make=_short_side, crop_size=256, frames_per_clip=64),
        input="64 frames of 256×256",
        preparation="short side 292 (bilinear), middle 256×256; ImageNet's mean and deviation",
        checked="V-JEPA 2's network, predictor and evaluation transform: tokens and pixels, with and without a stored table",
    ),
)
