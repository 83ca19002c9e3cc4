"""EndoSSL and EndoViT: image transformers that become transformers' `ViTModel`.

| EndoSSL | SurgVISTA's image teacher |
|---|---|
| paper | MICCAI 2023, arXiv 2308.12394 |
| weights | github.com/royhirsch/endossl; SurgVISTA reads a PyTorch conversion, `vit_large_patch16_224_surgery.pth` |
| license | BSD-3-Clause |
| key layout | separate `attn.q`, `attn.k`, `attn.v`; `pos_embed` of the patches only |
| preprocessing | 224² squeezed, ImageNet's mean and deviation, as SurgVISTA feeds it; EndoSSL's own pipeline has neither |
| feature | patch tokens before the final norm |

| EndoViT | |
|---|---|
| paper | IJCARS 2024, doi 10.1007/s11548-024-03091-5 |
| weights | egeozsoy/EndoViT on the Hub, `pytorch_model.bin` |
| leak-free | without the test videos of one task: `EndoViT_Seg` (segmentation), `_ATD` (action triplets), `_SPR` (phases) |
| license | Apache-2.0 (its page on the Hub) |
| key layout | MAE's, under `model`: fused `attn.qkv` with bias, `pos_embed` of class token and patches, `decoder_*` |
| preprocessing | 224² squeezed, mean (0.3464, 0.2280, 0.2228), deviation (0.2520, 0.2128, 0.2093) (its page on the Hub) |
| feature | mean of the patch tokens, without the class token |
"""

import re
from collections.abc import Callable
from functools import partial

import torch
from transformers import ViTConfig, ViTModel

from ...image_processing_encoder_surgvista import SurgicalImageProcessor
from ..family import (
    Blueprint,
    CheckpointError,
    Family,
    HubFile,
    Sizes,
    Tensors,
    Values,
    encoder_sizes,
    image_processor,
    make_config,
    shape_of,
    square_side,
)
from ..mapping import Naming, Source, unmap_tensors

_ENDOVIT_MEAN, _ENDOVIT_STD = (0.3464, 0.2280, 0.2228), (0.2520, 0.2128, 0.2093)
_NO_POOLER = {"add_pooling_layer": False}


def _vit_naming(target: str, fused: bool) -> Source:
    """Return the names of timm for those that transformers stores of a `ViTModel`."""
    name = target.removeprefix("embeddings.").replace("encoder.layer.", "blocks.")
    for pattern, replacement in (
        (r"^position_embeddings$", "pos_embed"),
        (r"^patch_embeddings\.projection\.", "patch_embed.proj."),
        (r"^layernorm\.", "norm."),
        (r"\.attention\.attention\.(q|k|v)(uery|ey|alue)\.", r".attn.\1."),
        (r"\.attention\.output\.dense\.", ".attn.proj."),
        (r"\.intermediate\.dense\.", ".mlp.fc1."),
        (r"\.output\.dense\.", ".mlp.fc2."),
        (r"\.layernorm_before\.", ".norm1."),
        (r"\.layernorm_after\.", ".norm2."),
    ):
        name = re.sub(pattern, replacement, name)
    if fused and (match := re.fullmatch(r"(.+\.attn\.)([qkv])\.(weight|bias)", name)):
        return Source(f"{match[1]}qkv.{match[3]}", "qkv".index(match[2]))
    return Source(name)


_endossl_naming: Naming = partial(_vit_naming, fused=False)
_endovit_naming: Naming = partial(_vit_naming, fused=True)


def fused_vit_naming(prefix: str) -> Naming:
    """Return the names of timm after a prefix, with query, key and value in one tensor, for those of a `ViTModel`."""

    def _source(target: str) -> Source:
        found = _endovit_naming(target)
        return Source(prefix + found.key, found.part, found.of)

    return _source


def vit_sizes(tensors: Tensors, num_patches: int, prefix: str = "") -> Sizes:
    """Return the sizes of a `ViTModel` or a relative of it.

    Args:
        tensors: The checkpoint.
        num_patches: Positions in its table, without special tokens.
        prefix: The beginning of its names.
    """
    sizes = encoder_sizes(tensors, prefix)
    return {
        "hidden_size": sizes["hidden_size"],
        "num_hidden_layers": sizes["num_hidden_layers"],
        "intermediate_size": round(sizes["mlp_ratio"] * sizes["hidden_size"]),
        "patch_size": sizes["patch_size"],
        "num_channels": sizes["num_channels"],
        "image_size": square_side(num_patches) * sizes["patch_size"],
    }


def _plan_endossl(tensors: Tensors, overrides: Values) -> Blueprint:
    """Plan a ViT with learned positions for the patches only: the class token gets a row of zeros."""
    shape_of(tensors, "blocks.0.attn.q.weight")  # other image models fuse query, key and value
    num_patches, width = shape_of(tensors, "pos_embed")[1:]
    found = vit_sizes(tensors, num_patches)
    # The blocks are built with PyTorch's default epsilon; only the final norm, which is not used, had another.
    config = make_config(ViTConfig, found, {"layer_norm_eps": 1e-5, **overrides})
    class_position = tensors["pos_embed"].new_zeros(1, 1, width)
    return Blueprint(
        ViTModel,
        config,
        {**tensors, "pos_embed": torch.cat([class_position, tensors["pos_embed"]], dim=1)},
        _stored_shapes(**found),
        _endossl_naming,
        image_processor(found["image_size"]),
        ignored=((r"head\.", "the classifier of the release"),),
        options=_NO_POOLER,
    )


def plan_vit(
    tensors: Tensors,
    overrides: Values,
    prefix: str,
    make: Callable[[int], SurgicalImageProcessor],
    ignored: tuple[tuple[str, str], ...],
    frame_feature: str = "first",
) -> Blueprint:
    """Plan a `ViTModel` with a class token, learned positions, biases and epsilon 1e-6, without a pooler.

    Args:
        tensors: The checkpoint.
        overrides: Values of the configuration from the caller.
        prefix: The beginning before the names of timm.
        make: The processor for a height and width in pixels.
        ignored: Reasons as in `Blueprint`.
        frame_feature: The feature of a frame, a choice of `SurgicalEncoderConfig`.
    """
    shape_of(tensors, f"{prefix}blocks.0.attn.qkv.bias")
    shape_of(tensors, f"{prefix}cls_token")
    found = vit_sizes(tensors, shape_of(tensors, f"{prefix}pos_embed")[1] - 1, prefix)
    config = make_config(ViTConfig, found, {"layer_norm_eps": 1e-6, **overrides})
    config.frame_feature = frame_feature
    return Blueprint(
        ViTModel,
        config,
        tensors,
        _stored_shapes(**found),
        fused_vit_naming(prefix),
        make(found["image_size"]),
        ignored=ignored,
        options=_NO_POOLER,
    )


def _plan_endovit(tensors: Tensors, overrides: Values) -> Blueprint:
    """Plan the encoder of an image MAE; its decoder is left out, or `AutoModel` would mask what it encodes."""
    if not any(name in tensors for name in ("decoder_embed.weight", "fc_norm.weight")):
        raise CheckpointError(
            "the checkpoint has neither decoder_embed.weight, as a masked autoencoder, nor fc_norm.weight, as its fine-tuned "
            "network: it is not of this family"
        )
    ignored = (
        (r"decoder|mask_token", "only used in pre-training"),
        (r"(head|fc_norm)\.", "a classifier; it is no part of the encoder"),
    )
    return plan_vit(
        tensors, overrides, "", partial(image_processor, mean=_ENDOVIT_MEAN, std=_ENDOVIT_STD), ignored, "patches"
    )


def _stored_shapes(
    *,
    hidden_size: int,
    num_hidden_layers: int,
    intermediate_size: int,
    patch_size: int,
    num_channels: int,
    image_size: int,
) -> dict[str, torch.Size]:
    """Return the names and shapes under which transformers stores a `ViTModel` without a pooler; in memory they differ."""
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


def _restore_endossl(tensors: Tensors, config: ViTConfig) -> dict[str, torch.Tensor]:
    original = unmap_tensors(tensors, _endossl_naming)
    return {**original, "pos_embed": original["pos_embed"][:, 1:].clone()}


def _restore_endovit(tensors: Tensors, config: ViTConfig) -> dict[str, torch.Tensor]:
    return unmap_tensors(tensors, _endovit_naming)


FAMILIES = (
    Family(
        "endossl-teacher",
        "EndoSSL ViT, SurgVISTA's image teacher",
        "Self-supervised Learning for Endoscopic Video Analysis (EndoSSL), MICCAI 2023, arXiv 2308.12394",
        "github.com/royhirsch/endossl",
        "bsd-3-clause",
        _plan_endossl,
        {ViTConfig.model_type: _restore_endossl},
        input="224×224",
        becomes="ViTModel",
        checked="features of SurgVISTA's teacher on a tiny model",
        preparation="squeezed, bilinear with antialiasing; ImageNet's mean and deviation, as SurgVISTA feeds it. "
        "EndoSSL's own pipeline resizes to 224×224 and applies neither",
        unknown="where SurgVISTA's PyTorch conversion can be downloaded; EndoSSL itself publishes TensorFlow SavedModels",
        image_teacher=True,
        final_norm=False,
        usage="The features that SurgVISTA distils are the patch tokens before the final norm:\n\n"
        "```python\n"
        "outputs = model(frames, output_hidden_states=True)\n"
        "features = outputs.hidden_states[-1][:, 1:]  # (frames, patches, width)\n"
        "```\n",
    ),
    Family(
        "endovit",
        "EndoViT",
        "EndoViT: pretraining vision transformers on a large collection of endoscopic images, International Journal of "
        "Computer Assisted Radiology and Surgery 2024, doi 10.1007/s11548-024-03091-5",
        "huggingface.co/egeozsoy/EndoViT",
        "apache-2.0",
        _plan_endovit,
        {ViTConfig.model_type: _restore_endovit},
        input="224×224",
        becomes="ViTModel",
        checked="the network and the transform of EndoViT's demonstration: tokens and pixels",
        preparation="squeezed, bilinear with antialiasing; mean and deviation of its own",
        hub=HubFile("egeozsoy/EndoViT", "pytorch_model.bin"),
        image_teacher=True,
        usage="A picture's feature is the mean of its patch tokens:\n\n"
        "```python\n"
        'features = model(**processor(images, return_tensors="pt")).last_hidden_state[:, 1:].mean(dim=1)\n'
        "```\n",
    ),
)
