"""PL-Stitch, an image transformer that learned from the order of surgical frames; it becomes transformers' `ViTModel`.

| | |
|---|---|
| paper | CVPR 2026, arXiv 2511.17805 |
| weights | visurg/PL-Stitch on the Hub: `pl_lemon.pth` (surgery), `pl_breakfast.pth`, `pl_gtea.pth` (cooking) |
| license | code MIT; of the weights, look at the page on the Hub |
| key layout | timm's under `teacher`, after `backbone.`; `head.*` |
| beside it | `student`, `temporal_head`, `puzzle_decoder`, an optimizer |
| preprocessing | 224² squeezed, bicubic with antialiasing (PIL's default, in its README), ImageNet's mean and deviation |
| feature | class token after the final norm |
"""

from functools import partial

import torch
from transformers import ViTConfig
from transformers.image_utils import PILImageResampling

from ..family import Blueprint, Family, HubFile, Tensors, Values, image_processor, shape_of
from ..mapping import unmap_tensors
from .vit import fused_vit_naming, plan_vit

_PREFIX = "backbone."


def _plan(tensors: Tensors, overrides: Values) -> Blueprint:
    shape_of(tensors, f"{_PREFIX}cls_token")
    ignored = (
        (r"head\.", "the projection head of self-distillation"),
        (rf"{_PREFIX}masked_embed$", "only used in pre-training"),
    )
    return plan_vit(
        tensors, overrides, _PREFIX, partial(image_processor, resample=PILImageResampling.BICUBIC), ignored
    )


def _restore(tensors: Tensors, config: ViTConfig) -> dict[str, torch.Tensor]:
    return unmap_tensors(tensors, fused_vit_naming(_PREFIX))


FAMILIES = (
    Family(
        "pl-stitch",
        "PL-Stitch",
        "PL-Stitch, CVPR 2026, arXiv 2511.17805",
        "huggingface.co/visurg/PL-Stitch",
        "other",
        _plan,
        {ViTConfig.model_type: _restore},
        input="224×224",
        becomes="ViTModel",
        checked="its network and the transform of its README: all tokens and pixels",
        preparation="squeezed, bicubic with antialiasing; ImageNet's mean and deviation",
        unknown="the released files",
        hub=HubFile("visurg/PL-Stitch", "pl_lemon.pth"),
        containers=("teacher", "model"),
        image_teacher=True,
        usage="An image's feature is its class token, `last_hidden_state[:, 0]`.\n",
    ),
)
