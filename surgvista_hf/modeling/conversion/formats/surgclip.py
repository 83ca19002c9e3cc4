"""SurgCLIP-B: a TimeSformer that gives a clip as many vectors as frames and a BERT, which become a `SurgicalClipModel`.

| | |
|---|---|
| program | package surgclip 0.1.0 (MIT) |
| weights | aleperez24/SurgCLIP on the Hub, `surgclip_beta.pth`; for their license see its page |
| key layout | flat: `vision_encoder.model.` TimeSformer with `pool_norm`, `text_encoder.` BERT without a pooler, |
| | `vision_layernorm`, `vision_proj`, `text_proj`, `temp` |
| clips | 16 frames, one a second, that in question last (online) or in the middle; an image is a clip of one frame |
| images | squeezed to 224², bicubic with antialiasing (PIL); mean and deviation 0.5 |
| texts | bert-base-uncased's tokenizer, 77 tokens; class token of the last layer |
| feature | as many vectors of 256 numbers as frames; cosine over `temp`, for a clip the mean over its vectors |
"""

import torch
from transformers.image_utils import PILImageResampling

from ...configuration_frame_timesformer import FrameTimesformerConfig
from ...configuration_surgical_clip import SurgicalClipConfig
from ...image_processing_encoder_surgvista import SurgicalImageProcessor
from ...modeling_surgical_clip import SurgicalClipModel
from ...video_processing_encoder_surgvista import SurgicalVideoProcessor
from ..family import (
    Blueprint,
    Family,
    HubFile,
    Sizes,
    Tensors,
    Values,
    encoder_sizes,
    make_config,
    parameter_shapes,
    prefix_of,
    shape_of,
    square_side,
)
from ..mapping import Naming, Source, renamed, unmap_tensors
from ..tokenizers import ImageProcessors
from .image_text import UNUSED, bert_config, split_overrides, whole_config

_FRAME_STRIDE = 1  # seconds, the program's frames of Cholec80 are one a second
_MEAN = _STD = (0.5, 0.5, 0.5)
_VISION = "vision_encoder.model."


def _plan(tensors: Tensors, overrides: Values) -> Blueprint:
    prefix = prefix_of(tensors, f"{_VISION}pool_norm.weight").removesuffix(_VISION)
    parts = split_overrides(overrides, vision_has_heads=True)
    vision = make_config(FrameTimesformerConfig, _vision_sizes(tensors, prefix + _VISION), parts.vision)
    found = {
        "projection_dim": shape_of(tensors, f"{prefix}vision_proj.weight")[0],
        "text_feature": "first",
        "text_projection": True,
        "learned_temperature": True,
        "num_frames": vision.num_frames,
    }
    usual = {"similarity_temperature": 0.07, "text_layers": 1}
    text = bert_config(tensors, f"{prefix}text_encoder.", parts.text)
    config = whole_config(found, {**usual, **parts.whole}, vision, text)
    config.frame_stride = vision.frame_stride = _FRAME_STRIDE
    targets = parameter_shapes(SurgicalClipModel, config)
    processors = _processors(vision)
    return Blueprint(SurgicalClipModel, config, tensors, targets, _naming(prefix), processors, ignored=UNUSED)


def _processors(config: FrameTimesformerConfig) -> ImageProcessors:
    side = config.image_size
    fields: Sizes = {"arithmetic": "pillow", "resample": PILImageResampling.BICUBIC, "antialias": True}
    normalization: Sizes = {"image_mean": list(_MEAN), "image_std": list(_STD)}
    sampling = {"num_frames": config.num_frames, "frame_stride": _FRAME_STRIDE}
    size = {"height": side, "width": side}
    return ImageProcessors(
        SurgicalImageProcessor(size=size, **normalization, **fields),
        SurgicalVideoProcessor(size=size, **normalization, **fields, **sampling),
    )


def _vision_sizes(tensors: Tensors, prefix: str) -> Sizes:
    sizes = encoder_sizes(tensors, prefix)
    width = sizes["hidden_size"]
    return {
        **{name: sizes[name] for name in ("hidden_size", "num_channels", "patch_size", "num_hidden_layers")},
        "intermediate_size": round(sizes["mlp_ratio"] * width),
        "image_size": sizes["patch_size"] * square_side(shape_of(tensors, f"{prefix}pos_embed")[1] - 1),
        "num_frames": shape_of(tensors, f"{prefix}time_embed")[1],
        "qkv_bias": f"{prefix}blocks.0.attn.qkv.bias" in tensors,
    }


def _naming(prefix: str) -> Naming:
    rules = (
        (r"^vision_model\.token_layernorm\.", "vision_layernorm."),
        (r"^vision_model\.patch_embeddings\.", f"{_VISION}patch_embed.proj."),
        (r"^vision_model\.position_embeddings$", f"{_VISION}pos_embed"),
        (r"^vision_model\.time_embeddings$", f"{_VISION}time_embed"),
        (r"^vision_model\.pool_layernorm\.", f"{_VISION}pool_norm."),
        (r"^vision_model\.layernorm\.", f"{_VISION}norm."),
        (r"^vision_model\.layers\.", f"{_VISION}blocks."),
        (r"^vision_model\.", _VISION),
        (r"\.(temporal_)?attention\.(qkv|proj)\.", r".\1attn.\2."),
        (r"\.temporal_dense\.", ".temporal_fc."),
        (r"\.temporal_layernorm\.", ".temporal_norm1."),
        (r"\.layernorm_before\.", ".norm1."),
        (r"\.layernorm_after\.", ".norm2."),
        (r"\.mlp\.0\.", ".mlp.fc1."),
        (r"\.mlp\.2\.", ".mlp.fc2."),
        (r"^visual_projection\.", "vision_proj."),
        (r"^text_projection\.", "text_proj."),
        (r"^text_model\.", "text_encoder."),
        (r"^temperature$", "temp"),
    )
    return lambda target: Source(prefix + renamed(target, rules))


def _restore(tensors: Tensors, config: SurgicalClipConfig) -> dict[str, torch.Tensor]:
    return unmap_tensors(tensors, _naming(""))


FAMILIES = (
    Family(
        "surgclip-b",
        "SurgCLIP-B",
        "SurgCLIP: surgical vision-language model for phase recognition and workflow analysis, package surgclip 0.1.0",
        "huggingface.co/aleperez24/SurgCLIP",
        "other",
        _plan,
        {SurgicalClipConfig.model_type: _restore},
        input="16 frames of 224×224, 1 s apart, and texts of 77 tokens",
        becomes="SurgicalClipModel",
        checked="its two networks and its transform: features of clips and texts, similarities, and pixels",
        preparation="squeezed to 224×224, bicubic with antialiasing; mean and deviation 0.5",
        unknown="the released file",
        hub=HubFile("aleperez24/SurgCLIP", "surgclip_beta.pth"),
        tokenizer="google-bert/bert-base-uncased",
        usage="`get_image_features` gives a clip as many vectors as frames (`pooler_output`), `get_text_features` gives "
        "a text one; their cosines are averaged.\n",
    ),
)
