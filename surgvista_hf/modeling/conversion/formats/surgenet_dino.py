"""SurgeNetXL trained with DINO, DINOv2 and DINOv3: three networks, told apart by their tokens and positions.

| | v1 | v2 | v3 |
|---|---|---|---|
| files | `DINOv1_ViT{s,b}16_size224` | `DINOv2_ViT{s,b,l}14_size336` | `DINOv3_ViT{s,b,l}16_size336` |
| becomes | `ViTModel` | `Dinov2WithRegistersModel` | `DINOv3ViTModel` |
| special tokens | class token | class token, four registers | class token |
| positions | learned | learned | rotary, base 100 |
| layer scale | no | yes | yes |

| all | |
|---|---|
| paper | SurgeNetXL, arXiv 2501.09436; the repository rlpddejong/SurgeNetDINO |
| weights | rlpddejong/SurgeNetXL_DINOv1-v3 on the Hub, each file ends in `_SurgeNetXL.pth` |
| license | CC BY-NC-SA 4.0 (its loader: MIT) |
| key layout | flat, the names of the methods' own programs: fused `attn.qkv` with bias, `ls1.gamma` |
| preprocessing | not stated; squeezed, bicubic with antialiasing, ImageNet's mean and deviation are ours |
| feature | class token after the final norm |

The loader of its authors goes through timm with `strict=False` and so loses the registers of v2, and the layer scales and
biases of v3; the features here are those of the networks that were trained. Those of v3 were trained with rotary angles in
bf16; here they are in fp32.
"""

import re
from dataclasses import replace
from functools import partial

import torch
from transformers import (
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    PreTrainedConfig,
    PreTrainedModel,
    ViTConfig,
)
from transformers.image_utils import PILImageResampling

from ..family import (
    Blueprint,
    Family,
    HubFile,
    Tensors,
    Values,
    image_processor,
    make_config,
    parameter_shapes,
    shape_of,
)
from ..mapping import Source, fused_source, renamed, unmap_tensors
from ..reading import CONTAINERS, CheckpointError
from .vit import fused_vit_naming, plan_vit, vit_sizes

_EPSILON = 1e-6
_SIDE_OF_THIRD = 336  # rotary positions tell no size
_BASE_OF_THIRD = 100.0
_make = partial(image_processor, resample=PILImageResampling.BICUBIC)


def _plan(tensors: Tensors, overrides: Values) -> Blueprint:
    """Plan the network that the tokens and positions show."""
    if "rope_embed.periods" in tensors:
        return _plan_third(tensors, overrides)
    if "register_tokens" in tensors:
        return _plan_second(tensors, overrides)
    if any(name.startswith(("decoder", "fc_norm.")) or ".ls1." in name for name in tensors):
        raise CheckpointError(
            "the checkpoint has a decoder, fc_norm or layer scales without registers: it is not of this family"
        )
    return replace(plan_vit(tensors, overrides, "", _make, ()), twins=("mae", "dino"))


def _plan_second(tensors: Tensors, overrides: Values) -> Blueprint:
    """Plan DINOv2 with its registers."""
    sizes = vit_sizes(tensors, shape_of(tensors, "pos_embed")[1] - 1)
    found = {
        **{name: value for name, value in sizes.items() if name != "intermediate_size"},
        "mlp_ratio": _whole_ratio(sizes),
        "num_register_tokens": shape_of(tensors, "register_tokens")[1],
    }
    config = make_config(Dinov2WithRegistersConfig, found, {"layer_norm_eps": _EPSILON, **overrides})
    return _blueprint(Dinov2WithRegistersModel, config, tensors, found["image_size"])


def _whole_ratio(sizes: Values) -> int:
    ratio, rest = divmod(sizes["intermediate_size"], sizes["hidden_size"])
    if rest:
        raise CheckpointError("the width of the MLP is no multiple of the network's: it is no published DINOv2")
    return int(ratio)


def _plan_third(tensors: Tensors, overrides: Values) -> Blueprint:
    """Plan DINOv3 without storage tokens; the periods of its rotary positions are checked."""
    if "storage_tokens" in tensors:
        raise CheckpointError("the checkpoint has storage_tokens, which SurgeNetXL's DINOv3 was trained without")
    sizes = vit_sizes(tensors, 1)
    del sizes["image_size"]
    found = {**sizes, "num_register_tokens": 0, "query_bias": True, "key_bias": True, "value_bias": True}
    defaults = {"layer_norm_eps": _EPSILON, "rope_theta": _BASE_OF_THIRD, "image_size": _SIDE_OF_THIRD}
    config = make_config(DINOv3ViTConfig, found, {**defaults, **overrides})
    _check_periods(tensors["rope_embed.periods"], config)
    return _blueprint(DINOv3ViTModel, config, tensors, int(config.image_size))


def _check_periods(stored: torch.Tensor, config: DINOv3ViTConfig) -> None:
    """Compare the stored periods with those that transformers computes from the base.

    Raises:
        CheckpointError: Another number of heads or another base.
    """
    quarter = config.hidden_size // config.num_attention_heads // 4
    computed = config.rope_theta ** (torch.arange(quarter, dtype=torch.float64) / quarter)
    if stored.shape[0] != quarter:
        raise CheckpointError(
            f"rope_embed.periods has {stored.shape[0]} numbers; {config.num_attention_heads} heads of {config.hidden_size} "
            f"channels need {quarter}: say config={{'num_attention_heads': ...}}"
        )
    if not stored.is_meta and not torch.allclose(stored.double(), computed, rtol=1e-2):  # they may be stored in bf16
        raise CheckpointError(
            f"rope_embed.periods is not that of base {config.rope_theta:g}: say config={{'rope_theta': ...}}"
        )


def _blueprint(model_class: type[PreTrainedModel], config: PreTrainedConfig, tensors: Tensors, side: int) -> Blueprint:
    targets = {_stored_name(name): shape for name, shape in parameter_shapes(model_class, config).items()}
    targets = {name: shape for name, shape in targets.items() if 0 not in shape}  # no registers: an empty tensor
    return Blueprint(
        model_class,
        config,
        tensors,
        targets,
        _naming,
        _make(side),
        ignored=((r"rope_embed\.periods$", "computed from the base; checked against the stored ones"),),
    )


def _stored_name(name: str) -> str:
    """Return the name under which transformers stores a parameter of `Dinov2WithRegistersModel` or `DINOv3ViTModel`."""
    name = re.sub(r"^model\.layer\.", "layer.", name)
    if name.startswith("encoder.layer."):
        name = re.sub(
            r"\.attention\.(q|k|v)_proj\.", lambda found: f".attention.attention.{_PROJECTIONS[found[1]]}.", name
        )
        name = name.replace(".attention.o_proj.", ".attention.output.dense.")
    return name


_PROJECTIONS = {"q": "query", "k": "key", "v": "value"}


def _naming(target: str) -> Source:
    """Return the names of DINOv2's and DINOv3's programs for those that transformers stores."""
    rules = (
        (r"^embeddings\.position_embeddings$", "pos_embed"),
        (r"^embeddings\.patch_embeddings\.(projection\.)?", "patch_embed.proj."),
        (r"^embeddings\.", ""),
        (r"^(encoder\.)?layer\.", "blocks."),
        (r"^layernorm\.", "norm."),
        (r"\.attention\.attention\.", ".attn."),
        (r"\.attention\.output\.dense\.", ".attn.proj."),
        (r"\.attention\.o_proj\.", ".attn.proj."),
        (r"\.attention\.(q|k|v)_proj\.", lambda found: f".attn.{_PROJECTIONS[found[1]]}."),
        (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
        (r"\.mlp\.up_proj\.", ".mlp.fc1."),
        (r"\.mlp\.down_proj\.", ".mlp.fc2."),
    )
    return fused_source(renamed(target, rules))


def _restore_first(tensors: Tensors, config: ViTConfig) -> dict[str, torch.Tensor]:
    return unmap_tensors(tensors, fused_vit_naming(""))


def _restore_second(tensors: Tensors, config: PreTrainedConfig) -> dict[str, torch.Tensor]:
    original = unmap_tensors(tensors, _naming)
    return {**original, "mask_token": original["mask_token"].view(1, -1)}


def _restore_third(tensors: Tensors, config: DINOv3ViTConfig) -> dict[str, torch.Tensor]:
    original = _restore_second({name: tensor for name, tensor in tensors.items() if tensor.numel()}, config)
    quarter = config.hidden_size // config.num_attention_heads // 4
    periods = config.rope_theta ** (torch.arange(quarter, dtype=torch.float64) / quarter)
    return {**original, "rope_embed.periods": periods.to(original["cls_token"].dtype)}


FAMILIES = (
    Family(
        "surgenet-dino",
        "SurgeNetXL with DINO, DINOv2 and DINOv3",
        "Scaling up self-supervised learning for improved surgical foundation models (SurgeNetXL), arXiv 2501.09436",
        "huggingface.co/rlpddejong/SurgeNetXL_DINOv1-v3",
        "cc-by-nc-sa-4.0",
        _plan,
        {
            ViTConfig.model_type: _restore_first,
            Dinov2WithRegistersConfig.model_type: _restore_second,
            DINOv3ViTConfig.model_type: _restore_third,
        },
        input="224×224 (v1) or 336×336 (v2, v3)",
        becomes="ViTModel, Dinov2WithRegistersModel or DINOv3ViTModel",
        checked="the networks of DINO's, DINOv2's and DINOv3's programs as SurgeNetXL trained them: all tokens",
        preparation="not stated by its authors; here squeezed, bicubic with antialiasing; ImageNet's mean and deviation",
        unknown="the released files, whose names may be timm's instead (they would be refused), and how images were prepared",
        hub=HubFile("rlpddejong/SurgeNetXL_DINOv1-v3", "DINOv2_ViTb14_size336_SurgeNetXL.pth"),
        containers=CONTAINERS,
        image_teacher=True,
        usage="An image's feature is its class token, `last_hidden_state[:, 0]`; in v2 four registers follow it.\n",
    ),
)
