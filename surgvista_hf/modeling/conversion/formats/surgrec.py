"""SurgRec-MAE, which becomes transformers' `VideoMAE*`. (SurgRec-JEPA is in `vjepa.py`.)

| | |
|---|---|
| paper | Scaling Video Pretraining for Surgical Foundation Models, arXiv 2603.29966 |
| weights | SichengLu/SurgRec on the Hub, `surgrec_mae.pth` |
| license | CC BY-NC 4.0 |
| key layout | VideoMAE's, under `model`: `encoder.blocks.<i>`, `encoder_to_decoder`, `mask_token`, `decoder.*` |
| positions | not stored, a fixed table |
| preprocessing | 16 frames, every 4th, squeezed to 224², bilinear with antialiasing (PIL), ImageNet's mean and deviation |
| becomes | with decoder `VideoMAEForPreTraining`, with head `VideoMAEForVideoClassification`, else `VideoMAEModel` |

The classifier's `fc_norm` has epsilon 1e-5 in transformers and 1e-6 in the original: logits differ in the sixth decimal.
"""

import re

import torch
from transformers import (
    PreTrainedModel,
    VideoMAEConfig,
    VideoMAEForPreTraining,
    VideoMAEForVideoClassification,
    VideoMAEModel,
)
from transformers.conversion_mapping import get_checkpoint_conversion_mapping

from ...processors import make_encoder_processor
from ..family import (
    Blueprint,
    Family,
    HubFile,
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
    tubelet_of,
)
from ..mapping import Naming, Source, fused_source, renamed, unmap_tensors
from .surgvista import FINE_TUNED_TWINS

# Seconds, as in the recipes for one frame a second; the release takes every 4th frame without naming a rate.
_FRAME_STRIDE = 4
_KEY_BIAS = ".attention.key.bias"  # in memory only, and only in some versions of transformers, see `_stored_shapes`


def _plan(tensors: Tensors, overrides: Values) -> Blueprint:
    refuse_class_token(tensors)
    prefix = prefix_of(tensors, "patch_embed.proj.weight")
    heads: tuple[str, ...] = ("",)
    sizes = encoder_sizes(tensors, prefix)
    found = {
        **{name: sizes[name] for name in ("hidden_size", "num_channels", "patch_size", "num_hidden_layers")},
        "intermediate_size": round(sizes["mlp_ratio"] * sizes["hidden_size"]),
        "tubelet_size": tubelet_of(tensors, prefix),
        "use_mean_pooling": "head.weight" in tensors,
    }
    model_class: type[PreTrainedModel] = VideoMAEModel
    if "encoder_to_decoder.weight" in tensors:
        model_class, heads = VideoMAEForPreTraining, ("", "decoder_")
        found |= _decoder_sizes(tensors)
    elif "head.weight" in tensors:
        model_class = VideoMAEForVideoClassification
        found["num_labels"] = shape_of(tensors, "head.weight")[0]
    config = make_config(VideoMAEConfig, found, {"layer_norm_eps": 1e-6, **overrides}, heads)
    side = int(config.image_size)
    shapes, naming = _stored_shapes(model_class, config), _naming(prefix)
    # The original program has zeros there, between the biases of queries and values.
    zeros = tensors[f"{prefix}patch_embed.proj.weight"].new_zeros
    tensors = {
        **tensors,
        **{naming(name).key: zeros(shape) for name, shape in shapes.items() if name.endswith(_KEY_BIAS)},
    }
    return Blueprint(
        model_class,
        config,
        tensors,
        shapes,
        naming,
        make_encoder_processor(
            "videomae",
            (side, side),
            config.num_frames,
            frame_stride=_FRAME_STRIDE,
            arithmetic="pillow",
            antialias=True,
        ),
        ignored=((r".*pos_embed", "positions are a fixed table, computed"),),
        twins=FINE_TUNED_TWINS
        if model_class is VideoMAEForVideoClassification
        else ("surgrec-mae", "videomae", "umt"),
    )


def _decoder_sizes(tensors: Tensors) -> Sizes:
    width = shape_of(tensors, "encoder_to_decoder.weight")[0]
    return {
        "decoder_hidden_size": width,
        "decoder_num_hidden_layers": num_blocks(tensors, "decoder.blocks."),
        "decoder_intermediate_size": shape_of(tensors, "decoder.blocks.0.mlp.fc1.weight")[0],
    }


def _stored_shapes(model_class: type[PreTrainedModel], config: VideoMAEConfig) -> dict[str, torch.Size]:
    """Return the names that transformers loads.

    From 5.18 on files have `q_bias` and `v_bias`, in memory the biases belong to the layers `query` and `value`. Before, files
    have the names of the memory, where the keys have a bias too. No original file has it, since a softmax does not see what
    all keys have in common.
    """
    # Of a clip of one patch: no shape depends on the number of patches, and transformers computes the table of their
    # positions in a loop that takes seconds.
    one_patch = {"image_size": config.patch_size, "num_frames": config.tubelet_size}
    shapes = parameter_shapes(model_class, VideoMAEConfig(**{**config.to_dict(), **one_patch}))
    if get_checkpoint_conversion_mapping(VideoMAEConfig.model_type) is None:
        return shapes
    return {
        re.sub(r"\.(q)uery\.bias$|\.(v)alue\.bias$", lambda match: f".{match[1] or match[2]}_bias", name): shape
        for name, shape in shapes.items()
    }


def _naming(prefix: str) -> Naming:
    """Return VideoMAE's names; only the encoder carries the prefix."""

    def _source(target: str) -> Source:
        name = re.sub(r"^decoder\.decoder_layers\.", "decoder.blocks.", target)
        if not name.startswith(("decoder.", "encoder_to_decoder.", "mask_token", "fc_norm.", "classifier.")):
            name = prefix + re.sub(r"^encoder\.layer\.", "blocks.", name.removeprefix("videomae."))
        rules = (
            (r"embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
            (r"\.attention\.attention\.", ".attn."),
            (r"\.attn\.query\.bias$", ".attn.q_bias"),
            (r"\.attn\.value\.bias$", ".attn.v_bias"),
            (r"\.attention\.output\.dense\.", ".attn.proj."),
            (r"\.intermediate\.dense\.", ".mlp.fc1."),
            (r"\.output\.dense\.", ".mlp.fc2."),
            (r"\.layernorm_before\.", ".norm1."),
            (r"\.layernorm_after\.", ".norm2."),
            (r"(^|\.)layernorm\.", r"\1norm."),
            (r"^classifier\.", "head."),
        )
        return fused_source(renamed(name, rules), kinds="weight")

    return _source


def _restore(tensors: Tensors, config: VideoMAEConfig) -> dict[str, torch.Tensor]:
    """Put the encoder of a pre-training checkpoint under `encoder.`, that of a fine-tuned one at the top."""
    tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith(_KEY_BIAS)}
    fine_tuned = any(name.startswith("classifier.") for name in tensors)
    return unmap_tensors(tensors, _naming("" if fine_tuned else "encoder."))


FAMILIES = (
    Family(
        "surgrec-mae",
        "SurgRec-MAE",
        "Scaling Video Pretraining for Surgical Foundation Models (SurgRec), arXiv 2603.29966",
        "huggingface.co/SichengLu/SurgRec",
        "cc-by-nc-4.0",
        _plan,
        {VideoMAEConfig.model_type: _restore},
        input="16 frames of 224×224, every 4th",
        becomes="VideoMAEForPreTraining, VideoMAEForVideoClassification or VideoMAEModel",
        checked="VideoMAE's networks and SurgRec's validation transform: tokens, reconstructions and pixels",
        preparation="squeezed, bilinear with antialiasing (PIL); ImageNet's mean and deviation",
        hub=HubFile("SichengLu/SurgRec", "surgrec_mae.pth"),
    ),
)
