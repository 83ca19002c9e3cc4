"""SurgVISTA, and MVD, whose program it grew out of.

| | SurgVISTA | MVD |
|---|---|---|
| paper | npj Digital Medicine 2026, arXiv 2506.02692 | CVPR 2023, arXiv 2212.04500 |
| weights | announced, github.com/isyangshu/SurgVISTA | github.com/ruiwang2021/mvd |
| license | CC BY-NC-ND 4.0 (its README) | CC BY-NC 4.0 |
| becomes | pre-training model, classifier or bare encoder | classifier |

| both | |
|---|---|
| key layout | `patch_embed.proj`, `blocks.<i>` with `qkv.weight`, `q_bias`, `v_bias`; `pos_embed`, a fixed table |
| SurgVISTA's decoders | `decoder_vid`, `decoder_img`, each with `down_…`, `mask_token_…`, `pos_embed_…` |
| preprocessing | 16 frames of 224², ImageNet's mean and deviation; SurgVISTA squeezes, MVD cuts the middle of short side 224 |
"""

import re
from collections.abc import Callable

import torch
from transformers import PreTrainedModel

from ...configuration_surgvista import SurgVistaConfig
from ...modeling_surgvista import (
    POSITION_TABLES,
    SurgVistaForPreTraining,
    SurgVistaForVideoClassification,
    SurgVistaModel,
    sincos_3d_table,
)
from ...processors import make_surgvista_processor
from ..family import (
    Blueprint,
    Family,
    Processor,
    Sizes,
    Tensors,
    Values,
    encoder_sizes,
    make_config,
    num_blocks,
    parameter_shapes,
    refuse_class_token,
    shape_of,
    short_side_processor,
    tubelet_of,
)
from ..mapping import Naming, surgvista_naming, unmap_tensors
from ..reading import CheckpointError

PRETRAINING_PARTS = (
    (r"(decoder|down|mask_token|encoder_to_decoder|clip_decoder)", "only used in pre-training"),
    (r".*cls_token", "the network has no class token"),
)
# Fine-tuned files of these store no positions, by which they differ.
FINE_TUNED_TWINS = ("surgvista", "mvd", "videomae", "surgrec-mae", "umt")
_BARE_TWINS = ("surgvista", "mvd")  # encoders alone
_FRESH_HEAD = ("fc_norm.", "classifier.")
_NORM_AFTER_POOLING = (r"norm\.", "the recipe normalizes after pooling; the final norm has no place")


def _plan_surgvista(tensors: Tensors, overrides: Values) -> Blueprint:
    """Plan a model with both decoders, one with a head, or a bare encoder, `SurgVistaModel`."""
    refuse_class_token(tensors)
    found = {
        **encoder_sizes(tensors, ""),
        "tubelet_size": tubelet_of(tensors, ""),
        "position_embedding_type": "sincos_3d",
    }
    heads: tuple[str, ...] = ("",)
    ignored: tuple[tuple[str, str], ...] = ((r"pos_embed", "fixed table, computed; checked against the stored one"),)
    model_class: type[PreTrainedModel] = SurgVistaModel
    if any(name.startswith("decoder_vid.") for name in tensors):
        if not _gives_pixels(tensors):
            raise CheckpointError("the video decoder gives features, as MVD's; SurgVISTA's gives pixels")
        model_class, heads = SurgVistaForPreTraining, ("", "video_decoder_", "image_decoder_")
        found |= _decoder_sizes(tensors)
    elif "head.weight" in tensors or "fc_norm.weight" in tensors:
        return plan_classifier(tensors, overrides, positions="sincos_3d")
    config = make_config(SurgVistaConfig, found, overrides, heads)
    check_tables(tensors, config)
    targets = parameter_shapes(model_class, config)
    processor = make_surgvista_processor(config)
    twins = _BARE_TWINS if model_class is SurgVistaModel else ()
    return Blueprint(
        model_class, config, tensors, targets, surgvista_naming(), processor, ignored=ignored, twins=twins
    )


def _gives_pixels(tensors: Tensors) -> bool:
    """Return whether the video decoder gives the pixels of a token."""
    patch = shape_of(tensors, "patch_embed.proj.weight")
    return shape_of(tensors, "decoder_vid.head.weight")[0] == patch[1:].numel()


def _decoder_sizes(tensors: Tensors) -> Sizes:
    sizes: Sizes = {"image_target_size": shape_of(tensors, "decoder_img.head.weight")[0]}
    for ours, theirs in (("video_decoder", "vid"), ("image_decoder", "img")):
        sizes[f"{ours}_hidden_size"] = shape_of(tensors, f"down_{theirs}.weight")[0]
        sizes[f"{ours}_num_hidden_layers"] = num_blocks(tensors, f"decoder_{theirs}.blocks.")
    return sizes


def check_tables(tensors: Tensors, config: SurgVistaConfig, prefix: str = "") -> None:
    """Verify that stored position tables are the ones that the model will compute.

    Raises:
        CheckpointError: a table of another size or of other numbers.
    """
    grid = config.token_grid(config.num_frames, *config.frame_size)
    for name in (f"{prefix}pos_embed", "pos_embed_vid", "pos_embed_img"):
        if name not in tensors:
            continue
        stored = tensors[name].float().squeeze(0)
        computed = POSITION_TABLES[config.position_embedding_type](grid, stored.shape[-1], None)
        if stored.shape != computed.shape:
            raise CheckpointError(
                f"{name} holds {stored.shape[0]} tokens; {config.num_frames} frames of {config.frame_size} pixels give "
                f"{computed.shape[0]}: say config={{'image_size': ..., 'num_frames': ...}}"
            )
        if stored.is_meta:  # only shapes are planned
            continue
        # 2e-3 admits tables stored in half precision.
        if not torch.allclose(stored, computed, atol=2e-3, rtol=0):
            raise CheckpointError(
                f"{name} is not the {config.position_embedding_type} table for {config.num_frames} frames of "
                f"{config.frame_size} pixels. Is this the right family?"
            )


def plan_classifier(
    tensors: Tensors,
    overrides: Values,
    *,
    positions: str,
    prefix: str = "",
    tubelet: int | None = None,
    defaults: Values | None = None,
    ignored: tuple[tuple[str, str], ...] = (),
    make: Callable[[SurgVistaConfig], Processor] = make_surgvista_processor,
    twins: tuple[str, ...] = (),
) -> Blueprint:
    """Plan a `SurgVistaForVideoClassification`; its head and `fc_norm` start fresh unless the checkpoint was fine-tuned."""
    if f"{prefix}patch_embed.proj.weight" not in tensors and "patch_embed.proj.weight" in tensors:
        prefix = ""  # fine-tuned checkpoints store the encoder without a prefix
    found = {
        **encoder_sizes(tensors, prefix),
        "tubelet_size": tubelet or tubelet_of(tensors, prefix),
        "position_embedding_type": positions,
        "key_bias": f"{prefix}blocks.0.attn.qkv.bias" in tensors,
    }
    is_fine_tuned = "fc_norm.weight" in tensors and "head.weight" in tensors
    if is_fine_tuned:
        found["num_labels"] = tensors["head.weight"].shape[0]
    else:  # a head without fc_norm belongs to another pooling
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("head.")}
        ignored = (*ignored, (r"head\.", "a classifier over another pooling; ours starts fresh"))
    config = make_config(SurgVistaConfig, found, {**(defaults or {}), **overrides})
    if config.tubelet_size > 1:  # image models learned other positions, which the recipe does not use
        check_tables(tensors, config, prefix)
    pattern, reason = _NORM_AFTER_POOLING
    return Blueprint(
        SurgVistaForVideoClassification,
        config,
        tensors,
        parameter_shapes(SurgVistaForVideoClassification, config),
        _prefixed_encoder(surgvista_naming(prefix, found["key_bias"])),
        make(config),
        _FRESH_HEAD,
        ((re.escape(prefix) + pattern, reason), (r".*pos_embed", "positions are a fixed table, computed"), *ignored),
        twins=(FINE_TUNED_TWINS if is_fine_tuned and config.tubelet_size > 1 else ()) + twins,
    )


def _prefixed_encoder(naming: Naming) -> Naming:
    """Prefix the names of the encoder only; `fc_norm` and `head` of a fine-tuned checkpoint never do."""
    plain = surgvista_naming()
    return lambda target: plain(target) if target.startswith(_FRESH_HEAD) else naming(target)


def _plan_mvd(tensors: Tensors, overrides: Values) -> Blueprint:
    """Plan a classifier from a student of MVD, whose decoders give features of teachers where SurgVISTA's gives pixels."""
    refuse_class_token(tensors)
    if "decoder_vid.head.weight" in tensors and _gives_pixels(tensors):
        raise CheckpointError(
            "the video decoder gives pixels, as SurgVISTA's; MVD's gives features: it is not of this family"
        )
    has_decoder = "decoder_vid.head.weight" in tensors
    return plan_classifier(
        tensors,
        overrides,
        positions="sincos_3d",
        ignored=PRETRAINING_PARTS,
        make=short_side_processor,
        twins=() if has_decoder or "fc_norm.weight" in tensors else _BARE_TWINS,
    )


def restore(tensors: Tensors, config: SurgVistaConfig, prefix: str = "") -> dict[str, torch.Tensor]:
    """Return original names and shapes; the encoder's under a prefix."""
    naming = surgvista_naming(prefix, config.key_bias)
    patch = (config.patch_size, config.patch_size)
    tubelet = (config.num_channels, config.tubelet_size) if config.tubelet_size > 1 else (config.num_channels,)
    original = unmap_tensors(tensors, _prefixed_encoder(naming) if prefix else naming, (*tubelet, *patch))
    return original | _stored_tables(config) if "mask_token_vid" in original else original


def _stored_tables(config: SurgVistaConfig) -> dict[str, torch.Tensor]:
    grid = config.token_grid(config.num_frames, *config.frame_size)
    widths = {
        "pos_embed": config.hidden_size,
        "pos_embed_vid": config.video_decoder_hidden_size,
        "pos_embed_img": config.image_decoder_hidden_size,
    }
    return {name: sincos_3d_table(grid, width)[None] for name, width in widths.items()}


FAMILIES = (
    Family(
        "surgvista",
        "SurgVISTA",
        "Large-scale Self-supervised Video Foundation Model for Intelligent Surgery, npj Digital Medicine 2026, "
        "arXiv 2506.02692",
        "github.com/isyangshu/SurgVISTA",
        "cc-by-nc-nd-4.0",
        _plan_surgvista,
        {SurgVistaConfig.model_type: restore},
        input="16 frames of 224×224",
        becomes="SurgVistaForPreTraining, SurgVistaForVideoClassification or SurgVistaModel",
        checked="all numbers of the original program on a tiny model; key layout of the base model",
        preparation="squeezed, bilinear without antialiasing; ImageNet's mean and deviation",
        unknown="the weights were announced but not published when this converter was written",
    ),
    Family(
        "mvd",
        "MVD (masked video distillation)",
        "Masked Video Distillation, CVPR 2023, arXiv 2212.04500",
        "github.com/ruiwang2021/mvd",
        "cc-by-nc-4.0",
        _plan_mvd,
        {SurgVistaConfig.model_type: restore},
        input="16 frames of 224×224",
        becomes="SurgVistaForVideoClassification",
        checked="MVD's networks and validation transform: features, logits and pixels",
        preparation="short side 224 (bilinear without antialiasing), middle 224×224; ImageNet's mean and deviation",
    ),
)
