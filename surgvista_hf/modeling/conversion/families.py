"""The families of checkpoints that can be converted: where they come from, what they become, how their sizes are read.

| family            | paper                                     | becomes                                                  |
|-------------------|-------------------------------------------|----------------------------------------------------------|
| `surgvista`       | SurgVISTA, arXiv 2506.02692               | pre-training model, classifier, or the bare encoder      |
| `mvd`             | MVD, CVPR 2023                            | classifier, 3-D positions                                |
| `videomae`        | VideoMAE, NeurIPS 2022 (InternVideo 1 too)| classifier, 1-D positions                                |
| `umt`             | UMT, ICCV 2023                            | classifier, 1-D positions, patches inflated in time      |
| `mae`, `dino`,    | MAE, CVPR 2022; DINO, ICCV 2021;          | classifier over frames (tubelet 1), 1-D positions over   |
| `supervised`      | AugReg, TMLR 2022 (timm's files)          | time and space: as in SurgVISTA's comparison             |
| `endossl-teacher` | EndoSSL, MICCAI 2023                      | transformers' `ViTModel`                                 |

A new family is one more entry of `FAMILIES`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedModel, ViTConfig, ViTModel

from ...util.words import did_you_mean
from ..configuration_surgvista import SurgVistaConfig
from ..errors_surgvista import InputError
from ..modeling_surgvista import (
    POSITION_TABLES,
    SurgVistaForPreTraining,
    SurgVistaForVideoClassification,
    SurgVistaModel,
)
from .mapping import Naming, endossl_naming, surgvista_naming
from .reading import CheckpointError

Tensors = Mapping[str, torch.Tensor]

# Heads cannot be read from a tensor. These widths are the published ones (encoders and decoders).
_HEADS_OF_WIDTH = {192: 3, 384: 6, 512: 8, 640: 8, 768: 12, 1024: 16, 1280: 16}


@dataclass(frozen=True)
class Blueprint:
    """What a checkpoint becomes.

    Args:
        model_class: class of the model.
        config: its configuration.
        tensors: the checkpoint, prepared.
        targets: parameter name -> shape, under the names that the model is saved with.
        naming: where each is found in the checkpoint.
        may_be_absent: prefixes of parameters that start fresh when the checkpoint lacks them.
        ignored: (pattern of names, reason) of tensors that are left out knowingly.
    """

    model_class: type[PreTrainedModel]
    config: PreTrainedConfig
    tensors: Tensors
    targets: Mapping[str, torch.Size]
    naming: Naming
    may_be_absent: tuple[str, ...] = ()
    ignored: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Family:
    """Checkpoints that share one layout.

    Args:
        name: as given to `convert_checkpoint`.
        title: for people.
        paper: where it was published.
        source: where its weights are found.
        licence: of the weights, as the Hub writes it; "other" where it must be looked up.
        plan: (tensors, what the caller said of the configuration) -> blueprint.
        naming: configuration -> names, for the way back.
        model_type: type of the configuration that it becomes.
        usage: lines for the model card.
    """

    name: str
    title: str
    paper: str
    source: str
    licence: str
    plan: Callable[[Tensors, Mapping[str, Any]], Blueprint]
    naming: Callable[[Any], Naming]
    model_type: str = SurgVistaConfig.model_type
    usage: str = ""


# ------------------------------------------------------------------------------------- reading sizes from tensors


def _shape(tensors: Tensors, name: str) -> torch.Size:
    if name not in tensors:
        raise CheckpointError(f"the checkpoint has no tensor {name}: it is not of this family")
    return tensors[name].shape


def _num_blocks(tensors: Tensors, prefix: str) -> int:
    pattern = re.compile(rf"{re.escape(prefix)}blocks\.(\d+)\.")
    return 1 + max((int(match[1]) for name in tensors if (match := pattern.match(name))), default=-1)


def _encoder_sizes(tensors: Tensors, prefix: str) -> dict[str, Any]:
    patch = _shape(tensors, f"{prefix}patch_embed.proj.weight")
    if len(patch) not in (4, 5) or patch[-1] != patch[-2]:
        raise CheckpointError(f"{prefix}patch_embed.proj.weight has shape {tuple(patch)}; square patches are needed")
    return {
        "hidden_size": patch[0],
        "num_channels": patch[1],
        "patch_size": patch[-1],
        "num_hidden_layers": _num_blocks(tensors, prefix),
        "mlp_ratio": _shape(tensors, f"{prefix}blocks.0.mlp.fc1.weight")[0] / patch[0],
    }


def _make_config(
    config_class: type[PreTrainedConfig],
    found: dict[str, Any],
    said: Mapping[str, Any],
    heads: tuple[str, ...] = ("",),
) -> Any:
    """A configuration from what the tensors show and what the caller says; they may not contradict each other."""
    known = set(config_class().to_dict()) | {"num_labels"}
    for name, value in said.items():
        if name not in known:
            raise InputError(f"{config_class.__name__} has no option {name!r}; {did_you_mean(name, known)}")
        if name in found and found[name] != value:
            raise CheckpointError(f"config= says {name}={value}, the tensors of the checkpoint say {found[name]}")
    merged = {**found, **said}
    for block in heads:
        width = merged[f"{block}hidden_size"]
        if f"{block}num_attention_heads" not in merged:
            if width not in _HEADS_OF_WIDTH:
                raise InputError(
                    f"the number of heads cannot be read from a checkpoint, and {width} is no published width: "
                    f"say config={{'{block}num_attention_heads': ...}}"
                )
            merged[f"{block}num_attention_heads"] = _HEADS_OF_WIDTH[width]
    return config_class(**merged)


def _parameter_shapes(model_class: type[PreTrainedModel], config: PreTrainedConfig) -> dict[str, torch.Size]:
    with torch.device("meta"):
        model = model_class(config)
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


# ------------------------------------------------------------------------------------- SurgVISTA and its relatives

_FRESH_HEAD = ("fc_norm.", "classifier.")
_NORM_AFTER_POOLING = (r"norm\.", "the recipe normalises after pooling; the final norm has no place")


def _refuse_class_token(tensors: Tensors) -> None:
    if "cls_token" in tensors:
        raise CheckpointError(
            "the checkpoint has a class token, which changes every output; models with one do not exist here"
        )


def _plan_surgvista(tensors: Tensors, said: Mapping[str, Any]) -> Blueprint:
    """Pre-training checkpoints hold both decoders, fine-tuned ones a head; a bare encoder is a `SurgVistaModel`."""
    _refuse_class_token(tensors)
    found = {
        **_encoder_sizes(tensors, ""),
        "tubelet_size": _tubelet(tensors, ""),
        "position_embedding_type": "sincos_3d",
    }
    heads: tuple[str, ...] = ("",)
    ignored: tuple[tuple[str, str], ...] = ((r"pos_embed", "fixed table, computed; checked against the stored one"),)
    model_class: type[PreTrainedModel] = SurgVistaModel
    if any(name.startswith("decoder_vid.") for name in tensors):
        model_class, heads = SurgVistaForPreTraining, ("", "video_decoder_", "image_decoder_")
        found |= _decoder_sizes(tensors)
    elif "head.weight" in tensors or "fc_norm.weight" in tensors:
        return _plan_classifier(tensors, said, positions="sincos_3d")
    config = _make_config(SurgVistaConfig, found, said, heads)
    _check_tables(tensors, config)
    return Blueprint(
        model_class, config, tensors, _parameter_shapes(model_class, config), surgvista_naming(), ignored=ignored
    )


def _tubelet(tensors: Tensors, prefix: str) -> int:
    shape = _shape(tensors, f"{prefix}patch_embed.proj.weight")
    return shape[2] if len(shape) == 5 else 1


def _decoder_sizes(tensors: Tensors) -> dict[str, Any]:
    sizes: dict[str, Any] = {"image_target_size": _shape(tensors, "decoder_img.head.weight")[0]}
    for ours, theirs in (("video_decoder", "vid"), ("image_decoder", "img")):
        sizes[f"{ours}_hidden_size"] = _shape(tensors, f"down_{theirs}.weight")[0]
        sizes[f"{ours}_num_hidden_layers"] = _num_blocks(tensors, f"decoder_{theirs}.")
    return sizes


def _check_tables(tensors: Tensors, config: SurgVistaConfig, prefix: str = "") -> None:
    """Stored position tables must be the ones that the model will compute."""
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
        # 2e-3 admits tables stored in half precision.
        if not torch.allclose(stored, computed, atol=2e-3, rtol=0):
            raise CheckpointError(
                f"{name} is not the {config.position_embedding_type} table for {config.num_frames} frames of "
                f"{config.frame_size} pixels. Is this the right family?"
            )


def _plan_classifier(
    tensors: Tensors,
    said: Mapping[str, Any],
    *,
    positions: str,
    prefix: str = "",
    tubelet: int | None = None,
    defaults: Mapping[str, Any] | None = None,
    ignored: tuple[tuple[str, str], ...] = (),
) -> Blueprint:
    """A `SurgVistaForVideoClassification`; its head and `fc_norm` start fresh unless the checkpoint was fine-tuned."""
    if f"{prefix}patch_embed.proj.weight" not in tensors and "patch_embed.proj.weight" in tensors:
        prefix = ""  # fine-tuned checkpoints store the encoder without a prefix
    found = {
        **_encoder_sizes(tensors, prefix),
        "tubelet_size": tubelet or _tubelet(tensors, prefix),
        "position_embedding_type": positions,
        "key_bias": f"{prefix}blocks.0.attn.qkv.bias" in tensors,
    }
    if "fc_norm.weight" in tensors and "head.weight" in tensors:
        found["num_labels"] = tensors["head.weight"].shape[0]
    else:  # a head without fc_norm belongs to another pooling
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("head.")}
        ignored = (*ignored, (r"head\.", "a classifier over another pooling; ours starts fresh"))
    config = _make_config(SurgVistaConfig, found, {**(defaults or {}), **said})
    if config.tubelet_size > 1:  # image models learned other positions, which the recipe does not use
        _check_tables(tensors, config, prefix)
    pattern, reason = _NORM_AFTER_POOLING
    return Blueprint(
        SurgVistaForVideoClassification,
        config,
        tensors,
        _parameter_shapes(SurgVistaForVideoClassification, config),
        _prefixed_encoder(surgvista_naming(prefix, found["key_bias"])),
        _FRESH_HEAD,
        ((re.escape(prefix) + pattern, reason), (r".*pos_embed", "positions are a fixed table, computed"), *ignored),
    )


def _prefixed_encoder(naming: Naming) -> Naming:
    """Only the encoder carries the prefix; `fc_norm` and `head` of a fine-tuned checkpoint never do."""
    plain = surgvista_naming()
    return lambda target: plain(target) if target.startswith(_FRESH_HEAD) else naming(target)


def _plan_mvd(tensors: Tensors, said: Mapping[str, Any]) -> Blueprint:
    _refuse_class_token(tensors)
    return _plan_classifier(tensors, said, positions="sincos_3d", ignored=_PRETRAINING_PARTS)


_PRETRAINING_PARTS = (
    (r"(decoder|down|mask_token|encoder_to_decoder|clip_decoder)", "only used in pre-training"),
    (r".*cls_token", "the network has no class token"),
)
_plan_videomae = partial(_plan_classifier, positions="sincos_1d", prefix="encoder.", ignored=_PRETRAINING_PARTS)
_plan_umt = partial(_plan_videomae, tubelet=2)
_plan_image = partial(
    _plan_classifier, positions="sincos_1d", tubelet=1, defaults={"num_frames": 8}, ignored=_PRETRAINING_PARTS
)


def _plain_names(config: SurgVistaConfig) -> Naming:
    return surgvista_naming(fused_bias=config.key_bias)


def _prefixed_names(config: SurgVistaConfig) -> Naming:
    return _prefixed_encoder(surgvista_naming("encoder.", config.key_bias))


# ------------------------------------------------------------------------------------- image teacher


def _plan_endossl(tensors: Tensors, said: Mapping[str, Any]) -> Blueprint:
    """A ViT with learned positions for the patches only: the class token gets a row of zeros."""
    sizes = _encoder_sizes(tensors, "")
    _shape(tensors, "blocks.0.attn.q.weight")  # other image models fuse query, key and value
    num_patches, width = _shape(tensors, "pos_embed")[1:]
    side = round(num_patches**0.5)
    if side**2 != num_patches:
        raise CheckpointError(f"pos_embed holds {num_patches} patches, which is no square image")
    found = {
        "hidden_size": width,
        "num_hidden_layers": sizes["num_hidden_layers"],
        "intermediate_size": round(sizes["mlp_ratio"] * width),
        "patch_size": sizes["patch_size"],
        "num_channels": sizes["num_channels"],
        "image_size": side * sizes["patch_size"],
    }
    # The blocks are built with PyTorch's default epsilon; only the final norm, which is not used, had another.
    config = _make_config(ViTConfig, found, {"layer_norm_eps": 1e-5, **said})
    class_position = torch.zeros(1, 1, width, dtype=tensors["pos_embed"].dtype)
    return Blueprint(
        ViTModel,
        config,
        {**tensors, "pos_embed": torch.cat([class_position, tensors["pos_embed"]], dim=1)},
        _stored_vit_shapes(**found),
        endossl_naming,
        ignored=((r"head\.", "the classifier of the release"),),
    )


def _stored_vit_shapes(
    *,
    hidden_size: int,
    num_hidden_layers: int,
    intermediate_size: int,
    patch_size: int,
    num_channels: int,
    image_size: int,
) -> dict[str, torch.Size]:
    """Names and shapes under which transformers stores a `ViTModel` without a pooler; in memory the names differ."""
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.cls_token": (1, 1, hidden_size),
        "embeddings.position_embeddings": (1, 1 + (image_size // patch_size) ** 2, hidden_size),
        "embeddings.patch_embeddings.projection.weight": (hidden_size, num_channels, patch_size, patch_size),
        "embeddings.patch_embeddings.projection.bias": (hidden_size,),
        "layernorm.weight": (hidden_size,),
        "layernorm.bias": (hidden_size,),
    }
    linear_layers = {
        "attention.attention.query": (hidden_size, hidden_size),
        "attention.attention.key": (hidden_size, hidden_size),
        "attention.attention.value": (hidden_size, hidden_size),
        "attention.output.dense": (hidden_size, hidden_size),
        "intermediate.dense": (intermediate_size, hidden_size),
        "output.dense": (hidden_size, intermediate_size),
    }
    for i in range(num_hidden_layers):
        for name, shape in linear_layers.items():
            shapes[f"encoder.layer.{i}.{name}.weight"] = shape
            shapes[f"encoder.layer.{i}.{name}.bias"] = shape[:1]
        for name in ("layernorm_before", "layernorm_after"):
            shapes[f"encoder.layer.{i}.{name}.weight"] = (hidden_size,)
            shapes[f"encoder.layer.{i}.{name}.bias"] = (hidden_size,)
    return {name: torch.Size(shape) for name, shape in shapes.items()}


FAMILIES = {
    family.name: family
    for family in (
        Family(
            "surgvista",
            "SurgVISTA",
            "Large-scale Self-supervised Video Foundation Model for Intelligent Surgery, npj Digital Medicine 2026, "
            "arXiv 2506.02692",
            "github.com/isyangshu/SurgVISTA",
            "cc-by-nc-nd-4.0",
            _plan_surgvista,
            _plain_names,
        ),
        Family(
            "mvd",
            "MVD (masked video distillation)",
            "Masked Video Distillation, CVPR 2023, arXiv 2212.04500",
            "github.com/ruiwang2021/mvd",
            "other",
            _plan_mvd,
            _plain_names,
        ),
        Family(
            "videomae",
            "VideoMAE (and InternVideo 1, which uses its code)",
            "VideoMAE: Masked Autoencoders are Data-Efficient Learners for Self-Supervised Video Pre-Training, NeurIPS 2022, "
            "arXiv 2203.12602",
            "github.com/MCG-NJU/VideoMAE",
            "cc-by-nc-4.0",
            _plan_videomae,
            _prefixed_names,
        ),
        Family(
            "umt",
            "UMT (unmasked teacher), stage 1",
            "Unmasked Teacher: Towards Training-Efficient Video Foundation Models, ICCV 2023, arXiv 2303.16058",
            "github.com/OpenGVLab/unmasked_teacher",
            "other",
            _plan_umt,
            _prefixed_names,
        ),
        Family(
            "mae",
            "MAE image ViT (timm's vit_base_patch16_224.mae)",
            "Masked Autoencoders Are Scalable Vision Learners, CVPR 2022, arXiv 2111.06377",
            "huggingface.co/timm/vit_base_patch16_224.mae",
            "cc-by-nc-4.0",
            _plan_image,
            _plain_names,
        ),
        Family(
            "dino",
            "DINO image ViT (timm's vit_base_patch16_224.dino)",
            "Emerging Properties in Self-Supervised Vision Transformers, ICCV 2021, arXiv 2104.14294",
            "huggingface.co/timm/vit_base_patch16_224.dino",
            "apache-2.0",
            _plan_image,
            _plain_names,
        ),
        Family(
            "supervised",
            "supervised image ViT (timm's vit_base_patch16_224.augreg_in1k)",
            "How to train your ViT? Data, Augmentation, and Regularization in Vision Transformers, TMLR 2022, "
            "arXiv 2106.10270",
            "huggingface.co/timm/vit_base_patch16_224.augreg_in1k",
            "apache-2.0",
            _plan_image,
            _plain_names,
        ),
        Family(
            "endossl-teacher",
            "EndoSSL ViT, SurgVISTA's image teacher",
            "Self-supervised Learning for Endoscopic Video Analysis (EndoSSL), MICCAI 2023, arXiv 2308.12394",
            "github.com/royhirsch/endossl",
            "other",
            _plan_endossl,
            lambda config: endossl_naming,
            ViTConfig.model_type,
            "The features that SurgVISTA distils are the patch tokens before the final norm:\n\n"
            "```python\n"
            "outputs = model(frames, output_hidden_states=True)\n"
            "features = outputs.hidden_states[-1][:, 1:]  # (frames, patches, width)\n"
            "```\n",
        ),
    )
}
